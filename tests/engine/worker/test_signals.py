"""SIGTERM and SIGINT end a run at once, whatever its worker is doing, and it can be resumed."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from pwff_core.engine.worker import heartbeat, recorded, signals
from pwff_core.records import RoundRecord
from pwff_core.runs.store import RunStatus, Store
from tests.support import scripted
from tests.support.scripted import federation, put
from tests.support.workers import CONFIG, kept, play

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGTERM to send")


@pytest.fixture
def run_id(store: Store) -> str:
    return store.create_run(CONFIG)


def hang() -> None:
    """Ten minutes of work, in which a signal comes."""
    threading.Timer(0.05, lambda: os.kill(os.getpid(), signal.SIGTERM)).start()
    time.sleep(600)


class Slow(scripted.Checkpointer):
    """One whose disk is slow: a copy waits for the one before, and the end for the last."""

    discarded: list[str] = []

    def save(self, script: scripted.Script, record: RoundRecord, position: int) -> None:
        if position == 3:
            hang()
        super().save(script, record, position)

    def discard(self) -> None:
        self.discarded.append("whatever was being written")


class SlowEnd(scripted.Checkpointer):
    """One that has much to write when the run ends."""

    def finish(self, finished: bool) -> None:
        hang()


def keeping(stand_in: type[scripted.Checkpointer]) -> Any:
    module: Any = scripted.checkpoint()
    module.Checkpointer = stand_in
    return module


def preparing(*given: object, **more: object) -> scripted.Script:
    hang()
    raise AssertionError("it goes no further")


def restoring(*given: object) -> int:
    hang()
    raise AssertionError("it goes no further")


def in_preparation() -> tuple[Any, Any]:
    module: Any = federation()
    module.prepare = preparing
    return module, None


def in_restoring() -> tuple[Any, Any]:
    module = scripted.checkpoint()
    module.restore = restoring  # type: ignore[attr-defined]
    return federation(), module


CASES: dict[str, tuple[Callable[[], tuple[Any, Any]], int]] = {
    "preparing": (in_preparation, 0),
    "restoring a checkpoint": (in_restoring, 0),
    "in a round": (lambda: (federation(lambda number: hang() if number == 2 else None), None), 1),
    "copying for a checkpoint": (lambda: (federation(), keeping(Slow)), 3),
    "ending": (lambda: (federation(), keeping(SlowEnd)), 5),
}


@pytest.mark.parametrize("doing", CASES)
def test_a_signal_is_heard_at_once_and_the_run_goes_on_later(
    store: Store, run_id: str, monkeypatch: pytest.MonkeyPatch, doing: str
) -> None:
    modules, done = CASES[doing]
    put(monkeypatch, *modules())
    with pytest.raises(KeyboardInterrupt):
        list(recorded(store, run_id))
    row = store.run(run_id)
    assert row.status is RunStatus.STOPPED
    assert row.message.startswith(f"Stopped after {done} of ")
    assert kept(store, run_id) == [*range(1, done + 1)]
    store.requeue(run_id, in_queue=False)
    again = play(store, federation(), monkeypatch, run_id)
    assert (again.status, kept(store, run_id)) == (RunStatus.FINISHED, [1, 2, 3, 4, 5])


def test_what_is_being_written_is_given_up(store: Store, run_id: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Slow, "discarded", [])
    put(monkeypatch, federation(), keeping(Slow))
    with pytest.raises(KeyboardInterrupt):
        list(recorded(store, run_id))
    assert Slow.discarded == ["whatever was being written"]


def test_an_interruption_that_a_library_swallows_comes_again(
    store: Store, run_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(heartbeat, "BEAT_S", 0.02)
    monkeypatch.setattr(signals, "SWALLOWED_S", 0.05)
    swallowed: list[int] = []

    def deaf(number: int) -> None:
        if number == 3:
            try:
                signal.raise_signal(signal.SIGINT)
            except KeyboardInterrupt:
                swallowed.append(number)
            time.sleep(600)

    with pytest.raises(KeyboardInterrupt):
        play(store, federation(deaf), monkeypatch, run_id)
    assert swallowed == [3]
    assert store.run(run_id).message == "Stopped after 2 of 5 rounds."


def test_an_error_that_a_signal_was_turned_into_is_a_stop(
    store: Store, run_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def importing(number: int) -> None:
        if number == 3:
            try:
                signal.raise_signal(signal.SIGTERM)
            except KeyboardInterrupt as error:
                raise ImportError("cannot import name 'Tensor' from partially initialized module") from error

    with pytest.raises(KeyboardInterrupt):
        play(store, federation(importing), monkeypatch, run_id)
    row = store.run(run_id)
    assert (row.status, row.message) == (RunStatus.STOPPED, "Stopped after 2 of 5 rounds.")


def test_the_heart_beats_while_a_round_takes_its_time(
    store: Store, run_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(heartbeat, "BEAT_S", 0.02)
    beats: set[float | None] = set()

    def long_round(number: int) -> None:
        deadline = time.monotonic() + 60
        while number == 1 and len(beats) < 4 and time.monotonic() < deadline:
            beats.add(store.run(run_id).heartbeat_at)

    play(store, federation(long_round), monkeypatch, run_id)
    assert len(beats) >= 4


def test_no_thread_is_left_when_a_run_has_ended(store: Store, run_id: str, monkeypatch: pytest.MonkeyPatch) -> None:
    before = set(threading.enumerate())
    play(store, federation(), monkeypatch, run_id)
    assert set(threading.enumerate()) <= before
