"""A worker as a real process, what can be seen of it from outside, and its resume after it was killed."""

from __future__ import annotations

import hashlib
import signal
import sqlite3
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import closing, suppress
from pathlib import Path
from typing import NamedTuple

from pwff_core.config import next_round
from pwff_core.records import Stage
from pwff_core.runs import processes
from pwff_core.runs.checkpoints import STATE, folder_of, list_checkpoints
from pwff_core.runs.run_files import RunFiles
from pwff_core.runs.store import RunStatus, Store

PATIENCE_S = 300.0  # for what must come; a busy computer takes its time
_WATCH_S = 0.01


class Look(NamedTuple):
    """What a reader of the file sees, with one short query."""

    status: str
    rounds: int  # that are in the store
    total: int  # that there will be
    pid: int | None
    beaten_at: float | None


class Worker:
    """The process that plays a run, and how that run stands."""

    def __init__(self, store: Store, run_id: str, extra: Mapping[str, str] | None = None) -> None:
        self.store, self.run_id = store, run_id
        self.watch: Callable[[], None] = lambda: None  # is called now and then while something is waited for
        self.begun, self._begun_at = time.monotonic(), time.time()
        self.before = self.look().rounds
        log = RunFiles(store.path).log(run_id)
        log.parent.mkdir(exist_ok=True)
        with log.open("ab") as output:
            self.process = subprocess.Popen(
                processes.module_command("pwff_core.engine.worker", run_id, "--store", str(store.path)),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=processes.environment() | dict(extra or {}),
            )

    @property
    def ended(self) -> bool:
        """Whether the process is gone."""
        return self.process.poll() is not None

    @property
    def age_s(self) -> float:
        """Seconds since it was started."""
        return time.monotonic() - self.begun

    def look(self) -> Look:
        """The run's row as it stands in the file."""
        with closing(sqlite3.connect(f"{self.store.path.as_uri()}?mode=ro", uri=True, timeout=60)) as connection:
            query = "SELECT status, rounds_done, rounds_total, pid, heartbeat_at FROM runs WHERE id = ?"
            return Look(*connection.execute(query, (self.run_id,)).fetchone())

    @property
    def claimed(self) -> bool:
        """Whether the process has made the run its own."""
        return self.look().pid == self.process.pid

    @property
    def played(self) -> int:
        """Rounds that this process has added."""
        return self.look().rounds - self.before

    @property
    def complete(self) -> bool:
        """Whether all of the run's rounds are in the store."""
        look = self.look()
        return look.rounds == look.total

    @property
    def stage(self) -> Stage:
        """Of the round that comes next."""
        records = [record for _, record in self.store.rounds(self.run_id)]
        return next_round(self.store.run(self.run_id).config, records[-1] if records else None)[0]

    @property
    def unfinished(self) -> list[Path]:
        """Checkpoints that this process is writing at this moment."""
        return self._fresh(RunFiles(self.store.path).checkpoints(self.run_id).glob("*.new"))

    @property
    def saving(self) -> bool:
        """Whether this process is writing the final models."""
        folder = RunFiles(self.store.path).models(self.run_id)
        return bool(self._fresh(path for path in folder.parent.glob(f"{folder.name}*") if path != folder))

    def _fresh(self, folders: Iterable[Path]) -> list[Path]:
        """Those that no process before this one has left behind."""
        found = []
        for folder in folders:
            with suppress(FileNotFoundError):  # it has its name by now
                if folder.stat().st_mtime > self._begun_at:
                    found.append(folder)
        return found

    def wait(self, condition: Callable[[], object], every_s: float = 0.005) -> bool:
        """Waits for a condition; False if the process has ended before. RuntimeError if it takes for ever."""
        watched = 0.0
        while not condition():
            if self.ended:
                return False
            if self.age_s > PATIENCE_S:
                raise RuntimeError(f"Run {self.run_id} did not come to that within {PATIENCE_S:.0f} s.")
            if self.age_s - watched > _WATCH_S:
                self.watch()
                watched = self.age_s
            time.sleep(every_s)
        return True

    def kill(self) -> bool:
        """SIGKILL, and its funeral; False if it had ended by itself."""
        self.process.kill()
        return self.process.wait() == -signal.SIGKILL

    def end(self) -> int:
        """Waits for its own end; its exit code."""
        return self.process.wait(timeout=PATIENCE_S)

    def log(self) -> str:
        """All that the run's workers have written."""
        return RunFiles(self.store.path).log(self.run_id).read_text(encoding="utf-8", errors="replace")


def again(store: Store, run_id: str, extra: Mapping[str, str] | None = None) -> Worker:
    """Resumes a run whose worker is gone. One that was gone before it took the run finds it still queued."""
    if store.run(run_id).status is not RunStatus.QUEUED:
        store.requeue(run_id, in_queue=False)
    return Worker(store, run_id, extra)


def stored(store: Store, run_id: str) -> list[str]:
    """The rounds of a run as they are written in the file, with their seconds: a later resume may not touch them."""
    with closing(sqlite3.connect(f"{store.path.as_uri()}?mode=ro", uri=True, timeout=60)) as connection:
        query = "SELECT record FROM rounds WHERE run_id = ? ORDER BY id"
        return [record for (record,) in connection.execute(query, (run_id,))]


def damage(path: Path) -> list[str]:
    """What SQLite finds wrong with the store's two files; nothing if they are whole."""
    found = []
    for file in (path, RunFiles(path).commands):
        with closing(sqlite3.connect(file, timeout=60)) as connection:
            found += [f"{file.name}: {row[0]}" for row in connection.execute("PRAGMA integrity_check")]
            found += [f"{file.name}: {row}" for row in connection.execute("PRAGMA foreign_key_check")]
    return [line for line in found if not line.endswith(": ok")]


def false_checkpoints(store_path: Path, run_id: str) -> list[str]:
    """Checkpoints that are listed as complete and are not what was written."""
    folder, found = RunFiles(store_path).checkpoints(run_id), []
    for mark in list_checkpoints(store_path, run_id):
        state = folder_of(folder, mark.position) / STATE
        if not state.is_file() or hashlib.blake2b(state.read_bytes()).hexdigest() != mark.digest:
            found.append(f"checkpoint {mark.position} is listed and not whole")
    return found
