"""Whether a process that once wrote down who it was is still there."""

from __future__ import annotations

import os
from typing import NamedTuple

import psutil

SAME_PROCESS_S = 30.0  # start times of one process may differ by this much: the computer's clock is set now and then


class Process(NamedTuple):
    """A process that cannot be taken for another: ids are given out again, a start time with them is not."""

    pid: int
    started_at: float  # Unix seconds


def this_process() -> Process:
    """The process that asks."""
    return Process(os.getpid(), psutil.Process().create_time())


def alive(process: Process) -> bool:
    """Whether it still works. A zombie, which only waits for its parent to notice its end, does not."""
    try:
        found = psutil.Process(process.pid)
        same = abs(found.create_time() - process.started_at) < SAME_PROCESS_S
        return bool(same and found.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False
    except psutil.AccessDenied:  # it is there but another user's, so nothing more can be known
        return True
