"""A comparison as it stands: its runs, the charts of all methods, the paper's claims with verdicts, the table."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import pandas as pd
import streamlit as st

from pages.comparison.claims import draw_claims
from pages.parts.chart import live_chart
from pages.parts.words import count, plain
from pwff_core.comparison.outcomes import MEASURES, Outcome, method_table, outcome_of, shown_measures
from pwff_core.comparison.presets import in_order, run_label
from pwff_core.comparison.verdicts import Verdict, verdicts
from pwff_core.config import stage_rounds
from pwff_core.figures.comparison import (
    CHARTS,
    ChartId,
    PlayedRun,
    chart_table,
    chart_words,
    charts_of,
    over_seeds,
    runs_frame,
)
from pwff_core.figures.comparison_figure import chart_figure
from pwff_core.figures.panel_figure import figure_json
from pwff_core.methods import METHODS
from pwff_core.records import RoundRecord, Stage
from pwff_core.runs.store import RunRow, RunStatus, Store

NOTES: dict[ChartId, str] = {
    "accuracy": "Share of held-out response tokens that are predicted right, mean over clients.",
    "delay": "Mean over the rounds of instruction tuning and alignment, in which a method's own payload is sent.",
    "reward_sum": "The paper's reward. Scores of the judge; 0 + 0 is the mean of the reference answers.",
    "reward": "The same scores, weighted for each client as its owner wishes.",
    "energy": "Mean over the rounds of instruction tuning and alignment, summed over clients.",
    "accuracy_energy": "A point a round. The large point is where a method stands now.",
}
_SEEN, _DRAWN = "compare:seen", "compare:drawn"


class Played(NamedTuple):
    """A run of the comparison with its rounds so far."""

    row: RunRow
    records: Sequence[RoundRecord]
    steered: bool  # its settings were changed on the way, so that it compares with no other


class Drawing(NamedTuple):
    """A chart as it is sent to the browser."""

    figure: str  # JSON
    words: str
    table: pd.DataFrame


class Drawn(NamedTuple):
    """All that is shown of a comparison, made once for each new round."""

    charts: dict[ChartId, Drawing]
    outcomes: list[Outcome]
    found: list[Verdict]


def comparison_words(rows: Sequence[RunRow]) -> str:
    """A comparison in a line of a list: its methods, its seeds, how many clients, and when."""
    methods = ", ".join(METHODS[method].label for method in in_order([row.config.method for row in rows]))
    seeds = sorted({row.config.seed for row in rows})
    begun = time.strftime("%d %b %H:%M", time.localtime(rows[0].created_at))
    return (
        f"{methods} · seed{'' if len(seeds) == 1 else 's'} {', '.join(str(seed) for seed in seeds)} · "
        f"{count(rows[0].config.clients, 'client')} · {begun}"
    )


def played_runs(store: Store, rows: Sequence[RunRow]) -> list[Played]:
    """The runs with all their rounds; only those after the last one seen are read from the store."""
    seen: dict[str, dict[str, Any]] = st.session_state.setdefault(_SEEN, {})
    runs = []
    for row in rows:
        known = seen.setdefault(row.id, {"after": 0, "records": [], "steered": False})
        if len(known["records"]) < row.rounds_done:
            for row_id, record in store.rounds(row.id, after=known["after"]):
                known["records"].append(record)
                known["after"] = row_id
            known["steered"] = bool(store.steerings(row.id))
        runs.append(Played(row, known["records"], known["steered"]))
    for gone in seen.keys() - {row.id for row in rows}:  # of a comparison shown before
        del seen[gone]
    return runs


def draw_comparison(store: Store, comparison: str, rows: Sequence[RunRow]) -> None:
    """Everything about one comparison, top to bottom; `rows` are its runs, the first to start first."""
    runs = played_runs(store, rows)
    _progress(runs)
    _runs(store, comparison, runs)
    if not any(run.records for run in runs) and all(run.row.status.ended for run in runs):
        return
    drawn = _drawn(comparison, runs)
    draw_claims(drawn.found)
    _charts(comparison, runs, drawn)
    _table(drawn.outcomes)


def _progress(runs: Sequence[Played]) -> None:
    ended = sum(run.row.status.ended for run in runs)
    finished = sum(run.row.status is RunStatus.FINISHED for run in runs)
    if ended < len(runs):
        done = sum(len(run.records) for run in runs)
        total = max(sum(len(run.records) if run.row.status.ended else run.row.rounds_total for run in runs), 1)
        st.progress(min(done / total, 1.0), text=f"{finished} of {count(len(runs), 'run')} finished.")
    elif finished == len(runs):
        st.success(f"{finished} of {count(len(runs), 'run')} finished.", icon=":material/check_circle:")
    else:
        st.info(f"{finished} of {count(len(runs), 'run')} finished; the others are left out.", icon=":material/info:")
    for run in runs:
        if run.row.status is RunStatus.FAILED:
            st.error(plain(f"{run_label(run.row.config)} failed: {run.row.message}"), icon=":material/error:")
        if run.steered:
            st.warning(
                plain(f"{run_label(run.row.config)} was steered on the way, so table and verdicts leave it out."),
                icon=":material/tune:",
            )


def state_words(row: RunRow, done: int, place: int | None) -> str:
    """Where a run of a comparison stands; `place` in the queue, from 1, if it waits."""
    if place is not None:
        return f"Waits, place {place} in the queue"
    match row.status:
        case RunStatus.QUEUED:
            return "The engine starts"
        case RunStatus.RUNNING | RunStatus.PAUSED:
            return f"{row.status.capitalize()}, {done} of {row.rounds_total} rounds"
        case RunStatus.WAITING:
            return f"Held up after {done} of {row.rounds_total} rounds: {row.message}"
        case RunStatus.FINISHED:
            return f"Finished, {count(done, 'round')}"
        case RunStatus.STOPPED | RunStatus.FAILED:
            return row.message or f"{row.status.capitalize()} after {count(done, 'round')}"


def _runs(store: Store, comparison: str, runs: Sequence[Played]) -> None:
    places = {row.id: place for place, row in enumerate(store.waiting(), start=1)}
    states = [
        "Stops after this round"
        if not run.row.status.ended and store.stop_requested(run.row.id)
        else state_words(run.row, len(run.records), places.get(run.row.id))
        for run in runs
    ]
    table = pd.DataFrame(
        {
            "Method": [METHODS[run.row.config.method].label for run in runs],
            "Seed": [run.row.config.seed for run in runs],
            "State": states,
            "Watch": [f"./?run={run.row.id}" for run in runs],
        }
    )
    unfinished = any(run.row.status is not RunStatus.FINISHED for run in runs)
    with st.expander(f"The {count(len(runs), 'run')}", expanded=unfinished, key=f"runs:{comparison}"):
        st.dataframe(
            table,
            hide_index=True,
            key="table:runs",
            alt="Every run of the comparison and where it stands",
            column_config={"Watch": st.column_config.LinkColumn(display_text="on the Live page")},
        )


def _drawn(comparison: str, runs: Sequence[Played]) -> Drawn:
    """Charts, outcomes and verdicts, made anew only when a round or an end has come."""
    state = (comparison, tuple((run.row.id, run.row.status, len(run.records), run.steered) for run in runs))
    kept: tuple[Any, Drawn] | None = st.session_state.get(_DRAWN)
    if kept and kept[0] == state:
        return kept[1]
    planned = longest(runs)
    frame = runs_frame([PlayedRun(run.row.config.method, run.row.config.seed, run.records) for run in runs], planned)
    charts = {}
    for chart_id in charts_of(planned):
        told = over_seeds(chart_id, frame)
        figure = figure_json(chart_figure(chart_id, told, planned))
        charts[chart_id] = Drawing(figure, chart_words(chart_id, told), chart_table(chart_id, told))
    outcomes = finished_outcomes(runs)
    found = verdicts(outcomes, in_order([run.row.config.method for run in runs]))
    drawn = Drawn(charts, outcomes, found)
    st.session_state[_DRAWN] = (state, drawn)
    return drawn


def finished_outcomes(runs: Sequence[Played]) -> list[Outcome]:
    """What the runs came to that can be compared: finished, and not steered on the way."""
    return [
        outcome_of(run.row.id, run.row.config, run.records)
        for run in runs
        if run.row.status is RunStatus.FINISHED and not run.steered
    ]


def longest(runs: Sequence[Played]) -> dict[Stage, int]:
    """The stages of the runs, in order, each as long as in the longest."""
    planned: dict[Stage, int] = {}
    for run in runs:
        for stage, rounds in stage_rounds(run.row.config).items():
            planned[stage] = max(planned.get(stage, 0), rounds)
    order: tuple[Stage, ...] = ("instruction", "reward", "alignment")
    return {stage: planned[stage] for stage in order if stage in planned}


def _charts(comparison: str, runs: Sequence[Played], drawn: Drawn) -> None:
    st.caption(
        "Lines and bars are means over seeds; bands and error bars one standard deviation to each side. Real: the "
        "training, on this computer. Simulated: the channel, and with it delay and energy."
    )
    revision = ",".join(f"{len(run.records)}" for run in runs)
    charts = list(drawn.charts.items())
    for left in range(0, len(charts), 2):
        for column, (chart_id, drawing) in zip(st.columns(2), charts[left : left + 2], strict=False):
            with column:
                live_chart(
                    f"compare:{chart_id}", drawing.figure, words=drawing.words, view=comparison, revision=revision
                )
                st.caption(NOTES[chart_id])
                title = CHARTS[chart_id].title
                with st.expander(f"{title} in numbers", key=f"numbers:{chart_id}"):
                    st.dataframe(drawing.table, hide_index=True, alt=title, key=f"table:{chart_id}")


def _table(outcomes: Sequence[Outcome]) -> None:
    st.subheader("All numbers", anchor=False)
    if not outcomes:
        st.caption("A row a method, once the first run has finished.")
        return
    helps = {MEASURES[name].title: MEASURES[name].help for name in shown_measures(outcomes)}
    st.dataframe(
        method_table(outcomes),
        hide_index=True,
        key="table:methods",
        alt="Every method: mean and standard deviation over seeds of what was measured",
        column_config={title: st.column_config.TextColumn(help=text) for title, text in helps.items()},
    )
    st.caption("Finished runs: mean ± standard deviation over seeds.")
