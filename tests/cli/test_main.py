"""The entry point: help, the version, and stores that cannot be used."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from pwff_core import cli
from pwff_core.config import RunConfig
from pwff_core.runs.store import Store
from tests.support.cli_output import SHORT, error_line

ROOT = Path(__file__).resolve().parent.parent.parent


@pytest.mark.parametrize(("command", "flag"), [("run", "--channel.snr-db dB"), ("rank", "--candidates N")])
def test_help_loads_nothing_that_training_needs(command: str, flag: str) -> None:
    code = (
        "import sys, pwff_core.cli as cli\n"
        f"try: cli.main([{command!r}, '--help'])\n"
        "except SystemExit as end: assert end.code == 0\n"
        "heavy = {'torch', 'transformers', 'pandas', 'numpy', 'scipy', 'streamlit', 'plotly', 'tqdm', 'openai'}\n"
        "print(*sorted(heavy & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stderr.strip() == ""
    assert flag in done.stdout


def test_no_command_shows_help_and_version_is_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        cli.main([])
    assert end.value.code == 0
    assert "{run,resume,fork,compare,runs,export,rank,app,doctor}" in capsys.readouterr().out
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("pwff ")


def test_python_m_is_the_same_program(path: Path) -> None:
    command = [sys.executable, "-m", "pwff_core", "run", "--clients", "0"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "pwff: clients: 0 is not allowed; give a whole number from 2 to 200.\n"


def test_a_store_that_is_not_sqlite(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path.write_bytes(b"something else entirely" * 100)
    for words in (["run", *SHORT], ["runs"], ["export", "latest"], ["compare", *SHORT], ["app"]):
        assert error_line(capsys, *words) == (
            f"The store {path} is not a store of runs (not an SQLite file); "
            "choose another file with --store or $PWFF_STORE."
        )


def test_a_damaged_store_names_the_doctor(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Store(path).create_run(RunConfig())
    path.write_bytes(path.read_bytes()[:8192])
    assert cli.main(["runs"]) == 2
    errors = capsys.readouterr().err.splitlines()
    assert "is malformed" in errors[0]
    assert errors[1] == "`pwff doctor` says what is damaged, and `pwff doctor --mend` saves what can be read."


def test_a_locked_store(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Store(path)
    blocker = sqlite3.connect(path, isolation_level=None)
    blocker.execute("BEGIN IMMEDIATE")
    assert "is locked by another program; close that program and try again" in error_line(capsys, "run", *SHORT)
    blocker.close()


def test_a_store_in_a_folder_that_cannot_be_made(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("in the way")
    error = error_line(capsys, "run", *SHORT, "--store", str(tmp_path / "file" / "runs.sqlite"))
    assert "cannot be made" in error and "choose another file with --store or $PWFF_STORE" in error
