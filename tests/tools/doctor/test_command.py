"""`pwff doctor` as a whole: what it prints, its exit code, how fast, and what it loads."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from pwff_core import cli
from pwff_core.runs.store import Store
from pwff_core.tools.doctor.findings import Finding, Level, as_text, healthy
from tests.support.cli_output import error_line
from tests.support.doctor_output import CONFIG, doctor
from tests.support.scripted import played

ROOT = Path(__file__).resolve().parents[3]


def test_a_healthy_store(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    played(Store(path), CONFIG)
    before = path.read_bytes()
    found = doctor(capsys)
    assert (found.code, found.problems()) == (0, [])
    abouts = "Store Runs Engines Queue Clock Files Folder Disk Memory Versions Chrome"
    assert list(dict.fromkeys(key.split()[1] for key in found.texts)) == abouts.split()
    assert found.texts["ok Store"][0].startswith(f"{path}: 1 run, ")
    assert path.read_bytes() == before


def test_with_no_store_there_is_nothing_to_worry_about_and_none_is_made(
    path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = doctor(capsys, "--mend")
    assert (found.code, found.mended) == (0, [])
    assert found.texts["ok Store"] == [f"There is none yet at {path}; `pwff run` or `pwff app` makes one."]
    assert list(path.parent.iterdir()) == []


def test_a_healthy_store_has_nothing_to_mend(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    played(Store(path), CONFIG)
    assert doctor(capsys, "--mend", "--purge-deleted").mended == []


def test_a_purge_is_asked_for_twice(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = error_line(capsys, "doctor", "--purge-deleted")
    assert said == "--purge-deleted removes runs for good, so it needs --mend beside it."


def test_it_never_loads_what_trains_or_draws(path: Path) -> None:
    played(Store(path), CONFIG)
    code = (
        "import sys, pwff_core.cli as cli\n"
        "assert cli.main(['doctor']) == 0\n"
        "heavy = {'torch', 'transformers', 'pandas', 'scipy', 'streamlit', 'plotly', 'openai'}\n"
        "print(*sorted(heavy & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stderr.strip() == ""
    assert done.stdout.startswith("ok")


def test_the_checklist_in_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    found = [
        Finding("Disk", Level.OK, "65.0 GB are free."),
        Finding("Engines", Level.PROBLEM, "Process 12 plays run abc, which is not in the store.", "Mend it."),
    ]
    assert as_text(found).splitlines() == [
        "ok       Disk     65.0 GB are free.",
        "problem  Engines  Process 12 plays run abc, which is not in",
        "                  the store.",
        "                  → Mend it.",
    ]
    assert healthy(found[:1]) and not healthy(found)


def test_help_says_what_mending_does_not_do(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main(["doctor", "--help"])
    shown = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert "no run that is well is touched, nothing that can be read is thrown away" in shown
