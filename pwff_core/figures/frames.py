"""Records to tables: the rounds of a run, its clients' lines, and where its stages lie on the axis of rounds."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import pandas as pd

from pwff_core.config import RunConfig, stage_rounds
from pwff_core.records import METRICS, ClientRecord, RoundRecord, Stage
from pwff_core.units import seconds_text, with_prefix

STAGE_LABELS: dict[Stage, str] = {"instruction": "Instruction", "reward": "Rewards", "alignment": "Alignment"}
STAGE_NAMES: dict[Stage, str] = {
    "instruction": "instruction tuning", "reward": "reward learning", "alignment": "alignment",
}  # fmt: skip
MAX_CLIENT_LINES = 20  # nobody can tell more thin lines apart
_RANGE_METRICS = ("accuracy", "loss", "reward", "kl", "refusal_rate", "delay_s", "energy_j")
_RANGE = ("mean", "low", "high")


class Span(NamedTuple):
    """One stage on the axis of rounds, which counts the rounds of all stages from 1."""

    stage: Stage
    first: int  # position of its first round
    rounds: int  # played ones once it has ended, planned ones before
    planned: int
    done: int
    reason: str  # why it ended; "" before, and where the record does not say

    @property
    def last(self) -> int:
        """Position of its last round."""
        return self.first + self.rounds - 1

    @property
    def early(self) -> bool:
        """Whether it ended before all planned rounds were played."""
        return self.rounds < self.planned


def planned_stages(config: RunConfig, rounds_total: int, records: Sequence[RoundRecord]) -> dict[Stage, int]:
    """The stages of a run with the largest number of their rounds: those that fit into `rounds_total`.

    `rounds_total` falls when a stage ends early, so the run's `records` say how long such a stage was. Runs of the
    first version, which had instruction tuning alone, read as if they had settings for all stages.
    """
    ended = {record.stage: record.round for record in records if record.stage_end}
    planned: dict[Stage, int] = {}
    expected = 0
    for stage, count in stage_rounds(config).items():
        expected += ended.get(stage, count)
        if expected > rounds_total:
            break
        planned[stage] = count
    return planned


def spans_of(planned: Mapping[Stage, int], records: Sequence[RoundRecord]) -> tuple[Span, ...]:
    """The stages of a run on the axis of rounds; one that has ended is as long as it was.

    `planned` is the largest number of rounds of each stage, in order (`planned_stages`).
    """
    done: dict[Stage, int] = dict.fromkeys(planned, 0)
    reasons: dict[Stage, str] = {}
    for record in records:
        done[record.stage] = done.get(record.stage, 0) + 1
        reasons[record.stage] = record.stage_end
    current = records[-1].stage if records else None
    spans: list[Span] = []
    for stage, count in done.items():
        reason = reasons.get(stage, "")
        ended = bool(count) and (bool(reason) or stage != current)
        at_most = max(planned.get(stage, 0), count)
        first = spans[-1].last + 1 if spans else 1
        spans.append(Span(stage, first, count if ended else at_most, at_most, count, reason))
    return tuple(spans)


def round_frame(records: Sequence[RoundRecord], first: int = 1) -> pd.DataFrame:
    """One row a round, in the order given; the index counts rounds over all stages, from `first`.

    Columns: stage, round, the round's numbers under their names in METRICS (a share is a share of 1, what was not
    measured is NaN), and for accuracy, loss, reward, kl, refusal_rate, delay_s and energy_j the mean, lowest and
    highest client as `…_mean`, `…_low`, `…_high`. The loss of reward learning is one of pairs, not of tokens: it has
    the column `pair_loss`.
    """
    rows = []
    for record in records:
        row: dict[str, object] = {"stage": record.stage, "round": record.round}
        row |= {name: _metric_value(record, record.stage, name) for name in METRICS}
        row["pair_loss"] = _number(record.loss if record.stage == "reward" else None)
        for name in _RANGE_METRICS:
            row |= _client_range(name, record)
        rows.append(row)
    columns = [
        "stage",
        "round",
        *METRICS,
        "pair_loss",
        *(f"{name}_{part}" for name in _RANGE_METRICS for part in _RANGE),
    ]
    return pd.DataFrame(rows, columns=columns, index=pd.RangeIndex(first, first + len(rows), name="position"))


def _number(value: float | None) -> float:
    return math.nan if value is None else float(value)


def _metric_value(numbers: RoundRecord | ClientRecord, stage: Stage, name: str) -> float:
    return _number(None if name == "loss" and stage == "reward" else getattr(numbers, name))


def _client_range(name: str, record: RoundRecord) -> dict[str, object]:
    numbers = (_metric_value(client, record.stage, name) for client in record.clients)
    values = [value for value in numbers if not math.isnan(value)]
    if not values:
        return {f"{name}_{part}": math.nan for part in _RANGE}
    return {f"{name}_mean": sum(values) / len(values), f"{name}_low": min(values), f"{name}_high": max(values)}


class ClientLines(NamedTuple):
    """One metric of single clients over the rounds."""

    values: pd.DataFrame  # (rounds, clients): index as in `round_frame`, a column a client, by rising weight
    weights: dict[int, float]  # client → its weight on helpfulness


def client_lines(records: Sequence[RoundRecord], metric: str) -> ClientLines:
    """The lines of at most MAX_CLIENT_LINES clients, evenly from the lowest to the highest helpfulness weight."""
    by_weight = sorted(records[-1].clients, key=lambda client: client.helpfulness_weight) if records else []
    count = min(len(by_weight), MAX_CLIENT_LINES)
    selected = [by_weight[round(place * (len(by_weight) - 1) / max(count - 1, 1))] for place in range(count)]
    weights = {client.client: client.helpfulness_weight for client in selected}
    rows = []
    for record in records:
        values = {client.client: _metric_value(client, record.stage, metric) for client in record.clients}
        rows.append([values.get(client, math.nan) for client in weights])
    index = pd.RangeIndex(1, len(rows) + 1, name="position")
    return ClientLines(pd.DataFrame(rows, columns=list(weights), index=index, dtype=float), weights)


def value_text(value: float, unit: str) -> str:
    """A number of METRICS for people to read: a share as '63.1 %', s, J and bit with a prefix; '–' for none."""
    if math.isnan(value):
        return "–"
    if unit == "%":
        return f"{100 * value:.1f} %"
    if unit == "s":
        return seconds_text(value) if value >= 60 else with_prefix(value, "s")
    if unit in {"J", "bit", "bit/s"}:
        return with_prefix(value, unit)
    if unit == "sd":
        return f"{value:+.2f} sd"
    return f"{value:.1f} {unit}" if unit == "tokens" else f"{value:.3f} {unit}".rstrip()


def setting_text(value: float, unit: str) -> str:
    """A setting with a prefix and without trailing zeros: '1 MHz', '1.5 W'."""
    return " ".join(setting_parts(value, unit))


def setting_parts(value: float, unit: str) -> tuple[str, str]:
    """The number and the unit of a setting: ('1', 'MHz'), ('1.5', 'W')."""
    number, _, prefixed = with_prefix(value, unit, digits=4).partition(" ")
    return number.rstrip("0").rstrip(".") if "." in number else number, prefixed
