"""The plain network: equal to PyTorch's own modules, and independent of this package at run time."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from search_spaces import get_space
from supernet import layers
from supernet.layers import Encoder, EncoderLayer, Features, FrontEnd, attention, fingerprint, frame_mask, speech_frames
from tests.spaces import COARSE

NETWORK = get_space("hubert-tiny").network


def randomised(module):
    with torch.no_grad():
        for value in module.parameters():
            value.add_(0.1 * torch.randn_like(value))
    return module.eval()


def random(*shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)))


@torch.no_grad()
def test_a_layer_equals_pytorchs_post_norm_transformer_layer():
    torch.manual_seed(0)
    ours = randomised(EncoderLayer(replace(NETWORK, head_dim=4), 12, 3, 20))
    theirs = torch.nn.TransformerEncoderLayer(12, 3, 20, 0.0, F.gelu, batch_first=True).eval()
    theirs.self_attn.in_proj_weight.copy_(torch.cat([ours.q.weight, ours.k.weight, ours.v.weight]))
    theirs.self_attn.in_proj_bias.copy_(torch.cat([ours.q.bias, ours.k.bias, ours.v.bias]))
    pairs = {"self_attn.out_proj": ours.out, "norm1": ours.attention_norm, "linear1": ours.fc1, "linear2": ours.fc2}
    for name, part in {**pairs, "norm2": ours.final_norm}.items():
        theirs.get_submodule(name).load_state_dict(part.state_dict())
    x, speech = random(2, 9, 12), torch.arange(9) < torch.tensor([[9], [6]])
    assert torch.allclose(ours(x, None), theirs(x), atol=1e-5)
    padded = theirs(x, src_key_padding_mask=~speech)
    assert torch.allclose(ours(x, speech[:, None, None])[speech], padded[speech], atol=1e-5)


def test_attention_in_bf16_training_equals_the_fused_kernel():
    q, k, v = (random(2, 7, 3, 4 + i)[..., :4].bfloat16() for i in range(3))
    mask = (torch.arange(7) < torch.tensor([[7], [4]]))[:, None, None]
    fused = attention(q, k, v, mask)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        separate = attention(q.requires_grad_(), k, v, mask)
    assert separate.requires_grad
    assert torch.allclose(fused.float(), separate.float(), atol=0.03)
    scores = torch.einsum("bqhd,bkhd->bhqk", q.float(), k.float()) / 2
    weights = scores.masked_fill(~mask, -torch.inf).softmax(-1)
    assert torch.allclose(fused.float(), torch.einsum("bhqk,bkhd->bqhd", weights, v.float()), atol=0.03)


@torch.no_grad()
def test_the_front_end_normalises_channels_of_the_first_convolution_only():
    torch.manual_seed(0)
    front_end = randomised(FrontEnd(replace(NETWORK, conv_norm="group", conv_bias=False)))
    wav = random(2, 5_000)
    x = F.conv1d(wav[:, None], front_end.convs[0].weight, stride=5)
    centred = x - x.mean(2, keepdim=True)
    x = centred / (centred.square().mean(2, keepdim=True) + 1e-5).sqrt()
    x = F.gelu(x * front_end.norm.weight[:, None] + front_end.norm.bias[:, None])
    for conv in front_end.convs[1:]:
        x = F.gelu(F.conv1d(x, conv.weight, stride=2))
    features = front_end(wav)
    assert features.shape == (2, NETWORK.frames(5_000), NETWORK.conv_channels)
    assert torch.allclose(features, x.transpose(1, 2), atol=1e-5)


@torch.no_grad()
def test_masked_frames_are_replaced_and_padding_is_zero():
    subnet = COARSE.smallest
    torch.manual_seed(0)
    encoder, features = randomised(Encoder(NETWORK, subnet)), random(1, 6, NETWORK.conv_channels)
    embedding, masked = random(subnet.embed_dim), torch.tensor([[False, True, False, False, False, False]])
    mask = torch.tensor([[True] * 4 + [False] * 2])
    hidden = encoder(features, mask, masked, embedding)
    assert len(hidden) == subnet.depth + 1
    assert torch.equal(hidden[0][0, 1], embedding)
    assert not hidden[0][0, 4:].any()
    assert torch.equal(hidden[0][0, 0], encoder(features)[0][0, 0])


@pytest.mark.parametrize("samples", [400, 719, 720, 7_999, 16_000])
def test_the_conv_rule_counts_the_frames_of_the_unpadded_utterance(samples):
    frames = NETWORK.frames(16_000)
    mask = speech_frames(NETWORK, torch.tensor([samples]), 16_000, frames, "conv")
    assert mask.sum() == FrontEnd(NETWORK)(torch.zeros(1, samples)).shape[1]


@pytest.mark.parametrize("samples", [1, 400, 7_999, 12_345, 16_000])
def test_the_fairseq_rule_counts_the_chunks_with_speech(samples):
    """fairseq's `forward_padding_mask`: cut the padding mask into T chunks; a frame is padding if its chunk is."""
    frames = NETWORK.frames(16_000)
    padding = np.arange(16_000) >= samples
    chunks = padding[: 16_000 - 16_000 % frames].reshape(frames, -1).all(1)
    mask = speech_frames(NETWORK, torch.tensor([samples]), 16_000, frames, "fairseq")
    assert mask[0].tolist() == (~chunks).tolist()


def test_there_is_no_mask_without_padding():
    assert frame_mask(NETWORK, None, 800, 2, "conv") is None
    assert frame_mask(NETWORK, torch.tensor([800, 800]), 800, 2, "conv") is None
    mask = frame_mask(NETWORK, torch.tensor([800, 400]), 800, 2, "conv")
    assert mask.tolist() == [[True, True], [True, False]]
    assert torch.equal(Features((torch.zeros(1), torch.ones(1)), mask).last_hidden_state, torch.ones(1))


def test_the_fingerprint_changes_with_names_and_values():
    one, other = torch.nn.Linear(2, 2), torch.nn.Linear(2, 2)
    other.load_state_dict(one.state_dict())
    assert fingerprint(one) == fingerprint(other)
    assert len(fingerprint(one)) == 12
    with torch.no_grad():
        other.bias[0] += 1e-6
    assert fingerprint(one) != fingerprint(other)
    assert fingerprint(one) != fingerprint(torch.nn.Sequential(one))


def test_the_file_alone_runs_with_torch_only(tmp_path):
    """Exports to s3prl contain a copy of it."""
    (tmp_path / "copied.py").write_text(Path(layers.__file__).read_text(encoding="utf-8"))
    rooms = ("search_spaces", "supernet", "evaluators", "nas")
    code = f"import copied, sys; copied.Hubert; sys.exit(any(m.split('.')[0] in {rooms} for m in sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=False).returncode == 0
