from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import rows
from benchmarks.rows import Row, compared, keep, single, take_turns, told


def test_players_take_turns_and_the_warm_up_is_left_out() -> None:
    order: list[str] = []

    def player(name: str) -> float:
        order.append(name)
        return float(len(order))

    found = take_turns([lambda: player("ours"), lambda: player("other")], rounds=2, warm_up=1)
    assert order == ["ours", "other"] * 3
    assert found == [[3.0, 5.0], [4.0, 6.0]]


def test_a_ratio_is_that_of_the_medians_and_its_spread_that_of_the_turns() -> None:
    row = compared("instruction/x", "what", ours=[1.0, 2.0, 4.0], other=[3.0, 4.0, 20.0], extra=7)
    assert (row["ours_s"], row["other_s"], row["ratio"]) == (2.0, 4.0, 2.0)  # medians
    assert (row["ratio_min"], row["ratio_max"], row["turns"]) == (2.0, 5.0, 3)  # 3, 2 and 5
    assert row["extra"] == 7
    assert told(row).split() == ["instruction/x", "2.000", "s", "4.000", "s", "ratio", "2", "(2", "to", "5)"]


def test_a_row_takes_the_place_of_its_name_and_others_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows, "machine", lambda: "here")
    path = tmp_path / "rows.json"
    first, second = (single(name, "what", 1.0, "MB") for name in ("a", "b"))
    keep([first], path)
    keep([second], path)
    keep([single("a", "what", 2.0, "MB")], path)
    found: list[Row] = json.loads(path.read_text(encoding="utf-8"))
    assert [(row["name"], row["ratio"], row["machine"]) for row in found] == [("a", 2.0, "here"), ("b", 1.0, "here")]
    assert list(tmp_path.iterdir()) == [path]
