"""Reports how many cases were tried."""

from __future__ import annotations

import pytest

from tests.support.fuzz_cases import VARIABLE, WANTED, tried


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if WANTED:
        for test, cases in sorted(tried.items()):
            terminalreporter.write_line(f"{cases:7,} cases  {test}")
        terminalreporter.write_line(f"fuzz: {tried.total():,} cases ({VARIABLE}={WANTED})")
