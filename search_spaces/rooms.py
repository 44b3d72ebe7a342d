"""Whether the top-level names of this project lead to this project: they are generic, and others may take them.

`search_spaces` checks when it is imported, and every room imports it. `cli.py` runs this file by its path, so that the
check works whichever name is taken; so it imports nothing of the project.
"""

from __future__ import annotations

from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path

__all__ = ["DISTRIBUTION", "ROOMS", "check_rooms", "other_owners"]

DISTRIBUTION = "lighthubert-nas"
ROOMS = ("evaluators", "nas", "search_spaces", "supernet")


def check_rooms() -> None:
    """Raises `ImportError` in one line if one of `ROOMS` would be imported from anywhere but beside this folder."""
    home = Path(__file__).resolve().parents[1]
    for name in ROOMS:
        place = _place(name)
        if place is None or place == home / name:
            continue
        others = other_owners((name,)).get(name) if "-packages" in str(place) else None
        remedy = f"pip uninstall {others[0]}" if others else "rename it, or start from another folder"
        raise ImportError(
            f"'{name}' is {str(place)!r}, which hides {DISTRIBUTION}'s own in {str(home)!r}: {remedy}",
            name=name,
        )


def other_owners(names: Iterable[str] = (*ROOMS, "cli")) -> dict[str, list[str]]:
    """Other installed distributions with a top-level module or package of one of these names, by name."""
    from importlib.metadata import packages_distributions

    installed = packages_distributions()
    others = {name: sorted({*installed.get(name, ())} - {DISTRIBUTION}) for name in names}
    return {name: found for name, found in others.items() if found}


def _place(name: str) -> Path | None:
    """The folder of a package or the file of a module; None if there is none of this name."""
    try:
        spec = find_spec(name)
    except ValueError:  # something without a spec has been put into sys.modules
        return None
    if spec is None:
        return None
    folder = next(iter(spec.submodule_search_locations or ()), spec.origin)
    return None if folder is None else Path(folder).resolve()
