"""The model card: what the subnet is, what it costs and is worth, and how each file beside it is loaded."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from search_spaces import Subnet
from search_spaces.types import JsonMapping
from supernet.model import HubertSupernet

__all__ = ["LOADING", "card"]

LOADING = {
    "json": """
import json
from search_spaces import Subnet
from supernet import extract_subnet, load_supernet

subnet = Subnet.from_json(open("subnet.json").read())
net = extract_subnet(load_supernet({supernet!r}), subnet)
LIGHTHUBERT = json.load(open("lighthubert.json"))  # for LightHuBERT's set_sample_config
""",
    "safetensors": """
import torch
from supernet import load_extracted

net = load_extracted(".")
hidden_states = net(torch.randn(1, 16_000)).hidden_states
""",
    "onnx": """
import numpy as np
import onnxruntime

session = onnxruntime.InferenceSession("model.onnx")
wav = np.random.randn(2, 16_000).astype(np.float32)  # each utterance with mean 0 and variance 1, then zeros
mask = np.ones(wav.shape, dtype=np.int64)  # 0 where an utterance is padded
last, hidden_states = session.run(None, {{"input_values": wav, "attention_mask": mask}})  # (B, T, D), (L + 1, B, T, D)
""",
    "torch-export": """
import torch

net = torch.export.load("model.pt2").module()
wav = torch.randn(2, 16_000)  # each utterance with mean 0 and variance 1, then zeros
last, hidden_states = net(wav, torch.ones(wav.shape, dtype=torch.int64))  # (B, T, D), (L + 1, B, T, D)
""",
    "hf": """
import numpy as np
from transformers import AutoFeatureExtractor, AutoModel

extractor = AutoFeatureExtractor.from_pretrained("{folder}")
net = AutoModel.from_pretrained("{folder}", trust_remote_code={remote_code})
waves = [np.random.randn(16_000), np.random.randn(12_000)]
batch = extractor(waves, sampling_rate=16_000, padding=True, return_tensors="pt")
last = net(**batch).last_hidden_state
""",
    "s3prl": """
import torch

upstream = torch.hub.load("{folder}", "searched_hubert", source="local")
hidden_states = upstream([torch.randn(16_000), torch.randn(12_000)])["hidden_states"]
""",
    "lighthubert": """
import json
import torch
from s3prl.upstream.lighthubert.lighthubert import LightHuBERT, LightHuBERTConfig

checkpoint = torch.load("lighthubert.pt", weights_only=True)
config = LightHuBERTConfig(checkpoint["cfg"]["model"])
config.supernet_type = {supernet_type!r}
model = LightHuBERT(config)
model.load_state_dict(checkpoint["model"], strict=False)
model.set_sample_config(json.load(open("lighthubert.json")))
hidden_states = model.eval().extract_features(torch.randn(1, 16_000), ret_hs=True)[0]
""",
}
"""How a format is loaded, in the folder that holds the card. The tests run each."""
_NOTES = {
    "json": "The architecture alone; its weights are in the supernet.",
    "hf": "`hidden_states[0]` stands behind the positional convolution, as in every HubertModel; padded batches are "
    "masked by Hugging Face's rule.",
    "s3prl": "For s3prl's runner, copy the folder to `s3prl/upstream/searched_hubert`, add "
    "`from s3prl.upstream.searched_hubert.hubconf import *` to `s3prl/hub.py` and give it `-u searched_hubert`.",
    "lighthubert": "The whole supernet, which LightHuBERT's code slices itself. Waveforms are normalised as above.",
}
_LICENCES = {
    "hubert-tiny": "MIT; trained on recordings under CC-BY-SA-3.0 and CC-BY-3.0 (Debian's asterisk-core-sounds) and on "
    "flight-of-the-amazon-queen, with Whisper base (MIT) as the teacher",
}


def card(
    model: HubertSupernet,
    subnet: Subnet,
    formats: Sequence[str],
    about: JsonMapping,
    dtype: str,
    scores: Mapping[str, float],
    inside: bool = False,
) -> str:
    """The text of README.md; `inside` the folder that its one format has to itself, instead of the one above.

    `scores`: those of the formats whose numbers are rounded, measured on the exports.
    """
    return "\n".join(
        [
            f"# Subnet {subnet.id} of {about.get('name') or model.space.name}",
            "",
            "One subnet of a once-for-all HuBERT, found and exported by lighthubert-nas. Input: speech at 16 kHz, each "
            f"utterance with mean 0 and variance 1; output: {subnet.depth + 1} hidden states of {subnet.embed_dim} "
            f"dimensions, one frame each {model.space.network.hop} samples.",
            "",
            *_facts(model, subnet, about, dtype, scores),
            "",
            "## How to load it",
            *(line for name in formats for line in _loading(name, model, subnet, about, inside)),
            "",
            "Every file was read back and compared with the supernet's slice, on unpadded and padded input, before it "
            "was put here.",
            "",
        ]
    )


def _facts(
    model: HubertSupernet, subnet: Subnet, about: JsonMapping, dtype: str, scores: Mapping[str, float]
) -> list[str]:
    trust, whole = about.get("trust") or {}, about.get("score_fp32")
    origin = {key: value for key, value in (about.get("supernet") or model.provenance).items() if key != "recipes"}
    message = [str(words) for words in (*trust.get("words", ()), trust.get("certificate")) if words]
    rows = {
        "embed dim": subnet.embed_dim,
        "heads": ", ".join(map(str, subnet.heads)),
        "FFN ratios": ", ".join(f"{ratio:g}" for ratio in subnet.ffn_ratios),
        **{str(name): _number(value) for name, value in (about.get("costs") or {}).items()},
        "budgets": ", ".join(about.get("budgets") or []),
        **{f"measured for {budget}": _measured(m) for budget, m in (about.get("measured") or {}).items()},
        "score": _number(about.get("score")),
        "trust": " ".join(message),
        "dtype": dtype,
        **{
            f"score of {name} in {dtype}": f"{_number(score)} ({score - whole:+.5f} of float32's {_number(whole)}, "
            f"{about.get('score_of')})"
            for name, score in scores.items()
            if whole is not None
        },
        "source weights": json.dumps(origin),
        "their licence": _licence(model, about),
        "made by": f"`{about['command']}`" if about.get("command") else "",
    }
    return ["| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows.items() if value != "")]


def _measured(latency: JsonMapping) -> str:
    """A latency as it was predicted, and as it was measured on the exported subnet."""
    return (
        f"{latency['measured_ms']:.4g} ms, at most {latency['measured_at_most_ms']:.4g} at "
        f"{latency['measured_confidence']:.1%} confidence; predicted {latency['predicted_ms']:.4g}, at most "
        f"{latency['bound_ms']:.4g} (on {latency['target']})"
    )


def _licence(model: HubertSupernet, about: JsonMapping) -> str:
    known = model.provenance.get("licence") or _LICENCES.get(str(about.get("name")))
    return str(known or "not recorded in the checkpoint: that of its publisher holds for this subnet too")


def _loading(name: str, model: HubertSupernet, subnet: Subnet, about: JsonMapping, inside: bool) -> list[str]:
    from supernet.export.hugging_face import is_stock

    code = LOADING[name].format(
        folder="." if inside else name,
        supernet=about.get("name") or "SUPERNET",
        remote_code=not is_stock(model, subnet),
        supernet_type=model.space.name.removeprefix("lighthubert-"),
    )
    return ["", f"### {name}", "", *([_NOTES[name], ""] if name in _NOTES else []), "```python", code.strip(), "```"]


def _number(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:,}" if isinstance(value, int) else f"{value:.5g}"
