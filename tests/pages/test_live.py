"""The Live page driven without a browser; the engine is a stand-in that does nothing, the store is real."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
from streamlit.testing.v1 import AppTest

from pages.widgets.knobs import stops
from pages.widgets.preferences import MOST_SLIDERS, start_of, weights_of
from pages.widgets.settings import DRAWN, SLIDERS, STAGES
from pages.widgets.words import doubts, plain, seconds_left, setting_text, settings_words, status_words
from pwff_core import launch
from pwff_core.config import RunConfig, knobs, preset_config, with_changes
from pwff_core.errors import EngineError
from pwff_core.figures import spans_of, value_text
from pwff_core.records import ClientProfile, ClientRecord, RoundRecord, Stage
from pwff_core.store import RunStatus, Store
from pwff_core.units import with_prefix
from pwff_core.wireless.link import estimate
from pwff_core.wireless.payload import GPT2_SMALL
from tests import scripted

ROOT = Path(__file__).resolve().parents[2]
PAGE = str(ROOT / "app.py")  # the router: only there are links to other pages known
GPT2_PRICE = with_changes(RunConfig(), {"price_as": "gpt2"})
PLANNED: dict[Stage, int] = {"instruction": 3, "reward": 2, "alignment": 4}
THREE_STAGES = with_changes(
    GPT2_PRICE, {"clients": 5, **{f"{stage}.rounds": count for stage, count in PLANNED.items()}}
)


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    path = tmp_path / "runs.sqlite"
    monkeypatch.setenv("PWFF_STORE", str(path))
    return Store(path)


@pytest.fixture
def launched(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Path, str]]:
    calls: list[tuple[Path, str]] = []
    monkeypatch.setattr(launch, "launch", lambda path, run_id: calls.append((path, run_id)))
    return calls


def opened(run: str | None = None) -> AppTest:
    page = AppTest.from_file(PAGE, default_timeout=30)
    if run is not None:
        page.query_params["run"] = run
    return shown(page.run())


def shown(page: AppTest) -> AppTest:
    assert not page.exception
    return page


def address(page: AppTest) -> str | None:
    value = page.query_params.get("run")
    return value[0] if isinstance(value, list) else value


def typed(page: AppTest, path: str, text: str) -> AppTest:
    return shown(page.text_input(f"knob:{path}").set_value(text).run())


def tiles(page: AppTest) -> dict[str, str]:
    return {tile.label: str(tile.value) for tile in page.metric}


def texts(page: AppTest) -> str:
    """Everything that the page says in words, without Markdown's escapes."""
    parts = [*page.markdown, *page.caption, *page.error, *page.warning, *page.info, *page.success]
    bars = [bar.proto.text for bar in page.get("progress")]
    return "\n".join([*(str(part.value) for part in parts), *bars]).replace("\\", "")


def profile(client: int) -> ClientProfile:
    return ClientProfile(
        client=client, helpfulness_weight=0.25, device_class="mid", lora_modules=8, train_examples=40,
        validation_examples=8, test_examples=40, topics={"garden": 3, "chess": 9, "travel": 5, "music": 1},
        style={"units": "metric"},
    )  # fmt: skip


def round_record(run_id: str, number: int) -> RoundRecord:
    clients = tuple(
        ClientRecord(
            client=client, helpfulness_weight=0.25, accuracy=0.5 + 0.1 * number, loss=1.0, delay_s=2.0, energy_j=3.0
        )
        for client in range(2)
    )
    return RoundRecord(
        run=run_id, method="pwff", stage="instruction", round=number, accuracy=0.5 + 0.1 * number, loss=1.0,
        delay_s=2.0, energy_j=6.0, wall_s=1.5, clients=clients,
    )  # fmt: skip


def going(store: Store, rounds: int, config: RunConfig = GPT2_PRICE) -> str:
    """A run that this process has claimed, with some rounds."""
    run_id = store.create_run(config)
    store.claim(run_id)
    store.describe(run_id, [profile(0), profile(1)], ["two examples were cut."], config.instruction.rounds)
    for number in range(1, rounds + 1):
        store.append(run_id, round_record(run_id, number))
    return run_id


def in_stages(store: Store, rounds: int) -> str:
    """A run of three stages that this process has claimed, with some rounds."""
    run_id = store.create_run(THREE_STAGES)
    store.claim(run_id)
    store.describe(run_id, [profile(client) for client in range(5)], [], sum(PLANNED.values()))
    for number in range(rounds):
        store.append(run_id, scripted.whole_run(run_id)[number])
    return run_id


def charts(page: AppTest) -> list[str]:
    """What the page calls its charts."""
    return [box.label.removesuffix(" in numbers") for box in page.expander if box.label.endswith(" in numbers")]


def clients_of(page: AppTest) -> pd.DataFrame:
    frame: pd.DataFrame = next(frame.value for frame in page.dataframe if "Client" in frame.value)
    return frame


def test_an_empty_store_says_what_start_will_do(store: Store) -> None:
    page = opened()
    assert "No run yet. Press **Start**" in texts(page)
    assert address(page) is None
    assert not page.button("start").disabled and page.button("stop").disabled


def test_start_creates_a_run_launches_its_engine_and_puts_it_into_the_address(
    store: Store, launched: list[tuple[Path, str]]
) -> None:
    page = typed(opened(), "channel.snr_db", "12.5")
    page = shown(page.button("start").click().run())
    (row,) = store.runs()
    assert launched == [(store.path, row.id)]
    assert address(page) == row.id
    assert row.config == with_changes(RunConfig(), {"channel.snr_db": 12.5})
    assert page.button("start").disabled and not page.button("stop").disabled
    assert "Waiting for the engine." in texts(page)


def test_an_engine_that_cannot_start_is_told(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(path: Path, run_id: str) -> None:
        raise EngineError("The engine cannot be started (no memory).")

    monkeypatch.setattr(launch, "launch", fail)
    page = shown(opened().button("start").click().run())
    assert "The run could not be started: The engine cannot be started (no memory)." in texts(page)


def test_stop_asks_the_engine_to_stop(store: Store) -> None:
    run_id = going(store, 1)
    page = opened(run_id)
    assert not store.stop_requested(run_id)
    shown(page.button("stop").click().run())
    assert store.stop_requested(run_id)


@pytest.mark.parametrize("bad", ["nosuchru", "DROP TABLE runs; --", "💥" * 50, "**bold**"])
def test_an_address_of_no_run_gets_a_notice_and_a_working_page(store: Store, bad: str) -> None:
    page = opened(bad)
    assert f"There is no run {bad[:40]!r} in {store.path}" in texts(page)
    assert address(page) is None
    assert not page.button("start").disabled
    assert "There is no run" not in texts(shown(page.run()))  # said once


def test_the_address_of_a_deleted_run_gets_a_notice(store: Store) -> None:
    run_id = going(store, 1)
    store.finish(run_id, RunStatus.FINISHED)
    store.delete(run_id)
    assert f"Run {run_id} was deleted." in texts(opened(run_id))


def test_a_refresh_attaches_to_the_run_of_the_address_and_takes_its_settings(store: Store) -> None:
    config = with_changes(GPT2_PRICE, {"method": "fedlora", "adapter.bottleneck": 7})
    older, newer = going(store, 2, config), going(store, 1)
    page = opened(older)
    assert address(page) == older and newer not in texts(page)
    assert page.text_input("knob:adapter.bottleneck").value == "7"
    assert page.selectbox("settings:method").value == "fedlora"
    assert tiles(page)["Accuracy"] == "70.0 %"


def test_without_an_address_a_going_run_comes_first_then_the_newest(store: Store) -> None:
    older, newest = going(store, 1), going(store, 1)
    store.finish(newest, RunStatus.FINISHED)
    assert address(opened()) == older
    store.finish(older, RunStatus.FINISHED)
    assert address(opened()) == newest


def test_an_ended_run_is_shown_with_a_way_to_the_one_that_is_going(store: Store) -> None:
    ended, running = going(store, 1), going(store, 1, with_changes(GPT2_PRICE, {"method": "fedada"}))
    store.finish(ended, RunStatus.FINISHED)
    page = opened(ended)
    assert "Another run is going: FedAda" in texts(page)
    page = shown(page.button("show-going").click().run())
    assert address(page) == running and "Another run is going" not in texts(page)


def test_settings_that_the_panel_does_not_show_go_into_the_next_run(
    store: Store, launched: list[tuple[Path, str]]
) -> None:
    run_id = going(store, 1, with_changes(GPT2_PRICE, {"data.evaluate_on": "validation"}))
    store.finish(run_id, RunStatus.FINISHED)
    shown(opened(run_id).button("start").click().run())
    assert store.runs()[0].config.data.evaluate_on == "validation"


@pytest.mark.parametrize(
    ("path", "text", "answer"),
    [
        ("channel.snr_db", "five", "'five' is not allowed; give a number from -30 to 60 dB."),
        ("channel.snr_db", "200", "'200' is not allowed; give a number from -30 to 60 dB."),
        ("channel.bandwidth_hz", "0", "'0' is not allowed; give a number from 1,000 to 1,000,000,000 Hz."),
        ("channel.bandwidth_hz", "", "othing is entered; give a number from 1,000 to 1,000,000,000 Hz."),
        ("clients", "0", "'0' is not allowed; give a whole number from 2 to 200."),
        ("clients", "2.5", "'2.5' is not allowed; give a whole number from 2 to 200."),
        ("instruction.learning_rate", "-1", "'-1' is not allowed; give a number from 1e-07 to 1."),
        ("channel.coherence_time_s", "nan", "'nan' is not allowed; give a number of at least 0.0001 s, or inf."),
        ("channel.coherence_time_s", "inf", "the mean delay of such a link is infinite"),
    ],
)  # fmt: skip
def test_a_bad_value_is_answered_in_words_and_nothing_starts(store: Store, path: str, text: str, answer: str) -> None:
    page = typed(opened(), path, text)
    errors = [str(error.value).replace("\\", "") for error in page.error]
    assert any(error.endswith(answer) or answer in error for error in errors)
    assert any(error.startswith("A run cannot start like this.") for error in errors)
    assert page.button("start").disabled
    mended = typed(page, path, "" if path == "instruction.learning_rate" else "10")
    assert (path == "channel.bandwidth_hz") == bool(mended.error)  # 10 Hz is too narrow still


def test_slider_and_box_follow_each_other(store: Store) -> None:
    page = typed(opened(), "clients", "17")
    assert page.select_slider("slider:clients").value == 17
    page = shown(page.select_slider("slider:clients").set_value(20.0).run())
    assert page.text_input("knob:clients").value == "20"
    assert typed(page, "clients", "many").select_slider("slider:clients").value == 20


def test_every_slider_stands_at_bounds_and_default() -> None:
    entries = knobs()
    for path in (path for group in SLIDERS.values() for path in group):
        entry = entries[path]
        found = stops(entry)
        assert found == sorted(set(found)) and float(entry.default) in found
        assert (found[0], found[-1]) == (entry.low, entry.high)


def test_every_setting_is_drawn_but_for_those_that_have_a_control_of_their_own() -> None:
    apart = {"method", "preset", "preferences.helpfulness_weights", "preferences.harmlessness_weights"}
    hidden = {"data.evaluate_on"}  # for choosing settings, not for a class
    assert set(DRAWN) == set(knobs()) - apart - hidden and len(set(DRAWN)) == len(DRAWN)


def test_a_setting_is_drawn_under_its_own_stage() -> None:
    for stage, group in STAGES.items():
        assert {path for path in DRAWN if path.startswith(f"{stage}.")} <= set(group.paths)


def test_a_setting_behind_more_comes_forth_when_it_needs_attention(store: Store) -> None:
    page = opened()
    assert not [box for box in page.text_input if box.key == "knob:alignment.clip"]
    page = shown(page.toggle("all:alignment").set_value(True).run())
    page = typed(page, "alignment.clip", "7")
    page = shown(page.toggle("all:alignment").set_value(False).run())
    assert "'7' is not allowed; give a number from 0.001 to 1." in texts(page)
    assert page.text_input("knob:alignment.clip").value == "7"
    assert any(box.label == "Stage 3: alignment – please check" for box in page.expander)


def test_alignment_without_rewards_is_answered_in_words(store: Store) -> None:
    page = typed(opened(), "reward.rounds", "0")
    assert "alignment needs reward models: set reward.rounds to 1 or more" in texts(page).lower()
    assert page.button("start").disabled
    assert not typed(page, "alignment.rounds", "0").button("start").disabled


def test_the_choice_of_a_method_says_what_each_does_and_when_its_run_ends(store: Store) -> None:
    page = opened()
    assert "a run ends after stage 1" not in texts(page)
    assert "as PWFF, but rewarded for helpfulness alone" in texts(page)  # in the list of all
    page = shown(page.selectbox("settings:method").set_value("vanilla_fl").run())
    assert "So a run ends after stage 1: no rewards are learned, and preferences play no part." in texts(page)
    assert any(box.label == "Stage 3: alignment (not with Vanilla FL)" for box in page.expander)


# ---- preferences ------------------------------------------------------------------------------------------------


def test_weights_of_the_starts() -> None:
    assert weights_of("spread", 5) == [0.0, 0.25, 0.5, 0.75, 1.0]
    assert weights_of("equal", 2) == [0.5, 0.5] and weights_of("helpful", 2) == [1.0, 1.0]
    assert [start_of(weights_of(start, 7)) for start in ("spread", "harmless")] == ["spread", "harmless"]
    assert start_of([0.1, 0.9]) == "own"


def started(page: AppTest, store: Store) -> tuple[float, ...] | None:
    shown(page.button("start").click().run())
    return store.runs()[0].config.preferences.helpfulness_weights


def test_preferences_are_random_unless_chosen(store: Store, launched: list[tuple[Path, str]]) -> None:
    page = opened()
    assert page.selectbox("preferences:start").value == "random" and not page.slider
    assert started(page, store) is None


def test_a_start_sets_the_sliders_and_a_slider_makes_it_own(store: Store, launched: list[tuple[Path, str]]) -> None:
    page = typed(opened(), "clients", "5")
    page = shown(page.selectbox("preferences:start").set_value("spread").run())
    assert [slider.value for slider in page.slider] == [0.0, 0.25, 0.5, 0.75, 1.0]
    assert page.slider[1].label == "Client 1 · helpful 0.25 · harmless 0.75"
    page = shown(page.slider("preferences:client:1").set_value(0.9).run())
    assert page.selectbox("preferences:start").value == "own"
    assert started(page, store) == (0.0, 0.9, 0.5, 0.75, 1.0)


def test_another_number_of_clients_keeps_what_fits(store: Store, launched: list[tuple[Path, str]]) -> None:
    page = typed(opened(), "clients", "4")
    page = shown(page.selectbox("preferences:start").set_value("harmless").run())
    page = shown(page.slider("preferences:client:3").set_value(0.8).run())
    page = typed(page, "clients", "2")
    assert [slider.value for slider in page.slider] == [0.0, 0.0]
    page = typed(page, "clients", "many")  # no number, no crash
    assert not page.slider and page.button("start").disabled
    page = typed(page, "clients", "5")
    assert started(page, store) == (0.0, 0.0, 0.0, 0.8, 0.5)


def test_many_clients_have_a_table_of_weights(store: Store, launched: list[tuple[Path, str]]) -> None:
    page = typed(opened(), "clients", str(MOST_SLIDERS + 1))
    page = shown(page.selectbox("preferences:start").set_value("spread").run())
    assert not page.slider
    table = next(frame.value for frame in page.dataframe if "Helpful λ" in frame.value)
    assert table["Helpful λ"].tolist() == weights_of("spread", MOST_SLIDERS + 1)
    assert started(page, store) == tuple(weights_of("spread", MOST_SLIDERS + 1))


def test_a_run_s_own_weights_are_taken_over(store: Store) -> None:
    run_id = going(store, 1, with_changes(GPT2_PRICE, {"clients": 2, "preferences.harmlessness_weights": (0.75, 0.0)}))
    page = opened(run_id)
    assert page.selectbox("preferences:start").value == "own"
    assert [slider.value for slider in page.slider] == [0.25, 1.0]


# ---- a run ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["pwff", "vanilla_fl", "fedlora", "local"])
def test_at_once_numbers_are_those_of_the_estimate(store: Store, method: str) -> None:
    page = shown(opened().segmented_control("knob:price_as").set_value("gpt2").run())
    page = shown(page.selectbox("settings:method").set_value(method).run())
    page = typed(page, "channel.snr_db", "10")
    config = with_changes(GPT2_PRICE, {"method": method, "channel.snr_db": 10.0})
    told = estimate(config, GPT2_SMALL)
    assert tiles(page) == {
        "A client uploads": with_prefix(told.uplink_bits, "bit"), "Link rate": with_prefix(told.rate_bps, "bit/s"),
        "Upload time": value_text(told.delay_s, "s"), "Energy, one client": with_prefix(told.energy_j, "J"),
        "Energy, all clients": with_prefix(told.round_energy_j, "J"),
    }  # fmt: skip
    assert "priced as GPT-2 small" in texts(page)


def test_at_once_numbers_at_paper_scale_are_the_papers(store: Store) -> None:
    page = shown(opened().selectbox("settings:preset").set_value("paper").run())
    assert tiles(page)["A client uploads"] == "18.6 Mbit"  # 36 adapters of 16,138 numbers of 32 bits
    assert tiles(page)["Upload time"] == "10.8 s" and tiles(page)["Energy, one client"] == "10.8 J"
    assert "Each client uploads adapters (18.6 Mbit). LoRA (up to 14.2 Mbit) stays at home." in texts(page)


def test_a_preset_keeps_method_and_seed(store: Store, launched: list[tuple[Path, str]]) -> None:
    page = typed(opened(), "seed", "7")
    page = shown(page.selectbox("settings:method").set_value("fedada").run())
    page = shown(page.selectbox("settings:preset").set_value("paper-as-printed").run())
    shown(page.button("start").click().run())
    expected = with_changes(preset_config("paper-as-printed"), {"method": "fedada", "seed": 7})
    assert store.runs()[0].config == expected


def test_a_deadline_below_the_expected_upload_is_pointed_out(store: Store) -> None:
    page = shown(opened().segmented_control("knob:price_as").set_value("gpt2").run())
    assert "most uploads will be lost" in texts(typed(page, "channel.deadline_s", "5"))
    assert "most uploads will be lost" not in texts(typed(page, "channel.deadline_s", "20"))


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


def test_new_rounds_are_added_to_those_seen(store: Store) -> None:
    run_id = going(store, 1)
    page = opened(run_id)
    store.append(run_id, round_record(run_id, 2))
    assert tiles(shown(page.run()))["Energy so far"] == "12.0 J"


def test_a_failed_run_says_why_and_keeps_its_rounds(store: Store) -> None:
    run_id = going(store, 2)
    store.finish(run_id, RunStatus.FAILED, "The loss of client 3 is no longer a number.")
    page = opened(run_id)
    assert "Failed in round 3: The loss of client 3 is no longer a number. Its 2 rounds are kept." in texts(page)
    assert tiles(page)["Energy so far"] == "12.0 J"
    assert not page.button("start").disabled


def test_a_store_that_cannot_be_opened_is_told_and_nothing_starts(
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
    assert shown(page.toggle("each-client").set_value(True).run()).toggle("each-client").value


def test_progress_names_the_stage(store: Store) -> None:
    assert "Stage 2 of 3, reward learning: round 2 of 2 · about" in texts(opened(in_stages(store, 4)))


def test_status_in_words(store: Store) -> None:
    run_id = store.create_run(RunConfig())
    one: dict[Stage, int] = {"instruction": 16}
    assert status_words(store.run(run_id), [], spans_of(one, []), False) == "Waiting for the engine."
    run_id = going(store, 6)
    records = [record for _, record in store.rounds(run_id)]
    row, spans = store.run(run_id), spans_of(one, records)
    assert status_words(row, records, spans, False) == "Round 7 of 16 · about 15 s left"  # 10 rounds of 1.5 s
    assert status_words(row, records, spans, True) == (
        "Stopping after the round that is being trained (6 rounds done)."
    )
    stopped = row.model_copy(update={"status": RunStatus.STOPPED})
    assert status_words(stopped, records[:1], spans, False) == "Stopped after 1 round. What was measured is kept."
    finished = row.model_copy(update={"status": RunStatus.FINISHED})
    assert status_words(finished, records, spans, False) == "Finished: 6 rounds in 9.0 s of computing."


def test_status_says_which_stage_is_played_and_which_ended_early(store: Store) -> None:
    row = store.run(going(store, 1))
    assert status_words(row, [], spans_of(PLANNED, []), False) == (
        "Stage 1 of 3, instruction tuning: round 1 of 3 is being trained."
    )
    records = scripted.whole_run(
        rounds={"instruction": 2, "reward": 2}, instruction="Loss has not improved for 1 rounds."
    )
    assert status_words(row, records[:2], spans_of(PLANNED, records[:2]), False) == (
        "Stage 2 of 3, reward learning: round 1 of 2 · about 21 s left. "  # 2 guesses of 1.5 s and 4 of 4.5 s
        "Instruction tuning ended after 2 of 3 rounds: Loss has not improved for 1 rounds"
    )


def test_time_left_is_told_stage_by_stage() -> None:
    records = scripted.whole_run()  # rounds of 1.5, 0.5 and 4 s; guesses are in proportion 1 : 1 : 3
    left = {done: seconds_left(spans_of(PLANNED, records[:done]), records[:done]) for done in (0, 1, 4, 6, 9)}
    assert left == {0: None, 1: 2 * 1.5 + 2 * 1.5 + 4 * 4.5, 4: 1 * 0.5 + 4 * 1.5, 6: 3 * 4.0, 9: 0.0}


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
    page = shown(page.run())
    assert f"**Run {run_id}:** {settings_words(THREE_STAGES, PLANNED)}" in texts(page)
    assert (
        "Finished: 6 rounds in 14 s of computing. "
        "Instruction tuning ended after 1 of 3 rounds: Loss has not improved for 1 rounds. "
        "Alignment ended after 3 of 4 rounds: Reward has not improved for 1 rounds."
    ) in texts(page)


def test_a_finished_run_says_what_its_end_lacked(store: Store) -> None:
    run_id = going(store, 2)
    store.finish(run_id, RunStatus.FINISHED, "The models cannot be written to /x (full); make room.")
    assert "3.0 s of computing. The models cannot be written to /x (full); make room." in texts(opened(run_id))


def test_a_reward_model_that_does_not_beat_chance_is_pointed_out() -> None:
    records = scripted.whole_run()
    assert doubts(spans_of(PLANNED, records), records) == []  # 80 and 90 %
    records[4] = records[4].model_copy(update={"helpfulness_accuracy": 0.55, "harmlessness_accuracy": 0.56})
    (warning,) = doubts(spans_of(PLANNED, records), records)
    assert warning.startswith("The helpfulness reward model ranks 55 % of held-out pairs right, and guessing gets 50 %")
    assert doubts(spans_of(PLANNED, records[:4]), records[:4]) == []  # it is still learning


def test_settings_in_words() -> None:
    assert (
        settings_words(RunConfig()) == "PWFF · 10 clients · 5 dB, 1 MHz, Rayleigh fading · 16 + 4 + 7 rounds · seed 0"
    )
    assert settings_words(with_changes(RunConfig(), {"method": "fedada"})).endswith(" · 16 rounds · seed 0")
    assert setting_text(1500, "Hz") == "1.5 kHz" and setting_text(100, "Hz") == "100 Hz"


def test_markdown_in_a_message_is_shown_letter_for_letter() -> None:
    assert plain("**a** [b](c) $x$") == r"\*\*a\*\* \[b\]\(c\) \$x\$"
