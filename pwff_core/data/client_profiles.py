"""Client profiles: the class of each device, where its LoRA stands, and what its owner prefers."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from pwff_core import seeds
from pwff_core.config import RunConfig
from pwff_core.methods import Method

DeviceClass = Literal["low", "mid", "high"]
# LoRA on (query, key, value) of every block: n, 2n or 3n modules. Two are q and v, as in arXiv 2106.09685, section 4.2
PLACEMENT: dict[DeviceClass, tuple[bool, bool, bool]] = {
    "low": (False, False, True),
    "mid": (True, False, True),
    "high": (True, True, True),
}


def device_classes(config: RunConfig) -> list[DeviceClass]:
    """The class of each of the K clients: the three as evenly as K allows, in an order drawn from the seed."""
    even: list[DeviceClass] = [list(PLACEMENT)[client % len(PLACEMENT)] for client in range(config.clients)]
    return [even[index] for index in seeds.generator(config.seed, "devices").permutation(config.clients)]


def placement(config: RunConfig, method: Method, classes: list[DeviceClass], blocks: int) -> NDArray[np.bool_]:
    """(K, blocks, 3): where a client has LoRA (query, key, value): everywhere if LoRA is averaged or data pooled."""
    everywhere = config.lora.modules == "all" or "lora" in method.uploads or method.pooled
    rows = [(True, True, True) if everywhere else PLACEMENT[device] for device in classes]
    return np.repeat(np.array(rows, dtype=bool)[:, None, :], blocks, axis=1)


def helpfulness_weights(config: RunConfig) -> list[float]:
    """Each client's weight λ on helpfulness: as configured, or drawn uniformly from [0, 1] by the seed."""
    preferences = config.preferences
    if preferences.helpfulness_weights is not None:
        return list(preferences.helpfulness_weights)
    if preferences.harmlessness_weights is not None:
        return [1.0 - weight for weight in preferences.harmlessness_weights]
    return [float(weight) for weight in seeds.generator(config.seed, "preferences").random(config.clients)]
