"""The model card: what the subnet is, its costs and score, and how each format is loaded."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Mapping, Sequence

from search_spaces import Subnet
from supernet.export.base import LIBRARY, TASK
from supernet.export.formats import get_exporter
from supernet.hub import is_name
from supernet.model import HubertSupernet

__all__ = ["card", "plain"]

_LICENCES = {
    "hubert-tiny": "MIT; trained on recordings under CC-BY-SA-3.0 and CC-BY-3.0 (Debian's asterisk-core-sounds) and on "
    "flight-of-the-amazon-queen, with Whisper base (MIT) as the teacher",
}


_IDENTIFIERS = (
    "apache-2.0", "bsd-3-clause", "cc-by-4.0", "cc-by-nc-4.0", "cc-by-sa-3.0", "cc-by-sa-4.0", "gpl-3.0", "mit",
)  # fmt: skip


def card(
    model: HubertSupernet,
    subnet: Subnet,
    formats: Sequence[str],
    about: Mapping[str, object],
    dtype: str,
    scores: Mapping[str, float],
    inside: bool = False,
) -> str:
    """The text of README.md; `inside`: for the one format's own folder instead of the folder above it.

    `about`, all of it optional: the supernet's "name" and "supernet" (provenance), the subnet's "costs", "score",
    "budgets", "measured" (latencies by budget) and "trust", "score_fp32" with "score_of" (the speech it was computed
    on), and the "command". `scores`: by format, the scores of the exports whose weights are rounded.
    """
    library, task = get_exporter(formats[0]).library(model, subnet) if inside else (LIBRARY, TASK)
    return "\n".join(
        [
            _metadata(model, about, library, task),
            f"# Subnet {subnet.id} of {plain(about.get('name') or model.space.name)}",
            "",
            "One subnet of a once-for-all HuBERT, found and exported by lighthubert-nas. Input: speech at 16 kHz, "
            f"{_input(model)}; output: {subnet.depth + 1} hidden states of {subnet.embed_dim} "
            f"dimensions, one frame every {model.space.network.hop} samples.",
            "",
            "| | |",
            "|---|---|",
            *(f"| {plain(name)} | {value} |" for name, value in _rows(model, subnet, about, dtype, scores)),
            "",
            *((_PADDING, "") if model.space.network.conv_norm == "group" else ()),
            "## How to load it",
            *(line for name in formats for line in _loading(name, model, subnet, about, inside)),
            "",
            "Every file was read back and compared with the supernet's slice, on unpadded and padded input, before it "
            "was put here.",
            "",
        ]
    )


def _metadata(model: HubertSupernet, about: Mapping[str, object], library: str, task: str) -> str:
    """The lines that the Hugging Face Hub reads; only names of a fixed form come from outside."""
    from huggingface_hub import ModelCardData

    base, licence = model.provenance.get("base_model"), _identifier(_known_licence(model, about))
    data = ModelCardData(
        license=licence,
        license_name="see-below" if licence == "other" else None,
        library_name=library,
        pipeline_tag=task,
        tags=["speech", "neural-architecture-search", LIBRARY],
        base_model=base if isinstance(base, str) and is_name(base) else None,
    )
    return f"---\n{data.to_yaml()}\n---\n"


def _identifier(licence: object) -> str:
    """The Hub's identifier of a licence of which the name comes first."""
    if not licence:
        return "unknown"
    name = str(licence).partition(";")[0].strip().lower()
    return name if name in _IDENTIFIERS else "other"


def plain(text: object) -> str:
    """Text that Markdown shows as it is, on one line: names, commands and files of others may hold markup and links."""
    line = "".join(" " if unicodedata.category(each)[0] in "CZ" else each for each in str(text))
    line = re.sub(r"[\\`*\[\]<>#!|~$&@]|\b_|_\b", r"\\\g<0>", line)
    return re.sub(r"(?i)(?<=:)//|(?<=\bwww)\.", r"\\\g<0>", line)


_PADDING = (
    "A padded utterance differs from the same one alone (by 9-18 % in HuBERT Base): the first convolution's group norm "
    "is over time, so that padding changes its statistics. That is how these models are made. For equal results, run "
    "utterances alone or in batches of equal length."
)


def _input(model: HubertSupernet) -> str:
    if not model.prepare.normalize:
        return "samples as they are, in -1..1"
    return "each utterance with mean 0 and variance 1"


def _rows(
    model: HubertSupernet, subnet: Subnet, about: Mapping[str, object], dtype: str, scores: Mapping[str, float]
) -> list[tuple[str, str]]:
    """The rows of the table, as Markdown."""
    facts = [(name, plain(value)) for name, value in _facts(model, subnet, about, dtype, scores).items() if value]
    return [*facts, *([("made by", plain(about["command"]))] if about.get("command") else [])]


def _facts(
    model: HubertSupernet, subnet: Subnet, about: Mapping[str, object], dtype: str, scores: Mapping[str, float]
) -> dict[str, str]:
    """The rows of the table; those of unknown facts are empty."""
    origin = {
        key: value for key, value in (_mapping(about, "supernet") or model.provenance).items() if key != "recipes"
    }
    return {
        "embed dim": str(subnet.embed_dim),
        "heads": ", ".join(map(str, subnet.heads)),
        "FFN ratios": ", ".join(f"{ratio:g}" for ratio in subnet.ffn_ratios),
        **{name: _number(value) for name, value in _mapping(about, "costs").items()},
        "budgets": ", ".join(_texts(about.get("budgets"))),
        **{f"measured for {budget}": _measured(latency) for budget, latency in _mapping(about, "measured").items()},
        "score": _number(about.get("score")),
        "trust": _trust(_mapping(about, "trust")),
        "dtype": dtype,
        **_rounded_scores(about, dtype, scores),
        "source weights": json.dumps(origin),
        "their licence": _licence(model, about),
    }


def _rounded_scores(about: Mapping[str, object], dtype: str, scores: Mapping[str, float]) -> dict[str, str]:
    whole = about.get("score_fp32")
    if not isinstance(whole, (int, float)):
        return {}
    of = about.get("score_of")
    return {
        f"score of {name} in {dtype}": f"{_number(score)} ({score - whole:+.5f} of float32's {_number(whole)}, {of})"
        for name, score in scores.items()
    }


def _trust(trust: Mapping[str, object]) -> str:
    return " ".join([*_texts(trust.get("words")), *_texts([trust.get("certificate")])])


def _measured(latency: object) -> str:
    """A latency as predicted, and as measured on the exported subnet."""
    values = latency if isinstance(latency, Mapping) else {}
    return (
        f"{values['measured_ms']:.4g} ms, at most {values['measured_at_most_ms']:.4g} at "
        f"{values['measured_confidence']:.1%} confidence; predicted {values['predicted_ms']:.4g}, at most "
        f"{values['bound_ms']:.4g} (on {values['target']})"
    )


def _licence(model: HubertSupernet, about: Mapping[str, object]) -> str:
    return str(
        _known_licence(model, about)
        or "not recorded in the checkpoint: that of its publisher holds for this subnet too"
    )


def _known_licence(model: HubertSupernet, about: Mapping[str, object]) -> object:
    return model.provenance.get("licence") or _LICENCES.get(str(about.get("name")))


def _loading(name: str, model: HubertSupernet, subnet: Subnet, about: Mapping[str, object], inside: bool) -> list[str]:
    exporter = get_exporter(name)
    code = exporter.loading.format(
        folder="." if inside else name,
        supernet=about.get("name") or "SUPERNET",
        **exporter.loading_fields(model, subnet),
    ).strip()
    lines = ["", f"### {name}"]
    lines += ["", exporter.note] if exporter.note else []
    return [*lines, "", "```python", code, "```"] if code else lines


def _mapping(about: Mapping[str, object], key: str) -> Mapping[str, object]:
    value = about.get(key)
    return {str(name): each for name, each in value.items()} if isinstance(value, Mapping) else {}


def _texts(values: object) -> list[str]:
    return [str(each) for each in values if each] if isinstance(values, (list, tuple)) else []


def _number(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return str(value)
    return f"{value:,}" if isinstance(value, int) else f"{value:.5g}"
