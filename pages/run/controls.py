"""The buttons of the Live page: start or queue, pause, resume, stop, cancel, take over."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import streamlit as st

from pages.parts.notices import say
from pages.parts.words import plain, settings_words
from pages.run import resume as going_on
from pages.run.steering import Mode
from pages.run.view import Shown
from pages.server import session
from pages.settings import address, panel
from pages.settings.price import draw_price
from pwff_core.config import RunConfig
from pwff_core.errors import PwffError
from pwff_core.knobs import Problem
from pwff_core.paths import default_store_path
from pwff_core.runs import scheduler
from pwff_core.runs.store import RunRow, RunStatus, Store

TO_SHOW = "live:to-show"
_MOST_LISTED = 5
_OTHERS = "Another browser steers this run; take over first."


def show(run_id: str) -> None:
    """Callback: put a run into the address."""
    st.session_state[TO_SHOW] = run_id


def start(config: RunConfig, viewer: str, click: int) -> None:
    """Callback of Start and Queue: a new run in the queue, whose engine starts at once where no other run is going."""
    if not session.is_first_call("start", click):
        return
    try:
        store = Store(default_store_path())
        with session.within_limits(store, viewer, config):
            run_id = store.create_run(config, in_queue=True, owner=viewer)
        scheduler.advance(store)
        store.take_over(run_id, viewer)
        waits = going_on.tell_place(store, run_id)
    except PwffError as error:
        say(f"The run could not be started: {error}")
        return
    if not waits:
        show(run_id)


def _asked(run_id: str, viewer: str, what: str, act: Callable[[Store], object]) -> None:
    """Asks something of a run's engine, or says why it could not be."""
    try:
        store = Store(default_store_path(), readonly=True)
        session.require_may_change(store.run(run_id), viewer)
        act(store)
    except PwffError as error:
        say(f"The run could not be {what}: {error}")


def stop(run_id: str, viewer: str) -> None:
    """Callback of Stop: ask the engine to end after the round that it is in."""
    _asked(run_id, viewer, "asked to stop", lambda store: store.request_stop(run_id, viewer))


def pause(run_id: str, viewer: str) -> None:
    """Callback of Pause: ask the engine to wait after the round that it is in."""
    _asked(run_id, viewer, "asked to pause", lambda store: store.pause(run_id, viewer))


def resume(run_id: str, viewer: str) -> None:
    """Callback of Resume."""
    _asked(run_id, viewer, "asked to go on", lambda store: store.resume(run_id, viewer))


def take_over(run_id: str, viewer: str) -> None:
    """Callback of Take over."""
    _asked(run_id, viewer, "taken over", lambda store: store.take_over(run_id, viewer))


def cancel(run_id: str, viewer: str) -> None:
    """Callback of Cancel: take a run out of the queue."""
    try:
        store = Store(default_store_path())
        session.require_may_change(store.run(run_id), viewer)
        if not store.cancel(run_id) and not store.run(run_id).status.ended:
            say("The run has started meanwhile; stop it instead.")
    except PwffError as error:
        say(f"The run could not be cancelled: {error}")


def draw(
    config: RunConfig | None,
    problems: Mapping[str, Problem],
    shown: Shown | None,
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
        interrupted = shown is not None and going_on.possible(shown.row)
        if shown and interrupted:
            going_on.tell(shown.row)
        with st.container(horizontal=True, vertical_alignment="center", key="buttons"):
            if config is None:
                st.error(f"A run cannot start like this. {panel.problem_words(problems)}")
            else:
                st.markdown(f"**{'Next run' if shown else 'Your run'}:** {plain(settings_words(config))}")
            st.button(
                "Queue" if busy else "Start",
                type="secondary" if busy or interrupted else "primary",
                icon=":material/playlist_add:" if busy else ":material/play_arrow:",
                key="start",
                on_click=start,
                args=(config, viewer, session.click_number("start")),
                disabled=config is None or not usable,
                help=going_on.WAITS_ITS_TURN if busy else None,
            )
            if shown and interrupted:
                going_on.button(shown.row, viewer, busy=busy)
            else:
                _pause_button(shown, mode, viewer)
            _stop_button(shown, mode, viewer)
            if config:
                address.share(config, shown.row.id if shown else "")
        if config:
            draw_price(config)
        if shown and mode is Mode.WATCH:
            _other_browser(shown.row, viewer)


def _going(shown: Shown | None) -> bool:
    """Whether the run that is shown plays."""
    return shown is not None and not shown.row.status.ended and not shown.row.in_queue


def _is_mine(shown: Shown | None, mode: Mode, viewer: str) -> bool:
    """Whether this browser may pause and stop it, and it takes wishes still."""
    return (
        shown is not None
        and _going(shown)
        and mode is not Mode.WATCH
        and "stop" not in shown.pending
        and session.may_change(shown.row, viewer)
    )


def _pause_button(shown: Shown | None, mode: Mode, viewer: str) -> None:
    """Pause, or Resume where the run is paused or about to be."""
    paused = shown is not None and shown.row.status is RunStatus.PAUSED
    if shown and paused != bool(shown.pending & {"pause", "resume"}):
        label, icon, act, told = "Resume", "resume", resume, "Goes on with the next round."
    else:
        label, icon, act, told = "Pause", "pause", pause, "Waits after the round that it is in, until Resume."
    if shown and shown.row.status is RunStatus.FINISHED:
        told = "This run is finished. It can be forked: to go on from one of its rounds with other settings."
    st.button(
        label,
        icon=f":material/{icon}:",
        key="pause",
        on_click=act,
        args=(shown.row.id if shown else "", viewer),
        disabled=not _is_mine(shown, mode, viewer),
        help=_OTHERS if _going(shown) and mode is Mode.WATCH else told,
    )


def _stop_button(shown: Shown | None, mode: Mode, viewer: str) -> None:
    told = "Ends the run after the round it is in; its rounds are kept, and it can be resumed."
    st.button(
        "Stop",
        icon=":material/stop:",
        key="stop",
        on_click=stop,
        args=(shown.row.id if shown else "", viewer),
        disabled=not _is_mine(shown, mode, viewer),
        help=_OTHERS if _going(shown) and mode is Mode.WATCH else told,
    )


def _other_browser(row: RunRow, viewer: str) -> None:
    with st.container(horizontal=True, vertical_alignment="center", key="other-browser"):
        mine = session.may_change(row, viewer)
        who = "Another browser steers this run." if mine else "This run is another visitor's."
        st.info(f"{who} Here you watch, and the sliders only ask *what if*.", icon=":material/visibility:")
        if mine:
            st.button(
                "Take over", icon=":material/pan_tool:", key="take-over", on_click=take_over, args=(row.id, viewer)
            )


def elsewhere(going: RunRow | None, shown: Shown) -> None:
    """A way to the run that is going, while another is shown."""
    if going is None or not (shown.row.status.ended or shown.row.in_queue):
        return
    with st.container(horizontal=True, vertical_alignment="center", key="elsewhere"):
        st.info(f"Another run is going: {plain(going.name or settings_words(going.config))}.")
        st.button("Show it", key="show-going", on_click=show, args=(going.id,))


def waiting_list(waiting: Sequence[RunRow], shown_id: str, viewer: str) -> None:
    """The queue, with a way out of it for each run that is this viewer's to take out."""
    if not waiting:
        return
    with st.expander(f"Queue: {len(waiting)} waiting", expanded=True, icon=":material/queue:", key="queue"):
        for place, row in enumerate(waiting[:_MOST_LISTED], start=1):
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
        if len(waiting) > _MOST_LISTED:
            st.caption(f"… and {len(waiting) - _MOST_LISTED} more.")
