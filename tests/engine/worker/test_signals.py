"""SIGTERM and SIGINT end a run at once, whatever its worker is doing, and the run can be resumed."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from pwff_core.config import RunConfig
from pwff_core.engine.worker import play_run
from pwff_core.records import RoundRecord
from pwff_core.runs.store import RunStatus, Store
from tests.support import scripted
from tests.support.scripted import ScriptedEngine
from tests.support.workers import CONFIG, HASTY, kept, play

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGTERM to send")


@pytest.fixture
def run_id(store: Store) -> str:
    return store.create_run(CONFIG)


def hang() -> None:
    """Works for ten minutes; a signal comes soon."""
    threading.Timer(0.05, lambda: os.kill(os.getpid(), signal.SIGTERM)).start()
    time.sleep(600)


class SlowCopy(scripted.Checkpointer):
    """A checkpointer that hangs while it copies the state after round 3."""

    def __init__(self, folder: Path, every: int) -> None:
        super().__init__(folder, every)
        self.discarded = False

    def save(self, script: scripted.Script, record: RoundRecord, position: int) -> None:
        if position == 3:
            hang()
        super().save(script, record, position)

    def discard(self) -> None:
        self.discarded = True


class SlowEnd(scripted.Checkpointer):
    """A checkpointer that hangs at the end of the run."""

    def finish(self, finished: bool) -> None:
        hang()


class SlowToPrepare(ScriptedEngine):
    def prepare(self, config: RunConfig, run_id: str, *, store_path: Path, force: bool) -> Any:
        hang()


class SlowToRestore(ScriptedEngine):
    def restore(self, *arguments: Any) -> int:
        hang()
        raise AssertionError("it goes no further")


class WithCheckpointer(ScriptedEngine):
    """An engine with a checkpointer of the given type."""

    def __init__(self, kind: type[scripted.Checkpointer]) -> None:
        super().__init__()
        self._kind = kind

    def checkpointer(self, folder: Path, every: int) -> Any:
        self.written_by = self._kind(folder, every)
        return self.written_by


CASES: dict[str, tuple[ScriptedEngine, int]] = {
    "preparing": (SlowToPrepare(), 0),
    "restoring a checkpoint": (SlowToRestore(), 0),
    "in a round": (ScriptedEngine(lambda number: hang() if number == 2 else None), 1),
    "copying for a checkpoint": (WithCheckpointer(SlowCopy), 3),
    "ending": (WithCheckpointer(SlowEnd), 5),
}


@pytest.mark.parametrize("doing", CASES)
def test_a_signal_stops_a_run_at_once_and_it_can_be_resumed(store: Store, run_id: str, doing: str) -> None:
    engine, done = CASES[doing]
    with pytest.raises(KeyboardInterrupt):
        list(play_run(store, run_id, engine=engine))
    row = store.run(run_id)
    assert row.status is RunStatus.STOPPED
    assert row.message.startswith(f"Stopped after {done} of ")
    assert kept(store, run_id) == [*range(1, done + 1)]
    store.requeue(run_id, in_queue=False)
    resumed = play(store, ScriptedEngine(), run_id)
    assert (resumed.status, kept(store, run_id)) == (RunStatus.FINISHED, [1, 2, 3, 4, 5])


def test_a_signal_discards_an_unfinished_checkpoint(store: Store, run_id: str) -> None:
    engine = WithCheckpointer(SlowCopy)
    with pytest.raises(KeyboardInterrupt):
        list(play_run(store, run_id, engine=engine))
    assert isinstance(engine.written_by, SlowCopy) and engine.written_by.discarded


def test_an_interruption_that_a_library_swallows_is_raised_again(store: Store, run_id: str) -> None:
    swallowed: list[int] = []

    def deaf(number: int) -> None:
        if number == 3:
            try:
                signal.raise_signal(signal.SIGINT)
            except KeyboardInterrupt:
                swallowed.append(number)
            time.sleep(600)

    with pytest.raises(KeyboardInterrupt):
        play(store, ScriptedEngine(deaf), run_id, HASTY._replace(swallowed_s=0.05))
    assert swallowed == [3]
    assert store.run(run_id).message == "Stopped after 2 of 5 rounds."


def test_an_error_that_is_caused_by_a_signal_is_a_stop(store: Store, run_id: str) -> None:
    def importing(number: int) -> None:
        if number == 3:
            try:
                signal.raise_signal(signal.SIGTERM)
            except KeyboardInterrupt as error:
                raise ImportError("cannot import name 'Tensor' from partially initialized engine") from error

    with pytest.raises(KeyboardInterrupt):
        play(store, ScriptedEngine(importing), run_id)
    row = store.run(run_id)
    assert (row.status, row.message) == (RunStatus.STOPPED, "Stopped after 2 of 5 rounds.")


def test_heartbeats_go_on_during_a_long_round(store: Store, run_id: str) -> None:
    beats: set[float | None] = set()

    def long_round(number: int) -> None:
        deadline = time.monotonic() + 60
        while number == 1 and len(beats) < 4 and time.monotonic() < deadline:
            beats.add(store.run(run_id).heartbeat_at)

    play(store, ScriptedEngine(long_round), run_id, HASTY)
    assert len(beats) >= 4


def test_no_thread_is_left_when_a_run_has_ended(store: Store, run_id: str) -> None:
    before = set(threading.enumerate())
    play(store, ScriptedEngine(), run_id)
    assert set(threading.enumerate()) <= before
