"""Who wants what: every client's weight on helpfulness, from a choice of starts or by hand, a slider a client.

Weights lie in the session as one list that is never cut, so that fewer clients and then more again loses nothing.
A table takes the place of the sliders where there are too many clients for them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal, get_args

import pandas as pd
import streamlit as st

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
    """The weights that a start gives so many clients, in hundredths as a slider shows them; ½ where it says none."""
    if start == "spread":
        return [round(client / (clients - 1), 2) for client in range(clients)]
    return [{"helpful": 1.0, "harmless": 0.0}.get(start, _HALF)] * clients


def start_of(weights: Sequence[float]) -> Start:
    """The start that gives these weights, or "own"."""
    named: tuple[Start, ...] = ("spread", "equal", "helpful", "harmless")
    return next((start for start in named if weights_of(start, len(weights)) == list(weights)), "own")


def adopt(chosen: PreferencesConfig, clients: int) -> None:
    """Take a config's weights over into the panel."""
    weights = chosen.helpfulness_weights
    if weights is None and chosen.harmlessness_weights is not None:
        weights = tuple(1.0 - weight for weight in chosen.harmlessness_weights)
    st.session_state[_START] = "random" if weights is None else start_of(weights)
    st.session_state[_WEIGHTS] = weights_of("spread", clients) if weights is None else list(weights)
    _new_table()


def own_starts_from(weights: Sequence[float]) -> None:
    """Where "own" starts from while the start is random: the weights that the run has drawn."""
    if st.session_state[_START] == "random" and weights:
        st.session_state[_WEIGHTS] = list(weights)


def wishes(clients: int | None) -> PreferencesConfig:
    """What the panel says for so many clients; where their number is unknown, nothing."""
    if clients is None or st.session_state[_START] == "random":
        return PreferencesConfig()
    return PreferencesConfig(helpfulness_weights=tuple(_fitted(clients)))


def draw(clients: int | None, *, rewarded: bool) -> None:
    """Draw the choice of a start and, but for the random one, a slider a client."""
    st.selectbox(
        "What the clients' owners want",
        get_args(Start),
        format_func=lambda start: START_LABELS[start],
        key=_START,
        on_change=_new_table,
        persist_state="session",
        help="Each owner puts a weight λ (0 to 1) on helpful answers and 1 − λ on harmless ones; alignment rewards a "
        "client's answers accordingly. Moving a slider makes it Own.",
    )
    if not rewarded:
        st.caption("This method learns no rewards, so what owners want changes nothing.")
    elif st.session_state[_START] == "random":
        st.caption("λ of each client is drawn when the run starts; the table of clients then shows it.")
    if clients is None:
        st.caption("One weight a client, once the number of clients is right.")
    elif st.session_state[_START] != "random":
        weights = _fitted(clients)
        if st.session_state[_START] != "own":
            st.session_state[_WEIGHTS] = weights  # where "own" starts from
        with st.expander("Weight λ of each client", key="more:preferences"):
            (_sliders if clients <= MOST_SLIDERS else _table)(weights)


def _fitted(clients: int) -> list[float]:
    """The weights of so many clients: a named start gives its own, otherwise those that there are, then halves."""
    start, kept = st.session_state[_START], st.session_state[_WEIGHTS]
    if start not in ("random", "own"):
        return weights_of(start, clients)
    return [*kept[:clients], *[_HALF] * (clients - len(kept))]


def _new_table() -> None:
    """A table of weights keeps what was typed into it, whatever it is given: for other weights there is another one."""
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
            on_change=_moved,
            args=(client, key, weights),
        )


def _moved(client: int, key: str, weights: list[float]) -> None:
    """Callback of a slider."""
    _own({client: st.session_state[key]}, weights)


def _table(weights: list[float]) -> None:
    key = f"preferences:table:{st.session_state[_TABLE]}"
    st.data_editor(
        pd.DataFrame({"Client": range(len(weights)), _COLUMN: weights}),
        key=key,
        hide_index=True,
        disabled=["Client"],
        height=320,
        on_change=_edited,
        args=(key, weights),
        column_config={
            _COLUMN: st.column_config.NumberColumn(
                min_value=0.0, max_value=1.0, step=0.01, format="%.2f", required=True, help="Harmlessness has 1 − λ."
            )
        },
    )


def _edited(key: str, weights: list[float]) -> None:
    """Callback of the table."""
    changes: dict[int, Any] = {row: cells.get(_COLUMN) for row, cells in st.session_state[key]["edited_rows"].items()}
    _own({row: value for row, value in changes.items() if _is_weight(value)}, weights)


def _is_weight(value: Any) -> bool:
    """Whether a cell holds a weight: a cleared or pasted one may hold anything."""
    return isinstance(value, int | float) and math.isfinite(value) and 0.0 <= value <= 1.0


def _own(changes: dict[int, float], weights: list[float]) -> None:
    """Set some clients' weights by hand; the others keep theirs, also those beyond the clients that are shown."""
    beyond = st.session_state[_WEIGHTS][len(weights) :]
    st.session_state[_WEIGHTS] = [*(changes.get(client, weight) for client, weight in enumerate(weights)), *beyond]
    st.session_state[_START] = "own"
