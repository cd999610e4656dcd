"""Push: a page's fragment is drawn again as soon as the run that it shows has changed, without the page asking.

A page that polls costs the server a run of its script at every poll, news or not: thirty people whose pages polled
twice a second took half of a core. Here one thread reads the runs for all of them, ten times a second, and pushes
where a page is behind. What it hands to Streamlit is the message that a browser sends when a fragment's timer fires.
Only an idle session gets it, so that it is never merged with something that a person has just asked for; a busy one
gets it a moment later. A browser that draws more slowly than rounds come, or whose tab is hidden, falls silent: its
own timer is late. Then nothing is pushed until it is heard again, so that nothing piles up before it.

Streamlit has no public way to run a session's fragment from outside. What is used of its inside (`_scriptrunner`,
`_client_state`, `_event_loop` of its AppSession) is that of the version that pyproject.toml asks for.
"""

from __future__ import annotations

import gc
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.runtime import get_instance
from streamlit.runtime.app_session import AppSession
from streamlit.runtime.scriptrunner import get_script_run_ctx

from pages.server.drawings import draw_ahead
from pages.server.snapshots import Snapshot, latest_snapshot
from pwff_core.errors import StoreError

GOING_S = 0.1  # between readings of a run that goes
RESTING_S = 1.0  # between readings of one that does not go, or cannot be read
CALM_S = 0.5  # between two pushes to a page: what changes faster cannot be watched
RETRY_S = 3.0  # a push that has drawn nothing for so long has got lost
SILENT_S = 12.0  # a browser that was not heard for so long is pushed nothing


@dataclass
class Subscription:
    """A session's page, and the run that it shows."""

    path: Path
    run_id: str
    fragment: str  # Streamlit's id of the fragment that draws the run
    revision: int  # of the snapshot that is drawn
    heard_at: float  # when its browser last asked for anything by itself, by time.monotonic()
    not_before: float  # when the next push may be

    @property
    def run(self) -> tuple[Path, str]:
        """The store and the id of the run."""
        return self.path, self.run_id


class Pusher:
    """All pages of this server that show a run, by session, and the thread that watches the runs for them.

    Args:
        find_session: a session by its id; None once it has gone.
        read: the newest snapshot of a run; StoreError where it cannot be read.
    """

    def __init__(
        self,
        find_session: Callable[[str], AppSession | None],
        read: Callable[[Path, str], Snapshot] = lambda path, run_id: latest_snapshot(path, run_id, now=True),
    ) -> None:
        self._find_session, self._read = find_session, read
        self._subscriptions: dict[str, Subscription] = {}
        self._changed = threading.Condition()  # held while subscriptions come or go
        self._thread: threading.Thread | None = None

    @property
    def subscribers(self) -> list[str]:
        """The sessions that wait for a push."""
        with self._changed:
            return list(self._subscriptions)

    def subscribe(self, session_id: str, subscription: Subscription, *, heard: bool) -> None:
        """Takes the place of the session's former subscription; `heard`: the browser has asked by itself."""
        with self._changed:
            before = self._subscriptions.get(session_id)
            if before and not heard:
                subscription.heard_at = before.heard_at
            self._subscriptions[session_id] = subscription
            self._changed.notify()

    def start(self) -> None:
        """Starts the thread, unless it works already."""
        with self._changed:
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._watch, name="push", daemon=True)
                self._thread.start()

    def _watch(self) -> None:
        # the libraries, loaded by now, stay as long as the server: without them a search for garbage, which stops all
        # pages every few rounds, has a fifth of the objects to look at
        gc.collect()
        gc.freeze()
        due: dict[tuple[Path, str], float] = {}
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._subscriptions)
                runs = {subscription.run for subscription in self._subscriptions.values()}
            now = time.monotonic()
            due = {run: due.get(run, now) for run in runs}
            for run in (run for run in due if due[run] <= now):
                due[run] = now + self.push(*run)
            time.sleep(GOING_S)

    def push(self, path: Path, run_id: str) -> float:
        """Reads a run, if it has subscribers, and pushes to those that are behind; returns the seconds until the next.

        Sessions that have gone, or show another page, are forgotten.
        """
        with self._changed:
            subscriptions = dict(self._subscriptions)
        sessions = [
            (session, subscription)
            for session_id, subscription in subscriptions.items()
            if subscription.run == (path, run_id) and (session := self._session(session_id, subscription))
        ]
        if not sessions:
            return RESTING_S
        try:
            snapshot = self._read(path, run_id)
        except StoreError:
            return RESTING_S  # the page says so when it polls
        behind = [(session, page) for session, page in sessions if page.revision != snapshot.revision]
        if behind:
            draw_ahead(snapshot.view)
        for session, page in behind:
            now = time.monotonic()
            if now >= page.not_before and now - page.heard_at <= SILENT_S:
                session._event_loop.call_soon_threadsafe(_request_fragment, session, page)
        return GOING_S if snapshot.queue or not snapshot.view.row.status.ended else RESTING_S

    def _session(self, session_id: str, subscription: Subscription) -> AppSession | None:
        session = self._find_session(session_id)
        if session is not None and session.has_fragment(subscription.fragment):
            return session
        with self._changed:
            if self._subscriptions.get(session_id) is subscription:
                del self._subscriptions[session_id]
        return None


def _app_session(session_id: str) -> AppSession | None:
    session = get_instance().get_app_session(session_id)
    return session if isinstance(session, AppSession) else None  # in a test of a page there is none


_PUSHER = Pusher(_app_session)


def subscribe(fragment: str, path: Path, run_id: str, revision: int) -> None:
    """Has the fragment of this key drawn again, in this session, once the run has another revision than this one."""
    context = get_script_run_ctx()
    assert context  # this is a page
    if _app_session(context.session_id) is None:
        return
    now = time.monotonic()
    for fragment_id in context.fragment_storage.resolve_target(fragment):
        heard = fragment_id not in (context.fragment_ids_this_run or ())  # otherwise it is the answer to a push
        subscription = Subscription(path, run_id, fragment_id, revision, heard_at=now, not_before=now + CALM_S)
        _PUSHER.subscribe(context.session_id, subscription, heard=heard)
        _PUSHER.start()


def _request_fragment(session: AppSession, page: Subscription) -> None:
    """On Streamlit's event loop: asks an idle session for its fragment."""
    if session._scriptrunner is not None:
        return
    page.not_before = time.monotonic() + RETRY_S
    message = BackMsg()
    message.rerun_script.CopyFrom(session._client_state)  # address and page as they are
    for name in ("widget_states", "cached_message_hashes"):  # nothing was touched, and the browser may keep less by now
        message.rerun_script.ClearField(name)
    message.rerun_script.fragment_id = page.fragment
    message.rerun_script.is_auto_rerun = True
    session.handle_backmsg(message)
