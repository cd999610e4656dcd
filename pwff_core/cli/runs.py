"""`pwff runs`; and how every command opens the store and finds the run that a few letters name."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from pathlib import Path

from pwff_core.cli.arguments import Runs
from pwff_core.errors import StoreError
from pwff_core.knobs import steered
from pwff_core.runs.store import RunRow, RunStatus, Store
from pwff_core.tools.text_table import table

_WITH_MESSAGE = (RunStatus.RUNNING, RunStatus.STALLED, RunStatus.FAILED)  # the message says more than the status
_PATIENCE_S = 1.0  # Ctrl-C waits no longer for a locked store; whatever plays a run tries again


def open_store(path: Path, *, readonly: bool = False) -> Store:
    """The store at `path`; a renewal is reported on stderr. StoreError if it cannot be used."""
    store = Store(path, readonly=readonly, timeout_s=_PATIENCE_S)
    for copy in store.renewed:
        print(f"pwff: The store {store.path} was renewed; as it was, it is kept as {copy.name}.", file=sys.stderr)
    return store


def list_runs(command: Runs, path: Path) -> int:
    """The runs of a store, newest first: a table, or a JSON object a line."""
    store = open_store(path, readonly=True)
    rows = store.runs()
    if command.json:
        for row in rows:
            print(row.model_dump_json())
        return 0
    if not rows:
        print(f"No runs yet in {path}; `pwff run` or the pages (`pwff app`) make one.")
        return 0
    places = {row.id: place for place, row in enumerate(store.queue(), start=1)}
    lines: list[tuple[str, ...]] = [
        (
            row.id,
            time.strftime("%Y-%m-%d %H:%M", time.localtime(row.created_at)),
            row.config.method,
            f"{row.config.clients}",
            _snr(store, row),
            f"{row.rounds_done}/{row.rounds_total}",
            row.status.value,
            f"{row.parent} after {row.forked_at}" if row.parent else "",
            row.name,
            _reason(row, places),
        )
        for row in rows
    ]
    header = ("run", "started", "method", "clients", "SNR", "rounds", "status", "forked from", "name", "message")
    print(table(*_without_empty(header, lines, "forked from")))
    return 0


def _snr(store: Store, row: RunRow) -> str:
    """The SNR that a run began with; of a fork also the SNR that it was steered to."""
    first = row.config.channel.snr_db
    changes = [steering.changes for steering in store.steerings(row.id)] if row.parent else []
    last = steered(row.config, *changes).channel.snr_db if changes else first
    return f"{first:g} dB" if last == first else f"{first:g} → {last:g} dB"


def _reason(row: RunRow, places: Mapping[str, int]) -> str:
    """The run's place in the queue, or its message where that says more than its status."""
    if row.id in places:
        return f"Place {places[row.id]} of {len(places)} in the queue."
    return row.message if row.status in _WITH_MESSAGE else ""


def _without_empty(
    header: tuple[str, ...], lines: list[tuple[str, ...]], column: str
) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """The table, without that column if all its cells are empty."""
    index = header.index(column)
    if any(line[index] for line in lines):
        return header, lines
    return header[:index] + header[index + 1 :], [line[:index] + line[index + 1 :] for line in lines]


def find_run(store: Store, text: str) -> str:
    """The id that `text` names: `latest`, an id, or the start of exactly one. StoreError otherwise."""
    ids = [row.id for row in store.runs()]
    if text == "latest" and ids:
        return ids[0]
    matches = [text] if text in ids else [run_id for run_id in ids if text and run_id.startswith(text)]
    if len(matches) == 1:
        return matches[0]
    if matches:
        raise StoreError(f"{text!r} is the start of several runs: {', '.join(matches[:5])}; give more letters.")
    newest = f"the newest are {', '.join(ids[:5])}" if ids else "there are none yet"
    raise StoreError(f"There is no run {text[:40]!r} in {store.path}; {newest}.")
