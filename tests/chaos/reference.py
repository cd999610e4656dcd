"""The same run, never interrupted, without a store, worker or checkpoint: a resumed run must equal it.

python -m tests.chaos.reference FOLDER POSITION    as FOLDER/config.json says, changed from round POSITION on; 0: never
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from pathlib import Path

from pwff_core.config import RunConfig
from pwff_core.runs import processes
from tests.chaos import tiny
from tests.chaos.tiny import Outcome

ROOT = Path(__file__).resolve().parents[2]
CONFIG, RECORDS = "config.json", "records.json"


class References:
    """Uninterrupted runs by the round from which the change holds, each played when it is first needed."""

    def __init__(self, folder: Path, config: RunConfig | None = None) -> None:
        self._folder, self._config = folder, config or tiny.config()
        self._outcomes: dict[int, Outcome] = {}
        self._lock = threading.Lock()

    def outcome(self, position: int) -> Outcome:
        """The outcome with the change from round `position` (over all stages) on; 0: without the change."""
        with self._lock:
            if position not in self._outcomes:
                self._outcomes[position] = _play(self._folder / f"{position}", self._config, position)
            return self._outcomes[position]


def _play(folder: Path, config: RunConfig, position: int) -> Outcome:
    """The outcome of the run, played by a process of its own with as many threads as a worker has."""
    folder.mkdir(parents=True)
    (folder / CONFIG).write_text(config.model_dump_json(), encoding="utf-8")
    command = [sys.executable, "-m", "tests.chaos.reference", str(folder), str(position)]
    process = subprocess.run(command, cwd=ROOT, env=processes.environment(), capture_output=True, text=True)
    if process.returncode:
        raise RuntimeError(f"The uninterrupted run failed:\n{process.stderr}")
    return Outcome(tuple(json.loads((folder / RECORDS).read_text(encoding="utf-8"))), tiny.weights(folder / "models"))


def main(folder: Path, position: int) -> None:
    """The process: plays the run and writes its records and models into the folder."""
    from pwff_core.engine import federation, setup
    from pwff_core.engine.models import saved_models

    running = setup.prepare(RunConfig.model_validate_json((folder / CONFIG).read_text(encoding="utf-8")))
    playing, records = federation.play(running), []
    for number in range(1, running.rounds_total + 1):
        if number == position:
            federation.steer(running, tiny.CHANGES)
        records.append(tiny.without_run_and_time(next(playing)))
    if len(records) < running.rounds_total or next(playing, None) is not None:
        raise RuntimeError(f"{len(records)} rounds were played instead of {running.rounds_total}")
    saved_models.save(folder / "models", running.saved_models())
    (folder / RECORDS).write_text(json.dumps(records), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
