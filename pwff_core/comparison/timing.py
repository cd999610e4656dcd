"""How long a comparison will compute, by the measured seconds of earlier runs that did the same work."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any

from pwff_core.config import RunConfig, stage_rounds
from pwff_core.records import RoundRecord

# what decides how many rounds there are, what is drawn at random or what the air costs, but not how long a round takes
_NO_WORK = ("seed", "method", "preset", "channel", "preferences", "price_as", "float_bits")
_ROUNDS = ("instruction", "reward", "alignment")


def same_work(one: RunConfig, other: RunConfig) -> bool:
    """Whether a round of each stage computes as much with one config as with the other, whatever the method."""
    return _work(one) == _work(other)


def _work(config: RunConfig) -> dict[str, Any]:
    tree = config.model_dump(exclude=set(_NO_WORK))
    return tree | {stage: {**tree[stage], "rounds": 0, "patience": 0, "learning_rate": 0} for stage in _ROUNDS}


def expected_seconds(
    configs: Sequence[RunConfig], earlier: Sequence[tuple[RunConfig, Sequence[RoundRecord]]]
) -> float | None:
    """Seconds of computing of all runs, without the seconds that each needs to start; None where it is not known.

    Each round is taken to last as long as the rounds of that stage did on average in those earlier runs that did the
    same work. It is not known if one of the stages has never been played so.
    """
    total = 0.0
    for config in configs:
        measured = [record for known, records in earlier if same_work(known, config) for record in records]
        for stage, rounds in stage_rounds(config).items():
            seconds = [record.wall_s for record in measured if record.stage == stage]
            if not seconds:
                return None
            total += rounds * statistics.fmean(seconds)
    return total
