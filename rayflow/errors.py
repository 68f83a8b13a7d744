"""Errors a person can act on: each says what went wrong, for which file, key or row, and what to do."""

from __future__ import annotations


class RayflowError(Exception):
    """Base of every error that is the user's or the machine's, shown without a traceback."""

    exit_code = 1


class ConfigError(RayflowError):
    """The configuration cannot be used: an unknown key or kind, a wrong type, an impossible value."""


class DataError(RayflowError):
    """An input file is missing, unreadable, empty, or holds a row that cannot be used."""


class ModelError(RayflowError):
    """A model folder cannot be used: missing, without a tokenizer, not safetensors, wrong architecture."""


class ArtifactError(RayflowError):
    """A stored stage does not fit: another configuration made it, it is locked, incomplete or damaged."""


class StageError(RayflowError):
    """A stage stopped: too many failed rows, a dead worker, a machine without what was asked for."""


class EngineDeadError(StageError):
    """An engine's process died: the worker that held it must be replaced and its rows tried again."""


class BusyError(RayflowError):
    """Somebody else is at the same work. Nothing is wrong; try again later."""

    exit_code = 75  # EX_TEMPFAIL, which schedulers know


class LockedError(ArtifactError, BusyError):
    """Another process works in a run's folder."""


class LeaseError(RayflowError):
    """Another process took over what this one was doing, because it had not been heard of for too long."""


class RewardError(RayflowError):
    """A reward could not be computed. Never replaced by a number: the row becomes a failure."""


class JobError(RayflowError):
    """A job server does not answer, refuses the token or the request, or does not know the job."""


class MissingPackageError(RayflowError):
    """An optional package is needed for what was asked, and is not installed."""

    @classmethod
    def of(cls, package: str, needed_for: str, extra: str) -> MissingPackageError:
        """With the command that installs it; `extra` of this project brings `package`."""
        return cls(
            f"{needed_for} needs the package '{package}', which is not installed. "
            f"Install it with: pip install 'rayflow[{extra}]'"
        )
