"""What checkpoints cost: a run that writes them beside one that does not, in turns, round by round.

    python benchmarks/checkpoints.py [--rounds 8 400 8] [--to benchmarks/checkpoints.json]

Both play the demo's rounds, with the same settings; one of them writes checkpoints as a worker does. Its turn includes
all that they cost: the copy of the state, the round while a thread writes that copy, and the rest of the writing, for
which a real run does not wait. Its clock stops during the other one's turns. A stage's first round is a warm-up. Of its
last round only the writing after it counts, as that of reward learning also trains the judge.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # benchmarks/ is not installed

from benchmarks.rows import Row, comparison_row, save_rows, value_row  # noqa: E402
from pwff_core.config import RunConfig, stage_rounds
from pwff_core.engine.checkpointer import KEPT, Checkpointer  # noqa: E402
from pwff_core.engine.federation import play  # noqa: E402
from pwff_core.engine.setup import prepare  # noqa: E402
from pwff_core.knobs import with_changes
from pwff_core.records import RoundRecord, Stage  # noqa: E402
from pwff_core.runs.checkpoints import CheckpointInfo, list_checkpoints  # noqa: E402
from pwff_core.runs.run_files import RunFiles  # noqa: E402

ROUNDS = (8, 400, 8)  # of the three stages; each takes a few seconds at least
_WARM_UP = 1  # rounds of a stage that are left out
_LAPS = 6  # parts of a stage that are compared; where rounds are short, each has some with a checkpoint


class Measured(NamedTuple):
    """Two runs of the same rounds. The last of a stage's seconds are those of writing at its end."""

    with_s: dict[Stage, list[float]]
    without_s: dict[Stage, list[float]]
    marks: dict[Stage, list[CheckpointInfo]]  # of checkpoints within the stage
    ends: list[CheckpointInfo]  # of those at stages' ends
    most_bytes: int  # on the disk at any round's end


class Side:
    """A run that is played in turns; its clock runs in them alone."""

    def __init__(self, settings: RunConfig, store: Path | None) -> None:
        self._running = prepare(settings)
        self._following = play(self._running)
        self._played_s = 0.0  # in turns that are over
        self._since: float | None = None  # when this turn began
        self._last: tuple[RoundRecord, int] | None = None  # the record to be checkpointed next, and its position
        self._position = 0
        self.rounds = dict(self._running.rounds)
        self.checkpointer = (
            Checkpointer(RunFiles(store).checkpoints("bench"), every=1, clock=self._clock) if store else None
        )

    def turn(self) -> tuple[RoundRecord, float]:
        """Plays a round; its record, and the seconds that count."""
        start = self._since = time.perf_counter()
        if self.checkpointer and self._last:
            self.checkpointer.save(self._running, *self._last)
        record = next(self._following)
        self._position += 1
        self._last = None if record.stage_end else (record, self._position)
        left_out = 0.0
        if self.checkpointer:
            if record.stage_end:
                self.checkpointer.wait()
                left_out = time.perf_counter() - start
                self.checkpointer.save(self._running, record, self._position)
            self.checkpointer.wait()
        spent = time.perf_counter() - start
        self._played_s, self._since = self._played_s + spent, None
        return record, spent - left_out if self.checkpointer or not record.stage_end else 0.0

    def _clock(self) -> float:
        return self._played_s + (time.perf_counter() - self._since if self._since else 0.0)


def config(rounds: Sequence[int], **changes: object) -> RunConfig:
    """The demo with these numbers of rounds in its three stages."""
    counts = {f"{stage}.rounds": count for stage, count in zip(stage_rounds(RunConfig()), rounds, strict=True)}
    return with_changes(RunConfig(), counts | {"device": "cpu"} | changes)


def measure(settings: RunConfig, folder: Path) -> Measured:
    """Plays both runs, the same round of each in turn; they begin alternately."""
    store = folder / "runs.sqlite"
    writing, plain = Side(settings, store), Side(settings, None)
    assert writing.checkpointer
    with_s: dict[Stage, list[float]] = {stage: [] for stage in writing.rounds}
    without_s: dict[Stage, list[float]] = {stage: [] for stage in writing.rounds}
    by_position: dict[int, CheckpointInfo] = {}
    most = 0
    for number in range(sum(writing.rounds.values())):
        for side in (writing, plain) if number % 2 else (plain, writing):
            record, spent = side.turn()
            if record.round > _WARM_UP:
                (with_s if side is writing else without_s)[record.stage].append(spent)
        by_position |= {mark.position: mark for mark in list_checkpoints(store, "bench")}
        most = max(most, sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()))
    writing.checkpointer.finish(False)
    if writing.checkpointer.trouble:
        raise RuntimeError(writing.checkpointer.trouble)
    within = {
        stage: [mark for mark in by_position.values() if mark.stage == stage and not mark.stage_end] for stage in with_s
    }
    return Measured(with_s, without_s, within, [mark for mark in by_position.values() if mark.stage_end], most)


def rows_of(measured: Measured) -> list[Row]:
    """A row a stage, and one for the disk."""
    rows = []
    for stage, with_s in measured.with_s.items():
        without_s, kept = measured.without_s[stage], measured.marks[stage]
        ends = [mark for mark in measured.ends if mark.stage == stage]
        checkpoints = kept or ends  # a short stage has none but the last
        laps_with, laps_without = _laps(with_s), _laps(without_s)
        shares = [with_lap / plain - 1 for with_lap, plain in zip(laps_with, laps_without, strict=True)]
        written_s = sum(mark.snapshot_s + mark.write_s for mark in kept + ends)
        rows.append(
            comparison_row(
                f"checkpoints/{stage}",
                "a sixth of a demo stage that writes checkpoints (ours) beside one that does not (other)",
                laps_with,
                laps_without,
                rounds=len(without_s) - 1,  # the last one's seconds do not count
                round_s=round(statistics.median(without_s[:-1]), 4),
                checkpoints=len(kept) + len(ends),
                percent=round(100 * statistics.median(shares), 2),
                most_percent=round(100 * written_s / sum(without_s), 2),
                snapshot_s=round(statistics.median(mark.snapshot_s for mark in checkpoints), 5),
                write_s=round(statistics.median(mark.write_s for mark in checkpoints), 5),
                megabytes=round(max(mark.size for mark in checkpoints) / 1e6, 3),
            )
        )
    ends_mb = sum(mark.size for mark in measured.ends) / 1e6
    bound = ends_mb + (KEPT + 1) * max(mark.size for kept in measured.marks.values() for mark in kept) / 1e6
    what = (
        f"most that lay on the disk; at most the last {KEPT}, one being written and the stages' ends ({ends_mb:.1f} MB)"
    )
    rows.append(value_row("checkpoints/disk", what, measured.most_bytes / 1e6, "MB", bound_mb=round(bound, 3)))
    return rows


def _laps(seconds: Sequence[float]) -> list[float]:
    """The sums of _LAPS parts of nearly equal length; the writing at the end belongs to the last."""
    *rounds, end = seconds
    places = [len(rounds) * lap // _LAPS for lap in range(_LAPS + 1)]
    laps = [sum(rounds[start:stop]) for start, stop in pairwise(places)]
    return [*laps[:-1], laps[-1] + end]


def table(rows: list[Row]) -> str:
    """The rows as Markdown."""
    lines = [
        "| stage | rounds | a round | checkpoints | cost | copies and writing | a copy | written behind it | bytes |",
        "|---|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for row in rows[:-1]:
        cells = (
            row["name"].partition("/")[2],
            f"{row['rounds']}",
            f"{row['round_s']:.2f} s",
            f"{row['checkpoints']}",
            f"{row['percent']:+.1f} %",
            f"{row['most_percent']:.1f} %",
            f"{1000 * row['snapshot_s']:.1f} ms",
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
    parser.add_argument(
        "--rounds", type=int, nargs=3, default=ROUNDS, metavar="N", help="of the three stages, 8 or more each"
    )
    parser.add_argument("--to", type=Path, default=Path(__file__).with_name("checkpoints.json"))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="pwff-checkpoints-") as folder:
        rows = rows_of(measure(config(options.rounds), Path(folder)))
    save_rows(rows, options.to)
    print(table(rows))


if __name__ == "__main__":
    main()
