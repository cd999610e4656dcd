"""Flags that are settings of a run: made from the knobs, taken as text, checked where all settings are checked."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, get_args

from tyro.conf import arg

from pwff_core.config import STEERABLE, PresetId, RunConfig, preset_config
from pwff_core.errors import ConfigError
from pwff_core.knobs import Knob, knobs, load_toml, with_changes
from pwff_core.tools.rank import settings as ranking

_KIND_WORDS = {"switch": "true|false", "integer": "N", "number": "X", "list": "X X …", "text": "TEXT"}


def settings_type(left_out: Collection[str], hint: str = "") -> type[Any]:
    """A dataclass with a field of text for every setting of the config but those left out, nested by section.

    `hint` stands behind each setting's help, in place of the demo's value.
    """
    sections: dict[str, list[tuple[str, Any, Any]]] = {"": []}
    for path, entry in knobs().items():
        if path not in left_out:
            section, _, name = path.rpartition(".")
            flag = _flag(entry, hint or f"(demo: {_written(entry.value)})")
            sections.setdefault(section, []).append((name, flag, dataclasses.field(default=None)))
    outer = sections.pop("")
    for section, fields in sections.items():
        doc = RunConfig.model_fields[section].default.__doc__
        inner = dataclasses.make_dataclass(section, fields, namespace={"__doc__": doc})
        outer.append((section, inner, dataclasses.field(default_factory=inner)))
    return dataclasses.make_dataclass("settings", outer, namespace={"__doc__": "Settings of the run."})


def _flag(entry: Knob, hint: str) -> Any:
    text = tuple[str, ...] if entry.kind == "list" else str
    words = "|".join(str(choice) for choice in entry.choices) or entry.unit or _KIND_WORDS[entry.kind]
    symbol = f"{entry.symbol}: " if entry.symbol else ""
    return Annotated[text | None, arg(help=symbol + entry.help, metavar=words, help_behavior_hint=hint)]


def _written(value: Any) -> str:
    """A value as a flag takes it."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}".replace("e+0", "e") if isinstance(value, float) else str(value)


ALL_SETTINGS = settings_type(("preset",))
COMPARED_SETTINGS = settings_type(("preset", "method", "seed"))
STEERED_SETTINGS = settings_type(knobs().keys() - set(STEERABLE), "(default: as the run has it)")
_RANKING_KNOBS = knobs(ranking.RankingConfig())
RANKING_SETTINGS = dataclasses.make_dataclass(
    "settings",
    [
        (name, _flag(entry, f"(default: {_written(entry.value)})"), dataclasses.field(default=None))
        for name, entry in _RANKING_KNOBS.items()
    ],
    namespace={"__doc__": "What is ranked, and by whom."},
)


def config_of(preset: str, file: Path | None, settings: Any) -> RunConfig:
    """The preset, with the file laid over it, with the flags laid over that. ConfigError if it cannot be."""
    if preset not in get_args(PresetId):
        raise ConfigError(f"preset: {preset!r} is not one of {', '.join(get_args(PresetId))}.")
    base = preset_config(next(known for known in get_args(PresetId) if known == preset))
    return with_changes(load_toml(file, base) if file else base, changes_of(settings))


def changes_of(settings: Any) -> dict[str, Any]:
    """Dotted paths of the run's settings whose flags were given, with what was given; nothing is checked yet."""
    return _changes(dataclasses.asdict(settings), knobs())


def ranking_config_of(settings: Any) -> ranking.RankingConfig:
    """What `pwff rank` was told. ConfigError if it cannot be."""
    return ranking.checked(_changes(dataclasses.asdict(settings), _RANKING_KNOBS))


def _changes(settings: Mapping[str, Any], known: Mapping[str, Knob], prefix: str = "") -> dict[str, Any]:
    """Dotted paths of the flags that were given, with what was given."""
    given: dict[str, Any] = {}
    for name, value in settings.items():
        if isinstance(value, Mapping):
            given |= _changes(value, known, f"{prefix}{name}.")
        elif value is not None:
            given[prefix + name] = _read(known[prefix + name], value)
    return given


def _read(entry: Knob, text: str | tuple[str, ...]) -> Any:
    """What the config does not read from text by itself: none, a choice that is a number, a list with commas."""
    parts = tuple(part for piece in text for part in piece.split(",") if part) if isinstance(text, tuple) else (text,)
    if entry.value is None and [part.lower() for part in parts] == ["none"]:
        return None  # a setting that may be none is none on the demo
    values = tuple(_number(part) for part in parts) if entry.kind in ("integer", "number", "list") else parts
    if isinstance(text, tuple):
        return values
    return next((choice for choice in entry.choices if str(choice) == text), values[0])


def _number(text: str) -> int | float | str:
    """The number that a text means, or the text: so that a sentence about 0 says 0, and one about five 'five'."""
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def unknown_flag(command: str, word: str, settings: Any) -> ConfigError:
    """The sentence for an argument that the command does not have, with the nearest that it has."""
    name = word.partition("=")[0]
    if not name.startswith("-"):
        return ConfigError(f"`pwff {command}` does not take {word!r}; a flag takes its value as --flag value.")
    if command == "fork" and name.lstrip("-").replace("-", "_") in knobs():
        allowed = ", ".join(_as_flag(path) for path in STEERABLE)
        return ConfigError(f"{name} cannot be changed in a fork, as it shares rounds; what can be is {allowed}.")
    shown = sorted(_as_flag(path) for path in _paths(settings))
    close = difflib.get_close_matches(name.replace("_", "-"), shown, n=1, cutoff=0.5)
    guess = f"; did you mean {close[0]}?" if close else "."
    return ConfigError(f"Unknown flag {name}{guess} `pwff {command} --help` lists all flags.")


def _as_flag(path: str) -> str:
    """A field that would be a word of Python has a trailing underscore in its name."""
    return f"--{path.rstrip('_').replace('_', '-')}"


def _paths(settings: Any, prefix: str = "") -> Iterable[str]:
    for field in dataclasses.fields(settings):
        value = getattr(settings, field.name)
        if dataclasses.is_dataclass(value):
            yield from _paths(value, "" if field.name == "settings" else f"{prefix}{field.name}.")
        else:
            yield prefix + field.name
