"""A panel in words and as a table."""

from __future__ import annotations

from pwff_core.figures.frames import (
    Span,
    round_frame,
    spans_of,
)
from pwff_core.figures.panels import PANELS, panel_table, panel_words, panels_of
from tests.support.rounds import PLANNED, tuning_round
from tests.support.scripted import whole_run


def one_stage(rounds: int, done: int = 0) -> tuple[Span, ...]:
    return (Span("instruction", 1, rounds, rounds, done, ""),)


def test_lines_differ_by_more_than_colour() -> None:
    for panel in PANELS.values():
        styles = [(line.dash, line.marker) for line in panel.lines]
        assert len(set(styles)) == len(styles)


def test_words_have_the_last_and_the_first_value() -> None:
    assert (
        panel_words("accuracy", round_frame([]), one_stage(16)) == "Accuracy on each client's own data: no number yet."
    )
    frame = round_frame([tuning_round(1), tuning_round(2, (0.5, 0.9))])
    assert panel_words("accuracy", frame, one_stage(16)) == (
        "Accuracy on each client's own data after round 2 of 16: whole 70.0 %, knowledge 25.0 %, style 80.0 %. "
        "After round 1: whole 50.0 %, knowledge 25.0 %, style 80.0 %."
    )


def test_the_table_behind_a_chart_has_its_numbers_in_its_unit() -> None:
    table = panel_table("delay", round_frame([tuning_round(1)]))
    assert table.to_dict("list") == {
        "Round": [1], "slowest client [s]": [2.0], "mean client [s]": [1.5],
        "lowest client [s]": [1.0], "highest client [s]": [2.0],
    }  # fmt: skip


def test_words_and_table_name_the_measured_rounds() -> None:
    records = whole_run()
    frame, spans = round_frame(records), spans_of(PLANNED, records)
    assert panel_words("kl", frame, spans) == (
        "KL from the models before alignment after round 9 of 9: mean client 2.000 nat. "
        "After round 6: mean client 0.500 nat."
    )
    table = panel_table("kl", frame)
    assert table["Round"].tolist() == [6, 7, 8, 9]
    assert table["Stage"].tolist() == ["Alignment 1", "Alignment 2", "Alignment 3", "Alignment 4"]


def test_a_run_has_the_panels_of_its_stages() -> None:
    assert panels_of(["instruction"]) == ["accuracy", "delay", "energy", "loss"]
    assert panels_of(["instruction", "reward"]) == ["accuracy", "delay", "energy", "pairs", "loss"]
    assert panels_of(PLANNED) == list(PANELS)
