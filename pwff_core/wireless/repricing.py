"""What a run's uploads would have cost over another channel: the same bits and the same fading, priced again.

A round draws its fading from a generator of its own, derived from the run's seed, the stage and the round's number.
So another SNR, bandwidth or power meets the same gains as the run, and over the run's own channel the price is the
measured one, bit for bit. What was learned depends on the channel only through uploads that miss the deadline.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pwff_core import seeds
from pwff_core.config import ChannelConfig, RunConfig
from pwff_core.records import RoundRecord
from pwff_core.wireless.link import Transfer, transfer


class Repriced(NamedTuple):
    """R rounds over another channel, every array (R,)."""

    delay_s: NDArray[np.float64]  # the slowest client's upload
    energy_j: NDArray[np.float64]  # summed over clients
    lost: NDArray[np.int64]  # uploads that miss the deadline
    differing: NDArray[np.int64]  # uploads that are lost over this channel or in the run, but not in both

    @property
    def same_learning(self) -> bool:
        """Whether the server would have averaged the same uploads, so that the run would have learned the same."""
        return not self.differing.any()


def round_transfer(config: RunConfig, record: RoundRecord, channel: ChannelConfig) -> Transfer:
    """The uploads of one round over a channel, with the bits of its record and the fading of the run."""
    bits = np.array([client.uplink_bits for client in record.clients], dtype=np.int64)  # (K,)
    return transfer(bits, channel, seeds.generator(config.seed, "channel", record.stage, record.round))


def reprice(config: RunConfig, records: Sequence[RoundRecord], channel: ChannelConfig) -> Repriced:
    """Delay and energy of a run's rounds over another channel.

    Each round is priced by itself, so of a growing run only the new rounds need a price. Above
    `link.BULK_ABOVE_BLOCKS` coherence blocks an upload, the fading equals the run's in distribution only.

    Args:
        config: the run's config, whose seed gives the fading.
        records: any rounds of that run.
        channel: the link to price them over.
    """
    delays, energies, lost, differing = [], [], [], []
    for record in records:
        sent = round_transfer(config, record, channel)
        delays.append(float(sent.delay_s.max(initial=0.0)))
        energies.append(sum(sent.energy_j.tolist()))  # in the order in which the run's own record is summed
        delivered = np.array([client.delivered for client in record.clients], dtype=np.bool_)  # (K,)
        lost.append(int((~sent.delivered).sum()))
        differing.append(int((sent.delivered != delivered).sum()))
    return Repriced(
        np.array(delays, dtype=np.float64),
        np.array(energies, dtype=np.float64),
        np.array(lost, dtype=np.int64),
        np.array(differing, dtype=np.int64),
    )


def joined(first: Repriced, second: Repriced) -> Repriced:
    """Two series of rounds as one."""
    return Repriced(*(np.concatenate(pair) for pair in zip(first, second, strict=True)))
