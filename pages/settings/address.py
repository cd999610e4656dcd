"""Settings in the address of the page, so that a link shares an experiment.

The address holds the preset and whatever differs from it, each setting under its dotted path:
`?preset=demo&channel.snr_db=12`. Nothing in it is trusted: what is not allowed falls back to the preset, and a notice
says so.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

import streamlit as st

from pwff_core.config import PresetId, RunConfig, preset_config
from pwff_core.errors import ConfigError
from pwff_core.knobs import Knob, allowed_values, knobs, with_changes
from pwff_core.runs import limits

RUN, REPLAY, PRESET = "run", "replay", "preset"
MOST_TYPED = 1_000  # characters of a text setting that a link may hold
_SHOWN = 40  # characters of a bad value that a notice repeats
_MOST_NOTICES, _MOST_NAMES = 5, 3
_SWITCH = {"true": True, "false": False}
_FALL_BACK = "The preset's value is used."


def read() -> tuple[RunConfig | None, list[str]]:
    """The config that the page's address spells, None where it names no setting, and notices on what it has wrong."""
    return config_of({name: st.query_params.get_all(name) for name in st.query_params})


def write(config: RunConfig) -> None:
    """Put a config into the page's address, in the place of the settings that are there; the run stays."""
    kept = {name: st.query_params[name] for name in (RUN, REPLAY) if name in st.query_params}
    wanted = kept | settings_of(config)
    if wanted != st.query_params.to_dict():
        st.query_params.from_dict(wanted)


def share(config: RunConfig, run_id: str = "") -> None:
    """A button that opens the link to these settings, and to a run of this store, ready to be copied."""
    with st.popover("Share", icon=":material/link:", key="share"):
        st.caption("Whoever opens this link finds these settings on the Live page.")
        if run_id:
            st.caption(f"It opens run {run_id} too, for everybody who uses this app or its store.")
        st.code(link(config, run_id), language=None, wrap_lines=True)


def link(config: RunConfig, run_id: str = "") -> str:
    """The address of the Live page with settings and run."""
    here = urlsplit(st.context.url or "http://localhost:8501/")
    app = here.path.rpartition("/")[0]  # pages lie under it, and the Live page is the app's own address
    query = urlencode(({RUN: run_id} if run_id else {}) | settings_of(config), safe=",", quote_via=quote)
    return f"{here.scheme}://{here.netloc}{app}/?{query}"


def settings_of(config: RunConfig) -> dict[str, str]:
    """What an address holds of a config: its preset, and every setting that the preset has otherwise."""
    preset = knobs(preset_config(config.preset))
    own = {path: entry.value for path, entry in knobs(config).items() if entry.value != preset[path].value}
    return {PRESET: config.preset} | {path: _text(value) for path, value in own.items()}


def _text(value: Any) -> str:
    """A setting as an address holds it; nothing for None."""
    if value is None:
        return ""
    if isinstance(value, tuple):
        return ",".join(map(_text, value))
    if isinstance(value, float):
        return repr(value).removesuffix(".0")
    return str(value).lower() if isinstance(value, bool) else str(value)


def config_of(found: Mapping[str, Sequence[str]]) -> tuple[RunConfig | None, list[str]]:
    """The config that an address spells, None where it names no setting, and a notice for each that cannot be used.

    `found` holds the values of every name that is in the address, RUN and REPLAY left aside.
    """
    entries = knobs()
    named = {name: values for name, values in found.items() if name not in (RUN, REPLAY)}
    notices = _unknown([name for name in named if name not in entries])
    known = {entries[name]: values for name, values in named.items() if name in entries}
    if not known:
        return None, notices
    base = _preset(known.pop(entries[PRESET], []), notices)
    changes: dict[str, Any] = {}
    for entry, values in known.items():
        if len(values) != 1:
            notices.append(f"{entry.label} is in the address {len(values)} times. {_FALL_BACK}")
        elif (value := _value(entry, values[0])) is _BAD:
            notices.append(_refused(entry, values[0]))
        else:
            changes[entry.path] = value
    config, reasons = _as_much_as_fits(base, changes)
    for path, reason in reasons.items():
        # else it is at odds with other settings or with this app, which the reason names
        own = reason.startswith(f"{path}: ") and limits.offered(path)
        notices.append(_refused(entries[path], found[path][0]) if own else f"{reason} {_FALL_BACK}")
    return config, _few(notices)


def _preset(values: Sequence[str], notices: list[str]) -> RunConfig:
    names: tuple[PresetId, ...] = limits.bounded(knobs()[PRESET]).choices
    preset = next((name for name in names if list(values) == [name]), None)
    if values and preset is None:
        notices.append(
            f"The preset cannot be {_short(', '.join(values))}: give one of {', '.join(names)}. Demo is used."
        )
    return preset_config(preset or "demo")


_BAD = object()  # what no setting is: None is one


def _value(entry: Knob, text: str) -> Any:
    """What the text says, as RunConfig takes it, or _BAD. Numbers stay text: RunConfig reads and checks them."""
    if entry.kind == "switch":
        return _SWITCH.get(text, _BAD)
    if entry.kind == "choice":
        return next((choice for choice in entry.choices if str(choice) == text), _BAD)
    if not text:
        return None
    if entry.kind == "list":
        return tuple(text.split(","))
    unfit = len(text) > MOST_TYPED or any(unicodedata.category(letter) in ("Cc", "Cs") for letter in text)
    return _BAD if unfit else text


def _as_much_as_fits(base: RunConfig, changes: Mapping[str, Any]) -> tuple[RunConfig, dict[str, str]]:
    """The base with all changes, or with as many as are allowed together; the others' paths, and why not."""
    try:
        return _allowed(base, changes), {}
    except ConfigError:
        left, reasons = dict(changes), dict[str, str]()
    while True:  # a change may wait for another, as a coherence time without end for a deadline
        before = len(left)
        for path, value in list(left.items()):
            try:
                base = _allowed(base, {path: value})
                del left[path]
            except ConfigError as error:
                reasons[path] = str(error)
        if len(left) == before:
            return base, {path: reasons[path] for path in left}


def _allowed(base: RunConfig, changes: Mapping[str, Any]) -> RunConfig:
    """The base with all changes. ConfigError if they are not allowed, at all or on this app."""
    config = with_changes(base, dict(changes))
    limits.check(config)
    return config


def _refused(entry: Knob, text: str) -> str:
    return f"{entry.label} cannot be {_short(text)}: {allowed_values(limits.bounded(entry))}. {_FALL_BACK}"


def _short(text: str) -> str:
    """A value as a notice repeats it: cut where it is long, and with nothing in it that cannot be seen."""
    letters = "".join(letter if letter.isprintable() else "�" for letter in text[:_SHOWN])
    return f"“{letters}{'…' if len(text) > _SHOWN else ''}”"


def _unknown(names: Sequence[str]) -> list[str]:
    if not names:
        return []
    told = ", ".join(_short(name) for name in names[:_MOST_NAMES])
    more = f" and {len(names) - _MOST_NAMES} more" if len(names) > _MOST_NAMES else ""
    such, them = ("setting", "it") if len(names) == 1 else ("settings", "them")
    return [f"The address names {told}{more}. pwff has no such {such} and leaves {them} out."]


def _few(notices: list[str]) -> list[str]:
    """As many notices as a person reads."""
    more = len(notices) - _MOST_NOTICES
    if more < 1:
        return notices
    return [*notices[:_MOST_NOTICES], f"What else cannot be used ({more}) falls back to the preset too."]
