"""Weights: the once-for-all supernet, where it comes from and what is cut from it.

slicing.py      which slice of each weight a subnet keeps: the one truth
layers.py       the plain network every subnet is
model.py        HubertSupernet, with `active(subnet)`
shared.py       many subnets on the same speech, what they share computed once
checkpoint.py   load_supernet and save_supernet: our own folders
foreign.py      checkpoints of LightHuBERT, Hugging Face and fairseq
weights.py      every key of a file accounted for
calibration.py  calibration speech as numbers
extract.py      a subnet as a plain module of its own, saved and re-read
order.py        heads and FFN units by importance
audio.py        manifests, recordings, batches of similar length
teacher.py      frozen teachers and the cache of their targets
store.py        arrays of many recordings on disk
training/       two-stage distillation
export/         the chosen subnet in other formats

Importing this package imports no torch: names are loaded when they are used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from supernet.checkpoint import load_supernet, save_supernet, shipped
    from supernet.extract import extract_subnet, load_extracted, save_extracted
    from supernet.layers import Features, Hubert
    from supernet.model import HubertSupernet

__all__ = [
    "Features",
    "Hubert",
    "HubertSupernet",
    "extract_subnet",
    "load_extracted",
    "load_supernet",
    "save_extracted",
    "save_supernet",
    "shipped",
]

_MODULES = {
    "checkpoint": ("load_supernet", "save_supernet", "shipped"),
    "extract": ("extract_subnet", "load_extracted", "save_extracted"),
    "layers": ("Features", "Hubert"),
    "model": ("HubertSupernet",),
}


def __getattr__(name: str) -> object:
    for module, names in _MODULES.items():
        if name in names:
            return getattr(import_module(f"supernet.{module}"), name)
    raise AttributeError(f"module 'supernet' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
