"""Who looks at the page: this browser, by a random id that it keeps, so that a refresh keeps the control of a run."""

from __future__ import annotations

import re
import secrets
from functools import cache

import streamlit as st
from streamlit.components.v2.types import ComponentRenderer

from pages.parts.notices import say_again
from pwff_core.runs.limits import owner_of

_KNOWN, _OWN = "viewer:known", "viewer:own"
_ID = re.compile(r"[0-9a-f]{32}")
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


@cache
def _component() -> ComponentRenderer:
    return st.components.v2.component("pwff.viewer", html="<span></span>", js=_SCRIPT)


def this_browser() -> str:
    """Who this browser is, 32 hexadecimal digits; until it has told its id, somebody of this session alone.

    They are made from the id, which is the visitor's proof and is kept nowhere here: whoever reads the store cannot
    pass for a visitor. Call it once a run of the script. It takes no room (assets/style.css), but a place among the
    page's elements.
    """
    with st.container(key="viewer"):
        if _KNOWN not in st.session_state:
            told = _component()(key="viewer:id", default={"id": ""}, on_id_change=_nothing).id
            if _ID.fullmatch(str(told)):
                st.session_state[_KNOWN] = str(told)
                say_again()  # by its answer the browser has the page drawn a second time, at once
    return who()


def who() -> str:
    """The same, in a callback or a fragment, where nothing is drawn."""
    own: str = st.session_state.setdefault(_OWN, secrets.token_hex(16))
    known: str = st.session_state.get(_KNOWN, own)
    return owner_of(known)


def _nothing() -> None:
    """The answer is read from the component's state; a callback makes it part of that."""
