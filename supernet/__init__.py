"""Weights: the once-for-all supernet, the checkpoints it comes from and the subnets extracted from it.

model.py        HubertSupernet, with `active(subnet)`
layers.py       the plain network of one subnet
slicing.py      which slice of each weight a subnet keeps: the only place that defines it
shared.py       many subnets on the same speech, with shared computations done once
extract.py      a subnet as a plain module of its own, in memory and on disk
importance.py   what heads, units and channels matter to the output, and what they give on average
order.py        the most important first; `convert`
decoder.py      log probabilities of texts by a Whisper's own decoder
checkpoint.py   load_supernet, and our own folders
foreign.py      checkpoints of Hugging Face, LightHuBERT and fairseq
weights.py      tensors from files, with every key accounted for
calibration.py  calibration speech as tensors
audio.py        manifests, recordings, batches of similar length
corpora/        speech as Kaldi, lhotse and Hugging Face's datasets keep it
teacher.py      frozen teachers and the cache of their targets
store.py        arrays of many recordings on disk
training/       two-stage distillation
export/         the chosen subnet in other formats

Names are imported on first use (PEP 562), so that `import supernet`, which every submodule implies, does not import
torch.
"""

from __future__ import annotations

import importlib
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
    "Features": "supernet.layers",
    "Hubert": "supernet.layers",
    "HubertSupernet": "supernet.model",
    "extract_subnet": "supernet.extract",
    "load_extracted": "supernet.extract",
    "load_supernet": "supernet.checkpoint",
    "save_extracted": "supernet.extract",
    "save_supernet": "supernet.checkpoint",
    "shipped": "supernet.checkpoint",
}

if not TYPE_CHECKING:  # type checkers see the imports above, and report names that do not exist

    def __getattr__(name: str) -> object:
        if name not in _MODULES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = getattr(importlib.import_module(_MODULES[name]), name)
        globals()[name] = value
        return value

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})
