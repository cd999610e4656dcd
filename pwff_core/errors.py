"""The errors a person can meet. Each text is whole sentences: what was wrong, what is allowed, what to do."""

from __future__ import annotations


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

    `passing`: the store itself is what is in the way (locked, disk full, read-only, gone), so that waiting and trying
    again may help; nothing of the call was written. Otherwise trying again changes nothing.
    """

    def __init__(self, text: str, *, passing: bool = False) -> None:
        super().__init__(text)
        self.passing = passing


class TakenOverError(StoreError):
    """This process is not the worker of the run any more: it must write nothing else about it, and end."""


class TrainingError(PwffError):
    """Training went wrong in a round; the rounds before it are kept."""


class RankingError(PwffError):
    """The model that ranks responses cannot be asked, or its server refuses."""


class EngineError(PwffError):
    """The engine could not be started, or ended in a way that nobody foresaw; the text names its log."""
