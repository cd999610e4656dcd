"""The router: page config, style sheet, and the pages."""

from __future__ import annotations

import streamlit as st

from pwff_core.paths import assets_dir

# The icon stands in the label, as the browser would ask Google for a page's own `icon=`, to be the favicon.
PAGES = {
    "live": ("Live", ":material/show_chart:"),
    "compare": ("Compare", ":material/compare_arrows:"),
    "clients": ("Clients", ":material/forum:"),
    "channel": ("Channel lab", ":material/cell_tower:"),
    "runs": ("Runs", ":material/history:"),
}

page = st.navigation(
    [
        st.Page(f"pages/{name}.py", title=f"{icon} {title}", default=name == "live")
        for name, (title, icon) in PAGES.items()
    ],
    position="top",
)
st.set_page_config(
    page_title=f"{page.title.partition(' ')[2]} · pwff",
    page_icon=str(assets_dir() / "favicon.svg"),
    layout="wide",
    initial_sidebar_state=350,  # wide enough for a slider beside its box; closed on a phone
)
st.html(assets_dir() / "style.css")
page.run()
