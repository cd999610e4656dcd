"""Going on: a run that was interrupted, or another one from where a run once stood.

An interrupted run plays on by itself once a worker takes it: nothing but its place in the queue has to be asked for. A
fork is a run whose first rounds are its parent's; what is changed holds from the round after them.
"""

from __future__ import annotations

from collections.abc import Mapping

from pwff_core.errors import StoreError
from pwff_core.records import Value
from pwff_core.runs import scheduler
from pwff_core.runs.checkpoints import Mark, hand_over, marks
from pwff_core.runs.store import Store


def resume(store: Store, run_id: str) -> None:
    """Puts a stopped or failed run into the queue, and starts it if its turn has come.

    StoreError if it plays or waits already, or is finished.
    """
    store.reopen(run_id, waits=True)
    scheduler.advance(store)


def fork_points(store: Store, run_id: str) -> list[Mark]:
    """The checkpoints after which a run can go on in another way, the oldest first."""
    rounds_total = store.run(run_id).rounds_total
    return [mark for mark in marks(store.path, run_id) if mark.position < rounds_total]


def fork(
    store: Store,
    run_id: str,
    position: int,
    changes: Mapping[str, Value],
    name: str = "",
    *,
    waits: bool = True,
    owner: str = "",
) -> str:
    """Adds a run that is `run_id` up to its round `position`, and has the `changes` from then on; returns its id.

    It is put into the queue, and started if its turn has come; if it does not wait, the caller plays it. `owner` is
    whose it is, as for `Store.create_run`. ConfigError for a setting that is not STEERABLE or a value that is not
    allowed; StoreError if the run has no checkpoint there.
    """
    points = [mark.position for mark in fork_points(store, run_id)]
    if position not in points:
        known = f"after round {', '.join(map(str, points))}" if points else "nowhere: it has no checkpoint"
        raise StoreError(f"Run {run_id} cannot be forked after round {position}; it can be forked {known}.")
    child = store.fork(run_id, position, changes, name, waits=waits, owner=owner)
    try:
        hand_over(store.path, run_id, position, child)
    except StoreError:
        store.delete(child)
        raise
    if waits:
        scheduler.advance(store)
    return child
