"""The threads of a worker: its share of the cores, and after a resume as many as before."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import torch

from pwff_core.config import RunConfig
from pwff_core.engine.worker.catch_up import restore_threads
from pwff_core.runs import processes, scheduler
from pwff_core.runs.checkpoints import INFO_FILE, CheckpointInfo, folder_of
from pwff_core.runs.run_files import RunFiles


@pytest.fixture(autouse=True)
def threads() -> Iterator[None]:
    """Restores the number of threads after each test."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def test_only_the_cores_that_this_process_may_use_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1, 2, 3, 4, 5}, raising=False)
    for physical, expected in ((4, 4), (16, 6), (None, 6)):
        monkeypatch.setattr(psutil, "cpu_count", lambda logical, physical=physical: physical)
        assert processes.cores() == expected


@pytest.mark.parametrize(
    ("parallel", "chosen", "share"),
    [
        (None, None, None),
        ("1", None, None),  # one run has all cores
        ("2", None, "4"),
        ("3", None, "2"),
        ("20", None, "1"),
        ("2", "7", None),  # the user has chosen
        ("two", None, None),  # the scheduler reports the error
    ],
)
def test_parallel_runs_share_the_cores(
    monkeypatch: pytest.MonkeyPatch, parallel: str | None, chosen: str | None, share: str | None
) -> None:
    for name, value in (("PWFF_PARALLEL", parallel), ("OMP_NUM_THREADS", chosen)):
        monkeypatch.delenv(name, raising=False)
        if value is not None:
            monkeypatch.setenv(name, value)
    assert scheduler.core_share(cores=8) == ({} if share is None else {"OMP_NUM_THREADS": share})


def test_a_launched_worker_has_its_share_of_the_cores(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setenv("PWFF_PARALLEL", "4")
    path = tmp_path / "runs.sqlite"
    assert scheduler.launch(path, "abc", "tests.support.print_threads").wait(timeout=60) == 0
    assert RunFiles(path).log("abc").read_text().strip() == scheduler.core_share()["OMP_NUM_THREADS"]


@pytest.mark.parametrize(("cores", "expected"), [(8, 3), (3, 3), (2, 1)])
def test_a_resumed_run_has_as_many_threads_as_before_if_the_cores_suffice(
    tmp_path: Path, cores: int, expected: int
) -> None:
    path = tmp_path / "runs.sqlite"
    checkpoint = CheckpointInfo(
        position=4, stage="instruction", round=4, stage_end="", config=RunConfig(), size=1, digest="", snapshot_s=0.0,
        write_s=0.0, written_at=0.0, made_with={"torch": "2", "threads": "3"},
    )  # fmt: skip
    folder = folder_of(RunFiles(path).checkpoints("abc"), 4)
    folder.mkdir(parents=True)
    (folder / INFO_FILE).write_text(checkpoint.model_dump_json(), encoding="utf-8")
    torch.set_num_threads(1)
    restore_threads(path, "abc", available=cores)
    assert torch.get_num_threads() == expected


def test_a_run_without_a_checkpoint_has_the_threads_of_its_process(tmp_path: Path) -> None:
    torch.set_num_threads(1)
    restore_threads(tmp_path / "runs.sqlite", "abc")
    assert torch.get_num_threads() == 1
