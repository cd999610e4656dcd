"""Browsers without a window: each speaks Streamlit's protocol over a websocket of its own, as its web page does.

As a web page does, a browser opens /_stcore/stream with the subprotocol "streamlit" and requests a run of the script
(BackMsg.rerun_script), again whenever a fragment's timer fires (ForwardMsg.auto_rerun). It sends the state of its
widgets and the hashes of its cached messages, replaces a message that only names a hash (ForwardMsg.ref_hash) by the
cached one, and drops messages that it has not used for MAX_AGE runs. One component of the app answers, with the
browser's own id (pages/server/session.py). A test compares what they receive with what Chromium receives.
"""

from __future__ import annotations

import asyncio
import json
import re
import secrets
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg
from streamlit.proto.WidgetStates_pb2 import WidgetState
from websockets.asyncio.client import ClientConnection, connect

MAX_AGE = 2  # runs of the script; Streamlit's global.maxCachedMessageAge
_ROUND = re.compile(r"after round (\d+) of")  # in the words of a chart
_VIEWER = "pwff.viewer"


class Arrival(NamedTuple):
    """A round whose first message a browser has received."""

    round: int
    at: float  # time.monotonic()


class CachedMessage(NamedTuple):
    """A large message in a browser's cache."""

    message: ForwardMsg
    used_at: int  # the number of finished runs when it was last used

    def stale(self, runs: int, fragments: Sequence[str]) -> bool:
        """Whether it is dropped at the end of a run of these fragments, or of the whole script."""
        drawn_anew = not fragments or self.message.delta.fragment_id in fragments
        return drawn_anew and runs - self.used_at > MAX_AGE


def component_in(message: ForwardMsg) -> Any | None:
    """The component in a message, if it has one."""
    if message.WhichOneof("type") != "delta" or message.delta.WhichOneof("type") != "new_element":
        return None
    element = message.delta.new_element
    return element.bidi_component if element.WhichOneof("type") == "bidi_component" else None


def round_in(message: ForwardMsg) -> int:
    """The last round that a chart in the message draws; 0 for any other message."""
    component = component_in(message)
    match = _ROUND.search(component.json or component.mixed.json) if component is not None else None
    return int(match[1]) if match else 0


class Browser:
    """One browser on the Live page."""

    def __init__(self, address: str, query: str) -> None:
        self._origin, self._query = address, query
        self._id = secrets.token_hex(16)
        self._cache: dict[str, CachedMessage] = {}
        self._widgets: dict[str, WidgetState] = {}
        self._timers: dict[str, tuple[float, asyncio.Task[None]]] = {}
        self._page, self._runs = "", 0
        self.arrivals: list[Arrival] = []
        self.got_bytes = self.sent_bytes = self.got_messages = self.requests = 0
        self.errors: list[str] = []
        self.received: list[ForwardMsg] | None = None  # a list here gets every message

    async def watch(self, on_open: Callable[[], object]) -> None:
        """Stays on the page until cancelled; `on_open` is called after its first run."""
        address = f"{self._origin.replace('http', 'ws', 1)}/_stcore/stream"
        # the second entry is a cookie's value, which the server ignores where nobody logs in
        async with connect(
            address, origin=self._origin, subprotocols=["streamlit", "PLACEHOLDER_AUTH_TOKEN"], max_size=None
        ) as socket:
            await self._request(socket)
            try:
                async for raw in socket:
                    at = time.monotonic()
                    self.got_bytes += len(raw)
                    self.got_messages += 1
                    message = ForwardMsg.FromString(raw)
                    whole = self._resolve(message)
                    if self.received is not None:
                        self.received.append(whole)
                    await self._handle(socket, whole, at)
                    if message.WhichOneof("type") == "script_finished" and self._runs == 1:
                        on_open()
                self.errors.append("The server has closed the connection.")
            finally:
                for _, timer in self._timers.values():
                    timer.cancel()

    def _resolve(self, message: ForwardMsg) -> ForwardMsg:
        """The message itself, or the cached one whose hash it names."""
        kind = message.WhichOneof("type")
        if kind == "ref_hash":
            cached = self._cache[message.ref_hash].message
            self._cache[message.ref_hash] = CachedMessage(cached, self._runs)
            whole = ForwardMsg()
            whole.CopyFrom(cached)
            whole.metadata.CopyFrom(message.metadata)
            return whole
        if message.metadata.cacheable:
            self._cache[message.hash] = CachedMessage(message, self._runs)
        return message

    async def _handle(self, socket: ClientConnection, message: ForwardMsg, at: float) -> None:
        kind = message.WhichOneof("type")
        if kind == "new_session":
            self._page = message.new_session.page_script_hash
            if not message.metadata.run.fragment_ids:  # the whole script sets all timers anew
                for fragment in list(self._timers):
                    self._stop_timer(fragment)
        elif kind == "page_info_changed":
            self._query = message.page_info_changed.query_string
        elif kind == "auto_rerun":
            self._set_timer(socket, message.auto_rerun.fragment_id, message.auto_rerun.interval)
        elif kind == "stop_auto_rerun":
            for fragment in message.stop_auto_rerun.fragment_ids:
                self._stop_timer(fragment)
        elif kind == "script_finished" and message.script_finished != ForwardMsg.FINISHED_EARLY_FOR_RERUN:
            self._runs += 1
            run = list(message.metadata.run.fragment_ids)
            self._cache = {name: cached for name, cached in self._cache.items() if not cached.stale(self._runs, run)}
        elif kind == "delta":
            await self._draw(socket, message, at)
        elif kind == "session_event" and message.session_event.HasField("script_compilation_exception"):
            self.errors.append(message.session_event.script_compilation_exception.message)

    async def _draw(self, socket: ClientConnection, message: ForwardMsg, at: float) -> None:
        element = message.delta.new_element
        if element.WhichOneof("type") == "exception":
            self.errors.append(f"{element.exception.type}: {element.exception.message}")
        number = round_in(message)
        if number > (self.arrivals[-1].round if self.arrivals else 0):
            self.arrivals.append(Arrival(number, at))
        component = component_in(message)
        if component is not None and component.component_name == _VIEWER and component.id not in self._widgets:
            self._widgets[component.id] = WidgetState(id=component.id, json_value=json.dumps({"id": self._id}))
            await self._request(socket)

    async def _request(self, socket: ClientConnection, fragment: str = "", timer: bool = False) -> None:
        """Requests a run of the script, or of a fragment."""
        request = BackMsg()
        state = request.rerun_script
        state.query_string, state.page_script_hash, state.fragment_id = self._query, self._page, fragment
        state.is_auto_rerun = timer
        state.widget_states.widgets.extend(self._widgets.values())
        state.cached_message_hashes.extend(self._cache)
        raw = request.SerializeToString()
        self.sent_bytes += len(raw)
        self.requests += 1
        await socket.send(raw)

    def _set_timer(self, socket: ClientConnection, fragment: str, interval_s: float) -> None:
        if fragment in self._timers and self._timers[fragment][0] == interval_s:
            return
        self._stop_timer(fragment)

        async def tick() -> None:
            at = time.monotonic()
            while True:
                at = max(at + interval_s, time.monotonic())
                await asyncio.sleep(at - time.monotonic())
                await self._request(socket, fragment, timer=True)

        self._timers[fragment] = (interval_s, asyncio.create_task(tick()))

    def _stop_timer(self, fragment: str) -> None:
        if fragment in self._timers:
            self._timers.pop(fragment)[1].cancel()
