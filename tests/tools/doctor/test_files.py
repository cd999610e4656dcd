"""Stores that cannot be used: what the doctor reports, and what it repairs."""

from __future__ import annotations

import re
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from pwff_core.runs import processes
from pwff_core.runs.store import SCHEMA_VERSION, Store, inspection
from pwff_core.runs.store.schema import RUNS, prepare
from tests.support.doctor_output import CONFIG, doctor
from tests.support.engines import engine
from tests.support.scripted import played
from tests.support.store_tables import sql


def damaged(path: Path, start: int = 8192) -> bytes:
    """The bytes of a store with two runs whose file is garbage from there on."""
    store = Store(path)
    for _ in range(2):
        played(store, CONFIG)
    inspection.shorten_log(path)
    content = path.read_bytes()
    path.write_bytes(content[:start] + b"\xa5" * (len(content) - start))
    return path.read_bytes()


def test_a_damaged_store_is_reported_and_not_touched(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    content = damaged(path)
    report = doctor(capsys)
    assert report.code == 1
    (text,) = report.problems()
    assert text.startswith(f"{path} is damaged (") and "cannot be relied on" in text
    assert "puts a new file with all that can be read in its place, and keeps the damaged one" in report.advice
    assert "ok Disk" in report.texts  # the rest is looked at all the same
    assert path.read_bytes() == content


def test_the_newest_copy_is_named(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    damaged(path)
    path.with_name("runs.v2-backup.sqlite").write_bytes(b"")
    assert doctor(capsys).problems()[0].endswith("Its newest copy is runs.v2-backup.sqlite.")


@pytest.mark.parametrize("cut", ["the end", "the first page", "the header"])
def test_mending_a_damaged_store_loses_nothing(path: Path, capsys: pytest.CaptureFixture[str], cut: str) -> None:
    store = Store(path)
    ids = {played(store, CONFIG) for _ in range(2)}
    store.request_stop(ids.copy().pop())  # so that there is a second file, which says that the first was a store
    inspection.shorten_log(path)
    whole = path.read_bytes()
    broken = {
        "the end": whole[:-5000],
        "the first page": b"\xa5" * 4096 + whole[4096:],
        "the header": whole[:100] + b"\xa5" * 3996 + whole[4096:],
    }[cut]
    path.write_bytes(broken)
    report = doctor(capsys, "--mend")
    (aside,) = path.parent.glob("runs.damaged-*.sqlite")
    assert aside.read_bytes() == broken
    counts = re.fullmatch(
        r"A new store has all that could be read, (\d) runs and (\d) rounds; the .* (\S+)\.", report.mended[0]
    )
    assert counts is not None and counts[3] == str(aside)
    assert {row.id for row in Store(path).runs()} <= ids
    if cut != "the end":
        assert (counts[1], counts[2]) == ("2", "6")
        assert {row.id for row in Store(path).runs()} == ids
    assert report.code == 0  # what is there now is sound


def test_a_file_that_was_never_a_store_is_left_alone(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path.write_bytes(b"accuracy,loss\n0.5,1.2\n" * 100)
    report = doctor(capsys, "--mend")
    assert (report.code, report.mended) == (1, [])
    assert report.problems() == [f"{path} is no SQLite file, and nothing beside it says that it was a store."]
    assert path.read_bytes() == b"accuracy,loss\n0.5,1.2\n" * 100


@pytest.mark.parametrize(
    ("statement", "problem"),
    [
        ("PRAGMA application_id = 7", "is an SQLite file of another program"),
        (
            f"PRAGMA user_version = {SCHEMA_VERSION + 1}",
            f"newer pwff (format {SCHEMA_VERSION + 1}; this one reads up to",
        ),
    ],
)
def test_a_foreign_or_newer_store_is_left_alone(
    path: Path, capsys: pytest.CaptureFixture[str], statement: str, problem: str
) -> None:
    Store(path)
    sql(path, statement)
    before = path.read_bytes()
    report = doctor(capsys, "--mend")
    assert (report.code, report.mended) == (1, [])
    assert problem in report.problems()[0]
    assert path.read_bytes() == before


def test_an_older_store_is_renewed_only_by_mending(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    prepare(path, RUNS[:1], 5.0)
    report = doctor(capsys)
    assert report.code == 0
    assert f"(format 1; now {SCHEMA_VERSION})" in report.texts["note Store"][0]
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (1,)
    report = doctor(capsys, "--mend")
    assert report.mended[0] == (
        f"The store was renewed to format {SCHEMA_VERSION}; as it was, it is kept as runs.v1-backup.sqlite."
    )
    assert path.with_name("runs.v1-backup.sqlite").is_file()


def test_a_damaged_file_of_commands_is_set_aside(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = Store(path)
    run_id = store.create_run(CONFIG, in_queue=True)
    store.commands_path.write_bytes(b"\xa5" * 8192)
    report = doctor(capsys)
    assert (report.code, len(report.problems())) == (1, 1)
    assert report.problems()[0].startswith("runs.commands.sqlite, which has what pages ask of engines, is damaged")
    report = doctor(capsys, "--mend")
    assert report.code == 0
    assert re.fullmatch(
        r"runs\.commands\.sqlite is now runs\.commands\.damaged-.*; a new one is made .*", report.mended[0]
    )
    Store(path).request_stop(run_id)
    assert Store(path).stop_requested(run_id)


@pytest.mark.skipif(processes.creation_flags() != 0, reason="Windows renames no file that is open")
def test_a_store_that_engines_write_to_is_not_mended(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    content = damaged(path)
    with engine(path, "abcdefgh") as process:
        report = doctor(capsys, "--mend")
        left = f"The store was left as it is, as engines still write to it (process {process.pid}); "
        assert report.mended == [f"{left}stop them and mend again."]
        assert process.poll() is None
    assert path.read_bytes() == content
