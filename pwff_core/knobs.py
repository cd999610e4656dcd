"""Knobs: the fields of a config as rows, for flags, sliders and tables; settings read from a person and checked.

A knob is a leaf of `RunConfig` by its dotted path, "channel.snr_db". Changes are dicts from paths to values.
"""

from __future__ import annotations

import difflib
import math
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from pwff_core.config import STEERABLE, PresetId, RunConfig, Section, preset_config
from pwff_core.errors import ConfigError
from pwff_core.records import Value

Kind = Literal["choice", "switch", "integer", "number", "text", "list"]


class Knob(NamedTuple):
    """One field of the config, ready to be drawn, listed or explained."""

    path: str  # "channel.snr_db"
    label: str
    symbol: str
    unit: str
    help: str
    value: Any  # as the config has it
    low: float | None
    high: float | None
    choices: tuple[Any, ...]
    scale: str
    kind: Kind


def _choices(annotation: Any) -> tuple[Any, ...]:
    return get_args(annotation) if getattr(annotation, "__origin__", None) is Literal else ()


def _kind(annotation: Any) -> Kind:
    if _choices(annotation):
        return "choice"
    plain = next((part for part in get_args(annotation) if part is not type(None)), annotation)  # of `T | None`
    return _KINDS.get(plain, "list")


_KINDS: dict[Any, Kind] = {bool: "switch", int: "integer", float: "number", str: "text"}


def _bounds(info: FieldInfo) -> tuple[float | None, float | None]:
    low = next((float(m.ge) for m in info.metadata if hasattr(m, "ge")), None)
    high = next((float(m.le) for m in info.metadata if hasattr(m, "le")), None)
    return low, high


def knobs(config: Section | None = None) -> dict[str, Knob]:
    """Every leaf of a config by dotted path, in the order of definition, with its value; the demo's by default."""

    def walk(section: BaseModel, prefix: str) -> dict[str, Knob]:
        leaves: dict[str, Knob] = {}
        for name, info in type(section).model_fields.items():
            value = getattr(section, name)
            if isinstance(value, Section):
                leaves |= walk(value, f"{prefix}{name}.")
                continue
            extra = info.json_schema_extra if isinstance(info.json_schema_extra, dict) else {}
            low, high = _bounds(info)
            leaves[prefix + name] = Knob(
                prefix + name, str(extra["label"]), str(extra["symbol"]), str(extra["unit"]),
                info.description or "", value, low, high, _choices(info.annotation), str(extra["scale"]),
                _kind(info.annotation),
            )  # fmt: skip
        return leaves

    return walk(config or RunConfig(), "")


def _set(tree: dict[str, Any], path: str, value: Any) -> None:
    *parents, leaf = path.split(".")
    for parent in parents:
        tree = tree.setdefault(parent, {})
    tree[leaf] = value


def with_changes(config: RunConfig, changes: dict[str, Any]) -> RunConfig:
    """A config with some dotted paths set anew and everything checked again; ConfigError if it cannot be."""
    tree = config.model_dump()
    known = knobs(config)
    for path, value in changes.items():
        if path not in known:
            raise ConfigError(f"unknown setting {path!r}.{_nearest(path, known)} `pwff run --help` lists all.")
        _set(tree, path, value)
    return checked(tree)


def steered(config: RunConfig, *changes: Mapping[str, Value]) -> RunConfig:
    """A run's settings after changes while it was going, the later over the earlier, all checked together.

    ConfigError for a setting that is not STEERABLE, and for a value that is not allowed.
    """
    merged: dict[str, Any] = {path: value for change in changes for path, value in change.items()}
    for path, value in merged.items():
        if path not in STEERABLE:
            names = ", ".join(STEERABLE)
            raise ConfigError(f"{path[:60]!r} cannot be changed while a run is going; what can be is {names}.")
        if value is None:
            raise ConfigError(f"{path}: nothing is given; {allowed(knobs(config)[path])}.")
    if "preferences.helpfulness_weights" in merged:
        merged["preferences.harmlessness_weights"] = None  # the other way to say the same, which no longer holds
    return with_changes(config, merged)


def checked(tree: dict[str, Any]) -> RunConfig:
    """A RunConfig from nested dicts; ConfigError with one sentence a problem if it cannot be."""
    try:
        return RunConfig.model_validate(tree)
    except ValidationError as error:
        raise ConfigError(" ".join(explain(error).values())) from None


def _flatten(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in tree.items():
        flat |= _flatten(value, f"{prefix}{name}.") if isinstance(value, dict) else {prefix + name: value}
    return flat


def load_toml(path: Path, base: RunConfig) -> RunConfig:
    """The base config with a TOML file laid over it: sections as tables, fields as keys.

    A file that names a preset starts from that preset's settings instead of the base.
    """
    try:
        tree = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"cannot read the config file {path}: {error.strerror}.") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not valid TOML: {error}.") from None
    # TOML has no none: where a setting may be none, the word means it, as it does after a flag
    may_be_none = {name for name, entry in knobs().items() if entry.value is None}
    changes = {
        name: None if value == "none" and name in may_be_none else value for name, value in _flatten(tree).items()
    }
    for preset in get_args(PresetId):
        if changes.get("preset") == preset:
            base = preset_config(preset)
    return with_changes(base, changes)


def _nearest(word: str, known: Any) -> str:
    close = difflib.get_close_matches(word, [str(name) for name in known], n=1, cutoff=0.5)
    return f" Did you mean {close[0]!r}?" if close and close[0] != word else ""


def explain(error: ValidationError, known: dict[str, Knob] | None = None) -> dict[str, str]:
    """Each problem of a ValidationError as one sentence, by dotted path: what was wrong, what is allowed.

    `known` are the knobs of what was checked, of a RunConfig unless they are given.
    """
    known = known or knobs()
    problems: dict[str, str] = {}
    for item in error.errors():
        path = ".".join(part for part in item["loc"] if isinstance(part, str))
        # a list may hold many bad elements: the first one says enough
        problems.setdefault(path, _sentence(path, item["type"], item["input"], item["msg"], known))
    return problems


def _sentence(path: str, kind: str, value: Any, message: str, known: dict[str, Knob]) -> str:
    if kind == "extra_forbidden":
        return f"unknown setting {path!r}.{_nearest(path, known)}"
    entry = known.get(path)
    lead = f"{path}: " if path else ""
    if kind == "value_error":
        return f"{lead}{message.removeprefix('Value error, ')}."
    if entry is None:
        settings = ", ".join(name.removeprefix(f"{path}.") for name in known if name.startswith(f"{path}."))
        names = settings or "see the help"
        return f"{lead}{_literal(value)} is not allowed; give a table of this section's settings: {names}."
    if entry.kind == "choice":
        options = ", ".join(str(choice) for choice in entry.choices)
        return f"{path}: {_literal(value)} is not one of {options}.{_nearest(str(value), entry.choices)}"
    return f"{path}: {_literal(value)} is not allowed; {allowed(entry)}."


def allowed(entry: Knob) -> str:
    """What a knob takes, in words: 'give a number from -30 to 60 dB'."""
    if entry.kind == "choice":
        return "give one of " + ", ".join(str(choice) for choice in entry.choices)
    if entry.kind == "list":
        return "give a list of numbers from 0 to 1, one a client"
    if entry.kind not in ("integer", "number"):
        return "give true or false" if entry.kind == "switch" else "give a text"
    words = "give a whole number" if entry.kind == "integer" else "give a number"
    unit = f" {entry.unit}" if entry.unit else ""
    if entry.low is not None and entry.high is not None:
        return f"{words} from {_number(entry.low)} to {_number(entry.high)}{unit}"
    return f"{words} of at least {_number(entry.low)}{unit}, or inf" if entry.low is not None else words


def _number(value: float) -> str:
    """1000000000.0 → '1,000,000,000'; 0.0001 → '0.0001'."""
    return f"{value:,.0f}" if value == math.floor(value) else f"{value:g}"


def _literal(value: Any) -> str:
    """A value as a person would write it in a TOML file."""
    return str(value).lower() if isinstance(value, bool) else repr(value)
