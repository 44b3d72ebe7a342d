"""What several tests of training use."""

import json

import torch

from supernet.preprocessor import Preprocessor
from supernet.training.distil import untrained
from supernet.training.recipe import StageRecipe

RECIPE = StageRecipe(
    stage=2,
    steps=8,
    batch_seconds=3,
    checkpoint_every=3,
    validate_every=4,
    precision="fp32",
    mask_prob=0.3,
    mask_from=0.5,
)


def heard(samples, window=0.0):
    """Samples as a HuBERT takes them."""
    return torch.from_numpy(Preprocessor()(samples))


def fresh(space):
    """An untrained supernet with three heads."""
    return untrained(space, (4, 8, 12), 16, seed=0)


def space_toml(space):
    """The space as a TOML file holds it."""
    description = space.to_dict()
    network = description.pop("network")
    depths = description.pop("depth_map")
    lines = [f"{key} = {json.dumps(value)}" for key, value in description.items()]
    lines += ["[depth_map]", *(f"{depth} = {json.dumps(kept)}" for depth, kept in depths.items())]
    lines += ["[network]", *(f"{key} = {json.dumps(value)}" for key, value in network.items())]
    return "\n".join(lines)


def curve(folder):
    """Every loss and every distance on the dev split in the logs of a training run."""
    lines = [line for stage in (1, 2) for line in (folder / f"stage{stage}" / "log.jsonl").read_text().splitlines()]
    records = [json.loads(line) for line in lines]
    return [record["loss"] for record in records if "loss" in record] + [
        value for record in records for values in record.get("dev", {}).values() for value in values
    ]
