"""One client's link over time: gain and rate of successive coherence blocks, and the progress of an upload."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pwff_core import seeds
from pwff_core.config import ChannelConfig
from pwff_core.units import db_to_linear
from pwff_core.wireless.fading import gains

DEEP_FADE = 0.1  # a gain below this, 10 dB under the mean, is called a deep fade


class Trace(NamedTuple):
    """Successive stretches of a link, each with one gain; arrays are (n,)."""

    start_s: NDArray[np.float64]  # when each stretch begins
    stretch_s: float  # how long each lasts: the coherence time, or a part of the trace where that is infinite
    gain: NDArray[np.float64]  # power gain h
    rate_bps: NDArray[np.float64]  # B·log2(1 + γ̄·h)

    @property
    def span_s(self) -> float:
        """How long the trace is."""
        return self.stretch_s * len(self.gain)


def draw_trace(channel: ChannelConfig, blocks: int, seed: int, *, span_s: float) -> Trace:
    """A link over so many coherence blocks.

    With an infinite coherence time, or without fading, one gain holds for all of it.

    Args:
        channel: the link.
        blocks: number of stretches.
        seed: seed of the gains; the same seed gives the same fading over any channel.
        span_s: length of the trace where the coherence time is infinite.
    """
    one_draw = math.isinf(channel.coherence_time_s)
    stretch_s = span_s / blocks if one_draw else channel.coherence_time_s
    drawn = gains(1 if one_draw else blocks, channel.fading, seeds.generator(seed, "lab", "trace"))
    gain = np.broadcast_to(drawn, blocks)
    snr = db_to_linear(channel.snr_db)
    rate: NDArray[np.float64] = channel.bandwidth_hz * np.log1p(snr * gain) / math.log(2.0)
    start = np.linspace(0.0, stretch_s * blocks, blocks, endpoint=False)
    return Trace(start, stretch_s, gain, rate)


def deep_fade_share(channel: ChannelConfig) -> float:
    """Chance that a block is in a deep fade: P(h < 0.1) = 1 − e^(−0.1) for Rayleigh, otherwise 0."""
    return -math.expm1(-DEEP_FADE) if channel.fading == "rayleigh" else 0.0


def progress(trace: Trace, bits: int) -> NDArray[np.float64]:
    """Share of an upload (`bits` > 0) that is through at the start of each stretch and at the end, (n + 1,)."""
    sent = np.concatenate([[0.0], np.cumsum(trace.rate_bps * trace.stretch_s)])
    return np.minimum(sent / bits, 1.0)


def through_s(trace: Trace, bits: int) -> float:
    """When an upload of `bits` > 0 that begins with the trace is through [s]; inf if the trace ends first."""
    sent = np.cumsum(trace.rate_bps * trace.stretch_s)  # (n,) after each stretch
    last = int(np.searchsorted(sent, bits))
    if last == len(sent):
        return math.inf
    before = float(sent[last - 1]) if last else 0.0
    return float(trace.start_s[last]) + (bits - before) / float(trace.rate_bps[last])
