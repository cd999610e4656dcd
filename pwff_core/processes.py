"""How processes of our own are started: the same version of the package, on whatever system, considerate of others."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path


def module_command(module: str, *arguments: str) -> list[str]:
    """The command line of `python -m MODULE …`; modules are not looked for in the working folder (-P)."""
    return [sys.executable, "-P", "-m", module, *arguments]


def environment() -> dict[str, str]:
    """This process's, with the folder of this very package first: the child is the same version as its parent."""
    package_parent = str(Path(__file__).resolve().parent.parent)
    inherited = os.environ.get("PYTHONPATH")
    path = os.pathsep.join([package_parent, *([inherited] if inherited else [])])
    # Threads that wait without spinning leave the cores to the browser and the page.
    waiting = {"OMP_WAIT_POLICY": os.environ.get("OMP_WAIT_POLICY", "PASSIVE")}
    return {**os.environ, **waiting, "PYTHONPATH": path, "PYTHONUNBUFFERED": "1"}


def creation_flags() -> int:
    """What Windows needs for the counterpart of a new session; elsewhere nothing."""
    if sys.platform == "win32":
        return subprocess.CREATE_NEW_PROCESS_GROUP | subprocess.CREATE_NO_WINDOW
    return 0
