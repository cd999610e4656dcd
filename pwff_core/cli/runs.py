"""What the commands tell of runs: `pwff runs`, and which run is meant by a few letters."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path

from pwff_core.cli.flags import Runs
from pwff_core.cli.opening import opened
from pwff_core.errors import ConfigError, StoreError
from pwff_core.knobs import steered
from pwff_core.runs.store import RunRow, RunStatus, Store
from pwff_core.tools.text_table import table

_TOLD = (RunStatus.RUNNING, RunStatus.WAITING, RunStatus.FAILED)  # whose messages say more than the status


def runs(command: Runs, path: Path) -> int:
    """The runs of a store, newest first: a table, or a JSON object a line."""
    store = opened(path, readonly=True)
    rows = store.runs()
    if command.json:
        for row in rows:
            print(row.model_dump_json())
        return 0
    if not rows:
        print(f"No runs yet in {path}; `pwff run` or the pages (`pwff app`) make one.")
        return 0
    places = {row.id: place for place, row in enumerate(store.waiting(), start=1)}
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
    """The SNR that a run began with, and of a fork also what it has become."""
    began = row.config.channel.snr_db
    now = steered(row.config, *(one.changes for one in store.steerings(row.id))).channel.snr_db if row.parent else began
    return f"{began:g} dB" if now == began else f"{began:g} → {now:g} dB"


def _reason(row: RunRow, places: Mapping[str, int]) -> str:
    """Why a run stands where it stands, where that is not plain."""
    if row.id in places:
        return f"Place {places[row.id]} of {len(places)} in the queue."
    return row.message if row.status in _TOLD else ""


def _without_empty(
    header: tuple[str, ...], lines: list[tuple[str, ...]], column: str
) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """A table without that column if nothing stands in it."""
    at = header.index(column)
    if any(line[at] for line in lines):
        return header, lines
    return header[:at] + header[at + 1 :], [line[:at] + line[at + 1 :] for line in lines]


def resolved(store: Store, text: str) -> str:
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


def listed(name: str, text: str) -> tuple[str, ...]:
    """The parts of a flag's text between commas, each once. ConfigError if there is none."""
    parts = tuple(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))
    if not parts:
        raise ConfigError(f"--{name} is empty; give at least one, with commas between.")
    return parts
