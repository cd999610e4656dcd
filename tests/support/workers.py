"""How tests play a run: in this process, or in a worker of its own, with a script in the federation's place."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from pwff_core.config import InstructionConfig, RunConfig
from pwff_core.engine.worker import recorded
from pwff_core.engine.worker.__main__ import main as main_of_worker
from pwff_core.runs import processes
from pwff_core.runs.run_files import RunFiles
from pwff_core.runs.store import RunRow, Store
from tests.support import scripted

CONFIG = RunConfig(clients=2, instruction=InstructionConfig(rounds=5))


def play(store: Store, module: ModuleType, monkeypatch: pytest.MonkeyPatch, run_id: str = "") -> RunRow:
    """Plays a run of five rounds with the module in the federation's place, and returns its row."""
    scripted.put(monkeypatch, module)
    run_id = run_id or store.create_run(CONFIG)
    try:
        for _ in recorded(store, run_id):
            pass
    finally:
        row = store.run(run_id)
    return row


def kept(store: Store, run_id: str) -> list[int]:
    return [found.round for _, found in store.rounds(run_id)]


def wait_until(condition: Callable[[], object], seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come to that in time"
        time.sleep(0.02)


# a worker as a process, that plays a script and whose successors do

PLAYER = "import sys; from tests.support import workers; sys.exit(workers.main(sys.argv[1], sys.argv[2:]))"


def command(seconds_a_round: float, *arguments: str) -> list[str]:
    """The command line of a worker whose rounds each take so long."""
    return [sys.executable, "-c", PLAYER, str(seconds_a_round), *arguments]


def main(seconds_a_round: str, arguments: list[str]) -> int:
    """What `command` runs."""
    scripted.install_slow(float(seconds_a_round))
    install(float(seconds_a_round))
    return main_of_worker(arguments)


def install(seconds_a_round: float) -> None:
    """From now on `launch` starts such workers."""
    processes.module_command = lambda module, *arguments: command(seconds_a_round, *arguments)


def start(store: Store, run_id: str, seconds_a_round: float) -> subprocess.Popen[bytes]:
    """Starts such a worker, which logs as a launched one does."""
    log = RunFiles(store.path).log(run_id)
    log.parent.mkdir(exist_ok=True)
    with log.open("ab") as output:
        return subprocess.Popen(
            command(seconds_a_round, run_id, "--store", str(store.path)),
            env=processes.environment(),
            cwd=Path(__file__).resolve().parents[2],
            stdout=output,
            stderr=subprocess.STDOUT,
        )
