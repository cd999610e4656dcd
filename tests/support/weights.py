"""Compares the weights that two ways of training have learned."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from benchmarks.plain import PlainClient, plain_weights
from benchmarks.work import CohortLoop
from pwff_core.methods import Group

ALIKE = 0.01  # Adam divides by the gradient's own size: where that is almost 0, rounding decides the direction

Start = list[dict[Group, dict[str, torch.Tensor]]]


def weights_now(cohort: CohortLoop) -> Start:
    """Every client's weights, in the plain models' names."""
    return [plain_weights(cohort.clients, client) for client in range(cohort.config.clients)]


def assert_moved_alike(start: Start, cohort: CohortLoop, plain: Sequence[PlainClient]) -> None:
    """From the same start, every tensor of every client has moved to the same place, up to 1 % of the way."""
    moved = 0
    for before, now, other in zip(start, weights_now(cohort), plain, strict=True):
        for group, named in now.items():
            for name, tensor in named.items():
                way = (tensor - before[group][name]).norm()
                assert (other.groups[group][name].detach() - tensor).norm() <= ALIKE * way, name
                moved += bool(way > 0)
    assert moved > len(start) * 8  # so that the norms above are of something
