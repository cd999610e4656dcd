"""Runs that go on, driven from the Live page: resumed where they ended, forked from an earlier round, held up."""

from __future__ import annotations

import sqlite3
import time
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from pages.parts import run_table
from pwff_core.config import RunConfig
from pwff_core.figures.changes import WEIGHTS
from pwff_core.knobs import with_changes
from pwff_core.runs.checkpoints import delete_checkpoints
from pwff_core.runs.store import RunStatus, Store
from tests.support.live_page import THREE_STAGES, in_stages, marked, opened, run_in_address, typed
from tests.support.pages import texts, without_exception
from tests.support.scripted import profile, whole_run

ENDS = {"instruction": "All 3 rounds were played.", "reward": "All 2 rounds were played."}
POINTS = ["after round 3, the end of instruction tuning", "after round 5, the end of reward learning"]


def ended(store: Store, rounds: int, status: RunStatus, name: str = "Lesson", config: RunConfig = THREE_STAGES) -> str:
    """A run of three stages (3, 2 and 4 rounds) that ended after some of them; its stages' ends can be forked."""
    run_id = store.create_run(config, name)
    store.claim(run_id)
    store.describe(run_id, [profile(client) for client in range(5)], [], 9)
    for record in whole_run(run_id, **ENDS)[:rounds]:
        store.append(run_id, record)
    message = {RunStatus.STOPPED: f"Stopped after {rounds} of 9 rounds.", RunStatus.FAILED: "No memory."}
    store.finish(run_id, status, message.get(status, ""))
    marked(store, run_id, *(position for position in (3, 5) if position <= rounds))
    return run_id


def abandoned(store: Store, rounds: int) -> str:
    """A run whose worker was another process, which is gone: as after a restart of the computer."""
    run_id = ended(store, rounds, RunStatus.STOPPED)
    change(store, "UPDATE runs SET status = 'running', message = '', pid = 2147483646, process_birth = 'gone:1'")
    return run_id


def change(store: Store, query: str, *values: float) -> None:
    """Changes the past of a run, which no Store would do."""
    connection = sqlite3.connect(store.path)
    with connection:
        connection.execute(query, values)
    connection.close()


def toasts(page: AppTest) -> list[str]:
    return [str(toast.value).replace("\\", "") for toast in page.toast]


def clicked(page: AppTest, key: str) -> AppTest:
    return without_exception(page.button(key).click().run())


def forking(page: AppTest) -> AppTest:
    """The page with the panel for a fork open."""
    page.session_state["fork"] = True
    return without_exception(page.run())


def keys(page: AppTest) -> set[str]:
    return {str(button.key) for button in page.button}


# ---- resume -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [RunStatus.STOPPED, RunStatus.FAILED])
def test_a_run_that_ended_before_its_time_is_resumed(
    store: Store, launched: list[tuple[Path, str]], status: RunStatus
) -> None:
    run_id = ended(store, 4, status)
    page = opened()
    how = "stopped" if status is RunStatus.STOPPED else "interrupted"
    assert f"**Lesson** was {how} after 4 of 9 rounds. Resume goes on after round 4; all that was mea" in texts(page)
    page = clicked(page, "go-on")
    assert launched == [(store.path, run_id)] and run_in_address(page) == run_id
    assert store.run(run_id).status is RunStatus.QUEUED and store.run(run_id).rounds_done == 4
    assert "Waiting for the engine." in texts(page) and "go-on" not in keys(page)


def test_after_a_restart_the_newest_run_is_shown_as_interrupted_and_can_be_resumed(store: Store) -> None:
    run_id = abandoned(store, 5)
    page = opened()
    assert run_in_address(page) == run_id
    assert "**Lesson** was interrupted after 5 of 9 rounds. Resume goes on after round 5" in texts(page)
    assert "Failed in round 6: The engine stopped" in texts(page)
    assert not page.button("go-on").disabled


def test_a_run_without_a_round_starts_anew(store: Store) -> None:
    ended(store, 0, RunStatus.FAILED)
    assert "was interrupted after 0 of 9 rounds. Resume starts it anew: it has no round yet." in texts(opened())


def test_resume_says_which_rounds_are_computed_again(store: Store) -> None:
    run_id = ended(store, 4, RunStatus.STOPPED)
    delete_checkpoints(store.path, run_id)
    assert "Resume goes on after round 4, once rounds 1 to 4 have been computed again; all that" in texts(opened())


def test_a_finished_run_is_not_resumed_and_says_that_it_can_be_forked(store: Store) -> None:
    ended(store, 9, RunStatus.FINISHED)
    page = opened()
    assert "go-on" not in keys(page) and "Resume" not in texts(page)
    assert "This run is finished. It can be forked" in page.button("pause").help
    assert any(box.label.startswith("This run is finished. Fork it:") for box in page.expander)


def test_two_browsers_that_resume_a_run_start_one_worker(store: Store, launched: list[tuple[Path, str]]) -> None:
    run_id = ended(store, 4, RunStatus.FAILED)
    first, second = opened(run_id), opened(run_id)
    clicked(first, "go-on")
    second = clicked(second, "go-on")
    assert launched == [(store.path, run_id)]
    assert "The run is queued already: there is nothing to resume." in texts(second)
    assert "go-on" not in keys(second)


def resumed_twice(run_id: str) -> None:
    from pages.run import resume

    resume.resume(run_id, "me", 0)
    resume.resume(run_id, "me", 0)


def test_a_click_that_streamlit_hands_over_twice_resumes_once(store: Store, launched: list[tuple[Path, str]]) -> None:
    run_id = ended(store, 4, RunStatus.STOPPED)
    page = AppTest.from_function(resumed_twice, args=(run_id,)).run()
    assert not page.exception and "announcing:notices" not in page.session_state
    assert launched == [(store.path, run_id)]


def test_beside_a_run_that_is_going_it_waits_its_turn(store: Store, launched: list[tuple[Path, str]]) -> None:
    run_id = ended(store, 4, RunStatus.STOPPED)
    going = store.create_run(THREE_STAGES)
    store.claim(going)
    page = clicked(opened(run_id), "go-on")
    assert launched == [] and [row.id for row in store.queue()] == [run_id]
    assert "Queued at position 1: it starts by itself." in toasts(page)
    assert "Waits in the queue at position 1" in texts(page)


# ---- held up ----------------------------------------------------------------------------------------------------


def test_a_run_that_gives_no_sign_of_life_says_why_and_can_be_stopped(store: Store) -> None:
    run_id = ended(store, 4, RunStatus.STOPPED)
    change(store, "UPDATE runs SET status = 'running', heartbeat_at = ?", time.time() - 7200)
    page = opened(run_id)
    assert "Held up after 4 rounds of 9: No sign of life for 2 h 0" in texts(page)
    assert "Its rounds are safe; should the engine end, the run can be resumed." in texts(page)
    assert "go-on" not in keys(page) and not page.button("pause").disabled
    page = clicked(page, "stop")
    assert store.pending(run_id) == {"stop"} and "It stops as soon as it goes on." in texts(page)


@pytest.mark.parametrize(("clicks", "label"), [(["pause"], "Resume"), (["pause", "pause"], "Pause")])
def test_the_button_of_a_run_that_is_held_up_is_what_a_press_does(store: Store, clicks: list[str], label: str) -> None:
    run_id = ended(store, 4, RunStatus.STOPPED)
    change(store, "UPDATE runs SET status = 'running', heartbeat_at = ?", time.time() - 7200)
    page = opened(run_id)
    assert page.button("pause").label == "Pause"
    for key in clicks:
        page = clicked(page, key)
    assert page.button("pause").label == label and not page.button("pause").disabled
    assert ("It pauses as soon as it goes on." in texts(page)) is (label == "Resume")


def test_a_paused_run_that_is_held_up_offers_to_go_on(store: Store) -> None:
    run_id = ended(store, 4, RunStatus.STOPPED)
    change(store, "UPDATE runs SET status = 'running'")
    store.pause(run_id, "")
    store.set_status(run_id, RunStatus.PAUSED)
    change(store, "UPDATE runs SET heartbeat_at = ?", time.time() - 7200)
    page = opened(run_id)
    assert "Held up after 4 rounds of 9" in texts(page) and page.button("pause").label == "Resume"
    page = clicked(page, "pause")
    assert [command.kind for command in store.pending_commands(run_id)] == ["pause", "resume"]
    assert page.button("pause").label == "Pause"
    change(store, "UPDATE runs SET heartbeat_at = ?", time.time())
    assert "Going on." in texts(without_exception(page.run()))


# ---- fork -------------------------------------------------------------------------------------------------------


def test_a_run_is_forked_with_what_the_sliders_say(store: Store, launched: list[tuple[Path, str]]) -> None:
    run_id = ended(store, 9, RunStatus.FINISHED)
    page = forking(typed(opened(run_id), "channel.snr_db", "0"))
    box = page.selectbox(f"fork:after:{run_id}")
    assert (box.options, box.value) == (POINTS, 5)
    assert "From round 6: SNR 5 → 0 dB." in texts(page)
    assert page.text_input("fork:name").value == "Lesson, SNR 0 dB"
    page = clicked(without_exception(box.set_value(3).run()), "fork:start")
    (child, parent) = store.runs()
    assert run_in_address(page) == child.id and launched == [(store.path, child.id)]
    assert (child.name, child.parent, child.forked_at, child.rounds_done) == ("Lesson, SNR 0 dB", parent.id, 3, 3)
    assert [steering.changes for steering in store.steerings(child.id)] == [{"channel.snr_db": 0.0}]
    assert "Forked after round 3 of **Lesson**, with SNR 0 dB in place of 5." in texts(page)
    page = clicked(page, "show-parent")
    assert run_in_address(page) == run_id


def test_a_run_that_is_going_is_forked_without_being_touched_and_the_fork_waits(
    store: Store, launched: list[tuple[Path, str]]
) -> None:
    run_id = in_stages(store, 4)
    marked(store, run_id, 3, 4)
    page = forking(opened(run_id))
    assert "The sliders steer this run at the moment. Choose *Only what-if* above them" in texts(page)
    page = without_exception(page.segmented_control("steering:use").set_value("what-if").run())
    page = clicked(typed(page, "channel.snr_db", "0"), "fork:start")
    (child,) = store.queue()
    assert (child.parent, child.forked_at) == (run_id, 4) and store.pending_commands(run_id) == [] and launched == []
    assert run_in_address(page) == child.id and "Queued at position 1: it starts by itself." in toasts(page)
    assert page.session_state["fork"] is False  # its own panel is closed


def test_a_fork_without_changes_says_that_it_is_a_replication(store: Store, launched: list[tuple[Path, str]]) -> None:
    run_id = ended(store, 9, RunStatus.FINISHED)
    page = forking(opened(run_id))
    assert "the fork would be a replication: the same rounds once more" in texts(page)
    assert page.text_input("fork:name").value == "Lesson, again"
    page = clicked(page, "fork:start")
    assert store.steerings(store.runs()[0].id) == []
    assert "Forked after round 5 of **Lesson**, with the same settings: a replication." in texts(page)


def test_a_fork_has_other_preferences(store: Store, launched: list[tuple[Path, str]]) -> None:
    page = forking(opened(ended(store, 9, RunStatus.FINISHED)))
    page = without_exception(page.selectbox("preferences:start").set_value("harmless").run())
    assert "From round 6: preferences changed." in texts(page)
    assert page.text_input("fork:name").value == "Lesson, other preferences"
    clicked(page, "fork:start")
    child = store.runs()[0]
    assert store.steerings(child.id)[0].changes == {WEIGHTS: (0.0,) * 5}
    assert [profile.helpfulness_weight for profile in child.profiles] == [0.0] * 5


def test_another_number_of_clients_leaves_the_preferences_as_they_are(store: Store) -> None:
    page = forking(opened(ended(store, 9, RunStatus.FINISHED)))
    page = typed(without_exception(page.selectbox("preferences:start").set_value("harmless").run()), "clients", "3")
    assert "This run has 5 clients and the settings panel another number: preferences stay" in texts(page)
    assert "would be a replication" in texts(page)


def test_a_name_that_was_typed_stays_and_a_suggestion_follows_the_sliders(store: Store) -> None:
    run_id = ended(store, 9, RunStatus.FINISHED, name="")
    page = forking(typed(opened(run_id), "channel.snr_db", "0"))
    assert page.text_input("fork:name").value == f"Run {run_id}, SNR 0 dB"
    page = typed(page, "channel.bandwidth_hz", "2e6")
    assert page.text_input("fork:name").value == f"Run {run_id}, SNR 0 dB, bandwidth 2 MHz"
    page = without_exception(page.text_input("fork:name").set_value("My own").run())
    assert typed(page, "channel.snr_db", "1").text_input("fork:name").value == "My own"


def test_what_the_run_s_other_settings_do_not_allow_is_said(store: Store) -> None:
    still = with_changes(THREE_STAGES, {"channel.fading": "awgn", "channel.coherence_time_s": float("inf")})
    page = forking(opened(ended(store, 9, RunStatus.FINISHED, config=still)))
    page = typed(page, "channel.coherence_time_s", "0.01")  # of the next run
    page = without_exception(page.segmented_control("knob:channel.fading").set_value("rayleigh").run())
    assert "A run cannot be forked like this." in texts(page) and page.button("fork:start").disabled


def test_a_fork_from_a_checkpoint_that_has_gone_is_refused_in_words(
    store: Store, launched: list[tuple[Path, str]]
) -> None:
    run_id = ended(store, 9, RunStatus.FINISHED)
    page = forking(opened(run_id))
    delete_checkpoints(store.path, run_id)
    page = clicked(page, "fork:start")
    assert f"The run could not be forked: Run {run_id} cannot be forked after round 5" in texts(page)
    assert len(store.runs()) == 1 and launched == []


def test_a_run_without_checkpoints_cannot_be_forked(store: Store) -> None:
    ended(store, 2, RunStatus.STOPPED)
    assert not any("Fork" in box.label for box in opened().expander)


# ---- a fork and its parent --------------------------------------------------------------------------------------


def numbers(page: AppTest, panel: str) -> list[str]:
    """The columns behind a chart."""
    page.session_state[f"numbers:{panel}"] = True
    frames = [frame.value for frame in without_exception(page.run()).dataframe if "Round" in frame.value]
    return list(frames[0].columns)


def test_a_fork_has_its_parent_s_numbers_beside_its_own(store: Store) -> None:
    parent = ended(store, 9, RunStatus.FINISHED)
    child = store.fork(parent, 3, {"channel.snr_db": 0.0}, "Other", in_queue=True)
    store.cancel(child)
    columns = numbers(opened(child), "delay")
    assert columns[-3:] == ["slowest client, Lesson [s]", "mean client, Lesson [s]", "Changed before it"]
    store.delete(parent)
    page = opened(child)
    assert f"Forked after round 3 of run {parent}, which is gone, with SNR 0 dB in place of 5." in texts(page)
    assert "show-parent" not in keys(page) and not any("Lesson" in column for column in numbers(page, "delay"))


def test_a_parent_of_another_version_does_not_keep_its_fork_from_being_shown(store: Store) -> None:
    parent = ended(store, 9, RunStatus.FINISHED)
    child = store.fork(parent, 3, {}, "Other", in_queue=True)
    store.cancel(child)
    change(store, "UPDATE runs SET config = '{\"no\": \"such\"}' WHERE parent = ''")
    page = opened(child)
    assert f"Forked after round 3 of run {parent}, which is gone, with the same settings" in texts(page)


def test_short_names_of_parents_are_cut(store: Store) -> None:
    assert run_table.short_names([store.run(ended(store, 9, RunStatus.FINISHED, "x" * 60))]) == [f"{'x' * 40} …"]
