"""The subnet as a Hugging Face folder: a stock HubertModel if its layers allow it, else with a small file of code."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor

from search_spaces import Subnet
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
_ENCODER = {
    "input_norm": "feature_projection.layer_norm",
    "projection": "feature_projection.projection",
    "pos_conv": "encoder.pos_conv_embed.conv",
    "norm": "encoder.layer_norm",
}


class HuggingFaceExporter(ModelExporter):
    """`hf/`, for `AutoModel` and `AutoFeatureExtractor`.

    Frames of padding follow Hugging Face's rule, whatever the supernet's: LightHuBERT counts one frame more. Hugging
    Face's first hidden state comes after the positional convolution, ours before it.
    """

    max_difference: ClassVar[Mapping[str, float]] = {"fp32": 2e-5}  # its extractor adds 1e-7 to the variance, we 1e-5
    frame_rule = "conv"
    first_state = 1
    loading = """
import numpy as np
from transformers import AutoFeatureExtractor, AutoModel

extractor = AutoFeatureExtractor.from_pretrained("{folder}")
net = AutoModel.from_pretrained("{folder}", trust_remote_code={remote_code})
waves = [np.random.randn(16_000), np.random.randn(12_000)]
batch = extractor(waves, sampling_rate=16_000, padding=True, return_tensors="pt")
last = net(**batch).last_hidden_state
"""
    note = (
        "`hidden_states[0]` comes after the positional convolution, as in every HubertModel; padded batches are masked "
        "by Hugging Face's rule. `AutoModelForCTC` and other heads load it only if every layer is alike (a stock "
        "HubertModel); else take `net` as the encoder, or train a head with `nas finetune`."
    )

    def write(
        self, model: HubertSupernet, subnet: Subnet, folder: Path, about: Mapping[str, object], dtype: str
    ) -> None:
        from transformers import HubertConfig, HubertModel, Wav2Vec2FeatureExtractor

        target = folder / "hf"
        stock = is_stock(model, subnet)
        config = HubertConfig(**_config(model, subnet))
        net = HubertModel(config) if stock else modeling_subnet.SubnetHubertModel(config)
        net.load_state_dict(_weights(model, subnet), strict=True)
        with _without_bars():
            net.eval().save_pretrained(target)
        Wav2Vec2FeatureExtractor(do_normalize=model.prepare.normalize, return_attention_mask=True).save_pretrained(
            target
        )
        if not stock:
            shutil.copyfile(modeling_subnet.__file__, target / "modeling_subnet.py")

    def loading_fields(self, model: HubertSupernet, subnet: Subnet) -> Mapping[str, object]:
        return {"remote_code": not is_stock(model, subnet)}

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
    """Hides transformers' progress bars, since the files are small."""
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


def is_stock(model: HubertSupernet, subnet: Subnet) -> bool:
    """Whether transformers' own HubertModel can be this subnet: equal layers, whose heads together are as wide as D."""
    uniform = len(set(subnet.heads)) == len(set(subnet.ffn_dims)) == 1
    return uniform and subnet.heads[0] * model.space.network.head_dim == subnet.embed_dim


def _config(model: HubertSupernet, subnet: Subnet) -> dict[str, object]:
    network, stock = model.space.network, is_stock(model, subnet)
    channels, kernels, strides = zip(*network.conv_layers)
    config = {
        "hidden_size": subnet.embed_dim,
        "num_hidden_layers": subnet.depth,
        "num_attention_heads": subnet.heads[0] if stock else 1,  # 1: replaced later, but must divide the embed dim
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
    """The subnet's weights under Hugging Face's names, and the mask embedding, which training uses."""
    renamed = {"masked_spec_embed": model.mask_embedding.detach()[: subnet.embed_dim].clone()}
    for name, value in model.extract(subnet).state_dict().items():
        if name == "encoder.pos_conv.weight":  # a weight norm: magnitude and direction
            stored = "encoder.pos_conv_embed.conv.parametrizations.weight.original"
            renamed[f"{stored}0"] = torch.linalg.vector_norm(value, dim=(0, 1), keepdim=True)
            renamed[f"{stored}1"] = value
        else:
            renamed[_their_name(name)] = value
    return {name: value.cpu() for name, value in renamed.items()}


def _their_name(name: str) -> str:
    """Hugging Face's name for a weight of `Hubert`."""
    module, _, rest = name.partition(".")
    if module == "front_end":
        if rest.startswith("norm."):
            return f"feature_extractor.conv_layers.0.layer_{rest}"
        return rest.replace("convs.", "feature_extractor.conv_layers.").replace(".weight", ".conv.weight")
    if rest.startswith("layers."):
        _, layer, part = rest.split(".", 2)
        stem = next(stem for stem in _LAYER if part.startswith(stem))
        return f"encoder.layers.{layer}.{_LAYER[stem]}{part.removeprefix(stem)}"
    part, _, kind = rest.partition(".")
    return f"{_ENCODER[part]}.{kind}"
