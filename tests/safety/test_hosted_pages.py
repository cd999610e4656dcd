"""A hosted app's visitor has knobs within limits and cannot change others' runs; the worker checks again."""

from __future__ import annotations

from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from pages.server import session
from pages.settings import uploads as uploads_widget
from pwff_core.config import RunConfig, preset_config
from pwff_core.engine.worker import play_run
from pwff_core.errors import ConfigError, StoreError
from pwff_core.knobs import with_changes
from pwff_core.runs import limits, uploads
from pwff_core.runs.run_files import RunFiles
from pwff_core.runs.store import RunStatus, Store
from tests.support import scripted
from tests.support.live_page import opened, typed
from tests.support.pages import texts, without_exception

ME, OTHER = limits.owner_of("a" * 32), limits.owner_of("b" * 32)


def can_press(page: AppTest, key: str) -> bool:
    """Whether a button is there and enabled."""
    return any(button.key == key and not button.disabled for button in page.button)


def knobs_of(page: AppTest) -> set[str]:
    return {str(box.key).removeprefix("knob:") for box in page.text_input if str(box.key).startswith("knob:")}


def test_the_panel_has_only_the_knobs_of_a_visitor(hosted: None, store: Store, launched: list[object]) -> None:
    page = opened()
    for toggle in page.toggle:
        if str(toggle.key).startswith("all:"):
            toggle.set_value(True)
    without_exception(page.run())
    assert "clients" in knobs_of(page) and "data.max_length" in knobs_of(page)
    assert not {"backbone", "data.source", "reward.encoder", "reward.helpful_source"} & knobs_of(page)
    assert next(box for box in page.selectbox if box.key == "settings:preset").options == ["Demo"]
    assert page.select_slider(key="slider:clients").options[-1] == "20"
    typed(page, "clients", "21")
    assert "21 is more than this hosted app allows; give a whole number from 2 to 20" in texts(page)
    assert not can_press(page, "start")
    typed(page, "clients", "20")
    typed(page, "instruction.rounds", "55")
    assert "The stages have 66 rounds together; this hosted app allows 60" in texts(page)


def test_at_home_every_knob_is_there(store: Store, launched: list[object]) -> None:
    page = opened()
    assert {"backbone", "data.source"} <= knobs_of(page)
    typed(page, "clients", "21")
    assert can_press(page, "start")


@pytest.mark.parametrize(
    ("query", "notice"),
    [
        ({"backbone": "gpt2"}, "backbone: 'gpt2' is not offered on this hosted app; give demo."),
        ({"data.source": "/etc/passwd"}, "data.source: '/etc/passwd' is not offered on this hosted app"),
        ({"clients": "200"}, "Clients cannot be “200”: give a whole number from 2 to 20."),
        ({"preset": "paper"}, "The preset cannot be “paper”: give one of demo."),
    ],
)
def test_a_link_does_not_lead_past_the_limits(
    hosted: None, store: Store, launched: list[object], query: dict[str, str], notice: str
) -> None:
    page = AppTest.from_file(str(Path(__file__).parents[2] / "app.py"), default_timeout=30)
    for name, value in query.items():
        page.query_params[name] = value
    without_exception(page.run())
    assert notice in texts(page)
    assert can_press(page, "start")  # with the preset's value


def test_a_run_from_the_command_line_is_adopted_within_the_limits(
    hosted: None, store: Store, launched: list[object]
) -> None:
    scripted.played(store, preset_config("paper"))
    page = opened()
    assert not {"backbone"} & knobs_of(page)
    assert "not offered" not in texts(page)


def test_a_visitor_has_three_runs_at_a_time(hosted: None, store: Store, launched: list[tuple[Path, str]]) -> None:
    page = opened()
    for _ in range(4):
        without_exception(page.button(key="start").click().run())
    assert "a visitor may have 3 runs that wait or play, and you would have 4" in texts(page)
    rows = store.runs()
    assert len(rows) == 3 and len({row.owner for row in rows}) == 1 and len(rows[0].owner) == 32


def test_a_day_s_runs_are_counted_with_those_that_were_deleted(
    hosted: None, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(20):
        with session.within_limits(store, ME, RunConfig()):
            run_id = store.create_run(RunConfig(), in_queue=True, owner=ME)
        store.delete(run_id)
    with pytest.raises(ConfigError, match="this would be number 21"), session.within_limits(store, ME, RunConfig()):
        pass
    with session.within_limits(store, OTHER, RunConfig()):
        pass


def test_a_resume_counts_for_the_runs_at_a_time_but_not_of_the_day(
    hosted: None, store: Store, launched: list[tuple[Path, str]]
) -> None:
    page = without_exception(opened().button(key="start").click().run())
    (row,) = store.runs()
    for _ in range(19):
        store.delete(store.create_run(RunConfig(), in_queue=True, owner=row.owner))
    store.claim(row.id)
    store.finish(row.id, RunStatus.STOPPED)
    without_exception(without_exception(page.run()).button(key="start").click().run())
    assert "this would be number 21" in texts(page) and store.runs() == [store.run(row.id)]
    without_exception(page.button(key="go-on").click().run())
    assert store.run(row.id).status is RunStatus.QUEUED and launched == [(store.path, row.id)] * 2
    with (
        pytest.raises(ConfigError, match="a visitor may have 3 runs"),
        session.within_limits(store, row.owner, *[RunConfig()] * 3, new=False),
    ):
        pass


def test_the_queue_is_full_for_everybody(hosted: None, store: Store) -> None:
    for number in range(30):
        store.create_run(RunConfig(), in_queue=True, owner=limits.owner_of(str(number)))
    full = r"is full \(30 of 30 places\)"
    with pytest.raises(ConfigError, match=full), session.within_limits(store, ME, RunConfig()):
        pass


def test_a_config_past_the_knobs_is_refused_before_a_run_exists(hosted: None, store: Store) -> None:
    config = with_changes(RunConfig(), {"backbone": "/etc"})
    with pytest.raises(ConfigError, match="not offered"), session.within_limits(store, ME, config):
        store.create_run(config, owner=ME)
    assert store.runs() == []


def test_the_worker_of_a_hosted_app_checks_again(hosted: None, store: Store) -> None:
    engine = scripted.ScriptedEngine()
    run_id = store.create_run(with_changes(RunConfig(), {"backbone": "gpt2"}))
    with pytest.raises(ConfigError, match="not offered on this hosted app"):
        list(play_run(store, run_id, engine=engine))
    row = store.run(run_id)
    assert (row.status, row.rounds_done) == (RunStatus.FAILED, 0)
    assert row.message == "backbone: 'gpt2' is not offered on this hosted app; give demo."


def test_visitors_can_change_only_their_own_runs(hosted: None, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    row = store.run(store.create_run(RunConfig(), owner=ME))
    assert session.may_change(row, ME) and not session.may_change(row, OTHER)
    session.require_may_change(row, ME)
    with pytest.raises(StoreError, match="another visitor's; here it can be watched"):
        session.require_may_change(row, OTHER)
    monkeypatch.delenv("PWFF_HOSTED")
    session.require_may_change(row, OTHER)  # at home whoever sits there may


# ---- another visitor's run, on the pages ------------------------------------------------------------------------


def test_another_visitor_s_run_can_only_be_watched(hosted: None, store: Store, launched: list[object]) -> None:
    run_id = store.create_run(with_changes(RunConfig(), {"clients": 2}), owner=OTHER)
    store.claim(run_id)
    store.describe(run_id, (scripted.profile(0), scripted.profile(1)), (), 3)
    store.append(run_id, scripted.record(1, run_id))
    page = opened(run_id)
    assert not any(can_press(page, key) for key in ("pause", "stop", "take-over"))
    store.finish(run_id, RunStatus.STOPPED)
    page = opened(run_id)
    assert not any(can_press(page, key) for key in ("go-on", "fork", "pause", "stop"))


def test_another_visitor_s_queued_run_cannot_be_cancelled(hosted: None, store: Store, launched: list[object]) -> None:
    waiting = [store.create_run(RunConfig(), in_queue=True, owner=OTHER) for _ in range(2)]
    page = opened(waiting[0])
    assert not any(can_press(page, f"cancel:{run_id}") for run_id in waiting)


# ---- uploads ----------------------------------------------------------------------------------------------------


class SentFile:
    """A file as the browser sends it."""

    def __init__(self, name: str, content: bytes) -> None:
        self.name, self._content = name, content

    def getvalue(self) -> bytes:
        return self._content


def upload(name: str, content: bytes) -> None:
    """The page of an upload box, and a file that has just come in."""
    import streamlit as st

    from pages.settings import panel, uploads
    from tests.safety.test_hosted_pages import SentFile

    if not panel.ready():
        panel.adopt(panel.preset_config("demo"))
        st.session_state["uploads:file:x"], st.session_state["uploads:drawn"] = SentFile(name, content), 0
        uploads.keep_file("uploads:file:x")
    uploads.draw()
    st.code(st.session_state["knob:data.source"])


@pytest.mark.parametrize("name", ["rows.csv", "../../<img src=x onerror=alert(1)> [a](b) $x$.csv"])
def test_an_upload_becomes_the_data_source(hosted: None, store: Store, name: str) -> None:
    page = AppTest.from_function(upload, args=(name, b"instruction,output\n")).run()
    assert not page.exception
    source = page.code[0].value
    assert uploads.is_reference(source)
    assert [path.name for path in RunFiles(store.path).uploads.iterdir()] == [source.removeprefix("upload:")]
    caption = page.caption[0].value
    assert caption.startswith("The next run learns from") and caption.replace("\\<img", "").count("<img") == 0
    limits.check(with_changes(RunConfig(), {"data.source": source}))
    page.button(key="uploads:back").click().run()
    assert page.code[0].value == "demo"


def test_a_bad_upload_shows_an_error_and_changes_nothing(store: Store) -> None:
    page = AppTest.from_function(upload, args=("rows.exe", b"MZ")).run()
    assert page.error[0].value.replace("\\", "") == (
        "A file to upload ends in .json, .jsonl, .csv, .parquet; this one does not. Rename it, or write it as one of "
        "them."
    )
    assert page.code[0].value == "demo"


def test_a_long_or_unprintable_name_is_shown_short() -> None:
    assert uploads_widget.short_name("a\u202e\n.csv") == "a��.csv"
    assert len(uploads_widget.short_name("x" * 10_000)) == 60
