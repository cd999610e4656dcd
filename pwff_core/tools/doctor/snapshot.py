"""All that the checks look at, looked up once: a store, the workers that play its runs, other stores beside it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import psutil

from pwff_core.runs.run_files import RunFiles
from pwff_core.runs.store import RunRow, Store, inspection
from pwff_core.runs.store.inspection import Condition, Disorder, Entry, Health
from pwff_core.runs.store.schema import COMMANDS, RUNS

_WORKER = "pwff_core.engine.worker"
_USABLE = (Condition.SOUND, Condition.MISSING)  # the second file is made when something is first asked
_ASIDE = re.compile(r"\.damaged-[0-9]{8}-[0-9]{6}")  # in the name of a file that `salvage` has replaced


class Worker(NamedTuple):
    """A process that plays a run of the store: `python -m pwff_core.engine.worker RUN_ID --store PATH`."""

    run_id: str
    process: psutil.Process


class Patient(NamedTuple):
    """A store and what there is around it, at one moment. Without a sound store there are no runs to speak of."""

    path: Path
    health: Health
    commands: Health  # of the second file
    workers: list[Worker]
    entries: dict[str, Entry]  # every row, by id, oldest first
    rows: list[RunRow]  # the runs as they stand, newest first; not deleted ones, nor those of another version
    disorder: Disorder
    elsewhere: set[str] | None  # ids of the runs of other stores in this folder; None if one of them cannot be read

    @property
    def sound(self) -> bool:
        """Whether runs could be looked at."""
        return self.health.condition is Condition.SOUND and self.commands.condition in _USABLE

    @property
    def commands_path(self) -> Path:
        """The store's second file."""
        return RunFiles(self.path).commands


def looked_at(path: Path) -> Patient:
    """Looks everything up; nothing is changed, and an older store is not renewed."""
    path = path.absolute()
    workers = list(_workers(path))  # before the rows: a run's row is there before its worker is
    found, second = inspection.health(path, RUNS), inspection.health(RunFiles(path).commands, COMMANDS, budget_s=0.2)
    unknown = Patient(path, found, second, workers, {}, [], Disorder({}, {}), None)
    if not unknown.sound:
        return unknown
    entries = {entry.id: entry for entry in inspection.roll(path)}
    rows = Store(path, readonly=True).runs()
    return Patient(path, found, second, workers, entries, rows, inspection.disorder(path), _elsewhere(path))


def _workers(path: Path) -> Iterator[Worker]:
    for process in psutil.process_iter():
        try:
            words = process.cmdline()
            if _WORKER in words and (run_id := _run_of(words[words.index(_WORKER) + 1 :], process, path)):
                yield Worker(run_id, process)
        except psutil.Error:  # it has just ended, or is another user's
            continue


def _run_of(words: list[str], process: psutil.Process, path: Path) -> str:
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


def _elsewhere(path: Path) -> set[str] | None:
    """Models, logs and checkpoints lie beside a store, so other stores in its folder have theirs in the same place."""
    found: set[str] = set()
    for file in path.parent.iterdir():
        if file in (path, RunFiles(path).commands) or file.name.endswith(("-wal", "-shm")) or not file.is_file():
            continue
        if _ASIDE.search(file.name) or inspection.is_store(file):
            known = inspection.ids(file)
            if known is None:
                return None
            found |= known
    return found
