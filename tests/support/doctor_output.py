"""The doctor as tests ask it."""

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


class Answer(NamedTuple):
    """What `pwff doctor --json` says."""

    code: int
    mended: list[str]
    texts: dict[str, list[str]]  # "LEVEL ABOUT" → texts
    advice: str  # all of it

    def problems(self) -> list[str]:
        return [text for key, texts in self.texts.items() if key.startswith("problem") for text in texts]


def doctor(capsys: pytest.CaptureFixture[str], *words: str) -> Answer:
    code = cli.main(["doctor", "--json", *words])
    said = capsys.readouterr()
    found = [json.loads(line) for line in said.out.splitlines()]
    texts: dict[str, list[str]] = {}
    for one in found:
        texts.setdefault(f"{one['level']} {one['about']}", []).append(one["text"])
    mended = [line.removeprefix("Mended: ") for line in said.err.splitlines()]
    return Answer(code, mended, texts, " ".join(one["advice"] for one in found))


def files(folder: Path) -> set[str]:
    """All files below a folder but the store's own, and what SQLite keeps beside stores that are looked at."""
    found = {str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file()}
    return {name for name in found if not name.startswith("runs.") and not name.endswith(("-wal", "-shm"))}
