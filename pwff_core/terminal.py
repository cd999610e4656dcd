"""What a terminal shows of a run: a progress bar while it plays, and tables of text."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import closing

from pwff_core.records import METRICS, RoundRecord
from pwff_core.store import Store
from pwff_core.units import seconds_text, with_prefix
from pwff_core.worker import recorded

_ADDS_UP = ("s", "J", "bit")  # units of metrics whose sum over rounds means something
_MISSING = "–"


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
            bar.set_postfix_str(f"accuracy {in_words('accuracy', record.accuracy)}", refresh=False)
            if record.stage_end:  # perhaps before its last round
                bar.total = store.run(run_id).rounds_total
            bar.update()
            if as_json:
                sys.stdout.write(record.model_dump_json() + "\n")
                sys.stdout.flush()
    return records


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
    """A run in one table: every metric that it measured, in the first round, in the last and in all."""
    if not records:
        return "The run has no rounds."
    first, last = records[0], records[-1]
    rows = []
    for name, metric in METRICS.items():
        values = [getattr(record, name) for record in records]
        if any(value is not None for value in values):
            total = in_words(name, sum(values)) if metric.unit in _ADDS_UP else ""
            rows.append((metric.label, in_words(name, values[0]), in_words(name, values[-1]), total))
    return table(("", f"round {first.round}", f"round {last.round}", "in all"), rows)


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Text in columns, two spaces apart, a line under the header."""
    widths = [max(len(line[column]) for line in [header, *rows]) for column in range(len(header))]
    lines = [header, ["─" * width for width in widths], *rows]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines
    )
