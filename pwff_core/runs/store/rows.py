"""What comes out of the store: a run as it stands, how it ended, who steers it, and the commands for its worker."""

from __future__ import annotations

from typing import Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field

from pwff_core.config import RunConfig
from pwff_core.records import ClientProfile, RoundRecord, Steering, Value
from pwff_core.runs.store.endings import RunEnd, RunStatus, run_end


class RunRow(BaseModel):
    """A run as the store knows it, without its rounds. Times are Unix seconds."""

    model_config = ConfigDict(frozen=True, validate_by_name=True, validate_by_alias=True, serialize_by_alias=True)

    id: str
    name: str
    created_at: float
    status: RunStatus
    message: str  # "" or why it failed, stopped or stalls, or what it does before its next new round
    config: RunConfig  # as it started; its steerings hold what was changed since
    profiles: tuple[ClientProfile, ...]
    notes: tuple[str, ...]
    rounds_done: int
    rounds_total: int
    pid: int | None
    heartbeat_at: float | None
    deleted: bool
    in_queue: bool = Field(False, alias="waits")  # nobody has launched it yet
    comparison: str = ""  # id of the comparison that it is part of, if any
    parent: str = ""  # id of the run that it was forked from, if any
    forked_at: int = 0  # so many of its first rounds are its parent's
    owner: str = ""  # in a hosted app, a hash of the visitor's id; "" for the computer's owner

    @property
    def end(self) -> RunEnd | None:
        """Why the run ended; None while it has not."""
        return run_end(self.status, self.message)


class Lease(NamedTuple):
    """The viewer that steers a run, and since when (Unix seconds)."""

    viewer: str
    since: float


class Command(NamedTuple):
    """A page's request to a run's worker."""

    id: int
    kind: Literal["steer", "pause", "resume", "stop"]
    changes: dict[str, Value]  # of a steer: dotted path → value


class RunSnapshot(NamedTuple):
    """Everything that a page shows of a run, as it stood at one moment."""

    row: RunRow
    rounds: list[tuple[int, RoundRecord]]  # (row id, record) of the rounds that the page has not seen yet
    steerings: list[Steering]
    pending_changes: dict[str, Value]  # settings that were asked for and do not hold yet: dotted path → value
    pending: frozenset[str]  # of "pause", "resume" and "stop": asked for, and not done yet
    lease: Lease | None  # the viewer that steers it
    queue: list[RunRow]  # all runs in the queue, the first to start first
