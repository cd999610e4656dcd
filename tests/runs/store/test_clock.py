"""Clocks that jump, and engines that give no sign of life: nothing is held for ever, and nobody is declared dead."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from pwff_core.config import RunConfig
from pwff_core.runs import liveness
from pwff_core.runs.run_files import RunFiles
from pwff_core.runs.store import LEASE_S, STALE_S, RunStatus, Store
from tests.support.scripted import record
from tests.support.store_tables import sql

CONFIG = RunConfig(clients=2)
JUMPS = [-1e8, -3600.0, 3600.0, 1e8]


class Clock:
    """The computer's clocks, set by hand: the one on the wall, and the one that only goes on."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.wall, self.uptime = time.time(), time.monotonic()
        monkeypatch.setattr("time.time", lambda: self.wall)
        monkeypatch.setattr("time.monotonic", lambda: self.uptime)

    def go(self, seconds: float) -> None:
        self.wall += seconds
        self.uptime += seconds

    def jump(self, seconds: float) -> None:
        self.wall += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


@pytest.fixture
def store(path: Path) -> Store:
    return Store(path)


@pytest.fixture
def run_id(store: Store) -> str:
    found = store.create_run(CONFIG)
    store.claim(found)
    store.append(found, record(1, found))
    return found


# launching


@pytest.mark.parametrize("jump_s", JUMPS)
def test_a_launch_takes_a_minute_whatever_the_clock_does(store: Store, clock: Clock, jump_s: float) -> None:
    launched, waits = store.create_run(CONFIG), store.create_run(CONFIG, in_queue=True)
    clock.jump(jump_s)
    clock.go(59.0)
    assert store.run(launched).status is RunStatus.QUEUED
    assert store.next_in_queue() is None
    clock.go(2.0)
    assert store.run(launched).status is RunStatus.FAILED
    assert store.next_in_queue() == waits  # its slot is free


def test_a_run_that_was_launched_before_the_computer_started_anew_has_failed(store: Store, clock: Clock) -> None:
    launched = store.create_run(CONFIG)
    sql(store.path, "UPDATE runs SET launched_boot = 'another boot'")
    assert store.run(launched).status is RunStatus.FAILED


def test_a_run_that_waits_waits_on_after_the_computer_started_anew(store: Store) -> None:
    waits = store.create_run(CONFIG, in_queue=True)
    sql(store.path, "UPDATE runs SET launched_boot = 'another boot', launched_uptime_s = 5")
    assert store.run(waits).status is RunStatus.QUEUED
    assert Store(store.path).next_in_queue() == waits


# leases


@pytest.mark.parametrize("jump_s", JUMPS)
def test_a_lease_of_somebody_who_has_left_runs_out_whatever_the_clock_does(
    store: Store, run_id: str, clock: Clock, jump_s: float
) -> None:
    store.take_over(run_id, "ada")
    clock.jump(jump_s)
    clock.go(LEASE_S)
    assert store.lease(run_id) is None
    store.pause(run_id, "bob")
    lease = store.snapshot(run_id, 0, "bob").lease
    assert lease is not None and lease.viewer == "bob"


@pytest.mark.parametrize("look", [True, False])
def test_a_viewer_who_is_there_steers_on_after_the_clock_was_set_back(
    store: Store, run_id: str, clock: Clock, look: bool
) -> None:
    store.take_over(run_id, "ada")
    since = store.lease(run_id)
    clock.go(1.0)
    clock.jump(-3600.0)
    if look:
        assert store.snapshot(run_id, 0, "bob").lease is None  # nobody's, until she looks
        assert store.snapshot(run_id, 0, "ada").lease == since
    else:
        assert store.keep_lease(run_id, "ada")
    assert store.lease(run_id) == since
    clock.go(LEASE_S)
    assert store.lease(run_id) is None


# signs of life


@pytest.mark.parametrize("status", [RunStatus.RUNNING, RunStatus.PAUSED])
@pytest.mark.parametrize(
    ("jump_s", "silence"),
    [
        (40.0, "for 40 s"),
        (7200.0, "for 2 h 00 min"),
        (-40.0, "since the computer's clock was set back"),
    ],
)
def test_an_engine_without_a_sign_of_life_is_waited_for(
    store: Store, run_id: str, clock: Clock, status: RunStatus, jump_s: float, silence: str
) -> None:
    store.set_status(run_id, status)
    pid = store.run(run_id).pid
    clock.jump((STALE_S - 0.1) * (1 if jump_s > 0 else -1))
    assert store.run(run_id).status is status
    store.heartbeat(run_id)
    clock.jump(jump_s)
    row = store.run(run_id)
    assert row.status is RunStatus.STALLED and not row.status.ended
    assert row.message == f"No sign of life {silence}, but the engine is there (process {pid})."
    assert [row.status for row in store.runs()] == [RunStatus.STALLED]
    assert store.snapshot(run_id).row == row
    assert store.next_in_queue() is None  # it has its slot still
    RunFiles(store.path).log(run_id).parent.mkdir()
    RunFiles(store.path).log(run_id).write_text("The store is locked\n")
    assert store.run(run_id).message == f"{row.message} Its last words: The store is locked."
    store.heartbeat(run_id)
    assert (store.run(run_id).status, store.run(run_id).message) == (status, "")


def test_what_was_asked_of_an_engine_that_is_waited_for_is_told(store: Store, run_id: str, clock: Clock) -> None:
    clock.go(40.0)
    store.steer(run_id, "ada", {"channel.snr_db": 1.0})
    store.pause(run_id, "ada")
    assert (store.pending_changes(run_id), store.pending(run_id)) == ({"channel.snr_db": 1.0}, {"pause"})


def test_an_engine_that_is_gone_is_not_waited_for(store: Store, run_id: str, clock: Clock) -> None:
    clock.go(40.0)
    sql(store.path, "UPDATE runs SET process_birth = 'another boot:1', process_started_at = 0")
    assert store.run(run_id).status is RunStatus.FAILED


def test_a_full_disk_is_told_as_the_reason(
    store: Store, run_id: str, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock.go(40.0)
    full = shutil.disk_usage(store.path.parent)._replace(free=3_200_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: {store.path.parent: full}[folder])
    folder = store.path.parent
    said = f"The disk of {folder} is full (3.2 MB left); make room, and the run goes on."
    assert store.run(run_id).message == said


@pytest.fixture
def engine() -> Iterator[psutil.Process]:
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    yield psutil.Process(child.pid)
    child.kill()
    child.communicate()


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGSTOP")
def test_a_suspended_engine_is_told_as_the_reason(
    store: Store, run_id: str, clock: Clock, engine: psutil.Process
) -> None:
    me = f"pid = {engine.pid}, process_birth = '{liveness._birth(engine.pid)}'"
    sql(store.path, f"UPDATE runs SET {me}, process_started_at = {engine.create_time()}")
    engine.send_signal(signal.SIGSTOP)
    while engine.status() != psutil.STATUS_STOPPED:
        pass
    assert store.run(run_id).status is RunStatus.RUNNING  # for the first ten seconds nobody need know
    clock.go(40.0)
    row = store.run(run_id)
    assert row.status is RunStatus.STALLED
    assert row.message == (
        f"The engine is suspended (process {engine.pid}); it goes on where it was once it is continued."
    )
