"""What the computer lacks."""

from __future__ import annotations

import shutil
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
from packaging.requirements import Requirement

from pwff_core.tools.doctor import computer
from pwff_core.tools.doctor.findings import Finding, Level


def found(path: Path, about: str) -> list[Finding]:
    return [one for one in computer.findings(path) if one.about == about]


@pytest.mark.parametrize(
    ("free", "level", "said"),
    [
        (5e9, Level.OK, "5.00 GB are free."),
        (5e8, Level.NOTE, "Only 500 MB are free where the store lies; runs with large models may fill it."),
        (5e7, Level.PROBLEM, "Only 50.0 MB are free where the store lies; runs may stop."),
    ],
)
def test_a_disk_that_fills_up(
    path: Path, monkeypatch: pytest.MonkeyPatch, free: float, level: Level, said: str
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: SimpleNamespace(free=free))
    (disk,) = found(path, "Disk")
    assert (disk.level, disk.text, bool(disk.advice)) == (level, said, level is not Level.OK)


def test_little_memory(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=7e8))
    (memory,) = found(path, "Memory")
    assert (memory.level, memory.text[:24]) == (Level.NOTE, "Only 700 MB are free; th")


def test_a_folder_that_is_not_there_yet_is_looked_for_above(path: Path) -> None:
    (folder,) = found(path.parent / "a" / "b" / "runs.sqlite", "Folder")
    assert folder.text == f"{path.parent} can be written."


def test_a_folder_that_cannot_be_written(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(dir: Path) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("tempfile.TemporaryFile", refuse)
    (folder,) = found(path, "Folder")
    assert (folder.level, "(Permission denied)" in folder.text) == (Level.PROBLEM, True)


def test_the_packages_are_those_of_the_project(path: Path) -> None:
    asked = {one.name for one in computer._asked()[1]}
    assert {"torch", "streamlit", "plotly", "packaging", "psutil"} <= asked
    assert not {"openai", "pytest"} & asked  # optional ones are not needed
    assert found(path, "Versions")[-1].level is Level.OK


def test_other_versions_and_missing_packages(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    versions = {"numpy": "1.26.4", "plotly": "7.1.0"}

    def version(name: str) -> str:
        if name not in versions:
            raise metadata.PackageNotFoundError(name)
        return versions[name]

    needs = [Requirement(text) for text in ("numpy~=2.4.6", "plotly==7.1.0", "tyro~=1.0.16")]
    python = computer._asked()[0]
    monkeypatch.setattr(computer, "_asked", lambda: (python, needs))
    monkeypatch.setattr(metadata, "version", version)
    told = [(one.level, one.text, one.advice) for one in found(path, "Versions")[:2]]
    assert told == [
        (Level.NOTE, "numpy is 1.26.4; pwff asks for numpy~=2.4.6.", "pip install 'numpy~=2.4.6'"),
        (Level.PROBLEM, "tyro is not installed; pwff asks for tyro~=1.0.16.", "pip install 'tyro~=1.0.16'"),
    ]


def test_an_installed_pwff_says_itself_what_it_needs(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Installed(dict[str, str]):
        def get_all(self, name: str) -> list[str]:
            return {"Requires-Dist": ["numpy~=2.4.6", "openai>=3.52; extra == 'judge'"]}[name]

    monkeypatch.setattr(computer, "root_dir", lambda: path.parent)  # without a pyproject.toml
    monkeypatch.setattr(metadata, "metadata", lambda name: Installed({"Requires-Python": ">=3.11,<3.14"}))
    python, needs = computer._asked()
    assert (str(python), [str(one) for one in needs]) == ("<3.14,>=3.11", ["numpy~=2.4.6"])


def test_a_browser_or_how_to_get_one(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    program = path.with_name("chrome")
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    monkeypatch.setenv("BROWSER_PATH", str(program))
    assert found(path, "Chrome")[0] == Finding("Chrome", Level.OK, f"Pictures are drawn with {program}.")
    monkeypatch.setenv("BROWSER_PATH", str(path.with_name("nowhere")))
    (missing,) = found(path, "Chrome")
    assert missing.level is Level.NOTE and "$BROWSER_PATH" in missing.advice
