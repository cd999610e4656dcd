"""A short crash test, and proofs that the harness of `make chaos` would notice losses, damage and differences."""

from __future__ import annotations

import json
import random
import sqlite3
import sys
from contextlib import closing
from pathlib import Path

import pytest

from pwff_core.config import RunConfig
from pwff_core.runs.checkpoints import INFO_FILE, TENSORS_FILE, CheckpointInfo, folder_of
from pwff_core.runs.run_files import RunFiles
from pwff_core.runs.store import Store
from tests.chaos import aims, kills, tiny
from tests.chaos.aims import Aim, Pace
from tests.chaos.engine import false_checkpoints, store_damage, stored_rounds
from tests.chaos.kills import Kill, Played, Victim
from tests.chaos.reference import References
from tests.chaos.tiny import Outcome
from tests.support.scripted import record

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGKILL")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "runs.sqlite")


@pytest.fixture
def victim(store: Store) -> Victim:
    """A run with three rounds in the store, all of them seen by the last look."""
    victim = Victim(store, tiny.config(), random.Random(0), Pace())
    store.claim(victim.run_id)
    for number in (1, 2, 3):
        store.append(victim.run_id, record(number, victim.run_id))
    assert victim.lost_or_damaged(3) == (0, ())
    return victim


def sql(store: Store, query: str) -> None:
    with closing(sqlite3.connect(store.path)) as connection, connection:
        connection.execute(query)


# a real run


def test_a_run_that_is_killed_twice_equals_an_uninterrupted_one(store: Store, tmp_path: Path) -> None:
    """The first kill comes while the first checkpoint is written, so two rounds are replayed; the second at the end."""
    # a judge that learns from the embedded pairs takes most of the time, and is no part of what is proved here
    pairs = tmp_path / "pairs.jsonl"
    rows = [{"prompt": f"What is {n} and {n}?", "chosen": f"It is {n + n}.", "rejected": "No."} for n in range(20)]
    pairs.write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
    config = tiny.config(checkpoint_every=2, reward__helpful_source=f"{pairs}", reward__harmless_source=f"{pairs}")
    victim = Victim(store, config, random.Random(0), Pace())
    for aim in (aims.in_a_checkpoint, aims.at_the_end):
        assert victim.live(aim)
    assert not victim.live(None)
    played = victim.played(References(tmp_path / "references", config))
    assert [kill.troubles for kill in played.kills] == [()] * 2
    assert (played.steered_at > 0, played.differing, played.troubles) == (True, (), ())
    assert kills.summary([played]) == (2, 0, 0)


# what the harness would notice


def test_a_round_that_is_gone_is_lost(victim: Victim) -> None:
    sql(victim.store, "DELETE FROM rounds WHERE id = 3")
    assert victim.lost_or_damaged(3) == (1, ())


def test_a_round_that_was_changed_is_lost(victim: Victim) -> None:
    sql(victim.store, "UPDATE rounds SET record = replace(record, '\"round\":2', '\"round\":5') WHERE id = 2")
    assert victim.lost_or_damaged(3) == (1, ())


def test_a_round_that_a_reader_saw_and_that_is_gone_is_lost(victim: Victim) -> None:
    assert victim.lost_or_damaged(4) == (1, ())


def test_more_rounds_are_no_loss(victim: Victim) -> None:
    victim.store.append(victim.run_id, record(4, victim.run_id))
    assert victim.lost_or_damaged(3) == (0, ())


def test_a_torn_store_is_noticed(store: Store) -> None:
    run_id = store.create_run(RunConfig(clients=2))
    sql(store, f"INSERT INTO rounds (run_id, record) VALUES ('{run_id}', '{'x' * 20000}')")
    sql(store, "PRAGMA wal_checkpoint(TRUNCATE)")
    assert store_damage(store.path) == []
    sql(store, "INSERT INTO rounds (run_id, record) VALUES ('nobody', '')")
    assert store_damage(store.path) == ["runs.sqlite: ('rounds', 2, 'runs', 0)"]


def test_a_checkpoint_that_is_listed_and_not_whole_is_noticed(tmp_path: Path) -> None:
    folder = folder_of(RunFiles(tmp_path / "runs.sqlite").checkpoints("abc"), 1)
    folder.mkdir(parents=True)
    (folder / TENSORS_FILE).write_bytes(b"tensors")
    digest = "a65a85a9b8b4a5a0"
    checkpoint = CheckpointInfo(
        position=1, stage="instruction", round=1, stage_end="", config=RunConfig(), size=7, digest=digest,
        snapshot_s=0.0, write_s=0.0, written_at=0.0, made_with={},
    )  # fmt: skip
    (folder / INFO_FILE).write_text(checkpoint.model_dump_json())
    assert false_checkpoints(tmp_path / "runs.sqlite", "abc") == ["checkpoint 1 is listed and not whole"]
    (folder / TENSORS_FILE).unlink()
    assert false_checkpoints(tmp_path / "runs.sqlite", "abc") == ["checkpoint 1 is listed and not whole"]


@pytest.mark.parametrize(
    ("records", "models", "differing"),
    [
        (("a", "b"), {"after.safetensors": "1"}, []),
        (("a", "c"), {"after.safetensors": "1"}, ["round 2"]),
        (("a",), {"after.safetensors": "1"}, ["round 2"]),
        (("a", "b", "c"), {"after.safetensors": "2"}, ["round 3", "after.safetensors"]),
        (("a", "b"), {}, ["after.safetensors"]),
        (("a", "b"), {"after.safetensors": "1", "judge.safetensors": "1"}, ["judge.safetensors"]),
    ],
)
def test_what_differs_is_named(records: tuple[str, ...], models: dict[str, str], differing: list[str]) -> None:
    assert Outcome(("a", "b"), {"after.safetensors": "1"}).differing(Outcome(records, models)) == differing


def test_a_record_is_compared_without_the_run_and_its_seconds() -> None:
    first, bare = record(1, "one"), tiny.without_run_and_time
    assert bare(first) == bare(first.model_copy(update={"run": "two", "wall_s": 99.0}))
    assert bare(first) != bare(first.model_copy(update={"loss": 99.0}))


def test_the_last_line_counts_kills_lost_rounds_and_resumes_that_differed() -> None:
    kill = Kill("in_a_round", "reward", 9.0, 5, 1, lost=0, troubles=())
    runs = [
        Played(1, 3, (kill, kill._replace(lost=2)), ("round 1", "round 2"), 1, ()),
        Played(2, 0, (kill._replace(phase="ending"),), (), 0, ()),
    ]
    assert kills.last_line(runs) == "3 kills, 2 rounds lost, 1 resumes that differed"
    assert [run.complaints for run in runs] == [["not as in the uninterrupted run: round 1, round 2"], []]
    assert "| reward | 2 |" in kills.table(runs) and "| ending | 1 |" in kills.table(runs)
    assert "| starting | 0 |" in kills.table(runs)


@pytest.mark.parametrize("left", [9, 2, 1, 0])
def test_every_aim_is_drawn_sooner_or_later(left: int) -> None:
    rng = random.Random(0)
    drawn: set[Aim] = {aims.draw_aim(rng, left) for _ in range(1000)}
    assert drawn == {*(aims.AIMS if left > 1 else aims.LAST_AIMS)}
    assert {*aims.AIMS} | {*aims.LAST_AIMS} == every_aim()


def every_aim() -> set[Aim]:
    """The functions of `aims` that are aims."""
    return {
        value
        for name, value in vars(aims).items()
        if callable(value) and not name.startswith("_") and name not in ("draw_aim", "phase", "Aim", "Pace")
        if getattr(value, "__module__", "") == aims.__name__
    }


def test_stored_rounds_are_the_records_as_written(victim: Victim) -> None:
    assert stored_rounds(victim.store, victim.run_id)[0] == record(1, victim.run_id).model_dump_json()
