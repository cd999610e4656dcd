"""The Live page driven without a browser: which run is shown, and how it is started, stopped and watched."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from pages.parts.words import settings_words
from pwff_core.config import RunConfig
from pwff_core.errors import EngineError
from pwff_core.knobs import with_changes
from pwff_core.runs import scheduler
from pwff_core.runs.run_files import RunFiles
from pwff_core.runs.store import RunStatus, Store
from tests.support import scripted
from tests.support.live_page import (
    GPT2_PRICE,
    PLANNED,
    THREE_STAGES,
    charts,
    clients_of,
    going,
    in_stages,
    opened,
    profile,
    round_record,
    run_in_address,
    tiles,
    typed,
)
from tests.support.pages import ROOT, texts, without_exception


def test_an_empty_store_says_what_start_will_do(store: Store) -> None:
    page = opened()
    assert "No run yet. Press **Start**" in texts(page)
    assert run_in_address(page) is None
    assert not page.button("start").disabled and page.button("stop").disabled


def test_start_creates_a_run_launches_its_engine_and_puts_it_into_the_address(
    store: Store, launched: list[tuple[Path, str]]
) -> None:
    page = typed(opened(), "channel.snr_db", "12.5")
    page = without_exception(page.button("start").click().run())
    (row,) = store.runs()
    assert launched == [(store.path, row.id)]
    assert run_in_address(page) == row.id
    assert row.config == with_changes(RunConfig(), {"channel.snr_db": 12.5})
    assert page.button("start").label == "Queue" and not page.button("stop").disabled
    assert "Waiting for the engine." in texts(page)


def test_an_engine_that_cannot_start_is_reported(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(path: Path, run_id: str) -> None:
        raise EngineError("The engine cannot be started (no memory).")

    monkeypatch.setattr(scheduler, "launch", fail)
    page = without_exception(opened().button("start").click().run())
    assert "Failed before the first round: The engine cannot be started (no memory)." in texts(page)


def test_stop_asks_the_engine_to_stop(store: Store) -> None:
    run_id = going(store, 1)
    page = opened(run_id)
    assert not store.stop_requested(run_id)
    without_exception(page.button("stop").click().run())
    assert store.stop_requested(run_id)


@pytest.mark.parametrize("bad", ["nosuchru", "DROP TABLE runs; --", "💥" * 50, "**bold**"])
def test_an_address_of_no_run_gets_a_notice_and_a_working_page(store: Store, bad: str) -> None:
    page = opened(bad)
    assert f"There is no run {bad[:40]!r} in {store.path}" in texts(page)
    assert run_in_address(page) is None
    assert not page.button("start").disabled
    assert "There is no run" not in texts(without_exception(page.run()))  # said once


def test_the_address_of_a_deleted_run_gets_a_notice(store: Store) -> None:
    run_id = going(store, 1)
    store.finish(run_id, RunStatus.FINISHED)
    store.delete(run_id)
    assert f"Run {run_id} was deleted." in texts(opened(run_id))


def test_a_refresh_attaches_to_the_run_of_the_address_and_takes_its_settings(store: Store) -> None:
    config = with_changes(GPT2_PRICE, {"method": "fedlora", "adapter.bottleneck": 7})
    older, newer = going(store, 2, config), going(store, 1)
    page = opened(older)
    assert run_in_address(page) == older and newer not in texts(page)
    assert page.text_input("knob:adapter.bottleneck").value == "7"
    assert page.selectbox("settings:method").value == "fedlora"
    assert tiles(page)["Accuracy"] == "70.0 %"


def test_without_an_address_a_going_run_comes_first_then_the_newest(store: Store) -> None:
    older, newest = going(store, 1), going(store, 1)
    store.finish(newest, RunStatus.FINISHED)
    assert run_in_address(opened()) == older
    store.finish(older, RunStatus.FINISHED)
    assert run_in_address(opened()) == newest


def test_an_ended_run_is_shown_with_a_way_to_the_one_that_is_going(store: Store) -> None:
    ended, running = going(store, 1), going(store, 1, with_changes(GPT2_PRICE, {"method": "fedada"}))
    store.finish(ended, RunStatus.FINISHED)
    page = opened(ended)
    assert "Another run is going: FedAda" in texts(page)
    page = without_exception(page.button("show-going").click().run())
    assert run_in_address(page) == running and "Another run is going" not in texts(page)


def test_a_going_run_shows_tiles_clients_and_notes(store: Store) -> None:
    run_id = going(store, 2)
    page = opened(run_id)
    assert tiles(page)["Accuracy"] == "70.0 %" and tiles(page)["Energy so far"] == "12.0 J"
    (tile,) = (tile for tile in page.metric if tile.label == "Accuracy")
    assert tile.delta == "+10.0 points"
    table = clients_of(page)
    assert table["Main topics"].tolist() == ["chess, travel, garden"] * 2
    assert table["accuracy"].tolist() == pytest.approx([70.0, 70.0])
    assert "reward" not in table and "Reward" not in tiles(page)
    assert charts(page) == ["Accuracy", "Delay", "Energy", "Loss"]
    assert "Two examples were cut." in texts(page)
    assert "Simulated: the channel" in texts(page)


def test_new_rounds_are_added_to_those_drawn(store: Store) -> None:
    run_id = going(store, 1)
    page = opened(run_id)
    store.append(run_id, round_record(run_id, 2))
    assert tiles(without_exception(page.run()))["Energy so far"] == "12.0 J"


def test_a_failed_run_says_why_and_keeps_its_rounds(store: Store) -> None:
    run_id = going(store, 2)
    store.finish(run_id, RunStatus.FAILED, "The loss of client 3 is no longer a number.")
    page = opened(run_id)
    assert "Failed in round 3: The loss of client 3 is no longer a number. Its 2 rounds are kept." in texts(page)
    assert tiles(page)["Energy so far"] == "12.0 J"
    assert not page.button("start").disabled


def test_a_store_that_cannot_be_opened_is_reported_and_nothing_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "letter.sqlite"
    path.write_text("Dear reader, this is no database. " * 100)
    monkeypatch.setenv("PWFF_STORE", str(path))
    page = opened()
    assert "letter.sqlite is not a store of runs" in texts(page)
    assert page.button("start").disabled and "No run yet" not in texts(page)


def test_a_run_of_three_stages_shows_rewards_once_measured(store: Store) -> None:
    early = opened(in_stages(store, 4))
    assert charts(early) == ["Accuracy", "Reward", "Delay", "Energy", "Refusals", "KL", "Pairs ranked right", "Loss"]
    assert "Reward" not in tiles(early) and "reward" not in clients_of(early)
    assert clients_of(early)["accuracy"].tolist()[0] == pytest.approx(100 * (0.9 - 0.4 / 3))  # of stage 1's last round
    page = opened(in_stages(store, 9))
    assert tiles(page)["Reward"] == "+0.75 sd"  # mean over λ of λ² + (1 − λ)²
    (tile,) = (tile for tile in page.metric if tile.label == "Reward")
    assert tile.delta == "+0.75 sd"
    table = clients_of(page)
    assert table["refusal_rate"].tolist() == pytest.approx([100.0, 75.0, 50.0, 25.0, 0.0])
    assert table["helpfulness"].tolist() == pytest.approx([0.0, 0.25, 0.5, 0.75, 1.0])
    assert table["kl"].tolist() == pytest.approx([2.0] * 5)


def test_each_client_can_be_drawn(store: Store) -> None:
    page = opened(in_stages(store, 9))
    assert without_exception(page.toggle("each-client").set_value(True).run()).toggle("each-client").value


def test_progress_names_the_stage(store: Store) -> None:
    assert "Stage 2 of 3, reward learning: round 2 of 2 · about" in texts(opened(in_stages(store, 4)))


def test_after_an_early_end_the_other_stages_are_still_planned(store: Store) -> None:
    run_id = store.create_run(THREE_STAGES)
    store.claim(run_id)
    people = [profile(client) for client in range(5)]
    store.describe(run_id, people, [], 9)
    records = scripted.whole_run(
        run_id, rounds={"instruction": 1, "reward": 2, "alignment": 3},
        instruction="Loss has not improved for 1 rounds.", alignment="Reward has not improved for 1 rounds.",
    )  # fmt: skip
    for record in records[:2]:
        store.append(run_id, record)
    store.describe(run_id, people, [], 7)  # two rounds fewer are expected now
    page = opened(run_id)
    assert charts(page) == ["Accuracy", "Reward", "Delay", "Energy", "Refusals", "KL", "Pairs ranked right", "Loss"]
    assert f"**Run {run_id}:** {settings_words(THREE_STAGES, PLANNED)}" in texts(page)
    assert "Stage 2 of 3, reward learning: round 2 of 2" in texts(page)
    for record in records[2:]:
        store.append(run_id, record)
    store.describe(run_id, people, [], 6)
    store.finish(run_id, RunStatus.FINISHED)
    page = without_exception(page.run())
    assert f"**Run {run_id}:** {settings_words(THREE_STAGES, PLANNED)}" in texts(page)
    assert (
        "Finished: 6 rounds in 14 s of computing. "
        "Instruction tuning ended after 1 of 3 rounds: Loss has not improved for 1 rounds. "
        "Alignment ended after 3 of 4 rounds: Reward has not improved for 1 rounds."
    ) in texts(page)


def test_a_finished_run_says_what_went_wrong_at_its_end(store: Store) -> None:
    run_id = going(store, 2)
    store.finish(run_id, RunStatus.FINISHED, "The models cannot be written to /x (full); make room.")
    assert "3.0 s of computing. The models cannot be written to /x (full); make room." in texts(opened(run_id))


def test_a_worker_that_died_is_shown_as_failed_with_the_end_of_its_log(store: Store) -> None:
    run_id = store.create_run(GPT2_PRICE)
    path = str(store.path)
    claim = f"from pathlib import Path; from pwff_core.runs.store import Store; Store(Path({path!r})).claim('{run_id}')"
    subprocess.run([sys.executable, "-c", claim], cwd=ROOT, check=True)  # a worker that ends at once
    log = RunFiles(store.path).log(run_id)
    log.parent.mkdir()
    log.write_text("loading\nKilled: out of *memory*\n")
    page = opened(run_id)
    assert "Failed before the first round: The engine stopped (process" in texts(page)
    assert "Its last words: Killed: out of *memory*" in texts(page)
    assert page.button("start").label == "Start" and not page.button("go-on").disabled
