"""How long a comparison will compute, estimated from earlier runs that did the same work."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any

from pwff_core.config import RunConfig, stage_rounds
from pwff_core.records import RoundRecord

# these settings decide random draws or the price of the air, but not how long a round computes
_NO_WORK = ("seed", "method", "preset", "channel", "preferences", "price_as", "float_bits")
_ROUNDS = ("instruction", "reward", "alignment")


def same_work(config: RunConfig, other: RunConfig) -> bool:
    """Whether a round of each stage computes as much with one config as with the other, whatever the method."""
    return _work(config) == _work(other)


def _work(config: RunConfig) -> dict[str, Any]:
    tree = config.model_dump(exclude=set(_NO_WORK))
    return tree | {stage: {**tree[stage], "rounds": 0, "patience": 0, "learning_rate": 0} for stage in _ROUNDS}


def expected_seconds(
    configs: Sequence[RunConfig], earlier: Sequence[tuple[RunConfig, Sequence[RoundRecord]]]
) -> float | None:
    """Seconds of computing of all runs, without the time that each needs to start.

    A round is expected to take the mean time of that stage's rounds in the earlier runs that did the same work.
    None if there is no such round for one of the stages.
    """
    total = 0.0
    for config in configs:
        measured = [record for past, records in earlier if same_work(past, config) for record in records]
        for stage, rounds in stage_rounds(config).items():
            seconds = [record.wall_s for record in measured if record.stage == stage]
            if not seconds:
                return None
            total += rounds * statistics.fmean(seconds)
    return total
