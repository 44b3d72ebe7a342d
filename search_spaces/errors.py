"""The errors that a user's input or files can cause, and the exit status of the command line for each.

NasError (ValueError)        2   invalid input: the message states the rule, the value received and the fix
├── SpaceError               2   a subnet, space or TOML file breaks a rule of its space
├── CheckpointError          2   a file of weights is broken, of an unknown format, or unsafe to load
├── AudioError               2   a recording or manifest cannot be used
├── RunError                 2   a run folder is missing, in use, or was started with other settings
│   └── IdentityError        4   a file is not the one that the run was made with (also of the last kind)
├── InfeasibleError          3   no subnet keeps the budgets; the message names the nearest possible limit
└── CheckFailed              4   a result was checked and failed: an export that breaks its budget, for example
"""

__all__ = [
    "AudioError",
    "CheckFailed",
    "CheckpointError",
    "IdentityError",
    "InfeasibleError",
    "NasError",
    "RunError",
    "SpaceError",
]


class NasError(ValueError):
    """Invalid input, explained in one line."""

    exit_status = 2


class SpaceError(NasError):
    """A subnet, space or TOML file breaks a rule of its space."""


class CheckpointError(NasError):
    """A file of weights is broken, of an unknown format, or unsafe to load."""


class AudioError(NasError):
    """A recording or manifest cannot be used."""


class RunError(NasError):
    """A run folder is missing, in use, or was started with other settings."""


class InfeasibleError(NasError):
    """No subnet keeps the budgets."""

    exit_status = 3


class CheckFailed(NasError):  # noqa: N818 - the check failed, not the program
    """A result was checked and failed the check."""

    exit_status = 4


class IdentityError(CheckFailed, RunError):
    """A file is not the one that the run was made with."""
