"""The results of a comparison so far: its runs, charts of all methods, the paper's claims with verdicts, the table."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

import pandas as pd
import streamlit as st

from pages.comparison.claims import draw_claims
from pages.parts.chart import chart_with_table
from pages.parts.words import count, plain
from pages.run.export import comparison_offer, draw_export
from pwff_core.comparison.outcomes import MEASURES, Outcome, method_table, outcome_of, run_table, shown_measures
from pwff_core.comparison.presets import in_order, run_label
from pwff_core.comparison.verdicts import Verdict, verdict_table, verdicts
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
_SPREAD = "Mean over seeds; bands and error bars are one standard deviation to each side."
_ROUNDS, _RESULTS = "compare:seen", "compare:drawn"


class ComparedRun(NamedTuple):
    """A run of the comparison with its rounds so far."""

    row: RunRow
    records: Sequence[RoundRecord]
    steered: bool  # its settings changed on the way

    @property
    def comparable(self) -> bool:
        """Whether it counts in tables and verdicts: it has finished, with the same settings from start to end."""
        return self.row.status is RunStatus.FINISHED and not self.steered


@dataclass
class RunRounds:
    """The rounds of a run that have been read from the store so far."""

    last_row_id: int = 0  # of the last round in the store
    records: list[RoundRecord] = field(default_factory=list)
    steered: bool = False


class ChartData(NamedTuple):
    """A chart as it is sent to the browser."""

    figure: str  # JSON
    words: str
    table: pd.DataFrame


class Results(NamedTuple):
    """Everything that follows from the rounds of a comparison."""

    planned: dict[Stage, int]  # the stages, each with its most rounds
    frame: pd.DataFrame  # every round of every run
    numbers: dict[ChartId, pd.DataFrame]  # each chart's, over seeds
    charts: dict[ChartId, ChartData]
    outcomes: list[Outcome]
    verdicts: list[Verdict]


def comparison_words(rows: Sequence[RunRow]) -> str:
    """A comparison in a line of a list: its methods, its seeds, how many clients, and when."""
    methods = ", ".join(METHODS[method].label for method in in_order([row.config.method for row in rows]))
    seeds = sorted({row.config.seed for row in rows})
    date = time.strftime("%d %b %H:%M", time.localtime(rows[0].created_at))
    return (
        f"{methods} · seed{'' if len(seeds) == 1 else 's'} {', '.join(str(seed) for seed in seeds)} · "
        f"{count(rows[0].config.clients, 'client')} · {date}"
    )


def read_runs(store: Store, rows: Sequence[RunRow], cache: dict[str, RunRounds]) -> list[ComparedRun]:
    """The runs with all their rounds. `cache` holds them by run id, so that each round is read from the store once."""
    for row in rows:
        run = cache.setdefault(row.id, RunRounds())
        if len(run.records) < row.rounds_done:
            for row_id, record in store.rounds(row.id, after=run.last_row_id):
                run.records.append(record)
                run.last_row_id = row_id
            run.steered = bool(store.steerings(row.id))
    for run_id in cache.keys() - {row.id for row in rows}:  # of another comparison
        del cache[run_id]
    return [ComparedRun(row, cache[row.id].records, cache[row.id].steered) for row in rows]


def _session_runs(store: Store, rows: Sequence[RunRow]) -> list[ComparedRun]:
    return read_runs(store, rows, st.session_state.setdefault(_ROUNDS, {}))


def draw_comparison(store: Store, comparison: str, rows: Sequence[RunRow]) -> None:
    """Draw all results of one comparison; `rows` are its runs, the first to start first."""
    runs = _session_runs(store, rows)
    _progress(runs)
    _runs(store, comparison, runs)
    if not any(run.records for run in runs) and all(run.row.status.ended for run in runs):
        return
    results = _results(comparison, runs)
    draw_claims(results.verdicts)
    _charts(comparison, runs, results)
    _table(results.outcomes)


def draw_comparison_export(store: Store, comparison: str, rows: Sequence[RunRow]) -> None:
    """Draw the panel "Export" once a run has finished. Call it outside the page's own fragment."""
    runs = _session_runs(store, rows)
    if not any(run.comparable for run in runs):
        return
    results = _results(comparison, runs)
    tables = {"methods": method_table(results.outcomes), "runs": run_table(results.outcomes), "rounds": results.frame}
    if results.verdicts:
        tables["claims"] = verdict_table(results.verdicts)
    charts = [chart_id for chart_id, numbers in results.numbers.items() if len(numbers)]
    offer = comparison_offer(
        f"comparison {comparison}",
        {chart_id: partial(chart_figure, chart_id, results.numbers[chart_id], results.planned) for chart_id in charts},
        tables,
        captions={chart_id: f"{CHARTS[chart_id].title}. {NOTES[chart_id]} {_SPREAD}" for chart_id in charts},
        about=f"{comparison_words(rows)} · {len(results.outcomes)} of {len(rows)} runs finished",
        config=rows[0].config,
    )
    draw_export(offer, "compare")


def _progress(runs: Sequence[ComparedRun]) -> None:
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
    """The state of a run with `done` rounds; `place` is its place in the queue from 1, if it is queued."""
    if place is not None:
        return f"Waits, place {place} in the queue"
    match row.status:
        case RunStatus.QUEUED:
            return "The engine starts"
        case RunStatus.RUNNING | RunStatus.PAUSED:
            return f"{row.status.capitalize()}, {done} of {row.rounds_total} rounds"
        case RunStatus.STALLED:
            return f"Held up after {done} of {row.rounds_total} rounds: {row.message}"
        case RunStatus.FINISHED:
            return f"Finished, {count(done, 'round')}"
        case RunStatus.STOPPED | RunStatus.FAILED:
            return row.message or f"{row.status.capitalize()} after {count(done, 'round')}"


def _runs(store: Store, comparison: str, runs: Sequence[ComparedRun]) -> None:
    places = {row.id: place for place, row in enumerate(store.queue(), start=1)}
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


def _results(comparison: str, runs: Sequence[ComparedRun]) -> Results:
    """The results of the runs, computed anew only after a new round or a run's end."""
    state = (comparison, tuple((run.row.id, run.row.status, len(run.records), run.steered) for run in runs))
    cached: tuple[Any, Results] | None = st.session_state.get(_RESULTS)
    if cached and cached[0] == state:
        return cached[1]
    planned = longest_stages(runs)
    frame = runs_frame([PlayedRun(run.row.config.method, run.row.config.seed, run.records) for run in runs], planned)
    numbers = {chart_id: over_seeds(chart_id, frame) for chart_id in charts_of(planned)}
    charts = {chart_id: _chart_data(chart_id, of_chart, planned) for chart_id, of_chart in numbers.items()}
    outcomes = finished_outcomes(runs)
    judged = verdicts(outcomes, in_order([run.row.config.method for run in runs]))
    results = Results(planned, frame, numbers, charts, outcomes, judged)
    st.session_state[_RESULTS] = (state, results)
    return results


def _chart_data(chart_id: ChartId, numbers: pd.DataFrame, planned: dict[Stage, int]) -> ChartData:
    figure = figure_json(chart_figure(chart_id, numbers, planned))
    return ChartData(figure, chart_words(chart_id, numbers), chart_table(chart_id, numbers))


def finished_outcomes(runs: Sequence[ComparedRun]) -> list[Outcome]:
    return [outcome_of(run.row.id, run.row.config, run.records) for run in runs if run.comparable]


def longest_stages(runs: Sequence[ComparedRun]) -> dict[Stage, int]:
    """The stages of the runs in order, each with its rounds in the run where it is longest."""
    planned: dict[Stage, int] = {}
    for run in runs:
        for stage, rounds in stage_rounds(run.row.config).items():
            planned[stage] = max(planned.get(stage, 0), rounds)
    order: tuple[Stage, ...] = ("instruction", "reward", "alignment")
    return {stage: planned[stage] for stage in order if stage in planned}


def _charts(comparison: str, runs: Sequence[ComparedRun], results: Results) -> None:
    st.caption(
        "Lines and bars are means over seeds; bands and error bars one standard deviation to each side. Real: the "
        "training, on this computer. Simulated: the channel, and with it delay and energy."
    )
    revision = ",".join(f"{len(run.records)}" for run in runs)
    charts = list(results.charts.items())
    for left in range(0, len(charts), 2):
        for column, (chart_id, chart) in zip(st.columns(2), charts[left : left + 2], strict=False):
            with column:
                title = CHARTS[chart_id].title
                chart_with_table(
                    f"compare:{chart_id}",
                    chart.figure,
                    chart.table,
                    words=chart.words,
                    view=comparison,
                    revision=revision,
                    heading=f"{title} in numbers",
                    alt=title,
                    keys=(f"numbers:{chart_id}", f"table:{chart_id}"),
                    note=NOTES[chart_id],
                )


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
