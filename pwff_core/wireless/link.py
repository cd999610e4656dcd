"""Rate, outage, transfer time and energy of a link over AWGN or Rayleigh block fading.

An upload of S bits over block fading lasts as many coherence blocks as it needs; a block of gain h carries
B·log2(1 + γ̄·h) bits a second, and the last block is used in part. With an infinite coherence time one gain holds
for the whole upload. Sources: A. Goldsmith, Wireless Communications, 2005, sections 4.1 and 4.2; D. Tse and
P. Viswanath, Fundamentals of Wireless Communication, 2005, section 5.4.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.integrate import quad
from scipy.special import hyperu

from pwff_core.config import ChannelConfig, RunConfig
from pwff_core.methods import METHODS
from pwff_core.units import db_to_linear, linear_to_db
from pwff_core.wireless.fading import gains
from pwff_core.wireless.payload import Geometry, num_upload_params, uplink_bits

BULK_ABOVE_BLOCKS = 100_000  # with more blocks than this to go, most of them are drawn as one normal sum
_SIMULATED_TAIL = 0.1  # at least this share of BULK_ABOVE_BLOCKS is left to be simulated one by one
_MAX_DEVIATIONS = 8.0  # a bulk's normal deviate is cut here (P < 2e-15), so that it cannot pass the end of the upload


class Transfer(NamedTuple):
    """One upload of each of K clients, every array (K,)."""

    delay_s: NDArray[np.float64]  # until all bits are through, or until the deadline
    energy_j: NDArray[np.float64]  # transmit power × delay, also where the upload was lost
    rate_bps: NDArray[np.float64]  # bits through / delay [bit/s]; 0 where there was nothing to send
    snr_db: NDArray[np.float64]  # mean receive SNR over the time used; the configured mean where nothing was sent
    delivered: NDArray[np.bool_]  # False: the upload was not through by the deadline, and all of it is lost


class Estimate(NamedTuple):
    """The expected cost of a round's uploads, before any training."""

    uplink_bits: int  # one client
    rate_bps: float
    delay_s: float
    energy_j: float  # one client
    round_energy_j: float  # all clients


def awgn_rate_bps(snr: float, bandwidth_hz: float) -> float:
    """Capacity of the AWGN channel, B·log2(1 + γ) [bit/s], γ linear (Goldsmith 2005, eq. 4.1)."""
    return bandwidth_hz * math.log1p(snr) / math.log(2.0)


def ergodic_rate_bps(snr: float, bandwidth_hz: float) -> float:
    """Mean rate under Rayleigh fading, E[R] = B·e^(1/γ̄)·E1(1/γ̄) / ln 2 [bit/s], γ̄ linear and above 0.

    Goldsmith 2005, section 4.2.3 (eq. 4.4 with an exponential gain). At −30 dB e^(1/γ̄) alone overflows, so the product
    is taken as Tricomi's function, U(1, 1, x) = ∫ e^(−x·t)/(1 + t) dt = e^x·E1(x) (DLMF 13.4.4).
    """
    return bandwidth_hz * float(hyperu(1.0, 1.0, 1.0 / snr)) / math.log(2.0)


def outage_probability(rate_bps: float, snr: float, bandwidth_hz: float) -> float:
    """Chance that a Rayleigh gain carries less than a rate, 1 − exp(−(2^(R/B) − 1)/γ̄), γ̄ linear.

    Tse and Viswanath 2005, section 5.4.1.
    """
    exponent = rate_bps / bandwidth_hz * math.log(2.0)
    if exponent > 700.0:  # e^700 is near the largest double, and no SNR that can be set carries 1000 bit/s/Hz
        return 1.0
    return -math.expm1(-math.expm1(exponent) / snr)


def expected_rate_bps(channel: ChannelConfig) -> float:
    """Mean rate of a link [bit/s]: ergodic under Rayleigh fading, otherwise the AWGN capacity."""
    mean = ergodic_rate_bps if channel.fading == "rayleigh" else awgn_rate_bps
    return mean(db_to_linear(channel.snr_db), channel.bandwidth_hz)


def estimate(config: RunConfig, geometry: Geometry) -> Estimate:
    """Delay and energy of a round before any training: T = S/E[R], at most the deadline, and E = P·T.

    This is the limit of many coherence blocks an upload; a round's real delay, its slowest client's, is a bit longer.
    `geometry` is the backbone's own; `price_as` is applied.
    """
    channel = config.channel
    bits = uplink_bits(num_upload_params(METHODS[config.method], geometry, config), config.float_bits)
    rate = expected_rate_bps(channel)
    delay = min(bits / rate, channel.deadline_s)
    energy = channel.transmit_power_w * delay
    return Estimate(bits, rate, delay, energy, config.clients * energy)


def transfer(
    bits: NDArray[np.int64],
    channel: ChannelConfig,
    generator: np.random.Generator,
    *,
    bulk_above: int = BULK_ABOVE_BLOCKS,
) -> Transfer:
    """Simulate one upload of each client.

    Each client draws from its own generator, seeded from `generator`, so its gains do not depend on how long another
    client sends: the same seed at a higher SNR gives the same fading and never a longer delay (exactly so up to
    `bulk_above` blocks an upload, see `_skip_bulk`). Time and memory are bounded whatever the payload.

    ValueError for a negative number of bits.

    Args:
        bits: (K,) bits that each client uploads, at least 0.
        channel: the link, the same for every client.
        generator: source of randomness; K numbers are drawn from it.
        bulk_above: with more blocks than this to go, most are drawn at once; 5,000 is 20 times quicker for long uploads
            and looks the same on a chart.
    """
    if np.any(bits < 0):
        raise ValueError("an upload cannot have fewer than 0 bits")
    # seeds instead of generator.spawn: a resumed run restores the generator's state, and spawning is not part of it
    seeds = generator.integers(0, 2**63, size=len(bits))
    uploads = [_upload(int(b), channel, np.random.default_rng(s), bulk_above) for b, s in zip(bits, seeds, strict=True)]
    delay_s = np.array([upload.delay_s for upload in uploads], dtype=np.float64)
    return Transfer(
        delay_s=delay_s,
        energy_j=channel.transmit_power_w * delay_s,
        rate_bps=np.array([upload.rate_bps for upload in uploads], dtype=np.float64),
        snr_db=np.array([upload.snr_db for upload in uploads], dtype=np.float64),
        delivered=np.array([upload.delivered for upload in uploads], dtype=np.bool_),
    )


class _Upload(NamedTuple):
    delay_s: float
    rate_bps: float
    snr_db: float
    delivered: bool


def _upload(bits: int, channel: ChannelConfig, generator: np.random.Generator, bulk_above: int) -> _Upload:
    """One client's upload."""
    if bits == 0:
        return _Upload(0.0, 0.0, channel.snr_db, True)
    if channel.fading == "awgn" or math.isinf(channel.coherence_time_s):
        return _upload_at_one_gain(bits, channel, float(gains((), channel.fading, generator)))
    return _upload_over_blocks(bits, channel, generator, bulk_above)


def _upload_at_one_gain(bits: int, channel: ChannelConfig, gain: float) -> _Upload:
    """One gain holds until the bits are through or the deadline comes."""
    snr = db_to_linear(channel.snr_db) * gain
    rate = awgn_rate_bps(snr, channel.bandwidth_hz)
    delay = bits / rate
    delivered = delay <= channel.deadline_s
    return _Upload(delay if delivered else channel.deadline_s, rate, linear_to_db(snr), delivered)


def _upload_over_blocks(bits: int, channel: ChannelConfig, generator: np.random.Generator, bulk_above: int) -> _Upload:
    """Successive coherence blocks, in batches, until the bits are through or the deadline comes.

    Time is counted in blocks: `sent` counts bits / (coherence time), `used` and `limit` count blocks.
    """
    snr, block_s = db_to_linear(channel.snr_db), channel.coherence_time_s
    needed, limit = bits / block_s, channel.deadline_s / block_s
    mean_rate = expected_rate_bps(channel)
    sent, used, gain_sum = 0.0, 0, 0.0
    while True:
        ahead = min((needed - sent) / mean_rate, limit - used)  # blocks to go, by expectation
        if ahead > bulk_above:
            tail = _SIMULATED_TAIL * bulk_above
            skipped, rate_total, gain_total = _skip_bulk(ahead, tail, channel, generator)
            sent, used, gain_sum = sent + rate_total, used + skipped, gain_sum + gain_total
            continue
        gain = gains(int(1.1 * ahead) + 64, channel.fading, generator)  # (n,)
        rate = channel.bandwidth_hz * np.log1p(snr * gain) / math.log(2.0)  # (n,) [bit/s]
        through = sent + np.cumsum(rate)  # (n,) after each block
        room = limit - used
        full = min(int(np.searchsorted(through, needed)), math.floor(min(room, gain.size)))
        if full < gain.size:  # the upload or its time ends within block number `full` of this batch
            before = float(through[full - 1]) if full else sent
            last_rate, last_gain = float(rate[full]), float(gain[full])
            to_end, to_deadline = (needed - before) / last_rate, room - full
            part = min(to_end, to_deadline)
            blocks = used + full + part
            mean_gain = (gain_sum + float(gain[:full].sum()) + part * last_gain) / blocks
            return _Upload(
                delay_s=min(blocks * block_s, channel.deadline_s),
                rate_bps=(before + part * last_rate) / blocks,
                snr_db=linear_to_db(snr * mean_gain),
                delivered=to_end <= to_deadline,
            )
        sent, used, gain_sum = float(through[-1]), used + gain.size, gain_sum + float(gain.sum())


def _skip_bulk(
    ahead: float, tail: float, channel: ChannelConfig, generator: np.random.Generator
) -> tuple[int, float, float]:
    """Most of a very long transfer at once: its number of blocks, their summed rate [bit/s] and their summed gain.

    The sum of m independent block rates is normal with mean m·E[R] and variance m·Var[R], up to a relative error of
    order 1/√m in its distribution (Berry–Esseen), so for m > 90,000 one draw stands for all; the summed gain is drawn
    with it, at its exact correlation. The last `tail` blocks, or as many as eight standard deviations of the bulk, are
    left for the simulation, so the upload never ends inside a bulk.
    """
    mean, deviation, correlation = rate_moments(db_to_linear(channel.snr_db))
    # in bit/s/Hz; `margin` blocks outweigh the largest deviation that the cut normal can have
    margin = max(tail, _MAX_DEVIATIONS * deviation / mean * math.sqrt(ahead))
    blocks = math.floor(ahead - margin)
    z, other = np.clip(generator.standard_normal(2), -_MAX_DEVIATIONS, _MAX_DEVIATIONS)
    spectral = blocks * mean + math.sqrt(blocks) * deviation * float(z)
    gain = blocks + math.sqrt(blocks) * (correlation * float(z) + math.sqrt(1.0 - correlation**2) * float(other))
    return blocks, channel.bandwidth_hz * spectral, gain


@lru_cache(maxsize=256)
def rate_moments(snr: float) -> tuple[float, float, float]:
    """Mean and standard deviation of a Rayleigh block's log2(1 + γ̄·h) [bit/s/Hz], and its correlation with h.

    With L = ln(1 + γ̄·h), h ~ Exp(1) and x = 1/γ̄, integration by parts gives E[L] = e^x·E1(x),
    E[L²] = ∫ 2·L·e^(−h)/(h + x) dh (no closed form in common functions: quadrature), and Cov[h, L] = 1 − x·E[L].
    """
    x = 1.0 / snr
    mean = ergodic_rate_bps(snr, 1.0) * math.log(2.0)
    # h = x·(e^u − 1), so L = u and the integrand is smooth at any SNR
    square, _ = quad(lambda u: 2.0 * u * math.exp(-x * math.expm1(u)), 0.0, math.log1p(750.0 * snr), limit=200)
    deviation = math.sqrt(square - mean**2)
    return mean / math.log(2.0), deviation / math.log(2.0), (1.0 - x * mean) / deviation
