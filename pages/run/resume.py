"""Resuming a run that has ended before its time: stopped by somebody, failed, or left by its engine."""

from __future__ import annotations

from pathlib import Path

import streamlit as st

from pages.parts.notices import announce, errors_as_notice, say
from pages.parts.words import count, plain, resume_words
from pages.server import session
from pwff_core.paths import default_store_path
from pwff_core.runs import scheduler
from pwff_core.runs.checkpoints import list_checkpoints
from pwff_core.runs.store import RunRow, RunStatus, Store

WAITS_ITS_TURN = "A run is going; this one starts by itself after it."


def can_resume(row: RunRow) -> bool:
    """Whether a run has ended before all its rounds were played, and can be resumed."""
    return row.status in (RunStatus.STOPPED, RunStatus.FAILED) and not row.deleted


def resume_outlook(row: RunRow, store_path: Path) -> str:
    """What Resume would do, in a sentence."""
    return resume_words(row, [checkpoint.position for checkpoint in list_checkpoints(store_path, row.id)])


def resume(run_id: str, viewer: str, click: int) -> None:
    """Callback of Resume where a run has ended: it goes into the queue, and on at once where no other run is going."""
    if not session.is_first_call("go-on", click):
        return
    with errors_as_notice("The run could not be resumed"):
        store = Store(default_store_path())
        row = store.run(run_id)
        if not can_resume(row):  # another browser was faster
            say(f"The run is {row.status.value} already: there is nothing to resume.")
            return
        session.require_may_change(row, viewer)
        with session.within_limits(store, viewer, row.config, new=False):
            scheduler.resume(store, run_id)
        store.take_over(run_id, viewer)
        announce_position(store, run_id)


def announce_position(store: Store, run_id: str) -> bool:
    """Whether a run has to wait for others; where it has, a toast says so."""
    queue = [row.id for row in store.queue()]
    if run_id in queue:
        announce(f"Queued at position {queue.index(run_id) + 1}: it starts by itself.")
    return run_id in queue


def draw_interruption(row: RunRow) -> None:
    """That the run on the page has ended before its time, and how it goes on."""
    name = plain(row.name or f"Run {row.id}")
    done, outlook = (
        f"after {row.rounds_done} of {count(row.rounds_total, 'round')}",
        resume_outlook(row, default_store_path()),
    )
    if row.status is RunStatus.FAILED:
        st.warning(f"**{name}** was interrupted {done}. {outlook}", icon=":material/restart_alt:")
    else:
        st.markdown(f":material/restart_alt: **{name}** was stopped {done}. {outlook}")


def resume_button(row: RunRow, viewer: str, *, busy: bool) -> None:
    """Resume of a run that has ended before its time."""
    allowed = session.may_change(row, viewer)
    outlook = WAITS_ITS_TURN if busy else resume_outlook(row, default_store_path())
    st.button(
        "Resume",
        type="primary",
        icon=":material/resume:",
        key="go-on",
        on_click=resume,
        args=(row.id, viewer, session.click_number("go-on")),
        disabled=not allowed,
        help=outlook if allowed else session.ANOTHER_S_RUN,
    )
