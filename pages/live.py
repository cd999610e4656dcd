"""The Live page: set up a run, start it, watch it, steer it, stop it.

The engine is a process of its own that writes to the store; this page reads the store, and posts what it asks of the
engine. So a refresh, or a second browser with the same address, shows the same run.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, NamedTuple

import streamlit as st

from pages.parts.notices import announce, draw_notices, draw_toasts, errors_on_page, say
from pages.parts.words import sentence
from pages.run import controls, fork, origin, steering
from pages.run.export import draw_export, run_offer
from pages.run.replay import draw_replay, recording_for
from pages.run.resume import can_resume
from pages.run.steering import Mode
from pages.run.view import draw_run
from pages.server import session
from pages.server.drawings import RunView
from pages.server.push import subscribe
from pages.server.snapshots import DRAWING_TURN, Snapshot, latest_snapshot
from pages.settings import address, panel
from pwff_core.config import ChannelConfig, RunConfig
from pwff_core.errors import StoreError
from pwff_core.figures.changes import config_at
from pwff_core.paths import default_store_path
from pwff_core.runs.recording import DEMO_ID, Recording
from pwff_core.runs.store import RunRow, RunStatus, Store

_POLL_S = 5.0  # between a page's own polls: it keeps control of its run, and notices a browser that has taken over
_ECHO_S = 2.0  # so long a browser may go on asking with an address that has been replaced
_RUN_FRAGMENT = "run"  # key of the fragment that draws the run
_ADDRESS, _REPLACED, _LEFT = "live:address", "live:replaced-address", "live:left-replay"
_REVISION, _SWITCH = "live:drawn", "live:turned"


class PageState(NamedTuple):
    """What the page around the run was drawn for; where any of it differs, the whole page is drawn again."""

    status: RunStatus
    waits: bool
    mode: Mode
    values: dict[str, Any]  # what can be steered, as it holds or was asked for
    pending: frozenset[str]
    queue: tuple[str, ...]


def page_state(snapshot: Snapshot, mode: Mode) -> PageState:
    """The state for which the page around a run is drawn."""
    view = snapshot.view
    values = steering.values_of_revision(snapshot.revision, view)
    queue = tuple(row.id for row in snapshot.queue)
    return PageState(view.row.status, view.row.in_queue, mode, values, view.pending_commands, queue)


def open_store() -> Store | None:
    """The store of runs; without one, the reason is on the page."""
    store = None
    with errors_on_page():
        store = Store(default_store_path(), readonly=True)
    return store


def run_to_show(store: Store, rows: list[RunRow]) -> RunRow | None:
    """The run of the address, or one that is going, or the newest; its id is then in the address."""
    requested = st.query_params.get(address.RUN)
    if chosen := st.session_state.pop(controls.TO_SHOW, None):
        st.session_state[_SWITCH] = requested, chosen, time.monotonic()
    before, now, at = st.session_state.get(_SWITCH, (None, None, -_ECHO_S))
    if now and (chosen or (requested == before and time.monotonic() - at < _ECHO_S)):
        # here, as what a callback writes to the address does not reach the browser
        st.query_params[address.RUN] = requested = now
    if requested:
        try:
            row = store.run(requested)
            if not row.deleted:
                return row
            say(f"Run {row.id} was deleted.")
        except StoreError as error:
            say(sentence(str(error)))
        del st.query_params[address.RUN]
    chosen_row = going_run(rows) or (rows[0] if rows else None)
    if chosen_row:
        st.query_params[address.RUN] = chosen_row.id
    return chosen_row


def going_run(rows: list[RunRow]) -> RunRow | None:
    """The run that is going."""
    return next((row for row in rows if not row.status.ended and not row.in_queue), None)


def recording_to_show(store: Store | None) -> Recording | None:
    """The recording that the address asks for; a notice where it cannot be played."""
    if st.session_state.pop(_LEFT, False) or controls.TO_SHOW in st.session_state:
        st.query_params.pop(address.REPLAY, None)
    requested = st.query_params.get(address.REPLAY)
    if not requested:
        return None
    try:
        return recording_for(store, requested)
    except StoreError as error:
        say(sentence(str(error)))
        del st.query_params[address.REPLAY]
        return None


def fill_panel(run_config: RunConfig | None) -> None:
    """The panel's values: those of an address that is opened, or at the first visit those of the run."""
    here = settings_in_address()
    if panel.ready() and (not here or here == st.session_state.get(_ADDRESS) or _is_echo(here)):
        return
    config, notices = address.read()
    for notice in notices:
        say(notice)
    if config or not panel.ready():
        panel.adopt(config or run_config or RunConfig())
    st.session_state[_ADDRESS] = here


def draw_live(run_id: str, state: PageState, viewer: str, what_if: ChannelConfig | None) -> None:
    """The run as it stands, and the queue; where more than the run has changed, the whole page is drawn again."""
    path = default_store_path()
    with errors_on_page(st.warning):
        with DRAWING_TURN:
            snapshot = check_page(path, run_id, state, viewer)
            with st.container(key="waiting"):  # there even when it is empty: what is below it stays in its place
                controls.draw_queue(snapshot.queue, run_id, session.viewer_name())
            draw_run(snapshot.view, what_if=what_if)
        st.session_state[_REVISION] = snapshot.revision
        subscribe(_RUN_FRAGMENT, path, run_id, snapshot.revision)
    draw_toasts()


def poll(run_id: str, state: PageState, viewer: str) -> None:
    """One of the page's own polls: it draws nothing, and makes sure that the page is subscribed."""
    path = default_store_path()
    with errors_on_page(st.warning):
        check_page(path, run_id, state, viewer)
        subscribe(_RUN_FRAGMENT, path, run_id, st.session_state.get(_REVISION, 0))
    draw_toasts()


def check_page(path: Path, run_id: str, state: PageState, viewer: str) -> Snapshot:
    """The run as it stands; what is to be announced is kept for the toasts.

    Where the page around the run was drawn for another state, it is drawn again.
    """
    snapshot = latest_snapshot(path, run_id)
    mode = steering.mode_of(snapshot.store, snapshot.view.row, snapshot.lease, viewer)
    if steering.lost_control(run_id, mode):
        announce("Another browser has taken over: it steers this run now.")
    for text in steering.news(snapshot.view):
        announce(text)
    if page_state(snapshot, mode) != state:
        st.rerun()
    return snapshot


def page() -> None:
    st.title("Federated fine-tuning, live", anchor=False)
    viewer = session.identify_viewer()
    draw_toasts()
    store = open_store()
    with errors_on_page():
        recording = recording_to_show(store)
        if store is None or recording:
            page_without_run(store, recording, viewer)
        else:
            page_of_run(store, viewer)


def page_of_run(store: Store, viewer: str) -> None:
    """The page around a run of the store, or around the recorded one while there is none."""
    rows, queue = store.runs(), store.queue()
    row = run_to_show(store, rows)
    if row is None:
        page_without_run(store, None, viewer)
        return
    snapshot = latest_snapshot(store.path, row.id, now=True)
    mode = steering.mode_of(store, row, snapshot.lease, viewer)
    fill_panel(config_at(row.config, snapshot.view.steerings))
    problem = steering.reconcile(store, snapshot.view, mode, viewer)
    snapshot = latest_snapshot(store.path, row.id, now=True)  # with what has just been asked
    view = snapshot.view
    with st.sidebar:
        st.header("Settings", anchor=False)
        config, problems = panel.draw_panel(steering.marker(view, mode), problem)
    with st.container(key="notices"):
        draw_notices()
    busy = going_run(rows) is not None or bool(queue)
    controls.draw_controls(config, problems, view, mode, viewer=viewer, usable=True, busy=busy)
    write_address(config)
    with st.container(key="other-runs"):
        controls.draw_going_run(going_run(rows), view)
    origin.draw_origin(store, row, view.steerings, controls.show)
    fork.draw_fork(store, view, mode, viewer=viewer, busy=busy)
    state = page_state(snapshot, mode)
    st.fragment(draw_live, key=_RUN_FRAGMENT)(row.id, state, viewer, steering.what_if_channel(view, mode))
    if queue or not view.row.status.ended or can_resume(view.row):
        st.fragment(poll, run_every=_POLL_S)(row.id, state, viewer)
    if not view.row.in_queue:
        draw_export(run_offer(store, row.id), "live")


def page_without_run(store: Store | None, recording: Recording | None, viewer: str) -> None:
    """The page without a run of the store: a replay, or the recorded demo at the first visit."""
    steering.forget_run()
    fill_panel(config_at(recording.row.config, recording.steerings) if recording else None)
    with st.sidebar:
        st.header("Settings", anchor=False)
        config, problems = panel.draw_panel()
    draw_notices()
    rows = store.runs() if store else []
    busy = any(not row.status.ended for row in rows)
    controls.draw_controls(config, problems, None, Mode.NEXT, viewer=viewer, usable=store is not None, busy=busy)
    write_address(config)
    if recording:
        draw_replay(recording, draw_recording, leave_replay)
    elif store:
        welcome()
        draw_replay(recording_for(store, DEMO_ID), draw_recording)


def draw_recording(recording: Recording) -> None:
    """A recording as it stands in its replay."""
    draw_run(RunView(recording.row, recording.records, recording.steerings), scope="replay")


def leave_replay() -> None:
    """Callback: back to the runs of the store."""
    st.session_state[_LEFT] = True


def write_address(config: RunConfig | None) -> None:
    """The settings into the address, so that it can be shared and a refresh loses nothing."""
    if not config:
        return
    address.write(config)
    before, now = st.session_state.get(_ADDRESS), settings_in_address()
    if before != now:
        st.session_state[_REPLACED] = [*_lately_replaced(), (time.monotonic(), before)]
    st.session_state[_ADDRESS] = now


def _is_echo(here: dict[str, list[str]]) -> bool:
    """Whether an address was the page's own until lately: the browser had not heard of the new one when it asked.

    A page that polls asks now and then, with the address that the browser has at that moment.
    """
    return any(before == here for _, before in _lately_replaced())


def _lately_replaced() -> list[tuple[float, dict[str, list[str]] | None]]:
    """When this page has written another address over which, in the last _ECHO_S seconds."""
    now = time.monotonic()
    return [(at, before) for at, before in st.session_state.get(_REPLACED, []) if now - at < _ECHO_S]


def settings_in_address() -> dict[str, list[str]]:
    """What the address holds beside the run."""
    names = (name for name in st.query_params if name not in (address.RUN, address.REPLAY))
    return {name: st.query_params.get_all(name) for name in names}


def welcome() -> None:
    """What will happen, while there is no run to show."""
    st.info(
        "No run yet. Press **Start**: each client then really trains a small language model on its own texts, on "
        "this computer; a simulated radio channel carries what it uploads; the server averages it and sends it back. "
        "Then the clients learn together what a helpful and what a harmless answer is, and each model is aligned with "
        "what its own owner wants. Every round adds a point to the charts, the first within about 15 seconds. "
        "Until then, a recorded run plays below.",
        icon=":material/waving_hand:",
    )


page()
