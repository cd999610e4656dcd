"""The bell: a page's fragment is drawn again as soon as the run that it shows is otherwise, without having asked.

A page that looks for itself costs the server a run of its script at every look, news or not: thirty people who looked
twice a second took half of a core. Here one thread looks for all of them, ten times a second, and rings where a page
is behind. What it hands to Streamlit is the message that a browser sends when a fragment's timer fires. Only a session
that does nothing else gets it, so that it is never merged with something that a person has just asked for; a busy one
is rung for at the next look. A browser that draws more slowly than rounds come, or whose tab is hidden, falls silent:
its own timer is late. Then nothing is sent until it is heard again, so that nothing piles up before it.

Streamlit has no public way to run a session's fragment from outside; what is used of its inside (`_scriptrunner`,
`_client_state`, `_event_loop` of its AppSession) is that of the version that pyproject.toml asks for.
"""

from __future__ import annotations

import gc
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.runtime import get_instance
from streamlit.runtime.app_session import AppSession
from streamlit.runtime.scriptrunner import get_script_run_ctx

from pages.run.view import make_ready
from pages.server.snapshots import seen
from pwff_core.errors import StoreError

LOOK_S = 0.1  # between looks at a run that goes
REST_S = 1.0  # between looks at one that does not, or cannot be read
CALM_S = 0.5  # between two rings for a page: what changes faster cannot be watched
AGAIN_S = 3.0  # a ring that has drawn nothing for so long was not heard
SILENT_S = 12.0  # a browser that was not heard for so long is not rung for


@dataclass
class _Listener:
    """A session's page."""

    path: Path
    run_id: str
    fragment: str  # Streamlit's id of the fragment that draws the run
    revision: int  # of the run that it shows
    heard_at: float  # when its browser last asked for anything by itself, by time.monotonic()
    not_before: float  # when it is rung for again


class _Bell:
    """All pages of this server that show a run, by session, and the thread that looks for them."""

    def __init__(self) -> None:
        self._listeners: dict[str, _Listener] = {}
        self._changed = threading.Condition()  # held while listeners come or go
        self._thread: threading.Thread | None = None

    def listen(self, session_id: str, listener: _Listener, *, heard: bool) -> None:
        with self._changed:
            before = self._listeners.get(session_id)
            if before and not heard:
                listener.heard_at = before.heard_at
            self._listeners[session_id] = listener
            self._changed.notify()
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._look_for_all, name="bell", daemon=True)
                self._thread.start()

    def _look_for_all(self) -> None:
        # the libraries, loaded by now, stay as long as the server: without them a search for garbage, which stops all
        # pages every few rounds, has a fifth of the objects to look at
        gc.collect()
        gc.freeze()
        due: dict[tuple[Path, str], float] = {}
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._listeners)
                listeners = dict(self._listeners)
            now = time.monotonic()
            due = {run: due.get(run, now) for run in {(one.path, one.run_id) for one in listeners.values()}}
            for run in (run for run in due if due[run] <= now):
                theirs = {name: one for name, one in listeners.items() if (one.path, one.run_id) == run}
                due[run] = now + self._ring_where_behind(run, theirs)
            time.sleep(LOOK_S)

    def _ring_where_behind(self, run: tuple[Path, str], listeners: Mapping[str, _Listener]) -> float:
        """One look at a run, if there is anybody to look for; returns how long it can be left alone."""
        there = [(session, one) for name, one in listeners.items() if (session := self._session(name, one))]
        if not there:
            return REST_S
        try:
            found = seen(*run, now=True)
        except StoreError:
            return REST_S  # the page's own look says so
        behind = [(session, one) for session, one in there if one.revision != found.revision]
        if behind:
            make_ready(found.shown)
        for session, one in behind:
            now = time.monotonic()
            if now >= one.not_before and now - one.heard_at <= SILENT_S:
                session._event_loop.call_soon_threadsafe(_hand_over, session, one)
        return LOOK_S if found.waiting or not found.shown.row.status.ended else REST_S

    def _session(self, session_id: str, listener: _Listener) -> AppSession | None:
        """Who listens; forgotten if they have gone, or show another page."""
        session = get_instance().get_app_session(session_id)
        if session is not None and session.has_fragment(listener.fragment):
            return session
        with self._changed:
            if self._listeners.get(session_id) is listener:
                del self._listeners[session_id]
        return None


_BELL = _Bell()


def ring_for(fragment: str, path: Path, run_id: str, revision: int) -> None:
    """Has the fragment of this key drawn again, in this session, once the run is otherwise than at `revision`."""
    context = get_script_run_ctx()
    assert context  # this is a page
    if not isinstance(get_instance().get_app_session(context.session_id), AppSession):  # nobody looks: a test
        return
    now = time.monotonic()
    for found in context.fragment_storage.resolve_target(fragment):
        heard = found not in (context.fragment_ids_this_run or ())  # not an answer to the bell
        _BELL.listen(context.session_id, _Listener(path, run_id, found, revision, now, now + CALM_S), heard=heard)


def _hand_over(session: AppSession, listener: _Listener) -> None:
    """On Streamlit's event loop: asks an idle session for its fragment."""
    if session._scriptrunner is not None:
        return
    listener.not_before = time.monotonic() + AGAIN_S
    asked = BackMsg()
    asked.rerun_script.CopyFrom(session._client_state)  # address and page as they are
    for name in ("widget_states", "cached_message_hashes"):  # nothing was touched, and the browser may keep less by now
        asked.rerun_script.ClearField(name)
    asked.rerun_script.fragment_id = listener.fragment
    asked.rerun_script.is_auto_rerun = True
    session.handle_backmsg(asked)
