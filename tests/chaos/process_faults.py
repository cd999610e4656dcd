"""Faults of the worker's process: suspended, signalled, out of memory, a second one, its run deleted."""

from __future__ import annotations

import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from functools import partial

import psutil

from pwff_core.errors import StoreError
from pwff_core.runs import processes
from pwff_core.runs.store import RunStatus
from tests.chaos import engine, tiny
from tests.chaos.engine import Worker, store_damage, stored_rounds
from tests.chaos.scene import Row, Scene, Skipped

_SUSPENDED_S = 60.0
DIVERGING: dict[str, object] = {
    "instruction__rounds": 20, "instruction__learning_rate": 1.0, "instruction__gradient_clip": 1e6,
    "instruction__personal_steps": 0, "reward__rounds": 0, "alignment__rounds": 0,
}  # fmt: skip
_MOMENTS: dict[str, Callable[[Worker], object]] = {
    "loading": lambda worker: worker.age_s > 0.5,
    "preparing": lambda worker: worker.claimed,
    "instruction": lambda worker: worker.look().rounds >= 1,
    "reward learning": lambda worker: worker.look().rounds >= 5,
    "a checkpoint's write": lambda worker: worker.unfinished,
    "alignment": lambda worker: worker.look().rounds >= 7,
    "ending": lambda worker: worker.complete,
}


def suspended(scene: Scene) -> Row:
    """The process is suspended for a minute, as by a laptop's lid or a debugger."""
    worker = scene.play(2)
    worker.process.send_signal(signal.SIGSTOP)
    begun = time.monotonic()
    scene.look("suspended")
    time.sleep(max(0.0, begun + _SUSPENDED_S - time.monotonic()))
    worker.process.send_signal(signal.SIGCONT)
    return scene.row(f"the engine is suspended (SIGSTOP) for {_SUSPENDED_S:.0f} s, then continued", scene.finish())


def out_of_memory(scene: Scene) -> Row:
    """The process gets no more memory, until it has ended or waits."""
    if sys.platform != "linux":
        raise Skipped("limiting another process's memory needs Linux")
    worker = scene.play(2)
    process = psutil.Process(worker.process.pid)
    size = process.memory_info().vms // 2  # it keeps the memory that it has
    process.rlimit(psutil.RLIMIT_AS, (size, psutil.RLIM_INFINITY))
    worker.wait(lambda: page_says(scene, "waiting"), 0.2)
    scene.look()
    if not worker.ended:
        process.rlimit(psutil.RLIMIT_AS, (psutil.RLIM_INFINITY, psutil.RLIM_INFINITY))
    return scene.row("the engine gets no more memory (RLIMIT_AS), for a while", scene.finish())


def page_says(scene: Scene, state: str) -> bool:
    """Whether a page says that the run is in this state."""
    return scene.look().startswith(state)


def killed_by_the_system(scene: Scene) -> Row:
    """SIGKILL, as the kernel kills the largest process when memory is used up."""
    scene.play(2).kill()
    scene.look("failed")
    return scene.row("SIGKILL from outside, as when the computer runs out of memory", scene.finish())


def terminated(scene: Scene) -> Row:
    """SIGTERM in every phase, with a resume after each."""
    return _signalled(scene, signal.SIGTERM)


def interrupted(scene: Scene) -> Row:
    """SIGINT in every phase, with a resume after each."""
    return _signalled(scene, signal.SIGINT)


def _signalled(scene: Scene, number: signal.Signals) -> Row:
    took: list[str] = []
    for phase, moment in _MOMENTS.items():
        if _finished(scene):  # the signal came too late to stop it
            break
        worker = scene.play(0)
        if not worker.wait(partial(moment, worker), 0.0005):
            took.append(f"{phase}: over before")
            break
        begun = time.monotonic()
        worker.process.send_signal(number)
        code = worker.end()
        took.append(f"{phase} {1000 * (time.monotonic() - begun):.0f} ms")
        scene.remember()
        if phase == "instruction":
            scene.look()
        if code not in (0, -number):
            took.append(f"(exit code {code}: {worker.log()[-300:]})")
    end = "it was finished by then" if _finished(scene) else scene.finish()
    return scene.row(f"{number.name} in every phase", f"stops at once ({', '.join(took)}); {end}")


def _finished(scene: Scene) -> bool:
    return scene.store.run(scene.run_id).status is RunStatus.FINISHED


def second_worker(scene: Scene) -> Row:
    """A second worker is started for a run that plays."""
    scene.play(2)
    command = processes.module_command("pwff_core.engine.worker", scene.run_id, "--store", str(scene.store.path))
    second = subprocess.run(command, env=processes.environment(), capture_output=True, text=True)
    scene.look()
    message = scene.short(second.stderr.strip())
    return scene.row(
        "a second worker is started for a run that plays",
        f"{scene.finish()}; the second ends (exit code {second.returncode}): {message}",
    )


def two_at_once(scene: Scene) -> Row:
    """Two workers are started for a queued run at the same moment."""
    pair = [Worker(scene.store, scene.run_id) for _ in range(2)]
    scene.workers += pair
    codes = sorted(worker.end() for worker in pair)
    scene.look()
    return scene.row("two workers are started for a run at once", f"one plays it, the other ends (exit codes {codes})")


def taken_over(scene: Scene) -> Row:
    """The engine is suspended, the run counts as lost and another worker resumes it; then the first one continues."""
    first = scene.play(2)
    first.process.send_signal(signal.SIGSTOP)
    _edit(scene, "UPDATE runs SET status = 'failed' WHERE id = ?")  # as a repair by hand might
    scene.play(4)
    first.process.send_signal(signal.SIGCONT)
    code = first.end()
    scene.look()
    does = f"the second {scene.finish()}; the first writes nothing and ends (exit code {code})"
    return scene.row("another worker takes the run over while its own is suspended", does)


def deleted(scene: Scene) -> Row:
    """The run is deleted while it plays, restored and resumed."""
    worker = scene.play(2)
    try:
        scene.store.delete(scene.run_id)
        refusal = "deleting is allowed"
    except StoreError as error:
        refusal = scene.short(str(error))
    _edit(scene, "UPDATE runs SET deleted = 1 WHERE id = ?")
    begun = time.monotonic()
    code = worker.end()
    ended = f"deleted all the same, the engine ends after {time.monotonic() - begun:.0f} s (exit code {code})"
    scene.store.restore(scene.run_id)
    scene.look()
    return scene.row("the run is deleted while it plays, and restored later", f"“{refusal}”; {ended}; {scene.finish()}")


def diverging(scene: Scene) -> Row:
    """The loss diverges to NaN."""
    scene.store.delete(scene.run_id)
    scene.run_id = scene.store.create_run(tiny.config(**DIVERGING))
    worker = Worker(scene.store, scene.run_id)
    scene.workers.append(worker)
    worker.end()
    scene.remember()
    scene.look("failed")
    row, rounds = scene.store.run(scene.run_id), stored_rounds(scene.store, scene.run_id)
    engine.resume_worker(scene.store, scene.run_id).end()
    resumed = scene.store.run(scene.run_id)
    same = (resumed.status, resumed.message) == (RunStatus.FAILED, row.message)
    fine = same and rounds == stored_rounds(scene.store, scene.run_id) and not store_damage(scene.store.path)
    afterwards = "all rounds kept, store whole; resumed, it diverges in the same round with the same words"
    does = f"ends with its {len(rounds)} rounds"
    return Row("the loss diverges (learning rate 1)", does, scene.sees, afterwards if fine else resumed.message, fine)


def _edit(scene: Scene, query: str) -> None:
    with closing(sqlite3.connect(scene.store.path, timeout=60)) as connection, connection:
        connection.execute(query, (scene.run_id,))


FAULTS = (
    suspended, out_of_memory, killed_by_the_system, terminated, interrupted, second_worker, two_at_once, taken_over,
    deleted, diverging,
)  # fmt: skip
