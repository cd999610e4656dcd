"""The Runs page driven without a browser: a real store with scripted runs."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

from pages.parts.run_table import RunFilter, short_names, title_of
from pwff_core.config import RunConfig
from pwff_core.knobs import with_changes
from pwff_core.runs.checkpoints import list_checkpoints
from pwff_core.runs.run_files import RunFiles
from pwff_core.runs.store import RunStatus, Store
from tests.support.live_page import marked
from tests.support.pages import texts, without_exception
from tests.support.scripted import WEIGHTS, profile, whole_run

ROOT = Path(__file__).resolve().parents[2]
PAGE = str(ROOT / "pages" / "runs.py")
CONFIG = with_changes(
    RunConfig(), {"clients": 5, "instruction.rounds": 3, "reward.rounds": 2, "alignment.rounds": 4}
)  # fmt: skip
TABLE = "runs:table"


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    path = tmp_path / "runs.sqlite"
    monkeypatch.setenv("PWFF_STORE", str(path))
    st.cache_data.clear()
    return Store(path)


@pytest.fixture
def gone(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, Mapping[str, str]]]:
    """The pages that this one has led to: their files and queries."""
    visits: list[tuple[str, Mapping[str, str]]] = []

    def switch(page: str, *, query_params: Mapping[str, str]) -> NoReturn:
        visits.append((page, query_params))
        st.stop()

    monkeypatch.setattr(st, "switch_page", switch)
    return visits


def played(
    store: Store,
    name: str = "",
    changes: Mapping[str, Any] | None = None,
    rounds: int = 9,
    status: RunStatus | None = RunStatus.FINISHED,
) -> str:
    """A run that this process has claimed, with its first rounds; it goes on where it has no status."""
    run_id = store.create_run(with_changes(CONFIG, dict(changes or {})), name)
    store.claim(run_id)
    store.describe(run_id, [profile(client) for client in range(len(WEIGHTS))], [], 9)
    for record in whole_run(run_id)[:rounds]:
        store.append(run_id, record)
    if status:
        store.finish(run_id, status, "No memory." if status is RunStatus.FAILED else "")
    return run_id


def opened() -> AppTest:
    return without_exception(AppTest.from_file(PAGE, default_timeout=30).run())


def ticked(page: AppTest, *ids: str) -> AppTest:
    """The page with the ticks set before runs of the table, as a click does it."""
    page.session_state["runs:chosen"] = list(ids)
    return without_exception(page.run())


def clicked(page: AppTest, key: str) -> AppTest:
    return without_exception(page.button(key).click().run())


def table(page: AppTest) -> Any:
    return next(frame.value for frame in page.dataframe if "Id" in frame.value)


def ids(page: AppTest) -> list[str]:
    return list(table(page)["Id"])


# the list


def test_an_empty_store_says_what_will_be_here_and_leads_on(store: Store, gone: list[Any]) -> None:
    page = opened()
    assert "No run yet. Every run that you start on the **Live** page is kept here" in texts(page)
    clicked(page, "runs:to-live")
    clicked(opened(), "runs:to-demo")
    assert gone == [("pages/live.py", {}), ("pages/live.py", {"replay": "recorded"})]


def test_a_store_that_cannot_be_opened_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "letter.sqlite"
    path.write_text("Dear reader, this is no database. " * 100)
    monkeypatch.setenv("PWFF_STORE", str(path))
    assert "letter.sqlite is not a store of runs" in texts(opened())


def test_the_table_has_status_and_last_numbers_of_each_run(store: Store) -> None:
    older = played(store, "First")
    tuned = played(store, changes={"method": "fedada", "seed": 4}, rounds=2, status=None)
    rows = table(opened()).set_index("Id")
    assert list(rows.index) == [tuned, older]
    assert rows.loc[older, ["Run", "Status", "Method", "Rounds", "Seed"]].tolist() == [
        "First", "Finished", "PWFF", "9 of 9", 0,
    ]  # fmt: skip
    assert rows.loc[older, ["Accuracy [%]", "Reward [sd]"]].tolist() == pytest.approx([84, 0.75])
    assert rows.loc[tuned, "Run"].startswith("FedAda · 5 clients · 5 dB")
    assert rows.loc[tuned, ["Status", "Rounds"]].tolist() == ["Running", "2 of 9"]
    assert rows.loc[tuned, "Accuracy [%]"] == pytest.approx(68) and rows["Reward [sd]"].isna()[tuned]


def test_runs_that_wait_have_their_position(store: Store) -> None:
    played(store, rounds=1, status=None)
    first, second = (store.create_run(CONFIG, in_queue=True) for _ in range(2))
    status = table(opened()).set_index("Id")["Status"]
    assert (status[first], status[second]) == ("Queued, position 1", "Queued, position 2")


def test_a_run_before_its_first_round_has_no_numbers(store: Store) -> None:
    store.create_run(CONFIG)
    row = table(opened()).iloc[0]
    assert (row["Status"], row["Rounds"]) == ("Starting", "0 of 9")
    assert row[["Accuracy [%]", "Reward [sd]"]].isna().all()


def test_text_status_and_method_narrow_the_list(store: Store) -> None:
    deep = played(store, "Deep *fade*", {"channel.snr_db": -7})
    failed = played(store, changes={"method": "fedlora"}, rounds=1, status=RunStatus.FAILED)
    page = opened()
    assert ids(without_exception(page.text_input("runs:text").set_value("DEEP -7 db").run())) == [deep]
    assert ids(without_exception(page.text_input("runs:text").set_value(failed[:6]).run())) == [failed]
    page.text_input("runs:text").set_value("")
    assert ids(without_exception(page.multiselect("runs:statuses").set_value([RunStatus.FAILED]).run())) == [failed]
    page = without_exception(page.multiselect("runs:methods").set_value(["pwff"]).run())
    assert "None of the 2 runs fits." in texts(page)
    assert ids(clicked(page, "runs:clear")) == [failed, deep]


def test_every_word_of_the_filter_has_to_fit(store: Store) -> None:
    row = store.run(played(store, "Class of May"))
    assert RunFilter().fits(row) and RunFilter("may CLASS finished pwff").fits(row) and RunFilter(row.id).fits(row)
    assert not RunFilter("may june").fits(row)
    assert not RunFilter(statuses=[RunStatus.FAILED]).fits(row) and not RunFilter(methods=["sfl"]).fits(row)


# one run


def test_a_tick_stays_with_its_run_when_a_new_run_comes(store: Store) -> None:
    run_id = played(store, "Chosen")
    page = ticked(opened(), run_id)
    assert page.session_state[TABLE]["selection"]["rows"] == [0]
    played(store)
    page = without_exception(page.run())
    assert page.session_state[TABLE]["selection"]["rows"] == [1]
    assert "**Chosen** · Finished" in texts(page)


def test_open_and_replay_lead_to_the_live_page(store: Store, gone: list[Any]) -> None:
    run_id = played(store)
    clicked(ticked(opened(), run_id), "runs:open")
    clicked(ticked(opened(), run_id), "runs:replay")
    assert gone == [("pages/live.py", {"run": run_id}), ("pages/live.py", {"replay": run_id})]


@pytest.mark.parametrize(
    ("rounds", "status", "why"),
    [(2, None, "A run can be replayed once it has ended."), (0, RunStatus.FAILED, "It has no rounds")],
)
def test_what_cannot_be_replayed_says_why(store: Store, rounds: int, status: RunStatus | None, why: str) -> None:
    button = ticked(opened(), played(store, rounds=rounds, status=status)).button("runs:replay")
    assert button.disabled and why in button.help


def test_its_settings_go_to_the_live_page(store: Store, gone: list[Any]) -> None:
    weights = [0.1, 0.2, 0.3, 0.4, 0.5]
    changes = {"method": "sfl", "channel.snr_db": -3.5, "preferences.helpfulness_weights": weights}
    run_id = played(store, changes=changes)
    page = clicked(ticked(opened(), run_id), "runs:duplicate")
    assert gone == [("pages/live.py", {"run": run_id})]
    assert page.session_state["knob:channel.snr_db"] == "-3.5"
    assert page.session_state["settings:method"] == "sfl"
    assert page.session_state["preferences:weights"] == weights


def test_a_run_is_renamed_and_shown_letter_for_letter(store: Store) -> None:
    run_id = played(store)
    page = ticked(opened(), run_id)
    page.text_input(f"runs:name:{run_id}").set_value("<b>*Bold*</b>")
    page = clicked(page, "runs:save-name")
    assert store.run(run_id).name == "<b>*Bold*</b>"
    assert any("\\<b\\>\\*Bold\\*\\</b\\>" in str(part.value) for part in page.markdown)
    assert table(page)["Run"].tolist() == ["<b>*Bold*</b>"]


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("First", 'is called "First" already; choose another name.'),
        ("x" * 10_000, "at most 80 characters; this one has 10,000. Choose a shorter one."),
        ("a\nb", "holds a line break"),
    ],
)
def test_a_name_that_is_not_allowed_is_refused_and_nothing_is_lost(store: Store, name: str, problem: str) -> None:
    played(store, "First")
    run_id = played(store, "Second")
    page = ticked(opened(), run_id)
    page.text_input(f"runs:name:{run_id}").set_value(name)
    page = clicked(page, "runs:save-name")
    assert problem in texts(page)
    assert store.run(run_id).name == "Second"
    assert problem not in texts(without_exception(page.run()))


def test_a_run_that_waits_can_be_cancelled(store: Store) -> None:
    played(store, rounds=1, status=None)
    run_id = store.create_run(CONFIG, in_queue=True)
    page = ticked(opened(), run_id)
    assert "Queued, position 1" in texts(page)
    page = clicked(page, "runs:cancel")
    assert store.run(run_id).status is RunStatus.STOPPED
    assert "Cancelled before it started." in texts(page)
    assert not any(button.key == "runs:cancel" for button in page.button)


# deleting


def test_a_deleted_run_is_gone_and_comes_back(store: Store) -> None:
    kept, run_id = played(store), played(store, "Old <i>one</i>")
    page = clicked(ticked(opened(), run_id), "runs:delete")
    assert ids(page) == [kept] and [row.id for row in store.runs()] == [kept]
    assert "Deleted: “Old <i>one</i>”." in texts(page)
    page = clicked(page, "runs:undo")
    assert ids(page) == [run_id, kept] and not store.run(run_id).deleted
    assert "Deleted:" not in texts(page)


def test_the_last_run_comes_back_too_after_the_page_was_drawn_again(store: Store) -> None:
    first, second = played(store, "One"), played(store, "Two")
    page = clicked(ticked(opened(), first), "runs:delete")
    page = clicked(ticked(page, second), "runs:delete")
    page = without_exception(without_exception(page.run()).run())
    assert "Deleted: 2 runs." in texts(page) and "No run yet." in texts(page)
    assert ids(clicked(page, "runs:undo")) == [second, first]


def test_undo_models_and_checkpoints_are_gone_once_the_page_is_left(store: Store) -> None:
    run_id, other = played(store), played(store)
    for deleted_or_not in (run_id, other):
        RunFiles(store.path).models(deleted_or_not).mkdir(parents=True)
        marked(store, deleted_or_not, 3)
    page = clicked(ticked(opened(), run_id), "runs:delete")
    page = without_exception(page.run())
    assert (
        "Deleted:" in texts(page)
        and RunFiles(store.path).models(run_id).exists()
        and list_checkpoints(store.path, run_id)
    )
    back = AppTest.from_file(PAGE, default_timeout=30)  # where a page's widgets have no answers yet
    back.session_state["runs:deleted"] = dict(page.session_state["runs:deleted"])
    assert "Deleted:" not in texts(without_exception(back.run()))
    assert not RunFiles(store.path).models(run_id).exists() and RunFiles(store.path).models(other).exists()
    assert not RunFiles(store.path).checkpoints(run_id).exists() and len(list_checkpoints(store.path, other)) == 1
    assert store.run(run_id).deleted


def test_a_run_that_plays_is_stopped_after_a_question_and_then_deleted(store: Store) -> None:
    run_id = played(store, "Going", rounds=2, status=None)
    page = clicked(ticked(opened(), run_id), "runs:delete")
    assert "This run is going. It must stop before it can be deleted." in texts(page)
    assert not store.run(run_id).deleted and not store.stop_requested(run_id)
    page = clicked(page, "runs:stop-and-delete")
    assert store.stop_requested(run_id)
    assert "It stops after the round that it is in, and is then deleted." in texts(page)
    store.finish(run_id, RunStatus.STOPPED, "Stopped after 2 of 9 rounds.")
    page = without_exception(page.run())
    assert store.run(run_id).deleted and "Deleted: “Going”." in texts(page)
    assert ids(clicked(page, "runs:undo")) == [run_id]


def test_a_run_that_plays_may_go_on(store: Store) -> None:
    run_id = played(store, rounds=2, status=None)
    page = clicked(clicked(ticked(opened(), run_id), "runs:delete"), "runs:keep")
    assert "This run is going." not in texts(page)
    assert not store.run(run_id).deleted and not store.stop_requested(run_id)


def test_the_question_goes_when_the_run_has_ended(store: Store) -> None:
    run_id = played(store, rounds=2, status=None)
    page = clicked(ticked(opened(), run_id), "runs:delete")
    store.finish(run_id, RunStatus.FINISHED)
    page = without_exception(page.run())
    assert "This run is going." not in texts(page) and ids(page) == [run_id]


# several runs


def test_two_runs_are_laid_over_each_other(store: Store) -> None:
    named, other = played(store, "A <b> run"), played(store, changes={"seed": 3}, rounds=2, status=RunStatus.STOPPED)
    page = ticked(opened(), named, other)
    assert "**A <b> run**: PWFF · 5 clients" in texts(page) and "**PWFF, seed 3**: PWFF" in texts(page)
    assert [box.label for box in page.expander if box.label.endswith(" in numbers")] == [
        "Accuracy in numbers", "Reward in numbers", "Delay in numbers", "Energy in numbers",
    ]  # fmt: skip
    frames = [frame.value for frame in page.dataframe if "Round" in frame.value]
    assert list(frames[0].columns) == ["Round", "A <b> run [%]", "PWFF, seed 3 [%]"]
    assert len(frames[2]) == 9 and frames[2].iloc[:, 2].notna().sum() == 2


def test_more_than_five_are_too_many(store: Store) -> None:
    page = ticked(opened(), *(played(store, f"run {place}", rounds=1) for place in range(6)))
    assert "At most 5 runs are drawn, the first 5 that you ticked." in texts(page)
    frames = [frame.value for frame in page.dataframe if "Round" in frame.value]
    assert len(frames[0].columns) == 6


def test_names_in_a_legend_are_short_and_differ(store: Store) -> None:
    rows = [store.run(played(store)), store.run(played(store)), store.run(played(store, "x" * 80))]
    first, second, third = short_names(rows)
    assert (first, second) == (f"PWFF, seed 0 ({rows[0].id})", f"PWFF, seed 0 ({rows[1].id})")
    assert third == f"{'x' * 40} …"
    assert title_of(rows[2]) == "x" * 80


# going on


def test_an_interrupted_run_is_resumed_from_the_list(store: Store, launched: list[tuple[Path, str]]) -> None:
    run_id = played(store, "Lesson", rounds=4, status=RunStatus.FAILED)
    marked(store, run_id, 3, 4)
    page = ticked(opened(), run_id)
    assert "2 checkpoints, 24.8 MB, the last after round 4 (" in texts(page)
    assert "Failed in round 5: No memory. Its 4 rounds are kept." in texts(page)
    assert "Resume goes on after round 4; all that was measured stays." in texts(page)
    page = clicked(page, "go-on")
    assert launched == [(store.path, run_id)]
    assert table(page)["Status"].tolist() == ["Starting"]
    assert not any(button.key == "go-on" for button in page.button)


def test_a_finished_run_has_no_resume(store: Store) -> None:
    page = ticked(opened(), played(store))
    assert not any(button.key in ("go-on", "runs:fork") for button in page.button)
    assert "checkpoint" not in texts(page)


def test_a_run_with_checkpoints_leads_to_a_fork_on_the_live_page(store: Store, gone: list[Any]) -> None:
    run_id = played(store, changes={"channel.snr_db": -3.5})
    marked(store, run_id, 3)
    page = clicked(ticked(opened(), run_id), "runs:fork")
    assert gone == [("pages/live.py", {"run": run_id})]
    assert page.session_state["knob:channel.snr_db"] == "-3.5" and page.session_state["fork"] is True


def test_the_list_names_the_parent_of_a_fork(store: Store) -> None:
    parent = played(store, "Lesson")
    assert "Forked from" not in table(opened())
    child = store.fork(parent, 3, {"channel.snr_db": 0.0}, "Other", in_queue=True)
    page = opened()
    assert table(page).set_index("Id")["Forked from"].to_dict() == {parent: "", child: "Lesson, round 3"}
    assert "Forked after round 3 of **Lesson**, with SNR 0 dB in place of 5." in texts(ticked(page, child))
    assert ids(without_exception(page.text_input("runs:text").set_value(f"fork {parent}").run())) == [child]
    assert "Laid over each other" in texts(without_exception(ticked(opened(), parent, child)))


def test_a_run_that_is_held_up_says_why(store: Store) -> None:
    run_id = played(store, rounds=2, status=None)
    with sqlite3.connect(store.path) as connection:
        connection.execute("UPDATE runs SET heartbeat_at = heartbeat_at - 7200")
    connection.close()
    page = ticked(opened(), run_id)
    assert table(page)["Status"].tolist() == ["Held up"]
    assert "Held up after 2 rounds of 9: No sign of life for 2 h 0" in texts(page)
    page.multiselect("runs:statuses").set_value([RunStatus.STALLED])
    assert ids(without_exception(page.run())) == [run_id]
