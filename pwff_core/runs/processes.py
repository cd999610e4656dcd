"""How processes of our own are started: the same version of the package, on whatever system, considerate of others."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import psutil

PARALLEL_VARIABLE = "PWFF_PARALLEL"  # how many runs may play at a time
HOSTED_VARIABLE = "PWFF_HOSTED"  # "1" where strangers use the pages: `pwff app --hosted`
_SECRET_NAME = re.compile(
    r"(^|_)(API_?KEY|KEY|KEYS|TOKEN|TOKENS|SECRET|SECRETS|PASSWORD|PASSWD|PASSPHRASE|CREDENTIAL|CREDENTIALS|AUTH|COOKIE)(_|$)",
    re.IGNORECASE,
)
_SECRET_VALUE = re.compile(r"://[^/\s@]+@")  # an address with a user's name or password in it


def module_command(module: str, *arguments: str) -> list[str]:
    """The command line of `python -m MODULE …`; modules are not looked for in the working folder (-P)."""
    return [sys.executable, "-P", "-m", module, *arguments]


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
    """This process's, with the folder of this very package first: the child is the same version as its parent.

    Where strangers choose what the child does, it has no secrets to give away and does not ask the Hub.
    """
    package_parent = str(Path(__file__).resolve().parents[2])
    inherited = os.environ.get("PYTHONPATH")
    path = os.pathsep.join([package_parent, *([inherited] if inherited else [])])
    # Threads that wait without spinning leave the cores to the browser and the page.
    waiting = {"OMP_WAIT_POLICY": os.environ.get("OMP_WAIT_POLICY", "PASSIVE")}
    given = {**without_secrets(os.environ), "HF_HUB_OFFLINE": "1"} if hosted() else os.environ
    return {**given, **waiting, "PYTHONPATH": path, "PYTHONUNBUFFERED": "1"}


def cores() -> int:
    """Cores that this process may use; two threads of one core count once."""
    usable = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
    return max(1, min(usable, psutil.cpu_count(logical=False) or usable))


def core_share() -> dict[str, str]:
    """What gives one of several runs that play side by side its share of the cores; nothing where one has them all.

    To be added to the environment of a run's worker. A number of threads that somebody has chosen stays.
    """
    text = os.environ.get(PARALLEL_VARIABLE, "")
    runs = int(text) if text.isascii() and text.isdecimal() else 1
    if runs <= 1 or "OMP_NUM_THREADS" in os.environ:
        return {}
    return {"OMP_NUM_THREADS": str(max(1, cores() // runs))}


def creation_flags() -> int:
    """What Windows needs for the counterpart of a new session; elsewhere nothing."""
    if sys.platform == "win32":
        return subprocess.CREATE_NEW_PROCESS_GROUP | subprocess.CREATE_NO_WINDOW
    return 0
