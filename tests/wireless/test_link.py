from __future__ import annotations

import math
import time
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.integrate import quad
from scipy.special import exp1

from pwff_core.config import ChannelConfig, RunConfig, preset_config
from pwff_core.knobs import with_changes
from pwff_core.wireless.link import (
    Transfer,
    awgn_rate_bps,
    ergodic_rate_bps,
    estimate,
    expected_rate_bps,
    outage_probability,
    rate_moments,
    transfer,
)
from pwff_core.wireless.payload import GPT2_SMALL

SEEDS = st.integers(0, 2**32 - 1)
SNRS_DB = st.floats(-30, 60)
PAPER_BITS = 580_968 * 32


def send(bits: int | list[int], seed: int = 0, **channel: Any) -> Transfer:
    clients = bits if isinstance(bits, list) else [bits]
    return transfer(np.array(clients, dtype=np.int64), ChannelConfig(**channel), np.random.default_rng(seed))


# ---- rates and outage -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("snr", "spectral"), [(1.0, 1.0), (3.0, 2.0), (15.0, 4.0), (1023.0, 10.0)])
def test_awgn_rate_at_whole_powers_of_two(snr: float, spectral: float) -> None:
    assert awgn_rate_bps(snr, 2e6) == pytest.approx(2e6 * spectral, rel=1e-14)


def test_rates_at_the_paper_s_five_decibel() -> None:
    snr = 10**0.5
    assert ergodic_rate_bps(snr, 1.0) == pytest.approx(1.716, abs=5e-4)
    assert awgn_rate_bps(snr, 1.0) == pytest.approx(2.057, abs=5e-4)


@pytest.mark.parametrize("snr_db", [-25, -10, 0, 5, 20, 40, 60])
def test_ergodic_rate_equals_the_exponential_integral(snr_db: float) -> None:
    x = 10 ** (-snr_db / 10)
    assert ergodic_rate_bps(1 / x, 1e6) == pytest.approx(1e6 * math.exp(x) * exp1(x) / math.log(2), rel=1e-9)


@pytest.mark.parametrize("snr_db", [-30, -10, 0, 5, 20, 60])
def test_ergodic_rate_equals_the_integral_over_the_gain(snr_db: float) -> None:
    # −30 dB is where e^(1/γ̄)·E1(1/γ̄) cannot be multiplied out in doubles
    snr = 10 ** (snr_db / 10)
    mean, _ = quad(lambda h: math.log2(1 + snr * h) * math.exp(-h), 0, 60, points=[1e-6, 1e-4, 1e-2, 1], limit=500)
    assert ergodic_rate_bps(snr, 1.0) == pytest.approx(mean, rel=1e-7)


@given(snr_db=SNRS_DB)
def test_fading_costs_rate(snr_db: float) -> None:
    snr = 10 ** (snr_db / 10)  # Jensen: E[log(1 + γ̄h)] < log(1 + γ̄)
    assert 0 < ergodic_rate_bps(snr, 1.0) < awgn_rate_bps(snr, 1.0)


@pytest.mark.parametrize("snr_db", [-10, 0, 5, 20])
def test_simulated_mean_rate_is_within_one_percent_of_the_closed_form(snr_db: float) -> None:
    # 4 uploads of about 50,000 coherence blocks each, every block simulated
    expected = expected_rate_bps(ChannelConfig(snr_db=snr_db))
    sent = send([round(expected * 50)] * 4, snr_db=snr_db, coherence_time_s=1e-3)
    assert sent.rate_bps.mean() == pytest.approx(expected, rel=0.01)
    assert expected == pytest.approx(ergodic_rate_bps(10 ** (snr_db / 10), 1e6), rel=1e-12)


def test_expected_rate_of_a_channel_without_fading_is_its_capacity() -> None:
    assert expected_rate_bps(ChannelConfig(fading="awgn", snr_db=0)) == pytest.approx(1e6, rel=1e-12)


def test_outage_probability_by_hand_and_by_simulation() -> None:
    # R = B at 0 dB: log2(1 + h) < 1 where h < 1, so 1 − 1/e
    assert outage_probability(1e6, 1.0, 1e6) == pytest.approx(1 - math.exp(-1), rel=1e-12)
    assert outage_probability(0.0, 1.0, 1e6) == 0.0
    assert outage_probability(1e12, 1.0, 1.0) == 1.0
    # one gain a second, 4,000 uploads of one second's bits: lost where the gain does not carry the rate
    sent = send([1_500_000] * 4000, snr_db=5, coherence_time_s=math.inf, deadline_s=1.0)
    expected = outage_probability(1.5e6, 10**0.5, 1e6)
    assert np.mean(~sent.delivered) == pytest.approx(expected, abs=4 * math.sqrt(expected * (1 - expected) / 4000))


# ---- a transfer -------------------------------------------------------------------------------------------------


def test_awgn_transfer_in_closed_form() -> None:
    sent = send([2_000_000, 0, 500_000], fading="awgn", snr_db=0, transmit_power_w=0.5)
    assert sent.delay_s == pytest.approx([2.0, 0.0, 0.5], rel=1e-12)
    assert sent.energy_j == pytest.approx([1.0, 0.0, 0.25], rel=1e-12)
    assert sent.rate_bps == pytest.approx([1e6, 0.0, 1e6], rel=1e-12)
    assert sent.snr_db == pytest.approx([0.0, 0.0, 0.0], abs=1e-12)
    assert sent.delivered.tolist() == [True, True, True]


def test_nothing_to_send_costs_nothing() -> None:
    sent = send([0, 0], snr_db=7)
    assert [array.tolist() for array in sent] == [[0.0, 0.0], [0.0, 0.0], [0.0, 0.0], [7.0, 7.0], [True, True]]


def test_a_negative_payload_is_refused() -> None:
    with pytest.raises(ValueError, match="fewer than 0 bits"):
        send(-1)


def gains_of_client(seed: int, client: int, clients: int, count: int) -> NDArray[np.float64]:
    """The gains that a client meets, by the documented rule: a seed a client from the generator."""
    seeds = np.random.default_rng(seed).integers(0, 2**63, size=clients)
    return np.random.default_rng(seeds[client]).standard_exponential(count)


@pytest.mark.parametrize(("bits", "deadline_s"), [(3_000_000, math.inf), (3_000_000, 0.7234), (40_000, math.inf)])
def test_a_transfer_equals_a_walk_block_by_block(bits: int, deadline_s: float) -> None:
    # oracle: one coherence block after the other in plain Python
    sent = send([bits, bits], seed=11, coherence_time_s=0.01, deadline_s=deadline_s)
    for client in range(2):
        left, elapsed, weighted = float(bits), 0.0, 0.0
        for gain in gains_of_client(11, client, 2, 2000):
            rate = 1e6 * math.log2(1 + 10**0.5 * gain)
            span = min(0.01, left / rate, deadline_s - elapsed)
            left, elapsed, weighted = left - rate * span, elapsed + span, weighted + gain * span
            if left < 1e-6 or elapsed >= deadline_s - 1e-12:
                break
        assert sent.delay_s[client] == pytest.approx(elapsed, rel=1e-9)
        assert sent.rate_bps[client] == pytest.approx((bits - left) / elapsed, rel=1e-9)
        assert sent.snr_db[client] == pytest.approx(5 + 10 * math.log10(weighted / elapsed), abs=1e-9)
        assert bool(sent.delivered[client]) == (left < 1e-6)


def test_one_gain_holds_for_the_whole_upload() -> None:
    (gain,) = gains_of_client(5, 0, 1, 1)
    rate = 1e6 * math.log2(1 + 10**0.5 * gain)
    sent = send(1_000_000, seed=5, coherence_time_s=math.inf, deadline_s=1000.0)
    assert sent.delay_s[0] == pytest.approx(1e6 / rate, rel=1e-12)
    assert sent.snr_db[0] == pytest.approx(5 + 10 * math.log10(gain), abs=1e-9)
    assert sent.delivered[0]


@pytest.mark.parametrize("fading", ["rayleigh", "awgn"])
@pytest.mark.parametrize("coherence_time_s", [0.01, 1e-4, 50.0, math.inf])
def test_an_upload_past_its_deadline_is_lost_and_its_energy_is_spent(fading: str, coherence_time_s: float) -> None:
    sent = send(10**12, fading=fading, coherence_time_s=coherence_time_s, deadline_s=3.0, transmit_power_w=2.0)
    assert not sent.delivered[0]
    assert sent.delay_s[0] == 3.0
    assert sent.energy_j[0] == 6.0
    assert 0 < sent.rate_bps[0] * 3.0 < 10**12  # the bits that were through, and lost
    assert math.isfinite(sent.snr_db[0])


@settings(max_examples=60)
@given(
    seed=SEEDS,
    bits=st.lists(st.integers(0, 5_000_000), min_size=1, max_size=4),
    snr_db=SNRS_DB,
    power=st.floats(1e-3, 100),
    deadline_s=st.one_of(st.just(math.inf), st.floats(1e-3, 100)),
)
def test_energy_is_power_times_delay_and_bits_are_rate_times_delay(
    seed: int, bits: list[int], snr_db: float, power: float, deadline_s: float
) -> None:
    channel = {"snr_db": snr_db, "transmit_power_w": power, "deadline_s": deadline_s}
    sent = send(bits, seed, **channel)
    assert sent.energy_j == pytest.approx(power * sent.delay_s, rel=1e-12)
    assert np.all(sent.delay_s <= deadline_s)
    through = sent.rate_bps * sent.delay_s
    assert np.where(sent.delivered, through, 0.0) == pytest.approx(np.where(sent.delivered, bits, 0), rel=1e-9)
    assert np.all(through <= np.array(bits) * (1 + 1e-9))


@settings(max_examples=60)
@given(seed=SEEDS, snr_db=SNRS_DB, gain_db=st.floats(0, 30), bits=st.lists(st.integers(1, 3_000_000), max_size=4))
def test_more_snr_never_takes_longer(seed: int, snr_db: float, gain_db: float, bits: list[int]) -> None:
    assume(snr_db + gain_db <= 60)
    slow = send(bits, seed, snr_db=snr_db)
    fast = send(bits, seed, snr_db=snr_db + gain_db)
    assert np.all(fast.delay_s <= slow.delay_s * (1 + 1e-12))


@settings(max_examples=40)
@given(seed=SEEDS, bits=st.integers(1, 3_000_000), factor=st.floats(1.0, 10.0))
def test_more_bits_take_longer_and_more_power_alone_costs_in_proportion(seed: int, bits: int, factor: float) -> None:
    base = send(bits, seed)
    assert send(round(bits * factor), seed).delay_s[0] >= base.delay_s[0]
    assert send(bits, seed, transmit_power_w=factor).energy_j[0] == pytest.approx(factor * base.energy_j[0], rel=1e-12)


def test_a_client_s_fading_does_not_depend_on_the_others_payload() -> None:
    assert send([10, 2_000_000], seed=3).delay_s[1] == send([9_000_000, 2_000_000], seed=3).delay_s[1]


def test_the_seed_decides_the_transfer() -> None:
    assert send(PAPER_BITS, 1).delay_s[0] == send(PAPER_BITS, 1).delay_s[0] != send(PAPER_BITS, 2).delay_s[0]


def test_short_blocks_approach_the_ergodic_delay() -> None:
    # relative spread of the delay is about cv/√blocks: 0.57/√(10.83/T_c)
    limit = PAPER_BITS / ergodic_rate_bps(10**0.5, 1e6)
    assert limit == pytest.approx(10.83, abs=5e-3)
    for coherence_time_s, blocks in ((0.1, 108), (0.01, 1083), (0.0005, 21_668)):
        delays = send([PAPER_BITS] * 100, coherence_time_s=coherence_time_s).delay_s
        assert np.max(np.abs(delays / limit - 1)) < 5 * 0.57 / math.sqrt(blocks)


# ---- very long transfers: the bulk as a normal sum ---------------------------------------------------------------


@pytest.mark.parametrize("snr_db", [-30, -10, 0, 5, 20, 60])
def test_block_moments_against_samples(snr_db: float) -> None:
    snr = 10 ** (snr_db / 10)
    gain = np.random.default_rng(8).standard_exponential(1_000_000)
    rate = np.log2(1 + snr * gain)
    mean, deviation, correlation = rate_moments(snr)
    assert mean == pytest.approx(rate.mean(), rel=5e-3)
    assert deviation == pytest.approx(rate.std(), rel=5e-3)
    assert correlation == pytest.approx(np.corrcoef(gain, rate)[0, 1], abs=5e-3)


def test_the_normal_bulk_has_the_distribution_of_the_exact_simulation() -> None:
    bits = round(20_000 * 1e-3 * expected_rate_bps(ChannelConfig()))  # about 20,000 blocks of 1 ms
    exact = send([bits] * 600, seed=21, coherence_time_s=1e-3)
    channel = ChannelConfig(coherence_time_s=1e-3)
    bulk = transfer(np.full(600, bits), channel, np.random.default_rng(22), bulk_above=5_000)
    for name in ("delay_s", "snr_db"):
        in_bulk, one_by_one = getattr(bulk, name), getattr(exact, name)
        spread = one_by_one.std()
        assert spread > 0
        assert abs(in_bulk.mean() - one_by_one.mean()) < 4 * spread * math.sqrt(2 / 600)
        assert in_bulk.std() == pytest.approx(spread, rel=4 / math.sqrt(600))
    together = [np.corrcoef(sent.delay_s, sent.snr_db)[0, 1] for sent in (bulk, exact)]
    assert together[0] == pytest.approx(together[1], abs=0.05)  # a lucky upload is fast and sees a high SNR
    assert bulk.rate_bps * bulk.delay_s == pytest.approx([bits] * 600, rel=1e-9)


def test_billions_of_blocks_take_no_time() -> None:
    begun = time.perf_counter()
    sent = send([66_000_000 * 32] * 10, snr_db=-30, coherence_time_s=1e-4)
    assert time.perf_counter() - begun < 2.0
    limit = 66_000_000 * 32 / expected_rate_bps(ChannelConfig(snr_db=-30))
    assert limit / 1e-4 > 1e10
    assert sent.delay_s == pytest.approx([limit] * 10, rel=1e-4)
    assert np.ptp(sent.delay_s) > 0
    assert np.all(sent.delivered)


def test_a_deadline_inside_the_bulk_is_met_exactly() -> None:
    sent = send(66_000_000 * 32, snr_db=-30, coherence_time_s=1e-4, deadline_s=500.0)  # 5 million blocks of 14 billion
    assert sent.delay_s[0] == 500.0
    assert not sent.delivered[0]
    assert sent.rate_bps[0] == pytest.approx(expected_rate_bps(ChannelConfig(snr_db=-30)), rel=5e-3)


# ---- the estimate -----------------------------------------------------------------------------------------------


def test_the_paper_s_round_before_any_training() -> None:
    pwff = estimate(preset_config("paper"), GPT2_SMALL)
    assert pwff.uplink_bits == PAPER_BITS
    assert pwff.delay_s == pytest.approx(10.83, abs=5e-3)
    assert pwff.energy_j == pytest.approx(10.83, abs=5e-3)
    assert pwff.round_energy_j == pytest.approx(108.3, abs=0.05)
    vanilla = estimate(with_changes(preset_config("paper"), {"method": "vanilla_fl"}), GPT2_SMALL)
    assert vanilla.delay_s == pytest.approx(19.08, abs=5e-3)
    assert pwff.delay_s / vanilla.delay_s == pytest.approx(0.568, abs=5e-4)


def test_a_whole_distilbert_takes_twenty_minutes() -> None:
    assert 66_000_000 * 32 / expected_rate_bps(ChannelConfig()) == pytest.approx(1231, abs=0.5)


def test_the_estimate_is_cut_at_the_deadline_and_0_without_uploads() -> None:
    late = with_changes(preset_config("paper"), {"channel.deadline_s": 4.0, "channel.transmit_power_w": 0.5})
    assert estimate(late, GPT2_SMALL)[2:] == (4.0, 2.0, 20.0)
    local = estimate(RunConfig(method="local"), GPT2_SMALL)
    assert (local.uplink_bits, local.delay_s, local.energy_j, local.round_energy_j) == (0, 0.0, 0.0, 0.0)


def test_the_estimate_is_the_mean_of_the_simulation() -> None:
    config = preset_config("paper")
    expected = estimate(config, GPT2_SMALL)
    sent = transfer(np.full(200, expected.uplink_bits), config.channel, np.random.default_rng(6))
    assert sent.delay_s.mean() == pytest.approx(expected.delay_s, rel=5e-3)
    assert sent.energy_j.mean() == pytest.approx(expected.energy_j, rel=5e-3)
