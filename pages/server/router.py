"""The way to a page by its own address.

It is not in app.py, as a page cannot import that without running it; and it changes a value inside Streamlit, as this
folder alone may do.
"""

from __future__ import annotations

import streamlit as st
from streamlit.runtime.pages_manager import PagesManager


def through_the_router() -> None:
    """Runs app.py around this page, also in the first visit after the server's start, if that is to this address.

    Until st.navigation has been called once, Streamlit takes the folder pages/ for its older kind of app, in which a
    page is drawn without the router: no style, another menu.
    """
    if PagesManager.uses_pages_directory:
        PagesManager.uses_pages_directory = False
        st.rerun()
