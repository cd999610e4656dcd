"""Knobs drawn from the config's own metadata: label with symbol and unit, help, bounds, scale, choices.

A knob needs no code of its own: `draw("channel.snr_db", …)` finds everything in `knobs()`. A typed answer stays a text
in the session under the key `knob:PATH`. The slider beside it follows the text, and the text follows the slider.
RunConfig checks all answers together (`read_config`), and each problem is shown at its knob.

A page with answers of its own, apart from the Live page's, gives a `scope`, which stands before each key.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Mapping
from typing import Any

import streamlit as st

from pages.parts.words import plain, sentence, setting_text
from pages.settings.choices import choose
from pwff_core.config import RunConfig
from pwff_core.knobs import Knob, Problem, allowed_values, changed_tree, knobs
from pwff_core.runs import limits

_MANTISSAS = (1.0, 1.5, 2.0, 3.0, 5.0, 7.0)
_FEW_STOPS = 100  # a linear knob with no more whole steps than this has a stop at each
_ECHO_S = 2.0  # for this long after a callback has set an answer, the browser may still send the one before
_PREFIXED = {"Hz", "W", "s"}
CHOICE_LABELS: Mapping[str, Mapping[Any, str]] = {
    "channel.fading": {"rayleigh": "Rayleigh", "awgn": "AWGN"},
    "price_as": {"backbone": "its own size", "gpt2": "GPT-2 small"},
    "lora.modules": {"by-device": "by device", "all": "all sites"},
    "reward.trainable": {"head": "head", "all": "head and encoder"},
    "device": {"auto": "automatic", "cpu": "CPU", "cuda": "GPU"},
}


def key_of(path: str, scope: str = "") -> str:
    """The session key of a knob's answer."""
    return f"{scope}knob:{path}"


def text_of(value: Any) -> str:
    """A number as one types it. None is an empty text."""
    if value is None:
        return ""
    return f"{value:.12g}" if isinstance(value, float) else str(value)


def set_values(config: RunConfig, paths: Iterable[str], scope: str = "") -> None:
    """Set the knobs to a config's values; call before they are drawn, or in a callback."""
    table = knobs(config)
    for path in paths:
        value, chosen = table[path].value, table[path].kind in ("choice", "switch")
        _replace(key_of(path, scope), value if chosen else text_of(value))


def read_config(base: RunConfig, paths: Iterable[str], scope: str = "") -> tuple[RunConfig | None, dict[str, Problem]]:
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
    """The answer of an integer knob; None if it is no allowed number."""
    knob = limits.bounded(knobs()[path])
    try:
        value = float(st.session_state[key_of(path)])
    except ValueError:
        return None
    low, high = knob.low or -math.inf, knob.high or math.inf
    return int(value) if low <= value <= high and value.is_integer() else None


def draw(path: str, problems: Mapping[str, Problem], *, slider: bool = False, hint: str = "", scope: str = "") -> None:
    """Draw a knob and, below it, the problem with its answer. `hint` is shown in an empty box."""
    knob = limits.bounded(knobs()[path])
    if knob.kind == "choice":
        _choice(knob, scope)
    elif knob.kind == "switch":
        st.toggle(knob.label, key=key_of(path, scope), help=_help(knob), persist_state="session")
    elif slider:
        _slider_and_box(knob, scope)
    else:
        st.text_input(
            _label(knob),
            key=key_of(path, scope),
            help=_help(knob),
            placeholder=hint,
            live="0.6s",
            persist_state="session",
        )
    show_problem(path, problems)


def show_problem(path: str, problems: Mapping[str, Problem]) -> None:
    """Show the problem of a knob or a section, if there is one."""
    if path in problems:
        st.error(plain(sentence(problems[path].words)))


def stops(knob: Knob) -> list[float]:
    """The values of a slider: bounds, the knob's value, and between them whole steps, twentieths or six a decade."""
    if knob.low is None or knob.high is None:
        raise ValueError(f"{knob.path} has no bounds, so it cannot have a slider")
    low, high = knob.low, knob.high
    if knob.scale == "linear" and high - low <= 1:
        between = [low + (high - low) * step / 20 for step in range(21)]
    elif knob.scale == "linear" and high - low <= _FEW_STOPS:
        between = [low + step for step in range(int(high - low) + 1)]
    else:
        decades = (float(f"{mantissa}e{power}") for power in range(-7, 11) for mantissa in _MANTISSAS)
        between = [stop for stop in decades if low <= stop <= high]
        if knob.kind == "integer":
            between = [stop for stop in between if stop == int(stop)]
    value = [float(knob.value)] if isinstance(knob.value, int | float) else []
    return sorted({round(stop, 10) for stop in (low, *between, *value, high)})


def _choice(knob: Knob, scope: str) -> None:
    labels = CHOICE_LABELS.get(knob.path, {})
    names = {choice: labels.get(choice, str(choice)) for choice in knob.choices}
    choose(knob.label, names, key=key_of(knob.path, scope), as_row=True, help=_help(knob))


def _slider_and_box(knob: Knob, scope: str) -> None:
    """A slider and, for exact values, a box under the same label."""
    text_key, slider_key = key_of(knob.path, scope), f"{scope}slider:{knob.path}"
    options = stops(knob)
    value = _number(st.session_state[text_key], options)
    if value is not None and value not in options:
        options = sorted([*options, value])
    if value is not None:
        _replace(slider_key, value)
    elif st.session_state.get(slider_key) not in options:
        st.session_state[slider_key] = options[0]

    def set_text() -> None:
        if not _undo_echo(slider_key):
            moved = st.session_state[slider_key]
            _replace(text_key, text_of(int(moved) if knob.kind == "integer" else float(moved)))

    with st.container(
        horizontal=True, vertical_alignment="bottom", wrap=False, gap="small", key=f"{scope}row:{knob.path}"
    ):
        st.select_slider(
            _label(knob),
            options,
            key=slider_key,
            help=_help(knob),
            on_change=set_text,
            persist_state="session",
            format_func=lambda stop: _stop_text(stop, knob),
        )
        st.text_input(
            f"{knob.label}, exact value",
            key=text_key,
            on_change=_undo_echo,
            args=(text_key,),
            label_visibility="collapsed",
            live="0.6s",
            width=92,
            persist_state="session",
        )


def _replace(key: str, value: Any) -> None:
    """Set an answer, whatever the browser says."""
    before = st.session_state.get(key)
    st.session_state[key] = value
    if before != value:
        st.session_state[f"{key}:replaced"] = before, value, time.monotonic()


def _undo_echo(key: str) -> bool:
    """Callback: undo an echo, and tell whether it was one.

    An echo is the answer from before `_replace`, sent again by a browser that had not yet seen the new one. Each poll
    of a live page sends all answers of the browser.
    """
    before, value, replaced_at = st.session_state.get(f"{key}:replaced", (None, None, -math.inf))
    is_echo: bool = st.session_state[key] == before and time.monotonic() - replaced_at < _ECHO_S
    if is_echo:
        st.session_state[key] = value
    return is_echo


def _number(text: str, options: list[float]) -> float | None:
    """The typed number; None if there is none that a slider can show."""
    try:
        value = float(text)
    except ValueError:
        return None
    return value if options[0] <= value <= options[-1] else None


def _stop_text(stop: float, knob: Knob) -> str:
    if knob.unit in _PREFIXED:
        return setting_text(stop, knob.unit)
    return f"{stop:g} {knob.unit}".rstrip()


def _label(knob: Knob) -> str:
    symbol = f" {knob.symbol}" if knob.symbol else ""
    unit = f" [{knob.unit}]" if knob.unit else ""
    return f"{knob.label}{symbol}{unit}"


def _help(knob: Knob) -> str:
    symbol = f" Symbol {knob.symbol}." if knob.symbol else ""
    bounds = f" {sentence(allowed_values(knob))}." if knob.kind in ("integer", "number") else ""
    return plain(f"{knob.help}{symbol}{bounds}")
