"""One's own examples: a file goes up, and the next run learns from it. Nothing here looks into the file."""

from __future__ import annotations

import streamlit as st

from pages.parts.words import plain, sentence
from pages.settings.fields import key_of
from pwff_core.errors import PwffError
from pwff_core.paths import default_store_path
from pwff_core.runs import uploads
from pwff_core.runs.store import Store

_SOURCE = key_of("data.source")
_FILE, _NAMES, _PROBLEM, _DRAWN = "uploads:file", "uploads:names", "uploads:problem", "uploads:drawn"


def draw() -> None:
    """The box for a file, what the next run learns from instead of the demo's texts, and the way back to them."""
    drawn = st.session_state.setdefault(_DRAWN, 0)  # a new key each time: a box cannot be emptied otherwise
    st.file_uploader(
        "Your own examples",
        type=list(uploads.TYPES),
        max_upload_size=uploads.LARGEST_FILE // 1_000_000,
        key=f"{_FILE}:{drawn}",
        on_change=_taken,
        args=(f"{_FILE}:{drawn}",),
        help="A table in Alpaca columns: instruction, output and, if you like, input; at least three rows a client. It "
        "stays on the computer that runs this app, and is read when a run starts.",
    )
    if problem := st.session_state.pop(_PROBLEM, None):
        st.error(plain(sentence(problem)))
    source = st.session_state[_SOURCE]
    if uploads.is_reference(source):
        names: dict[str, str] = st.session_state.get(_NAMES, {})
        called = names.get(source, uploads.shown(source))
        st.caption(f"The next run learns from {plain(called)}.")
        st.button("Use the embedded texts", icon=":material/undo:", key="uploads:back", on_click=_back)


def _taken(box: str) -> None:
    """Callback: the file's bytes are kept, and the data source says which they are."""
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
        st.session_state.setdefault(_NAMES, {})[source] = _short(file.name)
        st.session_state[_SOURCE] = source
    st.session_state[_DRAWN] += 1  # the server lets go of the bytes


def _back() -> None:
    st.session_state[_SOURCE] = "demo"


def _short(name: str) -> str:
    """A file's name as it is shown: what can be seen of it, and not too much."""
    letters = "".join(letter if letter.isprintable() else "�" for letter in name)
    return letters if len(letters) <= 60 else f"{letters[:59]}…"
