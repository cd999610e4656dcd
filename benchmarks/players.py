"""Runs in processes of their own that play a round on demand: to measure memory, and to take turns.

    python -m benchmarks.players '{"clients": 20}' instruction

prepares a run of these settings; for every line on stdin it plays a round and prints a line of JSON. Linux alone: the
peak of a process's memory is read from the kernel (VmHWM).
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, cast

ROOT = Path(__file__).resolve().parent.parent


class Played(NamedTuple):
    """One round of a player."""

    train_s: float  # training and averaging
    round_s: float  # and testing every client's model
    tokens: int  # trained on, prompts included; 0 where none is counted
    peak_mb: float  # resident memory of the process, at its highest so far [MB of 10⁶ bytes]


class Player:
    """A run in a process of its own."""

    def __init__(self, changes: Mapping[str, object], stage: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.players", json.dumps(changes), stage],
            cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        self.parameters = int(self._line()["parameters"])  # of the backbone
        self.played: list[Played] = []

    def round(self) -> Played:
        """Plays one more round."""
        assert self._process.stdin is not None
        print("round", file=self._process.stdin, flush=True)
        self.played.append(Played(**self._line()))
        return self.played[-1]

    def _line(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"A player ended ({self._process.wait()}) before it had answered; see above.")
        return cast("dict[str, Any]", json.loads(line))

    def end(self) -> None:
        """Ends the process."""
        self._process.kill()
        self._process.communicate()


@contextmanager
def players(settings: list[dict[str, object]], stage: str) -> Iterator[list[Player]]:
    """A player for each of several settings."""
    started: list[Player] = []
    try:
        for changes in settings:
            started.append(Player(changes, stage))
        yield started
    finally:
        for player in started:
            player.end()


def peak_mb() -> float:
    """The most memory that this process has held [MB]; `getrusage` would include its parent's."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(float(line.split()[1]) * 1024 / 1e6 for line in lines if line.startswith("VmHWM"))


def main(changes: dict[str, object], stage: str) -> None:
    """Plays a round for every line of stdin."""
    from benchmarks.work import CohortLoop, demo, round_rows, seconds

    cohort = CohortLoop(demo(**changes), "alignment" if stage == "alignment" else "instruction")
    weights = cohort.clients.backbone.model.base_model.parameters()  # their head shares the embedding
    print(json.dumps({"parameters": sum(weight.numel() for weight in weights)}), flush=True)
    for _ in sys.stdin:
        train_s = seconds(cohort.round)
        tested_s = seconds(cohort.stage.measure)
        trained = round_rows(cohort.clients, cohort.played) if stage == "instruction" else []
        tokens = sum(len(row.tokens) for steps in trained for rows in steps for row in rows)
        print(json.dumps(Played(train_s, train_s + tested_s, tokens, peak_mb())._asdict()), flush=True)


if __name__ == "__main__":
    main(json.loads(sys.argv[1]), sys.argv[2])
