"""Forking: another run that is the one shown up to some round, and goes on from there as the panel's sliders say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import streamlit as st

from pages.parts.notices import say
from pages.parts.words import count, plain
from pages.run import steering
from pages.run.controls import show
from pages.run.origin import setting_words
from pages.run.resume import tell_place
from pages.run.steering import Mode
from pages.run.view import Shown
from pages.server import session
from pages.settings import fields, preferences
from pages.settings.panel import problem_words
from pwff_core.config import STEERABLE
from pwff_core.errors import PwffError
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


def point_words(mark: CheckpointInfo) -> str:
    """A checkpoint as a place in the run: 'after round 16, the end of instruction tuning'."""
    name = STAGE_NAMES[mark.stage]
    where = f"the end of {name}" if mark.stage_end else f"round {mark.round} of {name}"
    return f"after round {mark.position}, {where}"


def fork(run_id: str, position: int, changes: Mapping[str, Value], viewer: str, click: int) -> None:
    """Callback of Fork: a new run in the queue, which is shown."""
    if not session.is_first_call("fork", click):
        return
    try:
        store = Store(default_store_path())
        row = store.run(run_id)
        session.require_may_change(row, viewer)
        with session.within_limits(store, viewer, row.config):
            child = scheduler.fork(store, run_id, position, changes, st.session_state[_NAME], owner=viewer)
        store.take_over(child, viewer)
        tell_place(store, child)
    except PwffError as error:
        say(f"The run could not be forked: {error}")
        return
    st.session_state[BOX] = False
    show(child)


def differences(shown: Shown, mark: CheckpointInfo) -> tuple[dict[str, Value], dict[str, Problem]]:
    """What the sliders say otherwise than what held at a checkpoint, and what is wrong with their answers."""
    answered, problems = fields.read_config(mark.config, _CHANNEL)
    if answered is None:
        return {}, problems
    held, now = steering.values_of(mark.config), steering.values_of(answered)
    changes = {path: now[path] for path in _CHANNEL if now[path] != held[path]}
    if steering.weights_fit(shown.row):
        had = tuple(client.helpfulness_weight for client in shown.records[mark.position - 1].clients)
        wished = preferences.read(shown.row.config.clients).helpfulness_weights
        changes |= {} if wished is None or wished == had else {WEIGHTS: wished}
    return changes, {}


def suggested_name(row: RunRow, changes: Mapping[str, Value], taken: Sequence[str]) -> str:
    """What a fork may be called: its parent's name and what it has otherwise; no two are called the same."""
    words = ", ".join(setting_words(path, value) for path, value in changes.items()) or "again"
    number, end = 1, f", {words}"[:MAX_NAME]
    while True:
        name = f"{(row.name or f'Run {row.id}')[: max(MAX_NAME - len(end), 0)]}{end}"
        if name not in taken:
            return name
        number += 1
        end = f", {words}"[: MAX_NAME - 6] + f" ({number})"


def draw(store: Store, shown: Shown, mode: Mode, *, viewer: str, busy: bool) -> None:
    """The panel of a run that has checkpoints. `busy`: a run is going, so that the fork has to wait."""
    found = [mark for mark in scheduler.fork_points(store, shown.row.id) if mark.position <= len(shown.records)]
    if not found or not session.may_change(shown.row, viewer):
        return
    lead = "This run is finished. Fork it:" if shown.row.status is RunStatus.FINISHED else "Fork this run:"
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
        _form(store, shown, found, viewer=viewer, busy=busy)


def _form(store: Store, shown: Shown, found: Sequence[CheckpointInfo], *, viewer: str, busy: bool) -> None:
    by_position = {mark.position: mark for mark in found}
    key = f"{_AFTER}:{shown.row.id}"
    if st.session_state.get(key) not in by_position:  # of a run that goes, the older ones are taken away
        st.session_state[key] = found[-1].position
    position: int = st.selectbox(
        "Fork it", list(by_position), format_func=lambda one: point_words(by_position[one]), key=key
    )
    changes, problems = differences(shown, by_position[position])
    if problems:
        st.error(f"A run cannot be forked like this. {problem_words(problems)}")
    elif changes:
        held = steering.values_of(by_position[position].config)
        st.markdown(f":material/tune: From round {position + 1}: {plain(changes_text(held, changes))}.")
    else:
        st.info(
            "The sliders say what held then, so the fork would be a replication: the same rounds once more. Move a "
            "slider of the channel or the preferences for another course.",
            icon=":material/content_copy:",
        )
    if METHODS[shown.row.config.method].rewards and not steering.weights_fit(shown.row):
        clients = count(shown.row.config.clients, "client")
        st.caption(f"This run has {clients} and the settings panel another number: preferences stay as they are.")
    suggestion = suggested_name(shown.row, changes, [row.name for row in store.runs()])
    if st.session_state.get(_NAME) in (None, st.session_state.get(_SUGGESTED)):  # nobody has typed another
        st.session_state[_NAME] = suggestion
    st.session_state[_SUGGESTED] = suggestion
    st.text_input("Name", key=_NAME, max_chars=MAX_NAME, help="What the new run is called; empty for no name.")
    st.button(
        "Fork with these settings" if changes else "Fork as a replication",
        icon=":material/fork_right:",
        key="fork:start",
        on_click=fork,
        args=(shown.row.id, position, changes, viewer, session.click_number("fork")),
        disabled=bool(problems),
        help="A run is going; the fork waits in the queue until its turn has come." if busy else None,
    )
