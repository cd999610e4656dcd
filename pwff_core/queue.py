"""The queue: runs that wait start one after another, so that each has the computer to itself."""

from __future__ import annotations

from pwff_core import launch
from pwff_core.errors import EngineError
from pwff_core.store import RunStatus, Store


def advance(store: Store) -> list[str]:
    """Launches what is due and returns the ids; nothing while another run plays.

    Whoever notices calls it: a worker whose run has ended, a page after it has added runs and at each look. However
    many call at once, one worker is launched. A run whose engine cannot be started has failed, and the next one's turn
    has come. StoreError if the store cannot be written.
    """
    launched = []
    while run_id := store.next_waiting():
        try:
            launch.launch(store.path, run_id)
        except EngineError as error:
            store.finish(run_id, RunStatus.FAILED, str(error))
        else:
            launched.append(run_id)
    return launched
