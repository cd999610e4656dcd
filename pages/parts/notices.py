"""Notices that come up before a page is drawn, and errors as sentences.

A callback, or a poll that redraws the page, has no place to write to: its notices are shown when the page is drawn.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import streamlit as st

from pages.parts.words import plain, sentence
from pwff_core.errors import PwffError

_NOTICES, _DRAWN_NOTICES, _TOASTS = "announcing:notices", "announcing:shown", "announcing:toasts"


def say(text: str) -> None:
    """A notice at the top of the page when that is drawn next."""
    st.session_state.setdefault(_NOTICES, []).append(text)


def announce(text: str) -> None:
    """A toast when anything is drawn next: it stays for a while, whatever is drawn after it."""
    st.session_state.setdefault(_TOASTS, []).append(text)


def say_again() -> None:
    """The notices of the last drawing once more: the page is drawn anew without anybody having done something."""
    st.session_state[_NOTICES] = [*st.session_state.get(_DRAWN_NOTICES, []), *st.session_state.get(_NOTICES, [])]


def draw_notices() -> None:
    """Shows what was said."""
    st.session_state[_DRAWN_NOTICES] = st.session_state.pop(_NOTICES, [])
    for text in st.session_state[_DRAWN_NOTICES]:
        st.warning(plain(text), icon=":material/info:")


def draw_toasts() -> None:
    """Shows what was announced."""
    for text in st.session_state.pop(_TOASTS, []):
        st.toast(plain(text), icon=":material/tune:", duration="long")


@contextmanager
def errors_as_notice(failure: str = "", tell: Callable[[str], object] = say) -> Iterator[None]:
    """For callbacks: a PwffError in here becomes a notice, 'The run could not be started: …'."""
    try:
        yield
    except PwffError as error:
        tell(f"{failure}: {error}" if failure else str(error))


@contextmanager
def errors_on_page(draw: Callable[..., object] = st.error, **options: Any) -> Iterator[None]:
    """For what draws: a PwffError in here is drawn as a sentence, with the options of `st.error` and its kind."""
    try:
        yield
    except PwffError as error:
        draw(plain(sentence(str(error))), **options)
