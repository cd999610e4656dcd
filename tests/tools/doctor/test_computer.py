"""What the computer lacks."""

from __future__ import annotations

import platform
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from pwff_core.paths import root_dir
from pwff_core.tools.doctor.computer import (
    browser_finding,
    disk_finding,
    findings,
    folder_finding,
    memory_finding,
    requirements,
    version_findings,
)
from pwff_core.tools.doctor.findings import Finding, Level


def test_the_checklist_of_this_computer(path: Path) -> None:
    subjects = [finding.about for finding in findings(path)]
    assert list(dict.fromkeys(subjects)) == ["Folder", "Disk", "Memory", "Versions", "Chrome"]


@pytest.mark.parametrize(
    ("free", "level", "text"),
    [
        (5e9, Level.OK, "5.00 GB are free."),
        (5e8, Level.NOTE, "Only 500 MB are free where the store lies; runs with large models may fill it."),
        (5e7, Level.PROBLEM, "Only 50.0 MB are free where the store lies; runs may stop."),
    ],
)
def test_a_disk_that_fills_up(free: float, level: Level, text: str) -> None:
    disk = disk_finding(free)
    assert (disk.level, disk.text, bool(disk.advice)) == (level, text, level is not Level.OK)


def test_little_memory() -> None:
    memory = memory_finding(7e8)
    assert (memory.level, memory.text[:24]) == (Level.NOTE, "Only 700 MB are free; th")


def test_for_a_missing_folder_the_one_above_is_checked(path: Path) -> None:
    (folder,) = (f for f in findings(path.parent / "a" / "b" / "runs.sqlite") if f.about == "Folder")
    assert folder.text == f"{path.parent} can be written."


def test_a_folder_that_cannot_be_written(path: Path) -> None:
    folder = folder_finding(path.parent / "missing")
    assert (folder.level, "(No such file or directory)" in folder.text) == (Level.PROBLEM, True)


def test_the_packages_are_those_of_the_project(path: Path) -> None:
    packages = {package.name for package in requirements(root_dir() / "pyproject.toml")[1]}
    assert {"torch", "streamlit", "plotly", "packaging", "psutil"} <= packages
    assert not {"openai", "pytest"} & packages  # optional ones are not needed
    assert [finding.level for finding in findings(path) if finding.about == "Versions"][-1] is Level.OK


def test_other_versions_and_missing_packages() -> None:
    installed = {"numpy": "1.26.4", "plotly": "7.1.0"}
    packages = [Requirement(text) for text in ("numpy~=2.4.6", "plotly==7.1.0", "tyro~=1.0.16")]
    versions = list(version_findings(SpecifierSet(">=3.11"), packages, installed.get))
    assert [(finding.level, finding.text, finding.advice) for finding in versions[:2]] == [
        (Level.NOTE, "numpy is 1.26.4; pwff asks for numpy~=2.4.6.", "pip install 'numpy~=2.4.6'"),
        (Level.PROBLEM, "tyro is not installed; pwff asks for tyro~=1.0.16.", "pip install 'tyro~=1.0.16'"),
    ]


def test_another_python() -> None:
    problem, summary = version_findings(SpecifierSet("<3"), [])
    assert (problem.level, problem.text) == (Level.PROBLEM, f"Python {platform.python_version()} is not <3.")
    assert summary.level is Level.OK


def test_an_installed_pwff_has_its_requirements_in_its_metadata(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    info = tmp_path / "pwff_copy-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(
        "Metadata-Version: 2.4\nName: pwff-copy\nVersion: 1.0\nRequires-Python: >=3.11,<3.14\n"
        "Requires-Dist: numpy~=2.4.6\nRequires-Dist: openai>=3.52; extra == 'judge'\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    python, packages = requirements(tmp_path / "pyproject.toml", "pwff-copy")
    assert (str(python), [str(package) for package in packages]) == ("<3.14,>=3.11", ["numpy~=2.4.6"])


def test_a_browser_or_how_to_get_one(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    program = path.with_name("chrome")
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    monkeypatch.setenv("BROWSER_PATH", str(program))
    assert browser_finding() == Finding("Chrome", Level.OK, f"Pictures are drawn with {program}.")
    monkeypatch.setenv("BROWSER_PATH", str(path.with_name("nowhere")))
    missing = browser_finding()
    assert missing.level is Level.NOTE and "$BROWSER_PATH" in missing.advice
