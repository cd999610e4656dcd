"""The Live page's address: settings and run in it, a replay of a run, and the recorded run of the first visit."""

from __future__ import annotations

import time
from pathlib import Path

from streamlit.testing.v1 import AppTest

from pwff_core.config import RunConfig
from pwff_core.knobs import with_changes
from pwff_core.runs.store import RunStatus, Store
from tests.support.live_page import GPT2_PRICE, PAGE, going, in_stages, opened, run_in_address, tiles, typed
from tests.support.pages import texts, without_exception

ECHO_S = 2.1  # after so long a browser that asks with a former address has gone back to it


def with_address(**settings: str) -> AppTest:
    page = AppTest.from_file(PAGE, default_timeout=30)
    for name, value in settings.items():
        page.query_params[name.replace("__", ".")] = value
    return without_exception(page.run())


def query(page: AppTest) -> dict[str, str]:
    return {name: value[0] if isinstance(value, list) else value for name, value in page.query_params.items()}


def test_settings_are_in_the_address_and_a_link_restores_them(store: Store, launched: list[tuple[Path, str]]) -> None:
    page = typed(typed(opened(), "channel.snr_db", "12.5"), "clients", "4")
    assert query(page) == {"preset": "demo", "channel.snr_db": "12.5", "clients": "4"}
    again = with_address(preset="demo", channel__snr_db="12.5", clients="4")
    without_exception(again.button("start").click().run())
    assert store.runs()[0].config == with_changes(RunConfig(), {"channel.snr_db": 12.5, "clients": 4})


def test_nonsense_in_the_address_gets_a_notice_and_falls_back(store: Store) -> None:
    page = with_address(channel__snr_db="1e9", clients="<b>3</b>", nonsense="1")
    words = texts(page)
    assert "SNR" in words and "<b>3</b>" in words and "nonsense" in words
    assert page.text_input("knob:channel.snr_db").value == "5" and not page.button("start").disabled
    assert query(page) == {"preset": "demo"}
    assert "nonsense" not in texts(without_exception(page.run()))  # said once


def test_an_address_with_a_run_that_is_going_shows_what_holds_in_it(store: Store) -> None:
    run_id = going(store, 1)
    page = with_address(run=run_id, preset="demo", channel__snr_db="30", seed="9")
    assert page.text_input("knob:channel.snr_db").value == "5"  # a link does not steer
    assert page.text_input("knob:seed").value == "9"
    assert store.pending_commands(run_id) == []


def test_a_poll_with_the_former_address_moves_no_knob_back(store: Store) -> None:
    page = typed(opened(), "clients", "4")
    before = query(page)
    page = typed(page, "channel.snr_db", "12")
    now = query(page)
    page = asked_with(page, before)  # sent before the browser had heard of the new one
    assert (page.text_input("knob:channel.snr_db").value, query(page)) == ("12", now)
    time.sleep(ECHO_S)
    assert asked_with(page, before).text_input("knob:channel.snr_db").value == "5"  # somebody has gone back to it


def test_a_poll_with_the_former_run_does_not_bring_it_back(store: Store, launched: list[tuple[Path, str]]) -> None:
    earlier = in_stages(store, 9)
    store.finish(earlier, RunStatus.FINISHED)
    page = opened()
    before = query(page)
    page = without_exception(page.button("start").click().run())
    (_, run_id), *_ = launched
    assert (before["run"], run_in_address(page)) == (earlier, run_id)
    assert run_in_address(asked_with(page, before)) == run_id
    time.sleep(ECHO_S)
    assert run_in_address(asked_with(page, before)) == earlier


def asked_with(page: AppTest, address: dict[str, str]) -> AppTest:
    """The page as it answers a browser that has this address."""
    page.query_params.clear()
    page.query_params.update(address)
    return without_exception(page.run())


def test_a_first_visit_plays_the_recorded_run_under_start(store: Store) -> None:
    page = opened()
    assert "Recorded" in texts(page) and "Accuracy" in tiles(page)
    assert not page.button("start").disabled and run_in_address(page) is None


def test_an_ended_run_can_be_replayed_and_left(store: Store) -> None:
    run_id = in_stages(store, 9)
    store.finish(run_id, RunStatus.FINISHED)
    page = with_address(replay=run_id)
    assert "Replay" in texts(page) and "Recorded" not in texts(page)
    page = without_exception(page.button("replay:leave").click().run())
    assert "replay" not in query(page) and run_in_address(page) == run_id
    assert "Finished: 9 rounds" in texts(page)


def test_a_replay_that_is_not_possible_is_refused_in_words(store: Store) -> None:
    run_id = going(store, 1, GPT2_PRICE)
    page = with_address(replay=run_id)
    assert f"Run {run_id} has not ended; it can be replayed once it has." in texts(page)
    assert run_in_address(page) == run_id


def test_start_leaves_a_replay(store: Store, launched: list[tuple[Path, str]]) -> None:
    page = without_exception(with_address(replay="recorded").button("start").click().run())
    assert run_in_address(page) == store.runs()[0].id and "replay" not in query(page)
    assert "Waiting for the engine." in texts(page)
