"""`pwff export`: a run's tables, figures or one client's model as files."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

from pwff_core.cli.arguments import EXPORTS, Export, split_list
from pwff_core.cli.runs import find_run, open_store
from pwff_core.cli.terminal import figures_bar
from pwff_core.errors import ConfigError
from pwff_core.records import When
from pwff_core.runs.recording import recording_of


def export_run(command: Export, path: Path) -> int:
    """Writes the files and names each; exit code 1 if a figure that was asked for by name could not be drawn."""
    client, when = _model_of(command)
    if client is not None:
        from pwff_core.engine.peft_export import export_model  # torch takes seconds to load

        store = open_store(path, readonly=True)
        run_id = find_run(store, command.run)
        _print_paths(export_model(store, run_id, client, when, command.to or Path(f"{run_id}-client-{client}")))
        return 0
    from pwff_core.export.build import run_bundle  # pandas takes most of a second to load
    from pwff_core.export.bundle import write
    from pwff_core.export.options import parse_options

    formats = None if command.formats is None else split_list("formats", command.formats)
    figures = None if command.figures is None else split_list("figures", command.figures)
    options = parse_options(command.as_, formats, command.size, figures)
    store = open_store(path, readonly=True)
    run_id = find_run(store, command.run)
    bundle = run_bundle(recording_of(store, run_id), options)
    folder = command.to or Path("." if options.content == "zip" else run_id)
    with figures_bar() as on_progress:
        files, hint = write(bundle, options, folder, on_progress)
    if hint:
        print(f"pwff: {hint}", file=sys.stderr)
    _print_paths(files)
    return 1 if hint and formats else 0


def _print_paths(files: Sequence[Path]) -> None:
    for file in files:
        print(file)


def _model_of(command: Export) -> tuple[int | None, When]:
    """The client whose model is exported, and from when; None for tables and figures. ConfigError if flags disagree."""
    if command.as_ not in EXPORTS:
        raise ConfigError(f"--as: {command.as_!r} is not one of {', '.join(EXPORTS)}.")
    when = next((choice for choice in get_args(When) if choice == command.when), None)
    if command.when is not None and when is None:
        raise ConfigError(f"--when: {command.when!r} is not one of {', '.join(get_args(When))}.")
    if command.as_ != "peft" and (command.client is not None or when):
        raise ConfigError("--client and --when choose a model; add --as peft, or leave them out for the run's tables.")
    if command.as_ == "peft" and command.client is None:
        raise ConfigError("--as peft writes one client's model; say whose with --client 0 or another number.")
    if command.as_ == "peft" and (command.formats or command.size or command.figures):
        raise ConfigError("--formats, --size and --figures are of tables and figures; leave them out with --as peft.")
    return command.client, when or "after"
