"""Several methods over several seeds, one run after another, and what came out side by side."""

from __future__ import annotations

import csv
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from pwff_core.config import RunConfig, with_changes
from pwff_core.errors import ConfigError, TrainingError
from pwff_core.methods import METHODS
from pwff_core.records import METRICS, RoundRecord
from pwff_core.store import RunStatus, Store
from pwff_core.terminal import in_words, play, table

FINAL = ("accuracy", "knowledge_accuracy", "style_accuracy", "loss")  # as they are after the last round
SPENT = ("delay_s", "energy_j")  # as a round spends on average, and in all


class Outcome(NamedTuple):
    """One finished run in numbers: `final` and `a_round` and `in_all` by metric, None for what was not measured."""

    run_id: str
    config: RunConfig
    final: dict[str, float | None]
    a_round: dict[str, float]
    in_all: dict[str, float]


def plan(config: RunConfig, methods: Sequence[str], seeds: Sequence[str]) -> list[RunConfig]:
    """A config a run, seed by seed, all checked before the first one starts. ConfigError if one cannot be."""
    return [with_changes(config, {"seed": seed, "method": method}) for seed in seeds for method in methods]


def outcome(run_id: str, config: RunConfig, records: Sequence[RoundRecord]) -> Outcome:
    """What a run came to. A run without rounds measured and spent nothing."""
    final = {name: getattr(records[-1], name) if records else None for name in FINAL}
    in_all = {name: float(sum(getattr(record, name) for record in records)) for name in SPENT}
    return Outcome(run_id, config, final, {name: in_all[name] / max(1, len(records)) for name in SPENT}, in_all)


def compare(store: Store, configs: Sequence[RunConfig], csv_path: Path | None, *, as_json: bool) -> int:
    """Plays the runs and prints the table of those that finished, whatever ends the comparison; returns the exit code.

    A run that is stopped from a page or whose training fails is told of on stderr and left out (exit code 2). Other
    PwffErrors and KeyboardInterrupt end the comparison and are raised.
    """
    outcomes: list[Outcome] = []
    if csv_path is not None:
        write_csv(csv_path, outcomes)  # finds out now, not after an hour, whether it can be written
    try:
        for config in configs:
            found = _played(store, config, as_json)
            outcomes += [found] if found else []
            if csv_path is not None:
                write_csv(csv_path, outcomes)
    finally:
        if outcomes and not as_json:
            print(comparison_table(outcomes))
    return 0 if len(outcomes) == len(configs) else 2


def _played(store: Store, config: RunConfig, as_json: bool) -> Outcome | None:
    label = f"{METHODS[config.method].label}, seed {config.seed}"
    run_id = store.create_run(config, f"compare: {label}")
    try:
        records = play(store, run_id, label, as_json=as_json)
    except TrainingError as error:
        print(f"pwff: {label} is left out: {error}", file=sys.stderr)
        return None
    row = store.run(run_id)
    if row.status is not RunStatus.FINISHED:
        print(f"pwff: {label} is left out: {row.message}", file=sys.stderr)
        return None
    return outcome(run_id, config, records)


def comparison_table(outcomes: Sequence[Outcome]) -> str:
    """A row a method: mean ± standard deviation over seeds."""
    measured = [name for name in FINAL if any(found.final[name] is not None for found in outcomes)]
    header = ["method", "runs", *(METRICS[name].label for name in measured)]
    header += [f"{METRICS[name].label} a round" for name in SPENT] + [f"{METRICS[name].label} in all" for name in SPENT]
    rows = []
    for method in dict.fromkeys(found.config.method for found in outcomes):
        mine = [found for found in outcomes if found.config.method == method]
        row = [METHODS[method].label, f"{len(mine)}"]
        row += [spread(name, [found.final[name] for found in mine]) for name in measured]
        row += [spread(name, [found.a_round[name] for found in mine]) for name in SPENT]
        row += [spread(name, [found.in_all[name] for found in mine]) for name in SPENT]
        rows.append(row)
    return table(header, rows)


def spread(metric: str, values: Sequence[float | None]) -> str:
    """Mean ± sample standard deviation in the metric's words; the mean alone of one value."""
    known = [value for value in values if value is not None]
    if len(known) < 2:
        return in_words(metric, known[0] if known else None)
    return f"{in_words(metric, statistics.fmean(known))} ± {in_words(metric, statistics.stdev(known))}"


def write_csv(path: Path, outcomes: Sequence[Outcome]) -> None:
    """A row a run, in SI units and shares of 1. ConfigError if the file cannot be written."""
    header = [
        "method",
        "seed",
        "run",
        *FINAL,
        *(f"{name}_a_round" for name in SPENT),
        *(f"{name}_in_all" for name in SPENT),
    ]
    try:
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(header)
            for found in outcomes:
                spent = [*found.a_round.values(), *found.in_all.values()]
                writer.writerow([found.config.method, found.config.seed, found.run_id, *found.final.values(), *spent])
    except OSError as error:
        raise ConfigError(f"Cannot write {path} ({error.strerror}); choose another file with --csv.") from None
