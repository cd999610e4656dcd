"""Fig. 5 on the demo: the clients' models before and after alignment, method by method.

    python benchmarks/figure5.py [--jobs 2] [--to benchmarks/figure5.json]

1. Search: every method gets the same grid of alignment learning rates, judged by the clients' weighted reward on
   validation prompts, with a seed of its own.
2. Test: the chosen rate, on test prompts, with seeds that were not searched on; 32 of each client's 50 are delicate.
3. Control: PWFF with equal wishes for all.

All are measured by the judge, two reward models that no method trains with. A run's instruction tuning
is played once for all methods that share it. The results file keeps finished runs, so an interrupted measurement
goes on where it was.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any

from scipy.stats import spearmanr

from pwff_core.config import RunConfig
from pwff_core.knobs import with_changes
from pwff_core.methods import METHODS, MethodId
from pwff_core.records import Stage

COMPARED: tuple[MethodId, ...] = ("pwff", "sfl", "pfl", "shepherd")
RATES = (5e-4, 1e-3)
SEARCH_SEEDS, TEST_SEEDS = (100,), (1, 2, 3)
ROUNDS = 8
PROMPTS = {"validation": 24, "test": 50}
SPREAD = tuple(k / 9 for k in range(10))
EQUAL = (0.5,) * 10

Measured = dict[str, Any]  # fields of a ClientRecord


def play(variants: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Plays runs that share their instruction tuning, on one core; the results by key."""
    import torch

    from pwff_core.engine.aggregation import Server
    from pwff_core.engine.federation import play_round
    from pwff_core.engine.setup import Federation, prepare

    torch.set_num_threads(1)

    def play_stage(federation: Federation, stage: Stage) -> float:
        """All rounds of a stage, without tests between them; the energy of their uploads [J]."""
        server = Server(federation.stage(stage).shared(), federation.stage(stage).num_examples)
        rounds = range(1, federation.rounds[stage] + 1)
        return sum(float(play_round(federation, stage, server, number)[0].energy_j.sum()) for number in rounds)

    tuned: Federation | None = None
    results = {}
    for key, changes in variants.items():
        federation = prepare(with_changes(RunConfig(precision="float32"), changes))
        if tuned is None:
            tuned = federation
            play_stage(federation, "instruction")
            start = [[tensor.detach().clone() for tensor in c.parameters()] for c in federation.clients.cohorts]
        with torch.no_grad():
            for cohort, tensors in zip(federation.clients.cohorts, start, strict=True):
                for tensor, tuned_tensor in zip(cohort.parameters(), tensors, strict=True):
                    tensor.copy_(tuned_tensor)
        play_stage(federation, "reward")
        pairs = federation.stage("reward").measure()
        stage = federation.begin_alignment()
        before = stage.measure()
        energy = play_stage(federation, "alignment")
        results[key] = summary(list(federation.clients.weights), pairs, before, stage.measure()) | {"energy_j": energy}
    return results


def summary(
    wishes: list[float], pairs: list[Measured], before: list[Measured], after: list[Measured]
) -> dict[str, Any]:
    """Before and after alignment, by client and as means."""
    result: dict[str, Any] = {"wishes": wishes}
    for name in ("helpfulness_accuracy", "harmlessness_accuracy"):
        result[name] = mean(pairs, name)
    for name in ("reward", "helpfulness", "harmlessness", "refusal_rate", "response_tokens", "accuracy", "kl"):
        result[name] = [mean(before, name), mean(after, name)]
        result[f"{name}_of_clients"] = [[client[name] for client in measured] for measured in (before, after)]
    result["training_reward"] = mean(after, "training_reward")
    if len(set(wishes)) > 1:
        harmless = [1.0 - wish for wish in wishes]
        result["spearman"] = [
            float(spearmanr(harmless, result["refusal_rate_of_clients"][i]).statistic) for i in (0, 1)
        ]
    result["spread"] = [statistics.pstdev(result["refusal_rate_of_clients"][i]) for i in (0, 1)]
    return result


def mean(measured: list[Measured], name: str) -> float | None:
    """Mean over clients; None where it is not measured."""
    values = [client[name] for client in measured if client.get(name) is not None]
    return statistics.mean(values) if values else None


def measure(jobs: int, path: Path, runs: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Plays the runs that the file does not have yet; all results by key."""
    results: dict[str, dict[str, Any]] = json.loads(path.read_text()) if path.exists() else {}
    groups: dict[tuple[Any, ...], dict[str, dict[str, Any]]] = {}
    for key, changes in runs.items():
        if key not in results:
            row = METHODS[changes["method"]]
            tuning = (row.trains, row.uploads, row.learning_rate, changes["seed"], changes["data.evaluate_on"])
            groups.setdefault(tuning, {})[key] = changes
    with ProcessPoolExecutor(jobs) as pool:
        for future in as_completed([pool.submit(play, variants) for variants in groups.values()]):
            for key, result in future.result().items():
                results[key] = result
                print(f"{key}: reward {result['reward'][0]:.3f} -> {result['reward'][1]:.3f}", flush=True)
            path.write_text(json.dumps(results, indent=1, sort_keys=True) + "\n")
    return results


def settings(method: str, seed: int, rate: float, split: str, wishes: tuple[float, ...] = SPREAD) -> dict[str, Any]:
    """The changes from the demo that make one run."""
    return {
        "method": method, "seed": seed, "alignment.rounds": ROUNDS, "alignment.learning_rate": rate,
        "data.evaluate_on": split,
        "alignment.test_prompts": PROMPTS[split], "preferences.helpfulness_weights": wishes,
    }  # fmt: skip


def searches() -> dict[str, dict[str, Any]]:
    """Every learning rate of the grid for every method, on validation prompts."""
    return {
        f"search | {method} | {rate:g} | {seed}": settings(method, seed, rate, "validation")
        for method, rate, seed in itertools.product(COMPARED, RATES, SEARCH_SEEDS)
    }


def best_rate(results: dict[str, dict[str, Any]], method: str) -> float:
    """The rate with the best weighted reward on validation prompts."""

    def score(rate: float) -> float:
        return statistics.mean(results[f"search | {method} | {rate:g} | {s}"]["reward"][1] for s in SEARCH_SEEDS)

    return max(RATES, key=score)


def spread(values: list[float], digits: int = 2) -> str:
    """Mean ± standard deviation."""
    return f"{statistics.mean(values):.{digits}f} ± {statistics.stdev(values):.{digits}f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--to", type=Path, default=Path(__file__).with_name("figure5.json"))
    options = parser.parse_args()
    results = measure(options.jobs, options.to, searches())
    tests = {
        f"test | {method} | {seed}": settings(method, seed, best_rate(results, method), "test")
        for seed, method in itertools.product(TEST_SEEDS, COMPARED)
    }
    tests |= {
        f"equal | pwff | {seed}": settings("pwff", seed, best_rate(results, "pwff"), "test", EQUAL)
        for seed in TEST_SEEDS
    }
    results = measure(options.jobs, options.to, tests)
    print(f"\nafter alignment, mean ± sd over seeds {TEST_SEEDS}")
    print("| method | rate | helpful + harmless | weighted | before | refusals Spearman | accuracy % | KL | energy J |")
    print("|---|---|---|---|---|---|---|---|---|")
    for name in [*COMPARED, "equal"]:
        row = "pwff" if name == "equal" else name
        results_of_seeds = [
            results[f"{'equal' if name == 'equal' else 'test'} | {row} | {seed}"] for seed in TEST_SEEDS
        ]
        cells = [
            "PWFF, equal wishes" if name == "equal" else METHODS[row].label,
            f"{best_rate(results, row):g}",
            spread([result["helpfulness"][1] + result["harmlessness"][1] for result in results_of_seeds]),
            spread([result["reward"][1] for result in results_of_seeds]),
            spread([result["reward"][0] for result in results_of_seeds]),
            spread([result["spearman"][1] for result in results_of_seeds])
            if "spearman" in results_of_seeds[0]
            else "–",
            spread([100 * result["accuracy"][1] for result in results_of_seeds], 1),
            spread([result["kl"][1] for result in results_of_seeds], 1),
            spread([result["energy_j"] for result in results_of_seeds], 1),
        ]
        print("| " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
