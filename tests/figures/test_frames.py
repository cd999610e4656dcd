"""Records to tables: rounds, stages on the axis of rounds, and lines of single clients."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pwff_core.config import RunConfig, stage_rounds
from pwff_core.figures.frames import (
    MAX_CLIENT_LINES,
    Span,
    client_lines,
    planned_stages,
    round_frame,
    spans_of,
    value_text,
)
from pwff_core.knobs import with_changes
from tests.support.rounds import PLANNED, tuning_round
from tests.support.scripted import whole_run


def test_round_frame_has_mean_and_range_over_clients() -> None:
    frame = round_frame([tuning_round(1), tuning_round(2, (0.5, 0.9))])
    assert list(frame.index) == [1, 2]
    assert frame["accuracy"].tolist() == [0.5, 0.7]
    assert frame["accuracy_low"].tolist() == [0.4, 0.5]
    assert frame["accuracy_high"].tolist() == [0.6, 0.9]
    assert frame["delay_s"].tolist() == [2.0, 2.0]  # the slowest client
    assert frame["delay_s_mean"].tolist() == [1.5, 1.5]
    assert frame["energy_j"].tolist() == [6.0, 6.0]


def test_an_unmeasured_value_is_nan_and_a_dash() -> None:
    frame = round_frame([tuning_round(1, (None, None))])
    assert math.isnan(frame["accuracy"].iloc[0]) and math.isnan(frame["accuracy_high"].iloc[0])
    assert value_text(math.nan, "%") == "–"


def test_round_frame_of_no_records_has_the_same_columns() -> None:
    assert list(round_frame([]).columns) == list(round_frame([tuning_round(1)]).columns)


def test_frames_can_be_joined() -> None:
    records = whole_run()
    parts = [round_frame(records[:4]), round_frame(records[4:], first=5)]
    pd.testing.assert_frame_equal(pd.concat(parts), round_frame(records), check_index_type=False)


def test_the_position_counts_on_over_stages() -> None:
    second = tuning_round(1).model_copy(update={"stage": "alignment"})
    frame = round_frame([tuning_round(1), tuning_round(2), second])
    assert list(frame.index) == [1, 2, 3] and frame["round"].tolist() == [1, 2, 1]


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (0.6312, "%", "63.1 %"), (10.834, "s", "10.8 s"), (0.905, "s", "905 ms"), (125.0, "s", "2 min 05 s"),
        (0.0905, "J", "90.5 mJ"), (1_548_000, "bit", "1.55 Mbit"), (1.2345, "nat", "1.234 nat"),
        (0.251, "sd", "+0.25 sd"), (-1.0, "sd", "-1.00 sd"), (21.345, "tokens", "21.3 tokens"),
    ],
)  # fmt: skip
def test_values_in_words(value: float, unit: str, text: str) -> None:
    assert value_text(value, unit) == text


def test_stages_lie_one_after_the_other() -> None:
    assert spans_of(PLANNED, []) == (
        Span("instruction", 1, 3, 3, 0, ""), Span("reward", 4, 2, 2, 0, ""), Span("alignment", 6, 4, 4, 0, ""),
    )  # fmt: skip
    assert [(span.first, span.last, span.done) for span in spans_of(PLANNED, whole_run()[:4])] == [
        (1, 3, 3), (4, 5, 1), (6, 9, 0),
    ]  # fmt: skip


def test_a_stage_that_ends_early_is_short_and_has_a_reason() -> None:
    records = whole_run(rounds={"instruction": 2}, instruction="Loss has not improved for 1 rounds.")
    first, second, third = spans_of(PLANNED, records)
    assert first == Span("instruction", 1, 2, 3, 2, "Loss has not improved for 1 rounds.")
    assert first.early and not second.early and (second.first, third.last) == (3, 8)
    # without a reason, a stage is over once the next one has begun
    without_reason = whole_run(rounds={"instruction": 2, "reward": 1})
    assert [span.rounds for span in spans_of(PLANNED, without_reason[:2])] == [3, 2, 4]
    assert [span.rounds for span in spans_of(PLANNED, without_reason)] == [2, 2, 4]


@given(done=st.integers(0, 9), cut=st.integers(1, 3))
def test_stages_fill_the_axis_and_hold_all_rounds(done: int, cut: int) -> None:
    records = whole_run(rounds={"instruction": cut, "reward": 2, "alignment": 4})[:done]
    spans = spans_of(PLANNED, records)
    assert spans[0].first == 1
    assert all(left.last + 1 == right.first for left, right in zip(spans, spans[1:], strict=False))
    assert sum(span.done for span in spans) == len(records)
    assert all(span.done <= span.rounds <= span.planned for span in spans)


def test_planned_stages_fit_into_the_rounds_of_the_run() -> None:
    config = with_changes(RunConfig(), {f"{stage}.rounds": count for stage, count in PLANNED.items()})
    assert planned_stages(config, 9, []) == PLANNED == stage_rounds(config)
    assert planned_stages(config, 9, whole_run()) == PLANNED
    assert planned_stages(config, 3, []) == {"instruction": 3}  # a run of the version that had one stage


def test_an_early_end_does_not_change_the_planned_stages() -> None:
    config = with_changes(RunConfig(), {f"{stage}.rounds": count for stage, count in PLANNED.items()})
    records = whole_run(rounds={"instruction": 1, "reward": 2, "alignment": 3}, instruction="It.", alignment="It too.")
    for done in (1, 2, 3):
        assert planned_stages(config, 1 + 2 + 4, records[:done]) == PLANNED
    assert planned_stages(config, 3 + 2 + 4, records[:1]) == PLANNED  # the round is in the store, the sum not yet
    assert planned_stages(config, 1 + 2 + 3, records) == PLANNED
    assert [(span.rounds, span.planned) for span in spans_of(PLANNED, records)] == [(1, 3), (2, 2), (3, 4)]


def test_of_many_clients_some_are_taken_evenly_over_the_weights() -> None:
    lines = client_lines(whole_run(weights=[k / 100 for k in range(101)])[:1], "accuracy")
    weights = list(lines.weights.values())
    assert len(weights) == MAX_CLIENT_LINES == 20
    assert (weights[0], weights[-1]) == (0.0, 1.0)
    steps = np.diff(weights)
    assert steps.min() >= 0.05 - 1e-9 and steps.max() <= 0.06 + 1e-9


def test_no_rounds_have_no_clients() -> None:
    assert client_lines([], "accuracy").weights == {}
