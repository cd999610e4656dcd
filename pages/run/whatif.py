"""What if the channel had been another: all rounds of a run are priced anew, beside what was measured."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import streamlit as st

from pages.parts.words import count, plain
from pages.server.cache import Cache
from pwff_core.config import ChannelConfig, RunConfig
from pwff_core.figures.changes import value_words
from pwff_core.figures.frames import value_text
from pwff_core.figures.panels import PanelId, WhatIf
from pwff_core.records import RoundRecord
from pwff_core.runs.store import RunRow
from pwff_core.wireless.repricing import Repriced, joined, reprice

MOST_CHANNELS = 64
_PRICES = Cache(MOST_CHANNELS, idle_s=600.0)  # by run and channel: a knob that is moved back costs nothing


class PricedRounds(NamedTuple):
    """A run's rounds over another channel."""

    channel: ChannelConfig
    actual: ChannelConfig  # of the run, in its last round
    rounds: Repriced


class _GrowingPrices:
    """The prices of a run's rounds over one channel, as far as they were asked for."""

    def __init__(self) -> None:
        self.rounds: Repriced | None = None


def price_rounds(
    row: RunRow,
    records: Sequence[RoundRecord],
    actual: ChannelConfig,
    channel: ChannelConfig,
    price: Callable[[RunConfig, Sequence[RoundRecord], ChannelConfig], Repriced] = reprice,
) -> PricedRounds:
    """All rounds at the channel's price; `price` is called for new rounds only."""
    growing = _PRICES.get((row.id, row.created_at, channel), _GrowingPrices)
    prices = growing.rounds  # never changed, only replaced by longer ones: sessions may do so at once
    done = 0 if prices is None else len(prices.delay_s)
    if prices is None or done < len(records):
        with st.spinner("Pricing the rounds anew …"):
            new = price(row.config, records[done:], channel)
        prices = growing.rounds = new if prices is None else joined(prices, new)
    until = len(records)  # a replay may have gone back
    return PricedRounds(channel, actual, Repriced(*(numbers[:until] for numbers in prices)))


def differences(actual: ChannelConfig, channel: ChannelConfig) -> list[str]:
    """The settings in which `channel` differs from `actual`: 'SNR 0 dB', 'bandwidth 2 MHz'."""
    names = {
        "snr_db": "SNR", "bandwidth_hz": "bandwidth", "transmit_power_w": "power", "fading": "fading",
        "coherence_time_s": "coherence time", "deadline_s": "deadline",
    }  # fmt: skip
    return [
        f"{label} {value_words(f'channel.{name}', getattr(channel, name))}"
        for name, label in names.items()
        if getattr(channel, name) != getattr(actual, name)
    ]


def lines(priced: PricedRounds) -> dict[PanelId, WhatIf]:
    """The dashed lines by panel; their name has room for one setting, the sentence above the charts has all."""
    first, *more = differences(priced.actual, priced.channel)
    name = f"what if: {first}{' …' if more else ''}"
    return {"delay": WhatIf(name, priced.rounds.delay_s), "energy": WhatIf(name, priced.rounds.energy_j)}


def words(priced: PricedRounds, records: Sequence[RoundRecord]) -> str:
    """The totals as measured and as they would have been, and whether learning would have gone as it did."""
    delay_s, energy_j = sum(record.delay_s for record in records), sum(record.energy_j for record in records)
    whatif_s, whatif_j = value_text(priced.rounds.delay_s.sum(), "s"), value_text(priced.rounds.energy_j.sum(), "J")
    total = (
        f"the uploads of {count(len(records), 'round')} would have taken {whatif_s} (measured: "
        f"{value_text(delay_s, 's')}) and {whatif_j} (measured: {value_text(energy_j, 'J')})."
    )
    lead = f"What if {', '.join(differences(priced.actual, priced.channel))}:"
    return f"**{plain(lead)}** {plain(f'{total} {_learning(priced.rounds, records)}')}"


def _learning(rounds: Repriced, records: Sequence[RoundRecord]) -> str:
    if not rounds.same_learning:
        lost = sum(not client.delivered for record in records for client in record.clients)
        uploads = sum(len(record.clients) for record in records)
        return (
            f"The deadline would have lost {rounds.lost.sum()} of {count(uploads, 'upload')} (in the run: {lost}), so "
            "the server would have averaged others: learning, and the curve of accuracy, would have gone otherwise."
        )
    if rounds.lost.any():
        return "The same uploads are lost to the deadline, so learning is the same: accuracy and reward do not change."
    return "No upload is lost on the way in either, so learning is the same: accuracy and reward do not change."
