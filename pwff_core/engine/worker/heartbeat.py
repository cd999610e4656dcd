"""The heartbeat of a worker: a thread that says that it is there, and notices when the run is no longer its own."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from pwff_core.engine.worker.signals import Signals
from pwff_core.engine.worker.timing import USUAL, Timing
from pwff_core.errors import StoreError, TakenOverError
from pwff_core.runs.store import Store


class Heartbeat:
    """The heartbeat of a run that plays in this process.

    It interrupts the computing when the run was deleted or taken over, or the store has gone; `lost` says which, and
    `on_loss` is called with it. If a library has swallowed an interrupt, or a signal, it interrupts again. Once
    `closing` is set, the run may be over: that it belongs to nobody is then no loss.
    """

    def __init__(
        self,
        store: Store,
        run_id: str,
        signals: Signals,
        timing: Timing = USUAL,
        on_loss: Callable[[StoreError], None] = lambda reason: None,
    ) -> None:
        self.lost: StoreError | None = None
        self.closing = False
        self._store, self._run_id, self._signals = store, run_id, signals
        self._timing, self._on_loss = timing, on_loss
        self._over = threading.Event()

    @contextmanager
    def beating(self) -> Iterator[None]:
        """The heart beats while this is open."""
        thread = threading.Thread(target=self._beat, name="heartbeat", daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._over.set()
            thread.join(timeout=self._timing.heartbeat_s)  # no longer: it may wait for a lock

    def _beat(self) -> None:
        missing_since: float | None = None
        while not self._over.wait(self._timing.heartbeat_s):
            owned = self._owns_run()
            if not _is_missing(self._store.path):
                missing_since = None
            elif missing_since is None:
                missing_since = time.monotonic()
            gone = missing_since is not None and time.monotonic() - missing_since > self._timing.gone_s
            if self.lost is None and gone:
                self._lose(
                    StoreError(f"The store {self._store.path} has gone: its file, its folder or its disk was removed.")
                )
            elif self.lost is None and not owned and not self.closing:
                self._lose(
                    TakenOverError(
                        f"Run {self._run_id} is not this process's any more: it was deleted, or another worker has "
                        "taken it over."
                    )
                )
            elif self._signals.swallowed and not self._over.is_set():
                self._signals.interrupt()

    def _owns_run(self) -> bool:
        try:
            return self._store.heartbeat(self._run_id)
        except StoreError:  # locked, full …: the next round's write reports it, and waits
            return True

    def _lose(self, reason: StoreError) -> None:
        self.lost = reason
        if not self._over.is_set():
            self._signals.interrupt()
        self._on_loss(reason)


def _is_missing(path: Path) -> bool:
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return True
    except OSError:  # it may be there, in a folder that cannot be read or on a network that does not answer
        return False
    return False
