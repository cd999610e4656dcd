"""The command line as tests use it: short runs by a scripted federation, and what it says to bad input."""

from __future__ import annotations

from types import ModuleType

import pytest

from pwff_core import cli
from tests.support import scripted

SHORT = ("--clients", "2", "--instruction.rounds", "3", "--reward.rounds", "0", "--alignment.rounds", "0")


def play_with(monkeypatch: pytest.MonkeyPatch, module: ModuleType) -> None:
    """From now on the module plays in the federation's place."""
    scripted.put(monkeypatch, module)


def sentence(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """What `pwff` says on stderr to input that it refuses: one line, exit code 2, nothing on stdout."""
    assert cli.main(words) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("pwff: ") and said.err.count("\n") == 1 and "Traceback" not in said.err
    return said.err.removeprefix("pwff: ").strip()
