"""The settings of a search and of where it runs: one source of defaults for Python, command line, sweep and resume."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path

from search_spaces.budget import Budget
from search_spaces.settings import Settings, option

__all__ = ["ClusterSettings", "SearchSettings", "parse_budget", "shipped_supernets"]

WHAT = "What to search"
HOW = "How to search"
WHERE = "Where it runs"


def shipped_supernets() -> list[str]:
    """Names of the supernets that come with the package; imports no torch."""
    spec = find_spec("supernet")
    folders = spec.submodule_search_locations if spec else None
    result = [] if not folders else (Path(folders[0]) / "pretrained").glob("*/config.json")
    return sorted(file.parent.name for file in result)


def proposed_spaces() -> Iterable[str]:
    """Kinds of spaces that are proposed for any network."""
    from search_spaces.proposals import PROPOSALS

    return PROPOSALS


parse_budget = partial(Budget.parse, known=None)
"""Checks the grammar alone; `COSTS` knows the costs."""


def _searchers() -> Iterable[str]:
    from nas.searchers import SEARCHERS

    return SEARCHERS


@dataclass(frozen=True)
class SearchSettings(Settings):
    """Everything that determines the result of a search; kept in run.json, compared when the run is resumed."""

    supernet: str = option(
        "hubert-tiny",
        "Shipped name, path of a checkpoint, or org/name on the Hub.",
        group=WHAT,
        path=True,
        names=shipped_supernets,
    )
    space: str | None = option(
        None,
        "TOML file of a sub-space of the supernet's space, or coarse, fine or uniform.",
        group=WHAT,
        path=True,
        names=proposed_spaces,
    )
    budgets: tuple[Budget, ...] = option(
        (), "Hard limit, such as 'params<=27M'; repeatable.", group=WHAT, flag="--budget", parse=parse_budget
    )
    objectives: tuple[str, ...] = option(
        ("score",), "'score', and repeated with a cost for a Pareto front.", group=WHAT, flag="--objective"
    )
    score: str = option(
        "distillation",
        "How subnets are compared: distillation; with --audio probe:LABEL, or kl or ce (a whole Whisper's); or a sum: "
        "probe:speaker+0.5*distillation.",
        group=WHAT,
    )
    audio: str | None = option(None, "Manifest of calibration speech.", group=WHAT, path=True)
    teacher: str | None = option(
        None, "Hugging Face folder of the teacher, or org/name on the Hub.", group=WHAT, path=True, needs="audio"
    )
    macs_seconds: float = option(1.0, "Seconds of audio for which MACs are counted.", group=WHAT, flag="--seconds")
    searcher: str = option("exact", "Search algorithm.", group=HOW, names=_searchers)
    uniform: bool = option(False, "Only subnets that are alike in all layers.", group=HOW)
    holdout: bool = option(False, "Name the winner by speech that the search did not use.", group=HOW)
    evals: int = option(64, "Evaluations to spend.", group=HOW, minimum=0, maximum=10_000_000)
    seed: int = option(0, "Seed of the search.", group=HOW, minimum=0)
    batch: int = option(16, "Subnets proposed at a time.", group=HOW, minimum=1)
    asynchronous: bool = option(
        False, "Propose as evaluations finish; not repeatable.", group=HOW, flag="--async", needs="ray"
    )
    successive: bool = option(
        False, "Rule out on a quarter of the speech the subnets that cannot be the best.", group=HOW
    )
    precision: str = option("fp32", "Precision of scoring: fp32, or bf16 (faster).", group=HOW)
    device: str = option("cpu", "Device of scoring: cpu or cuda.", group=WHERE)


@dataclass(frozen=True)
class ClusterSettings(Settings):
    """The executor of a search; it does not change the result."""

    ray: str | None = option(None, "Run on a Ray cluster: auto, host:port, or local.", group=WHERE)
    actors: int | None = option(
        None, "Evaluators; default: as many as fit.", group=WHERE, needs="ray", minimum=1, maximum=100_000
    )
    cpus_per_actor: float = option(1.0, "CPU cores of each evaluator.", group=WHERE, needs="ray", minimum=0)
    gpus_per_actor: float | None = option(
        None, "GPUs of each evaluator; default: 1 with --device cuda, else 0.", group=WHERE, needs="ray", minimum=0
    )
    target_resource: str | None = option(
        None, "Measure latency on nodes with this Ray resource.", group=WHERE, needs="ray"
    )
    evaluator_timeout: float = option(
        600.0, "Give up when no evaluator has been alive for this many seconds.", group=WHERE, needs="ray", minimum=1
    )
    wait: bool = option(False, "Start before all requested actors are available.", group=WHERE, needs="ray")
