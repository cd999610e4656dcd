"""When a worker is killed: moments drawn from a seed, which together cover its whole life.

An aim waits for something that is visible from outside (a file, a row) and then for a short, random time; so what it
hits does not depend on the computer's speed. `phase` judges afterwards what was really hit.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import TypeAlias

from tests.chaos.engine import Worker

ROUND_S = 0.2  # about the length of a round of the tiny run
_START_S = 8.0  # until its worker's first round, before one was measured
TIGHT_S = 0.0005  # between two looks for a moment that is over in milliseconds

Aim: TypeAlias = Callable[[Worker, random.Random, "Pace"], bool]
"""Waits for the moment; False if the process ended before."""


class Pace:
    """The time until a worker's first new round, a running mean over the workers so far."""

    def __init__(self) -> None:
        self.start_s = _START_S

    def add(self, start_s: float) -> None:
        """Counts one more worker."""
        self.start_s = (self.start_s + start_s) / 2


PHASES = ("starting", "resuming", "instruction", "reward", "alignment", "in a checkpoint's write", "ending")


def while_loading(worker: Worker, rng: random.Random, pace: Pace) -> bool:
    """At any time before the first round: during imports, loading of models and replayed rounds."""
    return _until(worker, worker.begun + rng.uniform(0.0, pace.start_s))


def while_catching_up(worker: Worker, rng: random.Random, pace: Pace) -> bool:
    """Once everything is loaded: while a checkpoint is restored and rounds are played again."""
    return _until(worker, worker.begun + rng.uniform(0.8, 1.1) * pace.start_s)


def in_a_round(worker: Worker, rng: random.Random, pace: Pace) -> bool:
    """Some time after the first or second new round."""
    rounds = rng.choice((1, 1, 2))
    return worker.wait(lambda: worker.played >= rounds) and _until(worker, time.monotonic() + rng.uniform(0, ROUND_S))


def in_a_long_round(worker: Worker, rng: random.Random, pace: Pace) -> bool:
    """The same, in the round that also trains the judge and takes ten times as long."""
    return worker.wait(lambda: worker.played >= 1) and _until(worker, time.monotonic() + rng.uniform(0, 20 * ROUND_S))


def at_an_append(worker: Worker, rng: random.Random, pace: Pace) -> bool:
    """While a round is written: at the first write to the store's log."""
    if not worker.wait(lambda: worker.played >= 1):
        return False
    log = worker.store.path.with_name(f"{worker.store.path.name}-wal")
    before = log.stat().st_mtime_ns
    return worker.wait(lambda: log.stat().st_mtime_ns != before, TIGHT_S) and _soon(worker, rng, 2.0)


def in_a_checkpoint(worker: Worker, rng: random.Random, pace: Pace) -> bool:
    """While a checkpoint is written: its folder shows that."""
    return worker.wait(lambda: worker.unfinished, TIGHT_S) and _soon(worker, rng, 6.0)


def after_a_checkpoint(worker: Worker, rng: random.Random, pace: Pace) -> bool:
    """Just after a checkpoint is complete: its folder has its name, and older ones are removed."""
    return (
        worker.wait(lambda: worker.unfinished, TIGHT_S)
        and worker.wait(lambda: not worker.unfinished, TIGHT_S)
        and _soon(worker, rng, 2.0)
    )


def at_the_end(worker: Worker, rng: random.Random, pace: Pace) -> bool:
    """While the final models are written and the run's end is noted, also where no round was left to play."""
    came = worker.wait(lambda: worker.played and worker.complete or worker.saving, TIGHT_S)
    return came and _soon(worker, rng, 30.0)


def in_the_models(worker: Worker, rng: random.Random, pace: Pace) -> bool:
    """While the final models are written: their folder shows that."""
    return worker.wait(lambda: worker.saving, TIGHT_S) and _soon(worker, rng, 4.0)


AIMS: dict[Aim, float] = {  # aim → relative frequency
    while_loading: 5, while_catching_up: 3, in_a_round: 6, in_a_long_round: 2, at_an_append: 4, in_a_checkpoint: 6,
    after_a_checkpoint: 3,
}  # fmt: skip
LAST_AIMS: dict[Aim, float] = {while_loading: 1, at_the_end: 3, in_the_models: 3, in_a_checkpoint: 1}
"""The same where at most the last round is still to come."""


def draw_aim(rng: random.Random, left: int) -> Aim:
    """A random aim for a worker that has `left` rounds to play."""
    aims = AIMS if left > 1 else LAST_AIMS
    return rng.choices([*aims], [*aims.values()])[0]


def phase(worker: Worker, resumed: bool) -> str:
    """The phase in which a worker died, by the files and rows that it left; `resumed`: it was not the run's first."""
    if worker.unfinished:
        return "in a checkpoint's write"
    if worker.complete:
        return "ending"
    if not worker.played:
        return "resuming" if resumed else "starting"
    return worker.stage


def _until(worker: Worker, moment: float) -> bool:
    return worker.wait(lambda: time.monotonic() >= moment)


def _soon(worker: Worker, rng: random.Random, milliseconds: float) -> bool:
    """Waits for a random part of so many milliseconds."""
    moment = time.monotonic() + rng.uniform(0.0, milliseconds) / 1000
    while time.monotonic() < moment:  # a sleep could not hit it
        pass
    return not worker.ended
