"""The server's mean, by hand and by NumPy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pwff_core.engine.aggregation import weighted_mean


def test_a_weighted_mean_by_hand() -> None:
    stacked = torch.tensor([[1.0, 10.0], [3.0, 20.0]])
    assert weighted_mean(stacked, torch.tensor([3.0, 1.0])).tolist() == [1.5, 12.5]


@given(st.lists(st.floats(0.1, 100), min_size=1, max_size=6), st.integers(0, 100))
def test_a_weighted_mean_equals_numpy(weights: list[float], seed: int) -> None:
    stacked = np.random.default_rng(seed).normal(size=(len(weights), 2, 3))
    mean = weighted_mean(torch.from_numpy(stacked), torch.tensor(weights, dtype=torch.float64))
    np.testing.assert_allclose(mean.numpy(), np.average(stacked, axis=0, weights=weights), rtol=1e-9, atol=1e-12)


def test_a_client_of_weight_zero_does_not_count() -> None:
    stacked = torch.tensor([[1.0], [float("7")]])
    assert weighted_mean(stacked, torch.tensor([1.0, 0.0])).item() == pytest.approx(1.0)
