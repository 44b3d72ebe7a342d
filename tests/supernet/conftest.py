"""A small corpus, a small real teacher and a small space, made once."""

import json

import numpy as np
import pytest
import soundfile
import torch

from search_spaces import space_from_dict
from supernet import HubertSupernet

SPACE = {
    "name": "small",
    "embed_dims": [16, 32],
    "heads": [1, 2],
    "ffn_ratios": [1.5, 2.0],
    "depths": [10, 12],
    "network": {
        "conv_layers": [[16, 10, 5], *[[16, 3, 2]] * 4, *[[16, 2, 2]] * 2],
        "width": 32, "heads": 2, "ffn_dim": 64, "head_dim": 16, "pos_conv_kernel": 16, "pos_conv_groups": 4,
    },
}  # fmt: skip


@pytest.fixture(scope="session")
def small_space():
    return space_from_dict(SPACE)


@pytest.fixture
def model(small_space):
    """A supernet of the small space with random weights, including norms and biases."""
    return random_supernet(small_space)


@pytest.fixture(scope="session")
def supernet(small_space):
    """The same, made once: for tests that do not change it."""
    return random_supernet(small_space)


def random_supernet(small_space):
    torch.manual_seed(0)
    model = HubertSupernet(small_space, (4, 12), 8, provenance={"teacher": "t"}).eval()
    with torch.no_grad():
        for value in model.parameters():
            value.add_(0.1 * torch.randn_like(value))
    return model


@pytest.fixture(scope="session")
def corpus(tmp_path_factory):
    """A manifest of 20 recordings of tones in noise, half a second to a second long; every fifth is for validation."""
    folder = tmp_path_factory.mktemp("corpus")
    rng = np.random.default_rng(0)
    lines = []
    for i in range(20):
        time = np.arange(int(rng.integers(8000, 16_000))) / 16_000
        tone = np.sin(2 * np.pi * rng.uniform(80, 2000) * time) * np.sin(2 * np.pi * rng.uniform(1, 4) * time)
        samples = (0.3 * tone + 0.01 * rng.normal(size=len(time))).astype(np.float32)
        soundfile.write(folder / f"{i}.flac", samples, 16_000)
        split = "dev" if i % 5 == 0 else "train"
        lines.append(json.dumps({"id": str(i), "audio": f"{i}.flac", "seconds": len(samples) / 16_000, "split": split}))
    (folder / "manifest.jsonl").write_text("\n".join(lines))
    return folder / "manifest.jsonl"


@pytest.fixture(scope="session")
def teacher_folder(tmp_path_factory):
    """A Hugging Face HuBERT of three narrow layers."""
    from transformers import HubertConfig, HubertModel

    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("teacher")
    config = HubertConfig(
        hidden_size=16, num_hidden_layers=3, num_attention_heads=2, intermediate_size=32, conv_dim=(8,) * 7,
        num_conv_pos_embeddings=16, num_conv_pos_embedding_groups=2,
    )  # fmt: skip
    HubertModel(config).save_pretrained(folder)
    return folder
