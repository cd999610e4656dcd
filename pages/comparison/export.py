"""A comparison to take home: its charts, its runs, its table of methods, the paper's claims with their verdicts."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from pages.comparison.results import NOTES, comparison_words, finished_outcomes, longest, played_runs
from pages.run.export import draw_export_comparison
from pwff_core.comparison.outcomes import method_table, run_table
from pwff_core.comparison.presets import in_order
from pwff_core.comparison.verdicts import verdict_table, verdicts
from pwff_core.figures.comparison import CHARTS, PlayedRun, charts_of, over_seeds, runs_frame
from pwff_core.figures.comparison_figure import chart_figure
from pwff_core.runs.store import RunRow, Store

_SPREAD = "Mean over seeds; bands and error bars are one standard deviation to each side."


def draw_comparison_export(store: Store, comparison: str, rows: Sequence[RunRow]) -> None:
    """The panel "Export", once a run has finished. Call it outside of the page's own fragment."""
    runs = played_runs(store, rows)
    outcomes = finished_outcomes(runs)
    if not outcomes:
        return
    planned = longest(runs)
    frame = runs_frame([PlayedRun(run.row.config.method, run.row.config.seed, run.records) for run in runs], planned)
    told = {chart_id: over_seeds(chart_id, frame) for chart_id in charts_of(planned)}
    charts = [chart_id for chart_id, numbers in told.items() if len(numbers)]
    found = verdicts(outcomes, in_order([row.config.method for row in rows]))
    tables = {"methods": method_table(outcomes), "runs": run_table(outcomes), "rounds": frame}
    draw_export_comparison(
        f"comparison {comparison}",
        {chart_id: partial(chart_figure, chart_id, told[chart_id], planned) for chart_id in charts},
        tables | ({"claims": verdict_table(found)} if found else {}),
        captions={chart_id: f"{CHARTS[chart_id].title}. {NOTES[chart_id]} {_SPREAD}" for chart_id in charts},
        about=f"{comparison_words(rows)} · {len(outcomes)} of {len(rows)} runs finished",
        config=rows[0].config,
        key="compare",
    )
