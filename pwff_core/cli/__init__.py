"""The command line: `pwff run | resume | fork | compare | runs | export | rank | app | doctor`.

What a person gets wrong is answered in one sentence on stderr with exit code 2; 1 is for an engine that failed, 130 for
Ctrl-C. A command's module is imported once the command is parsed, so `pwff --help` answers at once.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

from pwff_core.cli.arguments import App, Compare, Doctor, Export, Fork, Rank, Resume, Run, Runs, parse
from pwff_core.cli.config_flags import ranking_config_of
from pwff_core.errors import EngineError, PwffError, StoreError
from pwff_core.paths import default_store_path


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
    except BrokenPipeError:  # the reader of our output has gone, as in `pwff runs | head -1`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def _dispatch(words: list[str]) -> int:
    if words == ["--version"]:
        print(f"pwff {_version()}")
        return 0
    command = parse(words)
    if isinstance(command, Rank):
        return _rank(command)
    path = command.store or default_store_path()
    try:
        return _at_store(command, path)
    except StoreError as error:
        from pwff_core.runs.store import inspection
        from pwff_core.runs.store.schema import RUNS

        if inspection.was_store(path, inspection.health(path, RUNS)):
            error.add_note("`pwff doctor` says what is damaged, and `pwff doctor --mend` saves what can be read.")
        raise


def _at_store(command: Run | Resume | Fork | Compare | Runs | Export | App | Doctor, path: Path) -> int:
    from pwff_core.cli import app, compare, export, run, runs
    from pwff_core.tools.doctor import command as doctor

    match command:
        case Run():
            return run.start(command, path)
        case Resume():
            return run.resume(command, path)
        case Fork():
            return run.fork(command, path)
        case Compare():
            return compare.compare(command, path)
        case Runs():
            return runs.list_runs(command, path)
        case Export():
            return export.export_run(command, path)
        case App():
            return app.serve(command, path)
        case Doctor():
            return doctor.run(path, mend_it=command.mend, purge_deleted=command.purge_deleted, json=command.json)


def _rank(command: Rank) -> int:
    config = ranking_config_of(command.settings)
    from pwff_core.tools.rank.command import rank

    return rank(config, command.to, yes=command.yes)


def _version() -> str:
    try:
        return metadata.version("pwff")
    except metadata.PackageNotFoundError:
        return "(not installed)"
