"""The queue: runs wait in it and are started one after another, so that each has the computer to itself.

    advance(store)  →  launch(store_path, run_id)  →  python -m pwff_core.engine.worker RUN_ID --store PATH

A run is queued when it is new, resumed, or forked from another run. A resumed run needs only a place in the queue: its
worker finds the newest checkpoint. A fork's first rounds are its parent's; the changed
settings hold from the round after them.
"""

from __future__ import annotations

import os
import re
import subprocess
import threading
from collections.abc import Callable, Mapping
from pathlib import Path

from pwff_core.errors import ConfigError, EngineError, StoreError
from pwff_core.records import Value
from pwff_core.runs import processes
from pwff_core.runs.checkpoints import CheckpointInfo, hand_over, list_checkpoints
from pwff_core.runs.run_files import RunFiles
from pwff_core.runs.store import Store

PARALLEL_VARIABLE = "PWFF_PARALLEL"  # how many runs may play at a time
MOST_PARALLEL = 64

_running: list[subprocess.Popen[str]] = []  # the workers that this process has launched and that have not ended


def parallel() -> int:
    """How many runs may play at a time: $PWFF_PARALLEL, otherwise 1. ConfigError unless it is 1 to 64."""
    text = os.environ.get(PARALLEL_VARIABLE, "").strip() or "1"
    if not (re.fullmatch("[0-9]{1,3}", text) and 1 <= int(text) <= MOST_PARALLEL):
        raise ConfigError(
            f"${PARALLEL_VARIABLE} is {text[:20]!r}; it says how many runs may play at a time: give a whole number "
            f"from 1 to {MOST_PARALLEL}, or leave it out for one."
        )
    return int(text)


def core_share(cores: int | None = None) -> dict[str, str]:
    """The environment variables that give one of several parallel runs its share of the cores; none for a single run.

    A number of threads that somebody has chosen stays.
    """
    text = os.environ.get(PARALLEL_VARIABLE, "")
    runs = int(text) if text.isascii() and text.isdecimal() else 1  # `parallel` reports a text that is no number
    if runs <= 1 or "OMP_NUM_THREADS" in os.environ:
        return {}
    return {"OMP_NUM_THREADS": str(max(1, (cores or processes.cores()) // runs))}


def launch(store_path: Path, run_id: str, module: str = processes.WORKER, *options: str) -> subprocess.Popen[str]:
    """Starts a run's worker, which outlives this process. EngineError if it cannot start.

    The worker keeps the working folder, so relative paths of the run's config mean the same to it. Tests start another
    `module`, with `options` for it.
    """
    _running[:] = [process for process in _running if process.poll() is None]
    log = RunFiles(store_path).log(run_id)
    try:
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as output:
            process = processes.spawn(
                module,
                run_id,
                "--store",
                str(store_path.absolute()),
                *options,
                stdout=output,
                log=output,
                variables=core_share(),
            )
    except OSError as error:
        raise EngineError(
            f"The engine cannot be started ({error}); check free memory and the folder {log.parent}."
        ) from None
    _running.append(process)
    # a worker that has ended is reaped at once, not left as a zombie until the next launch
    threading.Thread(target=process.wait, name=f"worker {run_id}", daemon=True).start()
    return process


def advance(store: Store, start: Callable[[Path, str], object] | None = None) -> list[str]:
    """Launches the runs whose turn has come and returns their ids; none while `parallel` runs play already.

    Workers call it when their run has ended, and pages after adding runs and at each look, with a readonly Store too.
    However many call at once, a run is launched once. A run whose engine cannot be started has failed, and the next
    one's turn has come. `start` launches a run: `launch` unless given. ConfigError if $PWFF_PARALLEL is not a number
    that is allowed; StoreError if the store cannot be written.
    """
    limit = parallel()
    if not store.due(limit):
        return []
    writer = Store(store.path) if store.readonly else store
    launched = []
    while run_id := writer.next_in_queue(limit):
        try:
            (launch if start is None else start)(writer.path, run_id)
        except EngineError as error:
            writer.not_launched(run_id, str(error))
        else:
            launched.append(run_id)
    return launched


def resume(store: Store, run_id: str, start: Callable[[Path, str], object] | None = None) -> None:
    """Puts a stopped or failed run into the queue, and starts it if its turn has come.

    StoreError if it already plays or waits, or is finished.
    """
    store.requeue(run_id, in_queue=True)
    advance(store, start)


def fork_points(store: Store, run_id: str) -> list[CheckpointInfo]:
    """The checkpoints from which a run can be forked, the oldest first."""
    rounds_total = store.run(run_id).rounds_total
    return [checkpoint for checkpoint in list_checkpoints(store.path, run_id) if checkpoint.position < rounds_total]


def fork(
    store: Store,
    run_id: str,
    position: int,
    changes: Mapping[str, Value],
    name: str = "",
    *,
    in_queue: bool = True,
    owner: str = "",
    start: Callable[[Path, str], object] | None = None,
) -> str:
    """Adds a run that equals `run_id` up to round `position` and has the `changes` from then on; returns its id.

    One that is `in_queue` starts when its turn comes; otherwise the caller plays it. For `owner` see RunRow.
    ConfigError for a setting that is not STEERABLE or a value that is not allowed; StoreError if the run has no
    checkpoint there.
    """
    points = [checkpoint.position for checkpoint in fork_points(store, run_id)]
    if position not in points:
        where = f"after round {', '.join(map(str, points))}" if points else "nowhere: it has no checkpoint"
        raise StoreError(f"Run {run_id} cannot be forked after round {position}; it can be forked {where}.")
    child = store.fork(run_id, position, changes, name, in_queue=in_queue, owner=owner)
    try:
        hand_over(store.path, run_id, position, child)
    except StoreError:
        store.delete(child)
        raise
    if in_queue:
        advance(store, start)
    return child
