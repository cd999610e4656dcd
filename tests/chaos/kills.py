"""Kills a real run at random moments, again and again, and compares what it comes to with a run left in peace.

    python -m tests.chaos.kills --kills 200 [--seed 0] [--side-by-side 2] [--to build/chaos/kills.json]

Every kill is a SIGKILL of `python -m pwff_core.engine.worker`. After each: is every round that the store had still
there, as it was; is SQLite content with its files; is no checkpoint listed that is not whole. Then the run is resumed,
until it finishes: are its records and final weights those of the uninterrupted run, bit for bit. The last line says how
many kills, rounds lost and resumes that differed; the exit code is 0 if nothing was lost and nothing differed.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from pwff_core.config import RunConfig
from pwff_core.errors import StoreError
from pwff_core.runs.store import RunStatus, Store
from tests.chaos import aims, tiny
from tests.chaos.aims import Aim, Pace
from tests.chaos.engine import Worker, again, damage, false_checkpoints, stored
from tests.chaos.reference import ROOT, References

EVERY = (1, 1, 2, 0)  # checkpoints of the runs, by turns: with more rounds between them, more is played again
_STEER_UP_TO = 6  # the change is asked for at the latest after so many rounds
_LIVES = 200  # no run needs more; one that does never finishes


class Kill(NamedTuple):
    """One SIGKILL, and what was found after it."""

    aim: str
    phase: str
    age_s: float  # of the process
    rounds: int  # in the store
    played: int  # of them by this process
    lost: int
    troubles: tuple[str, ...]


class Played(NamedTuple):
    """One run with all its kills."""

    checkpoint_every: int
    steered_at: int  # the round from which the change held; 0: it came too late
    kills: tuple[Kill, ...]
    differing: tuple[str, ...]  # rounds and files
    differing_resumes: int
    troubles: tuple[str, ...]

    @property
    def complaints(self) -> list[str]:
        """A line for whatever is not as it should be."""
        found = [line for kill in self.kills for line in kill.troubles] + [*self.troubles]
        return found + ([f"not as in the uninterrupted run: {', '.join(self.differing)}"] if self.differing else [])


class Budget:
    """How many kills are still to be done, over all runs that are played side by side."""

    def __init__(self, kills: int) -> None:
        self._left = kills
        self._lock = threading.Lock()

    def take(self) -> bool:
        """One of them; False if there is none any more."""
        with self._lock:
            self._left -= 1
            return self._left >= 0

    def give_back(self) -> None:
        """A kill that was not done: the process had ended before its moment came."""
        with self._lock:
            self._left += 1

    @property
    def spent(self) -> bool:
        """Whether all are done or are about to be."""
        with self._lock:
            return self._left <= 0


class Victim:
    """A run that is killed and resumed until it finishes."""

    def __init__(self, store: Store, config: RunConfig, rng: random.Random, pace: Pace) -> None:
        self.store, self.every, self.rng, self.pace = store, config.checkpoint_every, rng, pace
        self.run_id = store.create_run(config)
        self.kills: list[Kill] = []
        self.ends: list[int] = []  # rounds in the store after each life
        self._steer_after = rng.randint(0, _STEER_UP_TO)
        self._asked = False
        self._known: list[str] = []

    def live(self, aim: Aim | None) -> bool:
        """Starts or resumes it and kills it at the aim's moment; False if it ended before. Without an aim it may."""
        if self.store.run(self.run_id).status is RunStatus.FINISHED:  # the last kill came a little too late for that
            return False
        worker = again(self.store, self.run_id) if self.ends else Worker(self.store, self.run_id)
        worker.watch = self._watching(worker)
        died = False
        if aim is not None and aim(worker, self.rng, self.pace):
            seen = worker.look().rounds
            died = worker.kill()
            if died:
                self._bury(worker, aim, seen)
        worker.wait(lambda: False)
        self.ends.append(worker.look().rounds)
        return died

    def played(self, references: References) -> Played:
        """What has become of it, once it has ended."""
        row, troubles = self.store.run(self.run_id), self.lost_or_damaged(0)[1]
        if row.status is not RunStatus.FINISHED:
            troubles += (f"it ended as {row.status.value}: {row.message}",)
        steered = next((steering.position for steering in self.store.steerings(self.run_id)), 0)
        differing = tiny.outcome(self.store, self.run_id).differing(references.outcome(steered))
        lives = {self._life(int(name.split()[1])) for name in differing if name.startswith("round ")}
        resumes = len(lives) or (1 if differing else 0)
        return Played(self.every, steered, tuple(self.kills), tuple(differing), resumes, troubles)

    def _watching(self, worker: Worker) -> Callable[[], None]:
        """What is done while the worker lives: the change is asked for once, and its first new round is timed."""
        started = False

        def watch() -> None:
            nonlocal started
            look = worker.look()
            if not started and look.rounds > worker.before:
                started = True
                self.pace.seen(worker.age_s)
            if not self._asked and look.pid == worker.process.pid and look.rounds >= self._steer_after:
                self._asked = True
                with suppress(StoreError):  # it has just ended: the change came too late
                    self.store.steer(self.run_id, "chaos", tiny.CHANGES)

        return watch

    def _life(self, number: int) -> int:
        """Which of its processes has written a round."""
        return next((life for life, end in enumerate(self.ends) if number <= end), len(self.ends))

    def _bury(self, worker: Worker, aim: Aim, seen: int) -> None:
        lost, troubles = self.lost_or_damaged(seen)
        what = aims.phase(worker, resumed=bool(self.ends))
        self.kills.append(Kill(aim.__name__, what, worker.age_s, len(self._known), worker.played, lost, troubles))

    def lost_or_damaged(self, seen: int) -> tuple[int, tuple[str, ...]]:
        """Rounds that were there and are not, or not as they were; and what is wrong with the files."""
        before, now = self._known, stored(self.store, self.run_id)
        changed = sum(now[place : place + 1] != [record] for place, record in enumerate(before))
        self._known = now
        troubles = damage(self.store.path) + false_checkpoints(self.store.path, self.run_id)
        return max(changed, seen - len(now)), tuple(troubles)


def play(folder: Path, number: int, seed: int, budget: Budget, pace: Pace, references: References) -> Played:
    """One run from its start to its end, with as many kills as come its way."""
    rng = random.Random(f"{seed} {number}")
    store = Store(folder / f"{number:03d}" / "runs.sqlite", timeout_s=60.0)
    victim = Victim(store, tiny.config(checkpoint_every=EVERY[number % len(EVERY)]), rng, pace)
    total = store.run(victim.run_id).rounds_total
    for _ in range(_LIVES):
        left = total - (victim.ends[-1] if victim.ends else 0)
        aim = aims.drawn(rng, left) if number and budget.take() else None  # the first run is left in peace
        if not victim.live(aim):
            if aim:
                budget.give_back()
            break
        _say(victim.kills[-1], number)
    return victim.played(references)


def play_all(folder: Path, kills: int, seed: int, side_by_side: int) -> list[Played]:
    """Runs, so many at a time, until so many kills are done."""
    budget, pace, references = Budget(kills), Pace(), References(folder / "references")
    numbers, lock = iter(range(kills + side_by_side)), threading.Lock()

    def lane() -> list[Played]:
        found = []
        while not budget.spent:
            with lock:
                number = next(numbers)
            found.append(play(folder, number, seed, budget, pace, references))
        return found

    with ThreadPoolExecutor(side_by_side) as pool:
        lanes = [pool.submit(lane) for _ in range(side_by_side)]
        return [played for done in lanes for played in done.result()]


def table(runs: Sequence[Played]) -> str:
    """Kills by phase, as Markdown."""
    found = Counter(kill.phase for run in runs for kill in run.kills)
    lines = ["| killed while it was | kills |", "|---|---:|"]
    return "\n".join(lines + [f"| {phase} | {found[phase]} |" for phase in aims.PHASES])


def summary(runs: Sequence[Played]) -> tuple[int, int, int]:
    """Kills, rounds lost, and resumes after which something was not as in the uninterrupted run."""
    kills = [kill for run in runs for kill in run.kills]
    return len(kills), sum(kill.lost for kill in kills), sum(run.differing_resumes for run in runs)


def report(runs: Sequence[Played]) -> dict[str, object]:
    """All that was found, for a file."""
    kills, lost, differed = summary(runs)
    return {
        "kills": kills, "rounds_lost": lost, "resumes_that_differed": differed,
        "by_phase": Counter(kill.phase for run in runs for kill in run.kills),
        "runs": [run._asdict() | {"kills": [kill._asdict() for kill in run.kills]} for run in runs],
    }  # fmt: skip


def _say(kill: Kill, number: int) -> None:
    where = f"{kill.phase} ({kill.aim}), {kill.age_s:.1f} s old, {kill.rounds} rounds kept"
    print(f"run {number}: killed {where}{''.join(f'; {trouble}' for trouble in kill.troubles)}", flush=True)


def run(arguments: Sequence[str] | None = None) -> tuple[int, str]:
    """Plays and reports; the exit code, and the line that says what came of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--side-by-side", type=int, default=2, metavar="RUNS")
    parser.add_argument("--to", type=Path, default=ROOT / "build" / "chaos" / "kills.json", metavar="FILE")
    options = parser.parse_args(arguments)
    begun = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="pwff-chaos-", ignore_cleanup_errors=True) as folder:
        runs = play_all(Path(folder), options.kills, options.seed, options.side_by_side)
    lost, differed, troubles = *summary(runs)[1:], [line for run in runs for line in run.complaints]
    options.to.parent.mkdir(parents=True, exist_ok=True)
    options.to.write_text(json.dumps(report(runs), indent=1) + "\n", encoding="utf-8")
    print(f"\n{table(runs)}\n\n{len(runs)} runs in {(time.monotonic() - begun) / 60:.0f} minutes; {options.to}")
    print("".join(f"{line}\n" for line in troubles), end="")
    return 1 if lost or differed or troubles else 0, last_line(runs)


def last_line(runs: Sequence[Played]) -> str:
    """What others read: its words do not change."""
    kills, lost, differed = summary(runs)
    return f"{kills} kills, {lost} rounds lost, {differed} resumes that differed"


def main() -> int:
    """Prints that line last."""
    code, told = run()
    print(told)
    return code


if __name__ == "__main__":
    sys.exit(main())
