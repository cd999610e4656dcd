"""Knobs: the fields of a config as rows, for flags, sliders and tables. What a person sets is read and checked here.

A knob is a leaf of `RunConfig` by its dotted path, "channel.snr_db". Changes are dicts from paths to values.
"""

from __future__ import annotations

import difflib
import math
import tomllib
from collections.abc import Iterable, Mapping
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
    value: Any  # the config's value now
    low: float | None
    high: float | None
    choices: tuple[Any, ...]
    scale: str
    kind: Kind


class Problem(NamedTuple):
    """Something in a config that is not allowed. As text it is a sentence, which begins with the path."""

    path: str  # of a knob or a section; "" where the words themselves name the settings
    words: str

    def __str__(self) -> str:
        return f"{self.path}: {self.words}" if self.path else self.words


def _choices(annotation: Any) -> tuple[Any, ...]:
    return get_args(annotation) if getattr(annotation, "__origin__", None) is Literal else ()


def _kind(annotation: Any) -> Kind:
    if _choices(annotation):
        return "choice"
    required = next((part for part in get_args(annotation) if part is not type(None)), annotation)  # T of `T | None`
    return _KINDS.get(required, "list")


_KINDS: dict[Any, Kind] = {bool: "switch", int: "integer", float: "number", str: "text"}


def _bounds(info: FieldInfo) -> tuple[float | None, float | None]:
    low = next((float(m.ge) for m in info.metadata if hasattr(m, "ge")), None)
    high = next((float(m.le) for m in info.metadata if hasattr(m, "le")), None)
    return low, high


def knobs(config: Section | None = None) -> dict[str, Knob]:
    """Every knob of a config by dotted path, in the order of definition, with its value. The default is the demo."""

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


def _set_path(tree: dict[str, Any], path: str, value: Any) -> None:
    *parents, leaf = path.split(".")
    for parent in parents:
        tree = tree.setdefault(parent, {})
    tree[leaf] = value


def with_changes(config: RunConfig, changes: Mapping[str, Any]) -> RunConfig:
    """A config with new values at some dotted paths, all checked again. ConfigError if a path or a value is wrong."""
    return parse_config(changed_tree(config, changes))


def changed_tree(config: RunConfig, changes: Mapping[str, Any]) -> dict[str, Any]:
    """A config as nested dicts with new, unchecked values at some dotted paths. ConfigError for an unknown path."""
    tree = config.model_dump()
    paths = knobs(config)
    for path, value in changes.items():
        if path not in paths:
            raise ConfigError(f"unknown setting {path!r}.{_did_you_mean(path, paths)} `pwff run --help` lists all.")
        _set_path(tree, path, value)
    return tree


def steered(config: RunConfig, *changes: Mapping[str, Value]) -> RunConfig:
    """A run's settings after the changes made while it went on; a later change wins. All are checked together.

    ConfigError if a setting is not STEERABLE or a value is not allowed.
    """
    merged: dict[str, Any] = {path: value for change in changes for path, value in change.items()}
    for path, value in merged.items():
        if path not in STEERABLE:
            names = ", ".join(STEERABLE)
            raise ConfigError(f"{path[:60]!r} cannot be changed while a run is going; what can be is {names}.")
        if value is None:
            raise ConfigError(f"{path}: nothing is given; {allowed_values(knobs(config)[path])}.")
    if "preferences.helpfulness_weights" in merged:
        merged["preferences.harmlessness_weights"] = None  # they say the same in another way, and no longer hold
    return with_changes(config, merged)


def parse_config(tree: dict[str, Any]) -> RunConfig:
    """A RunConfig from nested dicts. ConfigError, with one sentence for each problem, if something is not allowed."""
    try:
        return RunConfig.model_validate(tree)
    except ValidationError as error:
        raise ConfigError(" ".join(str(problem) for problem in explain(error).values())) from None


def _flatten(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in tree.items():
        flat |= _flatten(value, f"{prefix}{name}.") if isinstance(value, dict) else {prefix + name: value}
    return flat


def load_toml(path: Path, base: RunConfig) -> RunConfig:
    """The base config with a TOML file laid over it: sections are tables, fields are keys.

    A file that names a preset starts from that preset's settings instead of the base.
    ConfigError if the file cannot be read or something in it is not allowed.
    """
    try:
        tree = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"cannot read the config file {path}: {error.strerror}.") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not valid TOML: {error}.") from None
    # TOML has no none, so the word "none" stands for it where a setting may be none, as after a flag
    optional = {path for path, knob in knobs().items() if knob.value is None}
    changes = {path: None if value == "none" and path in optional else value for path, value in _flatten(tree).items()}
    for preset in get_args(PresetId):
        if changes.get("preset") == preset:
            base = preset_config(preset)
    return with_changes(base, changes)


def _did_you_mean(word: str, names: Iterable[Any]) -> str:
    close = difflib.get_close_matches(word, [str(name) for name in names], n=1, cutoff=0.5)
    return f" Did you mean {close[0]!r}?" if close and close[0] != word else ""


def explain(error: ValidationError, table: Mapping[str, Knob] | None = None) -> dict[str, Problem]:
    """Each problem of a ValidationError by its dotted path: what was wrong, what is allowed.

    `table` holds the knobs of the config that was checked; the default is RunConfig's.
    """
    table = table or knobs()
    problems: dict[str, Problem] = {}
    for item in error.errors():
        path = ".".join(part for part in item["loc"] if isinstance(part, str))
        # a list may hold many bad elements: the first one says enough
        problems.setdefault(path, _problem(path, item["type"], item["input"], item["msg"], table))
    return problems


def _problem(path: str, kind: str, value: Any, message: str, table: Mapping[str, Knob]) -> Problem:
    if kind == "extra_forbidden":
        return Problem("", f"unknown setting {path!r}.{_did_you_mean(path, table)}")
    if kind == "value_error":
        return Problem(path, f"{message.removeprefix('Value error, ')}.")
    knob = table.get(path)
    if knob is None:
        settings = ", ".join(name.removeprefix(f"{path}.") for name in table if name.startswith(f"{path}."))
        names = settings or "see the help"
        return Problem(path, f"{_literal(value)} is not allowed; give a table of this section's settings: {names}.")
    if knob.kind == "choice":
        options = ", ".join(str(choice) for choice in knob.choices)
        return Problem(path, f"{_literal(value)} is not one of {options}.{_did_you_mean(str(value), knob.choices)}")
    return Problem(path, f"{_literal(value)} is not allowed; {allowed_values(knob)}.")


def allowed_values(knob: Knob) -> str:
    """What a knob takes, in words: 'give a number from -30 to 60 dB'."""
    if knob.kind == "choice":
        return "give one of " + ", ".join(str(choice) for choice in knob.choices)
    if knob.kind == "list":
        return "give a list of numbers from 0 to 1, one a client"
    if knob.kind not in ("integer", "number"):
        return "give true or false" if knob.kind == "switch" else "give a text"
    words = "give a whole number" if knob.kind == "integer" else "give a number"
    unit = f" {knob.unit}" if knob.unit else ""
    if knob.low is not None and knob.high is not None:
        return f"{words} from {_number(knob.low)} to {_number(knob.high)}{unit}"
    return f"{words} of at least {_number(knob.low)}{unit}, or inf" if knob.low is not None else words


def _number(value: float) -> str:
    """1000000000.0 → '1,000,000,000'; 0.0001 → '0.0001'."""
    return f"{value:,.0f}" if value == math.floor(value) else f"{value:g}"


def _literal(value: Any) -> str:
    """A value as a person would write it in a TOML file."""
    return str(value).lower() if isinstance(value, bool) else repr(value)
