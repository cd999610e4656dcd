"""A process is recognized, and time is measured, even if the clock is set."""

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


def process_of(pid: int) -> Process:
    return Process(pid, psutil.Process(pid).create_time(), liveness._birth(pid))


def test_this_process_is_alive() -> None:
    me = liveness.this_process()
    assert me.pid == os.getpid() and liveness.alive(me)
    assert liveness.this_process().birth == me.birth


@linux
def test_a_birth_is_the_boot_and_the_ticks_since_then(child: subprocess.Popen[bytes]) -> None:
    boot, ticks = process_of(child.pid).birth.split(":")
    assert boot == Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    since_boot = int(ticks) / os.sysconf("SC_CLK_TCK")
    assert 0 <= time.clock_gettime(time.CLOCK_BOOTTIME) - since_boot < 600
    assert process_of(child.pid).birth == process_of(child.pid).birth != process_of(os.getpid()).birth


@linux
@pytest.mark.parametrize("jump_s", [-1e9, -3600.0, 3600.0, 1e9])
def test_a_process_is_recognized_after_the_clock_is_set(child: subprocess.Popen[bytes], jump_s: float) -> None:
    process = process_of(child.pid)
    recorded = process._replace(started_at=process.started_at - jump_s)  # by the clock as it was before
    assert liveness.alive(recorded)
    child.kill()
    child.wait()
    assert not liveness.alive(recorded)


@linux
def test_another_boot_or_start_is_another_process(child: subprocess.Popen[bytes]) -> None:
    process = process_of(child.pid)
    boot, ticks = process.birth.split(":")
    assert not liveness.alive(process._replace(birth=f"{boot}:{int(ticks) + 1}"))
    assert not liveness.alive(process._replace(birth=f"00000000-0000-0000-0000-000000000000:{ticks}"))
    assert liveness.alive(process._replace(started_at=0.0))


@pytest.mark.parametrize(("off_s", "alive"), [(0.0, True), (SAME_PROCESS_S - 5, True), (SAME_PROCESS_S + 5, False)])
def test_without_a_birth_the_start_times_must_be_close(
    child: subprocess.Popen[bytes], off_s: float, alive: bool
) -> None:
    process = process_of(child.pid)
    assert liveness.alive(Process(child.pid, process.started_at - off_s)) == alive
    assert liveness.alive(Process(child.pid, process.started_at + off_s)) == alive


@linux
def test_a_program_s_name_may_hold_brackets_and_blanks(tmp_path: Path) -> None:
    program = tmp_path / "a) R 1 (b"
    program.symlink_to("/bin/sleep")
    child = subprocess.Popen([program, "60"])
    try:
        process = process_of(child.pid)
        assert process.birth.partition(":")[2].isdecimal() and liveness.alive(process)
    finally:
        child.kill()
        child.wait()


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGSTOP")
def test_a_process_is_suspended_until_it_is_continued(child: subprocess.Popen[bytes]) -> None:
    assert not liveness.suspended(child.pid)
    child.send_signal(signal.SIGSTOP)
    deadline = time.monotonic() + 60
    while not liveness.suspended(child.pid):
        assert time.monotonic() < deadline
    assert liveness.alive(process_of(child.pid))
    child.send_signal(signal.SIGCONT)
    while liveness.suspended(child.pid):
        assert time.monotonic() < deadline
    child.kill()
    child.wait()
    assert not liveness.suspended(child.pid)


def test_seconds_are_counted_by_the_uptime() -> None:
    before, since, after = time.monotonic(), liveness.this_moment(), time.monotonic()
    assert before <= since.uptime_s <= after
    assert liveness.passed_s(Moment("a boot", 1000.0), Moment("a boot", 1012.5)) == 12.5
    assert liveness.passed_s(since._replace(uptime_s=since.uptime_s - 12.5)) >= 12.5


def test_a_moment_before_a_reboot_is_infinitely_long_ago() -> None:
    now = liveness.this_moment()
    assert liveness.passed_s(Moment("another boot", now.uptime_s)) == math.inf
    assert liveness.passed_s(Moment(now.boot, now.uptime_s + 3600)) == math.inf  # where the system names no boots
    assert liveness.passed_s(Moment(now.boot, -math.inf)) == math.inf
