"""What a terminal shows of a run: progress bars, numbers with their units, and tables."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, get_args

from pwff_core.records import METRICS, RoundRecord, Stage
from pwff_core.runs.checkpoints import CheckpointInfo
from pwff_core.tools.text_table import table
from pwff_core.units import seconds_text, with_prefix

if TYPE_CHECKING:
    from tqdm import tqdm

_SUMMABLE_UNITS = ("s", "J", "bit")  # of metrics whose sum over rounds means something
_MISSING = "–"
_BAR_METRIC: dict[Stage, str] = {"instruction": "accuracy", "reward": "loss", "alignment": "reward"}


def rounds_bar(label: str, total: int, done: int) -> tqdm[None]:
    """A progress bar over a run's rounds, `done` of which are over."""
    from tqdm import tqdm

    return tqdm(total=total, initial=done, desc=label, unit="round")


@contextmanager
def figures_bar() -> Iterator[Callable[[int, int], None]]:
    """A progress bar over the pictures of an export, on a terminal only; it takes (done, all)."""
    from tqdm import tqdm

    with tqdm(desc="Figures", unit="file", disable=None, delay=1) as bar:

        def on_progress(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        yield on_progress


def round_text(record: RoundRecord) -> str:
    """The stage of a round and the metric that tells most about it: 'instruction: accuracy 63.1 %'."""
    metric = _BAR_METRIC[record.stage]
    return f"{record.stage}: {METRICS[metric].label.lower()} {metric_text(metric, getattr(record, metric))}"


def metric_text(metric: str, value: float | None) -> str:
    """A metric's number with its unit, as people write it: 0.631 → '63.1 %'."""
    unit = METRICS[metric].unit
    if value is None:
        return _MISSING
    if unit == "%":
        return f"{100 * value:.1f} %"
    if unit == "s":
        return seconds_text(value) if value >= 10 else with_prefix(value, unit)
    return with_prefix(value, unit) if unit in _SUMMABLE_UNITS else f"{value:.3f}"


def run_table(records: Sequence[RoundRecord]) -> str:
    """A row a metric that was measured: its value in each stage's first and last round, and its sum over all rounds."""
    if not records:
        return "The run has no rounds."
    columns: list[RoundRecord] = []
    for stage in get_args(Stage):
        rounds = [record for record in records if record.stage == stage]
        columns += rounds[:1] + rounds[1:][-1:]
    rows = []
    for name, metric in METRICS.items():
        values = [getattr(record, name) for record in records]
        if any(value is not None for value in values):
            total = metric_text(name, sum(value or 0.0 for value in values)) if metric.unit in _SUMMABLE_UNITS else ""
            rows.append((metric.label, *(metric_text(name, getattr(record, name)) for record in columns), total))
    return table(("", *(f"{record.stage} {record.round}" for record in columns), "in all"), rows)


def fork_table(checkpoints: Sequence[CheckpointInfo]) -> str:
    """The checkpoints after which a run can be forked, one a row."""
    rows = [
        (
            f"{checkpoint.position}",
            f"{checkpoint.stage} {checkpoint.round}{' (its last)' if checkpoint.stage_end else ''}",
            f"{with_prefix(checkpoint.size, 'B')}",
            time.strftime("%Y-%m-%d %H:%M", time.localtime(checkpoint.written_at)),
        )
        for checkpoint in checkpoints
    ]
    return table(("after", "round", "size", "written"), rows)
