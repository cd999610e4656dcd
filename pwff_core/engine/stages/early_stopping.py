"""When a stage ends: all its rounds are played, or its smoothed metric has stopped improving."""

from __future__ import annotations

import math
from collections.abc import Sequence

from pwff_core.config import RunConfig
from pwff_core.records import METRICS, Better, RoundRecord, Stage

# the metric whose standstill ends a stage early
CRITERION: dict[Stage, tuple[str, Better]] = {
    "instruction": ("loss", "lower"), "reward": ("loss", "lower"), "alignment": ("reward", "higher"),
}  # fmt: skip
SMOOTHING = 0.5  # weight of the past in the exponential moving average: one lucky round alone is no improvement
MIN_IMPROVEMENT = 1e-3  # [nat or sd]: without it, an average that creeps towards its limit would improve for ever


def smoothed(history: Sequence[float | None]) -> list[float]:
    """The exponential moving average m ← s·m + (1 − s)·x, s = SMOOTHING, from the first number on.

    Rounds without a finite number are skipped.
    """
    means: list[float] = []
    for value in history:
        if value is not None and math.isfinite(value):
            means.append(SMOOTHING * means[-1] + (1.0 - SMOOTHING) * value if means else value)
    return means


def has_stopped_improving(history: Sequence[float | None], patience: int, better: Better) -> bool:
    """Whether the smoothed metric has not exceeded its best for `patience` rounds; never, if `patience` is 0.

    It has to exceed it by more than MIN_IMPROVEMENT. A round without a finite number neither improves nor counts.
    """
    best, rounds_since = -math.inf, 0
    for mean in smoothed(history):
        gain = mean if better == "higher" else -mean
        improved = gain > best + MIN_IMPROVEMENT
        best, rounds_since = (gain, 0) if improved else (best, rounds_since + 1)
    return 0 < patience <= rounds_since


def end_reason(config: RunConfig, records: Sequence[RoundRecord], rounds: int) -> str:
    """Why a stage of at most `rounds` rounds ends after these `records` of it; "" while it goes on."""
    stage, num_played = records[-1].stage, len(records)
    metric, better = CRITERION[stage]
    patience: int = getattr(config, stage).patience
    history = [getattr(record, metric) for record in records]
    if has_stopped_improving(history, patience, better):
        waited = "a round" if patience == 1 else f"{patience} rounds"
        return f"{METRICS[metric].label} has not improved for {waited}."
    return f"All {num_played} rounds are played." if num_played == rounds else ""
