"""The clients' preferences: each one's weight on helpfulness, from a named start or by hand.

Weights lie in the session as one list that is never cut, so that fewer clients and then more again lose nothing.
Each client has a slider. If there are too many clients for sliders, a table takes their place.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal

import pandas as pd
import streamlit as st

from pages.settings.choices import choose
from pwff_core.config import PreferencesConfig

Start = Literal["random", "spread", "equal", "helpful", "harmless", "own"]
START_LABELS: dict[Start, str] = {
    "random": "Random, from the seed",
    "spread": "Spread evenly from 0 to 1",
    "equal": "All equal",
    "helpful": "All helpful",
    "harmless": "All harmless",
    "own": "Own",
}
MOST_SLIDERS = 20
_START, _WEIGHTS, _TABLE = "preferences:start", "preferences:weights", "preferences:tables"
_COLUMN = "Helpful λ"
_HALF = 0.5


def weights_of(start: Start, clients: int) -> list[float]:
    """The weights that a start gives so many clients, in hundredths as a slider shows them. Without a rule, halves."""
    if start == "spread":
        return [round(client / (clients - 1), 2) for client in range(clients)]
    return [{"helpful": 1.0, "harmless": 0.0}.get(start, _HALF)] * clients


def start_of(weights: Sequence[float]) -> Start:
    """The start that gives these weights; "own" if none does."""
    named: tuple[Start, ...] = ("spread", "equal", "helpful", "harmless")
    return next((start for start in named if weights_of(start, len(weights)) == list(weights)), "own")


def adopt(config: PreferencesConfig, clients: int) -> None:
    """Take a config's weights over into the panel."""
    weights = config.helpfulness_weights
    if weights is None and config.harmlessness_weights is not None:
        weights = tuple(1.0 - weight for weight in config.harmlessness_weights)
    st.session_state[_START] = "random" if weights is None else start_of(weights)
    st.session_state[_WEIGHTS] = weights_of("spread", clients) if weights is None else list(weights)
    _new_table()


def start_own_from(weights: Sequence[float]) -> None:
    """While the start is random, "own" is to start from these weights, which a run has drawn."""
    if st.session_state[_START] == "random" and weights:
        st.session_state[_WEIGHTS] = list(weights)


def read(clients: int | None) -> PreferencesConfig:
    """The panel's preferences for so many clients; random ones if their number is unknown."""
    if clients is None or st.session_state[_START] == "random":
        return PreferencesConfig()
    return PreferencesConfig(helpfulness_weights=tuple(_weights_for(clients)))


def draw(clients: int | None, *, has_rewards: bool) -> None:
    """Draw the choice of a start and, unless it is random, the weight of each client."""
    start = choose(
        "What the clients' owners want",
        START_LABELS,
        key=_START,
        on_change=_new_table,
        help="Each owner puts a weight λ (0 to 1) on helpful answers and 1 − λ on harmless ones; alignment rewards a "
        "client's answers accordingly. Moving a slider makes it Own.",
    )
    if not has_rewards:
        st.caption("This method learns no rewards, so what owners want changes nothing.")
    elif start == "random":
        st.caption("λ of each client is drawn when the run starts; the table of clients then shows it.")
    if clients is None:
        st.caption("One weight a client, once the number of clients is right.")
    elif start != "random":
        weights = _weights_for(clients)
        if start != "own":
            st.session_state[_WEIGHTS] = weights  # "own" starts from these
        with st.expander("Weight λ of each client", key="more:preferences"):
            (_sliders if clients <= MOST_SLIDERS else _table)(weights)


def _weights_for(clients: int) -> list[float]:
    """The weights of so many clients: those of the start, or those in the session, filled up with halves."""
    start, weights = st.session_state[_START], st.session_state[_WEIGHTS]
    if start not in ("random", "own"):
        return weights_of(start, clients)
    return [*weights[:clients], *[_HALF] * (clients - len(weights))]


def _new_table() -> None:
    """Other weights need a new table: the old one would keep what was typed into it."""
    st.session_state[_TABLE] = st.session_state.get(_TABLE, 0) + 1


def _sliders(weights: list[float]) -> None:
    for client, weight in enumerate(weights):
        key = f"preferences:client:{client}"
        st.session_state[key] = weight
        st.slider(
            f"Client {client} · helpful {weight:.2f} · harmless {1 - weight:.2f}",
            0.0,
            1.0,
            step=0.01,
            key=key,
            on_change=_on_slider,
            args=(client, key, weights),
        )


def _on_slider(client: int, key: str, weights: list[float]) -> None:
    """Callback of a slider."""
    _set_by_hand({client: st.session_state[key]}, weights)


def _table(weights: list[float]) -> None:
    key = f"preferences:table:{st.session_state[_TABLE]}"
    st.data_editor(
        pd.DataFrame({"Client": range(len(weights)), _COLUMN: weights}),
        key=key,
        hide_index=True,
        disabled=["Client"],
        height=320,
        on_change=_on_table,
        args=(key, weights),
        column_config={
            _COLUMN: st.column_config.NumberColumn(
                min_value=0.0, max_value=1.0, step=0.01, format="%.2f", required=True, help="Harmlessness has 1 − λ."
            )
        },
    )


def _on_table(key: str, weights: list[float]) -> None:
    """Callback of the table."""
    changes: dict[int, Any] = {row: cells.get(_COLUMN) for row, cells in st.session_state[key]["edited_rows"].items()}
    _set_by_hand({row: value for row, value in changes.items() if _is_weight(value)}, weights)


def _is_weight(value: Any) -> bool:
    """Whether a cell holds a weight. One that was cleared or pasted into may hold anything."""
    return isinstance(value, int | float) and math.isfinite(value) and 0.0 <= value <= 1.0


def _set_by_hand(changes: dict[int, float], weights: list[float]) -> None:
    """Set some clients' weights. The other clients keep theirs, and so do those beyond the ones on the page."""
    beyond = st.session_state[_WEIGHTS][len(weights) :]
    st.session_state[_WEIGHTS] = [*(changes.get(client, weight) for client, weight in enumerate(weights)), *beyond]
    st.session_state[_START] = "own"
