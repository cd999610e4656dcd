"""The cost of checkpoints: the calculation, and a measurement of a tiny run."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import checkpoints
from benchmarks.checkpoints import Measured, rows_of, table
from benchmarks.work import QUICK
from pwff_core.config import RunConfig
from pwff_core.runs.checkpoints import CheckpointInfo


def mark(position: int, size: int, stage_end: str = "") -> CheckpointInfo:
    return CheckpointInfo(
        position=position, stage="instruction", round=position, stage_end=stage_end, config=RunConfig(), size=size,
        digest="", snapshot_s=0.02, write_s=0.3, written_at=0.0, made_with={},
    )  # fmt: skip


def test_the_cost_is_of_a_whole_stage_after_a_warm_up() -> None:
    measured = Measured(
        with_s={"instruction": [1.5, 1.0, 1.0, 1.5, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 0.9, 0.4]},  # last, at the end
        without_s={"instruction": [1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 0.5, 0.5, 1.0, 1.0, 0.0]},
        marks={"instruction": [mark(2, 3_000_000), mark(5, 3_000_000)]},
        ends=[mark(9, 1_000_000, "All 9 rounds are played.")],
        most_bytes=8_000_000,
    )
    cost, disk = rows_of(measured)
    # 2.5, 2.5, 2.0, 2.0, 2.0, 2.3 beside 2.0, 2.0, 2.0, 2.0, 1.0, 2.0: +25, +25, 0, 0, +100, +15 %
    assert (cost["ours_s"], cost["other_s"], cost["turns"], cost["percent"]) == (2.15, 2.0, 6, 20.0)
    assert (cost["rounds"], cost["round_s"], cost["checkpoints"]) == (12, 1.0, 3)
    assert cost["most_percent"] == 8.73  # three times 0.32 s of 11 s
    assert (disk["ratio"], disk["bound_mb"]) == (8.0, 10.0)  # two kept and one being written, of 3 MB, and the end's
    line = "| instruction | 12 | 1.00 s | 3 | +20.0 % | 8.7 % | 20.0 ms | 300 ms | 3.00 MB |"
    assert line in table([cost, disk])


@pytest.mark.slow
def test_a_tiny_run_is_measured_in_every_stage(tmp_path: Path) -> None:
    measured = checkpoints.measure(checkpoints.config((8, 9, 10), **QUICK), tmp_path)
    rows = rows_of(measured)
    assert [row["name"] for row in rows] == [
        "checkpoints/instruction", "checkpoints/reward", "checkpoints/alignment", "checkpoints/disk"
    ]  # fmt: skip
    assert [len(seconds) for seconds in measured.with_s.values()] == [7, 8, 9]
    assert [len(seconds) for seconds in measured.without_s.values()] == [7, 8, 9]
    assert [mark.position for mark in measured.ends] == [8, 17, 27]
    assert measured.marks["instruction"][0].position == 1
    assert 0 < rows[-1]["ratio"] < rows[-1]["bound_mb"] + 0.1  # and the heads, of a few kB
