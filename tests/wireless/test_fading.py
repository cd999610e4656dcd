from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pwff_core.wireless.fading import gains


def test_rayleigh_gains_have_mean_one_and_the_exponential_distribution() -> None:
    count = 400_000
    drawn = gains(count, "rayleigh", np.random.default_rng(1))
    # Exp(1): mean 1, variance 1, so the mean's standard error is 1/√n; five of them
    assert abs(drawn.mean() - 1.0) < 5 / math.sqrt(count)
    for threshold in (0.01, 0.1, 1.0, 3.0):
        share = 1.0 - math.exp(-threshold)
        error = math.sqrt(share * (1 - share) / count)
        assert abs(np.mean(drawn < threshold) - share) < 5 * error


def test_gains_are_the_squared_magnitude_of_a_complex_gaussian() -> None:
    # independent oracle: h = |x + jy|², x and y ~ N(0, 1/2)
    x, y = np.random.default_rng(2).normal(0.0, math.sqrt(0.5), (2, 200_000))
    drawn = np.sort(gains(200_000, "rayleigh", np.random.default_rng(3)))
    magnitudes = np.sort(x**2 + y**2)
    levels = np.linspace(0.02, 0.98, 49)
    assert np.allclose(np.quantile(drawn, levels), np.quantile(magnitudes, levels), rtol=0.04)


def test_awgn_has_gain_one_and_draws_nothing() -> None:
    generator = np.random.default_rng(4)
    before = generator.bit_generator.state
    assert gains((2, 3), "awgn", generator).tolist() == [[1.0] * 3] * 2
    assert generator.bit_generator.state == before


@given(seed=st.integers(0, 2**32), cut=st.integers(0, 50))
def test_a_series_is_the_same_however_it_is_cut_into_calls(seed: int, cut: int) -> None:
    whole = gains(50, "rayleigh", np.random.default_rng(seed))
    generator = np.random.default_rng(seed)
    parts = np.concatenate([gains(cut, "rayleigh", generator), gains(50 - cut, "rayleigh", generator)])
    assert parts.tolist() == whole.tolist()


class _ZeroGenerator(np.random.Generator):
    """A source whose exponential draws are exactly 0, as a real one's are once in a long while."""

    def standard_exponential(self, *args: object, **kwargs: object) -> np.ndarray:  # type: ignore[override]
        return np.zeros(3)


def test_a_draw_of_exactly_zero_still_has_a_logarithm() -> None:
    drawn = gains(3, "rayleigh", _ZeroGenerator(np.random.PCG64(0)))
    assert np.all(drawn > 0)
    assert drawn.max() == pytest.approx(0.0, abs=1e-90)
