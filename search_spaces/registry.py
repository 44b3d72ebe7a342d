"""Tables of what users name: built-in entries as "module:attribute", extended by entry points of other packages.

A package adds a searcher, for instance, by declaring in its pyproject.toml

    [project.entry-points."lighthubert_nas.searchers"]
    annealing = "my_package.annealing:AnnealingSearcher"
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cached_property
from importlib import import_module
from importlib.metadata import entry_points
from types import MappingProxyType

from search_spaces.errors import NasError

__all__ = ["Registry"]


class Registry(Mapping[str, str]):
    """Names and the "module:attribute" each stands for. Nothing is imported before `load`.

    `kind` is the word for one entry in messages ("searcher"); `group` the entry-point group that extends the table;
    `extras` maps an optional module to the extra of this package that installs it.
    """

    def __init__(
        self,
        kind: str,
        group: str,
        built_in: Mapping[str, str],
        extras: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        self.kind, self.group = kind, group
        self._built_in, self._extras = dict(built_in), dict(extras)

    @cached_property
    def _entries(self) -> dict[str, str]:
        result = {point.name: point.value for point in entry_points(group=self.group)}
        if clashes := sorted(result.keys() & self._built_in.keys()):
            raise NasError(
                f"entry point '{clashes[0]}' of {self.group} has the name of a built-in {self.kind}: rename it"
            )
        return {**self._built_in, **result}

    def __getitem__(self, name: str) -> str:
        return self._entries[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def load(self, name: str) -> object:
        """The object that `name` stands for.

        Raises `NasError` listing the known names, or naming the extra to install.
        """
        if not isinstance(name, str) or name not in self._entries:
            raise NasError(f"unknown {self.kind} '{name}'; known: {', '.join(self._entries)}")
        module, _, attribute = self._entries[name].partition(":")
        try:
            return getattr(import_module(module), attribute)
        except ModuleNotFoundError as error:
            if error.name not in self._extras:
                raise
            extra = self._extras[error.name]
            raise NasError(f"{self.kind} '{name}' needs {error.name}: pip install 'lighthubert-nas[{extra}]'") from None
