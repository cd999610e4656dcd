"""The router: page config, style sheet, and the pages."""

from __future__ import annotations

import streamlit as st

from pwff_core.paths import assets_dir

# their icons are in style.css: for an `icon=` here the browser asks Google, as it would be the favicon too
pages = [
    st.Page("pages/live.py", title="Live", default=True),
    st.Page("pages/compare.py", title="Compare"),
    st.Page("pages/clients.py", title="Clients"),
    st.Page("pages/channel.py", title="Channel lab"),
    st.Page("pages/runs.py", title="Runs"),
]
page = st.navigation(pages, position="top")
st.set_page_config(
    page_title=f"{page.title} · pwff",
    page_icon=str(assets_dir() / "favicon.svg"),
    layout="wide",
    initial_sidebar_state=350,  # wide enough for a slider beside its box; closed on a phone
)
st.html(assets_dir() / "style.css")
page.run()
