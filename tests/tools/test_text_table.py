"""Tables for a terminal."""

from __future__ import annotations

from pwff_core.tools.text_table import table


def test_a_table_lines_up() -> None:
    assert table(("a", "bb"), [("ccc", "d"), ("", "e")]) == "a    bb\n───  ──\nccc  d\n     e"
