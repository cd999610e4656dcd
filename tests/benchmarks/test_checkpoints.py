"""The measurement of what checkpoints cost, at its least."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import checkpoints
from benchmarks.checkpoints import Measured, rows_of, table
from benchmarks.work import QUICK
from pwff_core.config import RunConfig
from pwff_core.marks import Mark


def mark(position: int, size: int, stage_end: str = "") -> Mark:
    return Mark(
        position=position, stage="instruction", round=position, stage_end=stage_end, config=RunConfig(), size=size,
        digest="", snapshot_s=0.02, write_s=0.3, written_at=0.0, made_with={},
    )  # fmt: skip


def test_the_cost_is_that_of_the_medians_after_a_warm_up() -> None:
    found = Measured(
        with_s={"instruction": [9.0, 1.1, 1.02, 1.03]},
        without_s={"instruction": [5.0, 1.0, 1.0, 1.0, 7.0]},  # one more, which nothing stands beside
        marks={"instruction": [mark(2, 3_000_000), mark(4, 3_000_000)]},
        ends=[mark(6, 1_000_000, "All 6 rounds are played.")],
        most_bytes=8_000_000,
    )
    cost, disk = rows_of(found)
    assert (cost["ours_s"], cost["other_s"], cost["percent"], cost["turns"]) == (1.03, 1.0, 3.0, 3)
    assert (cost["snapshot_percent"], cost["megabytes"]) == (2.0, 3.0)
    assert (disk["ratio"], disk["bound_mb"]) == (8.0, 10.0)  # two kept and one being written, of 3 MB, and the end's
    assert "| instruction | 1.00 s | 1.03 s | +3.0 % | 20.0 ms (2.0 %) | 300 ms | 3.00 MB |" in table([cost, disk])


@pytest.mark.slow
def test_a_tiny_run_is_measured_in_every_stage(tmp_path: Path) -> None:
    found = checkpoints.measure(checkpoints.config(6, **QUICK), tmp_path)
    rows = rows_of(found)
    assert [row["name"] for row in rows] == [
        "checkpoints/instruction", "checkpoints/reward", "checkpoints/alignment", "checkpoints/disk"
    ]  # fmt: skip
    assert [mark.position for mark in found.ends] == [6, 12, 18]
    assert all(row["megabytes"] > 0 and row["write_s"] > 0 for row in rows[:-1])
    assert 0 < rows[-1]["ratio"] < rows[-1]["bound_mb"] + 0.1  # and the heads, of a few kB
