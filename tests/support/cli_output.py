"""The command line as tests use it: short runs by a scripted federation, and the answer to bad input."""

from __future__ import annotations

from pathlib import Path

import pytest

from pwff_core import cli
from pwff_core.config import AlignmentConfig, InstructionConfig, RewardConfig, RunConfig
from pwff_core.runs.store import RunStatus, Store
from tests.support import scripted
from tests.support.checkpoints import write_checkpoint
from tests.support.scripted import ScriptedEngine

SHORT = ("--clients", "2", "--instruction.rounds", "3", "--reward.rounds", "0", "--alignment.rounds", "0")

FIVE_ROUNDS = RunConfig(
    clients=2,
    instruction=InstructionConfig(rounds=5),
    reward=RewardConfig(rounds=0),
    alignment=AlignmentConfig(rounds=0),
)


def play_with(monkeypatch: pytest.MonkeyPatch, engine: ScriptedEngine) -> None:
    """From now on the engine plays all runs."""
    scripted.use_engine(monkeypatch, engine)


def error_line(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """The sentence on stderr for input that `pwff` refuses: one line, exit code 2, nothing on stdout."""
    assert cli.main(words) == 2
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err.startswith("pwff: ") and output.err.count("\n") == 1 and "Traceback" not in output.err
    return output.err.removeprefix("pwff: ").strip()


def forkable(path: Path) -> str:
    """The id of a run of five rounds, stopped after three, with checkpoints after the first and the third."""
    store = Store(path)
    run_id = store.create_run(FIVE_ROUNDS)
    store.claim(run_id)
    store.describe(run_id, (), (), 5)
    for number in (1, 2, 3):
        store.append(run_id, scripted.record(number, run_id))
    store.finish(run_id, RunStatus.STOPPED)
    for position in (1, 3):
        write_checkpoint(path, run_id, position, FIVE_ROUNDS, b"x" * 1000 * position)
    return run_id
