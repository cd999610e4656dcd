"""Does bfloat16 cost accuracy? Whole instruction stages with frozen weights in both formats, on seeds 1, 2, 3.

    python benchmarks/precision.py [--seeds 1 2 3] [--to benchmarks/precision.json]

Noise is the spread of float32 over seeds. The results file keeps finished runs, so an interrupted measurement goes on
where it was.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # benchmarks/ is not installed

from benchmarks.work import CohortLoop, demo  # noqa: E402

FORMATS = ("float32", "bfloat16")
MEASURED = ("accuracy", "knowledge_accuracy", "style_accuracy", "loss")


def play(precision: str, seed: int, **changes: object) -> dict[str, float]:
    """The last round of an instruction stage: means over clients."""
    cohort = CohortLoop(demo(precision=precision, seed=seed, **{"reward.rounds": 0, "alignment.rounds": 0}, **changes))
    for _ in range(cohort.config.instruction.rounds):
        cohort.round()
    measured = cohort.stage.measure()
    by_name = {name: [client[name] for client in measured if client[name] is not None] for name in MEASURED}
    return {name: statistics.fmean(values) for name, values in by_name.items() if values}


def differences(results: dict[str, dict[str, float]], seeds: list[int], name: str) -> tuple[float, float, float]:
    """Of one number: bfloat16 − float32, its mean and its greatest over seeds, and float32's sd over seeds."""
    plain, half = ([results[f"{precision} | {seed}"][name] for seed in seeds] for precision in FORMATS)
    changes = [after - before for before, after in zip(plain, half, strict=True)]
    return statistics.fmean(changes), max(changes, key=abs), statistics.stdev(plain)


def table(results: dict[str, dict[str, float]], seeds: list[int]) -> str:
    """The differences beside the noise, as Markdown."""
    lines = [
        "| | float32 | bfloat16 − float32, mean | greatest | sd over seeds | within noise |",
        "|---|---|---|---|---|---|",
    ]
    for name in MEASURED:
        mean, greatest, noise = differences(results, seeds, name)
        level = statistics.fmean(results[f"float32 | {seed}"][name] for seed in seeds)
        verdict = "yes" if abs(mean) <= noise else "no"
        lines.append(f"| {name} | {level:.4f} | {mean:+.4f} | {greatest:+.4f} | {noise:.4f} | {verdict} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3], help="two or more")
    parser.add_argument("--to", type=Path, default=Path(__file__).with_name("precision.json"))
    options = parser.parse_args()
    results = json.loads(options.to.read_text(encoding="utf-8")) if options.to.exists() else {}
    for seed in options.seeds:
        for precision in FORMATS:
            key = f"{precision} | {seed}"
            if key not in results:
                results[key] = play(precision, seed)
                options.to.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
            print(f"{key}: " + ", ".join(f"{name} {value:.4f}" for name, value in results[key].items()), flush=True)
    print(table(results, options.seeds))


if __name__ == "__main__":
    main()
