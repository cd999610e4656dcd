"""Which browser steers the run on the page, and what a moved knob does to it.

The knobs of channel and preferences stay live while a run goes. Each session remembers the values that held, or were
asked for, when it last drew the knobs. A knob with another value was moved here, and the change is asked of the run; a
knob that was not moved follows when another browser steers. So two pages never push their old settings at each other.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from enum import StrEnum
from typing import NamedTuple

import streamlit as st

from pages.parts.notices import announce
from pages.parts.words import change_words, sentence
from pages.server import session
from pages.server.cache import Cache
from pages.server.drawings import RunView
from pages.settings import fields, preferences
from pages.settings.choices import choose
from pages.settings.panel import ADOPTED, Marker
from pwff_core.config import STEERABLE, ChannelConfig, RunConfig
from pwff_core.errors import ConfigError, StoreError
from pwff_core.figures.changes import WEIGHTS, changes_text, config_at
from pwff_core.knobs import knobs as all_knobs
from pwff_core.knobs import steered
from pwff_core.methods import METHODS
from pwff_core.records import Value
from pwff_core.runs.store import Lease, RunRow, Store

_LAST, _ANNOUNCED, _USE, _STEERED = "steering:known", "steering:told", "steering:use", "steering:had"
_CHANNEL = tuple(path for path in STEERABLE if path != WEIGHTS)
LINK = tuple(path for path in all_knobs() if path.startswith("channel."))
_VALUES = Cache(8)  # by revision, of the runs that are watched
_USES = {"steer": "Steer the run", "what-if": "Only what-if"}


class LastDrawing(NamedTuple):
    """What a session's knobs were last drawn for."""

    run: str
    mode: Mode
    adopted: int  # how often the panel had been filled with a config
    values: Mapping[str, Value]  # what can be steered, as it held or was asked for


class Mode(StrEnum):
    """What the knobs of channel and preferences do."""

    NEXT = "next"  # no run is going: they are for the next one
    STEER = "steer"
    WHAT_IF = "what-if"  # chosen by the person in control
    WATCH = "watch"  # another browser steers


def mode_of(store: Store, row: RunRow, lease: Lease | None, viewer: str) -> Mode:
    """What the knobs do now; if this viewer holds the lease, it is renewed."""
    if row.status.ended or row.in_queue:
        return Mode.NEXT
    if (lease and lease.viewer != viewer) or not session.may_change(row, viewer):
        return Mode.WATCH
    if lease:
        store.keep_lease(row.id, viewer)
        st.session_state[_STEERED] = row.id
    return Mode.WHAT_IF if st.session_state.get(_USE) == "what-if" else Mode.STEER


def lost_control(run_id: str, mode: Mode) -> bool:
    """Whether another browser has taken over the run that this session steered; True only once."""
    lost = mode is Mode.WATCH and st.session_state.get(_STEERED) == run_id
    if lost:
        del st.session_state[_STEERED]
    return lost


def config_with_changes(view: RunView) -> RunConfig:
    """The settings that hold in the run, and over them those that were asked of it."""
    return steered(view.row.config, *(steering.changes for steering in view.steerings), view.pending_changes)


def values_of_revision(revision: int, view: RunView) -> dict[str, Value]:
    """What can be steered of a run, as it holds or was asked for; worked out once for all browsers."""
    return _VALUES.get(revision, lambda: steerable_values(config_with_changes(view)))


def steerable_values(config: RunConfig) -> dict[str, Value]:
    """What can be steered of a config, by path."""
    entries = all_knobs(config)
    return {path: entries[path].value for path in STEERABLE}


def reconcile(store: Store, view: RunView, mode: Mode, viewer: str) -> str:
    """Brings knobs and run together, before the knobs are drawn: they follow the run, or it is asked to follow them.

    Returns what is wrong with the knobs' values together, or "". Where the run refuses the changes, a toast says so.
    """
    if mode is Mode.NEXT:
        forget_run()
        return ""
    config = config_with_changes(view)  # with what was asked: that is what the knobs should say
    now = steerable_values(config)
    last: LastDrawing | None = st.session_state.get(_LAST)
    adopted: int = st.session_state.get(ADOPTED, 0)
    if last is None or last.run != view.row.id or (mode is Mode.STEER and (last.mode, last.adopted) != (mode, adopted)):
        set_knobs(config, now)  # what was asked as a what-if, or set for the next run, is not asked of this one
        last = LastDrawing(view.row.id, mode, adopted, now)
    preferences.start_own_from(_weights(view.row))
    moved = _moved_knobs(view.row, config, last.values)
    set_knobs(config, [path for path in now if now[path] != last.values[path] and path not in moved])
    st.session_state[_LAST] = LastDrawing(view.row.id, mode, adopted, now)
    changes = {path: value for path, value in moved.items() if value != now[path]}
    if mode is not Mode.STEER or not changes:
        return ""
    try:
        store.steer(view.row.id, viewer, changes)
    except ConfigError as error:
        return sentence(str(error))
    except StoreError as error:
        words = ", ".join(change_words(path, value) for path, value in changes.items())
        announce(f"{words} could not be asked of the run: {error} It is set for the next run.")
        return ""
    st.session_state[_LAST] = LastDrawing(view.row.id, mode, adopted, now | changes)
    return ""


def forget_run() -> None:
    """Forgets the run that was steered: knobs that are moved from now on are not meant for it."""
    st.session_state.pop(_LAST, None)


def _moved_knobs(row: RunRow, config: RunConfig, last: Mapping[str, Value]) -> dict[str, Value]:
    """The knobs that differ from their last values, with their values; a knob with no allowed value is left out."""
    moved: dict[str, Value] = {}
    for path in _CHANNEL:
        answered, problems = fields.read_config(config, [path])
        if path not in problems:
            value = steerable_values(answered)[path] if answered else st.session_state[fields.key_of(path)]
            moved |= {path: value} if value != last[path] else {}
    if weights_fit(row):
        weights = preferences.read(config.clients).helpfulness_weights
        as_drawn = last[WEIGHTS] is None and weights == _weights(row)
        if weights not in (None, last[WEIGHTS]) and not as_drawn:
            moved[WEIGHTS] = weights
    return moved


def _weights(row: RunRow) -> tuple[float, ...]:
    """The weights on helpfulness that the run's clients were dealt at its start."""
    return tuple(profile.helpfulness_weight for profile in row.profiles)


def weights_fit(row: RunRow) -> bool:
    """Whether the panel's weights can be this run's: it learns rewards, and has as many clients as the panel."""
    return bool(METHODS[row.config.method].rewards) and fields.whole_number("clients") == row.config.clients


def set_knobs(config: RunConfig, paths: Collection[str]) -> None:
    """Set knobs to what holds; call before they are drawn, or in a callback."""
    fields.set_values(config, [path for path in paths if path != WEIGHTS])
    if WEIGHTS in paths and fields.whole_number("clients") == config.clients:
        preferences.adopt(config.preferences, config.clients)


def what_if_channel(view: RunView, mode: Mode) -> ChannelConfig | None:
    """The channel that the knobs spell, where it is to be priced beside the run's own."""
    if mode is Mode.STEER:
        return None
    config, _ = fields.read_config(config_at(view.row.config, view.steerings), LINK)
    return config.channel if config else None


def news(view: RunView) -> list[str]:
    """The changes that have come to hold since the last call, a sentence each; none at the first call for a run."""
    run_id, announced = st.session_state.get(_ANNOUNCED, ("", 0))
    st.session_state[_ANNOUNCED] = (view.row.id, len(view.steerings))
    if run_id != view.row.id:
        return []
    return [
        f"{changes_text(steering.before, steering.changes)}: holds from round {steering.position}."
        for steering in view.steerings[announced:]
    ]


def draw_choice() -> None:
    """The choice between steering the run and only asking what if, for the person in control."""
    st.session_state.setdefault(_USE, "steer")
    choose(
        "These sliders",
        _USES,
        key=_USE,
        as_row=True,
        help="Steer: a move holds from the run's next round. What-if: the run goes on as it is, and all its rounds are "
        "priced over the channel that the sliders spell, dashed in the charts of delay and energy.",
    )


def marker(view: RunView, mode: Mode) -> Marker | None:
    """What the panel says beside the knobs of channel and preferences; nothing while no run is going."""
    if mode is Mode.NEXT:
        return None
    if mode is Mode.STEER:
        weights = _weights_words(view.row)
        return Marker("Live", "bolt", "green", "Moves the run from its next round.", weights, draw_choice, steers=True)
    if mode is Mode.WHAT_IF:
        channel = "Prices the run's rounds anew; the run goes on as it is."
        weights = "For the next run, while the sliders only ask what if."
        return Marker("What if", "calculate", "blue", channel, weights, draw_choice)
    channel = "Another browser steers this run. Here the sliders only price its rounds anew."
    weights = "For the next run: another browser steers this one."
    return Marker("What if", "visibility", "orange", channel, weights, None)


def _weights_words(row: RunRow) -> str:
    """What moving a weight does to the run that is going."""
    if not METHODS[row.config.method].rewards:
        return "The run that is going learns no rewards; these are for the next one."
    if not weights_fit(row):
        return f"The run that is going has {row.config.clients} clients; these are for the next one."
    return "Moves the run from its next round. A random draw is made at the start alone."
