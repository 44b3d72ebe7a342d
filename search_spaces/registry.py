"""Tables of what users can name: built-in entries as "module:attribute", extended by entry points of other packages.

A package adds a searcher, for example, with these lines in its pyproject.toml:

    [project.entry-points."lighthubert_nas.searchers"]
    annealing = "my_package.annealing:AnnealingSearcher"
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cached_property
from importlib.metadata import EntryPoint, entry_points
from types import MappingProxyType

from search_spaces.errors import NasError

__all__ = ["Registry"]


class Registry(Mapping[str, str]):
    """Names, and the "module:attribute" that each stands for. Nothing is imported before `load`.

    `kind` is the word for one entry in messages ("searcher"); `group` is the entry-point group that extends the table;
    `extras` maps an optional module to the extra of this package that installs it.

    Raises `NasError` if two entry points have the same name, or one has the name of a built-in entry.
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
        entries = dict(self._built_in)
        for point in entry_points(group=self.group):
            if point.name in self._built_in:
                raise NasError(
                    f"entry point '{point.name}' of {self.group} has the name of a built-in {self.kind}: rename it"
                )
            if entries.setdefault(point.name, point.value) != point.value:
                raise NasError(
                    f"two entry points of {self.group} have the name '{point.name}': {entries[point.name]} and "
                    f"{point.value}; rename or uninstall one"
                )
        return entries

    def __getitem__(self, name: str) -> str:
        return self._entries[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def load(self, name: str) -> object:
        """The object that `name` stands for.

        Raises `NasError` for an unknown name (listing the known ones), for a module that an extra installs (naming the
        extra), and for an entry point that cannot be imported.
        """
        if not isinstance(name, str) or name not in self._entries:
            raise NasError(f"unknown {self.kind} '{name}'; known: {', '.join(self._entries)}")
        target = self._entries[name]
        try:
            return EntryPoint(name, target, self.group).load()
        except (ImportError, AttributeError) as error:
            if missing := self._missing_module(error):
                install = f"pip install 'lighthubert-nas[{self._extras[missing]}]'"
                raise NasError(f"{self.kind} '{name}' needs {missing}: {install}") from None
            if name in self._built_in:
                raise
            raise NasError(f"cannot load {self.kind} '{name}' from entry point {target}: {error}") from error

    def _missing_module(self, error: Exception) -> str | None:
        """The optional module that is not installed, if that is the error."""
        name = error.name if isinstance(error, ModuleNotFoundError) and error.name else ""
        return next((module for module in (name, name.partition(".")[0]) if module in self._extras), None)
