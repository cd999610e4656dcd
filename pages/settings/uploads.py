"""The user's own examples: a file is uploaded, and the next run learns from it. Nothing here looks into the file."""

from __future__ import annotations

import streamlit as st

from pages.parts.words import plain, sentence
from pages.settings.fields import key_of
from pwff_core.errors import PwffError
from pwff_core.paths import default_store_path
from pwff_core.runs import uploads
from pwff_core.runs.store import Store

_SOURCE = key_of("data.source")
_FILE, _NAMES, _PROBLEM, _BOX_NUMBER = "uploads:file", "uploads:names", "uploads:problem", "uploads:drawn"


def draw() -> None:
    """The box for a file, the name of the file that the next run learns from, and the way back to the demo's texts."""
    number = st.session_state.setdefault(_BOX_NUMBER, 0)  # only a box with a new key is empty again
    st.file_uploader(
        "Your own examples",
        type=list(uploads.TYPES),
        max_upload_size=uploads.LARGEST_FILE // 1_000_000,
        key=f"{_FILE}:{number}",
        on_change=keep_file,
        args=(f"{_FILE}:{number}",),
        help="A table in Alpaca columns: instruction, output and, if you like, input; at least three rows a client. It "
        "stays on the computer that runs this app, and is read when a run starts.",
    )
    if problem := st.session_state.pop(_PROBLEM, None):
        st.error(plain(sentence(problem)))
    source = st.session_state[_SOURCE]
    if uploads.is_reference(source):
        names: dict[str, str] = st.session_state.get(_NAMES, {})
        name = names.get(source, uploads.source_name(source))
        st.caption(f"The next run learns from {plain(name)}.")
        st.button("Use the embedded texts", icon=":material/undo:", key="uploads:back", on_click=_use_embedded_texts)


def keep_file(box: str) -> None:
    """Callback: keep the file and make it the data source."""
    file = st.session_state[box]
    if file is None:
        return
    try:
        store = Store(default_store_path(), readonly=True)
        used = {row.config.data.source for row in store.runs()}
        source = uploads.keep(store.path, file.name, file.getvalue(), used)
    except PwffError as error:
        st.session_state[_PROBLEM] = str(error)
    else:
        st.session_state.setdefault(_NAMES, {})[source] = short_name(file.name)
        st.session_state[_SOURCE] = source
    st.session_state[_BOX_NUMBER] += 1  # an empty box, so that the server frees the bytes


def _use_embedded_texts() -> None:
    st.session_state[_SOURCE] = "demo"


def short_name(name: str) -> str:
    """The first letters of a file's name, without unprintable ones."""
    letters = "".join(letter if letter.isprintable() else "�" for letter in name)
    return letters if len(letters) <= 60 else f"{letters[:59]}…"
