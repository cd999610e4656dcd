"""Kills a real run at random moments, again and again, and compares its result with an uninterrupted run.

    python -m tests.chaos.kills --kills 200 [--seed 0] [--side-by-side 2] [--to build/chaos/kills.json]

Every kill is a SIGKILL of `python -m pwff_core.engine.worker`. After each, all rounds that the store had must be there
unchanged, SQLite must find its files whole, and every listed checkpoint must be whole. Then the run is resumed. Once it
has finished, its records and final weights must equal those of the uninterrupted run, bit for bit. The last line counts
kills, rounds lost and resumes that differed; the exit code is 0 if nothing was lost and nothing differed.
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
from tests.chaos.engine import Worker, false_checkpoints, resume_worker, store_damage, stored_rounds
from tests.chaos.reference import ROOT, References

EVERY = (1, 1, 2, 0)  # checkpoint_every of the runs, in turn: the more rounds between them, the more are replayed
_STEER_UP_TO = 6  # the settings change after at most so many rounds
_LIVES = 200  # a run that needs more would never finish


class Kill(NamedTuple):
    """One SIGKILL, and the state after it."""

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
        """A line for each thing that is wrong."""
        lines = [line for kill in self.kills for line in kill.troubles] + [*self.troubles]
        return lines + ([f"not as in the uninterrupted run: {', '.join(self.differing)}"] if self.differing else [])


class Budget:
    """The number of kills that are left, over all runs that are played side by side."""

    def __init__(self, kills: int) -> None:
        self._left = kills
        self._lock = threading.Lock()

    def take(self) -> bool:
        """Takes one kill; False if none is left."""
        with self._lock:
            self._left -= 1
            return self._left >= 0

    def give_back(self) -> None:
        """Gives back a kill that was not done: the process had ended before its moment came."""
        with self._lock:
            self._left += 1

    @property
    def spent(self) -> bool:
        """Whether all kills are done or taken."""
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
        self._steered = False
        self._rounds: list[str] = []

    def live(self, aim: Aim | None) -> bool:
        """Starts or resumes the run and kills it at the aim's moment; False if it ended before, as without an aim."""
        if self.store.run(self.run_id).status is RunStatus.FINISHED:  # the last kill came a little too late
            return False
        worker = resume_worker(self.store, self.run_id) if self.ends else Worker(self.store, self.run_id)
        worker.watch = self._watching(worker)
        died = False
        if aim is not None and aim(worker, self.rng, self.pace):
            seen = worker.look().rounds
            died = worker.kill()
            if died:
                self._note_kill(worker, aim, seen)
        worker.wait(lambda: False)
        self.ends.append(worker.look().rounds)
        return died

    def played(self, references: References) -> Played:
        """The run with all its kills and differences, once it has ended."""
        row, troubles = self.store.run(self.run_id), self.lost_or_damaged(0)[1]
        if row.status is not RunStatus.FINISHED:
            troubles += (f"it ended as {row.status.value}: {row.message}",)
        steered = next((steering.position for steering in self.store.steerings(self.run_id)), 0)
        differing = tiny.outcome(self.store, self.run_id).differing(references.outcome(steered))
        lives = {self._life(int(name.split()[1])) for name in differing if name.startswith("round ")}
        resumes = len(lives) or (1 if differing else 0)
        return Played(self.every, steered, tuple(self.kills), tuple(differing), resumes, troubles)

    def _watching(self, worker: Worker) -> Callable[[], None]:
        """A function that watches the worker: it asks for the change once, and times the first new round."""
        started = False

        def watch() -> None:
            nonlocal started
            look = worker.look()
            if not started and look.rounds > worker.before:
                started = True
                self.pace.add(worker.age_s)
            if not self._steered and look.pid == worker.process.pid and look.rounds >= self._steer_after:
                self._steered = True
                with suppress(StoreError):  # it has just ended: the change came too late
                    self.store.steer(self.run_id, "chaos", tiny.CHANGES)

        return watch

    def _life(self, number: int) -> int:
        """The number of the run's process that wrote a round."""
        return next((life for life, end in enumerate(self.ends) if number <= end), len(self.ends))

    def _note_kill(self, worker: Worker, aim: Aim, seen: int) -> None:
        lost, troubles = self.lost_or_damaged(seen)
        phase = aims.phase(worker, resumed=bool(self.ends))
        self.kills.append(Kill(aim.__name__, phase, worker.age_s, len(self._rounds), worker.played, lost, troubles))

    def lost_or_damaged(self, seen: int) -> tuple[int, tuple[str, ...]]:
        """How many rounds are gone or changed since the last look, and a line for each damage of the files."""
        before, now = self._rounds, stored_rounds(self.store, self.run_id)
        changed = sum(now[place : place + 1] != [record] for place, record in enumerate(before))
        self._rounds = now
        troubles = store_damage(self.store.path) + false_checkpoints(self.store.path, self.run_id)
        return max(changed, seen - len(now)), tuple(troubles)


def play(folder: Path, number: int, seed: int, budget: Budget, pace: Pace, references: References) -> Played:
    """Plays one run from start to end, with as many kills as the budget has for it."""
    rng = random.Random(f"{seed} {number}")
    store = Store(folder / f"{number:03d}" / "runs.sqlite", timeout_s=60.0)
    victim = Victim(store, tiny.config(checkpoint_every=EVERY[number % len(EVERY)]), rng, pace)
    total = store.run(victim.run_id).rounds_total
    for _ in range(_LIVES):
        left = total - (victim.ends[-1] if victim.ends else 0)
        aim = aims.draw_aim(rng, left) if number and budget.take() else None  # the first run is not killed
        if not victim.live(aim):
            if aim:
                budget.give_back()
            break
        _print_kill(victim.kills[-1], number)
    return victim.played(references)


def play_all(folder: Path, kills: int, seed: int, side_by_side: int) -> list[Played]:
    """Plays runs, `side_by_side` at a time, until so many kills are done."""
    budget, pace, references = Budget(kills), Pace(), References(folder / "references")
    numbers, lock = iter(range(kills + side_by_side)), threading.Lock()

    def lane() -> list[Played]:
        runs = []
        while not budget.spent:
            with lock:
                number = next(numbers)
            runs.append(play(folder, number, seed, budget, pace, references))
        return runs

    with ThreadPoolExecutor(side_by_side) as pool:
        lanes = [pool.submit(lane) for _ in range(side_by_side)]
        return [played for done in lanes for played in done.result()]


def table(runs: Sequence[Played]) -> str:
    """Kills by phase, as Markdown."""
    counts = Counter(kill.phase for run in runs for kill in run.kills)
    lines = ["| killed while it was | kills |", "|---|---:|"]
    return "\n".join(lines + [f"| {phase} | {counts[phase]} |" for phase in aims.PHASES])


def summary(runs: Sequence[Played]) -> tuple[int, int, int]:
    """The numbers of kills, of rounds lost, and of resumes after which something differs from the uninterrupted run."""
    kills = [kill for run in runs for kill in run.kills]
    return len(kills), sum(kill.lost for kill in kills), sum(run.differing_resumes for run in runs)


def report(runs: Sequence[Played]) -> dict[str, object]:
    """All results, for the JSON file."""
    kills, lost, differed = summary(runs)
    return {
        "kills": kills, "rounds_lost": lost, "resumes_that_differed": differed,
        "by_phase": Counter(kill.phase for run in runs for kill in run.kills),
        "runs": [run._asdict() | {"kills": [kill._asdict() for kill in run.kills]} for run in runs],
    }  # fmt: skip


def _print_kill(kill: Kill, number: int) -> None:
    where = f"{kill.phase} ({kill.aim}), {kill.age_s:.1f} s old, {kill.rounds} rounds kept"
    print(f"run {number}: killed {where}{''.join(f'; {trouble}' for trouble in kill.troubles)}", flush=True)


def run(arguments: Sequence[str] | None = None) -> tuple[int, str]:
    """Plays and reports; returns the exit code and the last line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--side-by-side", type=int, default=2, metavar="RUNS")
    parser.add_argument("--to", type=Path, default=ROOT / "build" / "chaos" / "kills.json", metavar="FILE")
    options = parser.parse_args(arguments)
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="pwff-chaos-", ignore_cleanup_errors=True) as folder:
        runs = play_all(Path(folder), options.kills, options.seed, options.side_by_side)
    lost, differed, troubles = *summary(runs)[1:], [line for run in runs for line in run.complaints]
    options.to.parent.mkdir(parents=True, exist_ok=True)
    options.to.write_text(json.dumps(report(runs), indent=1) + "\n", encoding="utf-8")
    print(f"\n{table(runs)}\n\n{len(runs)} runs in {(time.monotonic() - started) / 60:.0f} minutes; {options.to}")
    print("".join(f"{line}\n" for line in troubles), end="")
    return 1 if lost or differed or troubles else 0, last_line(runs)


def last_line(runs: Sequence[Played]) -> str:
    """The line that other programs read: its words stay."""
    kills, lost, differed = summary(runs)
    return f"{kills} kills, {lost} rounds lost, {differed} resumes that differed"


def main() -> int:
    """Prints that line last."""
    code, line = run()
    print(line)
    return code


if __name__ == "__main__":
    sys.exit(main())
