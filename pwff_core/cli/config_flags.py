"""A flag for every knob of a config. Flags are taken as text; the config itself checks their values."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Annotated, Any, get_args

from tyro.conf import arg

from pwff_core.config import STEERABLE, PresetId, RunConfig, preset_config
from pwff_core.errors import ConfigError
from pwff_core.knobs import Knob, knobs, load_toml, with_changes
from pwff_core.tools.rank.settings import RankingConfig, checked_config

_METAVARS = {"switch": "true|false", "integer": "N", "number": "X", "list": "X X …", "text": "TEXT"}


def _flags_dataclass(left_out: Collection[str], hint: str = "") -> type[Any]:
    """A dataclass with a field of text for every knob of a run but those left out, nested by section.

    `hint` stands behind each knob's help, in place of the demo's value.
    """
    sections: dict[str, list[tuple[str, Any, Any]]] = {"": []}
    for path, entry in knobs().items():
        if path not in left_out:
            section, _, name = path.rpartition(".")
            flag = _flag(entry, hint or f"(demo: {_as_text(entry.value)})")
            sections.setdefault(section, []).append((name, flag, dataclasses.field(default=None)))
    outer = sections.pop("")
    for section, fields in sections.items():
        doc = RunConfig.model_fields[section].default.__doc__
        inner = dataclasses.make_dataclass(section, fields, namespace={"__doc__": doc})
        outer.append((section, inner, dataclasses.field(default_factory=inner)))
    return dataclasses.make_dataclass("settings", outer, namespace={"__doc__": "Settings of the run."})


def _flag(entry: Knob, hint: str) -> Any:
    text = tuple[str, ...] if entry.kind == "list" else str
    metavar = "|".join(str(choice) for choice in entry.choices) or entry.unit or _METAVARS[entry.kind]
    symbol = f"{entry.symbol}: " if entry.symbol else ""
    return Annotated[text | None, arg(help=symbol + entry.help, metavar=metavar, help_behavior_hint=hint)]


def _as_text(value: Any) -> str:
    """A value as a flag takes it."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}".replace("e+0", "e") if isinstance(value, float) else str(value)


ALL_SETTINGS = _flags_dataclass(("preset",))
COMPARED_SETTINGS = _flags_dataclass(("preset", "method", "seed"))
STEERED_SETTINGS = _flags_dataclass(knobs().keys() - set(STEERABLE), "(default: as the run has it)")
_RANKING_KNOBS = knobs(RankingConfig())
RANKING_SETTINGS = dataclasses.make_dataclass(
    "settings",
    [
        (name, _flag(entry, f"(default: {_as_text(entry.value)})"), dataclasses.field(default=None))
        for name, entry in _RANKING_KNOBS.items()
    ],
    namespace={"__doc__": "What is ranked, and by whom."},
)


def config_of(preset: str, file: Path | None, flags: Any) -> RunConfig:
    """The preset, with the file laid over it, with the flags laid over that. ConfigError for a value out of bounds."""
    preset_id = next((name for name in get_args(PresetId) if name == preset), None)
    if preset_id is None:
        raise ConfigError(f"preset: {preset!r} is not one of {', '.join(get_args(PresetId))}.")
    base = preset_config(preset_id)
    return with_changes(load_toml(file, base) if file else base, changes_of(flags))


def changes_of(flags: Any) -> dict[str, Any]:
    """The values of the flags that were given, by the knob's dotted path; nothing is checked yet."""
    return _changes(dataclasses.asdict(flags), knobs())


def ranking_config_of(flags: Any) -> RankingConfig:
    """The settings of `pwff rank`. ConfigError for a value out of bounds."""
    return checked_config(_changes(dataclasses.asdict(flags), _RANKING_KNOBS))


def _changes(flags: Mapping[str, Any], entries: Mapping[str, Knob], prefix: str = "") -> dict[str, Any]:
    changes: dict[str, Any] = {}
    for name, value in flags.items():
        if isinstance(value, Mapping):
            changes |= _changes(value, entries, f"{prefix}{name}.")
        elif value is not None:
            changes[prefix + name] = _read(entries[prefix + name], value)
    return changes


def _read(entry: Knob, text: str | tuple[str, ...]) -> Any:
    """A flag's value; the config cannot read from text: none, a choice that is a number, a list with commas."""
    parts = tuple(part for piece in text for part in piece.split(",") if part) if isinstance(text, tuple) else (text,)
    if entry.value is None and [part.lower() for part in parts] == ["none"]:
        return None  # a setting that may be none is none on the demo
    values = tuple(_number(part) for part in parts) if entry.kind in ("integer", "number", "list") else parts
    if isinstance(text, tuple):
        return values
    return next((choice for choice in entry.choices if str(choice) == text), values[0])


def _number(text: str) -> int | float | str:
    """The number that a text means, or else the text, so that an error names 0 as 0 and five as 'five'."""
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text
