"""The buttons of the Live page: start or queue, pause, resume, stop, cancel, take over."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import streamlit as st

from pages.parts.notices import errors_as_notice, say
from pages.parts.words import plain, settings_words
from pages.run.resume import WAITS_ITS_TURN, announce_position, can_resume, draw_interruption, resume_button
from pages.run.steering import Mode
from pages.server import session
from pages.server.drawings import RunView
from pages.settings import address, panel
from pages.settings.price import draw_price
from pwff_core.config import RunConfig
from pwff_core.knobs import Problem
from pwff_core.paths import default_store_path
from pwff_core.runs import scheduler
from pwff_core.runs.store import RunRow, RunStatus, Store

TO_SHOW = "live:to-show"
_MOST_LISTED = 5
_TAKE_OVER_FIRST = "Another browser steers this run; take over first."


def show(run_id: str) -> None:
    """Callback: put a run into the address."""
    st.session_state[TO_SHOW] = run_id


def start(config: RunConfig, viewer: str, click: int) -> None:
    """Callback of Start and Queue: a new run in the queue, whose engine starts at once where no other run is going."""
    if not session.is_first_call("start", click):
        return
    with errors_as_notice("The run could not be started"):
        store = Store(default_store_path())
        with session.within_limits(store, viewer, config):
            run_id = store.create_run(config, in_queue=True, owner=viewer)
        scheduler.advance(store)
        store.take_over(run_id, viewer)
        if not announce_position(store, run_id):
            show(run_id)


def _command(run_id: str, viewer: str, what: str, send: Callable[[Store], object]) -> None:
    """Sends a command to a run's engine, or says why it could not be."""
    with errors_as_notice(f"The run could not be {what}"):
        store = Store(default_store_path(), readonly=True)
        session.require_may_change(store.run(run_id), viewer)
        send(store)


def stop(run_id: str, viewer: str) -> None:
    """Callback of Stop: ask the engine to end after the round that it is in."""
    _command(run_id, viewer, "asked to stop", lambda store: store.request_stop(run_id, viewer))


def pause(run_id: str, viewer: str) -> None:
    """Callback of Pause: ask the engine to wait after the round that it is in."""
    _command(run_id, viewer, "asked to pause", lambda store: store.pause(run_id, viewer))


def unpause(run_id: str, viewer: str) -> None:
    """Callback of Resume while the run is paused, or about to be."""
    _command(run_id, viewer, "asked to go on", lambda store: store.resume(run_id, viewer))


def take_over(run_id: str, viewer: str) -> None:
    """Callback of Take over."""
    _command(run_id, viewer, "taken over", lambda store: store.take_over(run_id, viewer))


def cancel(run_id: str, viewer: str) -> None:
    """Callback of Cancel: take a run out of the queue."""
    with errors_as_notice("The run could not be cancelled"):
        store = Store(default_store_path())
        session.require_may_change(store.run(run_id), viewer)
        if not store.cancel(run_id) and not store.run(run_id).status.ended:
            say("The run has started meanwhile; stop it instead.")


def draw_controls(
    config: RunConfig | None,
    problems: Mapping[str, Problem],
    view: RunView | None,
    mode: Mode,
    *,
    viewer: str,
    usable: bool,
    busy: bool,
) -> None:
    """What Start would do and cost, and the buttons.

    `usable`: there is a store; `busy`: a run is going or waits, so that the next one has to wait too.
    """
    with st.container(border=True, key="next-run"):
        interrupted = view is not None and can_resume(view.row)
        if view and interrupted:
            draw_interruption(view.row)
        with st.container(horizontal=True, vertical_alignment="center", key="buttons"):
            if config is None:
                st.error(f"A run cannot start like this. {panel.problem_words(problems)}")
            else:
                st.markdown(f"**{'Next run' if view else 'Your run'}:** {plain(settings_words(config))}")
            st.button(
                "Queue" if busy else "Start",
                type="secondary" if busy or interrupted else "primary",
                icon=":material/playlist_add:" if busy else ":material/play_arrow:",
                key="start",
                on_click=start,
                args=(config, viewer, session.click_number("start")),
                disabled=config is None or not usable,
                help=WAITS_ITS_TURN if busy else None,
            )
            if view and interrupted:
                resume_button(view.row, viewer, busy=busy)
            else:
                _pause_button(view, mode, viewer)
            _stop_button(view, mode, viewer)
            if config:
                address.share(config, view.row.id if view else "")
        if config:
            draw_price(config)
        if view and mode is Mode.WATCH:
            _other_browser(view.row, viewer)


def _going(view: RunView | None) -> bool:
    """Whether the run on the page plays."""
    return view is not None and not view.row.status.ended and not view.row.in_queue


def _can_command(view: RunView | None, mode: Mode, viewer: str) -> bool:
    """Whether this browser may pause and stop the run, and the run still takes commands."""
    return (
        view is not None
        and _going(view)
        and mode is not Mode.WATCH
        and "stop" not in view.pending_commands
        and session.may_change(view.row, viewer)
    )


def _pause_button(view: RunView | None, mode: Mode, viewer: str) -> None:
    """Pause, or Resume where the run is paused or about to be."""
    paused = view is not None and view.row.status is RunStatus.PAUSED
    if view and paused != bool(view.pending_commands & {"pause", "resume"}):
        label, icon, callback, help_text = "Resume", "resume", unpause, "Goes on with the next round."
    else:
        label, icon, callback, help_text = "Pause", "pause", pause, "Waits after the round that it is in, until Resume."
    if view and view.row.status is RunStatus.FINISHED:
        help_text = "This run is finished. It can be forked: to go on from one of its rounds with other settings."
    st.button(
        label,
        icon=f":material/{icon}:",
        key="pause",
        on_click=callback,
        args=(view.row.id if view else "", viewer),
        disabled=not _can_command(view, mode, viewer),
        help=_TAKE_OVER_FIRST if _going(view) and mode is Mode.WATCH else help_text,
    )


def _stop_button(view: RunView | None, mode: Mode, viewer: str) -> None:
    help_text = "Ends the run after the round it is in; its rounds are kept, and it can be resumed."
    st.button(
        "Stop",
        icon=":material/stop:",
        key="stop",
        on_click=stop,
        args=(view.row.id if view else "", viewer),
        disabled=not _can_command(view, mode, viewer),
        help=_TAKE_OVER_FIRST if _going(view) and mode is Mode.WATCH else help_text,
    )


def _other_browser(row: RunRow, viewer: str) -> None:
    with st.container(horizontal=True, vertical_alignment="center", key="other-browser"):
        allowed = session.may_change(row, viewer)
        lead = "Another browser steers this run." if allowed else "This run is another visitor's."
        st.info(f"{lead} Here you watch, and the sliders only ask *what if*.", icon=":material/visibility:")
        if allowed:
            st.button(
                "Take over", icon=":material/pan_tool:", key="take-over", on_click=take_over, args=(row.id, viewer)
            )


def draw_going_run(going: RunRow | None, view: RunView) -> None:
    """A way to the run that is going, while another is shown."""
    if going is None or not (view.row.status.ended or view.row.in_queue):
        return
    with st.container(horizontal=True, vertical_alignment="center", key="elsewhere"):
        st.info(f"Another run is going: {plain(going.name or settings_words(going.config))}.")
        st.button("Show it", key="show-going", on_click=show, args=(going.id,))


def draw_queue(queue: Sequence[RunRow], shown_id: str, viewer: str) -> None:
    """The queue, with a Cancel button for each run, enabled where this viewer may cancel it."""
    if not queue:
        return
    with st.expander(f"Queue: {len(queue)} waiting", expanded=True, icon=":material/queue:", key="queue"):
        for place, row in enumerate(queue[:_MOST_LISTED], start=1):
            with st.container(horizontal=True, vertical_alignment="center", key=f"waiting:{row.id}"):
                allowed = session.may_change(row, viewer)
                mark = " (shown here)" if row.id == shown_id else ""
                st.markdown(f"{place}\\. {plain(row.name or settings_words(row.config))}{mark}")
                st.button(
                    "Cancel",
                    icon=":material/close:",
                    key=f"cancel:{row.id}",
                    on_click=cancel,
                    args=(row.id, viewer),
                    disabled=not allowed,
                    help="Takes this run out of the queue." if allowed else session.ANOTHER_S_RUN,
                )
        if len(queue) > _MOST_LISTED:
            st.caption(f"… and {len(queue) - _MOST_LISTED} more.")
