"""Several methods side by side, as in the paper's Fig. 4 and Fig. 5: as tables and in words.

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
    """One run as the charts see it, with the rounds that it has played."""

    method: MethodId
    seed: int
    records: Sequence[RoundRecord]


class Chart(NamedTuple):
    """One chart: its title, the column of `runs_frame` that it shows, and its horizontal axis."""

    title: str
    column: str
    metric: str  # key of METRICS: unit and name
    over: Literal["rounds", "alignment", "methods", "energy"]
    stages: tuple[Stage, ...]  # a comparison has the chart if it has any of these

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
    """One row a run and round; what was not measured is NaN.

    `planned` has the rounds of each stage in the longest run. Columns: method, seed, position (rounds counted over
    these stages), stage, step (0 for the scores before alignment, then its rounds; NaN elsewhere), accuracy (a share of
    1), reward_sum (helpfulness + harmlessness) and reward (by owners' weights) [sd], delay_s, energy_j,
    energy_so_far_j (over all stages).
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
            scored = None not in (record.helpfulness, record.harmlessness)
            rows.append((
                method, seed, starts[record.stage] + record.round, record.stage, _step(record), record.accuracy,
                (record.helpfulness or 0.0) + (record.harmlessness or 0.0) if scored else None, record.reward,
                record.delay_s, record.energy_j, energy,
            ))  # fmt: skip
    frame = pd.DataFrame(rows, columns=list(_COLUMNS))
    return frame.astype({name: float for name in _COLUMNS[4:]})


def _step(record: RoundRecord) -> float:
    """The round of alignment; 0 for the scores after reward learning; NaN for other rounds."""
    if record.stage == "alignment":
        return float(record.round)
    return 0.0 if record.helpfulness is not None else math.nan


def over_seeds(chart_id: ChartId, frame: pd.DataFrame) -> pd.DataFrame:
    """A chart's numbers in its unit: method, x, mean, deviation (NaN for one seed), seeds, and the energy so far.

    x is the round or the round of alignment. Where a chart has one number a method, x is 0 and the number is the mean
    over instruction tuning and alignment, whose rounds upload the method's payload. Methods are in METHODS' order.
    """
    chart = CHARTS[chart_id]
    x = {"alignment": "step", "methods": "method"}.get(chart.over, "position")
    measured = frame.dropna(subset=[chart.column, x])
    if chart.over == "methods":
        tuned = measured[measured["stage"] != "reward"]
        measured = tuned.groupby(["method", "seed"], as_index=False)[[chart.column, "energy_so_far_j"]].mean()
        measured["x"], x = 0.0, "x"
    groups = measured.assign(value=chart.scaled(measured[chart.column])).groupby(["method", x])
    means = groups.agg(
        mean=("value", "mean"), deviation=("value", "std"), seeds=("value", "size"),
        energy=("energy_so_far_j", "mean"), energy_deviation=("energy_so_far_j", "std"),
    ).reset_index(names=["method", "x"])  # fmt: skip
    means["place"] = means["method"].map(list(get_args(MethodId)).index)
    return means.sort_values(["place", "x"]).drop(columns="place").reset_index(drop=True)


def chart_words(chart_id: ChartId, means: pd.DataFrame) -> str:
    """What a chart with these numbers (`over_seeds`) shows, in a sentence, for people who cannot see it."""
    chart = CHARTS[chart_id]
    if means.empty:
        return f"{chart.title}: no number yet."
    last = means.groupby("method", sort=False).tail(1)
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


def chart_table(chart_id: ChartId, means: pd.DataFrame) -> pd.DataFrame:
    """The same numbers (`over_seeds`) for people: method, round, mean, ± standard deviation, number of seeds."""
    chart = CHARTS[chart_id]
    table = pd.DataFrame({"Method": [METHODS[method].label for method in means["method"]]})
    if chart.over != "methods":
        table["Round of alignment" if chart.over == "alignment" else "Round"] = means["x"].astype(int).to_numpy()
    if chart.over == "energy":
        table["Energy so far [J]"] = means["energy"].to_numpy()
    table[f"{METRICS[chart.metric].label} [{chart.unit}]"] = means["mean"].to_numpy()
    table[f"± [{chart.unit}]"] = means["deviation"].to_numpy()
    table["Seeds"] = means["seeds"].to_numpy()
    return table
