"""Rows of measurements: turns, ratios, and the file of them."""

from __future__ import annotations

import json
from pathlib import Path

from benchmarks.rows import Row, comparison_row, row_text, save_rows, take_turns, value_row


def test_players_take_turns_and_the_warm_up_is_left_out() -> None:
    order: list[str] = []

    def player(name: str) -> float:
        order.append(name)
        return float(len(order))

    times = take_turns([lambda: player("ours"), lambda: player("other")], rounds=2, warm_up=1)
    assert order == ["ours", "other"] * 3
    assert times == [[3.0, 5.0], [4.0, 6.0]]


def test_the_ratio_is_of_medians_and_its_spread_of_turns() -> None:
    row = comparison_row("instruction/x", "what", ours_s=[1.0, 2.0, 4.0], other_s=[3.0, 4.0, 20.0], extra=7)
    assert (row["ours_s"], row["other_s"], row["ratio"]) == (2.0, 4.0, 2.0)  # medians
    assert (row["ratio_min"], row["ratio_max"], row["turns"]) == (2.0, 5.0, 3)  # 3, 2 and 5
    assert row["extra"] == 7
    assert row_text(row).split() == ["instruction/x", "2.000", "s", "4.000", "s", "ratio", "2", "(2", "to", "5)"]


def test_a_saved_row_replaces_the_one_of_its_name(tmp_path: Path) -> None:
    path = tmp_path / "rows.json"
    first, second = (value_row(name, "what", 1.0, "MB") for name in ("a", "b"))
    for row in (first, second, value_row("a", "what", 2.0, "MB")):
        save_rows([row], path, lambda: "here")
    rows: list[Row] = json.loads(path.read_text(encoding="utf-8"))
    assert [(row["name"], row["ratio"], row["machine"]) for row in rows] == [("a", 2.0, "here"), ("b", 1.0, "here")]
    assert list(tmp_path.iterdir()) == [path]
