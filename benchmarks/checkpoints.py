"""What checkpoints cost: the demo's rounds with one and without, in turns, in one run.

    python benchmarks/checkpoints.py [--rounds 12] [--to benchmarks/checkpoints.json]

A round "with" has everything that a checkpoint takes from it: training waits while the state is copied after the round
before (snapshot), and a thread writes that copy while the round is played. The rounds at a stage's end are left out, as
the last one of reward learning also trains the judge.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # benchmarks/ is not installed

from benchmarks.rows import Row, compared, keep, single  # noqa: E402
from pwff_core.checkpoint import KEPT, Keeper  # noqa: E402
from pwff_core.config import RunConfig, stage_rounds, with_changes  # noqa: E402
from pwff_core.federation import play, prepare  # noqa: E402
from pwff_core.marks import Mark, checkpoints_folder, marks  # noqa: E402
from pwff_core.records import Stage  # noqa: E402

_WARM_UP = 2  # rounds of a stage that are left out, one with and one without


class Measured(NamedTuple):
    """A run in which every other round followed a checkpoint."""

    with_s: dict[Stage, list[float]]  # snapshot and round
    without_s: dict[Stage, list[float]]
    marks: dict[Stage, list[Mark]]  # of checkpoints within the stage
    ends: list[Mark]  # of those at stages' ends
    most_bytes: int  # that lay on the disk at any round's end


def config(rounds: int, **changes: object) -> RunConfig:
    """The demo with as many rounds in each of its stages."""
    return with_changes(
        RunConfig(), {f"{stage}.rounds": rounds for stage in stage_rounds(RunConfig())} | {"device": "cpu"} | changes
    )


def measure(settings: RunConfig, folder: Path) -> Measured:
    """Plays the run; after every other round, and at a stage's end, a checkpoint is written."""
    store = folder / "runs.sqlite"
    running = prepare(settings)
    keeper = Keeper(checkpoints_folder(store, "bench"), every=1)
    with_s: dict[Stage, list[float]] = {stage: [] for stage in running.rounds}
    without_s: dict[Stage, list[float]] = {stage: [] for stage in running.rounds}
    found: dict[int, Mark] = {}
    following, snapshot_s, most = play(running), 0.0, 0
    position = 0
    while True:
        begun = time.perf_counter()
        record = next(following, None)
        if record is None:
            break
        position += 1
        spent = time.perf_counter() - begun
        if record.round > 1 and not record.stage_end:
            (with_s if snapshot_s else without_s)[record.stage].append(snapshot_s + spent)
        keeper.wait()  # outside what is timed: nothing of one round's checkpoint falls into the round after the next
        found |= {mark.position: mark for mark in marks(store, "bench")}
        most = max(most, sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()))
        snapshot_s = 0.0
        if record.round % 2 == 0 or record.stage_end:
            begun = time.perf_counter()
            keeper.keep(running, record, position)
            snapshot_s = time.perf_counter() - begun
    keeper.finish(False)
    if keeper.trouble:
        raise RuntimeError(keeper.trouble)
    found |= {mark.position: mark for mark in marks(store, "bench")}
    within = {
        stage: [mark for mark in found.values() if mark.stage == stage and not mark.stage_end] for stage in with_s
    }
    return Measured(with_s, without_s, within, [mark for mark in found.values() if mark.stage_end], most)


def rows_of(measured: Measured) -> list[Row]:
    """A row a stage, and one for the disk."""
    rows = []
    for stage, mine in measured.with_s.items():
        pairs = list(zip(mine, measured.without_s[stage], strict=False))[_WARM_UP // 2 :]
        with_one, without = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
        kept = measured.marks[stage]
        share = statistics.median(with_one) / statistics.median(without) - 1
        rows.append(
            compared(
                f"checkpoints/{stage}",
                "a demo round that follows a checkpoint (ours) beside one that does not (other)",
                with_one,
                without,
                percent=round(100 * share, 2),
                snapshot_s=round(statistics.median(mark.snapshot_s for mark in kept), 5),
                write_s=round(statistics.median(mark.write_s for mark in kept), 5),
                snapshot_percent=round(
                    100 * statistics.median(mark.snapshot_s for mark in kept) / statistics.median(without), 2
                ),
                megabytes=round(max(mark.size for mark in kept) / 1e6, 3),
            )
        )
    ends = sum(mark.size for mark in measured.ends) / 1e6
    bound = ends + (KEPT + 1) * max(mark.size for kept in measured.marks.values() for mark in kept) / 1e6
    what = (
        f"most that lay on the disk; at most the last {KEPT}, one being written and one a stage's end ({ends:.1f} MB)"
    )
    rows.append(single("checkpoints/disk", what, measured.most_bytes / 1e6, "MB", bound_mb=round(bound, 3)))
    return rows


def table(rows: list[Row]) -> str:
    """The rows as Markdown."""
    lines = [
        "| stage | round without | with | cost | waits for the copy | written behind it | bytes |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for row in rows[:-1]:
        cells = (
            row["name"].partition("/")[2],
            f"{row['other_s']:.2f} s",
            f"{row['ours_s']:.2f} s",
            f"{row['percent']:+.1f} %",
            f"{1000 * row['snapshot_s']:.1f} ms ({row['snapshot_percent']:.1f} %)",
            f"{1000 * row['write_s']:.0f} ms",
            f"{row['megabytes']:.2f} MB",
        )
        lines.append(f"| {' | '.join(cells)} |")
    disk = rows[-1]
    return "\n".join(
        [*lines, "", f"On the disk: {disk['ratio']:g} MB at the most ({disk['what']}: {disk['bound_mb']:g})."]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=12, help="of each stage, 6 or more")
    parser.add_argument("--to", type=Path, default=Path(__file__).with_name("checkpoints.json"))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="pwff-checkpoints-") as folder:
        rows = rows_of(measure(config(options.rounds), Path(folder)))
    keep(rows, options.to)
    print(table(rows))


if __name__ == "__main__":
    main()
