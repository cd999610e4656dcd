"""Where a fork came from, in a line, with the way to its parent."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import streamlit as st

from pages.parts.words import plain
from pages.server.snapshots import parent_row
from pwff_core.figures.changes import WEIGHTS, former_value_words, value_words
from pwff_core.knobs import knobs
from pwff_core.records import Steering, Value
from pwff_core.runs.store import RunRow, Store


def setting_words(path: str, value: Value) -> str:
    """A setting as part of a run's name: 'SNR 0 dB', 'bandwidth 2 MHz', 'other preferences'."""
    if path == WEIGHTS:
        return "other preferences"
    label = knobs()[path].label
    return f"{label if label.isupper() else label[:1].lower() + label[1:]} {value_words(path, value)}"


def replaced_words(before: Mapping[str, Value], changes: Mapping[str, Value]) -> str:
    """What a fork changed: 'SNR 0 dB in place of 5, other preferences'."""
    parts = []
    for path, value in changes.items():
        words = setting_words(path, value)
        if path != WEIGHTS:
            words += f" in place of {former_value_words(path, before[path], value)}"
        parts.append(words)
    return ", ".join(parts)


def origin_words(row: RunRow, parent: RunRow | None, steerings: Sequence[Steering]) -> str:
    """Where a fork came from, as Markdown: 'Forked after round 7 of **Lesson**, with SNR 0 dB in place of 5.'"""
    name = f"**{plain(parent.name or f'run {parent.id}')}**" if parent else f"run {row.parent}, which is gone"
    first = next((steering for steering in steerings if steering.position == row.forked_at + 1), None)
    how = plain(replaced_words(first.before, first.changes)) if first else "the same settings: a replication"
    return f"Forked after round {row.forked_at} of {name}, with {how}."


def draw_origin(store: Store, row: RunRow, steerings: Sequence[Steering], show: Callable[[str], None]) -> None:
    """The line of a fork, with the way to its parent; nothing for another run. `show` gets the parent's id."""
    if not row.parent:
        return
    parent = parent_row(store, row)
    with st.container(horizontal=True, vertical_alignment="center", key="origin"):
        st.markdown(f":material/fork_right: {origin_words(row, parent, steerings)}", width="content")
        if parent:
            st.button(
                "Show its parent", icon=":material/arrow_upward:", key="show-parent", on_click=show, args=(parent.id,),
                help="The parent's own curves are drawn thin and dashed beneath this run's, from where they part.",
            )  # fmt: skip
