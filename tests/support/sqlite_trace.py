"""The connections to SQLite that the code under test opens, and what it asks of them."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from typing import Any

import pytest


class SqliteTrace:
    """Records every file that is opened and every statement; calls `before` with a statement just before it runs."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.files: list[str] = []  # name and options, such as runs.sqlite?mode=ro
        self.statements: list[str] = []
        self.before: Callable[[str], object] = self.statements.append
        connect = sqlite3.connect

        def traced(address: str, **options: Any) -> sqlite3.Connection:
            self.files.append(address.rpartition("/")[2])
            connection = connect(address, **options)
            connection.set_trace_callback(lambda statement: self.before(statement))
            return connection

        monkeypatch.setattr(sqlite3, "connect", traced)
