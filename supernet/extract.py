"""Subnets as plain modules of their own, in memory and on disk."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch

from search_spaces import CheckpointError, SpaceError, Subnet, space_from_dict
from supernet.checkpoint import check_pair, read_config, write_folder
from supernet.layers import FRAME_MASKS, Hubert
from supernet.model import HubertSupernet
from supernet.preprocessor import Preprocessor
from supernet.weights import read_tensors, with_weights

__all__ = ["extract_subnet", "load_extracted", "save_extracted"]

FORMAT = "lighthubert-nas subnet 1"


def extract_subnet(model: HubertSupernet, subnet: Subnet | None = None) -> Hubert:
    """A plain module with a copy of the subnet's weights (default: the active subnet)."""
    return model.extract(subnet)


def save_extracted(
    net: Hubert, folder: Path | str, dtype: torch.dtype = torch.float32, about: Mapping[str, object] | None = None
) -> Path:
    """Writes `model.safetensors` and `config.json` (network, subnet, and `about`: notes on its origin)."""
    config = {
        "format": FORMAT,
        "network": net.network.to_dict(),
        "subnet": net.subnet.to_dict(),
        "frame_rule": net.frame_rule,
        "input": (net.prepare or Preprocessor()).to_dict(),
        "about": dict(about or {}),
    }
    return write_folder(folder, net.state_dict(), config, dtype)


def load_extracted(folder: Path | str) -> Hubert:
    """The module that `save_extracted` wrote, in float32 and eval mode. Raises `CheckpointError`."""
    folder = Path(folder)
    config = read_config(folder / "config.json", FORMAT)
    try:
        subnet = Subnet.from_dict(config["subnet"])
        layers = subnet.depth
        network = space_from_dict({
            "name": "exported", "embed_dims": [subnet.embed_dim], "heads": [max(subnet.heads)],
            "ffn_ratios": [max(subnet.ffn_ratios)], "network": config["network"],
            "depth_map": {str(layers): list(range(1, layers + 1))},
        }).network  # fmt: skip
        rule = config["frame_rule"]
    except (KeyError, TypeError, SpaceError) as error:
        raise CheckpointError(f"{folder / 'config.json'} does not describe a subnet: {error}") from None
    if rule not in FRAME_MASKS:
        raise CheckpointError(f"frame_rule of {folder} must be one of {', '.join(FRAME_MASKS)}; got {rule!r}")
    prepare = Preprocessor.from_dict(config.get("input"), folder / "config.json")
    check_pair(folder, config)
    weights = read_tensors(folder / "model.safetensors")
    return with_weights(lambda: Hubert(network, subnet, rule, prepare), weights, folder).eval()
