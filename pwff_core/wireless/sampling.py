"""Many simulated uploads: mean rates with their interval, delays of rounds, and means that settle or never do."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.integrate import quad
from scipy.special import stdtrit

from pwff_core import seeds
from pwff_core.config import ChannelConfig
from pwff_core.units import db_to_linear
from pwff_core.wireless.fading import Fading, gains
from pwff_core.wireless.link import transfer

_BULK_ABOVE_BLOCKS = 5_000  # accurate enough for a chart, and hundreds of uploads take a moment
_LARGEST_GAIN = 750.0  # e^−750 is 0 in a double


class Means(NamedTuple):
    """Means of samples, each with an interval that covers the true mean in about 95 of 100 samples; arrays (m,)."""

    mean: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]


class Rounds(NamedTuple):
    """Simulated rounds of K clients that upload the same number of bits, every array (n,)."""

    delay_s: NDArray[np.float64]  # of the slowest client
    energy_j: NDArray[np.float64]  # summed over clients
    lost: NDArray[np.float64]  # share of the uploads that missed the deadline


def sampled_rates(snrs_db: Sequence[float], bandwidth_hz: float, fading: Fading, blocks: int, seed: int) -> Means:
    """Mean rate [bit/s] at each SNR over so many coherence blocks (at least 2), drawn anew for every point.

    The interval is Student's, mean ± t·s/√n. Rates are not normal, least of all at a low SNR: over a few blocks the
    interval there covers the true mean somewhat less often than it should.
    """
    snr = np.array([db_to_linear(snr_db) for snr_db in snrs_db])  # (m,)
    gain = gains((len(snrs_db), blocks), fading, seeds.generator(seed, "lab", "rates"))
    rate = bandwidth_hz * np.log1p(snr[:, None] * gain) / math.log(2.0)  # (m, blocks)
    mean = rate.mean(axis=1)
    half = float(stdtrit(blocks - 1, 0.975)) * rate.std(axis=1, ddof=1) / math.sqrt(blocks)
    return Means(mean, mean - half, mean + half)


def sampled_rounds(
    bits: int, channel: ChannelConfig, clients: int, rounds: int, generator: np.random.Generator
) -> Rounds:
    """Simulate rounds in which every client uploads `bits`; the same state gives the same fading for any `bits`."""
    sent = transfer(np.full(clients * rounds, bits), channel, generator, bulk_above=_BULK_ABOVE_BLOCKS)
    delay, energy, delivered = (part.reshape(rounds, clients) for part in (sent.delay_s, sent.energy_j, sent.delivered))
    return Rounds(delay.max(axis=1), energy.sum(axis=1), 1.0 - delivered.mean(axis=1))


def sampled_delays(
    bits: int, channel: ChannelConfig, uploads: int, generator: np.random.Generator
) -> NDArray[np.float64]:
    """Delays [s] of so many independent uploads, (uploads,)."""
    return transfer(np.full(uploads, bits), channel, generator, bulk_above=_BULK_ABOVE_BLOCKS).delay_s


def one_draw_delays(
    bits: int, channel: ChannelConfig, uploads: int, generator: np.random.Generator
) -> NDArray[np.float64]:
    """Delays [s] of uploads that each have one Rayleigh gain and no deadline, (uploads,). Their mean is infinite."""
    gain = gains(uploads, "rayleigh", generator)
    rate = channel.bandwidth_hz * np.log1p(db_to_linear(channel.snr_db) * gain) / math.log(2.0)
    return bits / rate


def running_mean(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean of the first 1, 2, 3 … values, (n,)."""
    return np.cumsum(values) / np.arange(1, len(values) + 1)


def typical_mean_delay_s(bits: int, channel: ChannelConfig, uploads: int) -> float:
    """The typical mean delay [s] of so many uploads with one Rayleigh gain each.

    The mean over all gains is infinite, as S/R(h) grows like 1/h where h → 0. Among n uploads the smallest gain is
    about 1/n, and the mean over the gains from there on, T_n = ∫ S/R(h)·e^(−h) dh for h > 1/n, grows like ln n: the
    mean of n delays over T_n goes to 1 in probability, as in the St Petersburg game (W. Feller, An Introduction to
    Probability Theory and Its Applications, vol. II, 1971, section VII.7).
    """
    snr = db_to_linear(channel.snr_db)
    # with h = e^u the integrand is smooth over all decades from 1/n on
    mean, _ = quad(
        lambda u: math.exp(u - math.exp(u)) / math.log1p(snr * math.exp(u)), -math.log(uploads), math.log(_LARGEST_GAIN)
    )
    return bits / channel.bandwidth_hz * math.log(2.0) * float(mean)


def lost_share(delays: NDArray[np.float64], deadlines_s: NDArray[np.float64]) -> NDArray[np.float64]:
    """Share of the delays that are longer than each deadline, in the shape of `deadlines_s`."""
    return 1.0 - np.searchsorted(np.sort(delays), deadlines_s, side="right") / len(delays)
