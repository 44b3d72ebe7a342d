"""Where subnets are scored. An executor's `run(subnets)` yields lists of `Outcome`, in the order of the subnets."""

from nas.executors.local import LocalExecutor, Outcome

__all__ = ["LocalExecutor", "Outcome"]
