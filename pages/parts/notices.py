"""Words that come up before the page is drawn, in a callback or at a look that redraws it, and are shown then."""

from __future__ import annotations

import streamlit as st

from pages.parts.words import plain

_NOTICES, _SHOWN, _TOASTS = "announcing:notices", "announcing:shown", "announcing:toasts"


def say(text: str) -> None:
    """A notice at the top of the page when that is drawn next."""
    st.session_state.setdefault(_NOTICES, []).append(text)


def announce(text: str) -> None:
    """A toast when anything is drawn next: it stays for a while, whatever is drawn after it."""
    st.session_state.setdefault(_TOASTS, []).append(text)


def say_again() -> None:
    """The notices of the last drawing once more: the page is drawn anew without anybody having done something."""
    st.session_state[_NOTICES] = [*st.session_state.get(_SHOWN, []), *st.session_state.get(_NOTICES, [])]


def draw_notices() -> None:
    """Shows what was said."""
    st.session_state[_SHOWN] = st.session_state.pop(_NOTICES, [])
    for text in st.session_state[_SHOWN]:
        st.warning(plain(text), icon=":material/info:")


def draw_toasts() -> None:
    """Shows what was announced."""
    for text in st.session_state.pop(_TOASTS, []):
        st.toast(plain(text), icon=":material/tune:", duration="long")
