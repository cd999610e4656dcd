"""A choice among named options. Its answer stays in the session from page to page."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeVar

import streamlit as st

Option = TypeVar("Option")


def choose_from_list(
    label: str, names: Mapping[Option, str], *, key: str, help: str, on_change: Callable[[], None] | None = None
) -> Option:
    """The option that is chosen in a list that opens; `names` holds the options in order, each with its name."""
    chosen: Option = st.selectbox(
        label,
        list(names),
        format_func=lambda option: names[option],
        key=key,
        on_change=on_change,
        persist_state="session",
        help=help,
    )
    return chosen


def choose_from_row(
    label: str, names: Mapping[Option, str], *, key: str, help: str, on_change: Callable[[], None] | None = None
) -> Option:
    """The option that is chosen among buttons in a row; `names` holds the options in order, each with its name."""
    chosen: Option = st.segmented_control(
        label,
        list(names),
        format_func=lambda option: names[option],
        key=key,
        on_change=on_change,
        required=True,
        persist_state="session",
        help=help,
    )
    return chosen
