"""Several methods side by side: what the paper's Fig. 4 and Fig. 5 show, as tables and in words.

Every mean is over seeds, and every spread is one sample standard deviation. One seed has no spread.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple, get_args

import pandas as pd

from pwff_core.figures.frames import value_text
from pwff_core.methods import METHODS, MethodId
from pwff_core.records import METRICS, RoundRecord, Stage

ChartId = Literal["accuracy", "delay", "reward_sum", "reward", "energy", "accuracy_energy"]


class PlayedRun(NamedTuple):
    """One run as the charts see it, as far as it has come."""

    method: MethodId
    seed: int
    records: Sequence[RoundRecord]


class Chart(NamedTuple):
    """One chart: its title, the column of `runs_frame` that it shows, and over what."""

    title: str
    column: str
    metric: str  # key of METRICS: unit and name
    over: Literal["rounds", "alignment", "methods", "energy"]
    stages: tuple[Stage, ...]  # a comparison without any of these has no such chart

    @property
    def unit(self) -> str:
        """Unit of its numbers as they are drawn."""
        return METRICS[self.metric].unit

    def scaled(self, values: pd.Series) -> pd.Series:
        """Numbers of the frame in the chart's unit."""
        return 100.0 * values if self.unit == "%" else values


_TUNED: tuple[Stage, ...] = ("instruction", "alignment")
CHARTS: dict[ChartId, Chart] = {
    "accuracy": Chart("Accuracy", "accuracy", "accuracy", "rounds", _TUNED),
    "delay": Chart("Delay of a round", "delay_s", "delay_s", "methods", _TUNED),
    "reward_sum": Chart("Reward: helpfulness + harmlessness", "reward_sum", "reward", "alignment", ("alignment",)),
    "reward": Chart("Reward, by each owner's wishes", "reward", "reward", "alignment", ("alignment",)),
    "energy": Chart("Energy of a round, all clients", "energy_j", "energy_j", "methods", _TUNED),
    "accuracy_energy": Chart("Accuracy against energy so far", "accuracy", "accuracy", "energy", _TUNED),
}
_COLUMNS = (
    *("method", "seed", "position", "stage", "step", "accuracy", "reward_sum", "reward"),
    *("delay_s", "energy_j", "energy_so_far_j"),
)


def charts_of(planned: Mapping[Stage, int]) -> list[ChartId]:
    """The charts of a comparison that goes through these stages."""
    return [chart_id for chart_id, chart in CHARTS.items() if set(chart.stages) & set(planned)]


def runs_frame(runs: Sequence[PlayedRun], planned: Mapping[Stage, int]) -> pd.DataFrame:
    """A row a run and round, what was not measured is NaN.

    Columns: method, seed, position (rounds counted over the stages, each as long as `planned`, the longest of all
    runs), stage, step (0 before alignment, then its rounds; NaN before), accuracy (a share of 1), reward_sum
    (helpfulness + harmlessness) and reward (by owners' weights) [sd], delay_s, energy_j, energy_so_far_j (over all
    stages).
    """
    starts: dict[str, int] = {}
    for stage, rounds in planned.items():
        starts[stage] = starts.get("next", 0)
        starts["next"] = starts[stage] + rounds
    rows = []
    for method, seed, records in runs:
        energy = 0.0
        for record in records:
            energy += record.energy_j
            both = None not in (record.helpfulness, record.harmlessness)
            rows.append((
                method, seed, starts[record.stage] + record.round, record.stage, _step(record), record.accuracy,
                (record.helpfulness or 0.0) + (record.harmlessness or 0.0) if both else None, record.reward,
                record.delay_s, record.energy_j, energy,
            ))  # fmt: skip
    frame = pd.DataFrame(rows, columns=list(_COLUMNS))
    return frame.astype({name: float for name in _COLUMNS[4:]})


def _step(record: RoundRecord) -> float:
    """The round of alignment; 0 for the scores that are measured once rewards are learned."""
    if record.stage == "alignment":
        return float(record.round)
    return 0.0 if record.helpfulness is not None else math.nan


def over_seeds(chart_id: ChartId, frame: pd.DataFrame) -> pd.DataFrame:
    """A chart's numbers in its unit: method, x, mean, deviation (NaN for one seed), seeds; and energy beside accuracy.

    x is the round, the round of alignment, or 0 where a chart has one number a method: the mean over the rounds of
    instruction tuning and alignment, in which the method's own payload is sent. Methods are in the order of METHODS.
    """
    chart = CHARTS[chart_id]
    x = {"alignment": "step", "methods": "method"}.get(chart.over, "position")
    known = frame.dropna(subset=[chart.column, x])
    if chart.over == "methods":
        own = known[known["stage"] != "reward"]
        known = own.groupby(["method", "seed"], as_index=False)[[chart.column, "energy_so_far_j"]].mean()
        known["x"], x = 0.0, "x"
    groups = known.assign(value=chart.scaled(known[chart.column])).groupby(["method", x])
    told = groups.agg(
        mean=("value", "mean"), deviation=("value", "std"), seeds=("value", "size"),
        energy=("energy_so_far_j", "mean"), energy_deviation=("energy_so_far_j", "std"),
    ).reset_index(names=["method", "x"])  # fmt: skip
    told["place"] = told["method"].map(list(get_args(MethodId)).index)
    return told.sort_values(["place", "x"]).drop(columns="place").reset_index(drop=True)


def chart_words(chart_id: ChartId, told: pd.DataFrame) -> str:
    """What a chart with these numbers (`over_seeds`) shows, in a sentence: its text for people who do not see it."""
    chart = CHARTS[chart_id]
    if told.empty:
        return f"{chart.title}: no number yet."
    last = told.groupby("method", sort=False).tail(1)
    when = {"rounds": "after round {}", "alignment": "after round {} of alignment"}.get(chart.over, "")
    energy = chart.over == "energy"
    parts = [
        " ".join(
            part
            for part in (
                METHODS[row.method].label,
                value_text(row.mean / (100.0 if chart.unit == "%" else 1.0), chart.unit),
                when.format(f"{row.x:.0f}"),
                f"at {value_text(row.energy, 'J')}" if energy else "",
            )
            if part
        )
        for row in last.itertuples()
    ]
    seeds = int(last["seeds"].max())
    return f"{chart.title}{f', mean over {seeds} seeds' if seeds > 1 else ''}: {', '.join(parts)}."


def chart_table(chart_id: ChartId, told: pd.DataFrame) -> pd.DataFrame:
    """The same numbers (`over_seeds`) for people: method, round, mean, ± standard deviation, number of seeds."""
    chart = CHARTS[chart_id]
    table = pd.DataFrame({"Method": [METHODS[method].label for method in told["method"]]})
    if chart.over != "methods":
        table["Round of alignment" if chart.over == "alignment" else "Round"] = told["x"].astype(int).to_numpy()
    if chart.over == "energy":
        table["Energy so far [J]"] = told["energy"].to_numpy()
    table[f"{METRICS[chart.metric].label} [{chart.unit}]"] = told["mean"].to_numpy()
    table[f"± [{chart.unit}]"] = told["deviation"].to_numpy()
    table["Seeds"] = told["seeds"].to_numpy()
    return table
