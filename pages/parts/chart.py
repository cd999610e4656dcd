"""The live chart: a Plotly figure that is updated in place, so that zoom survives and nothing flickers.

`st.plotly_chart` builds its chart anew whenever the data change. This component keeps its element and calls
Plotly.react (chart.js). plotly.js itself is served from the installed plotly wheel, so nothing is copied and
nothing fetched from the network, and a browser page loads it once.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pandas as pd
import streamlit as st
from streamlit.components.v1 import declare_component
from streamlit.components.v2.types import ComponentRenderer

from pwff_core.figures.theme import library_folder, template_tree

# as text, as the figure is: Streamlit walks through what is sent, at every chart and every round
_TEMPLATES = json.dumps({"light": template_tree("light"), "dark": template_tree("dark")})
# a figure, not an img: what an img holds is hidden from screen readers, and plotly's buttons are to be reached
_HTML = '<div class="pwff-chart" role="figure"><p class="pwff-waiting">The chart is being loaded …</p></div>'


@cache
def _component() -> ComponentRenderer:
    script = Path(__file__).with_name("chart.js").read_text(encoding="utf-8")
    # not isolated: plotly.js puts its style sheet into the page's head, which a shadow root would not see
    return st.components.v2.component("pwff.chart", html=_HTML, js=script, isolate_styles=False)


@cache  # once a server: the folder is declared to it, not to a session
def _library_address() -> str:
    """Address of plotly.min.js. A declared component is a folder that Streamlit serves."""
    folder = declare_component("plotlyjs", path=library_folder())
    base = str(st.get_option("server.baseUrlPath")).strip("/")
    return f"{'/' + base if base else ''}/component/{folder.name}/plotly.min.js"


def live_chart(key: str, figure: str, *, words: str, view: str, revision: str) -> None:
    """Draw a figure (JSON text of `figures.figure_json`), in place of what was drawn under the same key.

    `words` say what the chart shows now, for people who do not see it. The browser redraws when `revision` changes,
    and forgets the zoom when `view` does.
    """
    name = f"chart:{key}"
    _component()(
        key=name,
        data={
            "source": _library_address(),
            "figure": figure,
            "templates": _TEMPLATES,
            "revision": revision,
            "view": view,
            "alt": words,
            "filename": f"pwff-{view}-{key}".replace(":", "-"),
        },
    )
    # A chart tells the server nothing. Streamlit keeps a state for it all the same, and copies that of every component
    # whenever any part of the page is run: with eight charts, a fifth of what people who watch a run cost.
    del st.session_state[name]


def chart_with_table(
    key: str,
    figure: str,
    table: pd.DataFrame | Callable[[], pd.DataFrame],
    *,
    words: str,
    view: str,
    revision: str,
    heading: str,
    alt: str,
    keys: tuple[str, str],
    note: str = "",
) -> None:
    """A live chart and, under it, the note and the table behind the heading (see `live_chart` and `folded_table`)."""
    live_chart(key, figure, words=words, view=view, revision=revision)
    if note:
        st.caption(note)
    folded_table(heading, table, alt=alt, keys=keys)


def folded_table(
    heading: str, table: pd.DataFrame | Callable[[], pd.DataFrame], *, alt: str, keys: tuple[str, str]
) -> None:
    """A table behind a heading that opens.

    Args:
        heading: what is to be clicked.
        table: the table, or what makes it: then it is made and sent only while it is open.
        alt: what it holds, for people who do not see it.
        keys: of the box and of the table in it.
    """
    box_key, table_key = keys
    if callable(table):
        box = st.expander(heading, key=box_key, on_change="rerun")
        if not box.open:
            return
        table = table()
    else:
        box = st.expander(heading, key=box_key)
    box.dataframe(table, hide_index=True, alt=alt, key=table_key)
