"""When a worker is killed: moments that are drawn from a seed, and that between them hit all of its life.

An aim waits for something that can be seen from outside (a file, a row) and then for a short while that is drawn; so
what is hit does not depend on how fast the computer is. What was really hit is judged afterwards, by `phase`.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import TypeAlias

from tests.chaos.engine import Worker

ROUND_S = 0.2  # about as long as a round of the tiny run takes
_START_S = 8.0  # and its worker, to load and prepare, before the first start was measured
TIGHT_S = 0.0005  # so often a moment that is over in milliseconds is looked for

Aim: TypeAlias = Callable[[Worker, random.Random, "Pace"], bool]
"""Waits for the moment; False if the process ended before it came."""


class Pace:
    """How long a worker takes to its first new round, by the last ones that were seen."""

    def __init__(self) -> None:
        self.start_s = _START_S

    def seen(self, start_s: float) -> None:
        """One more of them."""
        self.start_s = (self.start_s + start_s) / 2


PHASES = ("starting", "resuming", "instruction", "reward", "alignment", "in a checkpoint's write", "ending")


def loading(worker: Worker, rng: random.Random, pace: Pace) -> bool:
    """At any time until the first round, over Python's imports, the models and what is played again."""
    return _until(worker, worker.begun + rng.uniform(0.0, pace.start_s))


def again_silently(worker: Worker, rng: random.Random, pace: Pace) -> bool:
    """Once everything is loaded: while it is put back as it was, and played again."""
    return _until(worker, worker.begun + rng.uniform(0.8, 1.1) * pace.start_s)


def in_a_round(worker: Worker, rng: random.Random, pace: Pace) -> bool:
    """Some time after the first or second new round."""
    wanted = rng.choice((1, 1, 2))
    return worker.wait(lambda: worker.played >= wanted) and _until(worker, time.monotonic() + rng.uniform(0, ROUND_S))


def in_a_long_round(worker: Worker, rng: random.Random, pace: Pace) -> bool:
    """The same, in the round that also trains the judge, which takes ten times as long."""
    return worker.wait(lambda: worker.played >= 1) and _until(worker, time.monotonic() + rng.uniform(0, 20 * ROUND_S))


def at_an_append(worker: Worker, rng: random.Random, pace: Pace) -> bool:
    """While a round is written: at the first sign of a write to the store's log."""
    if not worker.wait(lambda: worker.played >= 1):
        return False
    log = worker.store.path.with_name(f"{worker.store.path.name}-wal")
    before = log.stat().st_mtime_ns
    return worker.wait(lambda: log.stat().st_mtime_ns != before, TIGHT_S) and _soon(worker, rng, 2.0)


def in_a_checkpoint(worker: Worker, rng: random.Random, pace: Pace) -> bool:
    """While one is written, which shows by its folder."""
    return worker.wait(lambda: worker.unfinished, TIGHT_S) and _soon(worker, rng, 6.0)


def after_a_checkpoint(worker: Worker, rng: random.Random, pace: Pace) -> bool:
    """Just when one is complete: its folder has its name, and older ones are removed."""
    return (
        worker.wait(lambda: worker.unfinished, TIGHT_S)
        and worker.wait(lambda: not worker.unfinished, TIGHT_S)
        and _soon(worker, rng, 2.0)
    )


def at_the_end(worker: Worker, rng: random.Random, pace: Pace) -> bool:
    """While the final models are written and the run's end is noted; also where all rounds were there before."""
    wait = worker.wait(lambda: worker.played and worker.complete or worker.saving, TIGHT_S)
    return wait and _soon(worker, rng, 30.0)


def in_the_models(worker: Worker, rng: random.Random, pace: Pace) -> bool:
    """While the final models are written, which shows by their folder."""
    return worker.wait(lambda: worker.saving, TIGHT_S) and _soon(worker, rng, 4.0)


AIMS: dict[Aim, float] = {  # with how often each is taken, beside the others
    loading: 5, again_silently: 3, in_a_round: 6, in_a_long_round: 2, at_an_append: 4, in_a_checkpoint: 6,
    after_a_checkpoint: 3,
}  # fmt: skip
LAST_AIMS: dict[Aim, float] = {loading: 1, at_the_end: 3, in_the_models: 3, in_a_checkpoint: 1}
"""The same where only the last round is to come, or nothing."""


def drawn(rng: random.Random, left: int) -> Aim:
    """An aim for a worker that has so many rounds before it."""
    aims = AIMS if left > 1 else LAST_AIMS
    return rng.choices([*aims], [*aims.values()])[0]


def phase(worker: Worker, resumed: bool) -> str:
    """Where a worker was when it died, one of PHASES, from what it has left; `resumed`: it was not the run's first."""
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
    """A part of so many milliseconds from now on."""
    moment = time.monotonic() + rng.uniform(0.0, milliseconds) / 1000
    while time.monotonic() < moment:  # a sleep could not hit it
        pass
    return not worker.ended
