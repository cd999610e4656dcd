"""Fig. 4 on the demo: final personal accuracy of every method, on three kinds of data.

    python benchmarks/figure4.py [--jobs 2] [--to benchmarks/figure4.json]

1. Search: every method gets the same grid of learning rates, judged on validation data of the default (non-IID) kind,
   with a seed of its own.
2. Test: the chosen rate, on test data of every kind, with seeds that were not searched on.

The results file keeps finished runs, so an interrupted measurement goes on where it was.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path

import numpy as np

from pwff_core.config import RunConfig
from pwff_core.knobs import with_changes
from pwff_core.methods import METHODS, MethodId

COMPARED: tuple[MethodId, ...] = ("pwff", "vanilla_fl", "fedada", "fedlora", "local", "centralised")
RATES = (5e-4, 1e-3, 2e-3, 5e-3, 1e-2)
SEARCH_SEEDS, TEST_SEEDS = (100,), (1, 2, 3)
DATA: dict[str, dict[str, object]] = {
    "non-IID, personal styles": {},
    "non-IID, one style": {"data.personal_styles": False},
    "IID": {"data.alpha": 1000.0},
}
MEASURED = ("accuracy", "knowledge_accuracy", "style_accuracy", "loss")


# the same numbers on any machine, whichever format it multiplies fastest
BASE = {"precision": "float32", "reward.rounds": 0, "alignment.rounds": 0}


def play(key: str, changes: dict[str, object]) -> tuple[str, dict[str, float]]:
    """Plays one run on one core; the numbers of its last round."""
    import torch

    from pwff_core.engine.aggregation import Server
    from pwff_core.engine.setup import prepare

    torch.set_num_threads(1)
    federation = prepare(with_changes(RunConfig(), BASE | changes))
    stage = federation.instruction
    server = Server(stage.shared(), stage.num_examples)
    for number in range(1, federation.rounds_total + 1):  # like the round loop, but tests at the end alone
        stage.train(number)
        server.average(np.ones(federation.config.clients, dtype=bool))
    clients = [[client[name] for name in MEASURED] for client in stage.measure()]
    means = [float(np.mean([value for value in values if value is not None])) for values in zip(*clients, strict=True)]
    return key, dict(zip(MEASURED, means, strict=True))


def measure(jobs: int, path: Path, runs: dict[str, dict[str, object]]) -> dict[str, dict[str, float]]:
    """Plays the runs that the file does not have yet; all results by key."""
    results = json.loads(path.read_text()) if path.exists() else {}
    missing = {key: changes for key, changes in runs.items() if key not in results}
    with ProcessPoolExecutor(jobs) as pool:
        for future in as_completed([pool.submit(play, key, changes) for key, changes in missing.items()]):
            key, numbers = future.result()
            results[key] = numbers
            path.write_text(json.dumps(results, indent=1, sort_keys=True) + "\n")
            print(
                f"{key}: {numbers['accuracy']:.3f} {numbers['knowledge_accuracy']:.3f} {numbers['style_accuracy']:.3f}",
                flush=True,
            )
    return results


def searches() -> dict[str, dict[str, object]]:
    """Every learning rate of the grid for every method, on validation data."""
    return {
        f"search | {method} | {rate:g} | {seed}": {
            "method": method, "instruction.learning_rate": rate, "seed": seed, "data.evaluate_on": "validation",
        }
        for method, rate, seed in itertools.product(COMPARED, RATES, SEARCH_SEEDS)
    }  # fmt: skip


def best_rate(results: dict[str, dict[str, float]], method: str) -> float:
    """The rate with the best mean validation accuracy."""

    def score(rate: float) -> float:
        return statistics.mean(results[f"search | {method} | {rate:g} | {s}"]["accuracy"] for s in SEARCH_SEEDS)

    return max(RATES, key=score)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--to", type=Path, default=Path(__file__).with_name("figure4.json"))
    options = parser.parse_args()
    results = measure(options.jobs, options.to, searches())
    tests = {
        f"test | {data} | {method} | {seed}": {
            **DATA[data], "method": method, "seed": seed, "instruction.learning_rate": best_rate(results, method),
        }
        for data, seed, method in itertools.product(DATA, TEST_SEEDS, COMPARED)
    }  # fmt: skip
    results = measure(options.jobs, options.to, tests)
    for data in DATA:
        print(f"\n{data} (accuracy %, mean ± sd over seeds {TEST_SEEDS})")
        print("| method | rate | whole | knowledge | style |\n|---|---|---|---|---|")
        for method in COMPARED:
            cells = [f"{METHODS[method].label}", f"{best_rate(results, method):g}"]
            for name in MEASURED[:3]:
                percents = [100 * results[f"test | {data} | {method} | {seed}"][name] for seed in TEST_SEEDS]
                cells.append(f"{statistics.mean(percents):.1f} ± {statistics.stdev(percents):.1f}")
            print("| " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
