"""The numbers of three stories: the rank that fits the paper, a mean that never settles, and a whole reward model."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pwff_core import seeds
from pwff_core.config import ChannelConfig, RunConfig, preset_config
from pwff_core.units import db_to_linear
from pwff_core.wireless.link import expected_rate_bps, outage_probability
from pwff_core.wireless.payload import (
    DISTILBERT_PARAMS,
    DISTILBERT_WIDTH,
    GPT2_SMALL,
    num_adapter_params,
    num_head_params,
    num_lora_params,
)
from pwff_core.wireless.sampling import (
    lost_share,
    one_draw_delays,
    running_mean,
    sampled_delays,
    typical_mean_delay_s,
)

CLAIMED_SAVING = 0.43  # energy of PWFF beside PFL: arXiv 2404.13238v2, section V-B, Fig. 5
ROUNDED_DISTILBERT = 66_000_000  # as DistilBERT's own paper rounds it: Sanh et al., arXiv 1910.01108, table 3
BLOCKS_AN_UPLOAD = (10, 100)  # of the uploads whose mean delay settles
_REPETITIONS, _ONE_DRAW_UPLOADS, _BLOCK_UPLOADS = 3, 100_000, 1_000
_DEADLINES, _MOST_PLACES = 60, 240


class Rank(NamedTuple):
    """GPT-2 small's uploads at one LoRA rank."""

    rank: int
    adapters: int  # parameters of all adapters
    lora: int  # parameters of all LoRA modules

    @property
    def adapter_share(self) -> float:
        """Adapters as a share of both: what PWFF's upload costs of PFL's."""
        return self.adapters / (self.adapters + self.lora)

    @property
    def lora_share(self) -> float:
        """LoRA as a share of both: what Shepherd's upload costs of PFL's."""
        return 1.0 - self.adapter_share


def paper_rank(rank: int) -> Rank:
    """The paper's uploads (GPT-2 small, its bottleneck) at another rank."""
    bottleneck = preset_config("paper").adapter.bottleneck
    return Rank(rank, num_adapter_params(GPT2_SMALL, bottleneck), num_lora_params(GPT2_SMALL, rank))


def fitting_ranks(claim: float, highest: int) -> list[int]:
    """The ranks up to `highest` at which uploading adapters alone saves the claimed share, to the whole per cent."""
    rows = (paper_rank(rank) for rank in range(1, highest + 1))
    return [row.rank for row in rows if round(100 * row.lora_share) == round(100 * claim)]


class Settling(NamedTuple):
    """Mean delays and lost uploads, with one gain an upload and with several."""

    limit_s: float  # S / E[R]
    one_draw: tuple[NDArray[np.float64], ...]  # running means of the repetitions [s], each (n,)
    places: NDArray[np.int64]  # (p,) numbers of uploads from 1 to n, even on a logarithmic axis
    typical_s: NDArray[np.float64]  # (p,) where the running mean of one draw is expected after so many uploads
    blocks: dict[int, NDArray[np.float64]]  # blocks an upload → running mean [s], (m,)
    deadlines_s: NDArray[np.float64]  # (d,)
    lost_one_draw: NDArray[np.float64]  # (d,) share of uploads that each deadline cuts off, by the outage formula
    lost_blocks: dict[int, NDArray[np.float64]]  # blocks an upload → simulated share, (d,)


def settling(bits: int, channel: ChannelConfig, seed: int) -> Settling:
    """Simulate uploads of `bits` > 0 over Rayleigh fading at a channel's SNR and bandwidth, without a deadline."""
    link = channel.model_copy(update={"fading": "rayleigh", "deadline_s": np.inf})
    limit = bits / expected_rate_bps(link)
    one_draw = (
        one_draw_delays(bits, link, _ONE_DRAW_UPLOADS, seeds.generator(seed, "lab", "one draw", number))
        for number in range(_REPETITIONS)
    )
    delays_by_blocks = {
        blocks: sampled_delays(
            bits,
            link.model_copy(update={"coherence_time_s": limit / blocks}),
            _BLOCK_UPLOADS,
            seeds.generator(seed, "lab", "blocks", blocks),
        )
        for blocks in BLOCKS_AN_UPLOAD
    }
    deadlines = limit * np.geomspace(0.2, 20.0, _DEADLINES)
    snr = db_to_linear(link.snr_db)
    return Settling(
        limit_s=limit,
        one_draw=tuple(running_mean(delays) for delays in one_draw),
        places=(places := decades(_ONE_DRAW_UPLOADS)),
        typical_s=np.array([typical_mean_delay_s(bits, link, int(count)) for count in places]),
        blocks={blocks: running_mean(delays) for blocks, delays in delays_by_blocks.items()},
        deadlines_s=deadlines,
        lost_one_draw=np.array([outage_probability(bits / t, snr, link.bandwidth_hz) for t in deadlines]),
        lost_blocks={blocks: lost_share(delays, deadlines) for blocks, delays in delays_by_blocks.items()},
    )


def decades(count: int) -> NDArray[np.int64]:
    """At most a few hundred whole numbers from 1 to `count`, even on a logarithmic axis, with the powers of ten."""
    spread = np.geomspace(1, count, min(count, _MOST_PLACES)).round().astype(np.int64)
    powers = 10 ** np.arange(len(str(count)))  # 1, 10, … up to `count`
    return np.unique(np.concatenate([spread, powers]))


class Upload(NamedTuple):
    """One upload of one client, as the closed form expects it."""

    name: str
    num_params: int
    bits: int
    delay_s: float
    energy_j: float


def upload(name: str, num_params: int, config: RunConfig) -> Upload:
    """What uploading so many parameters costs over a config's link: T = S/E[R], E = P·T; no deadline."""
    bits = config.float_bits * num_params
    delay = bits / expected_rate_bps(config.channel)
    return Upload(name, num_params, bits, delay, config.channel.transmit_power_w * delay)


class RewardUploads(NamedTuple):
    """One reward model on the air."""

    rounded: Upload  # DistilBERT as its paper rounds it
    whole: Upload  # DistilBERT counted exactly, with the head
    adapters: Upload  # the paper's adapters, for comparison
    head: Upload  # the head alone, over a frozen encoder


def reward_uploads(config: RunConfig) -> RewardUploads:
    """What one reward model costs, by what of it is trained; link and width of the head are the config's."""
    head = num_head_params(DISTILBERT_WIDTH, config.reward.hidden)
    return RewardUploads(
        upload("66 million", ROUNDED_DISTILBERT, config),
        upload("whole DistilBERT", DISTILBERT_PARAMS + head, config),
        upload("all adapters of GPT-2", paper_rank(1).adapters, config),
        upload("reward head", head, config),
    )
