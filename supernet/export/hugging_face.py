"""The subnet as a Hugging Face folder: a stock HubertModel where it can be one, else with one small file of code."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor

from search_spaces import Subnet
from search_spaces.types import JsonMapping, JsonObject
from supernet.export import modeling_subnet
from supernet.export.base import ModelExporter, Runner
from supernet.model import HubertSupernet

__all__ = ["HuggingFaceExporter", "is_stock"]

_LAYER = {
    **{f"{x}.": f"attention.{x}_proj." for x in ("q", "k", "v", "out")},
    "attention_norm.": "layer_norm.",
    "final_norm.": "final_layer_norm.",
    "fc1.": "feed_forward.intermediate_dense.",
    "fc2.": "feed_forward.output_dense.",
}


class HuggingFaceExporter(ModelExporter):
    """`hf/`, for `AutoModel` and `AutoFeatureExtractor`.

    Padding is told in Hugging Face's way, whatever the supernet's: LightHuBERT counts one frame more. Their first
    hidden state stands behind the positional convolution, ours before it.
    """

    most = {"fp32": 2e-5}  # noqa: RUF012 - the feature extractor normalises with 1e-7 where we (and s3prl) add 1e-5
    frame_rule = "conv"
    first = 1

    def write(self, model: HubertSupernet, subnet: Subnet, folder: Path, about: JsonMapping, dtype: str) -> None:
        from transformers import HubertConfig, HubertModel, Wav2Vec2FeatureExtractor

        target = folder / "hf"
        stock = is_stock(model, subnet)
        config = HubertConfig(**_config(model, subnet))
        net = HubertModel(config) if stock else modeling_subnet.SubnetHubertModel(config)
        net.load_state_dict(_weights(model, subnet), strict=True)
        with _without_bars():
            net.eval().save_pretrained(target)
        Wav2Vec2FeatureExtractor(do_normalize=True, return_attention_mask=True).save_pretrained(target)
        if not stock:
            shutil.copyfile(modeling_subnet.__file__, target / "modeling_subnet.py")

    def read(self, folder: Path, dtype: str) -> Runner:
        from transformers import AutoFeatureExtractor, AutoModel

        extractor = AutoFeatureExtractor.from_pretrained(folder / "hf")
        code = (folder / "hf" / "modeling_subnet.py").exists()
        with _without_bars():
            net = AutoModel.from_pretrained(folder / "hf", trust_remote_code=code).eval()

        def run(wav: Tensor, lengths: Tensor | None) -> tuple[Tensor, ...]:
            sizes = [wav.shape[1]] * len(wav) if lengths is None else lengths.tolist()
            waves = [wave[:size].numpy() for wave, size in zip(wav, sizes)]
            batch = extractor(waves, sampling_rate=16_000, padding=True, return_tensors="pt")
            return tuple(net(**batch, output_hidden_states=True).hidden_states)

        return run


@contextmanager
def _without_bars() -> Iterator[None]:
    """Without transformers' progress bars: the files are small."""
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


def is_stock(model: HubertSupernet, subnet: Subnet) -> bool:
    """Whether transformers' own HubertModel is this subnet: the same in all layers, heads as wide as D together."""
    uniform = len(set(subnet.heads)) == len(set(subnet.ffn_dims)) == 1
    return uniform and subnet.heads[0] * model.space.network.head_dim == subnet.embed_dim


def _config(model: HubertSupernet, subnet: Subnet) -> JsonObject:
    network, stock = model.space.network, is_stock(model, subnet)
    channels, kernels, strides = zip(*network.conv_layers)
    config = {
        "hidden_size": subnet.embed_dim,
        "num_hidden_layers": subnet.depth,
        "num_attention_heads": subnet.heads[0] if stock else 1,  # 1: replaced, but has to divide the embed dim
        "intermediate_size": max(subnet.ffn_dims),
        "conv_dim": channels,
        "conv_kernel": kernels,
        "conv_stride": strides,
        "num_conv_pos_embeddings": network.pos_conv_kernel,
        "num_conv_pos_embedding_groups": network.pos_conv_groups,
        "pad_token_id": None,
        "bos_token_id": None,
        "eos_token_id": None,
    }
    if not stock:
        config |= {
            "layer_heads": list(subnet.heads),
            "layer_ffn_dims": list(subnet.ffn_dims),
            "layer_head_dim": network.head_dim,
            "auto_map": {"AutoModel": "modeling_subnet.SubnetHubertModel"},
        }
    return config


def _weights(model: HubertSupernet, subnet: Subnet) -> dict[str, Tensor]:
    """The subnet's weights under Hugging Face's names, with the mask embedding that training uses."""
    named = {"masked_spec_embed": model.mask_embedding.detach()[: subnet.embed_dim].clone()}
    for name, value in model.extract(subnet).state_dict().items():
        room, _, rest = name.partition(".")
        if room == "front_end":
            new = rest.replace("convs.", "feature_extractor.conv_layers.").replace(".weight", ".conv.weight")
            if rest.startswith("norm."):
                new = f"feature_extractor.conv_layers.0.layer_{rest}"
        elif rest.startswith("layers."):
            _, layer, part = rest.split(".", 2)
            stem = next(stem for stem in _LAYER if part.startswith(stem))
            new = f"encoder.layers.{layer}.{_LAYER[stem]}{part.removeprefix(stem)}"
        elif rest == "pos_conv.weight":
            stored = "encoder.pos_conv_embed.conv.parametrizations.weight.original"
            named[f"{stored}0"] = torch.linalg.vector_norm(value, dim=(0, 1), keepdim=True)
            named[f"{stored}1"] = value
            continue
        else:
            new = {
                "input_norm": "feature_projection.layer_norm",
                "projection": "feature_projection.projection",
                "pos_conv": "encoder.pos_conv_embed.conv",
                "norm": "encoder.layer_norm",
            }[rest.partition(".")[0]] + f".{rest.partition('.')[2]}"
        named[new] = value
    return {name: value.cpu() for name, value in named.items()}
