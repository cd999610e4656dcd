"""The real engine in a process of its own: killed, terminated while it loads, and resumed."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from pwff_core.config import RunConfig
from pwff_core.knobs import with_changes
from pwff_core.runs import processes
from pwff_core.runs.checkpoints import list_checkpoints
from pwff_core.runs.run_files import RunFiles
from pwff_core.runs.store import RunStatus, Store
from tests.support.workers import wait_until

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform == "win32", reason="Windows has neither SIGKILL nor SIGTERM"),
]
ROOT = Path(__file__).resolve().parents[3]
CONFIG = with_changes(
    RunConfig(),
    {
        "clients": 2, "device": "cpu", "data.train_examples": 8, "data.test_examples": 2,
        "instruction.rounds": 3, "instruction.local_steps": 2, "instruction.batch_size": 2,
        "reward.rounds": 1, "reward.local_steps": 2, "reward.batch_size": 2, "reward.train_pairs": 4,
        "reward.test_pairs": 2, "alignment.rounds": 2, "alignment.batch_size": 2, "alignment.minibatches": 1,
        "alignment.local_steps": 1, "alignment.personal_steps": 0, "alignment.max_new_tokens": 12,
        "alignment.test_prompts": 2, "alignment.critic_warmup": 2, "alignment.critic_steps": 1,
    },
)  # fmt: skip


def start(store: Store, *words: str) -> subprocess.Popen[bytes]:
    environment = processes.environment() | {"OMP_NUM_THREADS": "1"}
    return subprocess.Popen([sys.executable, *words, "--store", str(store.path)], env=environment, cwd=ROOT)


def descendants(process: subprocess.Popen[bytes]) -> list[psutil.Process]:
    return psutil.Process(process.pid).children(recursive=True)


@pytest.mark.parametrize("checkpoints", ["kept", "removed"])
def test_a_killed_run_continues_with_the_same_rounds(store: Store, checkpoints: str) -> None:
    path = store.path.with_name("tiny.toml")
    path.write_text(
        "clients = 2\ndevice = 'cpu'\n[data]\ntrain_examples = 8\ntest_examples = 2\n[reward]\nrounds = 0\n"
        "[alignment]\nrounds = 0\n[instruction]\nrounds = 3\nlocal_steps = 2\nbatch_size = 2\n"
    )
    killed = start(store, "-m", "pwff_core", "run", "--config", str(path))
    wait_until(lambda: [row for row in store.runs() if row.rounds_done >= 2], 300)
    (row,) = store.runs()
    assert descendants(killed) == []  # it leaves no process behind
    killed.kill()
    killed.wait()
    before = store.rounds(row.id)
    if checkpoints == "removed":
        shutil.rmtree(RunFiles(store.path).checkpoints(row.id))
    else:
        assert list_checkpoints(store.path, row.id)
    assert store.run(row.id).status is RunStatus.FAILED
    store.requeue(row.id, in_queue=False)
    assert start(store, "-m", "pwff_core.engine.worker", row.id).wait(timeout=300) == 0
    resumed = store.run(row.id)
    assert (resumed.status, resumed.rounds_done, resumed.message) == (RunStatus.FINISHED, 3, "")
    assert store.rounds(row.id)[: len(before)] == before
    assert f"Resumed after round {len(before)}." in resumed.notes
    # the rounds that were played again came out the same
    assert [note for note in resumed.notes if "differently" in note or "differ in" in note] == []


@pytest.mark.parametrize("seconds", [0.0, 0.5, 1.5, 4.0])  # while it imports, prepares or plays a round
def test_a_worker_that_is_terminated_while_it_loads_ends_at_once(store: Store, seconds: float) -> None:
    run_id = store.create_run(CONFIG)
    process = start(store, "-m", "pwff_core.engine.worker", run_id)
    wait_until(lambda: store.run(run_id).status is RunStatus.RUNNING)
    time.sleep(seconds)
    os.kill(process.pid, signal.SIGTERM)
    start_s = time.monotonic()
    assert process.wait(timeout=120) == 0
    ended_s = time.monotonic() - start_s
    row = store.run(run_id)
    assert row.status is RunStatus.STOPPED
    assert row.message == f"Stopped after {row.rounds_done} of {row.rounds_total} rounds."
    assert not RunFiles(store.path).models(run_id).exists()
    print(f"terminated {seconds} s after its claim, the worker ended after {ended_s:.2f} s")
    store.requeue(run_id, in_queue=False)
    assert store.run(run_id).status is RunStatus.QUEUED
