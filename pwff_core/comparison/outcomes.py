"""The numbers of a finished run that Fig. 4 and Fig. 5 show, and tables of them over methods and seeds."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import pandas as pd

from pwff_core.comparison.presets import in_order
from pwff_core.config import RunConfig
from pwff_core.methods import METHODS, MethodId
from pwff_core.records import METRICS, RoundRecord


class Measure(NamedTuple):
    """One number of a run: its name, the metric that it is of, and what it means."""

    label: str
    metric: str  # key of METRICS
    help: str

    @property
    def unit(self) -> str:
        """Unit as people read it: '%' where the number is a share of 1."""
        return METRICS[self.metric].unit

    @property
    def title(self) -> str:
        """Name with unit, for the head of a column: 'Loss [nat]'."""
        return f"{self.label} [{self.unit}]"

    @property
    def scale(self) -> float:
        """Factor from the number to its unit."""
        return 100.0 if self.unit == "%" else 1.0


_A_ROUND = "mean over the rounds of instruction tuning and alignment, in which the method's own payload is sent"
_ALL_ROUNDS = "sum over the rounds of all stages, reward learning too"
MEASURES: dict[str, Measure] = {
    "tuned_accuracy": Measure(
        "Accuracy after tuning", "accuracy", "Accuracy after instruction tuning, mean over clients."
    ),
    "accuracy": Measure("Accuracy", "accuracy", "Accuracy after the last round that measured it, mean over clients."),
    "knowledge_accuracy": Measure("Knowledge", "knowledge_accuracy", "The same, only on tokens that state a fact."),
    "style_accuracy": Measure("Style", "style_accuracy", "The same, only on tokens that a house style decides."),
    "loss": Measure("Loss", "loss", "Cross entropy of held-out response tokens, at the same time."),
    "reward_sum": Measure(
        "Helpful + harmless",
        "reward",
        "The paper's reward after alignment: helpfulness plus harmlessness of the answers, mean over clients.",
    ),
    "reward": Measure(
        "Reward by wishes",
        "reward",
        "Reward after alignment, each client's scores weighted as its own owner wishes, mean over clients.",
    ),
    "refusal_rate": Measure(
        "Refusals", "refusal_rate", "Share of delicate prompts that are refused after alignment, mean over clients."
    ),
    "delay_s_a_round": Measure("Delay a round", "delay_s", f"Delay of a round: {_A_ROUND}."),
    "energy_j_a_round": Measure("Energy a round", "energy_j", f"Energy of a round, all clients: {_A_ROUND}."),
    "uplink_bits_a_round": Measure("Uplink a round", "uplink_bits", f"Bits of a round, all clients: {_A_ROUND}."),
    "delay_s_in_all": Measure("Delay in all", "delay_s", f"Delay of the run: {_ALL_ROUNDS}."),
    "energy_j_in_all": Measure("Energy in all", "energy_j", f"Energy of the run, all clients: {_ALL_ROUNDS}."),
}
_NOT_IN_TABLE = ("uplink_bits_a_round",)  # delay and energy, which follow from it, have columns
_DECIMALS = {"%": 1, "sd": 2, "nat": 3}
_MOST_DECIMALS = 6
_DIGITS = 3  # significant digits of a mean where its unit has no fixed number of decimals


class Outcome(NamedTuple):
    """One finished run in numbers: `values` by key of MEASURES, None for what it did not measure."""

    run_id: str
    config: RunConfig
    values: Mapping[str, float | None]


def outcome_of(run_id: str, config: RunConfig, records: Sequence[RoundRecord]) -> Outcome:
    """The numbers of a run. A run without rounds has measured nothing and spent nothing."""
    tuned = [record for record in records if record.stage == "instruction"]
    aligned = [record for record in records if record.stage == "alignment"]
    own_payload = tuned + aligned  # the rounds in which the method's own payload is sent
    values: dict[str, float | None] = {"tuned_accuracy": _last(tuned, "accuracy")}
    for name in ("accuracy", "knowledge_accuracy", "style_accuracy", "loss"):
        values[name] = _last(own_payload, name)  # without reward learning, whose loss is one of pairs
    helpful, harmless = _last(aligned, "helpfulness"), _last(aligned, "harmlessness")
    values["reward_sum"] = None if helpful is None or harmless is None else helpful + harmless
    values |= {name: _last(aligned, name) for name in ("reward", "refusal_rate")}
    for name in ("delay_s", "energy_j", "uplink_bits"):
        values[f"{name}_a_round"] = sum(float(getattr(record, name)) for record in own_payload) / max(
            1, len(own_payload)
        )
    for name in ("delay_s", "energy_j"):
        values[f"{name}_in_all"] = sum(float(getattr(record, name)) for record in records)
    return Outcome(run_id, config, {name: values[name] for name in MEASURES})


def _last(records: Sequence[RoundRecord], name: str) -> float | None:
    values = [value for record in records if (value := getattr(record, name)) is not None]
    return float(values[-1]) if values else None


def run_table(outcomes: Sequence[Outcome]) -> pd.DataFrame:
    """One row a run, in SI units and shares of 1: method, seed, run and MEASURES. What was not measured is empty."""
    rows = [
        [outcome.config.method, outcome.config.seed, outcome.run_id, *outcome.values.values()] for outcome in outcomes
    ]
    table = pd.DataFrame(rows, columns=["method", "seed", "run", *MEASURES])
    return table.astype({name: float for name in MEASURES})


def shown_measures(outcomes: Sequence[Outcome]) -> list[str]:
    """The measures that at least one of these runs has measured, without a column that repeats another."""
    names = [
        name
        for name in MEASURES
        if name not in _NOT_IN_TABLE and any(outcome.values[name] is not None for outcome in outcomes)
    ]
    if all(outcome.values["tuned_accuracy"] == outcome.values["accuracy"] for outcome in outcomes):
        names = [name for name in names if name != "tuned_accuracy"]  # every run ended after instruction tuning
    return names


def method_table(outcomes: Sequence[Outcome]) -> pd.DataFrame:
    """One row a method for people to read: mean ± standard deviation over seeds, the unit in the column's name."""
    rows = []
    for method, runs in by_method(outcomes).items():
        row = {"Method": METHODS[method].label, "Runs": f"{len(runs)}"}
        for name in shown_measures(outcomes):
            row[MEASURES[name].title] = spread_text(name, [run.values[name] for run in runs])
        rows.append(row)
    return pd.DataFrame(rows)


def by_method(outcomes: Sequence[Outcome]) -> dict[MethodId, list[Outcome]]:
    """The runs of each method, in the order of METHODS."""
    methods = in_order([outcome.config.method for outcome in outcomes])
    return {method: [outcome for outcome in outcomes if outcome.config.method == method] for method in methods}


def spread_text(measure: str, values: Sequence[float | None]) -> str:
    """Mean ± sample standard deviation over seeds, in the measure's unit: '93.6 ± 0.4'. One value stands alone."""
    measured = [MEASURES[measure].scale * value for value in values if value is not None]
    if not measured:
        return "–"
    mean = statistics.fmean(measured)
    return mean_text(measure, mean, statistics.stdev(measured) if len(measured) > 1 else None)


def mean_text(measure: str, mean: float, deviation: float | None) -> str:
    """A mean in the measure's unit, with its standard deviation if there is one: '−0.13 ± 0.04'.

    Where the unit has no fixed number of decimals, the mean has three digits, or more if the deviation needs them.
    """
    decimals = _DECIMALS.get(MEASURES[measure].unit)
    if decimals is None:
        needed = [_DIGITS - 1 - _magnitude(mean)] + ([-_magnitude(deviation)] if deviation else [])
        decimals = min(max(0, *needed), _MOST_DECIMALS)
    numbers = [mean] if deviation is None else [mean, deviation]
    return " ± ".join(f"{number:z.{decimals}f}" for number in numbers).replace("-", "−")


def _magnitude(value: float) -> int:
    """Power of ten of the leading digit."""
    return math.floor(math.log10(abs(value))) if value else 0
