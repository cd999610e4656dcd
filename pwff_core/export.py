"""Tables and files of a run: what a person takes away from it.

`rounds_table` and `clients_table` are the same numbers as DataFrames, in the order of the records' fields.
"""

from __future__ import annotations

import json
import platform
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path

import pandas as pd

from pwff_core.errors import StoreError
from pwff_core.records import ClientRecord, RoundRecord
from pwff_core.store import RunRow, Store

_ROUND_COLUMNS = [name for name in RoundRecord.model_fields if name != "clients"]
_KEYS = ["run", "method", "stage", "round"]
_VERSIONED = ("pwff", "torch", "transformers", "numpy")


def rounds_table(records: Iterable[RoundRecord]) -> pd.DataFrame:
    """One row a round, one column a field; what a stage does not measure is missing."""
    return pd.DataFrame([record.model_dump(exclude={"clients"}) for record in records], columns=_ROUND_COLUMNS)


def clients_table(records: Iterable[RoundRecord]) -> pd.DataFrame:
    """One row a client and round, with the round's run, method, stage and number in front."""
    rows = [
        {key: getattr(record, key) for key in _KEYS} | client.model_dump()
        for record in records
        for client in record.clients
    ]
    return pd.DataFrame(rows, columns=[*_KEYS, *ClientRecord.model_fields])


def export_run(store: Store, run_id: str, folder: Path) -> list[Path]:
    """Writes rounds.csv, clients.csv and run.json of a run into `folder`, which is made; returns their paths.

    run.json holds the settings, the seed among them, the clients, remarks, versions and every round. StoreError if
    there is no such run or the folder cannot be written.
    """
    row = store.run(run_id)
    records = [record for _, record in store.rounds(run_id)]
    texts = {
        "rounds.csv": rounds_table(records).to_csv(index=False, lineterminator="\n"),
        "clients.csv": clients_table(records).to_csv(index=False, lineterminator="\n"),
        "run.json": _run_json(row, records),
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in texts.items():
            (folder / name).write_text(text, encoding="utf-8", newline="\n")
    except OSError as error:
        raise StoreError(f"Cannot write into {folder} ({error.strerror}); choose another folder.") from None
    return [folder / name for name in texts]


def _run_json(row: RunRow, records: list[RoundRecord]) -> str:
    """The run as JSON text. Through pydantic's own JSON, in which an infinite number is the text "Infinity"."""
    head = json.loads(row.model_dump_json(exclude={"pid", "heartbeat_at", "deleted"}))
    rounds = [json.loads(record.model_dump_json()) for record in records]
    return json.dumps(head | {"versions": _versions(), "rounds": rounds}, indent=1, ensure_ascii=False) + "\n"


def _versions() -> dict[str, str]:
    """Versions that this export was made with; a package that is not installed has none."""
    found = {"python": platform.python_version()}
    for package in _VERSIONED:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found
