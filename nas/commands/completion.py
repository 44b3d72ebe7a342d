"""What a shell offers after an option that takes a name: the tables that the names are looked up in.

`nas --install-completion` sets it up, which is typer's own. Nothing here imports torch, so that Tab is fast.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from nas.searchers import SEARCHERS
from nas.settings import shipped_supernets
from search_spaces import SPACES, NasError
from search_spaces.proposals import PROPOSALS

__all__ = ["COMPLETIONS", "Completer", "completer_of"]

Completer = Callable[[str], list[str]]


def _costs() -> Iterable[str]:
    from evaluators.costs import COSTS

    return COSTS


def _formats() -> Iterable[str]:
    from supernet.export.formats import EXPORTERS

    return EXPORTERS


def _scores() -> Iterable[str]:
    from evaluators.scores import SCORES

    return SCORES


def _tasks() -> Iterable[str]:
    from evaluators.tasks import TASKS
    from nas.commands.evaluate import RECOGNITION

    return [*TASKS, RECOGNITION]


def _targets() -> Iterable[str]:
    from evaluators.costs.latency.target import BACKENDS

    return BACKENDS


COMPLETIONS: Mapping[str, tuple[Callable[[], Iterable[str]], str]] = {
    "--budget": (_costs, ""),
    "--device": (lambda: ("cpu", "cuda"), ""),
    "--format": (_formats, ","),
    "--formats": (_formats, ","),
    "--objective": (lambda: ("score", *_costs()), ""),
    "--propose": (lambda: PROPOSALS, ""),
    "--score": (_scores, "+"),
    "--searcher": (lambda: SEARCHERS, ""),
    "--space": (lambda: (*SPACES, *PROPOSALS), ""),
    "--supernet": (shipped_supernets, ""),
    "--target": (_targets, ""),
    "--task": (_tasks, ""),
    "space": (lambda: SPACES, ""),
}
"""By option of any command: the names, and what separates several of them in one value. "space": of `nas space`."""


def completer_of(name: str) -> Completer | None:
    """The function that completes an option; None if it takes no names."""
    if name not in COMPLETIONS:
        return None
    names, separator = COMPLETIONS[name]

    def complete(incomplete: str) -> list[str]:
        before, between, begun = incomplete.rpartition(separator) if separator else ("", "", incomplete)
        try:
            return [f"{before}{between}{each}" for each in names() if each.startswith(begun)]
        except NasError:  # two packages extend a table with one name; running the command says so
            return []

    return complete
