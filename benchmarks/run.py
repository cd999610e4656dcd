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
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # benchmarks/ is not installed

import torch  # noqa: E402

from benchmarks import limit, scaling  # noqa: E402
from benchmarks.rows import RESULTS, Row, compared, keep, take_turns, told  # noqa: E402
from benchmarks.work import QUICK, Ours, demo, seconds  # noqa: E402

ROUND = "one instruction round of the demo (training and average)"
FORMATS = {"": "float32", "-bfloat16": "bfloat16"}  # a row's suffix: the number format of both sides


def peft(quick: bool) -> Iterator[Row]:
    """A loop over clients with peft models."""
    from benchmarks.plain import PeftLoop

    for suffix, precision in FORMATS.items():
        ours = Ours(demo(quick, precision=precision))
        other = PeftLoop(ours.clients, ours.federation.placed)
        what = f"{ROUND}, both in {precision}: cohort, loop of peft models"
        yield _side_by_side(f"instruction/peft{suffix}", what, ours, other, 1 if quick else 5)


def sfttrainer(quick: bool) -> Iterator[Row]:
    """A loop over clients with a new SFTTrainer each."""
    from benchmarks.sfttrainer import SftLoop

    for suffix, precision in FORMATS.items():
        ours = Ours(demo(quick, precision=precision))
        other = SftLoop(ours.clients, ours.federation.placed)
        what = f"{ROUND}, both in {precision}: cohort, a new SFTTrainer a client"
        yield _side_by_side(f"instruction/sfttrainer{suffix}", what, ours, other, 1 if quick else 4)


def flower(quick: bool) -> Iterator[Row]:
    """A Flower simulation, with one and with two clients at a time; the faster of the two is kept."""
    try:
        from benchmarks.flower import Simulation
    except ImportError as error:
        print(f"  left out: {error.name} is not installed (pip install 'pwff[bench]')", flush=True)
        return
    for suffix, precision in FORMATS.items():
        found = []
        for at_once in (2,) if quick else (1, 2):
            ours, mine = Ours(demo(quick, precision=precision)), list[float]()
            ours.round()
            simulation = Simulation(ours.config, at_once)
            simulation.run(1 if quick else 3, lambda ours=ours, mine=mine: mine.append(seconds(ours.round)))
            what = f"{ROUND}, both in {precision}: cohort, Flower simulation of SFTTrainer clients, {at_once} at a time"
            more = {"start_s": round(simulation.start_s, 1)}
            found.append(compared(f"instruction/flower{suffix}", what, mine[1:], simulation.rounds_s, **more))
        yield min(found, key=lambda row: row["other_s"])


def matmul_limit(quick: bool) -> Iterator[Row]:
    """Ours as a fraction of the machine's limit, in both number formats."""
    for suffix, precision in FORMATS.items():
        ours = Ours(demo(quick, precision=precision))
        times, limits = [], []
        for turn in range(2 if quick else 7):  # the first to warm up
            products = limit.round_products(ours.clients, ours.played + 1)
            bare = limit.Products(products, getattr(torch, precision))
            took = (seconds(ours.round), bare.play())
            if turn:
                times.append(took[0])
                limits.append(took[1])
        gflop = limit.gflop_by_part(products)
        speed = sum(gflop.values()) / limits[-1]
        what = f"{ROUND}: ours_s cohort, other_s its matrix products alone in {precision}; ratio: fraction of the limit"
        padding = round(limit.padding_share(ours.clients, ours.played), 3)
        yield compared(
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

    ours = Ours(demo(quick, precision=precision), "alignment")
    other = SequentialAlignment(ours.federation)
    tokens: tuple[list[int], list[int]] = ([], [])

    def mine() -> float:
        tokens[0].append(ours.answer_tokens())
        return seconds(ours.round)

    def theirs() -> float:
        took = seconds(other.round)
        tokens[1].append(other.tokens)
        return took

    times = take_turns([mine, theirs], 1 if quick else 2)
    # both draw answers of their own, so that theirs are a little longer or shorter: times are of equally many tokens
    scaled = [s * own / drawn for s, own, drawn in zip(times[1], tokens[0][1:], tokens[1][1:], strict=True)]
    what = (
        f"one alignment round of the demo (rollouts, scores, PPO, average), both in {precision}: cohort, client by "
        "client with generate; other_s is scaled to as many response tokens as ours"
    )
    return compared(name, what, times[0], scaled, ours_tokens=tokens[0][1:], other_tokens=tokens[1][1:])


def precision(quick: bool) -> Iterator[Row]:
    """Frozen weights in bfloat16 beside float32."""
    ours, other = Ours(demo(quick, precision="bfloat16")), Ours(demo(quick, precision="float32"))
    what = f"{ROUND}: ours_s frozen weights in bfloat16, other_s in float32"
    yield _side_by_side("precision/bfloat16", what, ours, other, 1 if quick else 7)


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


def _side_by_side(name: str, what: str, ours: Ours, other: object, rounds: int) -> Row:
    players = [lambda: seconds(ours.round), lambda: seconds(other.round)]
    return compared(name, what, *take_turns(players, rounds))


def wanted(only: list[str]) -> list[Part]:
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
    parts = wanted(options.only)
    if not parts:
        parser.error("no row begins like that; there are " + ", ".join(name for part in PARTS for name in part.names))
    warnings.simplefilter("ignore")  # of libraries about each other
    begun, failed = time.perf_counter(), list[str]()
    for number, part in enumerate(parts, start=1):
        expected = "" if options.quick else f", about {part.minutes:g} min on two cores"
        print(f"[{number}/{len(parts)}] {part.names[0]}{expected}", flush=True)
        try:
            for row in part.rows(options.quick):
                keep([row], options.to or RESULTS)
                print(f"  {told(row)}", flush=True)
        except Exception as error:  # one part that this machine cannot play does not take the others with it
            failed.append(part.names[0])
            print(f"  {part.names[0]} failed: {type(error).__name__}: {error}", flush=True)
    print(f"{len(parts)} parts in {(time.perf_counter() - begun) / 60:.1f} min", flush=True)
    if failed:
        sys.exit(f"Failed: {', '.join(failed)}. Play them again with --only.")


if __name__ == "__main__":
    main()
