"""The commands and their flags: a dataclass a command, a field a flag. tyro makes the parser and the help of them."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, cast, get_args

import tyro
from tyro.conf import Positional, arg

from pwff_core.cli.config_flags import ALL_SETTINGS, COMPARED_SETTINGS, RANKING_SETTINGS, STEERED_SETTINGS
from pwff_core.comparison.presets import FIGURES
from pwff_core.config import STEERABLE
from pwff_core.errors import ConfigError
from pwff_core.knobs import knobs
from pwff_core.paths import STORE_VARIABLE
from pwff_core.records import When
from pwff_core.runs.scheduler import MOST_PARALLEL, PARALLEL_VARIABLE

COMMANDS = ("run", "resume", "fork", "compare", "runs", "export", "rank", "app", "doctor")
EXPORTS = ("tables", "figures", "all", "zip", "peft")


def _option(metavar: str, help_text: str, default: str) -> Any:
    """A flag that may be left out; `default` says in words what counts then."""
    return arg(metavar=metavar, help=help_text, help_behavior_hint=f"(default: {default})")


def _settings(flags: type[Any]) -> Any:
    """A flag for each field of a dataclass, without a prefix."""
    return arg(name="", constructor=flags)


Preset = Annotated[str, arg(metavar="demo|paper|paper-as-printed", help="Settings to start from.")]
ConfigFile = Annotated[Path | None, arg(metavar="FILE.toml", help="Settings laid over the preset: sections as tables.")]
StorePath = Annotated[Path | None, _option("PATH", "The store of runs.", f"${STORE_VARIABLE} or your data folder")]
Json = Annotated[bool, arg(help="Write one JSON object a round to stdout, and nothing else.")]
RunId = Annotated[Positional[str], arg(metavar="RUN", help="A run's id, the start of one, or latest.")]
Name = Annotated[str, arg(metavar="TEXT", help="A name to find the run by.")]
Force = Annotated[bool, arg(help="Try even if the run is likely to need more memory than is free.")]


@dataclasses.dataclass(frozen=True)
class Run:
    """Run one experiment here, with a progress bar; Ctrl-C stops it, `pwff resume` goes on."""

    preset: Preset = "demo"
    config: ConfigFile = None
    store: StorePath = None
    name: Name = ""
    json: Json = False
    force: Force = False
    settings: Annotated[Any, _settings(ALL_SETTINGS)] = dataclasses.field(default_factory=ALL_SETTINGS)


@dataclasses.dataclass(frozen=True)
class Resume:
    """Go on with a run that was stopped, failed or lost its engine, from where it stood; no finished round is lost."""

    run: RunId = "latest"
    store: StorePath = None
    json: Json = False
    force: Force = False


@dataclasses.dataclass(frozen=True)
class Fork:
    """Go on from an earlier round of a run as a new run, with other settings from there; the run stays as it is."""

    run: RunId = "latest"
    after: Annotated[
        str,
        arg(
            metavar="POSITION|latest",
            help="The last round that both have, counted over all stages; --list tells which there are.",
        ),
    ] = "latest"
    list_: Annotated[
        bool, arg(name="list", help="Only tell the rounds after which the run can be forked; with --json one a line.")
    ] = False
    name: Name = ""
    store: StorePath = None
    json: Json = False
    force: Force = False
    settings: Annotated[Any, _settings(STEERED_SETTINGS)] = dataclasses.field(default_factory=STEERED_SETTINGS)


@dataclasses.dataclass(frozen=True)
class Compare:
    """Run several methods over several seeds, one after another; compare them with each other and with the paper."""

    figure: Annotated[
        str | None,
        _option("|".join(FIGURES), "A figure of the paper: its methods, stages and wishes, on 3 seeds.", "none"),
    ] = None
    methods: Annotated[str | None, _option("A,B,C", "Method ids.", "the figure's, or Fig. 4's")] = None
    seeds: Annotated[str | None, _option("N,N,N", "Seeds; every method runs once with each.", "the figure's, or 0")] = (
        None
    )
    csv: Annotated[
        Path | None,
        _option(
            "FILE.csv",
            "Also write one row a run to this file, and one row a claim of the paper to FILE-claims.csv.",
            "none",
        ),
    ] = None
    preset: Preset = "demo"
    config: ConfigFile = None
    store: StorePath = None
    json: Json = False
    settings: Annotated[Any, _settings(COMPARED_SETTINGS)] = dataclasses.field(default_factory=COMPARED_SETTINGS)


@dataclasses.dataclass(frozen=True)
class Runs:
    """List the runs of a store, newest first."""

    store: StorePath = None
    json: Annotated[bool, arg(help="Write one JSON object a run to stdout.")] = False


@dataclasses.dataclass(frozen=True)
class Export:
    """Take a run home: tables and settings (rounds.csv, clients.csv, run.json), figures, or one client's model."""

    run: RunId = "latest"
    to: Annotated[
        Path | None, _option("DIR", "Folder to write to.", "./RUN, for a model ./RUN-client-N, for a zip here")
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
        _option(
            "A,B,C",
            "Of figures png, svg, pdf (these need Chrome or Chromium) and html; of tables csv, json, parquet.",
            "all, with --as tables csv",
        ),
    ] = None
    size: Annotated[
        str | None,
        _option(
            "ieee-1|ieee-2|slide",
            "Size of figures: 3.5 in wide (one column), 7.16 in (two columns) or a slide of 16:9.",
            "ieee-1",
        ),
    ] = None
    figures: Annotated[
        str | None,
        _option(
            "A,B,C",
            "Which figures: accuracy, reward, delay, energy, refusals, kl, pairs, loss, plane.",
            "all that have numbers",
        ),
    ] = None
    client: Annotated[
        int | None, arg(metavar="N", help="With --as peft: whose model.", help_behavior_hint="(needed there)")
    ] = None
    when: Annotated[
        str | None, _option("|".join(get_args(When)), "With --as peft: from before or after alignment.", "after")
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
    settings: Annotated[Any, _settings(RANKING_SETTINGS)] = dataclasses.field(default_factory=RANKING_SETTINGS)


@dataclasses.dataclass(frozen=True)
class App:
    """Open the pages in a browser."""

    port: Annotated[int | None, arg(metavar="N", help_behavior_hint="(default: the first free one from 8501)")] = None
    store: StorePath = None
    headless: Annotated[bool, arg(help="Print the address without opening a browser.")] = False
    parallel: Annotated[
        int | None,
        _option("N", f"So many runs of the queue play at a time, 1 to {MOST_PARALLEL}.", f"${PARALLEL_VARIABLE} or 1"),
    ] = None
    hosted: Annotated[
        bool, arg(help="Serve people whom you do not know: within limits, each of them apart from the others.")
    ] = False
    address: Annotated[
        str,
        arg(metavar="HOST", help="With --hosted: the address to listen at, such as 0.0.0.0 for all of this computer."),
    ] = "localhost"


@dataclasses.dataclass(frozen=True)
class Doctor:
    """Check the store of runs and what lies beside it, say what each finding means and what mends it."""

    store: StorePath = None
    mend: Annotated[
        bool, arg(help="Do what is safe: no run that is well is touched, nothing that can be read is thrown away.")
    ] = False
    purge_deleted: Annotated[
        bool, arg(help="With --mend: also remove for good what was deleted more than a day ago.")
    ] = False
    json: Annotated[bool, arg(help="Write one JSON object a finding to stdout.")] = False


Command = Run | Resume | Fork | Compare | Runs | Export | Rank | App | Doctor


def parse(words: list[str]) -> Command:
    """The command with its flags. ConfigError for a command or a flag that there is not.

    Ends the process for help, and for a flag that lacks its value.
    """
    if not words[0].startswith("-") and words[0] not in COMMANDS:
        close = difflib.get_close_matches(words[0], COMMANDS, n=1)
        guess = f"did you mean {close[0]}? There are" if close else "there are"
        raise ConfigError(f"unknown command {words[0]!r}; {guess} {', '.join(COMMANDS)}.")
    command, unknown = tyro.cli(
        cast(Any, Command),
        prog="pwff",
        description="Personalised federated fine-tuning of a language model over a simulated wireless channel. "
        "`pwff COMMAND --help` lists a command's flags, `pwff --version` tells the version.",
        args=words,
        return_unknown_args=True,
        config=(tyro.conf.FlagCreatePairsOff,),
    )
    if unknown:
        raise _unknown_flag(words[0], unknown[0], command)
    return cast(Command, command)


def _unknown_flag(command: str, word: str, flags: Command) -> ConfigError:
    """The sentence for an argument that the command does not have, with the nearest that it has."""
    name = word.partition("=")[0]
    if not name.startswith("-"):
        return ConfigError(f"`pwff {command}` does not take {word!r}; a flag takes its value as --flag value.")
    if command == "fork" and name.lstrip("-").replace("-", "_") in knobs():
        allowed = ", ".join(_flag_name(path) for path in STEERABLE)
        return ConfigError(f"{name} cannot be changed in a fork, as it shares rounds; what can be is {allowed}.")
    names = sorted(_flag_name(path) for path in _field_paths(flags))
    close = difflib.get_close_matches(name.replace("_", "-"), names, n=1, cutoff=0.5)
    guess = f"; did you mean {close[0]}?" if close else "."
    return ConfigError(f"Unknown flag {name}{guess} `pwff {command} --help` lists all flags.")


def _flag_name(path: str) -> str:
    """`channel.snr_db` → `--channel.snr-db`. A field whose name is a word of Python ends with an underscore."""
    return f"--{path.rstrip('_').replace('_', '-')}"


def _field_paths(flags: Any, prefix: str = "") -> Iterable[str]:
    """Dotted paths of all fields; those of `settings` have no prefix."""
    for field in dataclasses.fields(flags):
        value = getattr(flags, field.name)
        if dataclasses.is_dataclass(value):
            yield from _field_paths(value, "" if field.name == "settings" else f"{prefix}{field.name}.")
        else:
            yield prefix + field.name


def split_list(name: str, text: str) -> tuple[str, ...]:
    """The parts between the commas of a flag's value, each once. ConfigError if there is none."""
    parts = tuple(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))
    if not parts:
        raise ConfigError(f"--{name} is empty; give at least one, with commas between.")
    return parts
