"""Calls on the nodes that they are meant for, while the scores come from others."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

from nas.cluster.connection import check_resources, difference, import_ray, versions
from search_spaces import NasError

__all__ = ["call_on"]

MAX_DEATHS = 4


def call_on(resource: str, wait: bool, function: Callable[..., Any], *arguments: Any) -> Any:
    """`function(*arguments)` on a node with the custom resource (`ray start --resources '{"jetson": 1}'`).

    The call takes one unit of it, so that one runs at a time on each device; it is retried if its node dies. For use
    inside the block of a connected `RayExecutor`. Re-raises the function's exception.
    """
    ray = import_ray()
    check_resources(ray, 1, {resource: 1.0}, wait)
    options = {"num_cpus": 0, "resources": {resource: 1.0}, "max_retries": MAX_DEATHS}
    errors = importlib.import_module("ray.exceptions")
    try:
        return ray.get(ray.remote(_checked).options(**options).remote(versions(), function, *arguments))
    except errors.RayTaskError as error:
        raise error.cause or error from None


def _checked(wanted: dict[str, str], function: Callable[..., Any], *arguments: Any) -> Any:
    """Runs on the node."""
    if problem := difference(wanted, versions()):
        raise NasError(problem)
    return function(*arguments)
