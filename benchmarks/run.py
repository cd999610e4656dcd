"""`make bench`: speed and memory, side by side in one run, into benchmarks/results.json: a row as soon as it is there.

    python benchmarks/run.py                               # all of it
    python benchmarks/run.py --only instruction backbone   # the parts whose names begin so; other rows stay
    python benchmarks/run.py --quick --to rows.json        # one turn of the least work: shows that it works

What is compared takes turns (ours, other, ours, other …) after a round each to warm up. A row has the medians in
seconds, ratio = other / ours, and the least and the greatest ratio of one turn. Instruction and alignment rounds are
training and averaging, without the channel and without tests; rounds of `scaling/` are tested too.
"""

from __future__ import annotations

import argparse
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # benchmarks/ is not installed

import torch  # noqa: E402

from benchmarks import limit, scaling  # noqa: E402
from benchmarks.rows import RESULTS, Row, comparison_row, row_text, save_rows, take_turns  # noqa: E402
from benchmarks.work import QUICK, CohortLoop, demo, round_rows, seconds  # noqa: E402

if TYPE_CHECKING:
    from benchmarks.plain import PeftLoop
    from benchmarks.sfttrainer import SftLoop

ROUND = "one instruction round of the demo (training and average)"
FORMATS = {"": "float32", "-bfloat16": "bfloat16"}  # a row's suffix: the number format of both sides


def peft(quick: bool) -> Iterator[Row]:
    """A loop over clients with peft models."""
    from benchmarks.plain import PeftLoop

    return _beside_loop("instruction/peft", PeftLoop, "loop of peft models", quick, rounds=5)


def sfttrainer(quick: bool) -> Iterator[Row]:
    """A loop over clients with a new SFTTrainer each."""
    from benchmarks.sfttrainer import SftLoop

    return _beside_loop("instruction/sfttrainer", SftLoop, "a new SFTTrainer a client", quick, rounds=4)


def _beside_loop(
    name: str, loop: type[PeftLoop] | type[SftLoop], label: str, quick: bool, rounds: int
) -> Iterator[Row]:
    """The cohort beside a loop over clients, in both number formats."""
    for suffix, precision in FORMATS.items():
        cohort = CohortLoop(demo(quick, precision=precision))
        other = loop(cohort.clients, cohort.federation.placed)
        what = f"{ROUND}, both in {precision}: cohort, {label}"
        yield _side_by_side(f"{name}{suffix}", what, cohort, other, 1 if quick else rounds)


def flower(quick: bool) -> Iterator[Row]:
    """A Flower simulation, with one and with two clients at a time; the faster of the two is kept."""
    try:
        from benchmarks.flower import Simulation
    except ImportError as error:
        print(f"  left out: {error.name} is not installed (pip install 'pwff[bench]')", flush=True)
        return
    for suffix, precision in FORMATS.items():
        rows = []
        for at_once in (2,) if quick else (1, 2):
            cohort, cohort_s = CohortLoop(demo(quick, precision=precision)), list[float]()
            cohort.round()
            simulation = Simulation(cohort.config, at_once)
            simulation.run(1 if quick else 3, lambda cohort=cohort, times=cohort_s: times.append(seconds(cohort.round)))
            what = f"{ROUND}, both in {precision}: cohort, Flower simulation of SFTTrainer clients, {at_once} at a time"
            more = {"start_s": round(simulation.start_s, 1)}
            rows.append(comparison_row(f"instruction/flower{suffix}", what, cohort_s[1:], simulation.rounds_s, **more))
        yield min(rows, key=lambda row: row["other_s"])


def matmul_limit(quick: bool) -> Iterator[Row]:
    """The cohort as a fraction of the machine's limit, in both number formats."""
    for suffix, precision in FORMATS.items():
        cohort = CohortLoop(demo(quick, precision=precision))
        times, limits = [], []
        for turn in range(2 if quick else 7):  # the first warms up
            products = limit.round_products(cohort.clients, cohort.played + 1)
            bare = limit.Products(products, getattr(torch, precision))
            round_s, limit_s = seconds(cohort.round), bare.play()
            if turn:
                times.append(round_s)
                limits.append(limit_s)
        gflop = limit.gflop_by_part(products)
        speed = sum(gflop.values()) / limits[-1]
        what = f"{ROUND}: ours_s cohort, other_s its matrix products alone in {precision}; ratio: fraction of the limit"
        padding = round(limit.padding_share(cohort.clients, round_rows(cohort.clients, cohort.played)), 3)
        yield comparison_row(
            f"instruction/matmul-limit{suffix}",
            what,
            times,
            limits,
            gflop=gflop,
            limit_gflops=round(speed, 1),
            padding=padding,
        )


def alignment(quick: bool) -> Iterator[Row]:
    """The same PPO client by client with generate."""
    for suffix, precision in FORMATS.items():
        yield _aligned(f"alignment/sequential{suffix}", precision, quick)


def _aligned(name: str, precision: str, quick: bool) -> Row:
    from benchmarks.sequential import SequentialAlignment

    cohort = CohortLoop(demo(quick, precision=precision), "alignment")
    other = SequentialAlignment(cohort.federation)
    tokens: tuple[list[int], list[int]] = ([], [])

    def play_cohort() -> float:
        tokens[0].append(cohort.answer_tokens())
        return seconds(cohort.round)

    def play_other() -> float:
        played_s = seconds(other.round)
        tokens[1].append(other.tokens)
        return played_s

    times = take_turns([play_cohort, play_other], 1 if quick else 2)
    # each side draws its own answers, which differ a little in length: times are scaled to equally many tokens
    scaled = [s * own / drawn for s, own, drawn in zip(times[1], tokens[0][1:], tokens[1][1:], strict=True)]
    what = (
        f"one alignment round of the demo (rollouts, scores, PPO, average), both in {precision}: cohort, client by "
        "client with generate; other_s is scaled to as many response tokens as ours"
    )
    return comparison_row(name, what, times[0], scaled, ours_tokens=tokens[0][1:], other_tokens=tokens[1][1:])


def precision(quick: bool) -> Iterator[Row]:
    """Frozen weights in bfloat16 beside float32."""
    cohort, other = CohortLoop(demo(quick, precision="bfloat16")), CohortLoop(demo(quick, precision="float32"))
    what = f"{ROUND}: ours_s frozen weights in bfloat16, other_s in float32"
    yield _side_by_side("precision/bfloat16", what, cohort, other, 1 if quick else 7)


def clients(quick: bool) -> Iterator[Row]:
    """Instruction rounds of more and more clients, with their memory."""
    changes = QUICK if quick else {}
    counts = (2, 4) if quick else (10, 20, 50, 100)
    yield from scaling.against_clients(counts, 1 if quick else 3, "instruction", **changes)


def aligned_clients(quick: bool) -> Iterator[Row]:
    """Alignment rounds of more clients."""
    changes = QUICK if quick else {}
    yield from scaling.against_clients((2, 4) if quick else (10, 50), 1, "alignment", **changes)


def backbones(quick: bool) -> Iterator[Row]:
    """Short rounds of ten clients with backbones from 1 to 124 million parameters."""
    sizes = scaling.TINY if quick else scaling.SIZES
    yield from scaling.against_backbones(sizes, 1 if quick else 2, **({"clients": 2} if quick else {}))


class Part(NamedTuple):
    """A part of the measurement: the names that its rows begin with, and about how long it takes."""

    names: tuple[str, ...]
    minutes: float  # on two cores
    rows: Callable[[bool], Iterator[Row]]


PARTS = (
    Part(("instruction/peft",), 2, peft),
    Part(("instruction/sfttrainer",), 2.5, sfttrainer),
    Part(("instruction/matmul-limit",), 1, matmul_limit),
    Part(("precision/bfloat16",), 0.5, precision),
    Part(("alignment/sequential",), 4, alignment),
    Part(("instruction/flower",), 5.5, flower),
    Part(("backbone/",), 2, backbones),
    Part(("scaling/clients-", "memory/per-client"), 4, clients),
    Part(("scaling/alignment-", "memory/alignment-"), 2, aligned_clients),
)


def _side_by_side(name: str, what: str, cohort: CohortLoop, other: object, rounds: int) -> Row:
    players = [lambda: seconds(cohort.round), lambda: seconds(other.round)]
    return comparison_row(name, what, *take_turns(players, rounds))


def parts_named(only: list[str]) -> list[Part]:
    """The parts that have a row whose name begins with one of these words, or the other way round; all for none."""
    return [
        part for part in PARTS
        if not only or any(name.startswith(word) or word.startswith(name) for name in part.names for word in only)
    ]  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", default=[], metavar="NAME", help="rows whose names begin so")
    parser.add_argument("--quick", action="store_true", help="one turn of the least work; the numbers mean nothing")
    parser.add_argument("--to", type=Path, default=None, help="results file (default: benchmarks/results.json)")
    options = parser.parse_args()
    if options.quick and options.to is None:
        parser.error("--quick needs --to FILE: its rows are no results")
    parts = parts_named(options.only)
    if not parts:
        parser.error("no row begins like that; there are " + ", ".join(name for part in PARTS for name in part.names))
    warnings.simplefilter("ignore")  # of libraries about each other
    start, failed = time.perf_counter(), list[str]()
    for number, part in enumerate(parts, start=1):
        expected = "" if options.quick else f", about {part.minutes:g} min on two cores"
        print(f"[{number}/{len(parts)}] {part.names[0]}{expected}", flush=True)
        try:
            for row in part.rows(options.quick):
                save_rows([row], options.to or RESULTS)
                print(f"  {row_text(row)}", flush=True)
        except Exception as error:  # the other parts go on
            failed.append(part.names[0])
            print(f"  {part.names[0]} failed: {type(error).__name__}: {error}", flush=True)
    print(f"{len(parts)} parts in {(time.perf_counter() - start) / 60:.1f} min", flush=True)
    if failed:
        sys.exit(f"Failed: {', '.join(failed)}. Play them again with --only.")


if __name__ == "__main__":
    main()
