"""Modules that an extra of this package installs, imported when they are needed."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from search_spaces import NasError

__all__ = ["extra_module"]


def extra_module(name: str, purpose: str, extra: str, package: str | None = None) -> Any:
    """The module `name`; raises `NasError` with the pip command if `package` (default: the module) is missing."""
    package = package or name.partition(".")[0]
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != package:
            raise
        raise NasError(f"{purpose} needs {package}: pip install 'lighthubert-nas[{extra}]'") from None
