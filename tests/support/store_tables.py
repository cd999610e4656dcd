"""SQL past the store, for what no call of it does: a clock that has moved on, a row of another version."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path


def sql(path: Path, statement: str) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(statement)
