"""A recording played again: by a clock that the tests turn by hand."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from streamlit.testing.v1 import AppTest

from pages.run.replay import SPEEDS, fitting_speed, played_so_far, recording_for, round_ends
from pwff_core.config import RunConfig
from pwff_core.errors import StoreError
from pwff_core.figures.frames import planned_stages, spans_of
from pwff_core.knobs import with_changes
from pwff_core.records import Steering
from pwff_core.runs.recording import DEMO_ID, Recording, recorded_demo, recording_of, to_json
from pwff_core.runs.store import RunStatus, Store
from tests.support.pages import without_exception
from tests.support.scripted import WEIGHTS, profile, whole_run

ROOT = Path(__file__).resolve().parents[2]
CONFIG = with_changes(
    RunConfig(), {"clients": 5, "instruction.rounds": 5, "reward.rounds": 2, "alignment.rounds": 4}
)  # fmt: skip
STEERING = Steering(
    position=5, stage="reward", round=2, before={"channel.snr_db": 5.0}, changes={"channel.snr_db": 0.0}, at=1.0
)  # fmt: skip


def played(store: Store, rounds: int = 9, status: RunStatus | None = RunStatus.FINISHED) -> str:
    """A run whose first stage of 5 rounds ended after 3, steered before its fifth round."""
    run_id = store.create_run(CONFIG, "A *bold* name")
    store.claim(run_id)
    store.describe(run_id, [profile(client) for client in range(len(WEIGHTS))], [], 9)
    for number, record in enumerate(whole_run(run_id, instruction="It got no better.")[:rounds], start=1):
        if number == STEERING.position:
            store.acknowledge(run_id, 1, STEERING)
        store.append(run_id, record)
    if status:
        store.finish(run_id, status)
    return run_id


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "runs.sqlite")


@pytest.fixture
def recording(store: Store) -> Recording:
    return recording_of(store, played(store))


# what the run looked like then


def test_a_round_is_there_when_its_computing_has_ended(recording: Recording) -> None:
    assert round_ends(recording) == [1.5, 3, 4.5, 5, 5.5, 9.5, 13.5, 17.5, 21.5]


def test_before_its_end_the_run_is_running_and_then_as_it_was(recording: Recording) -> None:
    before, middle, end = (played_so_far(recording, rounds) for rounds in (0, 4, 9))
    assert before.records == () and before.row.status is RunStatus.RUNNING
    assert middle.records == recording.records[:4] and middle.row.rounds_done == 4
    assert end == recording and end.row.status is RunStatus.FINISHED


def test_a_change_of_settings_is_there_from_the_round_that_it_holds_for(recording: Recording) -> None:
    assert [len(played_so_far(recording, rounds).steerings) for rounds in (0, 3, 4, 9)] == [0, 0, 1, 1]


def test_a_stage_that_ended_early_has_its_planned_length_until_then(recording: Recording) -> None:
    def stages(rounds: int) -> list[tuple[str, int]]:
        row, records, *_ = played_so_far(recording, rounds)
        spans = spans_of(planned_stages(row.config, row.rounds_total, records), records)
        return [(span.stage, span.rounds) for span in spans]

    assert stages(0) == stages(2) == [("instruction", 5), ("reward", 2), ("alignment", 4)]
    assert stages(3) == stages(9) == [("instruction", 3), ("reward", 2), ("alignment", 4)]
    assert [played_so_far(recording, rounds).row.rounds_total for rounds in (0, 2, 3, 9)] == [11, 11, 9, 9]


def test_a_recording_of_a_run_that_was_still_going_says_so_at_its_end(store: Store) -> None:
    recording = recording_of(store, played(store, rounds=2, status=None))
    end = played_so_far(recording, 2).row
    assert end.status is RunStatus.STOPPED and "still going when it was made" in end.message


@given(st.integers(0, 9))
def test_no_round_is_lost_or_added(rounds: int) -> None:
    whole = recorded_demo()
    now = played_so_far(whole, 3 * rounds)
    assert now.records == whole.records[: 3 * rounds]
    assert now.row.rounds_done == len(now.records)


def test_the_recorded_demo_takes_about_a_minute() -> None:
    demo = recorded_demo()
    assert fitting_speed(demo) == 2
    assert 40 < round_ends(demo)[-1] / fitting_speed(demo) < 85


def test_a_long_run_is_played_at_the_highest_speed_and_a_short_one_at_its_own(recording: Recording) -> None:
    assert fitting_speed(recording) == 1  # 21.5 s
    slow = [record.model_copy(update={"wall_s": 600.0}) for record in recording.records]
    assert fitting_speed(recording._replace(records=tuple(slow))) == 20


# which recording


def test_a_run_of_the_store_and_the_recorded_demo_can_be_replayed(store: Store) -> None:
    run_id = played(store)
    assert recording_for(store, run_id).row.id == run_id
    assert recording_for(None, DEMO_ID) == recorded_demo()


def test_what_cannot_be_replayed_is_refused_in_one_sentence(store: Store) -> None:
    going, deleted = played(store, rounds=2, status=None), played(store)
    store.delete(deleted)
    empty = store.create_run(CONFIG)
    store.not_launched(empty, "No memory.")
    sentences = {
        going: f"Run {going} has not ended; it can be replayed once it has.",
        deleted: f"Run {deleted} was deleted, so it cannot be replayed.",
        empty: f"Run {empty} has no rounds, so there is nothing to replay.",
        "<b>": f"There is no run '<b>' in {store.path}; `pwff runs` lists those there are.",
    }
    for run_id, sentence in sentences.items():
        with pytest.raises(StoreError) as error:
            recording_for(store, run_id)
        assert str(error.value) == sentence
    with pytest.raises(StoreError, match="nothing but the recorded demo can be replayed"):
        recording_for(None, "abcdefgh")


# the controls


class Watch:
    """A clock for the replay alone."""

    def __init__(self) -> None:
        self.seconds = 100.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def watch() -> Watch:
    return Watch()


SCRIPT = """
import sys; sys.path.insert(0, {root!r})
from pathlib import Path
import streamlit as st
from pages.run.replay import draw_replay
from pwff_core.runs.recording import from_json

def draw(now):
    left = sum(record.wall_s for record in now.records)
    st.text(f"{{now.row.status.value}}, {{len(now.records)}} rounds, {{left:g}} s")

recording = from_json(Path({path!r}).read_text(encoding="utf-8"))
draw_replay(recording, draw, leave=lambda: st.session_state.update(left=1), clock=st.session_state["watch"])
"""


def opened(script: str, watch: Watch) -> AppTest:
    page = AppTest.from_string(script, default_timeout=30)
    page.session_state["watch"] = watch
    return without_exception(page.run())


@pytest.fixture
def page(recording: Recording, watch: Watch, tmp_path: Path) -> AppTest:
    path = tmp_path / "run.json"
    path.write_text(to_json(recording), encoding="utf-8")
    return opened(SCRIPT.format(root=str(ROOT), path=str(path)), watch)


def state(page: AppTest) -> str:
    return str(page.text[0].value)


def later(page: AppTest, watch: Watch, seconds: float) -> str:
    watch.seconds += seconds
    return state(without_exception(page.run()))


def buttons(page: AppTest) -> dict[str, bool]:
    return {button.label: not button.disabled for button in page.button}


def test_it_plays_at_once_and_says_what_it_is(page: AppTest, watch: Watch) -> None:
    assert state(page) == "running, 0 rounds, 0 s"
    words = " ".join(str(part.value) for part in page.markdown)
    assert "Replay" in words and "A \\*bold\\* name" in words and "1 × its pace" in words
    assert later(page, watch, 3.1) == "running, 2 rounds, 3 s"
    assert later(page, watch, 30) == "finished, 9 rounds, 21.5 s"
    assert buttons(page) == {
        "Close the replay": True, "From the start": True, "Play": True, "To the end": False,
    }  # fmt: skip


def test_a_pause_keeps_its_place(page: AppTest, watch: Watch) -> None:
    assert later(page, watch, 2) == "running, 1 rounds, 1.5 s"
    page = without_exception(page.button("replay:play").click().run())
    assert later(page, watch, 100) == "running, 1 rounds, 1.5 s"
    page = without_exception(page.button("replay:play").click().run())
    assert later(page, watch, 1) == "running, 2 rounds, 3 s"


def test_another_speed_holds_from_here(page: AppTest, watch: Watch) -> None:
    later(page, watch, 2)
    control = next(group for group in page.get("button_group") if group.label == "Speed")
    assert list(control.options) == ["1 ×", "2 ×", "5 ×", "10 ×", "20 ×"]
    page = without_exception(control.set_value(5).run())
    assert state(page) == "running, 1 rounds, 0.3 s"  # what a round takes at this speed, for the time left
    assert later(page, watch, 0.5) == "running, 3 rounds, 0.9 s"


def test_the_slider_goes_to_any_round_while_the_replay_stands_still(page: AppTest, watch: Watch) -> None:
    assert not page.slider
    page = without_exception(page.button("replay:play").click().run())
    assert (page.slider[0].value, page.slider[0].max) == (0, 9)
    page = without_exception(page.slider[0].set_value(6).run())
    assert later(page, watch, 100) == "running, 6 rounds, 9.5 s"
    page = without_exception(page.button("replay:play").click().run())
    assert later(page, watch, 3.9) == "running, 6 rounds, 9.5 s"
    assert later(page, watch, 0.2) == "running, 7 rounds, 13.5 s"
    page = without_exception(page.button("replay:play").click().run())
    assert page.slider[0].value == 7
    page = without_exception(page.slider[0].set_value(0).run())
    assert state(page) == "running, 0 rounds, 0 s"


def test_from_the_start_and_to_the_end(page: AppTest, watch: Watch) -> None:
    page = without_exception(page.button("replay:end").click().run())
    assert state(page) == "finished, 9 rounds, 21.5 s"
    page = without_exception(page.button("replay:start").click().run())
    assert later(page, watch, 1.6) == "running, 1 rounds, 1.5 s"
    page = without_exception(page.button("replay:end").click().run())
    page = without_exception(page.button("replay:play").click().run())  # at its end, Play begins anew
    assert later(page, watch, 1.6) == "running, 1 rounds, 1.5 s"


def test_it_can_be_closed(page: AppTest) -> None:
    assert without_exception(page.button("replay:leave").click().run()).session_state["left"] == 1


def test_the_recorded_demo_is_called_recorded(watch: Watch) -> None:
    script = SCRIPT.replace('from_json(Path({path!r}).read_text(encoding="utf-8"))', "recorded_demo()")
    script = script.replace("import from_json", "import recorded_demo").format(root=str(ROOT))
    page = opened(script, watch)
    words = " ".join(str(part.value) for part in page.markdown)
    assert "Recorded" in words and "Ten clients, wishes from 0 to 1" in words and "2 × its pace" in words
    assert later(page, watch, 70).startswith("finished, 27 rounds")


def test_every_speed_is_between_1_and_20() -> None:
    assert (SPEEDS[0], SPEEDS[-1]) == (1, 20) and sorted(SPEEDS) == list(SPEEDS)
