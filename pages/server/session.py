"""One visitor of this server: which browser it is, what it may do, and that one click acts once.

A browser keeps a random id, so that a refresh keeps the control of a run. In a hosted app a visitor has limits on new
runs, and cannot change other visitors' runs: buttons are drawn by `may_change`, and their callbacks check again, as
what a browser sends is not trusted. Where the app is not hosted, everybody may do everything.
"""

from __future__ import annotations

import re
import secrets
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

import streamlit as st
from streamlit.components.v2.types import ComponentRenderer

from pages.parts.notices import say_again
from pwff_core.config import RunConfig
from pwff_core.errors import ConfigError, StoreError
from pwff_core.runs import limits
from pwff_core.runs.store import RunRow, Store

ANOTHER_S_RUN = "This run is another visitor's; here it can be watched."
_BROWSER_ID, _SESSION_ID, _CLICKS = "viewer:known", "viewer:own", "clicks:counts"
_ID = re.compile(r"[0-9a-f]{32}")
_ADMISSION = threading.Lock()  # all sessions are threads of one server, so counting and creating is one act
_SCRIPT = """
const KEY = "pwff-viewer";

function idOfThisBrowser() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  const fresh = Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
  try {
    const kept = localStorage.getItem(KEY);
    if (/^[0-9a-f]{32}$/.test(kept ?? "")) return kept;
    localStorage.setItem(KEY, fresh);
  } catch {
    // a browser that keeps nothing is another one at each visit
  }
  return fresh;
}

export default function ({ setStateValue }) {
  setStateValue("id", idOfThisBrowser());
}
"""


# ---- which browser it is -------------------------------------------------------------------------------------------


@cache
def _component() -> ComponentRenderer:
    return st.components.v2.component("pwff.viewer", html="<span></span>", js=_SCRIPT)


def identify_viewer() -> str:
    """The viewer's name, 32 hexadecimal digits; until the browser has sent its id, a name of this session alone.

    The name is made from the id, which is the visitor's proof and is kept nowhere here: whoever reads the store cannot
    pass for a visitor. Call it once a run of the script. It takes no room (assets/style.css), but a place among the
    page's elements.
    """
    with st.container(key="viewer"):
        if _BROWSER_ID not in st.session_state:
            browser_id = str(_component()(key="viewer:id", default={"id": ""}, on_id_change=_nothing).id)
            if _ID.fullmatch(browser_id):
                st.session_state[_BROWSER_ID] = browser_id
                say_again()  # by its answer the browser has the page drawn a second time, at once
    return viewer_name()


def viewer_name() -> str:
    """The same, in a callback or a fragment, where nothing is drawn."""
    session_id: str = st.session_state.setdefault(_SESSION_ID, secrets.token_hex(16))
    browser_id: str = st.session_state.get(_BROWSER_ID, session_id)
    return limits.owner_of(browser_id)


def _nothing() -> None:
    """The id is read from the component's state; a callback makes it part of that."""


# ---- what it may do ------------------------------------------------------------------------------------------------


@contextmanager
def within_limits(store: Store, viewer: str, *configs: RunConfig, new: bool = True) -> Iterator[None]:
    """In here a visitor may create or fork runs with these settings, one each; or resume one, which is not `new`.

    ConfigError with a sentence if a limit of this app is in the way.
    """
    for config in configs:
        limits.check(config)
    if limits.limits() is None:
        yield
        return
    with _ADMISSION:
        going = sum(row.owner == viewer and not row.status.ended for row in store.runs())
        today = store.created(viewer, time.time() - limits.DAY_S) if new else None
        if refusal := limits.refusal(going=going, today=today, waiting=len(store.queue()), more=len(configs)):
            raise ConfigError(refusal)
        yield


def may_change(row: RunRow, viewer: str) -> bool:
    """Whether a visitor may change a run: always, but in a hosted app only the visitor's own."""
    return limits.limits() is None or row.owner == viewer


def require_may_change(row: RunRow, viewer: str) -> None:
    """StoreError with a sentence unless a visitor may change a run."""
    if not may_change(row, viewer):
        raise StoreError(ANOTHER_S_RUN)


# ---- one click acts once -------------------------------------------------------------------------------------------


def click_number(button: str) -> int:
    """How often a button has been clicked: draw it with this number as an argument of its callback.

    Streamlit may call a button's callback twice for one click, when a page's own poll falls into the first call. Only
    the first call with that number acts (`is_first_call`).
    """
    counts: dict[str, int] = st.session_state.setdefault(_CLICKS, {})
    return counts.get(button, 0)


def is_first_call(button: str, click: int) -> bool:
    """Whether a callback is the first for a click on a button that was drawn with this number."""
    if click_number(button) != click:
        return False
    st.session_state[_CLICKS][button] = click + 1
    return True
