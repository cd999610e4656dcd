"""Runs in processes of their own that play a round when they are told to: for memory, and for turns of many sizes.

    python -m benchmarks.players '{"clients": 20}' instruction

prepares a run of these settings, and for every line that it reads plays a round and answers with a line of JSON. Linux:
the peak of a process's memory is read where the kernel keeps it (VmHWM).
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
    tokens: int  # that were trained on, prompts included; 0 where none is counted
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
        """Play one more round."""
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
        """No more rounds."""
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
    """The most memory that this process has held [MB]; what its parent held does not count, as in `getrusage`."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(float(line.split()[1]) * 1024 / 1e6 for line in lines if line.startswith("VmHWM"))


def main(changes: dict[str, object], stage: str) -> None:
    """Play a round for every line of stdin."""
    from benchmarks.work import Ours, demo, round_rows, seconds

    ours = Ours(demo(**changes), "alignment" if stage == "alignment" else "instruction")
    weights = ours.clients.backbone.model.base_model.parameters()  # the head of these shares the embedding
    print(json.dumps({"parameters": sum(weight.numel() for weight in weights)}), flush=True)
    for _ in sys.stdin:
        train_s = seconds(ours.round)
        tested_s = seconds(ours.stage.measure)
        counted = round_rows(ours.clients, ours.played) if stage == "instruction" else []
        tokens = sum(len(row.tokens) for mine in counted for rows in mine for row in rows)
        print(json.dumps(Played(train_s, train_s + tested_s, tokens, peak_mb())._asdict()), flush=True)


if __name__ == "__main__":
    main(json.loads(sys.argv[1]), sys.argv[2])
