"""When a stage is over: all its rounds are played, or it has converged: its smoothed metric has stopped improving."""

from __future__ import annotations

import math
from collections.abc import Sequence

from pwff_core.config import RunConfig
from pwff_core.records import METRICS, Better, RoundRecord, Stage

# what a stage is judged by, for its early end
CRITERION: dict[Stage, tuple[str, Better]] = {
    "instruction": ("loss", "lower"), "reward": ("loss", "lower"), "alignment": ("reward", "higher"),
}  # fmt: skip
SMOOTHING = 0.5  # share of the past in the exponential moving average: one lucky round is no improvement by itself
LEAST_IMPROVEMENT = 1e-3  # [nat or sd]: without it, an average that creeps towards its limit would improve for ever


def smoothed(history: Sequence[float | None]) -> list[float]:
    """The exponential moving average m ← s·m + (1 − s)·x, s = SMOOTHING, from the first number on.

    Rounds that have no finite number are passed over.
    """
    means: list[float] = []
    for value in history:
        if value is not None and math.isfinite(value):
            means.append(SMOOTHING * means[-1] + (1.0 - SMOOTHING) * value if means else value)
    return means


def converged(history: Sequence[float | None], patience: int, better: Better) -> bool:
    """True when the smoothed metric has not been better than its best for `patience` rounds; patience 0: never.

    Better means by more than LEAST_IMPROVEMENT. A round without a number (None, NaN, ±∞) neither improves nor counts.
    """
    best, waited = -math.inf, 0
    for mean in smoothed(history):
        gain = mean if better == "higher" else -mean
        improved = gain > best + LEAST_IMPROVEMENT
        best, waited = (gain, 0) if improved else (best, waited + 1)
    return 0 < patience <= waited


def why_ended(config: RunConfig, records: Sequence[RoundRecord], rounds: int) -> str:
    """Why a stage of at most so many rounds ends after these rounds of it; "" while it goes on."""
    stage, played = records[-1].stage, len(records)
    metric, better = CRITERION[stage]
    patience: int = getattr(config, stage).patience
    history = [getattr(record, metric) for record in records]
    if converged(history, patience, better):
        waited = "a round" if patience == 1 else f"{patience} rounds"
        return f"{METRICS[metric].label} has not improved for {waited}."
    return f"All {played} rounds are played." if played == rounds else ""
