"""Weights: the once-for-all supernet, where it comes from and what is cut from it.

slicing.py      which slice of each weight a subnet keeps: the one truth
layers.py       the plain network every subnet is
model.py        HubertSupernet, with `active(subnet)`
shared.py       many subnets on the same speech, what they share computed once
checkpoint.py   load_supernet: ours, LightHuBERT's, Hugging Face's, fairseq's
calibration.py  calibration speech as numbers
extract.py      a subnet as a plain module of its own, saved and re-read
export/         the chosen subnet in other people's formats
audio.py        manifests, recordings, batches of similar length
teacher.py      frozen teachers and the cache of their targets
store.py        numbers of many recordings on disk
order.py        heads and FFN units by importance
distill.py      masking, loss, which subnets a step trains
train.py        the two-stage training loop
state.py        the checkpoint that a training goes on from
"""

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
