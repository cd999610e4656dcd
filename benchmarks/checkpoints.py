"""What checkpoints cost: a run that writes them beside one that does not, in turns, round by round.

    python benchmarks/checkpoints.py [--rounds 8 400 8] [--to benchmarks/checkpoints.json]

Both play the demo's rounds, with the same settings; the one "with" has a Keeper as a worker has. Its turn has all that
checkpoints take from it: the copy of the state, the round while a thread writes that copy, and what is left to write
when the round is over, for which a run does not wait. By its clock no time passes in the other one's turns. A stage's
first round is a warm-up. Of its last one only what is written after it counts, as that of reward learning also trains
the judge.
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

from benchmarks.rows import Row, compared, keep, single  # noqa: E402
from pwff_core.config import RunConfig, stage_rounds
from pwff_core.engine.checkpointer import KEPT, Keeper  # noqa: E402
from pwff_core.engine.federation import play  # noqa: E402
from pwff_core.engine.setup import prepare  # noqa: E402
from pwff_core.knobs import with_changes
from pwff_core.records import RoundRecord, Stage  # noqa: E402
from pwff_core.runs.checkpoints import CheckpointInfo, list_checkpoints  # noqa: E402
from pwff_core.runs.run_files import RunFiles  # noqa: E402

ROUNDS = (8, 400, 8)  # of the three stages, so that each has a few seconds at least
_WARM_UP = 1  # rounds of a stage that are left out
_LAPS = 6  # parts of a stage that are compared; where rounds are short, each has some with a checkpoint


class Measured(NamedTuple):
    """Two runs of the same rounds. Seconds are those of the rounds, and last of what is written at the stage's end."""

    with_s: dict[Stage, list[float]]
    without_s: dict[Stage, list[float]]
    marks: dict[Stage, list[CheckpointInfo]]  # of checkpoints within the stage
    ends: list[CheckpointInfo]  # of those at stages' ends
    most_bytes: int  # that lay on the disk at any round's end


class Side:
    """A run that is played in turns; its clock goes in its own."""

    def __init__(self, settings: RunConfig, store: Path | None) -> None:
        self._running = prepare(settings)
        self._following = play(self._running)
        self._played_s = 0.0  # in turns that are over
        self._since: float | None = None  # when this one began
        self._last: tuple[RoundRecord, int] | None = None  # what is to be kept, and its position
        self._position = 0
        self.rounds = dict(self._running.rounds)
        self.keeper = Keeper(RunFiles(store).checkpoints("bench"), every=1, clock=self._clock) if store else None

    def turn(self) -> tuple[RoundRecord, float]:
        """Plays a round; with the seconds that count."""
        begun = self._since = time.perf_counter()
        if self.keeper and self._last:
            self.keeper.keep(self._running, *self._last)
        record = next(self._following)
        self._position += 1
        self._last = None if record.stage_end else (record, self._position)
        left_out = 0.0
        if self.keeper:
            if record.stage_end:
                self.keeper.wait()
                left_out = time.perf_counter() - begun
                self.keeper.keep(self._running, record, self._position)
            self.keeper.wait()
        spent = time.perf_counter() - begun
        self._played_s, self._since = self._played_s + spent, None
        return record, spent - left_out if self.keeper or not record.stage_end else 0.0

    def _clock(self) -> float:
        return self._played_s + (time.perf_counter() - self._since if self._since else 0.0)


def config(rounds: Sequence[int], **changes: object) -> RunConfig:
    """The demo with so many rounds in its three stages."""
    wanted = {f"{stage}.rounds": count for stage, count in zip(stage_rounds(RunConfig()), rounds, strict=True)}
    return with_changes(RunConfig(), wanted | {"device": "cpu"} | changes)


def measure(settings: RunConfig, folder: Path) -> Measured:
    """Plays both runs, a round of the one and the same round of the other; who begins takes turns as well."""
    store = folder / "runs.sqlite"
    ours, other = Side(settings, store), Side(settings, None)
    assert ours.keeper
    with_s: dict[Stage, list[float]] = {stage: [] for stage in ours.rounds}
    without_s: dict[Stage, list[float]] = {stage: [] for stage in ours.rounds}
    found: dict[int, CheckpointInfo] = {}
    most = 0
    for number in range(sum(ours.rounds.values())):
        for side in (ours, other) if number % 2 else (other, ours):
            record, spent = side.turn()
            if record.round > _WARM_UP:
                (with_s if side is ours else without_s)[record.stage].append(spent)
        found |= {mark.position: mark for mark in list_checkpoints(store, "bench")}
        most = max(most, sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()))
    ours.keeper.finish(False)
    if ours.keeper.trouble:
        raise RuntimeError(ours.keeper.trouble)
    within = {
        stage: [mark for mark in found.values() if mark.stage == stage and not mark.stage_end] for stage in with_s
    }
    return Measured(with_s, without_s, within, [mark for mark in found.values() if mark.stage_end], most)


def rows_of(measured: Measured) -> list[Row]:
    """A row a stage, and one for the disk."""
    rows = []
    for stage, with_s in measured.with_s.items():
        without_s, kept = measured.without_s[stage], measured.marks[stage]
        ends = [mark for mark in measured.ends if mark.stage == stage]
        one = kept or ends  # short stages have none but the last
        ours, other = _laps(with_s), _laps(without_s)
        shares = [mine / theirs - 1 for mine, theirs in zip(ours, other, strict=True)]
        written_s = sum(mark.snapshot_s + mark.write_s for mark in kept + ends)
        rows.append(
            compared(
                f"checkpoints/{stage}",
                "a sixth of a demo stage that writes checkpoints (ours) beside one that does not (other)",
                ours,
                other,
                rounds=len(without_s) - 1,  # the last one's seconds do not count
                round_s=round(statistics.median(without_s[:-1]), 4),
                checkpoints=len(kept) + len(ends),
                percent=round(100 * statistics.median(shares), 2),
                most_percent=round(100 * written_s / sum(without_s), 2),
                snapshot_s=round(statistics.median(mark.snapshot_s for mark in one), 5),
                write_s=round(statistics.median(mark.write_s for mark in one), 5),
                megabytes=round(max(mark.size for mark in one) / 1e6, 3),
            )
        )
    ends_mb = sum(mark.size for mark in measured.ends) / 1e6
    bound = ends_mb + (KEPT + 1) * max(mark.size for kept in measured.marks.values() for mark in kept) / 1e6
    what = (
        f"most that lay on the disk; at most the last {KEPT}, one being written and the stages' ends ({ends_mb:.1f} MB)"
    )
    rows.append(single("checkpoints/disk", what, measured.most_bytes / 1e6, "MB", bound_mb=round(bound, 3)))
    return rows


def _laps(seconds: Sequence[float]) -> list[float]:
    """The sums of so many parts, as alike as can be; what is written at the end belongs to the last."""
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
    keep(rows, options.to)
    print(table(rows))


if __name__ == "__main__":
    main()
