"""The server's average (FedAvg, McMahan et al., arXiv 1602.05629), over named tensors stacked by client."""

from __future__ import annotations

import torch
from torch import Tensor


def weighted_mean(stacked: Tensor, weights: Tensor) -> Tensor:
    """Mean over the leading client axis: (K, …) and weights (K,) ≥ 0, not all 0, give (…)."""
    shares = (weights / weights.sum()).to(stacked.dtype)
    mean: Tensor = torch.tensordot(shares, stacked, dims=1)
    return mean
