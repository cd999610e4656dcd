"""When a stage stops early: by hand and by its properties."""

from __future__ import annotations

import math

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from pwff_core.engine.stages.early_stopping import MIN_IMPROVEMENT, SMOOTHING, has_stopped_improving, smoothed
from pwff_core.records import Better

NUMBERS = st.lists(st.integers(-50, 50).map(lambda number: number / 10), max_size=25)
BETTER = st.sampled_from(["higher", "lower"])


def test_smoothing_by_hand() -> None:
    assert SMOOTHING == 0.5
    assert smoothed([4.0, 2.0, 2.0, 5.0]) == [4.0, 3.0, 2.5, 3.75]


def test_rounds_without_a_number_are_skipped() -> None:
    assert smoothed([None, 4.0, math.nan, 2.0, math.inf, None]) == [4.0, 3.0]
    assert smoothed([]) == smoothed([None, math.nan]) == []


@pytest.mark.parametrize(
    ("history", "patience", "better", "expected"),
    [
        ([1.0], 1, "lower", False),
        ([1.0, 1.0], 1, "lower", True),
        ([1.0, 1.0], 2, "lower", False),
        ([1.0, 1.0, 1.0], 2, "lower", True),
        ([1.0, 0.8, 0.6], 1, "lower", False),
        ([1.0, 0.8, 0.6], 1, "higher", True),
        # smoothed: 1, 0.5, 0.45, 0.525: one round without progress
        ([1.0, 0.0, 0.4, 0.6], 1, "lower", True),
        ([1.0, 0.0, 0.4, 0.6], 2, "lower", False),
        # smoothed: 0, 0.5, 0.35, 0.575: a new best after a bad round
        ([0.0, 1.0, 0.2, 0.8], 1, "higher", False),
        # smoothed: 1, 0.9992: better, but by too little
        ([1.0, 0.9984], 1, "lower", True),
        ([1.0, 0.9976], 1, "lower", False),
        # rounds that measured nothing neither improve nor count
        ([1.0, None, math.nan, None], 1, "lower", False),
        ([1.0, None, 1.0], 1, "lower", True),
        ([None, None, None], 1, "higher", False),
    ],
)
def test_early_stopping_by_hand(history: list[float | None], patience: int, better: Better, expected: bool) -> None:
    assert has_stopped_improving(history, patience, better) is expected


@given(NUMBERS, BETTER)
def test_patience_0_never_ends_a_stage(history: list[float], better: Better) -> None:
    assert not has_stopped_improving(history, 0, better)


@given(NUMBERS, st.integers(1, 10))
def test_higher_and_lower_are_mirrors(history: list[float], patience: int) -> None:
    assert has_stopped_improving(history, patience, "higher") == has_stopped_improving(
        [-x for x in history], patience, "lower"
    )


@given(NUMBERS, st.integers(1, 10), BETTER)
def test_more_patience_never_ends_earlier(history: list[float], patience: int, better: Better) -> None:
    if has_stopped_improving(history, patience + 1, better):
        assert has_stopped_improving(history, patience, better)


@given(NUMBERS, st.integers(1, 10), BETTER)
def test_a_stage_plays_more_rounds_than_its_patience(history: list[float], patience: int, better: Better) -> None:
    assume(len(history) <= patience)
    assert not has_stopped_improving(history, patience, better)


@given(st.integers(-50, 50), st.integers(1, 30), st.integers(1, 10), BETTER)
def test_a_constant_stops_after_patience_rounds(value: int, rounds: int, patience: int, better: Better) -> None:
    assert has_stopped_improving([float(value)] * rounds, patience, better) == (rounds > patience)


@given(st.lists(st.integers(1, 20), max_size=20), st.integers(1, 5))
def test_steady_progress_never_stops(steps: list[int], patience: int) -> None:
    level, history = 0.0, [0.0]
    for step in steps:  # each more than twice the least: half of it is left after smoothing
        level += step * 2.1 * MIN_IMPROVEMENT
        history.append(level)
    assert not has_stopped_improving(history, patience, "higher")


@given(NUMBERS, st.integers(1, 5), BETTER)
def test_any_metric_that_stands_still_stops(history: list[float], patience: int, better: Better) -> None:
    settled = [*history, *[0.25] * (60 + patience)]  # sixty halvings leave nothing of what was before
    assert has_stopped_improving(settled, patience, better)
