"""Child processes: every one is started here, with the same version of the package and without our secrets."""

from __future__ import annotations

import os
import queue
import re
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import IO

import psutil

WORKER, CHAT_SERVER = "pwff_core.engine.worker", "pwff_core.engine.chat_server"  # modules that run as processes
FORMER_WORKER = "pwff_core.worker"  # what the version before called its worker: one may still be at work
HOSTED_VARIABLE = "PWFF_HOSTED"  # "1" where strangers use the pages: `pwff app --hosted`
_SECRET_NAME = re.compile(
    r"(^|_)(API_?KEY|KEY|KEYS|TOKEN|TOKENS|SECRET|SECRETS|PASSWORD|PASSWD|PASSPHRASE|CREDENTIAL|CREDENTIALS|AUTH|COOKIE)(_|$)",
    re.IGNORECASE,
)
_SECRET_VALUE = re.compile(r"://[^/\s@]+@")  # an address with a user's name or password in it


def module_command(module: str, *arguments: str) -> list[str]:
    """The command line of `python -m MODULE …`; -P keeps Python from finding modules in the working folder."""
    return [sys.executable, "-P", "-m", module, *arguments]


def spawn(
    module: str,
    *arguments: str,
    stdin: int = subprocess.DEVNULL,
    stdout: int | IO[bytes] | IO[str] = subprocess.DEVNULL,
    log: int | IO[bytes] | IO[str] = subprocess.DEVNULL,
    variables: Mapping[str, str] | None = None,
) -> subprocess.Popen[str]:
    """Starts `python -m MODULE …` in a session of its own, so that it may outlive this process.

    `log` is an open file that gets what the process writes to stderr; `variables` are added to its environment. OSError
    if the process cannot be started.
    """
    return subprocess.Popen(
        module_command(module, *arguments),
        stdin=stdin,
        stdout=stdout,
        stderr=log,
        encoding="utf-8",
        env=environment() | dict(variables or {}),
        start_new_session=True,
        creationflags=creation_flags(),
    )


def read_lines(pipe: IO[str]) -> queue.SimpleQueue[str]:
    """A queue of the lines that a process writes, and "" at their end.

    A thread fills it: reading from a queue can have a timeout, reading from a pipe cannot on every system.
    """
    lines: queue.SimpleQueue[str] = queue.SimpleQueue()

    def read() -> None:
        with pipe:
            for line in pipe:
                lines.put(line)
            lines.put("")

    threading.Thread(target=read, daemon=True).start()
    return lines


def hosted() -> bool:
    """Whether strangers use the pages of this process, or of the one that started it."""
    return os.environ.get(HOSTED_VARIABLE) == "1"


def without_secrets(variables: Mapping[str, str]) -> dict[str, str]:
    """The variables whose names do not say that they hold a key, token or password, and whose values hold no login."""
    return {
        name: value
        for name, value in variables.items()
        if not _SECRET_NAME.search(name) and not _SECRET_VALUE.search(value)
    }


def environment() -> dict[str, str]:
    """A child's environment: this process's, with the folder of this package first, so that both are one version.

    In a hosted app, where strangers choose what the child does, it gets no secrets and does not ask the Hub.
    """
    package_parent = str(Path(__file__).resolve().parents[2])
    inherited = os.environ.get("PYTHONPATH")
    path = os.pathsep.join([package_parent, *([inherited] if inherited else [])])
    # threads that wait without spinning leave the cores to the browser and the page
    waiting = {"OMP_WAIT_POLICY": os.environ.get("OMP_WAIT_POLICY", "PASSIVE")}
    given = {**without_secrets(os.environ), "HF_HUB_OFFLINE": "1"} if hosted() else os.environ
    return {**given, **waiting, "PYTHONPATH": path, "PYTHONUNBUFFERED": "1"}


def cores() -> int:
    """Cores that this process may use; two threads of one core count once."""
    usable = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
    return max(1, min(usable, psutil.cpu_count(logical=False) or usable))


def creation_flags() -> int:
    """Windows' counterpart of a new session; 0 elsewhere."""
    if sys.platform == "win32":
        return subprocess.CREATE_NEW_PROCESS_GROUP | subprocess.CREATE_NO_WINDOW
    return 0
