"""The Clients page driven without a browser: a real store with a scripted run, and a process that talks by formula."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

import pages.run.chat as chat_page
from pages.run.chat import conversation, score_words, telling_clients, weight_words
from pwff_core.config import RunConfig
from pwff_core.knobs import with_changes
from pwff_core.records import ClientProfile
from pwff_core.runs.chat import Answer, ChatClient
from pwff_core.runs.run_files import RunFiles
from pwff_core.runs.store import RunStatus, Store
from tests.support.scripted import WEIGHTS, whole_run

ROOT = Path(__file__).resolve().parents[2]
PAGE = str(ROOT / "pages" / "clients.py")
FAKE = "tests.support.fake_chat_server"
CONFIG = with_changes(
    RunConfig(), {"clients": 5, "instruction.rounds": 3, "reward.rounds": 2, "alignment.rounds": 4}
)  # fmt: skip
HEAD = (
    '{"moments": ["before", "after"], "prompts": {"delicate": ["How do I fake a card?", "Pick a lock?", "Lie?", "a",'
    ' "b"], "ordinary": ["Boil an egg?"]}}'
)


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    path = tmp_path / "runs.sqlite"
    monkeypatch.setenv("PWFF_STORE", str(path))
    monkeypatch.setattr(chat_page, "ChatClient", partial(ChatClient, module=FAKE))
    yield Store(path)
    conversation.clear()


def profile(client: int, weight: float) -> ClientProfile:
    return ClientProfile(
        client=client, helpfulness_weight=weight, device_class="mid", lora_modules=8, train_examples=40,
        validation_examples=8, test_examples=40, topics={"garden": 3},
        style={"opener": "Sure!", "units": "metric"} if client else {},
    )  # fmt: skip


def played(store: Store, config: RunConfig = CONFIG, rounds: int = 9, head: str | None = HEAD) -> str:
    """A run with its first rounds, claimed by this process; its models are kept if `head` says what there is."""
    run_id = store.create_run(config)
    store.claim(run_id)
    store.describe(run_id, [profile(client, weight) for client, weight in enumerate(WEIGHTS)], [], 9)
    for record in whole_run(run_id)[:rounds]:
        store.append(run_id, record)
    if head is not None:
        folder = RunFiles(store.path).models(run_id)
        folder.mkdir(parents=True)
        (folder / "saved.json").write_text(head, encoding="utf-8")
    return run_id


def finished(store: Store, config: RunConfig = CONFIG, head: str | None = HEAD) -> str:
    run_id = played(store, config, head=head)
    store.finish(run_id, RunStatus.FINISHED)
    return run_id


def opened(run: str | None = None) -> AppTest:
    page = AppTest.from_file(PAGE, default_timeout=30)
    if run is not None:
        page.query_params["run"] = run
    return shown(page.run())


def shown(page: AppTest) -> AppTest:
    assert not page.exception, page.exception
    return page


def address(page: AppTest) -> str | None:
    value = page.query_params.get("run")
    return value[0] if isinstance(value, list) else value


def texts(page: AppTest) -> str:
    parts = [*page.markdown, *page.caption, *page.error, *page.warning, *page.info, *page.subheader]
    return "\n".join(str(part.value) for part in parts).replace("\\", "")


def asked(page: AppTest, instruction: str) -> AppTest:
    page.text_input("ask:instruction").set_value(instruction)
    return shown(page.button("ask:ask").click().run())


def slider(page: AppTest) -> object:
    return next(found for found in page.slider if found.label.startswith("Round of alignment"))


def table(page: AppTest) -> list[int]:
    return list(next(frame.value for frame in page.dataframe)["Client"])


# which run


def test_an_empty_store_says_where_to_start_and_shows_the_recorded_demo(store: Store) -> None:
    page = opened()
    assert "No run yet. Start one on the **Live** page" in texts(page)
    assert address(page) == "recorded"
    assert slider(page).value == 7 and table(page) == [*range(10)]  # client 0 wishes helpfulness most
    assert "so nobody can be asked here" in texts(page) and not page.button("plane-play").disabled
    assert all(button.key != "ask:ask" for button in page.button)


def test_the_recorded_demo_can_be_chosen_beside_runs_of_ones_own(store: Store) -> None:
    run_id = finished(store)
    page = opened("recorded")
    assert "This run is **recorded**" in texts(page) and "No run yet" not in texts(page)
    page = shown(page.selectbox("clients:run").set_value(run_id).run())
    assert address(page) == run_id and "**recorded**" not in texts(page)


def test_the_address_of_a_deleted_run_gets_a_notice(store: Store) -> None:
    kept, gone = finished(store), finished(store)
    store.delete(gone)
    page = opened(gone)
    assert f"Run {gone} was deleted." in texts(page) and address(page) == kept


def test_without_an_address_the_newest_run_that_finished_with_alignment_is_shown(store: Store) -> None:
    older, newest = finished(store), finished(store)
    finished(store, with_changes(CONFIG, {"method": "fedada"}))
    played(store)
    assert address(opened()) == newest
    assert address(opened(older)) == older


def test_without_a_finished_run_one_that_is_going_is_shown(store: Store) -> None:
    going = played(store)
    store.finish(played(store), RunStatus.FAILED, "No memory.")
    assert address(opened()) == going


def test_another_run_can_be_chosen(store: Store) -> None:
    older, newest = finished(store), finished(store)
    page = opened()
    assert address(page) == newest
    page = shown(page.selectbox("clients:run").set_value(older).run())
    assert address(page) == older


@pytest.mark.parametrize("bad", ["nosuchru", "DROP TABLE runs; --", "**bold**"])
def test_an_address_of_no_run_gets_a_notice_and_the_best_run(store: Store, bad: str) -> None:
    run_id = finished(store)
    page = opened(bad)
    assert f"There is no run {bad!r} in {store.path};" in texts(page)
    assert address(page) == run_id
    assert "There is no run" not in texts(shown(page.run()))


def test_a_store_that_cannot_be_opened_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "letter.sqlite"
    path.write_text("Dear reader, this is no database. " * 100)
    monkeypatch.setenv("PWFF_STORE", str(path))
    assert "letter.sqlite is not a store of runs" in texts(opened())


# the plane


def test_a_finished_run_is_shown_after_its_last_round_and_at_any_other(store: Store) -> None:
    page = opened(finished(store))
    assert slider(page).value == 4 and slider(page).max == 4
    assert table(page) == [4, 3, 2, 1, 0]
    gains = next(frame.value for frame in page.dataframe)["Gain [sd]"].tolist()
    assert gains == pytest.approx([1, 0.625, 0.5, 0.625, 1])  # λ² + (1 − λ)²
    page = shown(slider(page).set_value(0).run())
    assert next(frame.value for frame in page.dataframe)["Gain [sd]"].tolist() == [0] * 5


def test_a_run_that_is_going_is_followed(store: Store) -> None:
    run_id = played(store, rounds=6)
    page = opened(run_id)
    assert slider(page).value == 4  # its right end: as far as there are rounds
    assert next(frame.value for frame in page.dataframe)["Weighted [sd]"].tolist()[0] == pytest.approx(0.25)
    store.append(run_id, whole_run(run_id)[6])
    page = shown(page.run())
    assert next(frame.value for frame in page.dataframe)["Weighted [sd]"].tolist()[0] == pytest.approx(0.5)
    assert slider(page).value == 4


def test_before_the_judge_has_scored_there_is_nothing_to_draw(store: Store) -> None:
    page = opened(played(store, rounds=4))
    assert "The judge first scores the clients before alignment begins" in texts(page)
    assert not page.dataframe


def test_playing_goes_from_before_alignment_to_the_newest_round_and_ends(store: Store) -> None:
    page = opened(finished(store))
    page = shown(page.button("plane-play").click().run())
    seen = [slider(page).value]
    for _ in range(8):
        page = shown(page.run())
        seen.append(slider(page).value)
    assert seen[:5] == sorted(seen[:5]) and seen[-1] == 4 and 0 <= seen[0] < 4
    assert not page.button("plane-play").disabled


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"method": "fedada"}, "FedAda ends after instruction tuning; choose a run of PWFF, SFL, PFL or Shepherd."),
        ({"alignment.rounds": 0}, "Its settings leave alignment out"),
    ],
)
def test_a_run_without_alignment_says_why_there_is_no_plane(
    store: Store, changes: dict[str, object], said: str
) -> None:
    page = opened(finished(store, with_changes(CONFIG, changes)))
    assert said in texts(page)
    assert not page.slider or all(not found.label.startswith("Round") for found in page.slider)


# asking


def test_four_telling_clients_are_chosen_at_first(store: Store) -> None:
    page = opened(finished(store))
    assert page.multiselect(f"ask:clients:{address(page)}").value == [4, 3, 1, 0]


def test_answers_stand_side_by_side_with_scores_and_wishes(store: Store) -> None:
    page = asked(opened(finished(store)), "How are you?")
    said = texts(page)
    for client, wish in ((4, "100 % helpful, 0 % harmless"), (1, "25 % helpful, 75 % harmless")):
        assert f"**Client {client}** · {wish}" in said
        assert f"{client} on How are you?" in said
    assert "House style: Sure! · metric" in said and "House style: none of its own" in said
    assert "Helpfulness **+0.40** · harmlessness **+0.60** · weighted **+0.50** sd" in said
    assert said.count("Refuses") == 2 and said.count(":blue-badge") == 2  # odd clients refuse


def test_a_suggestion_goes_into_the_box(store: Store) -> None:
    page = opened(finished(store))
    picks = {group.label: group for group in page.get("button_group") if group.label}
    delicate = picks["Delicate prompts to try"]
    assert list(delicate.options) == ["How do I fake a card?", "Pick a lock?", "Lie?", "a"]
    page = shown(delicate.set_value("Pick a lock?").run())
    assert page.text_input("ask:instruction").value == "Pick a lock?"


def test_both_moments_are_two_cards_a_client(store: Store) -> None:
    page = opened(finished(store))
    next(group for group in page.get("button_group") if group.label == "Models").set_value("both")
    said = texts(asked(page, "hello"))
    assert said.count("Before alignment") == said.count("After alignment") == 4
    assert said.count("4 on hello") == 2


def test_earlier_questions_stay_below(store: Store) -> None:
    page = asked(asked(opened(finished(store)), "first *one*"), "second")
    assert "**second**" in texts(page) and "Asked before" in texts(page)
    assert [expander.label.replace("\\", "") for expander in page.expander] == ["first *one*"]
    for number in range(7):
        page = asked(page, f"question {number}")
    assert len(page.expander) == 5


def test_another_runs_answers_are_not_shown(store: Store) -> None:
    other, run_id = finished(store), finished(store)
    page = asked(opened(run_id), "hello")
    page = shown(page.selectbox("clients:run").set_value(other).run())
    assert "4 on hello" not in texts(page)
    page = shown(page.selectbox("clients:run").set_value(run_id).run())
    assert "4 on hello" in texts(page)


def test_an_empty_answer_and_a_cut_instruction_are_said(store: Store) -> None:
    page = asked(opened(finished(store)), "say nothing")
    assert texts(page).count("*An empty answer: the model ended at once.*") == 4
    page = asked(page, "much")
    assert "too long for the model: its first 7 tokens were left out." in texts(page)


def test_an_empty_instruction_and_no_clients_ask_nobody(store: Store) -> None:
    page = asked(opened(finished(store)), "  ")
    assert "Type an instruction first, or pick one above." in texts(page)
    page = shown(page.multiselect(f"ask:clients:{address(page)}").set_value([]).run())
    assert page.button("ask:ask").disabled


def test_what_an_answer_says_is_shown_letter_for_letter(store: Store) -> None:
    page = asked(opened(finished(store)), "<script>alert(1)</script> **bold** $x$")
    assert any("4 on \\<script\\>alert\\(1\\)" in str(part.value) for part in page.markdown)


def test_a_process_that_dies_is_told_and_the_next_question_answered(store: Store) -> None:
    page = asked(opened(finished(store)), "die")
    assert "The models stopped without an answer (exit code 9)" in texts(page)
    assert "4 on hello" in texts(asked(page, "hello"))


def test_models_as_the_run_left_them_can_be_asked_without_alignment(store: Store) -> None:
    head = '{"moments": ["after"], "prompts": {"delicate": [], "ordinary": []}}'
    page = opened(finished(store, with_changes(CONFIG, {"method": "fedada"}), head))
    assert "The models as the run left them; it did not align them." in texts(page)
    assert "4 on hello" in texts(asked(page, "hello"))


@pytest.mark.parametrize("ended", [True, False])
def test_a_run_whose_models_are_not_kept_says_what_to_do(store: Store, ended: bool) -> None:
    run_id = played(store, head=None)
    if ended:
        store.finish(run_id, RunStatus.FAILED, "No memory.")
    said = texts(opened(run_id))
    assert ("The models of this run are not kept" in said) == ended
    assert ("can be asked once the run has ended" in said) != ended


# small parts


def test_telling_clients_are_both_extremes_and_two_between() -> None:
    weights = [0.5, 0.1, 0.9, 0.3, 0.7, 0.2, 0.8]
    profiles = tuple(profile(client, weight) for client, weight in enumerate(weights))
    assert telling_clients(profiles) == [2, 4, 3, 1]  # 0.9, 0.7, 0.3, 0.1
    assert telling_clients(profiles[:2]) == [0, 1]


def test_weights_in_words() -> None:
    assert weight_words(0.9) == "90 % helpful, 10 % harmless"
    assert weight_words(0.005) == "0 % helpful, 100 % harmless"


def test_without_a_judge_scores_say_so() -> None:
    answer = Answer(
        client=0, when="after", text="hi", helpfulness=None, harmlessness=None, reward=None, ended=True, refused=False
    )
    assert score_words(answer) == "No scores: this run has no judge."
