"""Retry: while the store cannot be written, the run waits, reports the reason once, and then continues."""

from __future__ import annotations

import os
import signal
import sqlite3
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from pwff_core.engine.worker import Timing, play_run
from pwff_core.engine.worker.retry import Retry
from pwff_core.engine.worker.signals import Signals
from pwff_core.errors import StoreError
from pwff_core.records import RoundRecord
from pwff_core.runs.store import RunStatus, Store
from tests.support.scripted import ScriptedEngine
from tests.support.workers import CONFIG, HASTY, kept, play

FULL = "The store runs.sqlite has no room left on its disk; make room, or choose another file."


@pytest.fixture
def store(store: Store) -> Store:
    """A store that does not wait for a lock, so that the worker tries again."""
    return Store(store.path, timeout_s=0.05)


@pytest.fixture
def run_id(store: Store) -> str:
    return store.create_run(CONFIG)


@contextmanager
def locked(path: Path) -> Iterator[sqlite3.Connection]:
    """Locks a store, as another program that writes."""
    with closing(sqlite3.connect(path, isolation_level=None, timeout=60, check_same_thread=False)) as connection:
        connection.execute("BEGIN EXCLUSIVE")
        yield connection
        connection.execute("ROLLBACK")


# errors that pass


def test_a_run_waits_for_a_locked_store(store: Store, run_id: str, capsys: pytest.CaptureFixture[str]) -> None:
    held: list[threading.Thread] = []
    let_go = threading.Event()

    def hold() -> None:
        with locked(store.path):
            taken.set()
            let_go.wait(60)

    taken = threading.Event()

    def before_round(number: int) -> None:
        if number == 3:
            held.append(threading.Thread(target=hold))
            held[0].start()
            assert taken.wait(60)

    reports: list[str] = []

    def report(text: str) -> None:
        reports.append(text)
        if len(reports) == 1:
            threading.Timer(0.3, let_go.set).start()  # many tries later

    row = play(store, ScriptedEngine(before_round), run_id, HASTY, report=report)
    held[0].join()
    assert (row.status, kept(store, run_id)) == (RunStatus.FINISHED, [1, 2, 3, 4, 5])
    assert len(reports) == 2  # after many tries
    assert "is locked by another program" in reports[0] and reports[0].endswith("goes on when that is over.")
    assert reports[1] == "The store can be used again; the run goes on."


@pytest.mark.parametrize(
    "write", ["claim", "describe", "append", "acknowledge", "set_status", "finish", "pending_commands", "rounds"]
)
def test_every_call_is_tried_again(store: Store, run_id: str, write: str) -> None:
    """A run that is paused and steered is the same if one of the store's calls fails three times."""
    original: Callable[..., object] = getattr(Store, write)
    tries: list[int] = []

    def failing(self: Store, *arguments: object, **named: object) -> object:
        tries.append(1)
        if len(tries) <= 3:
            raise StoreError(FULL, passing=True)
        return original(self, *arguments, **named)

    def before_round(number: int) -> None:
        if number == 2:
            store.steer(run_id, "me", {"channel.snr_db": 9.0})
            store.pause(run_id, "me")
            threading.Timer(0.3, lambda: store.resume(run_id, "me")).start()

    flaky: Store = type("Flaky", (Store,), {write: failing})(store.path)
    stream = play_run(flaky, run_id, engine=ScriptedEngine(before_round), timing=HASTY)
    assert [record.round for record in stream] == [1, 2, 3, 4, 5]
    row = store.run(run_id)
    assert (row.status, row.message, kept(store, run_id)) == (RunStatus.FINISHED, "", [1, 2, 3, 4, 5])
    assert [steering.position for steering in store.steerings(run_id)] == [3]
    assert len(tries) > 3


def recorded_retry() -> tuple[Retry, list[float], list[str]]:
    """A Retry that does not sleep, with its pauses in seconds and its reports."""
    pauses: list[float] = []
    reports: list[str] = []
    return Retry(Signals(), report=reports.append, sleep=pauses.append), pauses, reports


def outcomes(*results: object) -> Callable[[], object]:
    """A function that returns one result after another, and raises those that are errors."""
    remaining = iter(results)

    def call() -> object:
        result = next(remaining)
        if isinstance(result, Exception):
            raise result
        return result

    return call


def test_pauses_grow_from_one_second_to_ten() -> None:
    retry, pauses, _ = recorded_retry()
    assert retry(outcomes(*[StoreError(FULL, passing=True)] * 7, "written")) == "written"
    assert pauses == [1.0, 2.0, 4.0, 8.0, 10.0, 10.0, 10.0]


def test_each_reason_is_reported_once() -> None:
    retry, _, reports = recorded_retry()
    full, busy = StoreError(FULL, passing=True), StoreError("It is locked.", passing=True)
    retry(outcomes(full, full, busy, full, busy, "written"))
    over = "The run waits, and goes on when that is over."
    assert reports == [f"{FULL} {over}", f"It is locked. {over}", "The store can be used again; the run goes on."]
    retry(outcomes("written"))
    assert len(reports) == 3


def test_lasting_errors_are_raised_at_once() -> None:
    retry, pauses, reports = recorded_retry()
    with pytest.raises(StoreError, match="not a store"):
        retry(outcomes(StoreError(FULL, passing=True), StoreError("It is not a store.")))
    with pytest.raises(StoreError, match="no room"):
        retry(outcomes(*[StoreError(FULL, passing=True)] * 2), within_s=0.0)  # no time left
    assert len(pauses) == 1 and len(reports) == 1


def test_a_report_that_cannot_be_written_does_not_end_the_run(
    store: Store, run_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Full:
        def write(self, text: str) -> int:
            raise OSError(28, "No space left on device")

        def flush(self) -> None:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(sys, "stderr", Full())
    tries = []

    class FullAtFirst(Store):
        def append(self, run_id: str, record: RoundRecord) -> None:
            tries.append(record.round)
            if len(tries) < 4:
                raise StoreError(FULL, passing=True)
            super().append(run_id, record)

    assert play(FullAtFirst(store.path), ScriptedEngine(), run_id, HASTY).status is RunStatus.FINISHED
    assert tries == [1, 1, 1, 1, 2, 3, 4, 5]


@pytest.mark.skipif(sys.platform == "win32" or os.geteuid() == 0, reason="these permissions bind nobody here")
def test_a_run_waits_for_a_read_only_store(store: Store, run_id: str) -> None:
    def before_round(number: int) -> None:
        if number == 3:
            os.chmod(store.path.parent, 0o500)
            os.chmod(store.path, 0o400)
            threading.Timer(0.3, lambda: [os.chmod(store.path.parent, 0o700), os.chmod(store.path, 0o600)]).start()

    row = play(store, ScriptedEngine(before_round), run_id, HASTY)
    assert (row.status, kept(store, run_id)) == (RunStatus.FINISHED, [1, 2, 3, 4, 5])


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGTERM to send")
def test_a_signal_ends_the_wait_at_once(store: Store, run_id: str) -> None:
    reports: list[str] = []

    def report(text: str) -> None:
        reports.append(text)
        if "waits" in text:
            threading.Timer(0.1, lambda: os.kill(os.getpid(), signal.SIGTERM)).start()

    def lock(number: int) -> None:
        if number == 3:
            store_lock.execute("BEGIN EXCLUSIVE")

    with closing(sqlite3.connect(store.path, isolation_level=None, timeout=60)) as store_lock:
        with pytest.raises(KeyboardInterrupt):
            play(store, ScriptedEngine(lock), run_id, Timing(600.0, 600.0), report=report)
        store_lock.execute("ROLLBACK")
    assert kept(store, run_id) == [1, 2]
    assert reports[-1].startswith("The run was stopped, and its rounds are kept, but that could not be written down")
