"""Plays a run by a scripted engine: in this process, or in a worker of its own."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from pwff_core.config import InstructionConfig, RunConfig
from pwff_core.engine.worker import Engine, Timing, play_run
from pwff_core.engine.worker.__main__ import main
from pwff_core.engine.worker.timing import USUAL
from pwff_core.runs import scheduler
from pwff_core.runs.store import RunRow, Store
from tests.support import scripted

CONFIG = RunConfig(clients=2, instruction=InstructionConfig(rounds=5))
SECONDS = "--seconds-a-round="


HASTY = Timing(first_pause_s=0.01, longest_pause_s=0.1, heartbeat_s=0.02, gone_s=0.3)  # a small part of the usual
NEVER_BEATING = HASTY._replace(heartbeat_s=600.0)


def play(store: Store, engine: Engine, run_id: str = "", timing: Timing = USUAL, **options: Any) -> RunRow:
    """Plays a run of five rounds with an engine, and returns its row."""
    run_id = run_id or store.create_run(CONFIG)
    try:
        for _ in play_run(store, run_id, engine=engine, timing=timing, **options):
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
    engine = scripted.slow_engine(seconds_a_round)
    sys.exit(main(arguments, engine=engine, start=partial(launch, seconds_a_round=seconds_a_round)))
