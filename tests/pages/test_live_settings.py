"""The settings panel of the Live page, and the price that it tells at once."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from pages.settings.fields import stops
from pages.settings.panel import PATHS, SLIDERS, STAGES
from pages.settings.preferences import MOST_SLIDERS, start_of, weights_of
from pwff_core.config import preset_config
from pwff_core.figures.frames import value_text
from pwff_core.knobs import knobs, with_changes
from pwff_core.runs.store import RunStatus, Store
from pwff_core.units import with_prefix
from pwff_core.wireless.link import estimate
from pwff_core.wireless.payload import GPT2_SMALL
from tests.support.live_page import GPT2_PRICE, going, opened, prices, tiles, typed, weight_sliders
from tests.support.pages import texts, without_exception

ECHO_S = 2.1  # after so long a browser that sends a former value has gone back to it


def started(page: AppTest, store: Store) -> tuple[float, ...] | None:
    without_exception(page.button("start").click().run())
    return store.runs()[0].config.preferences.helpfulness_weights


def test_settings_that_the_panel_does_not_show_go_into_the_next_run(
    store: Store, launched: list[tuple[Path, str]]
) -> None:
    run_id = going(store, 1, with_changes(GPT2_PRICE, {"data.evaluate_on": "validation"}))
    store.finish(run_id, RunStatus.FINISHED)
    without_exception(opened(run_id).button("start").click().run())
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
    page = without_exception(page.select_slider("slider:clients").set_value(20.0).run())
    assert page.text_input("knob:clients").value == "20"
    assert typed(page, "clients", "many").select_slider("slider:clients").value == 20


def test_every_slider_stands_at_bounds_and_default() -> None:
    entries = knobs()
    for path in (path for group in SLIDERS.values() for path in group):
        entry = entries[path]
        places = stops(entry)
        assert places == sorted(set(places)) and float(entry.value) in places
        assert (places[0], places[-1]) == (entry.low, entry.high)


def test_every_setting_is_drawn_but_for_those_that_have_a_control_of_their_own() -> None:
    apart = {"method", "preset", "preferences.helpfulness_weights", "preferences.harmlessness_weights"}
    hidden = {"data.evaluate_on"}  # for choosing settings, not for a class
    assert set(PATHS) == set(knobs()) - apart - hidden and len(set(PATHS)) == len(PATHS)


def test_a_setting_is_drawn_under_its_own_stage() -> None:
    for stage, group in STAGES.items():
        assert {path for path in PATHS if path.startswith(f"{stage}.")} <= set(group.paths)


def test_a_hidden_setting_is_shown_when_it_needs_attention(store: Store) -> None:
    page = opened()
    assert not [box for box in page.text_input if box.key == "knob:alignment.clip"]
    page = without_exception(page.toggle("all:alignment").set_value(True).run())
    page = typed(page, "alignment.clip", "7")
    page = without_exception(page.toggle("all:alignment").set_value(False).run())
    assert "'7' is not allowed; give a number from 0.001 to 1." in texts(page)
    assert page.text_input("knob:alignment.clip").value == "7"
    assert any(box.label == "Stage 3: alignment – please check" for box in page.expander)


def test_alignment_without_rewards_is_answered_in_words(store: Store) -> None:
    page = typed(opened(), "reward.rounds", "0")
    assert "alignment needs reward models: set reward.rounds to 1 or more" in texts(page).lower()
    assert page.button("start").disabled
    assert not typed(page, "alignment.rounds", "0").button("start").disabled


def test_the_choice_of_a_method_says_what_it_does_and_when_its_run_ends(store: Store) -> None:
    page = opened()
    assert "a run ends after stage 1" not in texts(page)
    assert "as PWFF, but rewarded for helpfulness alone" in texts(page)  # in the list of all
    page = without_exception(page.selectbox("settings:method").set_value("vanilla_fl").run())
    assert "So a run ends after stage 1: no rewards are learned, and preferences play no part." in texts(page)
    assert any(box.label == "Stage 3: alignment (not with Vanilla FL)" for box in page.expander)


def test_weights_that_the_starts_give() -> None:
    assert weights_of("spread", 5) == [0.0, 0.25, 0.5, 0.75, 1.0]
    assert weights_of("equal", 2) == [0.5, 0.5] and weights_of("helpful", 2) == [1.0, 1.0]
    assert [start_of(weights_of(start, 7)) for start in ("spread", "harmless")] == ["spread", "harmless"]
    assert start_of([0.1, 0.9]) == "own"


def test_preferences_are_random_unless_chosen(store: Store, launched: list[tuple[Path, str]]) -> None:
    page = opened()
    assert page.selectbox("preferences:start").value == "random" and not weight_sliders(page)
    assert started(page, store) is None


def test_a_start_sets_the_sliders_and_a_slider_makes_it_own(store: Store, launched: list[tuple[Path, str]]) -> None:
    page = typed(opened(), "clients", "5")
    page = without_exception(page.selectbox("preferences:start").set_value("spread").run())
    assert [slider.value for slider in weight_sliders(page)] == [0.0, 0.25, 0.5, 0.75, 1.0]
    assert weight_sliders(page)[1].label == "Client 1 · helpful 0.25 · harmless 0.75"
    page = without_exception(page.slider("preferences:client:1").set_value(0.9).run())
    assert page.selectbox("preferences:start").value == "own"
    assert started(page, store) == (0.0, 0.9, 0.5, 0.75, 1.0)


def test_another_number_of_clients_keeps_what_fits(store: Store, launched: list[tuple[Path, str]]) -> None:
    page = typed(opened(), "clients", "4")
    page = without_exception(page.selectbox("preferences:start").set_value("harmless").run())
    page = without_exception(page.slider("preferences:client:3").set_value(0.8).run())
    page = typed(page, "clients", "2")
    assert [slider.value for slider in weight_sliders(page)] == [0.0, 0.0]
    page = typed(page, "clients", "many")  # no number, no crash
    assert not weight_sliders(page) and page.button("start").disabled
    page = typed(page, "clients", "5")
    assert started(page, store) == (0.0, 0.0, 0.0, 0.8, 0.5)


def test_many_clients_have_a_table_of_weights(store: Store, launched: list[tuple[Path, str]]) -> None:
    page = typed(opened(), "clients", str(MOST_SLIDERS + 1))
    page = without_exception(page.selectbox("preferences:start").set_value("spread").run())
    assert not weight_sliders(page)
    table = next(frame.value for frame in page.dataframe if "Helpful λ" in frame.value)
    assert table["Helpful λ"].tolist() == weights_of("spread", MOST_SLIDERS + 1)
    assert started(page, store) == tuple(weights_of("spread", MOST_SLIDERS + 1))


def test_a_run_s_own_weights_are_taken_over(store: Store) -> None:
    run_id = going(store, 1, with_changes(GPT2_PRICE, {"clients": 2, "preferences.harmlessness_weights": (0.75, 0.0)}))
    page = opened(run_id)
    assert page.selectbox("preferences:start").value == "own"
    assert [slider.value for slider in weight_sliders(page)] == [0.25, 1.0]


@pytest.mark.parametrize("method", ["pwff", "vanilla_fl", "fedlora", "local"])
def test_at_once_numbers_are_those_of_the_estimate(store: Store, method: str) -> None:
    page = without_exception(opened().segmented_control("knob:price_as").set_value("gpt2").run())
    page = without_exception(page.selectbox("settings:method").set_value(method).run())
    page = typed(page, "channel.snr_db", "10")
    config = with_changes(GPT2_PRICE, {"method": method, "channel.snr_db": 10.0})
    price = estimate(config, GPT2_SMALL)
    assert prices(page) == {
        "A client uploads": with_prefix(price.uplink_bits, "bit"), "Link rate": with_prefix(price.rate_bps, "bit/s"),
        "Upload time": value_text(price.delay_s, "s"), "Energy, one client": with_prefix(price.energy_j, "J"),
        "Energy, all clients": with_prefix(price.round_energy_j, "J"),
    }  # fmt: skip
    assert "priced as GPT-2 small" in texts(page)


def test_at_once_numbers_at_paper_scale_are_the_papers(store: Store) -> None:
    page = without_exception(opened().selectbox("settings:preset").set_value("paper").run())
    assert tiles(page)["A client uploads"] == "18.6 Mbit"  # 36 adapters of 16,138 numbers of 32 bits
    assert tiles(page)["Upload time"] == "10.8 s" and tiles(page)["Energy, one client"] == "10.8 J"
    assert "Each client uploads adapters (18.6 Mbit). LoRA (up to 14.2 Mbit) stays at home." in texts(page)


def test_a_preset_keeps_method_and_seed(store: Store, launched: list[tuple[Path, str]]) -> None:
    page = typed(opened(), "seed", "7")
    page = without_exception(page.selectbox("settings:method").set_value("fedada").run())
    page = without_exception(page.selectbox("settings:preset").set_value("paper-as-printed").run())
    without_exception(page.button("start").click().run())
    expected = with_changes(preset_config("paper-as-printed"), {"method": "fedada", "seed": 7})
    assert store.runs()[0].config == expected


def test_a_deadline_below_the_expected_upload_is_pointed_out(store: Store) -> None:
    page = without_exception(opened().segmented_control("knob:price_as").set_value("gpt2").run())
    assert "most uploads will be lost" in texts(typed(page, "channel.deadline_s", "5"))
    assert "most uploads will be lost" not in texts(typed(page, "channel.deadline_s", "20"))


def test_an_old_value_of_the_slider_or_the_box_takes_no_answer_back(store: Store) -> None:
    page = typed(opened(), "channel.snr_db", "12")
    page = without_exception(
        page.select_slider("slider:channel.snr_db").set_value(5.0).run()
    )  # sent before it saw the slider move
    assert snr_answers(page) == ("12", 12)
    page = without_exception(page.select_slider("slider:channel.snr_db").set_value(20.0).run())
    assert snr_answers(page) == ("20", 20)
    page = typed(page, "channel.snr_db", "12")  # sent before the browser saw the text change
    assert snr_answers(page) == ("20", 20)
    time.sleep(ECHO_S)
    assert snr_answers(typed(page, "channel.snr_db", "12")) == ("12", 12)  # a person has typed it


def snr_answers(page: AppTest) -> tuple[str, float]:
    """What the box and the slider of the SNR say."""
    return page.text_input("knob:channel.snr_db").value, page.select_slider("slider:channel.snr_db").value
