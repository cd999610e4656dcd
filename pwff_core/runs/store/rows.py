"""What comes out of the store: a run as it stands, who steers it, what was asked of it."""

from __future__ import annotations

from enum import StrEnum
from typing import Literal, NamedTuple

from pydantic import BaseModel, ConfigDict

from pwff_core.config import RunConfig
from pwff_core.records import ClientProfile, RoundRecord, Steering, Value


class RunStatus(StrEnum):
    """Where a run stands."""

    QUEUED = "queued"
    RUNNING = "running"
    PAUSED = "paused"
    WAITING = "waiting"  # plays, but gives no sign of life; never stored, judged at each reading
    FINISHED = "finished"
    STOPPED = "stopped"
    FAILED = "failed"

    @property
    def ended(self) -> bool:
        """Whether no round will follow."""
        return self not in (RunStatus.QUEUED, RunStatus.RUNNING, RunStatus.PAUSED, RunStatus.WAITING)


class RunRow(BaseModel):
    """A run as the store knows it; its rounds are fetched apart. Times are Unix seconds."""

    model_config = ConfigDict(frozen=True)

    id: str
    name: str
    created_at: float
    status: RunStatus
    message: str  # "" or why it failed, stopped or waits, or what it is at in place of a new round
    config: RunConfig  # as it started; what was changed since are its steerings
    profiles: tuple[ClientProfile, ...]
    notes: tuple[str, ...]
    rounds_done: int
    rounds_total: int
    pid: int | None
    heartbeat_at: float | None
    deleted: bool
    waits: bool = False  # stands in the queue: nobody has launched it yet
    comparison: str = ""  # the comparison that it is part of, if any
    parent: str = ""  # id of the run that it was forked from, if any
    forked_at: int = 0  # so many of its first rounds are its parent's
    owner: str = ""  # whose it is where the app is hosted: a hash of the visitor's id; "" for the computer's owner


class Lease(NamedTuple):
    """Who steers a run, since when (Unix seconds)."""

    viewer: str
    since: float


class Command(NamedTuple):
    """What a page asked of a run's worker."""

    id: int
    kind: Literal["steer", "pause", "resume", "stop"]
    changes: dict[str, Value]  # of a steer: dotted path → value


class Look(NamedTuple):
    """All that a page asks about a run at each look, as it stood at one moment."""

    row: RunRow
    rounds: list[tuple[int, RoundRecord]]  # (row id, record) of those after the one that the page has seen last
    steerings: list[Steering]
    asked: dict[str, Value]  # settings that were asked for and do not hold yet: dotted path → value
    pending: frozenset[str]  # of "pause", "resume" and "stop": asked for, and not done yet
    lease: Lease | None  # who steers it
    waiting: list[RunRow]  # the queue, the first to start first; while there are any, `queue.advance` may launch one
