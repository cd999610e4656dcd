"""A run in a folder of its own, in which something goes wrong, and its state afterwards."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from pwff_core.runs.store import RunStatus, Store
from tests.chaos import engine, page, tiny
from tests.chaos.engine import PATIENCE_S, Worker, false_checkpoints, store_damage, stored_rounds
from tests.chaos.reference import References


class Row(NamedTuple):
    """A line of the table of faults."""

    fault: str
    does: str  # of the run
    sees: str  # of a user: what a page says meanwhile
    afterwards: str
    fine: bool  # no round was lost, the store is whole, and the result is the uninterrupted run's


class Skipped(Exception):
    """The fault cannot be made here; the text says what it needs."""


class Scene:
    """A store in a folder, with the tiny run in it and a worker that plays it."""

    def __init__(self, folder: Path, references: References, store_folder: Path | None = None) -> None:
        self.folder, self.references = folder, references
        self.store = Store((store_folder or folder / "store") / "runs.sqlite", timeout_s=60.0)
        self._page = Store(self.store.path, readonly=True)  # an app opens it once, when it starts
        self.run_id = self.store.create_run(tiny.config())
        self.workers: list[Worker] = []
        self.sees = ""
        self._rounds: list[str] = []
        self._lost = 0

    def on(self, store_folder: Path) -> Scene:
        """A new scene whose store is in another folder."""
        other = Scene(self.folder, self.references, store_folder)
        other.workers = self.workers
        return other

    def close(self) -> None:
        """Kills all workers."""
        for worker in self.workers:
            worker.kill()

    @property
    def worker(self) -> Worker:
        """The worker that was started last."""
        return self.workers[-1]

    def play(self, rounds: int, extra: dict[str, str] | None = None) -> Worker:
        """Starts or resumes the run; returns once the store has so many of its rounds."""
        first = not self.workers
        variables = {"TMPDIR": f"{self.folder}"} | (extra or {})  # where rounds are saved when the store has gone
        worker = (Worker if first else engine.resume_worker)(self.store, self.run_id, variables)
        self.workers.append(worker)
        if not worker.wait(lambda: worker.look().rounds >= rounds):
            raise RuntimeError(f"The worker ended before round {rounds}: {worker.log()}")
        self.remember()
        return worker

    def remember(self) -> None:
        """Records which rounds the store has; from now on they may not change."""
        before, self._rounds = self._rounds, stored_rounds(self.store, self.run_id)
        self._lost += sum(self._rounds[place : place + 1] != [record] for place, record in enumerate(before))

    def look(self, *words: str) -> str:
        """Looks as a page does until it says one of the words, or once without words; records and returns its text."""
        self.sees = until(self._page_words, lambda text: not words or any(word in text for word in words))
        return self.sees

    def _page_words(self) -> str:
        return self.short(page.page_words(self._page, self.run_id))

    def short(self, text: str) -> str:
        """A text without what differs each time: process, folder, the run's id."""
        folder = f"{self.store.path.parent}"
        return re.sub(r"process \d+", "process N", text).replace(folder, "…").replace(self.run_id, "RUN")

    def finish(self) -> str:
        """Lets the run end, with a resume if its worker has ended before; says which of the two it was."""
        code = self.worker.end()
        row = self.store.run(self.run_id)
        self.remember()
        if row.status is RunStatus.FINISHED:
            return "goes on by itself"
        how = f"ends (exit code {code})" if code >= 0 else f"is dead (signal {-code})"
        engine.resume_worker(self.store, self.run_id).end()
        return f"{how}; Resume goes on"

    def row(self, fault: str, does: str) -> Row:
        """The line of the table, once the run has finished."""
        self.remember()
        wrong = store_damage(self.store.path) + false_checkpoints(self.store.path, self.run_id)
        row = self.store.run(self.run_id)
        if row.status is not RunStatus.FINISHED:
            wrong.append(f"the run is {row.status.value}: {row.message}")
        if self._lost:
            wrong.append(f"{self._lost} rounds lost")
        wrong += [
            f"{name} differs" for name in tiny.outcome(self.store, self.run_id).differing(self.references.outcome(0))
        ]
        fine = "all rounds kept, store whole, same result bit for bit"
        message = f" The run's remark: {row.message}" if row.message else ""
        return Row(fault, does, self.sees, ("; ".join(wrong) or fine) + message, not wrong)


def until(read: Callable[[], str], enough: Callable[[str], bool], patience_s: float = PATIENCE_S) -> str:
    """Reads a text again and again until it is enough, and returns it. RuntimeError after `patience_s`."""
    give_up_at = time.monotonic() + patience_s
    while not enough(text := read()):
        if time.monotonic() > give_up_at:
            raise RuntimeError(f"It did not come to that within {patience_s:.0f} s; it says: {text}")
        time.sleep(0.1)
    return text
