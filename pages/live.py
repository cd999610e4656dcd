"""The Live page: set up a run, start it, watch it, steer it, stop it.

The engine is a process of its own that writes to the store; this page reads the store, and posts what it asks of the
engine. So a refresh, or a second browser with the same address, shows the same run.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, NamedTuple

import streamlit as st

from pages.parts.notices import announce, draw_notices, draw_toasts, say
from pages.parts.words import plain, sentence
from pages.run import controls, fork, origin, resume, steering
from pages.run.export import draw_export
from pages.run.replay import draw_replay, recording_for
from pages.run.steering import Mode
from pages.run.view import Shown, draw_run
from pages.server import session
from pages.server.push import ring_for
from pages.server.snapshots import TURN, Seen, seen
from pages.settings import address, panel
from pwff_core.config import ChannelConfig, RunConfig
from pwff_core.errors import StoreError
from pwff_core.figures.changes import config_at
from pwff_core.paths import default_store_path
from pwff_core.runs.recording import DEMO_ID, Recording
from pwff_core.runs.store import RunRow, RunStatus, Store

_LOOK_S = 5.0  # between a page's own looks: it keeps the control of its run, and notices who has taken that over
_ECHO_S = 2.0  # so long a browser may go on asking with an address that has been replaced
_RUN = "run"  # key of the fragment that draws it
_ADDRESS, _REPLACED, _LEFT = "live:address", "live:replaced-address", "live:left-replay"
_DRAWN, _TURNED = "live:drawn", "live:turned"


class Look(NamedTuple):
    """What the page around the run was drawn for; where any of it is otherwise, the whole page is drawn again."""

    status: RunStatus
    waits: bool
    mode: Mode
    asked: dict[str, Any]  # what can be steered, as it holds or was asked for
    pending: frozenset[str]
    waiting: tuple[str, ...]


def look_of(found: Seen, mode: Mode) -> Look:
    """The look at a run as it stands."""
    shown = found.shown
    asked = steering.asked(found.revision, shown)
    waiting = tuple(row.id for row in found.waiting)
    return Look(shown.row.status, shown.row.in_queue, mode, asked, shown.pending, waiting)


def open_store() -> Store | None:
    """The store of runs; without one, the reason is on the page."""
    try:
        return Store(default_store_path(), readonly=True)
    except StoreError as error:
        st.error(plain(sentence(str(error))))
        return None


def attached(store: Store, rows: list[RunRow]) -> RunRow | None:
    """The run to show: that of the address, or one that is going, or the newest. Its id is in the address then."""
    asked = st.query_params.get(address.RUN)
    if chosen := st.session_state.pop(controls.TO_SHOW, None):
        st.session_state[_TURNED] = asked, chosen, time.monotonic()
    before, now, at = st.session_state.get(_TURNED, (None, None, -_ECHO_S))
    if now and (chosen or (asked == before and time.monotonic() - at < _ECHO_S)):
        st.query_params[address.RUN] = asked = now  # here: what a callback writes there does not reach the browser
    if asked:
        try:
            row = store.run(asked)
            if not row.deleted:
                return row
            say(f"Run {row.id} was deleted.")
        except StoreError as error:
            say(sentence(str(error)))
        del st.query_params[address.RUN]
    found = going_of(rows) or (rows[0] if rows else None)
    if found:
        st.query_params[address.RUN] = found.id
    return found


def going_of(rows: list[RunRow]) -> RunRow | None:
    """The run that is going."""
    return next((row for row in rows if not row.status.ended and not row.in_queue), None)


def replayed(store: Store | None) -> Recording | None:
    """The recording that the address asks for; a notice where it cannot be played."""
    if st.session_state.pop(_LEFT, False) or controls.TO_SHOW in st.session_state:
        st.query_params.pop(address.REPLAY, None)
    asked = st.query_params.get(address.REPLAY)
    if not asked:
        return None
    try:
        return recording_for(store, asked)
    except StoreError as error:
        say(sentence(str(error)))
        del st.query_params[address.REPLAY]
        return None


def fill_panel(found: RunConfig | None) -> None:
    """The panel's values: those of an address that is opened, or at the first visit those of the run."""
    here = settings_in_address()
    if panel.ready() and (not here or here == st.session_state.get(_ADDRESS) or _is_echo(here)):
        return
    config, notices = address.read()
    for notice in notices:
        say(notice)
    if config or not panel.ready():
        panel.adopt(config or found or RunConfig())
    st.session_state[_ADDRESS] = here


def draw(run_id: str, drawn: Look, me: str, what_if: ChannelConfig | None) -> None:
    """The run as it stands, and the queue; where more than the run has changed, the whole page is drawn again."""
    path = default_store_path()
    try:
        with TURN:
            found = look(path, run_id, drawn, me)
            with st.container(key="waiting"):  # there even when it is empty: what is below it stays in its place
                controls.waiting_list(found.waiting, run_id, session.viewer_name())
            draw_run(found.shown, what_if=what_if)
        st.session_state[_DRAWN] = found.revision
        ring_for(_RUN, path, run_id, found.revision)
    except StoreError as error:
        st.warning(plain(sentence(str(error))))
    draw_toasts()


def listen(run_id: str, drawn: Look, me: str) -> None:
    """One of the page's own looks at the run: it draws nothing, and makes sure that the bell knows the page."""
    path = default_store_path()
    try:
        look(path, run_id, drawn, me)
        ring_for(_RUN, path, run_id, st.session_state.get(_DRAWN, 0))
    except StoreError as error:
        st.warning(plain(sentence(str(error))))
    draw_toasts()


def look(path: Path, run_id: str, drawn: Look, me: str) -> Seen:
    """The run as it stands; what is to be announced is kept for the toasts."""
    found = seen(path, run_id)
    mode = steering.mode_of(found.store, found.shown.row, found.lease, me)
    if steering.lost_control(run_id, mode):
        announce("Another browser has taken over: it steers this run now.")
    for text in steering.news(found.shown):
        announce(text)
    if look_of(found, mode) != drawn:
        st.rerun()
    return found


def page() -> None:
    st.title("Federated fine-tuning, live", anchor=False)
    me = session.identify_viewer()
    draw_toasts()
    store = open_store()
    try:
        recording = replayed(store)
        if store is None or recording:
            away(store, recording, me)
        else:
            at_a_run(store, me)
    except StoreError as error:
        st.error(plain(sentence(str(error))))


def at_a_run(store: Store, me: str) -> None:
    """The page around a run of the store, or around the recorded one while there is none."""
    rows, waiting = store.runs(), store.queue()
    row = attached(store, rows)
    if row is None:
        away(store, None, me)
        return
    found = seen(store.path, row.id, now=True)
    shown = found.shown
    mode = steering.mode_of(store, row, found.lease, me)
    fill_panel(config_at(row.config, shown.steerings))
    refused = steering.settle(store, shown, mode, me)
    found = seen(store.path, row.id, now=True)  # with what has just been asked
    shown = found.shown
    with st.sidebar:
        st.header("Settings", anchor=False)
        config, problems = panel.draw_panel(steering.marker(shown, mode), refused)
    with st.container(key="notices"):
        draw_notices()
    busy = going_of(rows) is not None or bool(waiting)
    controls.draw(config, problems, shown, mode, viewer=me, usable=True, busy=busy)
    write_address(config)
    with st.container(key="other-runs"):
        controls.elsewhere(going_of(rows), shown)
    origin.draw_origin(store, row, shown.steerings, controls.show)
    fork.draw(store, shown, mode, viewer=me, busy=busy)
    drawn = look_of(found, mode)
    st.fragment(draw, key=_RUN)(row.id, drawn, me, steering.what_if(shown, mode))
    if waiting or not shown.row.status.ended or resume.possible(shown.row):
        st.fragment(listen, run_every=_LOOK_S)(row.id, drawn, me)
    if not shown.row.in_queue:
        draw_export(store, row.id, "live")


def away(store: Store | None, recording: Recording | None, me: str) -> None:
    """The page without a run of the store: a replay, or the recorded demo at the first visit."""
    steering.rest()
    fill_panel(config_at(recording.row.config, recording.steerings) if recording else None)
    with st.sidebar:
        st.header("Settings", anchor=False)
        config, problems = panel.draw_panel()
    draw_notices()
    rows = store.runs() if store else []
    busy = any(not row.status.ended for row in rows)
    controls.draw(config, problems, None, Mode.NEXT, viewer=me, usable=store is not None, busy=busy)
    write_address(config)
    if recording:
        draw_replay(recording, draw_recorded, leave_replay)
    elif store:
        welcome()
        draw_replay(recording_for(store, DEMO_ID), draw_recorded)


def draw_recorded(recording: Recording) -> None:
    """A recording as it stands in its replay."""
    draw_run(Shown(recording.row, recording.records, recording.steerings), key="replay")


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

    A page that looks by itself asks now and then, with the address that the browser has at that moment.
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
