"""Who a process is and how long ago something was, whatever becomes of the clock."""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from pwff_core.runs import liveness
from pwff_core.runs.liveness import SAME_PROCESS_S, Moment, Process

linux = pytest.mark.skipif(sys.platform != "linux", reason="/proc is Linux's")


@pytest.fixture
def child() -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    yield process
    process.kill()
    process.communicate()


def of(pid: int) -> Process:
    return Process(pid, psutil.Process(pid).create_time(), liveness._birth(pid))


def test_this_process_is_alive() -> None:
    me = liveness.this_process()
    assert me.pid == os.getpid() and liveness.alive(me)
    assert liveness.this_process().birth == me.birth


@linux
def test_a_birth_is_the_boot_and_the_ticks_since_then(child: subprocess.Popen[bytes]) -> None:
    boot, ticks = of(child.pid).birth.split(":")
    assert boot == Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    since_boot = int(ticks) / os.sysconf("SC_CLK_TCK")
    assert 0 <= time.clock_gettime(time.CLOCK_BOOTTIME) - since_boot < 600
    assert of(child.pid).birth == of(child.pid).birth != of(os.getpid()).birth


@linux
@pytest.mark.parametrize("jump_s", [-1e9, -3600.0, 3600.0, 1e9])
def test_a_clock_that_is_set_changes_no_process(
    child: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch, jump_s: float
) -> None:
    before = of(child.pid)
    create_time = psutil.Process.create_time
    monkeypatch.setattr(psutil.Process, "create_time", lambda self: create_time(self) + jump_s)
    assert liveness.alive(before)
    child.kill()
    child.wait()
    assert not liveness.alive(before)


@linux
def test_another_boot_or_another_start_is_another_process(child: subprocess.Popen[bytes]) -> None:
    found = of(child.pid)
    boot, ticks = found.birth.split(":")
    assert not liveness.alive(found._replace(birth=f"{boot}:{int(ticks) + 1}"))
    assert not liveness.alive(found._replace(birth=f"00000000-0000-0000-0000-000000000000:{ticks}"))
    assert liveness.alive(found._replace(started_at=0.0))


@pytest.mark.parametrize(("off_s", "alive"), [(0.0, True), (SAME_PROCESS_S - 5, True), (SAME_PROCESS_S + 5, False)])
def test_without_a_birth_the_start_time_must_be_about_the_same(
    child: subprocess.Popen[bytes], off_s: float, alive: bool
) -> None:
    found = of(child.pid)
    assert liveness.alive(Process(child.pid, found.started_at - off_s)) == alive
    assert liveness.alive(Process(child.pid, found.started_at + off_s)) == alive


@linux
def test_a_name_with_brackets_and_blanks_does_not_matter(tmp_path: Path) -> None:
    odd = tmp_path / "a) R 1 (b"
    odd.symlink_to("/bin/sleep")
    process = subprocess.Popen([odd, "60"])
    try:
        found = of(process.pid)
        assert found.birth.partition(":")[2].isdecimal() and liveness.alive(found)
    finally:
        process.kill()
        process.wait()


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGSTOP")
def test_a_process_is_suspended_until_it_is_continued(child: subprocess.Popen[bytes]) -> None:
    assert not liveness.suspended(child.pid)
    child.send_signal(signal.SIGSTOP)
    deadline = time.monotonic() + 60
    while not liveness.suspended(child.pid):
        assert time.monotonic() < deadline
    assert liveness.alive(of(child.pid))
    child.send_signal(signal.SIGCONT)
    while liveness.suspended(child.pid):
        assert time.monotonic() < deadline
    child.kill()
    child.wait()
    assert not liveness.suspended(child.pid)


def test_seconds_pass_by_the_uptime_and_not_by_the_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "monotonic", lambda: 1000.0)
    since = liveness.this_moment()
    monkeypatch.setattr(time, "monotonic", lambda: 1012.5)
    monkeypatch.setattr(time, "time", lambda: -1e9)
    assert liveness.passed_s(since) == 12.5


def test_what_was_before_the_computer_started_is_long_ago() -> None:
    now = liveness.this_moment()
    assert liveness.passed_s(Moment("another boot", now.uptime_s)) == math.inf
    assert liveness.passed_s(Moment(now.boot, now.uptime_s + 3600)) == math.inf  # where boots cannot be told apart
    assert liveness.passed_s(Moment(now.boot, -math.inf)) == math.inf
