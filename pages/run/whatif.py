"""What if the channel had been another: all rounds of a run priced anew, beside what was measured."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import streamlit as st

from pages.parts.words import count, plain
from pwff_core.config import ChannelConfig
from pwff_core.figures.changes import value_words
from pwff_core.figures.frames import value_text
from pwff_core.figures.panels import PanelId, WhatIf
from pwff_core.records import RoundRecord
from pwff_core.runs.store import RunRow
from pwff_core.wireless.repricing import Repriced, joined, reprice

_KEPT = "whatif:priced"
_MOST_KEPT = 8  # channels whose prices are kept in a session: a knob that is moved back costs nothing


class Priced(NamedTuple):
    """A run's rounds over another channel."""

    channel: ChannelConfig
    held: ChannelConfig  # that of the run, at last
    rounds: Repriced


def priced(row: RunRow, records: Sequence[RoundRecord], held: ChannelConfig, channel: ChannelConfig) -> Priced:
    """All rounds at the channel's price; only those are computed that the session has not seen yet."""
    kept: dict[tuple[str, ChannelConfig], Repriced] = st.session_state.setdefault(_KEPT, {})
    known = kept.pop((row.id, channel), None)
    done = 0 if known is None else len(known.delay_s)
    if known is None or done < len(records):
        with st.spinner("Pricing the rounds anew …"):
            new = reprice(row.config, records[done:], channel)
        known = new if known is None else joined(known, new)
    kept[row.id, channel] = known  # last, as it was used last
    for old in list(kept)[:-_MOST_KEPT]:
        del kept[old]
    until = len(records)  # a replay may have gone back
    return Priced(channel, held, Repriced(*(numbers[:until] for numbers in known)))


def differences(held: ChannelConfig, channel: ChannelConfig) -> list[str]:
    """What the one has otherwise than the other, a setting each: 'SNR 0 dB', 'bandwidth 2 MHz'."""
    names = {
        "snr_db": "SNR", "bandwidth_hz": "bandwidth", "transmit_power_w": "power", "fading": "fading",
        "coherence_time_s": "coherence time", "deadline_s": "deadline",
    }  # fmt: skip
    return [
        f"{label} {value_words(f'channel.{name}', getattr(channel, name))}"
        for name, label in names.items()
        if getattr(channel, name) != getattr(held, name)
    ]


def lines(found: Priced) -> dict[PanelId, WhatIf]:
    """The dashed lines, a panel; their name has room for one setting, the sentence above the charts says all."""
    first, *more = differences(found.held, found.channel)
    name = f"what if: {first}{' …' if more else ''}"
    return {"delay": WhatIf(name, found.rounds.delay_s), "energy": WhatIf(name, found.rounds.energy_j)}


def words(found: Priced, records: Sequence[RoundRecord]) -> str:
    """The totals as measured and as they would have been, and whether learning would have gone as it did."""
    delay_s, energy_j = sum(record.delay_s for record in records), sum(record.energy_j for record in records)
    then_s, then_j = value_text(found.rounds.delay_s.sum(), "s"), value_text(found.rounds.energy_j.sum(), "J")
    total = (
        f"the uploads of {count(len(records), 'round')} would have taken {then_s} (measured: "
        f"{value_text(delay_s, 's')}) and {then_j} (measured: {value_text(energy_j, 'J')})."
    )
    lead = f"What if {', '.join(differences(found.held, found.channel))}:"
    return f"**{plain(lead)}** {plain(f'{total} {_learning(found.rounds, records)}')}"


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
