"""The bell rings once where a page is behind, and never for a session that is busy or gone."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.proto.ClientState_pb2 import ClientState

from pages.server import push
from pages.server.push import LOOK_S, REST_S, SILENT_S, _Bell, _Listener
from pages.server.snapshots import seen
from pwff_core.config import RunConfig
from pwff_core.runs.store import RunStatus, Store
from tests.support import scripted

_LOOK_FOR_ALL = _Bell._look_for_all


class Loop:
    def call_soon_threadsafe(self, call: Callable[..., None], *arguments: object) -> None:
        call(*arguments)


@dataclass
class Session:
    """As much of Streamlit's AppSession as the bell knows."""

    fragments: tuple[str, ...] = ("f",)
    got: list[BackMsg] = field(default_factory=list)
    _scriptrunner: object | None = None
    _event_loop: Loop = field(default_factory=Loop)
    _client_state: ClientState = field(default_factory=lambda: ClientState(query_string="run=x", page_script_hash="p"))

    def has_fragment(self, fragment: str) -> bool:
        return fragment in self.fragments

    def handle_backmsg(self, message: BackMsg) -> None:
        self.got.append(message)


class Server:
    def __init__(self, **sessions: Session) -> None:
        self._sessions = sessions

    def get_app_session(self, session_id: str) -> Session | None:
        return self._sessions.get(session_id)


@dataclass
class Watched:
    """A run of the store that goes, and a page of this session that shows it."""

    store: Store
    run_id: str
    session: Session
    bell: _Bell
    listener: _Listener

    def append(self, number: int) -> None:
        self.store.append(self.run_id, scripted.whole_run(self.run_id)[number])

    def look(self) -> float:
        return self.bell._ring_where_behind((self.store.path, self.run_id), {"me": self.listener})


@pytest.fixture
def watched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Watched:
    store, session = Store(tmp_path / "runs.sqlite"), Session()
    monkeypatch.setattr(push, "get_instance", lambda: Server(me=session))
    monkeypatch.setattr(_Bell, "_look_for_all", lambda self: None)  # a test looks when it wants to
    run_id = store.create_run(RunConfig())
    store.claim(run_id)
    revision = seen(store.path, run_id, now=True).revision
    listener = _Listener(store.path, run_id, "f", revision, heard_at=time.monotonic(), not_before=0.0)
    return Watched(store, run_id, session, _Bell(), listener)


def test_a_page_that_is_behind_is_rung_for_with_a_timer_s_message(watched: Watched) -> None:
    assert watched.look() == LOOK_S and not watched.session.got
    watched.append(0)
    watched.look()
    (message,) = watched.session.got
    assert message.rerun_script == ClientState(
        query_string="run=x", page_script_hash="p", fragment_id="f", is_auto_rerun=True
    )


def test_a_ring_is_repeated_only_when_it_was_not_heard(watched: Watched) -> None:
    watched.append(0)
    watched.look()
    watched.look()
    assert len(watched.session.got) == 1
    watched.listener.not_before = 0.0
    watched.look()
    assert len(watched.session.got) == 2


def test_a_browser_that_has_fallen_silent_is_left_alone_until_it_is_heard(watched: Watched) -> None:
    silent_since = watched.listener.heard_at = time.monotonic() - SILENT_S
    watched.append(0)
    watched.look()
    assert not watched.session.got
    watched.bell.listen("me", watched.listener, heard=True)
    answer = dataclasses.replace(watched.listener, heard_at=time.monotonic())
    watched.bell.listen("me", answer, heard=False)
    assert answer.heard_at == silent_since
    asked = dataclasses.replace(watched.listener, heard_at=time.monotonic())
    watched.bell.listen("me", asked, heard=True)
    watched.listener = asked
    watched.look()
    assert watched.session.got


def test_a_busy_session_is_rung_for_once_it_is_idle(watched: Watched) -> None:
    watched.append(0)
    watched.session._scriptrunner = object()
    watched.look()
    assert not watched.session.got
    watched.session._scriptrunner = None
    watched.look()
    assert len(watched.session.got) == 1


@pytest.mark.parametrize("gone", [True, False])
def test_who_has_gone_or_shows_another_page_is_forgotten_and_nobody_looks_for_them(
    watched: Watched, gone: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    watched.bell._listeners["me"] = watched.listener
    watched.look()
    assert watched.bell._listeners
    watched.session.fragments = ()
    if gone:
        monkeypatch.setattr(push, "get_instance", Server)
    monkeypatch.delattr(push, "seen")
    assert watched.look() == REST_S
    assert not watched.session.got and not watched.bell._listeners


def test_a_run_that_does_not_go_is_looked_at_less_often(watched: Watched) -> None:
    watched.store.finish(watched.run_id, RunStatus.STOPPED)
    assert watched.look() == REST_S and len(watched.session.got) == 1
    watched.store.path.unlink()
    assert watched.look() == REST_S


def test_the_thread_rings_by_itself_and_forgets_who_leaves(watched: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_Bell, "_look_for_all", _LOOK_FOR_ALL)

    def leaves(message: BackMsg) -> None:
        watched.session.fragments = ()

    monkeypatch.setattr(watched.session, "handle_backmsg", leaves)
    watched.bell.listen("me", watched.listener, heard=True)
    watched.append(0)
    give_up_at = time.monotonic() + 60
    while watched.bell._listeners and time.monotonic() < give_up_at:
        time.sleep(0.01)
    assert not watched.session.fragments and not watched.bell._listeners
