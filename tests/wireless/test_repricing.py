"""Rounds priced over another channel: exact where a run measured them, and by hand elsewhere."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pwff_core.config import ChannelConfig, RunConfig
from pwff_core.knobs import with_changes
from pwff_core.records import ClientRecord, RoundRecord
from pwff_core.wireless.repricing import joined, reprice, round_transfer

BITS = 600_000


def measured(config: RunConfig, number: int, *, clients: int = 3, bits: int = BITS) -> RoundRecord:
    """A round as the engine records it: every number of a client from the channel that the run was on."""
    bare = RoundRecord(
        run="r", method="pwff", stage="instruction", round=number,
        clients=tuple(ClientRecord(client=k, helpfulness_weight=0.5, uplink_bits=bits) for k in range(clients)),
    )  # fmt: skip
    sent = round_transfer(config, bare, config.channel)
    people = tuple(
        client.model_copy(update={"delay_s": float(delay), "energy_j": float(energy), "delivered": bool(through)})
        for client, delay, energy, through in zip(
            bare.clients, sent.delay_s, sent.energy_j, sent.delivered, strict=True
        )
    )
    totals = {"delay_s": max(p.delay_s for p in people), "energy_j": sum(p.energy_j for p in people)}
    return bare.model_copy(update={"clients": people, **totals})


def setup(**channel: Any) -> RunConfig:
    return with_changes(RunConfig(), {f"channel.{name}": value for name, value in channel.items()})


def test_a_run_over_its_own_channel_costs_what_was_measured(tiny_backbone: Path) -> None:
    from pwff_core.engine.federation import run

    config = with_changes(
        RunConfig(),
        {
            "backbone": str(tiny_backbone), "clients": 3, "seed": 5, "data.train_examples": 6, "data.test_examples": 2,
            "data.max_length": 48, "instruction.rounds": 2, "instruction.local_steps": 1, "instruction.batch_size": 1,
            "device": "cpu", "reward.rounds": 1, "reward.local_steps": 1, "reward.train_pairs": 4,
            "reward.test_pairs": 2, "alignment.rounds": 0, "channel.deadline_s": 0.075,
        },
    )  # fmt: skip
    records = list(run(config))
    priced = reprice(config, records, config.channel)
    assert [record.stage for record in records] == ["instruction", "instruction", "reward"]
    assert priced.delay_s.tolist() == [record.delay_s for record in records]
    assert priced.energy_j.tolist() == [record.energy_j for record in records]
    assert priced.lost.tolist() == [sum(not c.delivered for c in record.clients) for record in records]
    assert 0 < priced.lost.sum() < 9  # the deadline cuts through the uploads, so that both ends are compared
    assert priced.same_learning


def test_without_fading_the_rate_is_the_capacity() -> None:
    config = setup()
    priced = reprice(config, [measured(config, 1)], ChannelConfig(snr_db=0, fading="awgn", transmit_power_w=0.5))
    assert priced.delay_s.tolist() == [BITS / 1e6]  # B·log2(1 + 1) = 1 Mbit/s
    assert priced.energy_j.tolist() == [pytest.approx(3 * 0.5 * BITS / 1e6, rel=1e-15)]


@given(seed=st.integers(0, 2**31 - 1), lower=st.floats(-20, 40), more=st.floats(0, 20))
def test_more_snr_never_takes_longer_over_the_same_fading(seed: int, lower: float, more: float) -> None:
    config = setup(snr_db=lower).model_copy(update={"seed": seed})
    record = measured(config, 1, bits=5_000)
    priced = reprice(config, [record], setup(snr_db=lower + more).channel)
    assert priced.delay_s[0] <= record.delay_s and priced.energy_j[0] <= record.energy_j


def test_twice_the_power_at_the_same_receive_snr_is_exactly_twice_the_energy() -> None:
    config = setup()
    record = measured(config, 4)
    priced = reprice(config, [record], setup(transmit_power_w=2).channel)
    assert priced.delay_s.tolist() == [record.delay_s]
    assert priced.energy_j.tolist() == [pytest.approx(2 * record.energy_j, rel=1e-15)]


def test_uploads_that_only_one_of_the_channels_loses_are_counted() -> None:
    config = setup()
    records = [measured(config, number) for number in (1, 2)]
    assert reprice(config, records, setup(snr_db=0).channel).same_learning
    all_lost = reprice(config, records, setup(deadline_s=0.001).channel)
    assert (all_lost.lost.tolist(), all_lost.differing.tolist()) == ([3, 3], [3, 3])
    assert all_lost.delay_s.tolist() == [0.001, 0.001] and not all_lost.same_learning
    strict = setup(deadline_s=0.001)
    back = reprice(strict, [measured(strict, 1)], setup(deadline_s=math.inf).channel)
    assert (back.lost.tolist(), back.differing.tolist()) == ([0], [3])


def test_joined_series_of_rounds_equal_the_whole() -> None:
    config, other = setup(), setup(snr_db=-3).channel
    records = [measured(config, number) for number in range(1, 6)]
    whole = reprice(config, records, other)
    parts = joined(reprice(config, records[:2], other), reprice(config, records[2:], other))
    for priced, expected in zip(whole, parts, strict=True):
        np.testing.assert_array_equal(priced, expected)
    assert joined(reprice(config, [], other), whole).delay_s.shape == (5,)


def test_nothing_sent_costs_nothing() -> None:
    config = setup()
    priced = reprice(config, [measured(config, 1, bits=0)], setup(snr_db=-30).channel)
    assert (priced.delay_s[0], priced.energy_j[0], priced.lost[0]) == (0.0, 0.0, 0)
