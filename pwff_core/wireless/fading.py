"""Power gains of the fading channel: one draw a coherence block, mean 1."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

Fading = Literal["rayleigh", "awgn"]

# the generator may return exactly 0 (about once in 1e17 draws), which has neither a rate nor decibels
_SMALLEST_GAIN = 1e-100


def gains(shape: int | tuple[int, ...], fading: Fading, generator: np.random.Generator) -> NDArray[np.float64]:
    """Power gains h of independent coherence blocks, E[h] = 1.

    Rayleigh: the amplitude is Rayleigh distributed, so its square is exponential, h ~ Exp(1)
    (Tse and Viswanath, Fundamentals of Wireless Communication, 2005, section 2.4.2). AWGN: h = 1, nothing is drawn.

    Args:
        shape: shape of the gains.
        fading: kind of channel.
        generator: source of randomness; the same state gives the same gains, in however many calls they are drawn.
    """
    if fading == "awgn":
        return np.ones(shape)
    return np.maximum(generator.standard_exponential(shape), _SMALLEST_GAIN)
