"""The measurement of viewers: staleness, phases, and a browser's cache."""

from __future__ import annotations

from pathlib import Path

import pytest
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg

from benchmarks.browsers import MAX_AGE, Arrival, CachedMessage, round_in
from benchmarks.viewers import Phase, StoredRound, log_errors, percentile, round_times, staleness

STORED = [
    StoredRound(1, 10.0, 2.0),
    StoredRound(2, 12.0, 2.0),
    StoredRound(3, 14.0, 2.0),
    StoredRound(4, 16.0, 2.0),
    StoredRound(5, 30.0, 4.0),
]


def test_a_round_that_a_later_one_overtook_is_as_late_as_that() -> None:
    arrivals = [Arrival(1, 10.5), Arrival(3, 14.25)]
    assert staleness(STORED, arrivals, 10.0, 17.0) == [0.5, 2.25, 0.25, 1.0]  # the fourth never came: until the end
    assert staleness(STORED, arrivals, 12.0, 14.0) == [2.25]  # of the second alone


@pytest.mark.parametrize(("share", "value"), [(0.5, 2.0), (0.75, 3.0), (0.76, 4.0), (1.0, 4.0), (0.01, 1.0)])
def test_a_percentile_is_one_of_the_values(share: float, value: float) -> None:
    assert percentile([4.0, 1.0, 3.0, 2.0], share) == value


def test_only_rounds_that_lie_in_a_phase_count_for_it() -> None:
    phases = [Phase(0, 8.0, 12.5), Phase(30, 13.0, 17.0), Phase(0, 25.0, 31.0)]
    assert round_times(STORED, phases, watched=False) == [2.0, 2.0, 4.0]
    assert round_times(STORED, phases, watched=True) == [2.0]  # the third began before the viewers were there


def chart(alt: str, fragment: str = "") -> ForwardMsg:
    message = ForwardMsg()
    message.delta.new_element.bidi_component.component_name = "pwff.chart"
    message.delta.new_element.bidi_component.json = f'{{"alt": "{alt}"}}'
    message.delta.fragment_id = fragment
    return message


def test_a_round_is_read_from_a_chart_s_text() -> None:
    assert round_in(chart("Delay of a round after round 12 of 40: slowest client 1 s. After round 1: 2 s.")) == 12
    assert round_in(chart("Delay of a round: no number yet.")) == 0
    other = ForwardMsg()
    other.delta.new_element.markdown.body = "after round 12 of 40"
    assert round_in(other) == 0


def test_a_cached_message_is_dropped_after_runs_of_its_fragment_or_of_all() -> None:
    cached = CachedMessage(chart("", fragment="f"), used_at=3)
    assert not cached.stale(3 + MAX_AGE, ["f"])
    assert cached.stale(4 + MAX_AGE, ["f"]) and cached.stale(4 + MAX_AGE, [])
    assert not cached.stale(4 + MAX_AGE, ["g"])


def test_errors_are_found_in_the_log(tmp_path: Path) -> None:
    log = tmp_path / "app.log"
    log.write_text("  You can now view your app.\nTraceback (most recent call last):\n  File x\nKeyError: 'a'\n")
    assert log_errors(log) == ["KeyError: 'a'"]
    log.write_text("The store /x is locked by another program.\n")
    assert len(log_errors(log)) == 1
