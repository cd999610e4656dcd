from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.special import exp1
from scipy.stats import t as student

from pwff_core.config import ChannelConfig
from pwff_core.wireless.link import transfer
from pwff_core.wireless.sampling import (
    lost_share,
    one_draw_delays,
    running_mean,
    sampled_delays,
    sampled_rates,
    sampled_rounds,
    typical_mean_delay_s,
)

BITS = 580_968 * 32  # the paper's adapters
SNR = 10**0.5


def test_intervals_cover_the_closed_form_in_95_of_100() -> None:
    ergodic = 1e6 * math.exp(1 / SNR) * exp1(1 / SNR) / math.log(2)  # SciPy's E1, 1.716 Mbit/s
    assert ergodic == pytest.approx(1.716e6, rel=1e-3)
    rates = sampled_rates([5.0] * 2000, 1e6, "rayleigh", 100, 11)
    inside = ((rates.low <= ergodic) & (ergodic <= rates.high)).mean()
    assert inside == pytest.approx(0.95, abs=4 * math.sqrt(0.95 * 0.05 / 2000))


def test_an_interval_is_students() -> None:
    rates = sampled_rates([0.0, 10.0], 1.0, "rayleigh", 5, 3)
    again = sampled_rates([0.0, 10.0], 1e3, "rayleigh", 5, 3)
    np.testing.assert_allclose(again.mean, 1e3 * rates.mean)
    np.testing.assert_allclose(rates.mean - rates.low, rates.high - rates.mean)
    # two blocks: mean ± t·|a − b|/2, with t = 12.706 on one degree of freedom
    two = sampled_rates([0.0], 1.0, "rayleigh", 2, 4)
    gain = np.sort(2 ** (two.mean[0] + np.array([-1, 1]) * (two.high[0] - two.mean[0]) / student.ppf(0.975, 1)) - 1)
    assert student.ppf(0.975, 1) == pytest.approx(12.706, abs=1e-3)
    assert np.all(gain > 0)
    assert np.log2(1 + gain).mean() == pytest.approx(two.mean[0])


def test_more_blocks_give_shorter_intervals() -> None:
    few, many = (sampled_rates([5.0], 1.0, "rayleigh", blocks, 2) for blocks in (30, 3000))
    assert (few.high - few.low)[0] / (many.high - many.low)[0] == pytest.approx(10, rel=0.4)


def test_without_fading_the_mean_rate_is_the_capacity() -> None:
    rates = sampled_rates([5.0], 1e6, "awgn", 10, 0)
    assert rates.mean[0] == pytest.approx(1e6 * math.log2(1 + SNR))
    assert rates.high[0] - rates.low[0] == pytest.approx(0.0, abs=1e-6)


def test_a_round_is_its_slowest_client_and_the_sum_of_energies() -> None:
    channel = ChannelConfig(transmit_power_w=0.5)
    rounds = sampled_rounds(BITS, channel, 4, 3, np.random.default_rng(5))
    sent = transfer(np.full(12, BITS), channel, np.random.default_rng(5))
    np.testing.assert_allclose(rounds.delay_s, sent.delay_s.reshape(3, 4).max(axis=1))
    np.testing.assert_allclose(rounds.energy_j, 0.5 * sent.delay_s.reshape(3, 4).sum(axis=1))
    assert not rounds.lost.any()
    cut = sampled_rounds(BITS, channel.model_copy(update={"deadline_s": 10.83}), 4, 3, np.random.default_rng(5))
    np.testing.assert_allclose(cut.lost, (sent.delay_s.reshape(3, 4) > 10.83).mean(axis=1))


def test_running_means_and_lost_shares_by_hand() -> None:
    assert running_mean(np.array([4.0, 2.0, 9.0])).tolist() == [4.0, 3.0, 5.0]
    deadlines = np.array([1.0, 2.0, 4.0, 9.0])
    assert lost_share(np.array([4.0, 2.0, 9.0]), deadlines) == pytest.approx(
        [1, 2 / 3, 1 / 3, 0]
    )  # at the end: in time


def test_one_draw_delays_have_the_distribution_of_the_outage_formula() -> None:
    delays = one_draw_delays(BITS, ChannelConfig(), 100_000, np.random.default_rng(1))
    for deadline in (5.0, 10.0, 50.0):
        spectral = BITS / deadline / 1e6
        late = 1 - math.exp(-(2**spectral - 1) / SNR)
        assert (delays > deadline).mean() == pytest.approx(late, abs=4 * math.sqrt(0.25 / 1e5))


@pytest.mark.parametrize("uploads", [1, 100, 100_000])
def test_the_typical_mean_is_the_integral_over_the_gains_that_occur(uploads: int) -> None:
    # piece by piece in h itself, where the code integrates over its logarithm
    edges = [edge for edge in (10.0**power for power in range(-6, 3)) if edge > 1 / uploads]
    pieces = zip([1 / uploads, *edges], edges, strict=False)
    total = sum(quad(lambda h: math.exp(-h) / math.log2(1 + SNR * h), low, high)[0] for low, high in pieces)
    assert typical_mean_delay_s(BITS, ChannelConfig(), uploads) == pytest.approx(BITS / 1e6 * total, rel=1e-6)


def test_the_mean_of_one_draw_grows_with_the_logarithm_of_the_uploads() -> None:
    # S/R(h) is about S·ln 2/(B·γ̄·h) for small h, so each factor e adds S·ln 2/(B·γ̄)
    means = [typical_mean_delay_s(BITS, ChannelConfig(), 10**power) for power in (5, 6, 7)]
    assert np.diff(means) == pytest.approx([BITS / 1e6 * math.log(2) / SNR * math.log(10)] * 2, rel=1e-3)


def test_simulated_means_follow_the_typical_mean_and_blocks_settle() -> None:
    for uploads in (1_000, 100_000):  # the ratio goes to 1, but as slowly as 1/ln n
        means = [one_draw_delays(BITS, ChannelConfig(), uploads, np.random.default_rng(s)).mean() for s in range(50)]
        assert 0.9 < np.median(means) / typical_mean_delay_s(BITS, ChannelConfig(), uploads) < 1.4
    settled = sampled_delays(BITS, ChannelConfig(coherence_time_s=0.1083), 500, np.random.default_rng(2))
    assert settled.mean() == pytest.approx(10.83, rel=0.02)
