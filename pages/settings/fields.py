"""Knobs drawn from the config's own metadata: label with symbol and unit, help, bounds, scale, choices.

A knob needs no code of its own: `draw("channel.snr_db", …)` finds everything in `config.knobs()`. What a person typed
stays as text under the key `knob:PATH`; the slider beside it follows the text, and the text follows the slider. All
texts are checked together by RunConfig itself (`answers`), and each problem is shown at its knob.

A page whose answers are not those of the Live page gives a `scope`, which stands before each key.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Mapping
from typing import Any

import streamlit as st

from pages.parts.words import plain, sentence, setting_text
from pwff_core.config import RunConfig
from pwff_core.knobs import Knob, Problem, allowed_values, changed_tree, knobs
from pwff_core.runs import limits

_MANTISSAS = (1.0, 1.5, 2.0, 3.0, 5.0, 7.0)
_FEW_STOPS = 100  # a linear knob with no more whole steps than this has a stop at each
_ECHO_S = 2.0  # so long a browser may go on saying what an answer was before a callback set it
_PREFIXED = {"Hz", "W", "s"}
CHOICE_LABELS: Mapping[str, Mapping[Any, str]] = {
    "channel.fading": {"rayleigh": "Rayleigh", "awgn": "AWGN"},
    "price_as": {"backbone": "its own size", "gpt2": "GPT-2 small"},
    "lora.modules": {"by-device": "by device", "all": "all sites"},
    "reward.trainable": {"head": "head", "all": "head and encoder"},
    "device": {"auto": "automatic", "cpu": "CPU", "cuda": "GPU"},
}


def key_of(path: str, scope: str = "") -> str:
    """Where a knob's answer lies in the session."""
    return f"{scope}knob:{path}"


def text_of(value: Any) -> str:
    """A number as one would type it; nothing for None."""
    if value is None:
        return ""
    return f"{value:.12g}" if isinstance(value, float) else str(value)


def put(config: RunConfig, paths: Iterable[str], scope: str = "") -> None:
    """Set the knobs to a config's values; call before they are drawn, or in a callback."""
    table = knobs(config)
    for path in paths:
        value, chosen = table[path].value, table[path].kind in ("choice", "switch")
        _replace(key_of(path, scope), value if chosen else text_of(value))


def answers(base: RunConfig, paths: Iterable[str], scope: str = "") -> tuple[RunConfig | None, dict[str, Problem]]:
    """The base config with the knobs' answers and no problem; or None, and each problem by its path."""
    table, changes, empty = knobs(base), dict[str, Any](), set[str]()
    for path in paths:
        answer = st.session_state[key_of(path, scope)]
        if answer == "":
            empty.add(path)
        if answer != text_of(table[path].value):  # a value with more digits than its text, as 2/3, stays as it is
            changes[path] = None if answer == "" else answer
    config, problems = limits.read_config(changed_tree(base, changes))
    for path in empty & set(problems):
        problems[path] = Problem(path, f"nothing is entered; {allowed_values(table[path])}.")
    return config, problems


def whole_number(path: str) -> int | None:
    """What an integer knob says now; None where that is no allowed number."""
    knob = limits.bounded(knobs()[path])
    try:
        value = float(st.session_state[key_of(path)])
    except ValueError:
        return None
    low, high = knob.low or -math.inf, knob.high or math.inf
    return int(value) if low <= value <= high and value.is_integer() else None


def draw(path: str, problems: Mapping[str, Problem], *, slider: bool = False, hint: str = "", scope: str = "") -> None:
    """Draw a knob and, under it, what is wrong with its answer. `hint` is shown in an empty box."""
    entry = limits.bounded(knobs()[path])
    if entry.kind == "choice":
        _choice(entry, scope)
    elif entry.kind == "switch":
        st.toggle(entry.label, key=key_of(path, scope), help=_help(entry), persist_state="session")
    elif slider:
        _slider_and_box(entry, scope)
    else:
        st.text_input(
            _label(entry),
            key=key_of(path, scope),
            help=_help(entry),
            placeholder=hint,
            live="0.6s",
            persist_state="session",
        )
    show_problem(path, problems)


def show_problem(path: str, problems: Mapping[str, Problem]) -> None:
    """The problem of a knob or a section, where there is one."""
    if path in problems:
        st.error(plain(sentence(problems[path].words)))


def stops(entry: Knob) -> list[float]:
    """Where a slider can stand: bounds, default, and whole steps, twentieths of a unit range, or six stops a decade."""
    if entry.low is None or entry.high is None:
        raise ValueError(f"{entry.path} has no bounds, so it cannot have a slider")
    low, high = entry.low, entry.high
    if entry.scale == "linear" and high - low <= 1:
        found = [low + (high - low) * step / 20 for step in range(21)]
    elif entry.scale == "linear" and high - low <= _FEW_STOPS:
        found = [low + step for step in range(int(high - low) + 1)]
    else:
        decades = (float(f"{mantissa}e{power}") for power in range(-7, 11) for mantissa in _MANTISSAS)
        found = [stop for stop in decades if low <= stop <= high]
        if entry.kind == "integer":
            found = [stop for stop in found if stop == int(stop)]
    default = [float(entry.value)] if isinstance(entry.value, int | float) else []
    return sorted({round(stop, 10) for stop in (low, *found, *default, high)})


def _choice(entry: Knob, scope: str) -> None:
    st.segmented_control(
        entry.label,
        entry.choices,
        format_func=lambda choice: CHOICE_LABELS.get(entry.path, {}).get(choice, str(choice)),
        required=True,
        key=key_of(entry.path, scope),
        help=_help(entry),
        persist_state="session",
    )


def _slider_and_box(entry: Knob, scope: str) -> None:
    """A slider for the hand and a box for exact values, under one label."""
    text_key, slider_key = key_of(entry.path, scope), f"{scope}slider:{entry.path}"
    options = stops(entry)
    value = _number(st.session_state[text_key], options)
    if value is not None and value not in options:
        options = sorted([*options, value])
    if value is not None:
        _replace(slider_key, value)
    elif st.session_state.get(slider_key) not in options:
        st.session_state[slider_key] = options[0]

    def follow() -> None:
        if not _echoes(slider_key):
            moved = st.session_state[slider_key]
            _replace(text_key, text_of(int(moved) if entry.kind == "integer" else float(moved)))

    with st.container(
        horizontal=True, vertical_alignment="bottom", wrap=False, gap="small", key=f"{scope}row:{entry.path}"
    ):
        st.select_slider(
            _label(entry),
            options,
            key=slider_key,
            help=_help(entry),
            on_change=follow,
            persist_state="session",
            format_func=lambda stop: _stop_text(stop, entry),
        )
        st.text_input(
            f"{entry.label}, exact value",
            key=text_key,
            on_change=_echoes,
            args=(text_key,),
            label_visibility="collapsed",
            live="0.6s",
            width=92,
            persist_state="session",
        )


def _replace(key: str, value: Any) -> None:
    """Sets an answer in the place of what the browser says."""
    before = st.session_state.get(key)
    st.session_state[key] = value
    if before != value:
        st.session_state[f"{key}:replaced"] = before, value, time.monotonic()


def _echoes(key: str) -> bool:
    """Callback: takes back what is no answer, but the one from before that the browser had not yet seen replaced.

    A page that looks by itself asks every few seconds, each time with all answers as the browser has them.
    """
    before, value, at = st.session_state.get(f"{key}:replaced", (None, None, -math.inf))
    echo: bool = st.session_state[key] == before and time.monotonic() - at < _ECHO_S
    if echo:
        st.session_state[key] = value
    return echo


def _number(text: str, options: list[float]) -> float | None:
    """The typed number where a slider can show it, otherwise None."""
    try:
        value = float(text)
    except ValueError:
        return None
    return value if options[0] <= value <= options[-1] else None


def _stop_text(stop: float, entry: Knob) -> str:
    if entry.unit in _PREFIXED:
        return setting_text(stop, entry.unit)
    return f"{stop:g} {entry.unit}".rstrip()


def _label(entry: Knob) -> str:
    symbol = f" {entry.symbol}" if entry.symbol else ""
    unit = f" [{entry.unit}]" if entry.unit else ""
    return f"{entry.label}{symbol}{unit}"


def _help(entry: Knob) -> str:
    symbol = f" Symbol {entry.symbol}." if entry.symbol else ""
    bounds = f" {sentence(allowed_values(entry))}." if entry.kind in ("integer", "number") else ""
    return plain(f"{entry.help}{symbol}{bounds}")
