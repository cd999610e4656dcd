"""Runs that lost their engine, engines that lost their run, the queue and the clock."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from pwff_core.runs.processes import FORMER_WORKER, WORKER
from pwff_core.runs.store import RunStatus, Store
from tests.support.doctor_output import CONFIG, doctor
from tests.support.engines import engine
from tests.support.scripted import played, record
from tests.support.store_tables import sql


def lost(path: Path, rounds: int = 1) -> str:
    """The id of a run that says that it plays, and whose engine is gone."""
    store = Store(path)
    run_id = store.create_run(CONFIG)
    store.claim(run_id)
    for number in range(1, rounds + 1):
        store.append(run_id, record(number, run_id))
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    sql(path, f"UPDATE runs SET pid = {child.pid}, process_birth = 'another' WHERE id = '{run_id}'")
    return run_id


# runs


def test_a_run_that_lost_its_engine(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run_id = lost(path, 2)
    report = doctor(capsys)
    assert report.code == 1
    (text,) = report.problems()
    assert text.startswith(f"{run_id} has lost its engine, and its row does not say so: The engine stopped")
    assert f"`pwff resume {run_id}`" in report.advice
    report = doctor(capsys, "--mend")
    assert (report.code, report.mended) == (
        0,
        [f"Run {run_id} is written down as failed; `pwff resume {run_id}` goes on with it."],
    )
    row = Store(path).run(run_id)
    assert (row.status, row.rounds_done) == (RunStatus.FAILED, 2)


def test_many_runs_that_lost_their_engines_share_a_line(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ids = [lost(path) for _ in range(6)]
    problems = doctor(capsys).problems()
    assert [text.split()[0] for text in problems[:4]] == ids[:4]
    assert problems[4:] == [f"2 more have lost their engines: {ids[4]}, {ids[5]}."]


def test_a_run_whose_engine_does_not_answer_is_reported_and_left_alone(
    path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = Store(path)
    run_id = store.create_run(CONFIG)
    store.claim(run_id)
    sql(path, "UPDATE runs SET heartbeat_at = heartbeat_at - 60")
    before = store.run(run_id)
    assert before.status is RunStatus.STALLED
    report = doctor(capsys, "--mend")
    assert (report.code, report.mended) == (1, [])
    assert report.problems()[0].startswith(f"{run_id} does not go on: No sign of life")
    assert f"end process {before.pid}, and `pwff resume {run_id}`" in report.advice
    assert Store(path).run(run_id).status is RunStatus.STALLED


def test_rounds_that_are_miscounted(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run_id = played(Store(path), CONFIG)
    sql(path, "UPDATE runs SET rounds_done = 9")
    assert doctor(capsys).problems() == [f"{run_id} says that it has 9 rounds, and has 3."]
    assert doctor(capsys, "--mend").mended == [f"Run {run_id} has 3 rounds, not 9."]
    assert doctor(capsys).code == 0


# engines


@pytest.mark.parametrize("module", [WORKER, FORMER_WORKER])
def test_engines_of_this_version_and_the_one_before_are_recognised(
    path: Path, capsys: pytest.CaptureFixture[str], module: str
) -> None:
    Store(path)
    with engine(path, "abcdefgh", module) as process:
        assert doctor(capsys).problems() == [f"Process {process.pid} plays run abcdefgh, which is not in the store."]


def test_an_engine_without_a_run_is_ended_by_mending_alone(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = Store(path)
    deleted = played(store, CONFIG)
    store.delete(deleted)
    with engine(path, "abcdefgh") as stray, engine(path, deleted) as second:
        report = doctor(capsys)
        assert sorted(report.problems()) == sorted(
            [
                f"Process {stray.pid} plays run abcdefgh, which is not in the store.",
                f"Process {second.pid} plays run {deleted}, which is deleted.",
            ]
        )
        assert (stray.poll(), second.poll()) == (None, None)
        report = doctor(capsys, "--mend")
        assert sorted(report.mended) == sorted(f"Process {process.pid} was ended." for process in (stray, second))
        for process in (stray, second):
            process.wait(timeout=60)  # they are gone
        assert report.code == 0


def test_engines_with_a_run_are_left_alone(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = Store(path)
    playing, begun, ended = store.create_run(CONFIG), store.create_run(CONFIG), played(store, CONFIG)
    store.claim(playing)
    other = path.with_name("other.sqlite")
    with (
        engine(path, playing) as first, engine(path, begun) as second, engine(path, ended) as third,
        engine(other, "abcdefgh") as fourth,
    ):  # fmt: skip
        sql(path, f"UPDATE runs SET pid = {first.pid} WHERE id = '{playing}'")
        sql(path, f"UPDATE runs SET process_birth = '', process_started_at = {time.time()} WHERE id = '{playing}'")
        report = doctor(capsys, "--mend")
        assert (report.problems(), report.mended) == ([], [])
        assert report.texts["ok Engines"] == ["3 at work, each for a run of this store."]
        assert [process.poll() for process in (first, second, third, fourth)] == [None] * 4


def test_an_engine_that_outlives_its_run_or_was_replaced_is_an_orphan(
    path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = Store(path)
    ended, taken_over = played(store, CONFIG), store.create_run(CONFIG)
    store.claim(taken_over)  # this process plays it
    sql(path, f"UPDATE runs SET heartbeat_at = {time.time() - 120} WHERE id = '{ended}'")
    with engine(path, ended) as old, engine(path, taken_over) as replaced:
        problems = doctor(capsys).problems()
        assert f"Process {old.pid} plays run {ended}, which is finished." in problems
        assert any(
            text.startswith(f"Process {replaced.pid} plays run {taken_over}, which process") for text in problems
        )


# queue and clock


def test_a_queue_without_an_engine_is_a_note(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = Store(path)
    ids = [store.create_run(CONFIG, in_queue=True) for _ in range(2)]
    report = doctor(capsys, "--mend")
    assert report.code == 0  # it is nobody's fault
    assert report.texts["note Queue"] == ["2 runs in it and none plays: nobody is there to start the next one."]
    assert [row.id for row in store.queue()] == ids  # it was not started either
    store.claim(store.create_run(CONFIG))
    assert doctor(capsys).texts["ok Queue"] == ["2 runs in it."]


def test_rows_from_the_future(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run_id = played(Store(path), CONFIG)
    sql(path, "UPDATE runs SET created_at = created_at + 3600")
    report = doctor(capsys)
    assert report.code == 0
    (text,) = report.texts["note Clock"]
    assert text.startswith(f"1 run in the future, {run_id} by 3,")
