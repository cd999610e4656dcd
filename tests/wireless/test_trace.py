from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pwff_core.config import ChannelConfig
from pwff_core.wireless.trace import Trace, deep_fade_share, draw_trace, progress, through_s

BY_HAND = Trace(
    start_s=np.array([0.0, 0.5, 1.0]), stretch_s=0.5, gain=np.ones(3), rate_bps=np.array([100.0, 10.0, 300.0])
)  # 50, 5 and 150 bits a stretch


def test_a_trace_is_gains_and_their_rates_block_by_block() -> None:
    trace = draw_trace(ChannelConfig(snr_db=0, bandwidth_hz=2e6, coherence_time_s=0.25), 8, 3, span_s=99.0)
    assert trace.start_s.tolist() == [0.0, 0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 1.75]
    assert (trace.stretch_s, trace.span_s) == (0.25, 2.0)
    assert len(set(trace.gain.tolist())) == 8
    np.testing.assert_allclose(trace.rate_bps, 2e6 * np.log2(1.0 + trace.gain))


def test_the_same_seed_is_the_same_fading_over_any_channel() -> None:
    weak, strong = (draw_trace(ChannelConfig(snr_db=snr), 50, 7, span_s=1.0) for snr in (-30, 60))
    np.testing.assert_array_equal(weak.gain, strong.gain)
    assert np.all(weak.rate_bps < strong.rate_bps)
    assert draw_trace(ChannelConfig(), 50, 8, span_s=1.0).gain[0] != weak.gain[0]


def test_one_draw_holds_for_the_whole_trace() -> None:
    trace = draw_trace(ChannelConfig(coherence_time_s=math.inf, deadline_s=1.0), 100, 1, span_s=20.0)
    assert np.ptp(trace.gain) == 0
    assert trace.gain[0] != 1
    assert trace.span_s == pytest.approx(20.0)
    assert trace.start_s[1] == pytest.approx(0.2)


def test_without_fading_the_gain_is_one() -> None:
    assert draw_trace(ChannelConfig(fading="awgn"), 5, 1, span_s=1.0).gain.tolist() == [1.0] * 5


def test_deep_fades_are_as_frequent_as_the_exponential_says() -> None:
    assert deep_fade_share(ChannelConfig()) == pytest.approx(1 - math.exp(-0.1))  # 9.5 %
    assert deep_fade_share(ChannelConfig(fading="awgn")) == 0.0
    gain = draw_trace(ChannelConfig(), 100_000, 5, span_s=1.0).gain
    assert (gain < 0.1).mean() == pytest.approx(0.0952, abs=4 * math.sqrt(0.0952 * 0.905 / 1e5))


def test_progress_and_its_end_by_hand() -> None:
    np.testing.assert_allclose(progress(BY_HAND, 110), [0, 50 / 110, 0.5, 1])
    assert through_s(BY_HAND, 110) == pytest.approx(1.0 + 55 / 300)  # 55 bits are left after a second
    assert through_s(BY_HAND, 50) == pytest.approx(0.5)
    assert through_s(BY_HAND, 205) == pytest.approx(1.5)
    assert through_s(BY_HAND, 206) == math.inf
    assert progress(BY_HAND, 410)[-1] == pytest.approx(0.5)


@given(bits=st.integers(1_000, 10_000_000), seed=st.integers(0, 1000), snr_db=st.floats(-30, 60))
def test_an_upload_ends_where_its_progress_reaches_all(bits: int, seed: int, snr_db: float) -> None:
    trace = draw_trace(ChannelConfig(snr_db=snr_db), 40, seed, span_s=1.0)
    share, end = progress(trace, bits), through_s(trace, bits)
    assert np.all(np.diff(share) >= 0)
    if math.isinf(end):
        assert share[-1] < 1.0
        return
    stretch = int(np.searchsorted(trace.start_s, end)) - 1  # the one that it ends in
    assert share[stretch] < 1.0 == share[stretch + 1]
