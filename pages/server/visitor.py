"""What a visitor of a hosted app may do: limits on new runs, and hands off other visitors' runs.

Buttons are drawn by `own`, and their callbacks ask again: what a browser sends is not trusted. Where the app is not
hosted, everybody may do everything.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from pwff_core.config import RunConfig
from pwff_core.errors import ConfigError, StoreError
from pwff_core.runs import limits
from pwff_core.runs.store import RunRow, Store

OTHERS = "This run is another visitor's; here it can be watched."
_ONE_AT_A_TIME = threading.Lock()  # all sessions are threads of one server, so counting and creating is one act


@contextmanager
def admitted(store: Store, me: str, *configs: RunConfig, new: bool = True) -> Iterator[None]:
    """In here a visitor may create or fork runs with these settings, one each; or resume one, which is not `new`.

    ConfigError with a sentence if a limit of this app is in the way.
    """
    for config in configs:
        limits.check(config)
    if limits.limits() is None:
        yield
        return
    with _ONE_AT_A_TIME:
        going = sum(row.owner == me and not row.status.ended for row in store.runs())
        today = store.created(me, time.time() - limits.DAY_S) if new else None
        if refused := limits.refusal(going=going, today=today, waiting=len(store.waiting()), more=len(configs)):
            raise ConfigError(refused)
        yield


def own(row: RunRow, me: str) -> bool:
    """Whether a visitor may change a run: always, but in a hosted app its own alone."""
    return limits.limits() is None or row.owner == me


def require_own(row: RunRow, me: str) -> None:
    """StoreError with a sentence unless a visitor may change a run."""
    if not own(row, me):
        raise StoreError(OTHERS)
