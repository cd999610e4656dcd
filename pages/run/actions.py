"""What can be done with one run: open, resume, fork, replay, rename, share, export, cancel, delete and undo."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import NoReturn

import streamlit as st

from pages.parts.notices import errors_as_notice
from pages.parts.run_table import status_text, title_of
from pages.parts.words import (
    count,
    failed_words,
    held_up_words,
    plain,
    sentence,
    settings_words,
)
from pages.run import fork, origin
from pages.run.export import draw_export, run_offer
from pages.run.resume import can_resume, resume_button, resume_outlook
from pages.server import session
from pages.server.snapshots import parent_row
from pages.settings import panel
from pages.settings.address import REPLAY, RUN, share
from pwff_core.figures.changes import config_at
from pwff_core.runs import chat, scheduler
from pwff_core.runs.checkpoints import delete_checkpoints, list_checkpoints
from pwff_core.runs.store import MAX_NAME, RunRow, RunStatus, Store
from pwff_core.units import with_prefix

_DELETED, _STOPPING, _QUESTION, _NAME = "runs:deleted", "runs:stopping", "runs:asked-to-delete", "runs:name"
_PROBLEM, _BAD_NAME = "runs:problem", "runs:bad-name"


def live_page(*, run: str = "", replay: str = "") -> NoReturn:
    """Go to the Live page: to a run, to the replay of one, or as it is."""
    named = {RUN: run, REPLAY: replay}
    st.switch_page("pages/live.py", query_params={name: value for name, value in named.items() if value})


def draw_actions(store: Store, row: RunRow, position: int, viewer: str) -> None:
    """The run in words and its buttons.

    `position` is its place in the queue, 0 where it does not wait.
    """
    positions = {row.id: position} if position else {}
    with st.container(border=True, key="run-actions"):
        st.markdown(f"**{plain(title_of(row))}** · {status_text(row, positions)}")
        _description(store, row)
        with st.container(horizontal=True, key="run-buttons"):
            _open_buttons(store, row, viewer)
            allowed = session.may_change(row, viewer)
            if allowed:
                _rename(store, row)
            share(row.config, row.id)
            if position and allowed:
                st.button(
                    "Cancel", icon=":material/event_busy:", key="runs:cancel", on_click=_cancel, args=(store, row)
                )
            if allowed:
                st.button("Delete", icon=":material/delete:", key="runs:delete", on_click=_delete, args=(store, row))
        _confirm(store, row)
        _draw_problem(_PROBLEM)
    if row.rounds_done:
        draw_export(run_offer(store, row.id), "runs")


def _description(store: Store, row: RunRow) -> None:
    """Its settings, checkpoints and origin, why it failed or is held up, and what Resume would do."""
    settings = settings_words(row.config) if row.name else ""
    message = row.message if row.status not in (RunStatus.FAILED, RunStatus.STALLED) else ""
    parts = (settings, f"run {row.id}", checkpoint_words(store, row), message)
    st.caption(plain(" · ".join(part for part in parts if part)))
    if row.parent:
        words = origin.origin_words(row, parent_row(store, row), store.steerings(row.id))
        st.markdown(f":material/fork_right: {words}")
    if row.status is RunStatus.FAILED:
        st.error(plain(failed_words(row, row.rounds_done)), icon=":material/error:")
    elif row.status is RunStatus.STALLED:
        st.warning(plain(held_up_words(row)), icon=":material/pending:")
    if can_resume(row):
        st.caption(resume_outlook(row, store.path))


def checkpoint_words(store: Store, row: RunRow) -> str:
    """'2 checkpoints, 31 MB, the last after round 12 (21:43)', or "" where there is none."""
    checkpoints = list_checkpoints(store.path, row.id)
    if not checkpoints:
        return ""
    when = time.strftime("%d %b %H:%M", time.localtime(checkpoints[-1].written_at))
    size = with_prefix(sum(checkpoint.size for checkpoint in checkpoints), "B")
    return f"{count(len(checkpoints), 'checkpoint')}, {size}, the last after round {checkpoints[-1].position} ({when})"


def _open_buttons(store: Store, row: RunRow, viewer: str) -> None:
    """Resume where the run can go on, and the buttons that lead to the Live page."""
    interrupted = can_resume(row)
    if interrupted:
        resume_button(row, viewer, busy=any(not other.status.ended for other in store.runs()))
    if st.button(
        "Open", type="secondary" if interrupted else "primary", icon=":material/open_in_new:", key="runs:open"
    ):
        live_page(run=row.id)
    if session.may_change(row, viewer) and scheduler.fork_points(store, row.id) and st.button(
        "Fork", icon=":material/fork_right:", key="runs:fork",
        help="Go on from one of its rounds with another channel or other preferences, as a run of its own.",
    ):  # fmt: skip
        panel.adopt(config_at(row.config, store.steerings(row.id)))
        st.session_state[fork.BOX] = True
        live_page(run=row.id)
    why = "" if row.status.ended else "A run can be replayed once it has ended."
    if not why and not row.rounds_done:
        why = "It has no rounds, so there is nothing to replay."
    if st.button(
        "Replay", icon=":material/replay:", key="runs:replay", disabled=bool(why), help=why or "Watch it once more."
    ):
        live_page(replay=row.id)
    if st.button(
        "Use its settings", icon=":material/content_copy:", key="runs:duplicate",
        help="Sets every knob of the Live page as this run had it. Nothing starts yet.",
    ):  # fmt: skip
        panel.adopt(row.config)
        live_page(run=row.id)  # to this run, as beside one that is going the knobs would steer that


def _rename(store: Store, row: RunRow) -> None:
    """The box for another name. It closes once the name is saved; what is wrong with it is said in it."""
    box, key = "runs:rename", f"{_NAME}:{row.id}"

    def save() -> None:
        if _attempt(lambda: _writable(store, row).rename(row.id, st.session_state[key]), _BAD_NAME):
            st.session_state[box] = False

    with st.popover("Rename", icon=":material/edit:", key=box, on_change="rerun"), st.form("rename", border=False):
        st.text_input("Name", row.name, key=key, help=f"One line of at most {MAX_NAME} characters; empty for none.")
        _draw_problem(_BAD_NAME)
        st.form_submit_button("Save", key="runs:save-name", on_click=save)


def _attempt(action: Callable[[], object], where: str = _PROBLEM) -> bool:
    """Whether the store has done it; its refusal is drawn once, at the place `where`."""
    done = False
    with errors_as_notice(tell=partial(st.session_state.__setitem__, where)):
        action()
        done = True
    return done


def _draw_problem(where: str) -> None:
    if problem := st.session_state.pop(where, None):
        st.error(plain(sentence(problem)), icon=":material/error:")


def _writable(store: Store, row: RunRow) -> Store:
    """The same store, open to change a run of one's own: pages read it only. StoreError for another visitor's run."""
    session.require_may_change(row, session.viewer_name())
    return Store(store.path)


def _cancel(store: Store, row: RunRow) -> None:
    """Callback: take a run out of the queue."""
    _attempt(lambda: _writable(store, row).cancel(row.id))


def _delete(store: Store, row: RunRow) -> None:
    """Callback of Delete: at once, with a way back; a run that plays is asked about first."""
    if not row.status.ended and not row.in_queue:
        st.session_state[_QUESTION] = row.id
    elif _attempt(lambda: _writable(store, row).delete(row.id)):
        st.session_state.setdefault(_DELETED, {})[row.id] = title_of(row)


def _confirm(store: Store, row: RunRow) -> None:
    """The question before a run that plays is deleted."""
    if row.id in st.session_state.get(_STOPPING, []):
        st.info("It stops after the round that it is in, and is then deleted.", icon=":material/hourglass_top:")
        return
    if st.session_state.get(_QUESTION) != row.id:
        return
    if row.status.ended:  # meanwhile
        del st.session_state[_QUESTION]
        return
    st.warning("This run is going. It must stop before it can be deleted.", icon=":material/warning:")
    with st.container(horizontal=True):
        st.button("Stop it, then delete it", key="runs:stop-and-delete", on_click=_stop_and_delete, args=(store, row))
        st.button("Let it go on", key="runs:keep", on_click=st.session_state.pop, args=(_QUESTION,))


def _stop_and_delete(store: Store, row: RunRow) -> None:
    """Callback: ask the engine to stop; the page deletes the run once it has."""
    st.session_state.pop(_QUESTION)
    if _attempt(lambda: _writable(store, row).request_stop(row.id)):
        st.session_state.setdefault(_STOPPING, []).append(row.id)


def delete_what_has_stopped(store: Store) -> None:
    """Deletes the runs that were to be deleted once they have stopped, and have."""
    stopping: list[str] = st.session_state.get(_STOPPING, [])
    for row in [store.run(run_id) for run_id in stopping]:
        if row.status.ended:
            stopping.remove(row.id)
            _delete(store, row)


def draw_undo(store: Store, *, arrived: bool) -> None:
    """A line that says what was deleted, with a way back; it is gone once the page has been left (`arrived` anew).

    The runs' models and checkpoints go when the way back does: they are most of what a run takes on the disk.
    """
    if arrived:
        for run_id in st.session_state.pop(_DELETED, {}):
            chat.delete_models(store.path, run_id)
            delete_checkpoints(store.path, run_id)
    deleted: dict[str, str] = st.session_state.get(_DELETED, {})
    if not deleted:
        return
    with st.container(horizontal=True, vertical_alignment="center", key="runs-undo"):
        what = f"“{plain(next(iter(deleted.values())))}”" if len(deleted) == 1 else f"{len(deleted)} runs"
        st.success(f"Deleted: {what}.", icon=":material/delete:")
        st.button("Undo", icon=":material/undo:", key="runs:undo", on_click=_undo, args=(store,))


def _undo(store: Store) -> None:
    """Callback: bring back what was deleted since the page was opened."""
    for run_id in st.session_state.pop(_DELETED):
        _attempt(lambda run_id=run_id: _writable(store, store.run(run_id)).restore(run_id))
