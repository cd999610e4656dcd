"""The router: page config, style sheet, and the pages."""

from __future__ import annotations

import streamlit as st

from pwff_core.paths import assets_dir

st.set_page_config(
    page_title="pwff · federated fine-tuning, live",
    page_icon=str(assets_dir() / "favicon.svg"),
    layout="wide",
    initial_sidebar_state=350,  # wide enough for a slider beside its box; closed on a phone
)
st.html(assets_dir() / "style.css")
pages = [
    st.Page("pages/live.py", title="Live", icon=":material/show_chart:", default=True),
    st.Page("pages/clients.py", title="Clients", icon=":material/forum:"),
]
st.navigation(pages, position="top").run()
