"""`python -m pwff_core.engine.worker RUN_ID [--store PATH]`: the process that plays a queued run."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from pwff_core.engine.worker.retry import Patience, tell
from pwff_core.engine.worker.signals import Interruption
from pwff_core.engine.worker.stream import recorded
from pwff_core.errors import PwffError, StoreError
from pwff_core.paths import default_store_path
from pwff_core.runs import scheduler
from pwff_core.runs.store import CLAIM_WITHIN_S, Store

NICENESS = 10  # of 19: with thirty viewers, a round is on their pages in half the time
LOCK_S = 1.0  # a call waits so long for another writer; then it is tried again, and in between signals are heard


def main(arguments: list[str] | None = None, start: Callable[[Path, str], object] | None = None) -> int:
    """The process; its exit code is 0 if the run finished or was stopped, 1 if it failed or could not be played.

    When the run has ended, the next one of the queue is launched. Not after a signal: whoever ends a process from
    outside, as a computer does that shuts down, does not want another one, and a page that looks will start it.
    """
    parser = argparse.ArgumentParser(
        prog="python -m pwff_core.engine.worker", description="Play one queued run of a store."
    )
    parser.add_argument("run_id", metavar="RUN_ID")
    parser.add_argument("--store", type=Path, default=default_store_path(), metavar="PATH")
    options = parser.parse_args(arguments)
    try:
        store = _opened(options.store)
        code = _play_to_the_end(store, options.run_id)
        if store.path.exists():  # otherwise there is no queue any more
            scheduler.advance(store, start)
        return code
    except PwffError as error:
        tell(str(error))
        return 1
    except KeyboardInterrupt:
        tell("stopped")
        return 0


def step_back() -> None:
    """People who watch come first: the pages' process gets a core as soon as it wants one, and this one the rest.

    Linux shares the cores among sessions first, and a worker that a page has started is one of its own.
    """
    if sys.platform == "win32":
        return
    os.nice(NICENESS)
    if os.getsid(0) == os.getpid():
        with suppress(OSError):  # a system without it
            Path("/proc/self/autogroup").write_text(f"{NICENESS}", encoding="ascii")


def _opened(path: Path) -> Store:
    """The store, once it can be opened. StoreError if there is none, or it cannot be before the run is given up."""
    if not path.exists():  # a worker makes none: it would hold no run
        raise StoreError(f"There is no store {path}; name the one that holds the run with --store.")
    interruption = Interruption()
    with interruption.installed():
        return Patience(interruption)(lambda: Store(path, timeout_s=LOCK_S), within_s=CLAIM_WITHIN_S)


def _play_to_the_end(store: Store, run_id: str) -> int:
    try:
        for _ in recorded(store, run_id):
            pass
    except PwffError as error:
        tell(str(error))
        return 1
    return 0


if __name__ == "__main__":
    step_back()
    code = main()
    # All that matters is written. A library that a signal broke off while it was loading may fail, hang or change the
    # exit code when Python takes it down in an orderly way.
    os._exit(code)
