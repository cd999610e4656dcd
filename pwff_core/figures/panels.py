"""What the charts show: a row a chart. Lines differ in colour, dash and marker, never in colour alone."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Literal, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pwff_core.figures.changes import changes_text, steering_words
from pwff_core.figures.frames import STAGE_LABELS, Span, value_text
from pwff_core.figures.theme import BLUE, GREEN, PURPLE, VERMILLION
from pwff_core.records import METRICS, Stage, Steering

_MAX_CHANGES = 5  # in the words of a chart, the latest; its table has all

PanelId = Literal["accuracy", "reward", "delay", "energy", "refusals", "kl", "pairs", "loss"]


class Line(NamedTuple):
    """One line of a panel: a column of `round_frame` and how it looks."""

    column: str
    name: str
    colour: str
    dash: str
    marker: str
    band: str = ""  # metric whose lowest and highest client are drawn as a band around the line
    thin: bool = False


class Level(NamedTuple):
    """A level to read a panel's lines against."""

    value: float  # [unit of the panel]
    name: str


class WhatIf(NamedTuple):
    """Every round of a run at other channel settings, for one panel."""

    name: str  # 'what if: SNR 0 dB'
    values: NDArray[np.float64]  # (rounds,) [unit of the panel]


class Parent(NamedTuple):
    """The run that a run was forked from, from their last common round on."""

    name: str
    frame: pd.DataFrame  # its rounds from there on (`round_frame`)


class Panel(NamedTuple):
    """One chart: its title, the metric that gives unit and meaning, and its lines."""

    title: str
    metric: str  # key of METRICS
    lines: tuple[Line, ...]
    limits: tuple[float, float] | None = None  # y axis [unit of the metric]; None: from zero, as high as it needs
    stages: tuple[Stage, ...] = ("instruction", "reward", "alignment")  # a run without any of these has no such panel
    waits: str = ""  # says when its first number comes, if that is not the run's first round
    level: Level | None = None
    name: str = ""  # of what it measures; "" for the metric's label

    @property
    def unit(self) -> str:
        """Unit of its numbers as they are drawn."""
        return METRICS[self.metric].unit

    @property
    def label(self) -> str:
        """What it measures, in a word or two."""
        return self.name or METRICS[self.metric].label

    @property
    def clients(self) -> str:
        """The metric of single clients that it can show; "" for none."""
        return next((line.band for line in self.lines if line.band), "")

    def scaled(self, column: pd.Series) -> NDArray[np.float64]:
        """A column of `round_frame` in the panel's unit."""
        return np.asarray(column, dtype=np.float64) * (100.0 if self.unit == "%" else 1.0)

    def measured(self, frame: pd.DataFrame) -> list[Line]:
        """The lines that have any number."""
        return [line for line in self.lines if frame[line.column].notna().any()]


_BEFORE_ALIGNMENT = "Begins when reward learning is done:<br>its first point is the models before alignment."

PANELS: dict[PanelId, Panel] = {
    "accuracy": Panel(
        "Accuracy on each client's own data", "accuracy",
        (
            Line("accuracy", "whole", BLUE, "solid", "circle", band="accuracy"),
            Line("knowledge_accuracy", "knowledge", VERMILLION, "dash", "square"),
            Line("style_accuracy", "style", GREEN, "dot", "diamond"),
        ),
        limits=(0.0, 100.0),
    ),
    "reward": Panel(
        "Reward for answers to held-out prompts", "reward",
        (
            Line("reward", "weighted", BLUE, "solid", "circle", band="reward"),
            Line("helpfulness", "helpfulness", VERMILLION, "dash", "square"),
            Line("harmlessness", "harmlessness", GREEN, "dot", "diamond"),
            Line("training_reward", "in training", PURPLE, "dashdot", "triangle-up", thin=True),
        ),
        stages=("alignment",), waits=_BEFORE_ALIGNMENT,
        level=Level(0.0, "reference"),
    ),
    "delay": Panel(
        "Delay of a round", "delay_s",
        (
            Line("delay_s", "slowest client", BLUE, "solid", "circle"),
            Line("delay_s_mean", "mean client", VERMILLION, "dash", "square", band="delay_s"),
        ),
    ),
    "energy": Panel("Energy of a round", "energy_j", (Line("energy_j", "all clients", BLUE, "solid", "circle"),)),
    "refusals": Panel(
        "Delicate prompts that are refused", "refusal_rate",
        (Line("refusal_rate", "mean client", BLUE, "solid", "circle", band="refusal_rate"),),
        limits=(0.0, 100.0), stages=("alignment",),
        waits=_BEFORE_ALIGNMENT,
    ),
    "kl": Panel(
        "KL from the models before alignment", "kl",
        (Line("kl", "mean client", BLUE, "solid", "circle", band="kl"),),
        stages=("alignment",), waits="Begins with the first round of alignment.",
    ),
    "pairs": Panel(
        "Reward models: held-out pairs ranked right", "helpfulness_accuracy",
        (
            Line("helpfulness_accuracy", "helpfulness", VERMILLION, "dash", "square"),
            Line("harmlessness_accuracy", "harmlessness", GREEN, "dot", "diamond"),
        ),
        limits=(0.0, 100.0), stages=("reward",), waits="Begins with the first round of reward learning.",
        level=Level(50.0, "chance"), name="Pairs ranked right",
    ),
    "loss": Panel(
        "Loss on each client's own data", "loss",
        (
            Line("loss", "answers, mean client", BLUE, "solid", "circle", band="loss"),
            Line("pair_loss", "pairs, reward models", VERMILLION, "dash", "square"),
        ),
    ),
}  # fmt: skip


def panels_of(stages: Iterable[Stage]) -> list[PanelId]:
    """The panels of a run that goes through these stages."""
    through = set(stages)
    return [panel_id for panel_id, panel in PANELS.items() if through & set(panel.stages)]


def panel_words(
    panel_id: PanelId,
    frame: pd.DataFrame,
    spans: Sequence[Span],
    *,
    steerings: Sequence[Steering] = (),
    what_if: WhatIf | None = None,
    parent: Parent | None = None,
) -> str:
    """What a chart shows now, in a few sentences, for people who cannot see it."""
    panel = PANELS[panel_id]

    def values(row: pd.Series) -> str:
        lines = [line for line in panel.lines if not math.isnan(row[line.column])]
        return ", ".join(f"{line.name} {value_text(row[line.column], panel.unit)}" for line in lines)

    context = "".join(f" {steering_words(steering)}." for steering in steerings[-_MAX_CHANGES:])
    if parent and panel.measured(parent.frame):
        last = _rows(panel, parent.frame).iloc[-1]
        context += f" {parent.name}, which it was forked from, after round {last.name}: {values(last)}."
    if not panel.measured(frame):
        return f"{panel.title}: no number yet. {panel.waits.replace('<br>', ' ')}".rstrip() + context
    rows = _rows(panel, frame)
    total = max(spans[-1].last if spans else 0, len(frame))
    text = f"{panel.title} after round {rows.index[-1]} of {total}: {values(rows.iloc[-1])}."
    if len(rows) > 1:
        text += f" After round {rows.index[0]}: {values(rows.iloc[0])}."
    if what_if:
        last = value_text(what_if.values[rows.index[-1] - 1], panel.unit)
        text += f" {what_if.name[:1].upper()}{what_if.name[1:]}: {last} in round {rows.index[-1]}."
    return text + context


def _rows(panel: Panel, frame: pd.DataFrame) -> pd.DataFrame:
    """The rounds that measured any of the panel's numbers."""
    return frame[frame[[line.column for line in panel.lines]].notna().any(axis=1)]


def panel_table(
    panel_id: PanelId,
    frame: pd.DataFrame,
    *,
    steerings: Sequence[Steering] = (),
    what_if: WhatIf | None = None,
    parent: Parent | None = None,
) -> pd.DataFrame:
    """The numbers behind a chart, in the chart's unit, columns named as its legend and by their unit.

    Rounds without any of these numbers are left out. Further columns, where a run has them: the stage of a round, its
    parent's numbers in the same round, and the settings that changed before it.
    """
    panel = PANELS[panel_id]
    rows = _rows(panel, frame)
    table = pd.DataFrame({"Round": rows.index.to_numpy()})
    if frame["stage"].nunique() > 1:
        table["Stage"] = [
            f"{STAGE_LABELS[stage]} {number}" for stage, number in zip(rows["stage"], rows["round"], strict=True)
        ]
    for line in panel.measured(rows):
        table[f"{line.name} [{panel.unit}]"] = panel.scaled(rows[line.column])
        if line.band:
            table[f"lowest client [{panel.unit}]"] = panel.scaled(rows[f"{line.band}_low"])
            table[f"highest client [{panel.unit}]"] = panel.scaled(rows[f"{line.band}_high"])
    if what_if:
        table[f"{what_if.name} [{panel.unit}]"] = what_if.values[rows.index.to_numpy() - 1]
    if parent:
        parent_rows = parent.frame.reindex(rows.index)
        for line in panel.measured(parent.frame):
            table[f"{line.name}, {parent.name} [{panel.unit}]"] = panel.scaled(parent_rows[line.column])
    if steerings:
        changes = {steering.position: changes_text(steering.before, steering.changes) for steering in steerings}
        table["Changed before it"] = [changes.get(position, "") for position in rows.index]
    return table
