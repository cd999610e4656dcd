"""The pulse of a worker: a thread that says that it is there, and notices when the run is not its own any more."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pwff_core.engine.worker.signals import Interruption
from pwff_core.errors import StoreError, TakenOverError
from pwff_core.runs.store import Store

BEAT_S = 2.0  # so often it beats
GONE_S = 60.0  # a store that was not there for so long is not coming back: an external disk may have been pulled out


class Pulse:
    """The heartbeat of a run that plays in this process.

    It interrupts the computing when the run was deleted or taken over, or the store has gone: `lost` says which. It
    does so again when a library has swallowed the interruption, and then for a signal too. From `closing` on, the run
    may be over: that it is nobody's any more is then as it should be.
    """

    def __init__(self, store: Store, run_id: str, interruption: Interruption) -> None:
        self.lost: StoreError | None = None
        self.closing = False
        self._store, self._run_id, self._interruption = store, run_id, interruption
        self._over = threading.Event()

    @contextmanager
    def beating(self) -> Iterator[None]:
        """The heart beats in here."""
        thread = threading.Thread(target=self._beat, name="pulse", daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._over.set()
            thread.join(timeout=BEAT_S)  # one that waits for a lock is not waited for

    def _beat(self) -> None:
        missing_since: float | None = None
        while not self._over.wait(BEAT_S):
            ours = self._ours()
            if not _missing(self._store.path):
                missing_since = None
            elif missing_since is None:
                missing_since = time.monotonic()
            if self.lost is None and missing_since is not None and time.monotonic() - missing_since > GONE_S:
                self._lose(
                    StoreError(f"The store {self._store.path} has gone: its file, its folder or its disk was removed.")
                )
            elif self.lost is None and not ours and not self.closing:
                self._lose(
                    TakenOverError(
                        f"Run {self._run_id} is not this process's any more: it was deleted, or another worker has "
                        "taken it over."
                    )
                )
            elif self._interruption.swallowed and not self._over.is_set():
                self._interruption.nudge()

    def _ours(self) -> bool:
        try:
            return self._store.heartbeat(self._run_id)
        except StoreError:  # locked, full …: the next round's write tells of it, and waits
            return True

    def _lose(self, reason: StoreError) -> None:
        self.lost = reason
        if not self._over.is_set():
            self._interruption.nudge()


def _missing(path: Path) -> bool:
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return True
    except OSError:  # it may be there: a folder that may not be looked into, a network that does not answer
        return False
    return False
