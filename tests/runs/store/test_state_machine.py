"""A state machine calls the store in any order: no round is lost, and every row agrees with a simple model."""

from __future__ import annotations

import shutil
import sqlite3
import tempfile
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from pwff_core.config import AlignmentConfig, InstructionConfig, RewardConfig, RunConfig
from pwff_core.errors import StoreError
from pwff_core.records import RoundRecord
from pwff_core.runs.store import RunStatus, Store
from tests.support.scripted import record
from tests.support.store_tables import sql

MOST = 5  # rounds
CONFIG = RunConfig(
    clients=2,
    instruction=InstructionConfig(rounds=MOST),
    reward=RewardConfig(rounds=0),
    alignment=AlignmentConfig(rounds=0),
)
ENDS = ["finished", "stopped", "failed"]


class ExpectedRun:
    """A run as it must be, worked out without the store."""

    def __init__(self, status: str, rounds: list[RoundRecord]) -> None:
        self.status = status  # "waiting", "launched", "running", "abandoned" or an end
        self.rounds = rounds
        self.deleted = False


class StoreMachine(RuleBasedStateMachine):
    """Creates, plays, breaks off, resumes, forks and deletes runs; each rule also updates the expected runs."""

    runs: Bundle[str] = Bundle("runs")

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.store = Store(self.folder / "runs.sqlite")
        self.expected: dict[str, ExpectedRun] = {}
        self.queue: list[str] = []
        self.open = sqlite3.connect(self.store.path)  # a reader, so that SQLite does not clear the log after each write
        self.open.execute("SELECT count(*) FROM runs").fetchall()

    def teardown(self) -> None:
        self.open.close()
        with closing(sqlite3.connect(self.store.path)) as connection:
            assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
            assert connection.execute("PRAGMA foreign_key_check").fetchall() == []
        shutil.rmtree(self.folder)

    def allowed(self, may: bool, call: Any, *arguments: Any, **named: Any) -> bool:
        """Makes the call and checks that it is refused exactly if it must be; returns whether it was made."""
        try:
            call(*arguments, **named)
        except StoreError:
            assert not may
            return False
        assert may
        return True

    @rule(target=runs, in_queue=st.booleans())
    def create(self, in_queue: bool) -> str:
        run_id = self.store.create_run(CONFIG, in_queue=in_queue)
        self.expected[run_id] = ExpectedRun("waiting" if in_queue else "launched", [])
        self.queue += [run_id] if in_queue else []
        return run_id

    @rule(parallel=st.integers(1, 3))
    def launch(self, parallel: int) -> None:
        busy = sum(run.status in ("launched", "running") and not run.deleted for run in self.expected.values())
        first = self.queue[0] if self.queue and busy < parallel else None
        assert self.store.next_in_queue(parallel) == first
        if first:
            self.expected[self.queue.pop(0)].status = "launched"

    @rule(run_id=runs)
    def claim(self, run_id: str) -> None:
        run = self.expected[run_id]
        if self.allowed(run.status in ("waiting", "launched") and not run.deleted, self.store.claim, run_id):
            self.leave_queue(run_id)
            run.status = "running"

    @rule(run_id=runs)
    def append(self, run_id: str) -> None:
        run = self.expected[run_id]
        if len(run.rounds) < MOST:
            new = record(len(run.rounds) + 1, run_id)
            if self.allowed(run.status == "running", self.store.append, run_id, new):
                run.rounds.append(new)

    @rule(run_id=runs, end=st.sampled_from(ENDS))
    def finish(self, run_id: str, end: str) -> None:
        run = self.expected[run_id]
        if self.allowed(run.status == "running", self.store.finish, run_id, RunStatus(end)):
            run.status = end

    @rule(run_id=runs)
    def die(self, run_id: str) -> None:
        if self.expected[run_id].status == "running":
            sql(self.store.path, f"UPDATE runs SET pid = 4194305 WHERE id = '{run_id}'")
            self.expected[run_id].status = "abandoned"

    @rule(run_id=runs, in_queue=st.booleans())
    def requeue(self, run_id: str, in_queue: bool) -> None:
        run = self.expected[run_id]
        may = run.status in ("stopped", "failed", "abandoned") and not run.deleted
        if self.allowed(may, self.store.requeue, run_id, in_queue=in_queue):
            run.status = "waiting" if in_queue else "launched"
            self.queue += [run_id] if in_queue else []

    @precondition(lambda self: len(self.expected) < 12)
    @rule(target=runs, run_id=runs, position=st.integers(0, MOST), in_queue=st.booleans())
    def fork(self, run_id: str, position: int, in_queue: bool) -> str:
        run = self.expected[run_id]
        may = 1 <= position <= len(run.rounds) and position < MOST
        if not self.allowed(may, self.fork_of, run_id, position, in_queue):
            return run_id
        return self.queue[-1] if in_queue else list(self.expected)[-1]

    def fork_of(self, run_id: str, position: int, in_queue: bool) -> None:
        child = self.store.fork(run_id, position, {"channel.snr_db": float(position)}, in_queue=in_queue)
        copies = [record.model_copy(update={"run": child}) for record in self.expected[run_id].rounds[:position]]
        self.expected[child] = ExpectedRun("waiting" if in_queue else "launched", copies)
        self.queue += [child] if in_queue else []

    @rule(run_id=runs)
    def cancel(self, run_id: str) -> None:
        waited = self.expected[run_id].status == "waiting"
        assert self.store.cancel(run_id) == waited
        self.leave_queue(run_id)
        self.expected[run_id].status = "stopped" if waited else self.expected[run_id].status

    @rule(run_id=runs)
    def delete(self, run_id: str) -> None:
        run = self.expected[run_id]
        if self.allowed(run.status != "running", self.store.delete, run_id):
            self.leave_queue(run_id)
            run.status = "stopped" if run.status == "waiting" else run.status
            run.deleted = True

    @rule(run_id=runs)
    def restore(self, run_id: str) -> None:
        self.store.restore(run_id)
        self.expected[run_id].deleted = False

    def leave_queue(self, run_id: str) -> None:
        self.queue[:] = [row for row in self.queue if row != run_id]

    @invariant()
    def no_round_is_lost(self) -> None:
        for run_id, run in self.expected.items():
            assert [record for _, record in self.store.rounds(run_id)] == run.rounds

    @invariant()
    def rows_agree_with_the_expected_runs(self) -> None:
        statuses = {"waiting": "queued", "launched": "queued", "abandoned": "failed"}
        rows = self.store.runs()
        listed = {
            run_id: (statuses.get(run.status, run.status), len(run.rounds))
            for run_id, run in self.expected.items()
            if not run.deleted
        }
        assert {row.id: (row.status.value, row.rounds_done) for row in rows} == listed
        assert [row.id for row in self.store.queue()] == self.queue
        assert Counter(row.in_queue for row in rows)[True] == len(self.queue)


def play(examples: int, steps: int) -> None:
    run_state_machine_as_test(
        StoreMachine,
        settings=settings(max_examples=examples, stateful_step_count=steps, deadline=None, derandomize=True),
    )


def test_random_calls() -> None:
    play(8, 15)


@pytest.mark.slow
def test_many_random_calls() -> None:
    play(150, 50)
