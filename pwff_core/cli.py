"""The command line: `pwff run | compare | runs | export | rank | app`.

What a person gets wrong is answered in one sentence on stderr with exit code 2; 1 is for an engine that failed, 130 for
Ctrl-C. Only what help needs is imported up here: `pwff --help` answers at once.
"""

from __future__ import annotations

import difflib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any, cast, get_args

import tyro

from pwff_core.comparison.presets import FIGURES, FigureId, figure_config, plan
from pwff_core.errors import ConfigError, EngineError, PwffError, StoreError
from pwff_core.flags import (
    EXPORTS,
    App,
    Command,
    Compare,
    Export,
    Rank,
    Run,
    Runs,
    config_of,
    ranking_config_of,
    unknown_flag,
)
from pwff_core.methods import METHODS
from pwff_core.paths import STORE_VARIABLE, default_store_path, root_dir
from pwff_core.recording import recording_of
from pwff_core.records import When
from pwff_core.store import RunStatus, Store
from pwff_core.terminal import compare, drawing, play, summary, table

_NAMES = ("run", "compare", "runs", "export", "rank", "app")
_FIRST_PORT = 8501


def main(arguments: Sequence[str] | None = None) -> int:
    """The entry point `pwff`; returns the exit code."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        return _dispatch(words or ["--help"])
    except PwffError as error:
        print(f"pwff: {error}", file=sys.stderr)
        return 1 if isinstance(error, EngineError) else 2
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # whoever read our output has gone, as in `pwff runs | head -1`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def _dispatch(words: list[str]) -> int:
    if words == ["--version"]:
        print(f"pwff {_version()}")
        return 0
    command = _parsed(words)
    if isinstance(command, Rank):
        return _rank(command)
    path = command.store or default_store_path()
    match command:
        case Run():
            return _run(command, path)
        case Compare():
            return _compare(command, path)
        case Runs():
            return _list(command, path)
        case Export():
            return _export(command, path)
        case App():
            return _app(command, path)


def _parsed(words: list[str]) -> Command:
    """The command with its flags. Ends the process for help and for a flag that lacks its value."""
    if not words[0].startswith("-") and words[0] not in _NAMES:
        close = difflib.get_close_matches(words[0], _NAMES, n=1)
        guess = f"did you mean {close[0]}? There are" if close else "there are"
        raise ConfigError(f"unknown command {words[0]!r}; {guess} {', '.join(_NAMES)}.")
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
        raise unknown_flag(words[0], unknown[0], command)
    return cast(Command, command)


def _run(command: Run, path: Path) -> int:
    config = config_of(command.preset, command.config, command.settings)
    store = Store(path)
    run_id = store.create_run(config, command.name)
    try:
        records = play(store, run_id, METHODS[config.method].label, as_json=command.json, force=command.force)
    except KeyboardInterrupt:
        print(f"{store.run(run_id).message} They are kept as run {run_id}.", file=sys.stderr)
        return 130
    row = store.run(run_id)
    if not command.json:
        print(summary(records))
    if row.message:
        print(f"pwff: {row.message}", file=sys.stderr)
    print(f"Run {run_id} is {row.status.value}; `pwff export {run_id} --to DIR` writes its tables.", file=sys.stderr)
    return 0


def _compare(command: Compare, path: Path) -> int:
    config = config_of(command.preset, command.config, command.settings)
    figure = next((known for known in get_args(FigureId) if known == command.figure), None)
    if command.figure is not None and figure is None:
        raise ConfigError(f"--figure: {command.figure!r} is not one of {', '.join(get_args(FigureId))}.")
    usual = FIGURES[figure or "fig4"]
    methods = usual.methods if command.methods is None else _listed("methods", command.methods)
    seeds = (usual.seeds if figure else (0,)) if command.seeds is None else _listed("seeds", command.seeds)
    runs = plan(figure_config(figure, config) if figure else config, methods, seeds)
    return compare(Store(path), runs, command.csv, as_json=command.json)


def _listed(name: str, text: str) -> tuple[str, ...]:
    parts = tuple(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))
    if not parts:
        raise ConfigError(f"--{name} is empty; give at least one, with commas between.")
    return parts


def _list(command: Runs, path: Path) -> int:
    rows = Store(path, readonly=True).runs()
    if command.json:
        for row in rows:
            print(row.model_dump_json())
        return 0
    if not rows:
        print(f"No runs yet in {path}; `pwff run` or the pages (`pwff app`) make one.")
        return 0
    lines = [
        (
            row.id,
            time.strftime("%Y-%m-%d %H:%M", time.localtime(row.created_at)),
            row.config.method,
            f"{row.config.clients}",
            f"{row.config.channel.snr_db:g} dB",
            f"{row.rounds_done}/{row.rounds_total}",
            row.status.value,
            row.name,
            row.message if row.status is RunStatus.FAILED else "",
        )
        for row in rows
    ]
    print(table(("run", "started", "method", "clients", "SNR", "rounds", "status", "name", "message"), lines))
    return 0


def _export(command: Export, path: Path) -> int:
    client, when = _wanted_model(command)
    from pwff_core import export  # pandas takes most of a second to load

    if client is not None:
        store = Store(path, readonly=True)
        run_id = _resolved(store, command.run)
        files = export.export_model(store, run_id, client, when, command.to or Path(f"{run_id}-client-{client}"))
        return _told(files)
    formats = None if command.formats is None else _listed("formats", command.formats)
    figures = None if command.figures is None else _listed("figures", command.figures)
    order = export.ordered(command.as_, formats, command.size, figures)
    store = Store(path, readonly=True)
    run_id = _resolved(store, command.run)
    parcel = export.run_parcel(recording_of(store, run_id), order)
    folder = command.to or Path("." if order.content == "zip" else run_id)
    with drawing() as bar:
        files, hint = export.write(parcel, order, folder, bar)
    if hint:
        print(f"pwff: {hint}", file=sys.stderr)
    _told(files)
    return 1 if hint and formats else 0  # what was asked for by name is not all there


def _told(files: Sequence[Path]) -> int:
    for file in files:
        print(file)
    return 0


def _wanted_model(command: Export) -> tuple[int | None, When]:
    """Whose model to export, and of which moment; None where it is the tables. ConfigError if the flags disagree."""
    if command.as_ not in EXPORTS:
        raise ConfigError(f"--as: {command.as_!r} is not one of {', '.join(EXPORTS)}.")
    when = next((known for known in get_args(When) if known == command.when), None)
    if command.when is not None and when is None:
        raise ConfigError(f"--when: {command.when!r} is not one of {', '.join(get_args(When))}.")
    if command.as_ != "peft" and (command.client is not None or when):
        raise ConfigError("--client and --when choose a model; add --as peft, or leave them out for the run's tables.")
    if command.as_ == "peft" and command.client is None:
        raise ConfigError("--as peft writes one client's model; say whose with --client 0 or another number.")
    if command.as_ == "peft" and (command.formats or command.size or command.figures):
        raise ConfigError("--formats, --size and --figures are of tables and figures; leave them out with --as peft.")
    return command.client, when or "after"


def _resolved(store: Store, text: str) -> str:
    """The id of the run that is meant: `latest`, an id, or the start of only one. StoreError otherwise."""
    ids = [row.id for row in store.runs()]
    if text == "latest" and ids:
        return ids[0]
    found = [text] if text in ids else [run_id for run_id in ids if text and run_id.startswith(text)]
    if len(found) == 1:
        return found[0]
    if found:
        raise StoreError(f"{text!r} is the start of several runs: {', '.join(found[:5])}; give more letters.")
    newest = f"the newest are {', '.join(ids[:5])}" if ids else "there are none yet"
    raise StoreError(f"There is no run {text[:40]!r} in {store.path}; {newest}.")


def _rank(command: Rank) -> int:
    config = ranking_config_of(command.settings)
    from pwff_core.ranking.command import rank  # so that the other commands do without it

    return rank(config, command.to, yes=command.yes)


def _app(command: App, path: Path) -> int:
    Store(path, readonly=True)  # a store that cannot be used is said here, not on a page
    port = _free_port(command.port)
    print(f"pwff is at http://localhost:{port} (Ctrl-C ends it; runs go on)", flush=True)
    streamlit = [
        *(sys.executable, "-m", "streamlit", "run", str(root_dir() / "app.py")),
        *("--server.address", "localhost", "--server.port", str(port), "--browser.gatherUsageStats", "false"),
        *(("--server.headless", "true") if command.headless else ()),
    ]
    environment = {**os.environ, STORE_VARIABLE: str(path.absolute())}
    if os.name == "posix":  # in this process's place, so that a signal to it reaches the server
        os.execve(sys.executable, streamlit, environment)
    return subprocess.call(streamlit, env=environment)


def _free_port(wanted: int | None) -> int:
    if wanted is not None and not 1 <= wanted <= 65535:
        raise ConfigError(f"--port: {wanted} is not allowed; give a whole number from 1 to 65,535.")
    for port in [wanted] if wanted is not None else range(_FIRST_PORT, _FIRST_PORT + 100):
        with socket.socket() as probe:
            if probe.connect_ex(("localhost", port)) != 0:
                return port
    raise ConfigError(f"Port {wanted or _FIRST_PORT} is in use by another program; choose another with --port.")


def _version() -> str:
    try:
        return metadata.version("pwff")
    except metadata.PackageNotFoundError:
        return "(not installed)"
