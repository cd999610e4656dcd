"""The table of faults, and the quick faults that need no root. `make chaos` plays them all."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.chaos import checkpoint_faults, disk_faults, faults, process_faults
from tests.chaos.reference import References
from tests.chaos.scene import Row, Scene, Skipped

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGKILL")


@pytest.fixture(scope="module")
def references(tmp_path_factory: pytest.TempPathFactory) -> References:
    """One undisturbed run for all tests."""
    return References(tmp_path_factory.mktemp("references"))


def test_every_fault_has_a_name_of_its_own() -> None:
    names = [faults.name_of(fault) for fault in faults.FAULTS]
    assert len({*names}) == len(names)
    assert {"full disk", "locked store", "two at once", "all removed", "clock −1 day"} <= {*names}


def test_a_row_of_the_table_is_one_line() -> None:
    row = Row("a disk | full", "waits", "two\nlines", "as it was", True)
    assert faults.line(row) == "| a disk \\| full | waits | two lines | as it was |"


def test_a_fault_that_is_impossible_here_is_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def moonless(scene: Scene) -> Row:
        raise Skipped("it needs a moon")

    assert faults.play_fault(moonless, tmp_path, References(tmp_path)) is None
    assert capsys.readouterr().out == "moonless: left out: it needs a moon.\n"


def test_a_fault_that_fails_is_a_row_that_is_not_fine(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def broken(scene: Scene) -> Row:
        raise RuntimeError("it did not come to that")

    row = faults.play_fault(broken, tmp_path, References(tmp_path))
    assert row == Row("broken", "", "", "RuntimeError: it did not come to that", False)
    assert "it did not come to that" in capsys.readouterr().err


def test_a_locked_store_cannot_be_written(tmp_path: Path) -> None:
    scene = Scene(tmp_path, References(tmp_path))
    probe = f"import sqlite3; sqlite3.connect({str(scene.store.path)!r}, timeout=0).execute('BEGIN IMMEDIATE')"
    with disk_faults.locked(scene.store.path):
        assert b"database is locked" in subprocess.run([sys.executable, "-c", probe], capture_output=True).stderr
    assert subprocess.run([sys.executable, "-c", probe]).returncode == 0


@pytest.mark.slow
@pytest.mark.parametrize(
    "fault",
    [
        process_faults.two_at_once,
        process_faults.killed_by_the_system,
        disk_faults.checkpoints_in_the_way,
        checkpoint_faults.all_removed,
    ],
    ids=lambda fault: str(fault.__name__),
)
def test_after_a_fault_the_result_equals_an_undisturbed_run(
    fault: Callable[[Scene], Row], references: References, tmp_path: Path
) -> None:
    row = fault(Scene(tmp_path, references))
    assert (row.fine, row.afterwards.partition(".")[0]) == (
        True,
        "all rounds kept, store whole, same result bit for bit",
    )
