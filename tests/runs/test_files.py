"""Files are delivered into a folder all at once, or none of them."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from pwff_core.errors import ModelError, StoreError
from pwff_core.runs.files import deliver


def two_files(aside: Path) -> list[Path]:
    (aside / "in").mkdir()
    files = [aside / "a.txt", aside / "in" / "b.txt"]
    for file in files:
        file.write_text("new")
    return files


def listed(folder: Path) -> list[str]:
    return sorted(file.relative_to(folder).as_posix() for file in folder.rglob("*"))


def test_files_replace_older_ones_in_the_folder(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("old")
    assert deliver(tmp_path, two_files) == [tmp_path / "a.txt", tmp_path / "in" / "b.txt"]
    assert listed(tmp_path) == ["a.txt", "in", "in/b.txt"]
    assert (tmp_path / "a.txt").read_text() == "new"


@pytest.mark.parametrize(
    ("number", "sentence"),
    [
        (errno.ENOSPC, r"^There is no room left on the disk of .*out, so nothing was written; make room or choose"),
        (errno.EDQUOT, r"^There is no room left on the disk of"),
        (errno.EACCES, r"^Cannot write into .*out \(Permission denied\); choose another folder\.$"),
    ],
)
def test_a_failed_delivery_leaves_nothing_new(tmp_path: Path, number: int, sentence: str) -> None:
    def fails(aside: Path) -> list[Path]:
        two_files(aside)
        raise OSError(number, os.strerror(number))

    folder = tmp_path / "deep" / "out"
    with pytest.raises(StoreError, match=sentence):
        deliver(folder, fails)
    assert listed(tmp_path) == []
    folder.mkdir(parents=True)
    (folder / "a.txt").write_text("old")
    with pytest.raises(StoreError):
        deliver(folder, fails)
    assert listed(folder) == ["a.txt"] and (folder / "a.txt").read_text() == "old"


def test_other_errors_are_passed_on_and_leave_no_folder(tmp_path: Path) -> None:
    def fails(aside: Path) -> list[Path]:
        raise ModelError("No such client.")

    with pytest.raises(ModelError):
        deliver(tmp_path / "deep" / "out", fails)
    assert listed(tmp_path) == []


def test_a_file_in_the_place_of_the_folder_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    for folder in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(StoreError, match=r"^Cannot write into .*file.* \(.+\); choose another folder\.$"):
            deliver(folder, two_files)
    assert (tmp_path / "file").read_text() == "in the way"
