"""A choice among named options. Its answer stays in the session from page to page."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import streamlit as st

Option = TypeVar("Option")


def choose(
    label: str,
    names: Mapping[Option, str],
    *,
    key: str,
    help: str,
    on_change: Callable[[], None] | None = None,
    as_row: bool = False,
) -> Option:
    """The chosen option: in a list that opens, or `as_row` among buttons. `names` maps the options in order."""
    widget: dict[str, Any] = {
        "options": list(names), "format_func": lambda option: names[option], "key": key, "on_change": on_change,
        "persist_state": "session", "help": help,
    }  # fmt: skip
    chosen: Option = st.segmented_control(label, required=True, **widget) if as_row else st.selectbox(label, **widget)
    return chosen
