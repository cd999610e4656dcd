"""How tests play a run: in this process, or in a worker of its own, with a script in the engine's place."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import ModuleType

import pytest

from pwff_core.config import InstructionConfig, RunConfig
from pwff_core.engine.worker import recorded
from pwff_core.engine.worker.__main__ import main
from pwff_core.runs import scheduler
from pwff_core.runs.store import RunRow, Store
from tests.support import scripted

CONFIG = RunConfig(clients=2, instruction=InstructionConfig(rounds=5))
SECONDS = "--seconds-a-round="


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
    return [record.round for _, record in store.rounds(run_id)]


def wait_until(condition: Callable[[], object], seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come to that in time"
        time.sleep(0.02)


def launch(store_path: Path, run_id: str, seconds_a_round: float) -> subprocess.Popen[str]:
    """Starts a worker whose rounds each take so long, and that starts such workers in its turn."""
    return scheduler.launch(store_path, run_id, "tests.support.workers", f"{SECONDS}{seconds_a_round}")


if __name__ == "__main__":
    *arguments, option = sys.argv[1:]
    seconds_a_round = float(option.removeprefix(SECONDS))
    scripted.install_slow(seconds_a_round)
    sys.exit(main(arguments, start=partial(launch, seconds_a_round=seconds_a_round)))
