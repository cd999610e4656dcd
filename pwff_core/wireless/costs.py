"""What a round costs on the air under each method: expected by the closed form, and simulated over many rounds."""

from __future__ import annotations

from typing import NamedTuple

from pwff_core import seeds
from pwff_core.config import RunConfig
from pwff_core.methods import METHODS, MethodId
from pwff_core.wireless.link import Estimate, estimate
from pwff_core.wireless.payload import Geometry
from pwff_core.wireless.sampling import Rounds, sampled_rounds

_MOST_UPLOADS = 300  # that are simulated for a payload, but at least _FEWEST_ROUNDS rounds of them
_FEWEST_ROUNDS, _MOST_ROUNDS = 5, 30


class Cost(NamedTuple):
    """One round of instruction tuning or alignment under one method."""

    expected: Estimate  # T = S/E[R], E = P·T
    simulated: Rounds


def rounds_for(clients: int) -> int:
    """How many rounds to simulate: fewer with more clients, so that the time stays about the same."""
    return min(max(_MOST_UPLOADS // clients, _FEWEST_ROUNDS), _MOST_ROUNDS)


def method_costs(config: RunConfig, geometry: Geometry, seed: int) -> dict[MethodId, Cost]:
    """The cost of a round under every method, over the same fading: methods that upload equally much cost the same.

    `geometry` is the backbone's own; `price_as` is applied.
    """
    expected = {name: estimate(config.model_copy(update={"method": name}), geometry) for name in METHODS}
    simulated = {
        bits: sampled_rounds(
            bits, config.channel, config.clients, rounds_for(config.clients), seeds.generator(seed, "lab", "rounds")
        )
        for bits in {cost.uplink_bits for cost in expected.values()}
    }
    return {name: Cost(cost, simulated[cost.uplink_bits]) for name, cost in expected.items()}
