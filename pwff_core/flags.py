"""The commands with their flags, and how their texts become a RunConfig.

A setting's flag is made from its knob, so a new field of the config is a new flag by itself. Every setting comes in as
text and is checked where all settings are checked, in config.py, which also says what was wrong with it.
"""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, get_args

from tyro.conf import Positional, arg

from pwff_core.comparison.presets import FIGURES
from pwff_core.config import Knob, PresetId, RunConfig, knobs, load_toml, preset_config, with_changes
from pwff_core.errors import ConfigError
from pwff_core.paths import STORE_VARIABLE
from pwff_core.ranking import settings as ranking
from pwff_core.records import When

EXPORTS = ("tables", "figures", "all", "zip", "peft")
_KIND_WORDS = {"switch": "true|false", "integer": "N", "number": "X", "list": "X X …", "text": "TEXT"}


def settings_type(left_out: Collection[str]) -> type[Any]:
    """A dataclass with a field of text for every setting of the config but those left out, nested by section."""
    sections: dict[str, list[tuple[str, Any, Any]]] = {"": []}
    for path, entry in knobs().items():
        if path not in left_out:
            section, _, name = path.rpartition(".")
            sections.setdefault(section, []).append((name, _flag(entry), dataclasses.field(default=None)))
    outer = sections.pop("")
    for section, fields in sections.items():
        doc = RunConfig.model_fields[section].default.__doc__
        inner = dataclasses.make_dataclass(section, fields, namespace={"__doc__": doc})
        outer.append((section, inner, dataclasses.field(default_factory=inner)))
    return dataclasses.make_dataclass("settings", outer, namespace={"__doc__": "Settings of the run."})


def _flag(entry: Knob, origin: str = "demo") -> Any:
    text = tuple[str, ...] if entry.kind == "list" else str
    words = "|".join(str(choice) for choice in entry.choices) or entry.unit or _KIND_WORDS[entry.kind]
    symbol = f"{entry.symbol}: " if entry.symbol else ""
    hint = f"({origin}: {_written(entry.default)})"
    return Annotated[text | None, arg(help=symbol + entry.help, metavar=words, help_behavior_hint=hint)]


def _written(value: Any) -> str:
    """A value as a flag takes it."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}".replace("e+0", "e") if isinstance(value, float) else str(value)


_ALL_SETTINGS = settings_type(("preset",))
_COMPARED_SETTINGS = settings_type(("preset", "method", "seed"))
_RANKING_KNOBS = knobs(ranking.RankingConfig())
_RANKING_SETTINGS = dataclasses.make_dataclass(
    "settings",
    [(name, _flag(entry, "default"), dataclasses.field(default=None)) for name, entry in _RANKING_KNOBS.items()],
    namespace={"__doc__": "What is ranked, and by whom."},
)

Preset = Annotated[str, arg(metavar="demo|paper|paper-as-printed", help="Settings to start from.")]
ConfigFile = Annotated[Path | None, arg(metavar="FILE.toml", help="Settings laid over the preset: sections as tables.")]
StorePath = Annotated[
    Path | None,
    arg(
        metavar="PATH",
        help="The store of runs.",
        help_behavior_hint=f"(default: ${STORE_VARIABLE} or your data folder)",
    ),
]
Json = Annotated[bool, arg(help="Write one JSON object a round to stdout, and nothing else.")]


@dataclasses.dataclass(frozen=True)
class Run:
    """Run one experiment here, with a progress bar; Ctrl-C stops it and keeps its rounds."""

    preset: Preset = "demo"
    config: ConfigFile = None
    store: StorePath = None
    name: Annotated[str, arg(metavar="TEXT", help="A name to find the run by.")] = ""
    json: Json = False
    force: Annotated[bool, arg(help="Try even if the run is likely to need more memory than is free.")] = False
    settings: Annotated[Any, arg(name="", constructor=_ALL_SETTINGS)] = dataclasses.field(default_factory=_ALL_SETTINGS)


@dataclasses.dataclass(frozen=True)
class Compare:
    """Run several methods over several seeds, one after another; compare them with each other and with the paper."""

    figure: Annotated[
        str | None,
        arg(
            metavar="|".join(FIGURES),
            help="A figure of the paper: its methods, stages and wishes, on 3 seeds.",
            help_behavior_hint="(default: none)",
        ),
    ] = None
    methods: Annotated[
        str | None, arg(metavar="A,B,C", help="Method ids.", help_behavior_hint="(default: the figure's, or Fig. 4's)")
    ] = None
    seeds: Annotated[
        str | None,
        arg(
            metavar="N,N,N",
            help="Seeds; every method runs once with each.",
            help_behavior_hint="(default: the figure's, or 0)",
        ),
    ] = None
    csv: Annotated[
        Path | None,
        arg(
            metavar="FILE.csv",
            help="Also write one row a run to this file, and one row a claim of the paper to FILE-claims.csv.",
            help_behavior_hint="(default: none)",
        ),
    ] = None
    preset: Preset = "demo"
    config: ConfigFile = None
    store: StorePath = None
    json: Json = False
    settings: Annotated[Any, arg(name="", constructor=_COMPARED_SETTINGS)] = dataclasses.field(
        default_factory=_COMPARED_SETTINGS
    )


@dataclasses.dataclass(frozen=True)
class Runs:
    """List the runs of a store, newest first."""

    store: StorePath = None
    json: Annotated[bool, arg(help="Write one JSON object a run to stdout.")] = False


@dataclasses.dataclass(frozen=True)
class Export:
    """Take a run home: tables and settings (rounds.csv, clients.csv, run.json), figures, or one client's model."""

    run: Annotated[Positional[str], arg(metavar="RUN", help="A run's id, the start of one, or latest.")] = "latest"
    to: Annotated[
        Path | None,
        arg(
            metavar="DIR",
            help="Folder to write to.",
            help_behavior_hint="(default: ./RUN, for a model ./RUN-client-N, for a zip here)",
        ),
    ] = None
    as_: Annotated[
        str,
        arg(
            name="as",
            metavar="|".join(EXPORTS),
            help="all: tables, figures, settings, captions; zip: the same in one file; peft: a client's model as a "
            "LoRA folder that peft loads, with its adapters beside it.",
        ),
    ] = "tables"
    formats: Annotated[
        str | None,
        arg(
            metavar="A,B,C",
            help="Of figures png, svg, pdf (these need Chrome or Chromium) and html; of tables csv, json, parquet.",
            help_behavior_hint="(default: all, with --as tables csv)",
        ),
    ] = None
    size: Annotated[
        str | None,
        arg(
            metavar="ieee-1|ieee-2|slide",
            help="Size of figures: 3.5 in wide (one column), 7.16 in (two columns) or a slide of 16:9.",
            help_behavior_hint="(default: ieee-1)",
        ),
    ] = None
    figures: Annotated[
        str | None,
        arg(
            metavar="A,B,C",
            help="Which figures: accuracy, reward, delay, energy, refusals, kl, pairs, loss, plane.",
            help_behavior_hint="(default: all that have numbers)",
        ),
    ] = None
    client: Annotated[
        int | None, arg(metavar="N", help="With --as peft: whose model.", help_behavior_hint="(needed there)")
    ] = None
    when: Annotated[
        str | None,
        arg(
            metavar="|".join(get_args(When)),
            help="With --as peft: from before or after alignment.",
            help_behavior_hint="(default: after)",
        ),
    ] = None
    store: StorePath = None


@dataclasses.dataclass(frozen=True)
class Rank:
    """Make preference pairs: sample responses from a backbone and have a model behind an OpenAI-compatible server rank
    them on helpfulness and on harmlessness. What it takes is told first; a call that was cut short can be repeated."""

    to: Annotated[Path, arg(metavar="DIR", help="Folder of the pairs, and of what is kept for a later call.")] = Path(
        "preferences"
    )
    yes: Annotated[bool, arg(help="Ask without a question first; needed where there is no terminal.")] = False
    settings: Annotated[Any, arg(name="", constructor=_RANKING_SETTINGS)] = dataclasses.field(
        default_factory=_RANKING_SETTINGS
    )


@dataclasses.dataclass(frozen=True)
class App:
    """Open the pages in a browser."""

    port: Annotated[int | None, arg(metavar="N", help_behavior_hint="(default: the first free one from 8501)")] = None
    store: StorePath = None
    headless: Annotated[bool, arg(help="Print the address without opening a browser.")] = False


Command = Run | Compare | Runs | Export | Rank | App


def config_of(preset: str, file: Path | None, settings: Any) -> RunConfig:
    """The preset, with the file laid over it, with the flags laid over that. ConfigError if it cannot be."""
    if preset not in get_args(PresetId):
        raise ConfigError(f"preset: {preset!r} is not one of {', '.join(get_args(PresetId))}.")
    base = preset_config(next(known for known in get_args(PresetId) if known == preset))
    return with_changes(load_toml(file, base) if file else base, _changes(dataclasses.asdict(settings), knobs()))


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
    if entry.default is None and [part.lower() for part in parts] == ["none"]:
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
    # a flag that is a word of Python has a trailing underscore in its field's name
    shown = sorted(f"--{path.rstrip('_').replace('_', '-')}" for path in _paths(settings))
    close = difflib.get_close_matches(name.replace("_", "-"), shown, n=1, cutoff=0.5)
    guess = f"; did you mean {close[0]}?" if close else "."
    return ConfigError(f"Unknown flag {name}{guess} `pwff {command} --help` lists all flags.")


def _paths(settings: Any, prefix: str = "") -> Iterable[str]:
    for field in dataclasses.fields(settings):
        value = getattr(settings, field.name)
        if dataclasses.is_dataclass(value):
            yield from _paths(value, "" if field.name == "settings" else f"{prefix}{field.name}.")
        else:
            yield prefix + field.name
