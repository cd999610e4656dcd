"""Numbers and tables in a terminal."""

from __future__ import annotations

from pwff_core.cli.terminal import metric_text, run_table


def test_numbers_have_their_units() -> None:
    assert metric_text("accuracy", 0.6314) == "63.1 %"
    assert metric_text("delay_s", 125.0) == "2 min 05 s"
    assert metric_text("delay_s", 0.0963) == "96.3 ms"
    assert metric_text("energy_j", 1720.0) == "1.72 kJ"
    assert metric_text("loss", None) == "–"


def test_a_run_without_rounds_has_no_table() -> None:
    assert run_table([]) == "The run has no rounds."
