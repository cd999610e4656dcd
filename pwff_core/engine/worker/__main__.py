"""`python -m pwff_core.engine.worker RUN_ID [--store PATH]`: the process that plays a queued run."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from pwff_core.engine.worker.engine_protocol import Engine
from pwff_core.engine.worker.retry import Retry, report
from pwff_core.engine.worker.run_loop import play_run
from pwff_core.engine.worker.signals import Signals
from pwff_core.errors import PwffError, StoreError
from pwff_core.paths import default_store_path
from pwff_core.runs import scheduler
from pwff_core.runs.store import CLAIM_WITHIN_S, Store

NICENESS = 10  # of 19: a round reaches the pages of thirty viewers in half the time
LOCK_S = 1.0  # a call waits so long for another writer; then it is tried again, and signals come in between


def main(
    arguments: list[str] | None = None,
    *,
    engine: Engine | None = None,
    start: Callable[[Path, str], object] | None = None,
) -> int:
    """The process; its exit code is 0 if the run finished or was stopped, 1 if it failed or could not be played.

    When the run has ended, the next one of the queue is launched. After a signal it is not, as the computer may be
    shutting down; a page will launch it. Tests give another `engine` and another way to `start` the next run.
    """
    parser = argparse.ArgumentParser(
        prog="python -m pwff_core.engine.worker", description="Play one queued run of a store."
    )
    parser.add_argument("run_id", metavar="RUN_ID")
    parser.add_argument("--store", type=Path, default=default_store_path(), metavar="PATH")
    options = parser.parse_args(arguments)
    try:
        store = _open(options.store)
        code = _play_to_the_end(store, options.run_id, engine)
        if store.path.exists():  # otherwise there is no queue any more
            scheduler.advance(store, start)
        return code
    except PwffError as error:
        report(str(error))
        return 1
    except KeyboardInterrupt:
        report("stopped")
        return 0


def step_back() -> None:
    """Gives way to the pages: their process gets a core as soon as it wants one.

    Linux shares the cores among sessions first, and a launched worker is a session of its own.
    """
    if sys.platform == "win32":
        return
    os.nice(NICENESS)
    if os.getsid(0) == os.getpid():
        with suppress(OSError):  # a system without it
            Path("/proc/self/autogroup").write_text(f"{NICENESS}", encoding="ascii")


def _open(path: Path) -> Store:
    """The store, once it can be opened. StoreError if there is none, or if it takes too long to claim the run."""
    if not path.exists():  # a new one would hold no run
        raise StoreError(f"There is no store {path}; name the one that holds the run with --store.")
    signals = Signals()
    with signals.installed():
        return Retry(signals)(lambda: Store(path, timeout_s=LOCK_S), within_s=CLAIM_WITHIN_S)


def _play_to_the_end(store: Store, run_id: str, engine: Engine | None) -> int:
    try:
        for _ in play_run(store, run_id, engine=engine):
            pass
    except PwffError as error:
        report(str(error))
        return 1
    return 0


if __name__ == "__main__":
    step_back()
    code = main()
    # Everything is written. In an orderly exit, a library whose loading a signal has interrupted may fail, hang or
    # change the exit code.
    os._exit(code)
