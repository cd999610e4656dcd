"""The output of `pwff doctor`, parsed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple

import pytest

from pwff_core import cli
from pwff_core.config import AlignmentConfig, InstructionConfig, RewardConfig, RunConfig

CONFIG = RunConfig(
    clients=2,
    instruction=InstructionConfig(rounds=3),
    reward=RewardConfig(rounds=0),
    alignment=AlignmentConfig(rounds=0),
)


class Report(NamedTuple):
    """The output of `pwff doctor --json`."""

    code: int
    mended: list[str]
    texts: dict[str, list[str]]  # "LEVEL ABOUT" → texts
    advice: str  # all of it

    def problems(self) -> list[str]:
        return [text for key, texts in self.texts.items() if key.startswith("problem") for text in texts]


def doctor(capsys: pytest.CaptureFixture[str], *words: str) -> Report:
    code = cli.main(["doctor", "--json", *words])
    output = capsys.readouterr()
    findings = [json.loads(line) for line in output.out.splitlines()]
    texts: dict[str, list[str]] = {}
    for finding in findings:
        texts.setdefault(f"{finding['level']} {finding['about']}", []).append(finding["text"])
    mended = [line.removeprefix("Mended: ") for line in output.err.splitlines()]
    return Report(code, mended, texts, " ".join(finding["advice"] for finding in findings))


def files(folder: Path) -> set[str]:
    """All files below a folder except the store's own and those that SQLite keeps beside it."""
    names = {str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file()}
    return {name for name in names if not name.startswith("runs.") and not name.endswith(("-wal", "-shm"))}
