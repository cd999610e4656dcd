"""Settings in the address of the page, so that a link shares an experiment.

The address holds the preset and every setting that differs from it, under its dotted path:
`?preset=demo&channel.snr_db=12`. Nothing in it is trusted: a value that is not allowed falls back to the preset's, and
a notice says so.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

import streamlit as st

from pwff_core.config import PresetId, RunConfig, preset_config
from pwff_core.knobs import Knob, Problem, allowed_values, changed_tree, knobs
from pwff_core.runs import limits

RUN, REPLAY, PRESET = "run", "replay", "preset"
MOST_TYPED = 1_000  # characters of a text setting that a link may hold
_MOST_QUOTED = 40  # characters of a bad value that a notice repeats
_MOST_NOTICES, _MOST_NAMES = 5, 3
_SWITCH = {"true": True, "false": False}
_FALL_BACK = "The preset's value is used."


def read() -> tuple[RunConfig | None, list[str]]:
    """The config that the page's address spells, None where it names no setting, and notices on its mistakes."""
    return config_of({name: st.query_params.get_all(name) for name in st.query_params})


def write(config: RunConfig) -> None:
    """Replace the settings in the page's address by a config's; run and replay stay."""
    run = {name: st.query_params[name] for name in (RUN, REPLAY) if name in st.query_params}
    query = run | settings_of(config)
    if query != st.query_params.to_dict():
        st.query_params.from_dict(query)


def share(config: RunConfig, run_id: str = "") -> None:
    """A button that opens the link to these settings, and to a run of this store, to be copied."""
    with st.popover("Share", icon=":material/link:", key="share"):
        st.caption("Whoever opens this link finds these settings on the Live page.")
        if run_id:
            st.caption(f"It opens run {run_id} too, for everybody who uses this app or its store.")
        st.code(link(config, run_id), language=None, wrap_lines=True)


def link(config: RunConfig, run_id: str = "") -> str:
    """The address of the Live page with settings and run."""
    page = urlsplit(st.context.url or "http://localhost:8501/")
    app = page.path.rpartition("/")[0]  # the Live page is the app's own address, and the other pages lie under it
    query = urlencode(({RUN: run_id} if run_id else {}) | settings_of(config), safe=",", quote_via=quote)
    return f"{page.scheme}://{page.netloc}{app}/?{query}"


def settings_of(config: RunConfig) -> dict[str, str]:
    """A config as an address holds it: its preset, and every setting whose value is not the preset's."""
    preset = knobs(preset_config(config.preset))
    own = {path: knob.value for path, knob in knobs(config).items() if knob.value != preset[path].value}
    return {PRESET: config.preset} | {path: _text(value) for path, value in own.items()}


def _text(value: Any) -> str:
    """A setting as an address holds it. None is an empty text."""
    if value is None:
        return ""
    if isinstance(value, tuple):
        return ",".join(map(_text, value))
    if isinstance(value, float):
        return repr(value).removesuffix(".0")
    return str(value).lower() if isinstance(value, bool) else str(value)


def config_of(query: Mapping[str, Sequence[str]]) -> tuple[RunConfig | None, list[str]]:
    """The config that an address spells, None where it names no setting, and a notice for each part without use.

    `query` holds the values of every name in the address; RUN and REPLAY are no settings.
    """
    table = knobs()
    named = {name: values for name, values in query.items() if name not in (RUN, REPLAY)}
    notices = _unknown_names([name for name in named if name not in table])
    settings = {name: values for name, values in named.items() if name in table}
    if not settings:
        return None, notices
    base = _preset(settings.pop(PRESET, []), notices)
    changes: dict[str, Any] = {}
    for path, values in settings.items():
        if len(values) != 1:
            notices.append(f"{table[path].label} is in the address {len(values)} times. {_FALL_BACK}")
        elif (value := _value(table[path], values[0])) is _INVALID:
            notices.append(_refusal(table[path], values[0]))
        else:
            changes[path] = value
    config, refused = _apply(base, changes)
    for path, problems in refused.items():
        # otherwise the setting conflicts with others or with this app, and the problems name them
        is_own = problems[0].path == path and limits.offered(path)
        words = " ".join(str(problem) for problem in problems)
        notices.append(_refusal(table[path], query[path][0]) if is_own else f"{words} {_FALL_BACK}")
    return config, _first_few(notices)


def _preset(values: Sequence[str], notices: list[str]) -> RunConfig:
    names: tuple[PresetId, ...] = limits.bounded(knobs()[PRESET]).choices
    preset = next((name for name in names if list(values) == [name]), None)
    if values and preset is None:
        notices.append(
            f"The preset cannot be {_quote(', '.join(values))}: give one of {', '.join(names)}. Demo is used."
        )
    return preset_config(preset or "demo")


_INVALID = object()  # the value of a text that no setting can have; None is a value


def _value(knob: Knob, text: str) -> Any:
    """A text's value as RunConfig takes it, or _INVALID. Numbers stay text: RunConfig reads and checks them."""
    if knob.kind == "switch":
        return _SWITCH.get(text, _INVALID)
    if knob.kind == "choice":
        return next((choice for choice in knob.choices if str(choice) == text), _INVALID)
    if not text:
        return None
    if knob.kind == "list":
        return tuple(text.split(","))
    is_unfit = len(text) > MOST_TYPED or any(unicodedata.category(letter) in ("Cc", "Cs") for letter in text)
    return _INVALID if is_unfit else text


def _apply(base: RunConfig, changes: Mapping[str, Any]) -> tuple[RunConfig, dict[str, list[Problem]]]:
    """The base with as many changes as are allowed together, and the problems of each of the others by path."""
    config, _ = limits.read_config(changed_tree(base, changes))
    if config is not None:
        return config, {}
    left, refused = dict(changes), dict[str, list[Problem]]()
    while True:  # a change may need another one first, as an endless coherence time needs a deadline
        before = len(left)
        for path, value in list(left.items()):
            config, problems = limits.read_config(changed_tree(base, {path: value}))
            if config is None:
                refused[path] = list(problems.values())
            else:
                base = config
                del left[path]
        if len(left) == before:
            return base, {path: refused[path] for path in left}


def _refusal(knob: Knob, text: str) -> str:
    return f"{knob.label} cannot be {_quote(text)}: {allowed_values(limits.bounded(knob))}. {_FALL_BACK}"


def _quote(text: str) -> str:
    """A value as a notice repeats it: no more than its first letters, and the unprintable ones replaced."""
    letters = "".join(letter if letter.isprintable() else "�" for letter in text[:_MOST_QUOTED])
    return f"“{letters}{'…' if len(text) > _MOST_QUOTED else ''}”"


def _unknown_names(names: Sequence[str]) -> list[str]:
    if not names:
        return []
    quoted = ", ".join(_quote(name) for name in names[:_MOST_NAMES])
    more = f" and {len(names) - _MOST_NAMES} more" if len(names) > _MOST_NAMES else ""
    such, them = ("setting", "it") if len(names) == 1 else ("settings", "them")
    return [f"The address names {quoted}{more}. pwff has no such {such} and leaves {them} out."]


def _first_few(notices: list[str]) -> list[str]:
    """As many notices as a person reads, the last of which counts the others."""
    more = len(notices) - _MOST_NOTICES
    if more < 1:
        return notices
    return [*notices[:_MOST_NOTICES], f"What else cannot be used ({more}) falls back to the preset too."]
