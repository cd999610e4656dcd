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
    report = doctor(capsys)
    assert (report.code, report.problems()) == (0, [])
    abouts = "Store Runs Engines Queue Clock Files Folder Disk Memory Versions Chrome"
    assert list(dict.fromkeys(key.split()[1] for key in report.texts)) == abouts.split()
    assert report.texts["ok Store"][0].startswith(f"{path}: 1 run, ")
    assert path.read_bytes() == before


def test_without_a_store_all_is_well_and_none_is_made(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report = doctor(capsys, "--mend")
    assert (report.code, report.mended) == (0, [])
    assert report.texts["ok Store"] == [f"There is none yet at {path}; `pwff run` or `pwff app` makes one."]
    assert list(path.parent.iterdir()) == []


def test_a_healthy_store_has_nothing_to_mend(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    played(Store(path), CONFIG)
    assert doctor(capsys, "--mend", "--purge-deleted").mended == []


def test_a_purge_needs_mend_beside_it(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    error = error_line(capsys, "doctor", "--purge-deleted")
    assert error == "--purge-deleted removes runs for good, so it needs --mend beside it."


def test_it_loads_nothing_that_trains_or_draws(path: Path) -> None:
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
    findings = [
        Finding("Disk", Level.OK, "65.0 GB are free."),
        Finding("Engines", Level.PROBLEM, "Process 12 plays run abc, which is not in the store.", "Mend it."),
    ]
    assert as_text(findings).splitlines() == [
        "ok       Disk     65.0 GB are free.",
        "problem  Engines  Process 12 plays run abc, which is not in",
        "                  the store.",
        "                  → Mend it.",
    ]
    assert healthy(findings[:1]) and not healthy(findings)


def test_help_says_that_mending_is_safe(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main(["doctor", "--help"])
    help_text = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert "no run that is well is touched, nothing that can be read is thrown away" in help_text
