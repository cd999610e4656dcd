"""`pwff export`: a run's tables, figures or one client's model as files."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

from pwff_core.cli.flags import EXPORTS, Export
from pwff_core.cli.opening import opened
from pwff_core.cli.runs import listed, resolved
from pwff_core.cli.terminal import drawing
from pwff_core.errors import ConfigError
from pwff_core.records import When
from pwff_core.runs.recording import recording_of


def export(command: Export, path: Path) -> int:
    """Writes what was asked for and names each file; exit code 1 if a figure that was asked for could not be drawn."""
    client, when = _wanted_model(command)
    from pwff_core.export.build import run_parcel  # pandas takes most of a second to load
    from pwff_core.export.bundle import write
    from pwff_core.export.options import ordered

    if client is not None:
        from pwff_core.engine.export_model import export_model  # torch

        store = opened(path, readonly=True)
        run_id = resolved(store, command.run)
        files = export_model(store, run_id, client, when, command.to or Path(f"{run_id}-client-{client}"))
        return _told(files)
    formats = None if command.formats is None else listed("formats", command.formats)
    figures = None if command.figures is None else listed("figures", command.figures)
    order = ordered(command.as_, formats, command.size, figures)
    store = opened(path, readonly=True)
    run_id = resolved(store, command.run)
    parcel = run_parcel(recording_of(store, run_id), order)
    folder = command.to or Path("." if order.content == "zip" else run_id)
    with drawing() as bar:
        files, hint = write(parcel, order, folder, bar)
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
