"""Forking: a new run that equals the one on the page up to some round, and then has the panel's settings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import streamlit as st

from pages.parts.notices import errors_as_notice
from pages.parts.words import count, plain
from pages.run import steering
from pages.run.controls import show
from pages.run.origin import setting_words
from pages.run.resume import announce_position
from pages.run.steering import Mode
from pages.server import session
from pages.server.drawings import RunView
from pages.settings import fields, preferences
from pages.settings.panel import problem_words
from pwff_core.config import STEERABLE
from pwff_core.figures.changes import WEIGHTS, changes_text
from pwff_core.figures.frames import STAGE_NAMES
from pwff_core.knobs import Problem
from pwff_core.methods import METHODS
from pwff_core.paths import default_store_path
from pwff_core.records import Value
from pwff_core.runs import scheduler
from pwff_core.runs.checkpoints import CheckpointInfo
from pwff_core.runs.store import MAX_NAME, RunRow, RunStatus, Store

BOX = "fork"  # of the session: whether the panel is open
_NAME, _SUGGESTED, _AFTER = "fork:name", "fork:suggested", "fork:after"
_CHANNEL = tuple(path for path in STEERABLE if path != WEIGHTS)


def point_words(checkpoint: CheckpointInfo) -> str:
    """A checkpoint as a place in the run: 'after round 16, the end of instruction tuning'."""
    name = STAGE_NAMES[checkpoint.stage]
    where = f"the end of {name}" if checkpoint.stage_end else f"round {checkpoint.round} of {name}"
    return f"after round {checkpoint.position}, {where}"


def fork(run_id: str, position: int, changes: Mapping[str, Value], viewer: str, click: int) -> None:
    """Callback of Fork: a new run in the queue, which is shown."""
    if not session.is_first_call("fork", click):
        return
    with errors_as_notice("The run could not be forked"):
        store = Store(default_store_path())
        row = store.run(run_id)
        session.require_may_change(row, viewer)
        with session.within_limits(store, viewer, row.config):
            child = scheduler.fork(store, run_id, position, changes, st.session_state[_NAME], owner=viewer)
        store.take_over(child, viewer)
        announce_position(store, child)
        st.session_state[BOX] = False
        show(child)


def changes_since(view: RunView, checkpoint: CheckpointInfo) -> tuple[dict[str, Value], dict[str, Problem]]:
    """Where the sliders differ from what held at a checkpoint, and what is wrong with their values."""
    config, problems = fields.read_config(checkpoint.config, _CHANNEL)
    if config is None:
        return {}, problems
    held, now = steering.steerable_values(checkpoint.config), steering.steerable_values(config)
    changes = {path: now[path] for path in _CHANNEL if now[path] != held[path]}
    if steering.weights_fit(view.row):
        held_weights = tuple(client.helpfulness_weight for client in view.records[checkpoint.position - 1].clients)
        weights = preferences.read(view.row.config.clients).helpfulness_weights
        changes |= {} if weights is None or weights == held_weights else {WEIGHTS: weights}
    return changes, {}


def suggested_name(row: RunRow, changes: Mapping[str, Value], taken: Sequence[str]) -> str:
    """A name for a fork: its parent's name and its changes; no two get the same."""
    words = ", ".join(setting_words(path, value) for path, value in changes.items()) or "again"
    number, end = 1, f", {words}"[:MAX_NAME]
    while True:
        name = f"{(row.name or f'Run {row.id}')[: max(MAX_NAME - len(end), 0)]}{end}"
        if name not in taken:
            return name
        number += 1
        end = f", {words}"[: MAX_NAME - 6] + f" ({number})"


def draw_fork(store: Store, view: RunView, mode: Mode, *, viewer: str, busy: bool) -> None:
    """The panel of a run that has checkpoints. `busy`: a run is going, so that the fork has to wait."""
    checkpoints = [
        checkpoint
        for checkpoint in scheduler.fork_points(store, view.row.id)
        if checkpoint.position <= len(view.records)
    ]
    if not checkpoints or not session.may_change(view.row, viewer):
        return
    lead = "This run is finished. Fork it:" if view.row.status is RunStatus.FINISHED else "Fork this run:"
    label = f"{lead} go on from one of its rounds with other settings"
    box = st.expander(label, icon=":material/fork_right:", key=BOX, on_change="rerun")
    if not box.open:
        return
    with box:
        st.caption(
            "A fork is a run of its own: up to the round that you choose it is this one, and from the next round on it "
            "has the channel and the preferences of the settings panel. All else stays as in this run."
        )
        if mode is Mode.STEER:
            st.caption(
                "The sliders steer this run at the moment. Choose *Only what-if* above them to set up a fork and leave "
                "this run as it is."
            )
        _form(store, view, checkpoints, viewer=viewer, busy=busy)


def _form(store: Store, view: RunView, checkpoints: Sequence[CheckpointInfo], *, viewer: str, busy: bool) -> None:
    by_position = {checkpoint.position: checkpoint for checkpoint in checkpoints}
    key = f"{_AFTER}:{view.row.id}"
    if st.session_state.get(key) not in by_position:  # of a run that goes, the older ones are taken away
        st.session_state[key] = checkpoints[-1].position
    position: int = st.selectbox(
        "Fork it", list(by_position), format_func=lambda point: point_words(by_position[point]), key=key
    )
    changes, problems = changes_since(view, by_position[position])
    if problems:
        st.error(f"A run cannot be forked like this. {problem_words(problems)}")
    elif changes:
        held = steering.steerable_values(by_position[position].config)
        st.markdown(f":material/tune: From round {position + 1}: {plain(changes_text(held, changes))}.")
    else:
        st.info(
            "The sliders say what held then, so the fork would be a replication: the same rounds once more. Move a "
            "slider of the channel or the preferences for another course.",
            icon=":material/content_copy:",
        )
    if METHODS[view.row.config.method].rewards and not steering.weights_fit(view.row):
        clients = count(view.row.config.clients, "client")
        st.caption(f"This run has {clients} and the settings panel another number: preferences stay as they are.")
    suggestion = suggested_name(view.row, changes, [row.name for row in store.runs()])
    if st.session_state.get(_NAME) in (None, st.session_state.get(_SUGGESTED)):  # nobody has typed another
        st.session_state[_NAME] = suggestion
    st.session_state[_SUGGESTED] = suggestion
    st.text_input("Name", key=_NAME, max_chars=MAX_NAME, help="What the new run is called; empty for no name.")
    st.button(
        "Fork with these settings" if changes else "Fork as a replication",
        icon=":material/fork_right:",
        key="fork:start",
        on_click=fork,
        args=(view.row.id, position, changes, viewer, session.click_number("fork")),
        disabled=bool(problems),
        help="A run is going; the fork waits in the queue until its turn has come." if busy else None,
    )
