"""Where a run stands and why it ended: the sentences that are stored for people, and the typed value behind each.

Only the sentence is stored, in the column `message`, which every version can show. Each kind of ending is written and
read here alone; others choose by `RunEnd.kind`.
"""

from __future__ import annotations

import re
from enum import StrEnum
from typing import NamedTuple

from pwff_core.errors import ROUNDS_KEPT

CANCELLED = "Cancelled before it started."
CLAIM_WITHIN_S = 60.0  # a launched run that no worker has claimed by then is not going to start
_NOT_STARTED = f"The engine did not start within {CLAIM_WITHIN_S:.0f} s."
_CAN_RESUME = "The run can be resumed."
_STOPPED = re.compile(r"Stopped after (\d+) of (\d+) rounds\.")
_ENGINE_GONE = re.compile(
    r"The engine stopped (?:without a word )?\(process (\d+|None) is gone\); (?:no|its (\d+)) round"
)
_DAMAGED = re.compile(r"The store was damaged; (\d+) of (\d+) rounds are left\.")


class RunStatus(StrEnum):
    """Where a run stands."""

    QUEUED = "queued"
    RUNNING = "running"
    PAUSED = "paused"
    STALLED = "waiting"  # plays, but gives no sign of life; never stored, told at each reading
    FINISHED = "finished"
    STOPPED = "stopped"
    FAILED = "failed"

    @property
    def ended(self) -> bool:
        """Whether no round will follow."""
        return self in (RunStatus.FINISHED, RunStatus.STOPPED, RunStatus.FAILED)


class EndKind(StrEnum):
    """Why a run ended."""

    FINISHED = "finished"  # all its rounds are played
    STOPPED = "stopped"  # somebody stopped it
    CANCELLED = "cancelled"  # somebody took it out of the queue
    ENGINE_GONE = "engine gone"  # its worker's process ended without saying why
    NOT_STARTED = "not started"  # no worker claimed it
    STORE_DAMAGED = "store damaged"  # some of its rounds were lost with a damaged store
    DIVERGED = "diverged"  # its numbers became infinite or none
    ERROR = "error"  # anything else that its message says


class RunEnd(NamedTuple):
    """Why a run ended, with the data of its message."""

    kind: EndKind
    message: str  # for people; "" where there is nothing to say
    rounds: int | None = None  # how many were kept, where the message has the number
    pid: int | None = None  # of the worker that is gone

    @property
    def says_what_is_kept(self) -> bool:
        """Whether the message says already that the rounds before the failure are kept."""
        return self.kind in (EndKind.ENGINE_GONE, EndKind.DIVERGED)


def run_end(status: RunStatus, message: str) -> RunEnd | None:
    """Why a run ended, from its stored status and message; None for one that has not ended."""
    if status is RunStatus.FINISHED:
        return RunEnd(EndKind.FINISHED, message)
    if status is RunStatus.STOPPED:
        if message == CANCELLED:
            return RunEnd(EndKind.CANCELLED, message, 0)
        stopped = _STOPPED.match(message)
        return RunEnd(EndKind.STOPPED, message, int(stopped[1]) if stopped else None)
    if status is not RunStatus.FAILED:
        return None
    if gone := _ENGINE_GONE.match(message):
        return RunEnd(EndKind.ENGINE_GONE, message, int(gone[2] or 0), int(gone[1]) if gone[1] != "None" else None)
    if message.startswith(_NOT_STARTED):
        return RunEnd(EndKind.NOT_STARTED, message)
    if damaged := _DAMAGED.match(message):
        return RunEnd(EndKind.STORE_DAMAGED, message, int(damaged[1]))
    return RunEnd(EndKind.DIVERGED if ROUNDS_KEPT in message else EndKind.ERROR, message)


def stopped(rounds: int, rounds_total: int) -> str:
    """The message of a run that somebody stopped."""
    return f"Stopped after {rounds} of {rounds_total} rounds."


def engine_gone(pid: int | None, rounds: int, log_tail: str) -> str:
    """The message of a run whose worker is gone; `log_tail` is the last line of its log, or ""."""
    kept = {0: "no round was complete", 1: "its 1 round is kept"}.get(rounds, f"its {rounds} rounds are kept")
    silently = "" if log_tail else "without a word "
    return f"The engine stopped {silently}(process {pid} is gone); {kept}.{log_tail_words(log_tail)} {_CAN_RESUME}"


def not_started(log_tail: str) -> str:
    """The message of a run that no worker claimed."""
    return f"{_NOT_STARTED}{log_tail_words(log_tail)} {_CAN_RESUME}"


def store_damaged(rounds: int, rounds_total: int) -> str:
    """The message of a run that has lost rounds with a damaged store."""
    return f"The store was damaged; {rounds} of {rounds_total} rounds are left. Resume to play the others."


def log_tail_words(log_tail: str) -> str:
    """The last line of a log as a sentence to be appended; "" for none."""
    return f" Its last words: {log_tail}{'' if log_tail[-1] in '.!?…' else '.'}" if log_tail else ""
