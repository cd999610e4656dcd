"""The Channel lab: what the wireless link does to an upload, with every number at once and nothing trained."""

from __future__ import annotations

import streamlit as st

from pages.lab import charts, knobs
from pages.lab.exhibits import draw_exhibits
from pages.lab.formulas import draw_formulas
from pages.server.router import through_the_router
from pages.settings.panel import problem_words
from pages.settings.price import draw_price, link_geometry
from pwff_core.config import RunConfig
from pwff_core.wireless.payload import Geometry

_TAB, _LAST_TAB = "lab-tab", "lab:last-tab"
INTRODUCTION = (
    "What a client learns must cross the air before the server can average it. Here you see what the air does to it: "
    "move a knob, and every number follows. Nothing is trained, and the channel is simulated."
)
SECTIONS = {
    "Fading": charts.draw_fading,
    "Rate": charts.draw_rate,
    "What crosses the air": charts.draw_crossing,
    "Delay and energy": charts.draw_costs,
    "Formulas": draw_formulas,
    "Exhibits": draw_exhibits,
}


def sections(config: RunConfig, geometry: Geometry) -> None:
    """Draw a tab for each section. Only the open one is computed, and it stays open while another page is visited."""
    st.session_state.setdefault(_TAB, st.session_state.get(_LAST_TAB, next(iter(SECTIONS))))
    tabs = st.tabs(list(SECTIONS), key=_TAB, on_change="rerun")
    st.session_state[_LAST_TAB] = st.session_state[_TAB]
    for tab, draw in zip(tabs, SECTIONS.values(), strict=True):
        if tab.open:
            with tab:
                draw(config, geometry)


def page() -> None:
    st.title("Channel lab: what the air does to an upload", anchor=False)
    with st.sidebar:
        st.header("Knobs of the lab", anchor=False)
        config, problems = knobs.draw_panel()
    if config is None:
        st.error(f"Nothing can be drawn like this. {problem_words(problems)}")
        return
    st.caption(INTRODUCTION)
    with st.container(border=True, key="lab-top"):
        draw_price(config)
    geometry = link_geometry(config)
    if geometry is not None:
        sections(config, geometry)


through_the_router()
page()
