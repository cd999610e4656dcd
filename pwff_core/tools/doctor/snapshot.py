"""All that the checks look at, read once: a store, the workers that play its runs, other stores beside it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import psutil

from pwff_core.runs.processes import FORMER_WORKER, WORKER
from pwff_core.runs.run_files import RunFiles
from pwff_core.runs.store import RunRow, Store, inspection
from pwff_core.runs.store.inspection import Condition, Disorder, Entry, Health
from pwff_core.runs.store.schema import COMMANDS, RUNS

_WORKERS = (WORKER, FORMER_WORKER)
_USABLE = (Condition.SOUND, Condition.MISSING)  # the second file is made when something is first asked
_ASIDE = re.compile(r"\.damaged-[0-9]{8}-[0-9]{6}")  # in the name of a damaged file that was replaced


class Worker(NamedTuple):
    """A process that plays a run of the store: `python -m pwff_core.engine.worker RUN_ID --store PATH`."""

    run_id: str
    process: psutil.Process


class StoreSnapshot(NamedTuple):
    """A store and its surroundings at one moment. Without a sound store it has no runs."""

    path: Path
    health: Health
    commands: Health  # of the second file
    workers: list[Worker]
    entries: dict[str, Entry]  # every row, by id, oldest first
    rows: list[RunRow]  # the runs as they stand, newest first; not deleted ones, nor those of another version
    disorder: Disorder
    other_run_ids: set[str] | None  # of other stores in this folder; None if one of them cannot be read

    @property
    def sound(self) -> bool:
        """Whether the runs could be read."""
        return self.health.condition is Condition.SOUND and self.commands.condition in _USABLE

    @property
    def commands_path(self) -> Path:
        """The store's second file."""
        return RunFiles(self.path).commands


def take_snapshot(path: Path) -> StoreSnapshot:
    """Reads everything; nothing is changed, and an older store is not renewed."""
    path = path.absolute()
    workers = list(_workers(path))  # before the rows: a run's row is there before its worker is
    health = inspection.health(path, RUNS)
    commands = inspection.health(RunFiles(path).commands, COMMANDS, budget_s=0.2)
    without_runs = StoreSnapshot(path, health, commands, workers, {}, [], Disorder({}, {}), None)
    if not without_runs.sound:
        return without_runs
    entries = {entry.id: entry for entry in inspection.roll(path)}
    rows = Store(path, readonly=True).runs()
    disorder = inspection.disorder(path)
    return StoreSnapshot(path, health, commands, workers, entries, rows, disorder, _other_run_ids(path))


def _workers(path: Path) -> Iterator[Worker]:
    for process in psutil.process_iter():
        try:
            words = process.cmdline()
            module = next((word for word in words if word in _WORKERS), None)
            if module and (run_id := _run_id(words[words.index(module) + 1 :], process, path)):
                yield Worker(run_id, process)
        except psutil.Error:  # it has just ended, or is another user's
            continue


def _run_id(words: list[str], process: psutil.Process, path: Path) -> str:
    """The id of the run that a worker's arguments name, "" if they name another store."""
    store, run_id, rest = "", "", iter(words)
    for word in rest:
        if word == "--store":
            store = next(rest, "")
        elif word.startswith("--store="):
            store = word.removeprefix("--store=")
        elif not word.startswith("-"):
            run_id = run_id or word
    same = store and (Path(process.cwd()) / store).resolve() == path.resolve()
    return run_id if same else ""


def _other_run_ids(path: Path) -> set[str] | None:
    """The ids of other stores in the folder, whose models, logs and checkpoints lie in the same place.

    None if one of these stores cannot be read in full.
    """
    run_ids: set[str] = set()
    for file in path.parent.iterdir():
        if file in (path, RunFiles(path).commands) or file.name.endswith(("-wal", "-shm")) or not file.is_file():
            continue
        if _ASIDE.search(file.name) or inspection.is_store(file):
            ids = inspection.ids(file)
            if ids is None:
                return None
            run_ids |= ids
    return run_ids
