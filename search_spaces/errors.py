"""The errors a user can cause, and the exit status each one ends the command line with.

NasError (ValueError)        2   the user's words are off: rule, what was received, how to fix it
├── SpaceError               2   a subnet, space or TOML file breaks a rule of its space
├── CheckpointError          2   a file of weights is broken, foreign or unsafe
├── AudioError               2   a recording or manifest cannot be used
├── RunError                 2   a run folder is in use, missing or belongs to other settings
├── InfeasibleError          3   no subnet keeps the budgets; says the nearest that is possible
└── CheckFailed              4   something was made, measured again, and did not hold
"""

__all__ = [
    "AudioError",
    "CheckFailed",
    "CheckpointError",
    "InfeasibleError",
    "NasError",
    "RunError",
    "SpaceError",
]


class NasError(ValueError):
    """A user's mistake, told in one line."""

    exit_status = 2


class SpaceError(NasError):
    """A subnet, space or TOML file breaks a rule of its space."""


class CheckpointError(NasError):
    """A file of weights is broken, foreign or unsafe."""


class AudioError(NasError):
    """A recording or manifest cannot be used."""


class RunError(NasError):
    """A run folder is in use, missing, or belongs to other settings."""


class InfeasibleError(NasError):
    """No subnet keeps the budgets."""

    exit_status = 3


class CheckFailed(NasError):  # noqa: N818 - the check failed, not the program
    """Something was made, measured again, and did not hold."""

    exit_status = 4
