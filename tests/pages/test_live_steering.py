"""Steering from the Live page: moved knobs, pause and resume, the queue, and two browsers at one run."""

from __future__ import annotations

from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from pwff_core.config import RunConfig
from pwff_core.errors import StoreError
from pwff_core.figures.changes import WEIGHTS
from pwff_core.knobs import with_changes
from pwff_core.records import Steering, Value
from pwff_core.runs.run_files import RunFiles
from pwff_core.runs.store import RunStatus, Store
from tests.support.live_page import THREE_STAGES, going, in_stages, opened, run_in_address, typed, weight_sliders
from tests.support.pages import texts, without_exception
from tests.support.store_tables import sql

OWN_WEIGHTS = (0.0, 0.25, 0.5, 0.75, 1.0)
SPREAD = with_changes(THREE_STAGES, {WEIGHTS: OWN_WEIGHTS})


def taken(store: Store, run_id: str, position: int, before: dict[str, Value]) -> None:
    """The worker takes all that was asked of it, before a round of instruction tuning."""
    commands = store.pending_commands(run_id)
    steering = Steering(
        position=position,
        stage="instruction",
        round=position,
        before=before,
        changes=store.pending_changes(run_id),
        at=0.0,
    )
    store.acknowledge(run_id, commands[-1].id, steering)


def toasts(page: AppTest) -> list[str]:
    return [str(toast.value).replace("\\", "") for toast in page.toast]


def box(page: AppTest, path: str) -> str:
    return page.text_input(f"knob:{path}").value


def test_a_moved_knob_is_asked_of_the_run_and_then_holds(store: Store) -> None:
    run_id = in_stages(store, 2)
    page = typed(opened(run_id), "channel.snr_db", "0")
    assert store.pending_changes(run_id) == {"channel.snr_db": 0.0}
    assert "SNR 0 dB: asked, holds from the next round." in texts(page)
    assert "Moves the run from its next round." in texts(page)
    taken(store, run_id, 3, {"channel.snr_db": 5.0})
    page = without_exception(page.run())
    assert toasts(page) == ["SNR 5 → 0 dB: holds from round 3."]
    assert "From round 3: SNR 5 → 0 dB." in texts(page) and "asked" not in texts(page)
    assert not without_exception(page.run()).toast  # said once


def test_a_knob_that_was_not_moved_asks_for_nothing(store: Store) -> None:
    run_id = in_stages(store, 2)
    page = typed(opened(run_id), "instruction.rounds", "5")
    page = typed(page, "channel.coherence_time_s", "0.02")
    assert store.pending_commands(run_id) == [] and store.lease(run_id) is None
    assert "of the next run" in next(box.label for box in page.expander if "Coherence" in box.label)
    assert "What if" not in texts(page)


def test_attaching_shows_what_holds_and_what_was_asked(store: Store) -> None:
    run_id = in_stages(store, 2)
    store.steer(run_id, "another", {"channel.snr_db": -3.0, "channel.fading": "awgn"})
    taken(store, run_id, 3, {"channel.snr_db": 5.0, "channel.fading": "rayleigh"})
    store.steer(run_id, "another", {"channel.bandwidth_hz": 2e6})
    page = opened(run_id)
    assert (box(page, "channel.snr_db"), box(page, "channel.bandwidth_hz")) == ("-3", "2000000")
    assert page.segmented_control("knob:channel.fading").value == "awgn"
    assert not page.toast  # what held before is no news
    assert "Bandwidth 2 MHz: asked, holds from the next round." in texts(page)


def test_a_bad_value_is_answered_at_the_knob_and_not_asked_of_the_run(store: Store) -> None:
    run_id = in_stages(store, 2)
    page = typed(opened(run_id), "channel.snr_db", "200")
    assert "'200' is not allowed; give a number from -30 to 60 dB." in texts(page)
    assert store.pending_commands(run_id) == []
    typed(page, "channel.snr_db", "20")
    assert store.pending_changes(run_id) == {"channel.snr_db": 20.0}


def test_a_setting_of_the_next_run_that_is_wrong_does_not_keep_from_steering(store: Store) -> None:
    run_id = in_stages(store, 2)
    page = typed(opened(run_id), "instruction.rounds", "none")
    typed(page, "channel.snr_db", "1")
    assert store.pending_changes(run_id) == {"channel.snr_db": 1.0}


def test_what_the_run_s_other_settings_do_not_allow_is_said_at_the_knobs(store: Store) -> None:
    still = {"channel.fading": "awgn", "channel.coherence_time_s": float("inf")}
    run_id = going(store, 1, with_changes(THREE_STAGES, still))
    page = typed(opened(run_id), "channel.coherence_time_s", "0.01")  # of the next run
    page = without_exception(page.segmented_control("knob:channel.fading").set_value("rayleigh").run())
    assert "draws one gain for a whole upload" in texts(page)
    assert store.pending_commands(run_id) == [] and not page.button("start").disabled


def test_a_run_that_has_just_ended_is_not_steered_and_nothing_is_lost(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_id = in_stages(store, 2)
    page = opened(run_id)

    def ended(self: Store, run_id: str, viewer: str, changes: dict[str, Value]) -> None:
        raise StoreError(f"Run {run_id} has ended (finished); its rounds stay as they are.")

    monkeypatch.setattr(Store, "steer", ended)
    page = typed(page, "channel.snr_db", "0")
    assert toasts(page) == [
        f"SNR 0 dB could not be asked of the run: Run {run_id} has ended (finished); its rounds stay as they are. "
        "It is set for the next run."
    ]
    assert box(page, "channel.snr_db") == "0"


def test_a_preset_is_for_the_next_run_and_does_not_steer_the_one_that_is_going(store: Store) -> None:
    run_id = in_stages(store, 2)
    store.steer(run_id, "", {"channel.snr_db": 12.0})
    page = opened(run_id)
    page = without_exception(page.selectbox("settings:preset").set_value("paper").run())
    assert store.pending_changes(run_id) == {"channel.snr_db": 12.0} and box(page, "channel.snr_db") == "12"
    assert box(page, "instruction.rounds") == "50"


# ---- preferences ------------------------------------------------------------------------------------------------


def test_a_weight_that_is_moved_is_asked_of_the_run(store: Store) -> None:
    run_id = going(store, 1, SPREAD)
    page = opened(run_id)
    assert [slider.value for slider in weight_sliders(page)] == list(OWN_WEIGHTS)
    page = without_exception(page.slider("preferences:client:1").set_value(0.9).run())
    assert store.pending_changes(run_id) == {WEIGHTS: (0.0, 0.9, 0.5, 0.75, 1.0)}
    assert "preferences: asked, hold from the next round." in texts(page)


def test_own_weights_start_from_those_that_the_run_has_drawn(store: Store) -> None:
    run_id = in_stages(store, 2)  # weights at random; the engine says a quarter for each of the five
    page = without_exception(opened(run_id).selectbox("preferences:start").set_value("own").run())
    assert [slider.value for slider in weight_sliders(page)] == [0.25] * 5
    assert store.pending_commands(run_id) == []  # the same weights
    without_exception(page.slider("preferences:client:4").set_value(1.0).run())
    assert store.pending_changes(run_id) == {WEIGHTS: (0.25, 0.25, 0.25, 0.25, 1.0)}


def test_weights_of_another_number_of_clients_are_for_the_next_run(store: Store) -> None:
    run_id = going(store, 1, SPREAD)
    page = typed(opened(run_id), "clients", "3")
    page = without_exception(page.selectbox("preferences:start").set_value("harmless").run())
    assert store.pending_commands(run_id) == []
    assert "The run that is going has 5 clients; these are for the next one." in texts(page)


def test_a_method_without_rewards_has_no_weights_to_move(store: Store) -> None:
    run_id = going(store, 1, with_changes(SPREAD, {"method": "vanilla_fl"}))
    page = without_exception(opened(run_id).selectbox("preferences:start").set_value("helpful").run())
    assert store.pending_commands(run_id) == [] and "learns no rewards; these are for the next one" in texts(page)


# ---- two browsers -----------------------------------------------------------------------------------------------


def test_a_second_browser_watches_until_it_takes_over(store: Store) -> None:
    run_id = in_stages(store, 2)
    first = typed(opened(run_id), "channel.snr_db", "0")
    second = opened(run_id)
    assert "Another browser steers this run." in texts(second) and second.button("stop").disabled
    second = typed(second, "channel.snr_db", "30")
    assert store.pending_changes(run_id) == {"channel.snr_db": 0.0}  # a what-if asks nothing of the run
    assert "What if SNR 30 dB" in texts(second)
    assert box(without_exception(first.run()), "channel.snr_db") == "0"

    second = without_exception(second.button("take-over").click().run())
    assert box(second, "channel.snr_db") == "0"  # nor does its what-if now
    assert store.pending_changes(run_id) == {"channel.snr_db": 0.0} and not second.button("stop").disabled
    first = without_exception(first.run())
    assert "Another browser has taken over: it steers this run now." in toasts(first)
    assert "Another browser steers this run." in texts(first) and first.button("pause").disabled
    typed(second, "channel.snr_db", "3")
    assert store.pending_changes(run_id) == {"channel.snr_db": 3.0}
    assert box(without_exception(first.run()), "channel.snr_db") == "3"  # a knob that was not moved follows


def test_a_what_if_is_not_asked_of_the_run_when_the_other_browser_has_gone(store: Store) -> None:
    run_id = in_stages(store, 2)
    store.take_over(run_id, "another")
    page = typed(opened(run_id), "channel.snr_db", "30")
    sql(RunFiles(store.path).commands, "UPDATE leases SET seen_at = seen_at - 60")  # the lease has run out
    page = without_exception(page.run())
    assert store.pending_changes(run_id) == {} and box(page, "channel.snr_db") == "5"
    assert "Moves the run from its next round." in texts(page)


def test_the_browser_in_control_can_choose_what_if(store: Store) -> None:
    run_id = in_stages(store, 2)
    page = without_exception(opened(run_id).segmented_control("steering:use").set_value("what-if").run())
    page = typed(page, "channel.snr_db", "30")
    assert store.pending_commands(run_id) == [] and "What if SNR 30 dB" in texts(page)
    page = without_exception(page.segmented_control("steering:use").set_value("steer").run())
    assert store.pending_commands(run_id) == [] and box(page, "channel.snr_db") == "5"


def test_settings_for_the_next_run_do_not_steer_a_run_that_is_opened_again(store: Store) -> None:
    ended = in_stages(store, 2)
    store.finish(ended, RunStatus.FINISHED)
    running = in_stages(store, 2)
    page = opened(running)
    page.query_params["run"] = ended
    page = typed(without_exception(page.run()), "channel.snr_db", "30")
    page = without_exception(page.button("show-going").click().run())
    assert run_in_address(page) == running
    assert store.pending_commands(running) == [] and box(page, "channel.snr_db") == "5"


# ---- pause, stop, queue -----------------------------------------------------------------------------------------


def test_pause_and_resume(store: Store) -> None:
    run_id = in_stages(store, 2)
    page = without_exception(opened(run_id).button("pause").click().run())
    assert store.pending(run_id) == {"pause"}
    assert "Pausing after the round that is being trained (2 rounds done)." in texts(page)
    assert page.button("pause").label == "Resume"  # it can be taken back
    store.acknowledge(run_id, store.pending_commands(run_id)[-1].id, None)
    store.set_status(run_id, RunStatus.PAUSED)
    page = without_exception(page.run())
    assert "Paused after 2 rounds of 9. Resume goes on with the next round." in texts(page)
    page = without_exception(page.button("pause").click().run())
    assert store.pending(run_id) == {"resume"} and "Going on." in texts(page)
    assert page.button("pause").label == "Pause"


def test_a_run_that_is_stopping_takes_no_more_commands(store: Store) -> None:
    page = without_exception(opened(in_stages(store, 2)).button("stop").click().run())
    assert page.button("stop").disabled and page.button("pause").disabled


def test_start_beside_a_run_that_is_going_queues(store: Store, launched: list[tuple[Path, str]]) -> None:
    running = in_stages(store, 2)
    page = opened(running)
    assert page.button("start").label == "Queue"
    page = typed(page, "seed", "7")
    page = without_exception(page.button("start").click().run())
    page = without_exception(page.button("start").click().run())
    first, second = store.queue()
    assert launched == [] and first.config.seed == 7 and run_in_address(page) == running
    assert toasts(page) == ["Queued at position 2: it starts by itself."]
    assert any(box.label == "Queue: 2 waiting" for box in page.expander)
    page = without_exception(page.button(f"cancel:{first.id}").click().run())
    assert [row.id for row in store.queue()] == [second.id]
    assert store.run(first.id).status is RunStatus.STOPPED


def test_a_run_that_waits_is_shown_with_its_position_and_starts_when_its_turn_has_come(
    store: Store, launched: list[tuple[Path, str]]
) -> None:
    running = in_stages(store, 2)
    waiting = store.create_run(RunConfig(), in_queue=True)
    page = opened(waiting)
    assert "Waits in the queue at position 1; it starts by itself" in texts(page)
    assert "Another run is going" in texts(page) and page.button("pause").disabled
    assert launched == []
    store.finish(running, RunStatus.FINISHED)
    page = without_exception(page.run())
    assert launched == [(store.path, waiting)]
    assert "Waiting for the engine." in texts(without_exception(page.run()))


def clicked_twice() -> None:
    from pages.run import controls
    from pwff_core.config import RunConfig

    controls.start(RunConfig(), "me", 0)
    controls.start(RunConfig(), "me", 0)


def test_a_click_that_streamlit_hands_over_twice_starts_one_run(store: Store, launched: list[tuple[Path, str]]) -> None:
    assert not AppTest.from_function(clicked_twice).run().exception
    assert len(store.runs()) == len(launched) == 1
