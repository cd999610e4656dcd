"""The commands that train: `pwff run`, `resume`, `fork` and `compare`. They play in this process, until Ctrl-C."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import get_args

from pwff_core.cli.flags import Compare, Fork, Resume, Run, changes_of, config_of
from pwff_core.cli.opening import opened
from pwff_core.cli.runs import listed, resolved
from pwff_core.cli.terminal import compare as compare_runs
from pwff_core.cli.terminal import fork_table, play, summary
from pwff_core.comparison.presets import FIGURES, FigureId, figure_config, plan
from pwff_core.errors import ConfigError, PwffError, StoreError
from pwff_core.methods import METHODS
from pwff_core.runs.checkpoints import Mark
from pwff_core.runs.store import RunRow, RunStatus, Store

_RESUMABLE = (RunStatus.STOPPED, RunStatus.FAILED)


def run(command: Run, path: Path) -> int:
    """Plays a new run."""
    config = config_of(command.preset, command.config, command.settings)
    store = opened(path)
    return _played(store, store.create_run(config, command.name), as_json=command.json, force=command.force)


def resume(command: Resume, path: Path) -> int:
    """Goes on with a run. StoreError for one that has finished, plays or waits: each says what to do instead."""
    store = opened(path)
    run_id = resolved(store, command.run)
    _check_resumable(store.run(run_id))
    store.reopen(run_id, waits=False)
    return _played(store, run_id, as_json=command.json, force=command.force)


def fork(command: Fork, path: Path) -> int:
    """Plays a new run that shares a run's first rounds; or tells after which rounds that can be."""
    from pwff_core.runs import resuming

    store = opened(path)
    run_id = resolved(store, command.run)
    points = resuming.fork_points(store, run_id)
    if command.list_:
        return _list_points(run_id, points, as_json=command.json)
    position = _position(run_id, command.after, points)
    child = resuming.fork(store, run_id, position, changes_of(command.settings), command.name, waits=False)
    print(f"Run {child} goes on from round {position} of run {run_id}.", file=sys.stderr)
    return _played(store, child, as_json=command.json, force=command.force)


def compare(command: Compare, path: Path) -> int:
    """Plays several methods over several seeds and compares them."""
    config = config_of(command.preset, command.config, command.settings)
    figure = next((known for known in get_args(FigureId) if known == command.figure), None)
    if command.figure is not None and figure is None:
        raise ConfigError(f"--figure: {command.figure!r} is not one of {', '.join(get_args(FigureId))}.")
    usual = FIGURES[figure or "fig4"]
    methods = usual.methods if command.methods is None else listed("methods", command.methods)
    seeds = (usual.seeds if figure else (0,)) if command.seeds is None else listed("seeds", command.seeds)
    runs = plan(figure_config(figure, config) if figure else config, methods, seeds)
    return compare_runs(opened(path), runs, command.csv, as_json=command.json)


def _played(store: Store, run_id: str, *, as_json: bool, force: bool) -> int:
    """Plays a queued run here, tells how it ended and what can be done next; the exit code.

    An error that it fails with says, as a note, how to go on with it.
    """
    goes_on = f"`pwff resume {run_id}` goes on with it."
    try:
        label = METHODS[store.run(run_id).config.method].label
        records = play(store, run_id, label, as_json=as_json, force=force)
    except KeyboardInterrupt:
        print(f"{store.run(run_id).message} They are kept as run {run_id}; {goes_on}", file=sys.stderr)
        return 130
    except PwffError as error:
        with suppress(StoreError):  # the store may be what failed
            row = store.run(run_id)
            if row.status in _RESUMABLE:
                error.add_note(f"Run {run_id} keeps its {row.rounds_done} of {row.rounds_total} rounds; {goes_on}")
        raise
    row = store.run(run_id)
    if not as_json:
        print(summary(records))
    if row.message:
        print(f"pwff: {row.message}", file=sys.stderr)
    told = f"{goes_on} " if row.status in _RESUMABLE else ""
    tables = f"`pwff export {run_id} --to DIR` writes its tables."
    print(f"Run {run_id} is {row.status.value}; {told}{tables}", file=sys.stderr)
    return 0


def _check_resumable(row: RunRow) -> None:
    """StoreError unless the run has ended before its last round."""
    if row.status in _RESUMABLE:
        return
    done = f"{row.rounds_done} of {row.rounds_total} rounds"
    if row.status is RunStatus.FINISHED:
        raise StoreError(
            f"Run {row.id} is finished ({done}), so nothing is left to play; `pwff fork {row.id}` goes on from an "
            "earlier round with other settings."
        )
    if row.status is RunStatus.QUEUED:
        how = "waits in the queue and starts when its turn comes" if row.waits else "has been launched and starts soon"
        raise StoreError(f"Run {row.id} {how}; `pwff runs` tells where it stands, `pwff app` shows it.")
    where = f"in process {row.pid} ({done})"
    advice = {
        RunStatus.RUNNING: "`pwff app` shows it.",
        RunStatus.PAUSED: "it is paused: press Resume on the Live page (`pwff app`).",
    }
    raise StoreError(f"Run {row.id} plays already, {where}; {advice.get(row.status, row.message)}")


def _list_points(run_id: str, points: Sequence[Mark], *, as_json: bool) -> int:
    for point in points if as_json else ():
        print(point.model_dump_json(include={"position", "stage", "round", "stage_end", "size", "written_at"}))
    if not as_json:
        print(fork_table(points) if points else f"Run {run_id} cannot be forked: {_NO_POINTS}")
    return 0


_NO_POINTS = "it keeps no checkpoint that a round is left to play after."


def _position(run_id: str, text: str, points: Sequence[Mark]) -> int:
    """The round after which to fork; `resuming.fork` checks that it has a checkpoint. ConfigError for no number."""
    if text == "latest":
        if not points:
            raise StoreError(f"Run {run_id} cannot be forked: {_NO_POINTS}")
        return points[-1].position
    if not (text.isascii() and text.isdecimal()):
        raise ConfigError(
            f"--after: {text!r} is not allowed; give latest, or a round as `pwff fork {run_id} --list` counts them."
        )
    return int(text)
