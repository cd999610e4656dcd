"""What a finished run came to, in the numbers that Fig. 4 and Fig. 5 show, and tables of it over methods and seeds."""

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
    """One number of a run: its name, the metric that gives its unit and what is better, and what it means."""

    label: str
    metric: str  # key of METRICS
    help: str

    @property
    def unit(self) -> str:
        """Unit as people read it: '%' where the number is a share of 1."""
        return METRICS[self.metric].unit

    @property
    def title(self) -> str:
        """Name with unit, for the head of a column."""
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
_LEFT_OUT = ("uplink_bits_a_round",)  # of the table of methods: the price of a link follows from it
_DECIMALS = {"%": 1, "sd": 2, "nat": 3}
_MOST_DECIMALS = 6
_DIGITS = 3  # significant digits of a mean where its unit has no fixed number of decimals


class Outcome(NamedTuple):
    """One finished run in numbers: `values` by key of MEASURES, None for what it did not measure."""

    run_id: str
    config: RunConfig
    values: Mapping[str, float | None]


def outcome(run_id: str, config: RunConfig, records: Sequence[RoundRecord]) -> Outcome:
    """What a run came to. A run without rounds measured nothing and spent nothing."""
    tuned = [record for record in records if record.stage == "instruction"]
    aligned = [record for record in records if record.stage == "alignment"]
    own = tuned + aligned
    values: dict[str, float | None] = {"tuned_accuracy": _last(tuned, "accuracy")}
    for name in ("accuracy", "knowledge_accuracy", "style_accuracy", "loss"):
        values[name] = _last(own, name)  # the loss of reward learning is one of pairs, so that stage is left out
    helpful, harmless = _last(aligned, "helpfulness"), _last(aligned, "harmlessness")
    values["reward_sum"] = None if helpful is None or harmless is None else helpful + harmless
    values |= {name: _last(aligned, name) for name in ("reward", "refusal_rate")}
    for name in ("delay_s", "energy_j", "uplink_bits"):
        values[f"{name}_a_round"] = sum(float(getattr(record, name)) for record in own) / max(1, len(own))
    for name in ("delay_s", "energy_j"):
        values[f"{name}_in_all"] = sum(float(getattr(record, name)) for record in records)
    return Outcome(run_id, config, {name: values[name] for name in MEASURES})


def _last(records: Sequence[RoundRecord], name: str) -> float | None:
    known = [value for record in records if (value := getattr(record, name)) is not None]
    return float(known[-1]) if known else None


def run_table(outcomes: Sequence[Outcome]) -> pd.DataFrame:
    """A row a run, in SI units and shares of 1: method, seed, run and the MEASURES; what was not measured is empty."""
    rows = [[found.config.method, found.config.seed, found.run_id, *found.values.values()] for found in outcomes]
    table = pd.DataFrame(rows, columns=["method", "seed", "run", *MEASURES])
    return table.astype({name: float for name in MEASURES})


def shown_measures(outcomes: Sequence[Outcome]) -> list[str]:
    """The measures that say something of these runs: measured by one of them, and no two columns alike."""
    shown = [name for name in MEASURES if name not in _LEFT_OUT and any(o.values[name] is not None for o in outcomes)]
    if all(found.values["tuned_accuracy"] == found.values["accuracy"] for found in outcomes):
        return [name for name in shown if name != "tuned_accuracy"]  # no run went on after instruction tuning
    return shown


def method_table(outcomes: Sequence[Outcome]) -> pd.DataFrame:
    """A row a method for people to read: mean ± standard deviation over seeds, the unit in the column's name."""
    rows = []
    for method, mine in by_method(outcomes).items():
        row = {"Method": METHODS[method].label, "Runs": f"{len(mine)}"}
        for name in shown_measures(outcomes):
            values = [found.values[name] for found in mine]
            row[MEASURES[name].title] = spread_text(name, values)
        rows.append(row)
    return pd.DataFrame(rows)


def by_method(outcomes: Sequence[Outcome]) -> dict[MethodId, list[Outcome]]:
    """The runs of each method, in the order of METHODS."""
    methods = in_order([found.config.method for found in outcomes])
    return {method: [found for found in outcomes if found.config.method == method] for method in methods}


def spread_text(measure: str, values: Sequence[float | None]) -> str:
    """Mean ± sample standard deviation in the measure's unit, without it: '93.6 ± 0.4'; of one value, itself."""
    known = [MEASURES[measure].scale * value for value in values if value is not None]
    if not known:
        return "–"
    mean = statistics.fmean(known)
    return around(measure, mean, statistics.stdev(known) if len(known) > 1 else None)


def around(measure: str, mean: float, deviation: float | None) -> str:
    """A mean in the measure's unit with its standard deviation, if that is known: '−0.13 ± 0.04'.

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
