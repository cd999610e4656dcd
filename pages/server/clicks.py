"""A click that starts something does so once.

Streamlit may call a button's callback twice for one click, when a look at a run falls into the first call. So a button
is drawn with its number, how often it has been clicked, and only the first call with that number acts.
"""

from __future__ import annotations

import streamlit as st

_COUNTS = "clicks:counts"


def number(button: str) -> int:
    """The number to draw into a button: an argument of its callback."""
    counts: dict[str, int] = st.session_state.setdefault(_COUNTS, {})
    return counts.get(button, 0)


def first(button: str, drawn: int) -> bool:
    """Whether this is the first call for a click on a button that was drawn with this number."""
    if number(button) != drawn:
        return False
    st.session_state[_COUNTS][button] = drawn + 1
    return True
