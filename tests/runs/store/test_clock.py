"""Clocks are set, heartbeats stop: no slot or lease is held for ever, and no living worker counts as dead."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator

import psutil
import pytest

from pwff_core.config import RunConfig
from pwff_core.runs import liveness
from pwff_core.runs.run_files import RunFiles
from pwff_core.runs.store import LEASE_S, STALE_S, RunStatus, Store
from tests.support.clock import Clock
from tests.support.scripted import record
from tests.support.store_tables import sql

CONFIG = RunConfig(clients=2)
JUMPS = [-1e8, -3600.0, 3600.0, 1e8]


@pytest.fixture
def run_id(store: Store) -> str:
    run_id = store.create_run(CONFIG)
    store.claim(run_id)
    store.append(run_id, record(1, run_id))
    return run_id


# launching


@pytest.mark.parametrize("jump_s", JUMPS)
def test_a_launch_times_out_after_a_minute_even_if_the_clock_is_set(store: Store, clock: Clock, jump_s: float) -> None:
    launched, waiting = store.create_run(CONFIG), store.create_run(CONFIG, in_queue=True)
    clock.jump(jump_s)
    clock.go(59.0)
    assert store.run(launched).status is RunStatus.QUEUED
    assert store.next_in_queue() is None
    clock.go(2.0)
    assert store.run(launched).status is RunStatus.FAILED
    assert store.next_in_queue() == waiting  # the slot is free


def test_a_run_launched_before_a_reboot_has_failed(store: Store, clock: Clock) -> None:
    launched = store.create_run(CONFIG)
    sql(store.path, "UPDATE runs SET launched_boot = 'another boot'")
    assert store.run(launched).status is RunStatus.FAILED


def test_a_run_in_the_queue_stays_there_after_a_reboot(store: Store) -> None:
    waiting = store.create_run(CONFIG, in_queue=True)
    sql(store.path, "UPDATE runs SET launched_boot = 'another boot', launched_uptime_s = 5")
    assert store.run(waiting).status is RunStatus.QUEUED
    assert Store(store.path).next_in_queue() == waiting


# leases


@pytest.mark.parametrize("jump_s", JUMPS)
def test_a_lease_of_a_viewer_who_left_expires_even_if_the_clock_is_set(
    store: Store, run_id: str, clock: Clock, jump_s: float
) -> None:
    store.take_over(run_id, "ada")
    clock.jump(jump_s)
    clock.go(LEASE_S)
    assert store.lease(run_id) is None
    store.pause(run_id, "bob")
    lease = store.snapshot(run_id, 0, "bob").lease
    assert lease is not None and lease.viewer == "bob"


@pytest.mark.parametrize("by_snapshot", [True, False])
def test_a_present_viewer_keeps_the_lease_after_the_clock_is_set_back(
    store: Store, run_id: str, clock: Clock, by_snapshot: bool
) -> None:
    store.take_over(run_id, "ada")
    since = store.lease(run_id)
    clock.go(1.0)
    clock.jump(-3600.0)
    if by_snapshot:
        assert store.snapshot(run_id, 0, "bob").lease is None  # nobody's until ada asks
        assert store.snapshot(run_id, 0, "ada").lease == since
    else:
        assert store.keep_lease(run_id, "ada")
    assert store.lease(run_id) == since
    clock.go(LEASE_S)
    assert store.lease(run_id) is None


# heartbeats


@pytest.mark.parametrize("status", [RunStatus.RUNNING, RunStatus.PAUSED])
@pytest.mark.parametrize(
    ("jump_s", "silence"),
    [
        (40.0, "for 40 s"),
        (7200.0, "for 2 h 00 min"),
        (-40.0, "since the computer's clock was set back"),
    ],
)
def test_a_living_engine_without_a_heartbeat_is_stalled_not_failed(
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
    assert store.next_in_queue() is None  # the stalled run keeps its slot
    RunFiles(store.path).log(run_id).parent.mkdir()
    RunFiles(store.path).log(run_id).write_text("The store is locked\n")
    assert store.run(run_id).message == f"{row.message} Its last words: The store is locked."
    store.heartbeat(run_id)
    assert (store.run(run_id).status, store.run(run_id).message) == (status, "")


def test_commands_to_a_stalled_engine_are_pending(store: Store, run_id: str, clock: Clock) -> None:
    clock.go(40.0)
    store.steer(run_id, "ada", {"channel.snr_db": 1.0})
    store.pause(run_id, "ada")
    assert (store.pending_changes(run_id), store.pending(run_id)) == ({"channel.snr_db": 1.0}, {"pause"})


def test_an_engine_that_is_gone_has_failed_not_stalled(store: Store, run_id: str, clock: Clock) -> None:
    clock.go(40.0)
    sql(store.path, "UPDATE runs SET process_birth = 'another boot:1', process_started_at = 0")
    assert store.run(run_id).status is RunStatus.FAILED


def test_a_stall_on_a_full_disk_names_the_disk(
    store: Store, run_id: str, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock.go(40.0)
    full = shutil.disk_usage(store.path.parent)._replace(free=3_200_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: {store.path.parent: full}[folder])
    folder = store.path.parent
    message = f"The disk of {folder} is full (3.2 MB left); make room, and the run goes on."
    assert store.run(run_id).message == message


@pytest.fixture
def engine() -> Iterator[psutil.Process]:
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    yield psutil.Process(child.pid)
    child.kill()
    child.communicate()


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGSTOP")
def test_a_stall_of_a_suspended_engine_says_so(store: Store, run_id: str, clock: Clock, engine: psutil.Process) -> None:
    me = f"pid = {engine.pid}, process_birth = '{liveness._birth(engine.pid)}'"
    sql(store.path, f"UPDATE runs SET {me}, process_started_at = {engine.create_time()}")
    engine.send_signal(signal.SIGSTOP)
    while engine.status() != psutil.STATUS_STOPPED:
        pass
    assert store.run(run_id).status is RunStatus.RUNNING  # a silence of less than ten seconds is not reported
    clock.go(40.0)
    row = store.run(run_id)
    assert row.status is RunStatus.STALLED
    assert row.message == (
        f"The engine is suspended (process {engine.pid}); it goes on where it was once it is continued."
    )
