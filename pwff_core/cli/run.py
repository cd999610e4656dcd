"""The commands that train one run: `pwff run`, `resume` and `fork`. It plays in this process, until Ctrl-C."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import closing, suppress
from pathlib import Path

from pwff_core.cli.arguments import Fork, Resume, Run
from pwff_core.cli.config_flags import changes_of, config_of
from pwff_core.cli.runs import find_run, open_store
from pwff_core.cli.terminal import fork_table, round_text, rounds_bar, run_table
from pwff_core.engine.worker import play_run
from pwff_core.errors import ConfigError, PwffError, StoreError
from pwff_core.methods import METHODS
from pwff_core.records import RoundRecord
from pwff_core.runs.checkpoints import CheckpointInfo
from pwff_core.runs.store import RunRow, RunStatus, Store

_RESUMABLE = (RunStatus.STOPPED, RunStatus.FAILED)
_NO_CHECKPOINT = "it keeps no checkpoint that a round is left to play after."


def start(command: Run, path: Path) -> int:
    """Plays a new run."""
    config = config_of(command.preset, command.config, command.settings)
    store = open_store(path)
    return _play_and_report(store, store.create_run(config, command.name), as_json=command.json, force=command.force)


def resume(command: Resume, path: Path) -> int:
    """Goes on with a run. StoreError for one that is finished, playing or queued: each says what to do instead."""
    store = open_store(path)
    run_id = find_run(store, command.run)
    _check_resumable(store.run(run_id))
    store.requeue(run_id, in_queue=False)
    return _play_and_report(store, run_id, as_json=command.json, force=command.force)


def fork(command: Fork, path: Path) -> int:
    """Plays a new run that shares a run's first rounds; with --list it prints the rounds that can be forked after."""
    from pwff_core.runs import scheduler

    store = open_store(path)
    run_id = find_run(store, command.run)
    checkpoints = scheduler.fork_points(store, run_id)
    if command.list_:
        return _list_checkpoints(run_id, checkpoints, as_json=command.json)
    position = _position(run_id, command.after, checkpoints)
    child = scheduler.fork(store, run_id, position, changes_of(command.settings), command.name, in_queue=False)
    print(f"Run {child} goes on from round {position} of run {run_id}.", file=sys.stderr)
    return _play_and_report(store, child, as_json=command.json, force=command.force)


def play(store: Store, run_id: str, label: str, *, as_json: bool, force: bool = False) -> list[RoundRecord]:
    """Plays a queued run in this process and returns all its rounds, earlier ones included.

    Progress goes to stderr; with `as_json` new rounds go to stdout as JSON lines. `force` plays it whatever memory is
    free. Raises what `worker.play_run` raises; the run is in the store either way.
    """
    total = store.run(run_id).rounds_total
    records = [record for _, record in store.rounds(run_id)]
    with (
        rounds_bar(label, total, len(records)) as bar,
        closing(play_run(store, run_id, force=force, on_progress=bar.set_postfix_str)) as stream,
    ):
        for record in stream:
            records.append(record)
            bar.set_postfix_str(round_text(record), refresh=False)
            if record.stage_end:  # a stage may end before its last round
                bar.total = store.run(run_id).rounds_total
            bar.update()
            if as_json:
                sys.stdout.write(record.model_dump_json() + "\n")
                sys.stdout.flush()
    return records


def _play_and_report(store: Store, run_id: str, *, as_json: bool, force: bool) -> int:
    """Plays a queued run here, and prints how it ended and what can be done next; returns the exit code.

    A note on an error says how to go on with the run.
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
        print(run_table(records))
    if row.message:
        print(f"pwff: {row.message}", file=sys.stderr)
    advice = f"{goes_on} " if row.status in _RESUMABLE else ""
    tables = f"`pwff export {run_id} --to DIR` writes its tables."
    print(f"Run {run_id} is {row.status.value}; {advice}{tables}", file=sys.stderr)
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
        how = "waits in the queue and starts when its turn comes"
        if not row.in_queue:
            how = "has been launched and starts soon"
        raise StoreError(f"Run {row.id} {how}; `pwff runs` tells where it stands, `pwff app` shows it.")
    where = f"in process {row.pid} ({done})"
    advice = {
        RunStatus.RUNNING: "`pwff app` shows it.",
        RunStatus.PAUSED: "it is paused: press Resume on the Live page (`pwff app`).",
    }
    raise StoreError(f"Run {row.id} plays already, {where}; {advice.get(row.status, row.message)}")


def _list_checkpoints(run_id: str, checkpoints: Sequence[CheckpointInfo], *, as_json: bool) -> int:
    for checkpoint in checkpoints if as_json else ():
        print(checkpoint.model_dump_json(include={"position", "stage", "round", "stage_end", "size", "written_at"}))
    if not as_json:
        print(fork_table(checkpoints) if checkpoints else f"Run {run_id} cannot be forked: {_NO_CHECKPOINT}")
    return 0


def _position(run_id: str, text: str, checkpoints: Sequence[CheckpointInfo]) -> int:
    """The round after which to fork; `scheduler.fork` checks its checkpoint. ConfigError for no number."""
    if text == "latest":
        if not checkpoints:
            raise StoreError(f"Run {run_id} cannot be forked: {_NO_CHECKPOINT}")
        return checkpoints[-1].position
    if not (text.isascii() and text.isdecimal()):
        raise ConfigError(
            f"--after: {text!r} is not allowed; give latest, or a round as `pwff fork {run_id} --list` counts them."
        )
    return int(text)
