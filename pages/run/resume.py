"""Going on with a run that has ended before its time: stopped by somebody, failed, or left alone by its engine."""

from __future__ import annotations

from pathlib import Path

import streamlit as st

from pages.parts.notices import announce, say
from pages.parts.words import count, plain, resume_words
from pages.server import session
from pwff_core.errors import PwffError
from pwff_core.paths import default_store_path
from pwff_core.runs import scheduler
from pwff_core.runs.checkpoints import list_checkpoints
from pwff_core.runs.store import RunRow, RunStatus, Store

WAITS_ITS_TURN = "A run is going; this one starts by itself after it."


def possible(row: RunRow) -> bool:
    """Whether a run has ended before all its rounds were played, and can be resumed."""
    return row.status in (RunStatus.STOPPED, RunStatus.FAILED) and not row.deleted


def outlook(row: RunRow, store_path: Path) -> str:
    """What Resume would do, in a sentence."""
    return resume_words(row, [mark.position for mark in list_checkpoints(store_path, row.id)])


def resume(run_id: str, viewer: str, click: int) -> None:
    """Callback of Resume where a run has ended: it goes into the queue, and on at once where no other run is going."""
    if not session.is_first_call("go-on", click):
        return
    try:
        store = Store(default_store_path())
        row = store.run(run_id)
        if not possible(row):  # another browser was faster
            say(f"The run is {row.status.value} already: there is nothing to resume.")
            return
        session.require_may_change(row, viewer)
        with session.within_limits(store, viewer, row.config, new=False):
            scheduler.resume(store, run_id)
        store.take_over(run_id, viewer)
        tell_place(store, run_id)
    except PwffError as error:
        say(f"The run could not be resumed: {error}")


def tell_place(store: Store, run_id: str) -> bool:
    """Whether a run has to wait for others; where it has, a toast says so."""
    places = [row.id for row in store.queue()]
    if run_id in places:
        announce(f"Queued at position {places.index(run_id) + 1}: it starts by itself.")
    return run_id in places


def tell(row: RunRow) -> None:
    """That the run that is shown has ended before its time, and how it goes on: for whoever comes back to it."""
    name = plain(row.name or f"Run {row.id}")
    done, how = f"after {row.rounds_done} of {count(row.rounds_total, 'round')}", outlook(row, default_store_path())
    if row.status is RunStatus.FAILED:
        st.warning(f"**{name}** was interrupted {done}. {how}", icon=":material/restart_alt:")
    else:
        st.markdown(f":material/restart_alt: **{name}** was stopped {done}. {how}")


def button(row: RunRow, viewer: str, *, busy: bool) -> None:
    """Resume of a run that has ended before its time."""
    mine = session.may_change(row, viewer)
    st.button(
        "Resume",
        type="primary",
        icon=":material/resume:",
        key="go-on",
        on_click=resume,
        args=(row.id, viewer, session.click_number("go-on")),
        disabled=not mine,
        help=session.ANOTHER_S_RUN if not mine else WAITS_ITS_TURN if busy else outlook(row, default_store_path()),
    )
