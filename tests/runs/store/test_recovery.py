"""Recovery of a damaged store, with the bytes of the file as the oracle."""

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
INTERIOR = 0x05  # first byte of a page that lists other pages of its table


class SoundStore:
    """The bytes of a sound store, and the ids of its runs."""

    def __init__(self, path: Path) -> None:
        store = Store(path)
        self.ids = [store.create_run(CONFIG, name) for name in NAMES]
        for number in range(1, ROUNDS + 1):  # so that each page holds rounds of several runs
            for run_id in self.ids:
                if number == 1:
                    store.claim(run_id)
                store.append(run_id, record(number, run_id))
        for run_id in self.ids:
            store.finish(run_id, RunStatus.FINISHED)
        inspection.shorten_log(path)
        self.content = path.read_bytes()

    def prefix(self, content: bytes, run_id: str) -> int:
        """How many rounds of a run, from the first, these bytes hold."""
        texts = [record(number, run_id).model_dump_json().encode() for number in range(1, ROUNDS + 1)]
        return next((number for number, text in enumerate(texts) if text not in content), ROUNDS)

    def has_row(self, content: bytes, run_id: str) -> bool:
        """Whether these bytes hold the row of a run: its id and, next to it, its name."""
        return f"{run_id}{NAMES[self.ids.index(run_id)]}".encode() in content


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> SoundStore:
    return SoundStore(tmp_path_factory.mktemp("whole") / "runs.sqlite")


def rounds_by_run(path: Path) -> dict[str, int]:
    """The number of rounds of each run, by id; checks that they are its first ones."""
    store = Store(path)
    by_run = {row.id: [record for _, record in store.rounds(row.id)] for row in store.runs()}
    for run_id, records in by_run.items():
        assert records == [record(number, run_id) for number in range(1, len(records) + 1)]
        assert store.run(run_id).rounds_done == len(records)
    return {run_id: len(records) for run_id, records in by_run.items()}


def test_one_garbage_page_loses_only_what_it_held(whole: SoundStore, tmp_path: Path) -> None:
    lost_somewhere = False
    for page in range(len(whole.content) // PAGE):
        start = page * PAGE
        content = whole.content[:start] + b"\xa5" * PAGE + whole.content[start + PAGE :]
        path = tmp_path / f"{page}.sqlite"
        path.write_bytes(content)
        recovery = recover(path)
        rounds = rounds_by_run(path)
        assert recovery.aside.read_bytes() == content  # nothing is lost
        assert (recovery.runs, recovery.rounds) == (len(rounds), sum(rounds.values()))
        if whole.content[start] == INTERIOR:
            continue  # the list of the table's pages is lost
        for run_id in whole.ids:
            assert rounds.get(run_id) == (whole.prefix(content, run_id) if whole.has_row(content, run_id) else None)
        lost_somewhere |= sum(rounds.values()) < 3 * ROUNDS
    assert lost_somewhere


def test_a_garbage_first_page_loses_nothing(whole: SoundStore, tmp_path: Path) -> None:
    path = tmp_path / "runs.sqlite"
    path.write_bytes(b"\xa5" * PAGE + whole.content[PAGE:])
    assert inspection.health(path, RUNS).condition is Condition.UNREADABLE
    assert recover(path)[1:] == (3, 3 * ROUNDS, 0, (), 0)
    assert rounds_by_run(path) == dict.fromkeys(whole.ids, ROUNDS)
    assert inspection.health(path, RUNS).condition is Condition.SOUND


def test_a_truncated_file_keeps_its_beginning(whole: SoundStore, tmp_path: Path) -> None:
    path = tmp_path / "runs.sqlite"
    content = whole.content[: len(whole.content) - 3 * PAGE - 100]
    path.write_bytes(content)
    assert inspection.health(path, RUNS).condition is Condition.DAMAGED
    recovery = recover(path)
    rounds = rounds_by_run(path)
    assert rounds == {run_id: whole.prefix(content, run_id) for run_id in whole.ids}
    assert 0 < recovery.rounds < 3 * ROUNDS
    assert set(recovery.incomplete) == {run_id for run_id, count in rounds.items() if count < ROUNDS}


def test_a_finished_run_that_lost_rounds_can_be_resumed(whole: SoundStore, tmp_path: Path) -> None:
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
    """Deletes rounds from a sound file, as if their rows could not be read."""
    for number in rounds:
        sql(path, f"DELETE FROM rounds WHERE run_id = '{run_id}' AND json_extract(record, '$.round') = {number}")


def test_rounds_behind_a_gap_are_played_again(whole: SoundStore, tmp_path: Path) -> None:
    path = tmp_path / "runs.sqlite"
    path.write_bytes(whole.content)
    first, second, third = whole.ids
    forget(path, [4], first)
    assert recover(path).incomplete == (first,)
    assert rounds_by_run(path) == {first: 3, second: ROUNDS, third: ROUNDS}


def test_a_backup_fills_the_gaps(whole: SoundStore, tmp_path: Path) -> None:
    path, copy = tmp_path / "runs.sqlite", tmp_path / "runs.v2-backup.sqlite"
    copy.write_bytes(whole.content)
    path.write_bytes(whole.content)
    first, second, third = whole.ids
    forget(path, [4], first)
    sql(path, f"UPDATE runs SET config = 'unreadable' WHERE id = '{second}'")
    recovery = recover(path)
    assert (recovery.runs, recovery.rounds, recovery.from_copies, recovery.incomplete) == (3, 3 * ROUNDS, 1, ())
    assert rounds_by_run(path) == dict.fromkeys(whole.ids, ROUNDS)


def test_a_backup_does_not_bring_back_purged_runs(whole: SoundStore, tmp_path: Path) -> None:
    path = tmp_path / "runs.sqlite"
    (tmp_path / "runs.v2-backup.sqlite").write_bytes(whole.content)
    path.write_bytes(whole.content)
    gone = whole.ids[0]
    Store(path).delete(gone)
    assert inspection.purge(path, gone)
    assert recover(path).from_copies == 0
    assert set(rounds_by_run(path)) == set(whole.ids[1:])


def test_rounds_of_a_run_whose_row_is_lost_are_counted(whole: SoundStore, tmp_path: Path) -> None:
    path = tmp_path / "runs.sqlite"
    path.write_bytes(whole.content)
    sql(path, f"UPDATE runs SET status = 'x' WHERE id = '{whole.ids[0]}'")
    recovery = recover(path)
    assert (recovery.runs, recovery.unknown) == (2, ROUNDS)


def test_steerings_are_recovered(whole: SoundStore, tmp_path: Path) -> None:
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


def test_rounds_in_the_write_ahead_log_are_recovered(whole: SoundStore, tmp_path: Path) -> None:
    """As after a power cut: the newest rounds are in the log alone, and a page of the file is garbage."""
    work, path = tmp_path / "work.sqlite", tmp_path / "runs.sqlite"
    work.write_bytes(whole.content)
    run_id = whole.ids[0]
    store = Store(work)
    sql(work, f"UPDATE runs SET status = 'failed' WHERE id = '{run_id}'")
    store.requeue(run_id, in_queue=False)
    store.claim(run_id)
    reader = sqlite3.connect(work)  # an open reader keeps the log
    reader.execute("SELECT count(*) FROM runs").fetchone()
    store.append(run_id, record(ROUNDS + 1, run_id))
    for file in tmp_path.glob("work.sqlite*"):
        if not file.name.endswith("-shm"):
            shutil.copyfile(file, path.with_name(file.name.replace("work", "runs")))
    reader.close()
    path.write_bytes(b"\xa5" * PAGE + path.read_bytes()[PAGE:])
    recover(path)
    assert rounds_by_run(path)[run_id] == ROUNDS + 1


def test_a_full_disk_is_reported_and_the_file_stays(
    whole: SoundStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
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


def test_invalid_records_are_left_out(whole: SoundStore, tmp_path: Path) -> None:
    path = tmp_path / "runs.sqlite"
    path.write_bytes(whole.content)
    first = whole.ids[0]
    sql(path, f"UPDATE rounds SET record = replace(record, 'accuracy', 'acc') WHERE run_id = '{first}'")
    assert recover(path).incomplete == (first,)
    assert rounds_by_run(path)[first] == 0
