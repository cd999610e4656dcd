"""`make bench`: seconds a round, side by side in one run, as ratios. Writes benchmarks/results.json.

Rounds of the things compared take turns, so that a noisy machine disturbs both alike; medians are reported.
"""

from __future__ import annotations

import json
import statistics
from pathlib import Path

from pwff_core.config import RunConfig, with_changes
from pwff_core.federation import Federation, play_stage
from pwff_core.records import Stage
from pwff_core.stages.clients import COHORT_SIZE

RESULTS = Path(__file__).with_name("results.json")
ROUNDS = 5


def demo(cohort_size: int = COHORT_SIZE, **changes: object) -> Federation:
    return Federation(with_changes(RunConfig(), changes), cohort_size=cohort_size)


def compare(name: str, ours: Federation, other: Federation, stage: Stage = "instruction") -> dict[str, object]:
    """Median seconds a round of both, taking turns, after one round to warm up; ratio = other / ours."""
    rounds = [play_stage(federation, stage) for federation in (ours, other)]
    if stage == "alignment":
        for federation in (ours, other):
            list(play_stage(federation, "reward"))
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(ROUNDS + 1):
        for playing, found in zip(rounds, times, strict=True):
            found.append(next(playing).wall_s)
    ours_s, other_s = (statistics.median(found[1:]) for found in times)
    return {"name": name, "ours_s": round(ours_s, 3), "other_s": round(other_s, 3), "ratio": round(other_s / ours_s, 2)}


def main() -> None:
    rows = [
        compare("instruction/one-client-at-a-time", demo(), demo(cohort_size=1)),
        compare("scaling/10-to-40-clients", demo(), demo(clients=40)),
        compare("alignment/sequential", demo(), demo(cohort_size=1), "alignment"),
        compare("precision/bfloat16", demo(precision="bfloat16"), demo()),
    ]
    RESULTS.write_text(json.dumps(rows, indent=1) + "\n")
    for row in rows:
        print(f"{row['name']:36} {row['ours_s']:7} s {row['other_s']:7} s   ratio {row['ratio']}")


if __name__ == "__main__":
    main()
