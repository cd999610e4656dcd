"""Who steers the run that is shown, and what a moved knob does to it.

The knobs of channel and preferences stay live while a run goes. Each session remembers the settings that it last knew
to hold (or to be asked for). A knob that stands elsewhere was moved here, and is asked of the run; a knob that was not
moved follows when somebody else steers. So two pages never push their old settings at each other.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from enum import StrEnum
from typing import NamedTuple

import streamlit as st

from pages.parts.notices import announce
from pages.parts.words import asked_words, sentence
from pages.run.view import Shown
from pages.server import session
from pages.server.cache import Shelf
from pages.settings import fields, preferences
from pages.settings.panel import ADOPTED, Marker
from pwff_core.config import STEERABLE, ChannelConfig, RunConfig
from pwff_core.errors import ConfigError, StoreError
from pwff_core.figures.changes import WEIGHTS, changes_text, config_at
from pwff_core.knobs import knobs as all_knobs
from pwff_core.knobs import steered
from pwff_core.methods import METHODS
from pwff_core.records import Value
from pwff_core.runs.store import Lease, RunRow, Store

_KNOWN, _TOLD, _USE, _HAD = "steering:known", "steering:told", "steering:use", "steering:had"
_CHANNEL = tuple(path for path in STEERABLE if path != WEIGHTS)
LINK = tuple(path for path in all_knobs() if path.startswith("channel."))
_ASKED = Shelf(8)  # by revision, of the runs that are watched
_USES = {"steer": "Steer the run", "what-if": "Only what-if"}


class Known(NamedTuple):
    """What a session knew at its last look."""

    run: str
    mode: Mode
    adopted: int  # how often the panel had been filled
    values: Mapping[str, Value]  # what could be steered, as it held or was asked for


class Mode(StrEnum):
    """What the knobs of channel and preferences do."""

    NEXT = "next"  # no run is going: they are for the next one
    STEER = "steer"
    WHAT_IF = "what-if"  # chosen by the person in control
    WATCH = "watch"  # another browser steers


def mode_of(store: Store, row: RunRow, lease: Lease | None, viewer: str) -> Mode:
    """What the knobs do now; a lease of this viewer's own is renewed."""
    if row.status.ended or row.in_queue:
        return Mode.NEXT
    if (lease and lease.viewer != viewer) or not session.may_change(row, viewer):
        return Mode.WATCH
    if lease:
        store.keep_lease(row.id, viewer)
        st.session_state[_HAD] = row.id
    return Mode.WHAT_IF if st.session_state.get(_USE) == "what-if" else Mode.STEER


def lost_control(run_id: str, mode: Mode) -> bool:
    """Whether this session steered the run until another browser took over; said once."""
    lost = mode is Mode.WATCH and st.session_state.get(_HAD) == run_id
    if lost:
        del st.session_state[_HAD]
    return lost


def holding(shown: Shown) -> RunConfig:
    """The settings that hold in the run, and over them those that were asked of it."""
    return steered(shown.row.config, *(one.changes for one in shown.steerings), shown.asked)


def asked(revision: int, shown: Shown) -> dict[str, Value]:
    """What can be steered of a run, as it holds or was asked for; worked out once for all browsers."""
    return _ASKED.take(revision, lambda: values_of(holding(shown)))


def values_of(config: RunConfig) -> dict[str, Value]:
    """What can be steered of a config, by path."""
    entries = all_knobs(config)
    return {path: entries[path].value for path in STEERABLE}


def settle(store: Store, shown: Shown, mode: Mode, viewer: str) -> str:
    """Knobs and run brought together, before the knobs are drawn: they follow it, or it is asked to follow them.

    Returns what is wrong with the knobs' answers together, or "". Where the run would not take them, a toast says so.
    """
    if mode is Mode.NEXT:
        rest()
        return ""
    config = holding(shown)  # with what was asked: that is what the knobs should say
    now = values_of(config)
    known: Known | None = st.session_state.get(_KNOWN)
    adopted: int = st.session_state.get(ADOPTED, 0)
    if known is None or known.run != shown.row.id or (mode is Mode.STEER and known[1:3] != (mode, adopted)):
        show(config, now)  # what was asked as a what-if, or set for the next run, is not asked of this one
        known = Known(shown.row.id, mode, adopted, now)
    drawn = tuple(profile.helpfulness_weight for profile in shown.row.profiles)
    preferences.start_own_from(drawn)
    moved = _moves(shown, config, known.values)
    show(config, [path for path in now if now[path] != known.values[path] and path not in moved])
    st.session_state[_KNOWN] = Known(shown.row.id, mode, adopted, now)
    moved = {path: value for path, value in moved.items() if value != now[path]}
    if mode is not Mode.STEER or not moved:
        return ""
    try:
        store.steer(shown.row.id, viewer, moved)
    except ConfigError as error:
        return sentence(str(error))
    except StoreError as error:
        announce(f"{_asked(moved)} could not be asked of the run: {error} It is set for the next run.")
        return ""
    st.session_state[_KNOWN] = Known(shown.row.id, mode, adopted, now | moved)
    return ""


def rest() -> None:
    """No run that is going is shown: what the knobs say from now on is not meant for the one that was."""
    st.session_state.pop(_KNOWN, None)


def _asked(moved: Mapping[str, Value]) -> str:
    return ", ".join(words.partition(":")[0] for words in asked_words(moved))


def _moves(shown: Shown, config: RunConfig, known: Mapping[str, Value]) -> dict[str, Value]:
    """What the knobs say otherwise than what this session knew; a knob with no allowed answer says nothing."""
    moved: dict[str, Value] = {}
    for path in _CHANNEL:
        answered, problems = fields.read_config(config, [path])
        if path not in problems:
            told = values_of(answered)[path] if answered else st.session_state[fields.key_of(path)]
            moved |= {path: told} if told != known[path] else {}
    if weights_fit(shown.row):
        wished = preferences.read(config.clients).helpfulness_weights
        drawn = tuple(profile.helpfulness_weight for profile in shown.row.profiles)
        if wished not in (None, known[WEIGHTS]) and not (known[WEIGHTS] is None and wished == drawn):
            moved[WEIGHTS] = wished
    return moved


def weights_fit(row: RunRow) -> bool:
    """Whether the panel's weights can be this run's: it learns rewards, and has as many clients as the panel."""
    return bool(METHODS[row.config.method].rewards) and fields.whole_number("clients") == row.config.clients


def show(config: RunConfig, paths: Collection[str]) -> None:
    """Set knobs to what holds; call before they are drawn, or in a callback."""
    fields.set_values(config, [path for path in paths if path != WEIGHTS])
    if WEIGHTS in paths and fields.whole_number("clients") == config.clients:
        preferences.adopt(config.preferences, config.clients)


def what_if(shown: Shown, mode: Mode) -> ChannelConfig | None:
    """The channel that the knobs spell, where it is to be priced beside the run's own."""
    if mode is Mode.STEER:
        return None
    config, _ = fields.read_config(config_at(shown.row.config, shown.steerings), LINK)
    return config.channel if config else None


def news(shown: Shown) -> list[str]:
    """What has come to hold since the last look, a sentence each; nothing at the first look at a run."""
    told: tuple[str, int] = st.session_state.get(_TOLD, ("", 0))
    st.session_state[_TOLD] = (shown.row.id, len(shown.steerings))
    if told[0] != shown.row.id:
        return []
    return [
        f"{changes_text(steering.before, steering.changes)}: holds from round {steering.position}."
        for steering in shown.steerings[told[1] :]
    ]


def choice() -> None:
    """The choice between steering the run and only asking what if, for the person in control."""
    st.session_state.setdefault(_USE, "steer")
    st.segmented_control(
        "These sliders",
        list(_USES),
        format_func=lambda use: _USES[use],
        key=_USE,
        required=True,
        persist_state="session",
        help="Steer: a move holds from the run's next round. What-if: the run goes on as it is, and all its rounds are "
        "priced over the channel that the sliders spell, dashed in the charts of delay and energy.",
    )


def marker(shown: Shown, mode: Mode) -> Marker | None:
    """What the panel says beside the knobs of channel and preferences; nothing while no run is going."""
    if mode is Mode.NEXT:
        return None
    weights = _weights_words(shown.row)
    if mode is Mode.STEER:
        return Marker("Live", "bolt", "green", "Moves the run from its next round.", weights, choice)
    if mode is Mode.WHAT_IF:
        told = "Prices the run's rounds anew; the run goes on as it is."
        return Marker(
            "What if", "calculate", "blue", told, "For the next run, while the sliders only ask what if.", choice
        )
    told = "Another browser steers this run. Here the sliders only price its rounds anew."
    return Marker("What if", "visibility", "orange", told, "For the next run: another browser steers this one.", None)


def _weights_words(row: RunRow) -> str:
    """What moving a weight does to the run, for the person in control."""
    if not METHODS[row.config.method].rewards:
        return "The run that is going learns no rewards; these are for the next one."
    if not weights_fit(row):
        return f"The run that is going has {row.config.clients} clients; these are for the next one."
    return "Moves the run from its next round. A random draw is made at the start alone."
