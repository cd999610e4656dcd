"""A store of an older version is renewed by whatever command opens it first, and that is said once."""

from __future__ import annotations

from pathlib import Path

import pytest

from pwff_core import cli
from tests.support.older_stores import older


def test_a_renewed_store_is_told_of_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "runs.sqlite"
    older(path, 2)
    assert cli.main(["runs", "--store", str(path)]) == 0
    said = capsys.readouterr()
    assert said.err == f"pwff: The store {path} was renewed; as it was, it is kept as runs.v2-backup.sqlite.\n"
    assert "my finished" in said.out
    assert (tmp_path / "runs.v2-backup.sqlite").is_file()
    assert cli.main(["runs", "--store", str(path)]) == 0
    assert capsys.readouterr().err == ""
