"""What-if on the Live page: a run's rounds priced over another channel, at once and only as far as they are new."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from streamlit.testing.v1 import AppTest

from pages.run.whatif import price_rounds
from pwff_core.config import ChannelConfig, RunConfig
from pwff_core.knobs import with_changes
from pwff_core.records import RoundRecord, Steering
from pwff_core.runs.store import RunStatus, Store
from pwff_core.wireless.repricing import Repriced, reprice
from tests.support import scripted
from tests.support.live_page import THREE_STAGES, opened, typed
from tests.support.pages import texts, without_exception

ANY_CHANNEL = with_changes(THREE_STAGES, {"channel.fading": "awgn"})


def ended(store: Store, config: RunConfig = ANY_CHANNEL) -> str:
    """A run of nine rounds in which five clients upload 1000 bits each: 1.4 s and 6 J a round were measured."""
    run_id = store.create_run(config)
    store.claim(run_id)
    for record in scripted.whole_run(run_id):
        store.append(run_id, record)
    store.finish(run_id, RunStatus.FINISHED)
    return run_id


def what_if_words(page: AppTest) -> str:
    return next((line for line in texts(page).splitlines() if line.startswith("**What if")), "")


def test_another_channel_prices_all_rounds_at_once(store: Store) -> None:
    page = opened(ended(store))
    assert what_if_words(page) == ""
    # 1 MHz at 0 dB without fading carries 1 Mbit/s: 1 ms an upload, at 1 W five times 1 mJ a round
    assert what_if_words(typed(page, "channel.snr_db", "0")) == (
        "**What if SNR 0 dB:** the uploads of 9 rounds would have taken 9.00 ms (measured: 12.6 s) and 45.0 mJ "
        "(measured: 54.0 J). No upload is lost on the way in either, so learning is the same: accuracy and reward do "
        "not change."
    )
    assert "**What if SNR 0 dB, power 500 mW:**" in what_if_words(typed(page, "channel.transmit_power_w", "0.5"))


def test_the_run_s_own_channel_is_no_what_if(store: Store) -> None:
    page = typed(opened(ended(store)), "channel.snr_db", "0")
    assert what_if_words(typed(page, "channel.snr_db", "5")) == ""


def test_a_channel_that_is_not_allowed_is_not_priced(store: Store) -> None:
    page = typed(opened(ended(store)), "channel.snr_db", "500")
    assert what_if_words(page) == "" and "'500' is not allowed" in texts(page)


def test_uploads_that_a_deadline_would_lose_are_counted_and_change_what_is_learned(store: Store) -> None:
    page = typed(opened(ended(store)), "channel.bandwidth_hz", "1000")
    assert "so learning is the same" in what_if_words(page)
    page = typed(page, "channel.deadline_s", "0.1")  # 1000 bits over 1 kHz take half a second at 5 dB
    assert what_if_words(page).endswith(
        "The deadline would have lost 45 of 45 uploads (in the run: 0), so the server would have averaged others: "
        "learning, and the curve of accuracy, would have gone otherwise."
    )


def test_the_numbers_are_beside_the_measured_ones_in_the_tables(store: Store) -> None:
    page = typed(opened(ended(store)), "channel.snr_db", "0")
    page.session_state["numbers:delay"] = True
    page = without_exception(page.run())
    table = next(frame.value for frame in page.dataframe if "slowest client [s]" in frame.value)
    assert table["what if: SNR 0 dB [s]"].tolist() == pytest.approx([0.001] * 9)
    assert table["slowest client [s]"].tolist() == pytest.approx([1.4] * 9)


def test_only_new_rounds_are_priced(store: Store) -> None:
    counts: list[int] = []

    def counted(config: RunConfig, records: Sequence[RoundRecord], channel: ChannelConfig) -> Repriced:
        counts.append(len(records))
        return reprice(config, records, channel)

    row = store.run(store.create_run(ANY_CHANNEL))
    records, held = scripted.whole_run(row.id), row.config.channel

    def priced_rounds(rounds: int, snr_db: float) -> int:
        channel = held.model_copy(update={"snr_db": snr_db})
        return len(price_rounds(row, records[:rounds], held, channel, counted).rounds.delay_s)

    assert [priced_rounds(rounds, 0.0) for rounds in (4, 4, 5)] == [4, 4, 5]
    assert counts == [4, 1]
    assert priced_rounds(5, 1.0) == priced_rounds(5, 0.0) == 5  # moved there and back
    assert counts == [4, 1, 5]
    assert priced_rounds(2, 0.0) == 2  # a replay has gone back


def test_a_steered_run_is_priced_against_what_held_last(store: Store) -> None:
    run_id = store.create_run(ANY_CHANNEL)
    store.claim(run_id)
    for record in scripted.whole_run(run_id):
        store.append(run_id, record)
    store.steer(run_id, "", {"channel.snr_db": 0.0})
    steering = Steering(
        position=4, stage="reward", round=1, before={"channel.snr_db": 5.0}, changes={"channel.snr_db": 0.0}, at=0.0
    )
    store.acknowledge(run_id, store.pending_commands(run_id)[-1].id, steering)
    store.finish(run_id, RunStatus.FINISHED)
    page = opened(run_id)
    assert page.text_input("knob:channel.snr_db").value == "0" and what_if_words(page) == ""
    assert what_if_words(typed(page, "channel.snr_db", "5")).startswith("**What if SNR 5 dB:**")
