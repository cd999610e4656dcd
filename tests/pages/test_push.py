"""A page that is behind gets one push, and a session that is busy or gone gets none."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.proto.ClientState_pb2 import ClientState
from streamlit.runtime.app_session import AppSession
from streamlit.runtime.pages_manager import PagesManager
from streamlit.runtime.runtime import Runtime
from streamlit.runtime.scriptrunner import ScriptRunContext

from pages.server.push import GOING_S, RESTING_S, SILENT_S, Pusher, Subscription
from pages.server.snapshots import Snapshot, latest_snapshot
from pwff_core.config import RunConfig
from pwff_core.runs.store import RunStatus, Store
from tests.support import scripted


class Loop:
    def call_soon_threadsafe(self, call: Callable[..., None], *arguments: object) -> None:
        call(*arguments)


@dataclass
class Session:
    """As much of Streamlit's AppSession as the pusher knows."""

    fragments: tuple[str, ...] = ("f",)
    received: list[BackMsg] = field(default_factory=list)
    closes_page: bool = False  # at the first message
    _scriptrunner: object | None = None
    _event_loop: Loop = field(default_factory=Loop)
    _client_state: ClientState = field(default_factory=lambda: ClientState(query_string="run=x", page_script_hash="p"))

    def has_fragment(self, fragment: str) -> bool:
        return fragment in self.fragments

    def handle_backmsg(self, message: BackMsg) -> None:
        self.received.append(message)
        if self.closes_page:
            self.fragments = ()


class WatchedRun:
    """A run of the store that goes, and a page of the session "viewer" that shows it."""

    def __init__(self, store: Store) -> None:
        self.store, self.run_id = store, store.create_run(RunConfig())
        store.claim(self.run_id)
        self.session = Session()
        self.sessions: dict[str, Session] = {"viewer": self.session}
        self.reads = 0
        self.pusher = Pusher(self.sessions.get, self.read)  # type: ignore[arg-type]  # stands for an AppSession
        revision = latest_snapshot(store.path, self.run_id, now=True).revision
        self.page = Subscription(store.path, self.run_id, "f", revision, heard_at=time.monotonic(), not_before=0.0)
        self.pusher.subscribe("viewer", self.page, heard=True)

    def read(self, path: Path, run_id: str) -> Snapshot:
        self.reads += 1
        return latest_snapshot(path, run_id, now=True)

    def append(self, number: int) -> None:
        self.store.append(self.run_id, scripted.whole_run(self.run_id)[number])

    def push(self) -> float:
        return self.pusher.push(self.store.path, self.run_id)


@pytest.fixture
def watched(tmp_path: Path) -> WatchedRun:
    return WatchedRun(Store(tmp_path / "runs.sqlite"))


def test_a_page_that_is_behind_gets_a_timer_s_message(watched: WatchedRun) -> None:
    assert watched.push() == GOING_S and not watched.session.received
    watched.append(0)
    watched.push()
    (message,) = watched.session.received
    assert message.rerun_script == ClientState(
        query_string="run=x", page_script_hash="p", fragment_id="f", is_auto_rerun=True
    )


def test_a_push_is_repeated_only_when_it_got_lost(watched: WatchedRun) -> None:
    watched.append(0)
    watched.push()
    watched.push()
    assert len(watched.session.received) == 1
    watched.page.not_before = 0.0
    watched.push()
    assert len(watched.session.received) == 2


def test_a_silent_browser_is_left_alone_until_it_is_heard(watched: WatchedRun) -> None:
    silent_since = watched.page.heard_at = time.monotonic() - SILENT_S
    watched.append(0)
    watched.push()
    assert not watched.session.received
    answer = dataclasses.replace(watched.page, heard_at=time.monotonic())
    watched.pusher.subscribe("viewer", answer, heard=False)
    assert answer.heard_at == silent_since
    watched.push()
    assert not watched.session.received
    watched.pusher.subscribe("viewer", dataclasses.replace(watched.page, heard_at=time.monotonic()), heard=True)
    watched.push()
    assert watched.session.received


def test_a_busy_session_gets_its_push_once_it_is_idle(watched: WatchedRun) -> None:
    watched.append(0)
    watched.session._scriptrunner = object()
    watched.push()
    assert not watched.session.received
    watched.session._scriptrunner = None
    watched.push()
    assert len(watched.session.received) == 1


@pytest.mark.parametrize("gone", [True, False])
def test_a_session_that_has_gone_or_shows_another_page_is_forgotten(watched: WatchedRun, gone: bool) -> None:
    watched.push()
    assert watched.pusher.subscribers == ["viewer"] and watched.reads == 1
    watched.session.fragments = ()
    if gone:
        watched.sessions.clear()
    assert watched.push() == RESTING_S
    assert watched.pusher.subscribers == [] and watched.reads == 1  # the store is read for nobody
    assert not watched.session.received


def test_a_run_that_does_not_go_is_read_less_often(watched: WatchedRun) -> None:
    watched.store.finish(watched.run_id, RunStatus.STOPPED)
    assert watched.push() == RESTING_S and len(watched.session.received) == 1
    watched.store.path.unlink()
    assert watched.push() == RESTING_S


def test_the_thread_pushes_by_itself_and_forgets_who_leaves(watched: WatchedRun) -> None:
    watched.session.closes_page = True
    watched.append(0)
    watched.pusher.start()
    give_up_at = time.monotonic() + 60
    while watched.pusher.subscribers and time.monotonic() < give_up_at:
        time.sleep(0.01)
    assert watched.session.received and not watched.pusher.subscribers


def test_streamlit_has_the_internals_that_the_pages_use() -> None:
    """They are not public: another version may lack them."""
    made_at_start = AppSession.__init__.__code__.co_names
    assert {"_scriptrunner", "_client_state", "_event_loop"} <= set(made_at_start)
    assert callable(AppSession.has_fragment) and callable(AppSession.handle_backmsg)
    assert callable(Runtime.get_app_session)
    assert {"fragment_storage", "fragment_ids_this_run"} <= {slot.name for slot in dataclasses.fields(ScriptRunContext)}
    assert {"widget_states", "cached_message_hashes", "fragment_id", "is_auto_rerun"} <= set(
        ClientState.DESCRIPTOR.fields_by_name
    )
    assert isinstance(PagesManager.uses_pages_directory, bool | None)
