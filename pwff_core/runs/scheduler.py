"""The queue: runs that wait start one after another, so that each has the computer to itself, or a few at a time."""

from __future__ import annotations

import os
import re

from pwff_core.errors import ConfigError, EngineError
from pwff_core.runs import launch
from pwff_core.runs.store import Store

PARALLEL_VARIABLE = "PWFF_PARALLEL"
MOST_PARALLEL = 64


def parallel() -> int:
    """How many runs may play at a time: $PWFF_PARALLEL, otherwise 1. ConfigError unless it is 1 to 64."""
    text = os.environ.get(PARALLEL_VARIABLE, "").strip() or "1"
    if not (re.fullmatch("[0-9]{1,3}", text) and 1 <= int(text) <= MOST_PARALLEL):
        raise ConfigError(
            f"${PARALLEL_VARIABLE} is {text[:20]!r}; it says how many runs may play at a time: give a whole number "
            f"from 1 to {MOST_PARALLEL}, or leave it out for one."
        )
    return int(text)


def advance(store: Store) -> list[str]:
    """Launches what is due and returns the ids; nothing while as many runs play as may (`parallel`).

    Whoever notices calls it: a worker whose run has ended, a page after it has added runs and at each look, with a
    Store for reading too. However many call at once, a run is launched once. A run whose engine cannot be started has
    failed, and the next one's turn has come. ConfigError if $PWFF_PARALLEL is none; StoreError if the store cannot be
    written.
    """
    at_a_time = parallel()
    if not store.due(at_a_time):
        return []
    writer = Store(store.path) if store.readonly else store
    launched = []
    while run_id := writer.next_waiting(at_a_time):
        try:
            launch.launch(writer.path, run_id)
        except EngineError as error:
            writer.not_launched(run_id, str(error))
        else:
            launched.append(run_id)
    return launched
