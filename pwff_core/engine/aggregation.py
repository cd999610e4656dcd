"""The server's average (FedAvg, McMahan et al., arXiv 1602.05629), over named tensors stacked by client."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


def weighted_mean(stacked: Tensor, weights: Tensor) -> Tensor:
    """Mean over the leading client axis: (K, …) and weights (K,) ≥ 0, not all 0, give (…)."""
    shares = (weights / weights.sum()).to(stacked.dtype)
    mean: Tensor = torch.tensordot(shares, stacked, dims=1)
    return mean


class Server:
    """What a stage's clients send up, and the server's copy of it: at first, the common start."""

    def __init__(self, stacks: Sequence[dict[str, Tensor]], amounts: Sequence[float]) -> None:
        self._stacks, self._amounts = stacks, torch.tensor(amounts)
        self.copy = {name: stacked.detach()[0].clone() for name, stacked in stacks[0].items()} if stacks else {}

    @property
    def numbers(self) -> int:
        """Numbers that one client uploads a round."""
        return sum(tensor.numel() for tensor in self.copy.values())

    @torch.no_grad()
    def average(self, delivered: NDArray[np.bool_]) -> None:
        """Average what arrived, weighted by amounts of data; every client goes on from the server's copy."""
        weights = self._amounts * torch.from_numpy(delivered)
        for name, copy in self.copy.items():
            stacks = [stack[name] for stack in self._stacks]
            if weights.any():
                copy.copy_(weighted_mean(torch.cat(stacks), weights.to(copy.device)))
            for stack in stacks:
                stack.copy_(copy.expand_as(stack))
