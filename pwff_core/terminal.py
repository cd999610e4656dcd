"""What a terminal shows of a run: a progress bar while it plays, and tables of text."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import closing
from typing import get_args

from pwff_core.records import METRICS, RoundRecord, Stage
from pwff_core.store import Store
from pwff_core.units import seconds_text, with_prefix
from pwff_core.worker import recorded

_ADDS_UP = ("s", "J", "bit")  # units of metrics whose sum over rounds means something
_MISSING = "–"
_TOLD: dict[Stage, str] = {"instruction": "accuracy", "reward": "loss", "alignment": "reward"}  # beside the bar


def play(store: Store, run_id: str, label: str, *, as_json: bool) -> list[RoundRecord]:
    """Plays a queued run in this process and returns its rounds; progress on stderr, rounds as JSON lines on stdout.

    Raises what `worker.recorded` raises; the run is in the store either way.
    """
    from tqdm import tqdm

    total = store.run(run_id).rounds_total
    records: list[RoundRecord] = []
    with closing(recorded(store, run_id)) as stream, tqdm(total=total, desc=label, unit="round") as bar:
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


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Text in columns, two spaces apart, a line under the header."""
    widths = [max(len(line[column]) for line in [header, *rows]) for column in range(len(header))]
    lines = [header, ["─" * width for width in widths], *rows]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines
    )
