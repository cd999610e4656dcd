"""Why a run ended: a typed value, read from the stored sentence."""

from __future__ import annotations

import pytest

from pwff_core.runs.store import EndKind, RunEnd, RunStatus
from pwff_core.runs.store.endings import (
    CANCELLED,
    engine_gone,
    not_started,
    run_end,
    stopped,
    store_damaged,
)


@pytest.mark.parametrize(
    ("status", "message", "kind", "rounds", "pid"),
    [
        (RunStatus.FINISHED, "", EndKind.FINISHED, None, None),
        (RunStatus.STOPPED, stopped(3, 27), EndKind.STOPPED, 3, None),
        (RunStatus.STOPPED, f"{stopped(3, 27)} The models are not kept: no room.", EndKind.STOPPED, 3, None),
        (RunStatus.STOPPED, CANCELLED, EndKind.CANCELLED, 0, None),
        (RunStatus.FAILED, engine_gone(17, 0, ""), EndKind.ENGINE_GONE, 0, 17),
        (RunStatus.FAILED, engine_gone(17, 1, ""), EndKind.ENGINE_GONE, 1, 17),
        (RunStatus.FAILED, engine_gone(None, 12, "Killed"), EndKind.ENGINE_GONE, 12, None),
        (RunStatus.FAILED, not_started("No module named torch"), EndKind.NOT_STARTED, None, None),
        (RunStatus.FAILED, store_damaged(4, 9), EndKind.STORE_DAMAGED, 4, None),
        (RunStatus.FAILED, "The loss is no longer a number. The rounds before are kept.", EndKind.DIVERGED, None, None),
        (RunStatus.FAILED, "The file cannot be kept in uploads.", EndKind.ERROR, None, None),
    ],
)
def test_an_ended_run_says_why(
    status: RunStatus, message: str, kind: EndKind, rounds: int | None, pid: int | None
) -> None:
    assert run_end(status, message) == RunEnd(kind, message, rounds, pid)


@pytest.mark.parametrize("status", [status for status in RunStatus if not status.ended])
def test_a_run_that_has_not_ended_has_no_end(status: RunStatus) -> None:
    assert run_end(status, "The engine loads the model.") is None


def test_only_two_kinds_of_message_say_what_is_kept() -> None:
    telling = [kind for kind in EndKind if RunEnd(kind, "").says_what_is_kept]
    assert telling == [EndKind.ENGINE_GONE, EndKind.DIVERGED]
