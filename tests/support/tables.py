"""Tables as files, in every format that data may have."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pandas as pd


def write_table(folder: Path, rows: list[dict[str, Any]], kind: str = "jsonl") -> str:
    """The rows as a .json, .jsonl, .csv or .parquet file; its path."""
    path = folder / f"rows.{kind}"
    if kind == "json":
        path.write_text(json.dumps(rows))
    elif kind == "jsonl":
        path.write_text("\n".join(json.dumps(row) for row in rows))
    elif kind == "csv":
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    else:
        pd.DataFrame(rows).to_parquet(path)
    return str(path)
