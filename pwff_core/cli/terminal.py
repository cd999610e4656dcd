"""What a terminal shows of a run, or of several: a progress bar while one plays, and tables of text."""

from __future__ import annotations

import sys
import textwrap
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from pwff_core.comparison.presets import in_order, new_comparison_id, run_label
from pwff_core.config import RunConfig
from pwff_core.engine.worker import recorded
from pwff_core.errors import ConfigError, TrainingError
from pwff_core.methods import MethodId
from pwff_core.records import METRICS, RoundRecord, Stage
from pwff_core.runs.checkpoints import Mark
from pwff_core.runs.store import RunStatus, Store
from pwff_core.tools.text_table import table
from pwff_core.units import seconds_text, with_prefix

if TYPE_CHECKING:  # pandas, which it needs, takes most of a second to load
    from pwff_core.comparison.outcomes import Outcome

_ADDS_UP = ("s", "J", "bit")  # units of metrics whose sum over rounds means something
_MISSING = "–"
_WIDTH = 100  # characters of a line of prose
_TOLD: dict[Stage, str] = {"instruction": "accuracy", "reward": "loss", "alignment": "reward"}  # beside the bar


def play(store: Store, run_id: str, label: str, *, as_json: bool, force: bool = False) -> list[RoundRecord]:
    """Plays a queued run in this process and returns all its rounds, those that it had before among them.

    Progress on stderr; with `as_json` new rounds as JSON lines on stdout. `force` plays it whatever memory is free.
    Raises what `worker.recorded` raises; the run is in the store either way.
    """
    from tqdm import tqdm

    total = store.run(run_id).rounds_total
    records = [record for _, record in store.rounds(run_id)]
    with (
        tqdm(total=total, initial=len(records), desc=label, unit="round") as bar,
        closing(recorded(store, run_id, force=force, told=bar.set_postfix_str)) as stream,
    ):
        for record in stream:
            records.append(record)
            bar.set_postfix_str(_state(record), refresh=False)
            if record.stage_end:  # perhaps before its last round
                bar.total = store.run(run_id).rounds_total
            bar.update()
            if as_json:
                sys.stdout.write(record.model_dump_json() + "\n")
                sys.stdout.flush()
    return records


@contextmanager
def drawing() -> Iterator[Callable[[int, int], None]]:
    """A progress bar over the pictures of an export, on a terminal only; what it yields is told (done, all)."""
    from tqdm import tqdm

    with tqdm(desc="Figures", unit="file", disable=None, delay=1) as bar:

        def told(done: int, of: int) -> None:
            bar.total = of
            bar.update(done - bar.n)

        yield told


def _state(record: RoundRecord) -> str:
    metric = _TOLD[record.stage]
    return f"{record.stage}: {METRICS[metric].label.lower()} {in_words(metric, getattr(record, metric))}"


def in_words(metric: str, value: float | None) -> str:
    """A metric's number with its unit, as people write it: 0.631 → '63.1 %'."""
    unit = METRICS[metric].unit
    if value is None:
        return _MISSING
    if unit == "%":
        return f"{100 * value:.1f} %"
    if unit == "s":
        return seconds_text(value) if value >= 10 else with_prefix(value, unit)
    return with_prefix(value, unit) if unit in _ADDS_UP else f"{value:.3f}"


def summary(records: Sequence[RoundRecord]) -> str:
    """A run in one table: every metric that it measured, in the first and the last round of each stage and in all."""
    if not records:
        return "The run has no rounds."
    stages = [[record for record in records if record.stage == stage] for stage in get_args(Stage)]
    shown = [record for rounds in stages if rounds for record in (rounds[0], rounds[-1])]
    shown = list({(record.stage, record.round): record for record in shown}.values())
    rows = []
    for name, metric in METRICS.items():
        values = [getattr(record, name) for record in records]
        if any(value is not None for value in values):
            total = in_words(name, sum(value or 0.0 for value in values)) if metric.unit in _ADDS_UP else ""
            rows.append((metric.label, *(in_words(name, getattr(record, name)) for record in shown), total))
    return table(("", *(f"{record.stage} {record.round}" for record in shown), "in all"), rows)


def fork_table(points: Sequence[Mark]) -> str:
    """Where a run can be forked, a row a checkpoint."""
    rows = [
        (
            f"{point.position}",
            f"{point.stage} {point.round}{' (its last)' if point.stage_end else ''}",
            f"{with_prefix(point.size, 'B')}",
            time.strftime("%Y-%m-%d %H:%M", time.localtime(point.written_at)),
        )
        for point in points
    ]
    return table(("after", "round", "size", "written"), rows)


def compare(store: Store, configs: Sequence[RunConfig], csv_path: Path | None, *, as_json: bool) -> int:
    """Plays the runs of one comparison; then a row a method, and what the paper claims. Returns the exit code.

    A run that is stopped from a page or whose training fails is told of on stderr and left out (exit code 2). Other
    PwffErrors and KeyboardInterrupt end the comparison and are raised, after what has finished is shown.
    """
    outcomes: list[Outcome] = []
    comparison, methods = new_comparison_id(), in_order([config.method for config in configs])
    _write_csv(csv_path, outcomes, methods)  # finds out now, not after an hour, whether it can be written
    try:
        for config in configs:
            outcomes += _played(store, config, comparison, as_json)
            _write_csv(csv_path, outcomes, methods)
    finally:
        if outcomes and not as_json:
            print(comparison_text(outcomes, methods))
    return 0 if len(outcomes) == len(configs) else 2


def _played(store: Store, config: RunConfig, comparison: str, as_json: bool) -> list[Outcome]:
    """The outcome of one more run of a comparison; none if it did not finish."""
    from pwff_core.comparison.outcomes import outcome

    label = run_label(config)
    run_id = store.create_run(config, f"Compare: {label}", comparison=comparison)
    try:
        records = play(store, run_id, label, as_json=as_json)
    except TrainingError as error:
        print(f"pwff: {label} is left out: {error}", file=sys.stderr)
        return []
    except KeyboardInterrupt:
        print(f"pwff: {label} is stopped; `pwff resume {run_id}` goes on with this run alone.", file=sys.stderr)
        raise
    row = store.run(run_id)
    if row.status is not RunStatus.FINISHED:
        print(f"pwff: {label} is left out: {row.message}", file=sys.stderr)
        return []
    return [outcome(run_id, config, records)]


def comparison_text(outcomes: Sequence[Outcome], methods: Sequence[MethodId]) -> str:
    """A row a method, mean ± standard deviation over seeds; then each claim of the paper about them, with a verdict."""
    from pwff_core.comparison.outcomes import method_table
    from pwff_core.comparison.verdicts import verdicts

    shown = method_table(outcomes)
    parts = [table(list(shown.columns), shown.to_numpy().tolist())]
    for found in verdicts(outcomes, methods):
        reason = textwrap.fill(found.reason, _WIDTH, initial_indent="  ", subsequent_indent="  ")
        parts.append(f"The paper: {found.claim.sentence} Here: {found.ruling}.\n{reason}")
    return "\n\n".join(parts)


def _write_csv(path: Path | None, outcomes: Sequence[Outcome], methods: Sequence[MethodId]) -> None:
    """A row a run, in SI units and shares of 1; beside it, a row a claim. ConfigError if that cannot be written."""
    from pwff_core.comparison.outcomes import run_table
    from pwff_core.comparison.verdicts import verdict_table, verdicts

    if path is None:
        return
    tables = {path: run_table(outcomes)}
    if found := verdicts(outcomes, methods):
        tables[path.with_stem(f"{path.stem}-claims")] = verdict_table(found)
    try:
        for target, rows in tables.items():
            with target.open("w", encoding="utf-8", newline="") as file:
                rows.to_csv(file, index=False, lineterminator="\n")
    except OSError as error:
        raise ConfigError(f"Cannot write {path} ({error.strerror}); choose another file with --csv.") from None
