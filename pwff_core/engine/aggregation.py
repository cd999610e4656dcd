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
    """The server's copy of what a stage's clients upload, and the average that renews it.

    `stacks` are the clients' own tensors by name, each (K, …), a chunk of clients a dictionary; at first all clients
    are equal, and so is the copy. `num_examples` (K,) weights the average.
    """

    def __init__(self, stacks: Sequence[dict[str, Tensor]], num_examples: Sequence[float]) -> None:
        self._stacks, self._num_examples = stacks, torch.tensor(num_examples)
        self.copy = {name: stacked.detach()[0].clone() for name, stacked in stacks[0].items()} if stacks else {}

    @property
    def num_params(self) -> int:
        """Parameters that one client uploads a round."""
        return sum(tensor.numel() for tensor in self.copy.values())

    @torch.no_grad()
    def average(self, delivered: NDArray[np.bool_]) -> None:
        """Average the uploads that were `delivered` (K,), weighted by examples, and give every client the copy.

        Where none was delivered, every client still gets the server's copy of the round before.
        """
        weights = self._num_examples * torch.from_numpy(delivered)  # (K,)
        for name, copy in self.copy.items():
            stacks = [stack[name] for stack in self._stacks]
            if weights.any():
                copy.copy_(weighted_mean(torch.cat(stacks), weights.to(copy.device)))
            for stack in stacks:
                stack.copy_(copy.expand_as(stack))
