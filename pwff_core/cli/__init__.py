"""The command line: `pwff run | resume | fork | compare | runs | export | rank | app | doctor`.

What a person gets wrong is answered in one sentence on stderr with exit code 2; 1 is for an engine that failed, 130 for
Ctrl-C. Only what help needs is imported up here: `pwff --help` answers at once. `playing` has the commands that train,
`listing` what tells of runs, `exporting` and `pages` the rest.
"""

from __future__ import annotations

import difflib
import os
import sys
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any, cast

import tyro

from pwff_core.cli.app import app
from pwff_core.cli.export import export
from pwff_core.cli.flags import (
    App,
    Command,
    Compare,
    Doctor,
    Export,
    Fork,
    Rank,
    Resume,
    Run,
    Runs,
    ranking_config_of,
    unknown_flag,
)
from pwff_core.cli.run import compare, fork, resume, run
from pwff_core.cli.runs import runs
from pwff_core.errors import ConfigError, EngineError, PwffError, StoreError
from pwff_core.paths import default_store_path
from pwff_core.runs.store import inspection
from pwff_core.runs.store.schema import RUNS

_NAMES = ("run", "resume", "fork", "compare", "runs", "export", "rank", "app", "doctor")


def main(arguments: Sequence[str] | None = None) -> int:
    """The entry point `pwff`; returns the exit code."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        return _dispatch(words or ["--help"])
    except PwffError as error:
        print("\n".join((f"pwff: {error}", *getattr(error, "__notes__", ()))), file=sys.stderr)
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
    try:
        return _at_store(command, path)
    except StoreError as error:
        if inspection.was_store(path, inspection.health(path, RUNS)):
            error.add_note("`pwff doctor` says what is damaged, and `pwff doctor --mend` saves what can be read.")
        raise


def _at_store(command: Run | Resume | Fork | Compare | Runs | Export | App | Doctor, path: Path) -> int:
    match command:
        case Run():
            return run(command, path)
        case Resume():
            return resume(command, path)
        case Fork():
            return fork(command, path)
        case Compare():
            return compare(command, path)
        case Runs():
            return runs(command, path)
        case Export():
            return export(command, path)
        case App():
            return app(command, path)
        case Doctor():
            from pwff_core.tools.doctor import command as doctor

            return doctor.run(path, mend_it=command.mend, purge_deleted=command.purge_deleted, json=command.json)


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


def _rank(command: Rank) -> int:
    config = ranking_config_of(command.settings)
    from pwff_core.tools.rank.command import rank  # so that the other commands do without it

    return rank(config, command.to, yes=command.yes)


def _version() -> str:
    try:
        return metadata.version("pwff")
    except metadata.PackageNotFoundError:
        return "(not installed)"
