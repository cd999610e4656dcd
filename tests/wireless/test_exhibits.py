from __future__ import annotations

import math

import numpy as np
import pytest

from pwff_core.config import ChannelConfig, preset_config
from pwff_core.knobs import with_changes
from pwff_core.wireless.exhibits import CLAIMED_SAVING, decades, fitting_ranks, paper_rank, reward_uploads, settling

BITS = 580_968 * 32


def test_rank_8_fits_and_rank_96_does_not() -> None:
    used, printed = paper_rank(8), paper_rank(96)
    assert used == (8, 580_968, 442_368)
    assert used.lora_share == pytest.approx(442_368 / 1_023_336) == pytest.approx(0.432, abs=5e-4)
    assert used.adapter_share + used.lora_share == 1.0
    assert printed.lora_share == pytest.approx(0.901, abs=5e-4)
    assert printed.lora / printed.adapters == pytest.approx(9.14, abs=5e-3)
    assert fitting_ranks(CLAIMED_SAVING, 128) == [8]
    assert fitting_ranks(0.90, 128) == list(range(90, 101))  # 0.895 ≤ r/(r + 10.507) < 0.905: 89.6 ≤ r < 100.1


def test_one_reward_model_over_the_papers_link() -> None:
    uploads = reward_uploads(preset_config("paper"))
    assert uploads.rounded.delay_s == pytest.approx(1231, abs=0.5)
    assert uploads.whole.num_params == 66_362_880 + 147_585
    assert uploads.head.num_params == 147_585
    assert uploads.whole.delay_s == pytest.approx(uploads.whole.num_params * 32 / 1.7160e6, rel=1e-4)
    assert uploads.adapters.delay_s == pytest.approx(10.83, abs=5e-3)
    half = reward_uploads(with_changes(preset_config("paper"), {"float_bits": 16, "channel.transmit_power_w": 2.0}))
    assert half.rounded.delay_s == pytest.approx(uploads.rounded.delay_s / 2)
    assert half.rounded.energy_j == pytest.approx(uploads.rounded.delay_s)


def test_decades_hold_both_ends_and_the_powers_of_ten() -> None:
    places = decades(100_000)
    assert {1, 10, 100, 1000, 10_000, 100_000} <= set(places.tolist())
    assert len(places) < 250
    assert np.all(np.diff(places) > 0)
    assert decades(3).tolist() == [1, 2, 3]


def test_blocks_settle_and_one_draw_does_not() -> None:
    series = settling(BITS, ChannelConfig(deadline_s=3.0, fading="awgn"), 0)  # neither holds here
    assert series.limit_s == pytest.approx(10.83, abs=5e-3)
    assert [len(means) for means in series.one_draw] == [100_000] * 3
    for means in series.one_draw:
        assert means[-1] > 3 * series.limit_s  # theory: 49.8 s and growing
    assert series.typical_s[-1] == pytest.approx(49.8, abs=0.1)
    assert series.blocks[10][-1] == pytest.approx(series.limit_s, rel=0.1)
    assert series.blocks[100][-1] == pytest.approx(series.limit_s, rel=0.02)
    assert np.ptp(series.blocks[100][100:]) < np.ptp(series.blocks[10][100:])


def test_lost_uploads_over_the_deadline() -> None:
    series = settling(BITS, ChannelConfig(), 0)
    at = 30
    spectral = BITS / series.deadlines_s[at] / 1e6
    assert series.lost_one_draw[at] == pytest.approx(1 - math.exp(-(2**spectral - 1) / 10**0.5))
    for lost in (series.lost_one_draw, *series.lost_blocks.values()):
        assert np.all(np.diff(lost) <= 1e-12)
        assert np.all((lost >= 0) & (lost <= 1))
    late = series.deadlines_s > 2 * series.limit_s
    assert series.lost_blocks[100][late].max() == 0.0 < series.lost_one_draw[late].min()


@pytest.mark.parametrize("channel", [{"snr_db": -30}, {"snr_db": 60}, {"bandwidth_hz": 1e9}, {"bandwidth_hz": 1e3}])
def test_extreme_links_give_finite_numbers(channel: dict[str, float]) -> None:
    series = settling(BITS, ChannelConfig.model_validate(channel), 0)
    for numbers in (*series.one_draw, *series.blocks.values(), series.typical_s, series.deadlines_s):
        assert np.all(np.isfinite(numbers) & (numbers > 0))
