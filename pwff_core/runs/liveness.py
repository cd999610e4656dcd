"""Whether a recorded process is still alive, and how much time has passed, both without trust in the clock.

The computer's clock is set now and then, by hand or by the network, and a laptop sleeps. So processes and time limits
are recorded in ticks since the computer started, which nobody can set.
"""

from __future__ import annotations

import math
import os
import time
from pathlib import Path
from typing import NamedTuple

import psutil

SAME_PROCESS_S = 30.0  # where only the clock tells processes apart: start times of one may differ by this much
_BOOT = Path("/proc/sys/kernel/random/boot_id")  # of Linux; a new one each time that the computer starts
_START_TICKS = 19  # place of the start time among the fields of /proc/PID/stat that follow the name, from 0


class Process(NamedTuple):
    """A process that cannot be confused with another: an id is reused, an id with a start time is not."""

    pid: int
    started_at: float  # Unix seconds; these change when the clock is set
    birth: str = ""  # boot and ticks since then, which do not change; "" where the system does not tell


class Moment(NamedTuple):
    """A point in time that does not depend on the clock; the time that the computer sleeps does not count."""

    boot: str  # which start of the computer it belongs to; "" where the system does not tell
    uptime_s: float


def this_process() -> Process:
    """The calling process."""
    return Process(os.getpid(), psutil.Process().create_time(), _birth(os.getpid()))


def alive(process: Process) -> bool:
    """Whether it is still there. A zombie, which only waits for its parent to notice its end, is not."""
    try:
        candidate = psutil.Process(process.pid)
        if process.birth:
            same = _birth(process.pid) == process.birth
        else:
            same = abs(candidate.create_time() - process.started_at) < SAME_PROCESS_S
        return bool(same and candidate.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False
    except psutil.AccessDenied:  # it is another user's: only that it exists can be seen
        return True


def suspended(pid: int) -> bool:
    """Whether somebody has stopped the process for a while (Ctrl-Z, SIGSTOP, a debugger)."""
    try:
        return psutil.Process(pid).status() in (psutil.STATUS_STOPPED, psutil.STATUS_TRACING_STOP)
    except psutil.Error:  # it has just ended, or is another user's
        return False


def this_moment() -> Moment:
    """Now."""
    return Moment(_boot(), time.monotonic())


def passed_s(since: Moment, now: Moment | None = None) -> float:
    """Seconds from one moment to another (default: now); infinity if the computer was started anew between them."""
    now = now or this_moment()
    return now.uptime_s - since.uptime_s if now.boot == since.boot and now.uptime_s >= since.uptime_s else math.inf


def _boot() -> str:
    try:
        return _BOOT.read_text("ascii").strip()
    except OSError:  # not Linux
        return ""


def _birth(pid: int) -> str:
    boot = _boot()
    try:
        fields = Path(f"/proc/{pid}/stat").read_text("utf-8", "replace")
    except OSError:  # not Linux, or the process is gone
        return ""
    return f"{boot}:{fields.rpartition(')')[2].split()[_START_TICKS]}" if boot else ""
