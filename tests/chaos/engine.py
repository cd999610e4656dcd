"""A worker as a real process, as it is seen from outside, and its resume after a kill."""

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
from pwff_core.runs.checkpoints import TENSORS_FILE, folder_of, list_checkpoints
from pwff_core.runs.run_files import RunFiles
from pwff_core.runs.store import RunStatus, Store

PATIENCE_S = 300.0  # for anything that must come: a busy computer is slow
_WATCH_S = 0.01


class Look(NamedTuple):
    """A run's row as a reader of the file sees it, by one short query."""

    status: str
    rounds: int  # in the store
    total: int  # at the run's end
    pid: int | None
    beaten_at: float | None


class Worker:
    """The process that plays a run, and the state of that run."""

    def __init__(self, store: Store, run_id: str, extra: Mapping[str, str] | None = None) -> None:
        self.store, self.run_id = store, run_id
        self.watch: Callable[[], None] = lambda: None  # called now and then during `wait`
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
        """The run's row in the file."""
        with closing(sqlite3.connect(f"{self.store.path.as_uri()}?mode=ro", uri=True, timeout=60)) as connection:
            query = "SELECT status, rounds_done, rounds_total, pid, heartbeat_at FROM runs WHERE id = ?"
            return Look(*connection.execute(query, (self.run_id,)).fetchone())

    @property
    def claimed(self) -> bool:
        """Whether the process has claimed the run."""
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
        """The stage of the next round."""
        records = [record for _, record in self.store.rounds(self.run_id)]
        return next_round(self.store.run(self.run_id).config, records[-1] if records else None)[0]

    @property
    def unfinished(self) -> list[Path]:
        """The checkpoints that this process is writing now."""
        return self._fresh(RunFiles(self.store.path).checkpoints(self.run_id).glob("*.new"))

    @property
    def saving(self) -> bool:
        """Whether this process is writing the final models."""
        folder = RunFiles(self.store.path).models(self.run_id)
        return bool(self._fresh(path for path in folder.parent.glob(f"{folder.name}*") if path != folder))

    def _fresh(self, folders: Iterable[Path]) -> list[Path]:
        """The folders that this process has made, and no process before it."""
        fresh = []
        for folder in folders:
            with suppress(FileNotFoundError):  # it has been renamed by now
                if folder.stat().st_mtime > self._begun_at:
                    fresh.append(folder)
        return fresh

    def wait(self, condition: Callable[[], object], every_s: float = 0.005) -> bool:
        """Waits for a condition; False if the process ended before. RuntimeError after PATIENCE_S."""
        watched_at_s = 0.0
        while not condition():
            if self.ended:
                return False
            if self.age_s > PATIENCE_S:
                raise RuntimeError(f"Run {self.run_id} did not come to that within {PATIENCE_S:.0f} s.")
            if self.age_s - watched_at_s > _WATCH_S:
                self.watch()
                watched_at_s = self.age_s
            time.sleep(every_s)
        return True

    def kill(self) -> bool:
        """Kills the process with SIGKILL and waits for its end; False if it had ended by itself."""
        self.process.kill()
        return self.process.wait() == -signal.SIGKILL

    def end(self) -> int:
        """Waits until the process ends by itself; returns its exit code."""
        return self.process.wait(timeout=PATIENCE_S)

    def log(self) -> str:
        """The log of all of the run's workers."""
        return RunFiles(self.store.path).log(self.run_id).read_text(encoding="utf-8", errors="replace")


def resume_worker(store: Store, run_id: str, extra: Mapping[str, str] | None = None) -> Worker:
    """Resumes a run whose worker is gone. Where the worker died before it claimed the run, that is still queued."""
    if store.run(run_id).status is not RunStatus.QUEUED:
        store.requeue(run_id, in_queue=False)
    return Worker(store, run_id, extra)


def stored_rounds(store: Store, run_id: str) -> list[str]:
    """A run's rounds as they stand in the file, with their seconds: a later resume may not change them."""
    with closing(sqlite3.connect(f"{store.path.as_uri()}?mode=ro", uri=True, timeout=60)) as connection:
        query = "SELECT record FROM rounds WHERE run_id = ? ORDER BY id"
        return [record for (record,) in connection.execute(query, (run_id,))]


def store_damage(path: Path) -> list[str]:
    """SQLite's complaints about the store's two files; none if they are whole."""
    lines = []
    for file in (path, RunFiles(path).commands):
        with closing(sqlite3.connect(file, timeout=60)) as connection:
            lines += [f"{file.name}: {row[0]}" for row in connection.execute("PRAGMA integrity_check")]
            lines += [f"{file.name}: {row}" for row in connection.execute("PRAGMA foreign_key_check")]
    return [line for line in lines if not line.endswith(": ok")]


def false_checkpoints(store_path: Path, run_id: str) -> list[str]:
    """A line for each checkpoint that is listed as complete and differs from what was written."""
    folder, lines = RunFiles(store_path).checkpoints(run_id), []
    for checkpoint in list_checkpoints(store_path, run_id):
        state = folder_of(folder, checkpoint.position) / TENSORS_FILE
        if not state.is_file() or hashlib.blake2b(state.read_bytes()).hexdigest() != checkpoint.digest:
            lines.append(f"checkpoint {checkpoint.position} is listed and not whole")
    return lines
