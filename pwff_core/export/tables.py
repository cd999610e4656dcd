"""A run as tables, and any table as CSV, JSON or Parquet: units as METRICS has them, shares as shares of 1."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from typing import Any

import pandas as pd
from pydantic import BaseModel

from pwff_core.export.options import TableFormat
from pwff_core.figures import cell
from pwff_core.records import ClientRecord, RoundRecord

_KEYS = ("run", "method", "stage", "round")
_NUMBERS: tuple[Any, ...] = (float, float | None)  # what a field of a record that is no whole number may be


def rounds_table(records: Iterable[RoundRecord]) -> pd.DataFrame:
    """One row a round, one column a field; what a stage does not measure is missing."""
    rows = [record.model_dump(exclude={"clients"}) for record in records]
    return _typed(pd.DataFrame(rows, columns=[name for name in RoundRecord.model_fields if name != "clients"]))


def clients_table(records: Iterable[RoundRecord]) -> pd.DataFrame:
    """One row a client and round, with the round's run, method, stage and number in front."""
    rows = [
        {key: getattr(record, key) for key in _KEYS} | client.model_dump()
        for record in records
        for client in record.clients
    ]
    return _typed(pd.DataFrame(rows, columns=[*_KEYS, *ClientRecord.model_fields]))


def _typed(table: pd.DataFrame) -> pd.DataFrame:
    """Numbers as numbers also where none was measured, so that the tables of all runs have the same types."""
    models: tuple[type[BaseModel], ...] = (RoundRecord, ClientRecord)
    numbers = {name for model in models for name, field in model.model_fields.items() if field.annotation in _NUMBERS}
    return table.astype({name: "float64" for name in table.columns if name in numbers})


def table_bytes(table: pd.DataFrame, form: TableFormat) -> bytes:
    """The table as a file: CSV in UTF-8; JSON, a list of objects (missing: null, infinite: "Infinity"); Parquet."""
    if form == "parquet":
        packed: bytes = table.to_parquet(index=False)
        return packed
    if form == "csv":
        texts = table.select_dtypes("str").columns  # people's own among them, which no spreadsheet should compute
        text: str = table.assign(**{name: table[name].map(cell, "ignore") for name in texts}).to_csv(
            index=False, lineterminator="\n"
        )
        return text.encode()
    rows = [{name: _plain(value) for name, value in row.items()} for row in table.to_dict(orient="records")]
    return (json.dumps(rows, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode()


def _plain(value: Any) -> Any:
    """A value that strict JSON can hold; infinite numbers as the run's own JSON has them."""
    if not isinstance(value, float) or math.isfinite(value):
        return value
    return None if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
