"""The bell: a fragment that only looks has the browser ask for another one to be drawn, when there is something new.

A fragment that is run again is drawn again: what it does not draw disappears, and what it draws is sent. So the one
that looks twice a second draws nothing, or when there is news this component, which takes no room (assets/style.css),
and the run is drawn when the component's script answers. Streamlit lets no fragment ask for another, but a component's
callback may.
"""

from __future__ import annotations

from functools import cache, partial

import streamlit as st
from streamlit.components.v2.types import ComponentRenderer

_SCRIPT = """
const answered = new WeakMap();

export default function ({ data, parentElement, setTriggerValue }) {
  if (answered.get(parentElement) === data.news) return;
  answered.set(parentElement, data.news);
  setTriggerValue("news", data.news);
}
"""


@cache
def _component() -> ComponentRenderer:
    return st.components.v2.component("pwff.bell", html="<span></span>", js=_SCRIPT)


def draw_bell(news: str, fragment: str) -> None:
    """Has the fragment of this key drawn again, once for each other word of `news`."""
    _component()(key="bell", data={"news": news}, on_news_change=partial(st.rerun, fragment))
