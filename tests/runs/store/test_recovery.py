"""A new store of what can be read of a damaged one, with the file's own bytes as the oracle."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Sequence
from pathlib import Path

import pytest

from pwff_core.config import RunConfig
from pwff_core.errors import StoreError
from pwff_core.records import Steering
from pwff_core.runs.store import RunStatus, Store, inspection
from pwff_core.runs.store.inspection import Condition
from pwff_core.runs.store.recovery import recover
from pwff_core.runs.store.schema import RUNS
from tests.support.scripted import record
from tests.support.store_tables import sql

PAGE = 4096
ROUNDS = 4
NAMES = ("one", "two", "three")
CONFIG = RunConfig(clients=2)
INTERIOR = 0x05  # first byte of a page that says on which pages a table goes on


class Whole:
    """A sound store as bytes, and what is in it."""

    def __init__(self, path: Path) -> None:
        store = Store(path)
        self.ids = [store.create_run(CONFIG, name) for name in NAMES]
        for number in range(1, ROUNDS + 1):  # so that pages hold rounds of several runs
            for run_id in self.ids:
                if number == 1:
                    store.claim(run_id)
                store.append(run_id, record(number, run_id))
        for run_id in self.ids:
            store.finish(run_id, RunStatus.FINISHED)
        inspection.shorten_log(path)
        self.content = path.read_bytes()

    def prefix(self, content: bytes, run_id: str) -> int:
        """How many rounds of a run, from the first, stand in these bytes."""
        texts = [record(number, run_id).model_dump_json().encode() for number in range(1, ROUNDS + 1)]
        return next((number for number, text in enumerate(texts) if text not in content), ROUNDS)

    def has_row(self, content: bytes, run_id: str) -> bool:
        """Whether the row of a run stands in these bytes: its id and, next to it, its name."""
        return f"{run_id}{NAMES[self.ids.index(run_id)]}".encode() in content


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Whole:
    return Whole(tmp_path_factory.mktemp("whole") / "runs.sqlite")


def kept(path: Path) -> dict[str, int]:
    """Rounds of each run of a store, which are to be the first ones."""
    store = Store(path)
    found = {row.id: [record for _, record in store.rounds(row.id)] for row in store.runs()}
    for run_id, records in found.items():
        assert records == [record(number, run_id) for number in range(1, len(records) + 1)]
        assert store.run(run_id).rounds_done == len(records)
    return {run_id: len(records) for run_id, records in found.items()}


def test_whichever_page_is_garbage_all_that_stands_on_the_others_is_kept(whole: Whole, tmp_path: Path) -> None:
    lost_somewhere = False
    for page in range(len(whole.content) // PAGE):
        start = page * PAGE
        content = whole.content[:start] + b"\xa5" * PAGE + whole.content[start + PAGE :]
        path = tmp_path / f"{page}.sqlite"
        path.write_bytes(content)
        done = recover(path)
        found = kept(path)
        assert done.aside.read_bytes() == content  # nothing is thrown away
        assert (done.runs, done.rounds) == (len(found), sum(found.values()))
        if whole.content[start] == INTERIOR:
            continue  # which pages are the table's stood on it
        for run_id in whole.ids:
            assert found.get(run_id) == (whole.prefix(content, run_id) if whole.has_row(content, run_id) else None)
        lost_somewhere |= sum(found.values()) < 3 * ROUNDS
    assert lost_somewhere


def test_a_garbage_first_page_loses_nothing(whole: Whole, tmp_path: Path) -> None:
    path = tmp_path / "runs.sqlite"
    path.write_bytes(b"\xa5" * PAGE + whole.content[PAGE:])
    assert inspection.health(path, RUNS).condition is Condition.UNREADABLE
    assert recover(path)[1:] == (3, 3 * ROUNDS, 0, (), 0)
    assert kept(path) == dict.fromkeys(whole.ids, ROUNDS)
    assert inspection.health(path, RUNS).condition is Condition.SOUND


def test_a_file_without_its_end_keeps_its_beginning(whole: Whole, tmp_path: Path) -> None:
    path = tmp_path / "runs.sqlite"
    content = whole.content[: len(whole.content) - 3 * PAGE - 100]
    path.write_bytes(content)
    assert inspection.health(path, RUNS).condition is Condition.DAMAGED
    done = recover(path)
    found = kept(path)
    assert found == {run_id: whole.prefix(content, run_id) for run_id in whole.ids}
    assert 0 < done.rounds < 3 * ROUNDS
    assert set(done.incomplete) == {run_id for run_id, rounds in found.items() if rounds < ROUNDS}


def test_a_finished_run_that_lost_rounds_can_be_resumed(whole: Whole, tmp_path: Path) -> None:
    path = tmp_path / "runs.sqlite"
    path.write_bytes(whole.content[: len(whole.content) - 3 * PAGE])
    (run_id, *_) = recover(path).incomplete
    store = Store(path)
    row = store.run(run_id)
    assert (row.status, row.message) == (
        RunStatus.FAILED,
        f"The store was damaged; {row.rounds_done} of {row.rounds_total} rounds are left. Resume to play the others.",
    )
    store.requeue(run_id, in_queue=False)
    assert store.run(run_id).status is RunStatus.QUEUED


def forget(path: Path, rounds: Sequence[int], run_id: str) -> None:
    """Takes rounds out of a sound file, as if their rows could not be read."""
    for number in rounds:
        sql(path, f"DELETE FROM rounds WHERE run_id = '{run_id}' AND json_extract(record, '$.round') = {number}")


def test_rounds_behind_a_gap_are_played_again(whole: Whole, tmp_path: Path) -> None:
    path = tmp_path / "runs.sqlite"
    path.write_bytes(whole.content)
    first, second, third = whole.ids
    forget(path, [4], first)
    assert recover(path).incomplete == (first,)
    assert kept(path) == {first: 3, second: ROUNDS, third: ROUNDS}


def test_a_copy_fills_what_the_damaged_file_lacks(whole: Whole, tmp_path: Path) -> None:
    path, copy = tmp_path / "runs.sqlite", tmp_path / "runs.v2-backup.sqlite"
    copy.write_bytes(whole.content)
    path.write_bytes(whole.content)
    first, second, third = whole.ids
    forget(path, [4], first)
    sql(path, f"UPDATE runs SET config = 'unreadable' WHERE id = '{second}'")
    done = recover(path)
    assert (done.runs, done.rounds, done.from_copies, done.incomplete) == (3, 3 * ROUNDS, 1, ())
    assert kept(path) == dict.fromkeys(whole.ids, ROUNDS)


def test_a_copy_does_not_bring_back_what_was_removed_for_good(whole: Whole, tmp_path: Path) -> None:
    path = tmp_path / "runs.sqlite"
    (tmp_path / "runs.v2-backup.sqlite").write_bytes(whole.content)
    path.write_bytes(whole.content)
    gone = whole.ids[0]
    Store(path).delete(gone)
    assert inspection.purge(path, gone)
    assert recover(path).from_copies == 0
    assert set(kept(path)) == set(whole.ids[1:])


def test_rounds_of_a_run_whose_row_is_lost_are_counted(whole: Whole, tmp_path: Path) -> None:
    path = tmp_path / "runs.sqlite"
    path.write_bytes(whole.content)
    sql(path, f"UPDATE runs SET status = 'x' WHERE id = '{whole.ids[0]}'")
    done = recover(path)
    assert (done.runs, done.unknown) == (2, ROUNDS)


def test_what_was_steered_stays(whole: Whole, tmp_path: Path) -> None:
    path = tmp_path / "runs.sqlite"
    path.write_bytes(whole.content)
    steering = Steering(
        position=3,
        stage="instruction",
        round=3,
        before={"channel.snr_db": 5.0},
        changes={"channel.snr_db": 9.0},
        at=1.0,
    )
    sql(path, f"INSERT INTO steerings (run_id, steering) VALUES ('{whole.ids[0]}', '{steering.model_dump_json()}')")
    sql(path, f"INSERT INTO steerings (run_id, steering) VALUES ('{whole.ids[0]}', 'garbage')")
    recover(path)
    assert Store(path).steerings(whole.ids[0]) == [steering]


def test_what_the_write_ahead_log_holds_is_kept(whole: Whole, tmp_path: Path) -> None:
    """As after a power cut: the newest rounds are in the log alone, and a page of the file is garbage."""
    work, path = tmp_path / "work.sqlite", tmp_path / "runs.sqlite"
    work.write_bytes(whole.content)
    run_id = whole.ids[0]
    store = Store(work)
    sql(work, f"UPDATE runs SET status = 'failed' WHERE id = '{run_id}'")
    store.requeue(run_id, in_queue=False)
    store.claim(run_id)
    reader = sqlite3.connect(work)  # while it reads, the log stays
    reader.execute("SELECT count(*) FROM runs").fetchone()
    store.append(run_id, record(ROUNDS + 1, run_id))
    for file in tmp_path.glob("work.sqlite*"):
        if not file.name.endswith("-shm"):
            shutil.copyfile(file, path.with_name(file.name.replace("work", "runs")))
    reader.close()
    path.write_bytes(b"\xa5" * PAGE + path.read_bytes()[PAGE:])
    recover(path)
    assert kept(path)[run_id] == ROUNDS + 1


def test_a_folder_without_room_is_a_sentence_and_the_file_stays(
    whole: Whole, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(source: Path, target: Path) -> None:
        raise OSError(28, "No space left on device")

    path = tmp_path / "runs.sqlite"
    path.write_bytes(b"\xa5" * PAGE + whole.content[PAGE:])
    monkeypatch.setattr(shutil, "copyfile", full)
    with pytest.raises(StoreError, match=r"\(No space left on device\); make room on its disk or allow"):
        recover(path)
    assert [file.name for file in tmp_path.iterdir()] == ["runs.sqlite"]
    assert path.read_bytes()[PAGE:] == whole.content[PAGE:]


def test_records_that_are_none_are_left_out(whole: Whole, tmp_path: Path) -> None:
    path = tmp_path / "runs.sqlite"
    path.write_bytes(whole.content)
    first = whole.ids[0]
    sql(path, f"UPDATE rounds SET record = replace(record, 'accuracy', 'acc') WHERE run_id = '{first}'")
    assert recover(path).incomplete == (first,)
    assert kept(path)[first] == 0
