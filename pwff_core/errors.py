"""The errors that a person may see. Each text says in whole sentences what is wrong, what is allowed, what to do."""

from __future__ import annotations

ROUNDS_KEPT = "The rounds before are kept."  # a sentence of a TrainingError's text


class PwffError(Exception):
    """Any error that is shown to a person as its text alone, without a traceback."""


class ConfigError(PwffError):
    """A setting that cannot be used."""


class DataError(PwffError):
    """A data source that cannot be read or is not enough for the run."""


class ModelError(PwffError):
    """A backbone that cannot be loaded."""


class StoreError(PwffError):
    """The store of runs cannot be opened, read or written, or holds no such run.

    `passing` says that the store itself is the obstacle (locked, disk full, read-only, gone): nothing of the call was
    written, and trying again later may help. Otherwise trying again changes nothing.
    """

    def __init__(self, text: str, *, passing: bool = False) -> None:
        super().__init__(text)
        self.passing = passing


class TakenOverError(StoreError):
    """This process is no longer the run's worker: it must write nothing more about the run, and end."""


class TrainingError(PwffError):
    """Training failed in a round; the rounds before it are kept."""


class RankingError(PwffError):
    """The model that ranks responses cannot be asked, or its server refuses."""


class EngineError(PwffError):
    """The engine could not be started, or failed unexpectedly; the text names its log."""
