"""Runs and rounds are written and read back; runs are claimed, renamed and deleted."""

from __future__ import annotations

import math
import os
import re
import sqlite3
import threading
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pwff_core.config import ChannelConfig, RunConfig, preset_config
from pwff_core.errors import StoreError
from pwff_core.records import RoundRecord, Steering
from pwff_core.runs.store import RunStatus, Store
from tests.support.scripted import profile, record
from tests.support.sqlite_trace import SqliteTrace

CONFIG = RunConfig(clients=2)


def running(store: Store, name: str = "") -> str:
    """A run that this process plays."""
    run_id = store.create_run(CONFIG, name)
    store.claim(run_id)
    return run_id


def test_a_run_from_beginning_to_end(path: Path) -> None:
    engine, page = Store(path), Store(path, readonly=True)
    before = time.time()
    run_id = engine.create_run(CONFIG, "first try")
    queued = page.run(run_id)
    assert (queued.status, queued.rounds_done, queued.rounds_total) == (RunStatus.QUEUED, 0, 16 + 4 + 7)
    assert (queued.name, queued.config, queued.pid, queued.deleted) == ("first try", CONFIG, None, False)
    assert before <= queued.created_at <= time.time()

    engine.claim(run_id)
    engine.describe(run_id, (profile(0), profile(1)), ("cut – 3",), 2)
    engine.append(run_id, record(1))
    running = page.run(run_id)
    assert (running.status, running.pid, running.rounds_done) == (RunStatus.RUNNING, os.getpid(), 1)
    assert (running.profiles, running.notes, running.rounds_total) == ((profile(0), profile(1)), ("cut – 3",), 2)
    assert running.heartbeat_at is not None and running.heartbeat_at >= before

    engine.append(run_id, record(2))
    engine.finish(run_id, RunStatus.FINISHED)
    assert page.run(run_id).status is RunStatus.FINISHED
    assert [record for _, record in page.rounds(run_id)] == [record(1), record(2)]


def test_rounds_are_read_by_run_and_after_a_row(path: Path) -> None:
    engine = Store(path)
    first, second = running(engine), running(engine)
    for number in (1, 2, 3):
        engine.append(first, record(number))
        engine.append(second, record(10 * number))
    rows = engine.rounds(first)
    assert [record.round for _, record in rows] == [1, 2, 3]
    assert engine.rounds(first, after=rows[1][0]) == [rows[2]]
    assert engine.rounds(first, after=rows[2][0]) == []
    assert engine.rounds("nosuchrun") == []


def test_runs_are_listed_newest_first(path: Path) -> None:
    engine = Store(path)
    ids = [engine.create_run(CONFIG, name) for name in "abc"]
    assert [row.id for row in engine.runs()] == ids[::-1]


def test_run_ids_are_short_and_unambiguous(path: Path) -> None:
    engine = Store(path)
    ids = {engine.create_run(CONFIG) for _ in range(20)}
    assert len(ids) == 20
    assert all(re.fullmatch(r"[a-z2-9]{8}", run_id) for run_id in ids)


def test_a_config_with_an_infinite_deadline_is_read_back(path: Path) -> None:
    engine = Store(path)
    config = preset_config("paper").model_copy(update={"channel": ChannelConfig(deadline_s=math.inf, snr_db=-3.25)})
    assert engine.run(engine.create_run(config)).config == config


numbers = st.none() | st.floats(allow_nan=False)
records = st.builds(
    RoundRecord, run=st.text(st.characters(codec="utf-8"), max_size=8), method=st.sampled_from(["pwff", "local"]),
    stage=st.sampled_from(["instruction", "reward"]), round=st.integers(1, 10**6), accuracy=numbers, loss=numbers,
    delay_s=st.floats(allow_nan=False), uplink_bits=st.integers(0, 2**63), clients=st.just(record(1).clients),
)  # fmt: skip


@pytest.fixture(scope="module")
def shared_store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return Store(tmp_path_factory.mktemp("shared") / "runs.sqlite")


@given(written=st.lists(records, max_size=4))
@settings(deadline=None, max_examples=30)  # a slow disk is no failure
def test_any_record_is_read_back_unchanged(shared_store: Store, written: list[RoundRecord]) -> None:
    run_id = running(shared_store)
    for new in written:
        shared_store.append(run_id, new)
    assert [record for _, record in shared_store.rounds(run_id)] == written
    assert shared_store.run(run_id).rounds_done == len(written)


def test_text_that_utf8_cannot_hold_is_replaced(path: Path) -> None:
    engine = Store(path)
    assert engine.run(engine.create_run(CONFIG, "caf\udce9")).name == "caf?"


def test_lasting_writes_are_on_the_disk_before_the_call_returns(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = Store(path)
    run_id = running(engine)
    trace = SqliteTrace(monkeypatch)

    def is_full(call: Callable[[], object]) -> bool:
        """Whether a call's transaction waits for the disk."""
        trace.statements.clear()
        call()
        return "PRAGMA synchronous = FULL" in trace.statements[: trace.statements.index("BEGIN IMMEDIATE")]

    steering = Steering(position=1, stage="instruction", round=1, before={}, changes={}, at=1.0)
    assert is_full(lambda: engine.append(run_id, record(1)))
    assert is_full(lambda: engine.acknowledge(run_id, 1, steering))
    assert not is_full(lambda: engine.heartbeat(run_id))  # nothing that must outlive the computer
    assert is_full(lambda: engine.finish(run_id, RunStatus.FINISHED))


# claim and delete


def test_a_claimed_run_cannot_be_claimed_again(path: Path) -> None:
    engine = Store(path)
    run_id = engine.create_run(CONFIG)
    engine.claim(run_id)
    with pytest.raises(
        StoreError, match=rf"^Run {run_id} is running already \(process {os.getpid()}\); it goes on there.$"
    ):
        engine.claim(run_id)


@pytest.mark.parametrize("status", [RunStatus.FINISHED, RunStatus.STOPPED, RunStatus.FAILED])
def test_an_ended_run_cannot_be_claimed(path: Path, status: RunStatus) -> None:
    engine = Store(path)
    run_id = engine.create_run(CONFIG)
    engine.claim(run_id)
    engine.finish(run_id, status)
    advice = "start a new run instead" if status is RunStatus.FINISHED else "resume it first"
    with pytest.raises(StoreError, match=f"is {status.value} already; {advice}."):
        engine.claim(run_id)


def test_only_one_of_many_claims_succeeds(path: Path) -> None:
    engine = Store(path)
    run_id = engine.create_run(CONFIG)
    claims, barrier = [], threading.Barrier(8)

    def claim() -> None:
        barrier.wait()
        try:
            engine.claim(run_id)
            claims.append(1)
        except StoreError:
            pass

    threads = [threading.Thread(target=claim) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert claims == [1]


def test_a_deleted_run_leaves_the_list_and_keeps_its_rounds(path: Path) -> None:
    engine = Store(path)
    run_id = running(engine)
    engine.append(run_id, record(1))
    engine.finish(run_id, RunStatus.STOPPED)
    engine.delete(run_id)
    assert engine.runs() == []
    assert engine.run(run_id).deleted
    assert [record for _, record in engine.rounds(run_id)] == [record(1)]
    with pytest.raises(StoreError, match="is deleted; restore it first."):
        engine.claim(run_id)


def test_a_readonly_store_changes_nothing(path: Path) -> None:
    run_id = Store(path).create_run(CONFIG)
    page = Store(path, readonly=True)
    for change in (lambda: page.create_run(CONFIG), lambda: page.claim(run_id), lambda: page.append(run_id, record(1))):
        with pytest.raises(StoreError, match="opened for reading only"):
            change()


@pytest.mark.parametrize("status", [RunStatus.RUNNING, RunStatus.PAUSED])
def test_a_running_or_paused_run_is_not_deleted(path: Path, status: RunStatus) -> None:
    engine = Store(path)
    run_id = engine.create_run(CONFIG)
    engine.claim(run_id)
    engine.set_status(run_id, status)
    with pytest.raises(StoreError, match=f"^Run {run_id} is {status.value}; stop it first, then delete it.$"):
        engine.delete(run_id)
    engine.finish(run_id, RunStatus.STOPPED)
    engine.delete(run_id)
    assert engine.runs() == []


def test_restore_undoes_delete(path: Path) -> None:
    engine = Store(path)
    run_id = running(engine, "mine")
    engine.append(run_id, record(1))
    engine.finish(run_id, RunStatus.STOPPED)
    before = engine.run(run_id)
    engine.delete(run_id)
    engine.restore(run_id)
    assert engine.runs() == [before]


def test_the_time_of_deletion_is_stored_until_the_run_is_restored(path: Path) -> None:
    engine = Store(path)
    run_id, before = engine.create_run(CONFIG), time.time()

    def deleted_at() -> float | None:
        with closing(sqlite3.connect(path)) as connection:
            when: float | None = connection.execute("SELECT deleted_at FROM runs").fetchone()[0]
        return when

    assert deleted_at() is None
    engine.delete(run_id)
    when = deleted_at()
    assert when is not None and before <= when <= time.time()
    engine.restore(run_id)
    assert deleted_at() is None


# names


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("  SNR 5 against 10 dB ", "SNR 5 against 10 dB"),
        ("<b onclick='x()'>&amp;</b>", "<b onclick='x()'>&amp;</b>"),
        ("Größe – 联邦学习 🙂", "Größe – 联邦学习 🙂"),
        ("x" * 80, "x" * 80),
        ("   ", ""),
    ],
)
def test_a_name_is_stored_as_given_without_blanks_around_it(path: Path, given: str, kept: str) -> None:
    engine = Store(path)
    run_id = engine.create_run(CONFIG, "before")
    engine.rename(run_id, given)
    assert Store(path, readonly=True).run(run_id).name == kept


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("x" * 81, "at most 80 characters; this one has 81. Choose a shorter one."),
        ("x" * 10_000, "this one has 10,000"),
        ("two\nlines", "this one holds a line break or another character that cannot be seen"),
        ("a\x00b", "cannot be seen"),
        ("a\u202eb", "cannot be seen"),
        ("caf\udce9", "cannot be seen"),
    ],
)
def test_an_invalid_name_is_refused(path: Path, name: str, why: str) -> None:
    engine = Store(path)
    run_id = engine.create_run(CONFIG, "before")
    with pytest.raises(StoreError) as caught:
        engine.rename(run_id, name)
    assert why in str(caught.value) and len(str(caught.value)) < 200
    assert engine.run(run_id).name == "before"


def test_a_name_belongs_to_one_run_at_a_time(path: Path) -> None:
    engine = Store(path)
    first, second = engine.create_run(CONFIG, "mine"), engine.create_run(CONFIG)
    with pytest.raises(StoreError, match=f'^Run {first} is called "mine" already; choose another name.$'):
        engine.rename(second, "mine")
    engine.rename(first, "mine")
    engine.rename(first, "")
    engine.rename(second, "")  # any number of runs have no name
    engine.delete(first)
    engine.rename(second, "mine")
    assert [row.name for row in engine.runs()] == ["mine"]


@pytest.mark.parametrize("run_id", ["nosuchid", "", "A B", "x' OR '1'='1", "caf\udce9", "../../etc", "z" * 500])
def test_an_unknown_id_is_an_error_of_one_sentence(path: Path, run_id: str) -> None:
    page = Store(path, readonly=True)
    engine = Store(path)
    calls: list[Callable[[], object]] = [
        *(lambda: page.run(run_id), lambda: page.request_stop(run_id), lambda: page.pending(run_id)),
        *(lambda: page.steer(run_id, "me", {}), lambda: engine.rename(run_id, "x"), lambda: engine.delete(run_id)),
        *(lambda: engine.restore(run_id), lambda: engine.cancel(run_id)),
    ]
    for call in calls:
        with pytest.raises(
            StoreError, match="^There is no run ['\"].{0,60} in .*; `pwff runs` lists those there are.$"
        ):
            call()
