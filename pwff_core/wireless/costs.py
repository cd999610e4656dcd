"""What a round costs on the air under each method: expected by the closed form, and simulated over many rounds."""

from __future__ import annotations

from typing import NamedTuple

from pwff_core import seeds
from pwff_core.config import RunConfig
from pwff_core.methods import METHODS, MethodId
from pwff_core.wireless.link import Estimate, estimate
from pwff_core.wireless.payload import Geometry
from pwff_core.wireless.sampling import Rounds, sampled_rounds

_MOST_UPLOADS = 300  # simulated for a payload, unless that is fewer than _FEWEST_ROUNDS rounds
_FEWEST_ROUNDS, _MOST_ROUNDS = 5, 30


class Cost(NamedTuple):
    """One round of instruction tuning or alignment under one method."""

    expected: Estimate  # T = S/E[R], E = P·T
    simulated: Rounds


def rounds_for(clients: int) -> int:
    """How many rounds are simulated, so that many clients take no longer than a few."""
    return min(max(_MOST_UPLOADS // clients, _FEWEST_ROUNDS), _MOST_ROUNDS)


def method_costs(config: RunConfig, geometry: Geometry, seed: int) -> dict[MethodId, Cost]:
    """The cost of a round under every method, over the same fading: methods that upload as much cost the same.

    `geometry` is the backbone's own; `price_as` is applied.
    """
    expected = {name: estimate(config.model_copy(update={"method": name}), geometry) for name in METHODS}
    simulated = {
        bits: sampled_rounds(
            bits, config.channel, config.clients, rounds_for(config.clients), seeds.generator(seed, "lab", "rounds")
        )
        for bits in {told.uplink_bits for told in expected.values()}
    }
    return {name: Cost(told, simulated[told.uplink_bits]) for name, told in expected.items()}
