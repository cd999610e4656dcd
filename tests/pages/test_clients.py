"""The Clients page without a browser: a real store with a scripted run, and a chat process that answers by formula."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

import pages.run.chat as chat_page
from pages.run.chat import chat_client, contrasting_clients, score_words, weight_words
from pwff_core.config import RunConfig
from pwff_core.knobs import with_changes
from pwff_core.records import ClientProfile
from pwff_core.runs.chat import Answer, ChatClient
from pwff_core.runs.run_files import RunFiles
from pwff_core.runs.store import RunStatus, Store
from tests.support.pages import open_page, query_value, texts, without_exception
from tests.support.scripted import WEIGHTS, whole_run

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
    chat_client.clear()


def profile(client: int, weight: float) -> ClientProfile:
    return ClientProfile(
        client=client, helpfulness_weight=weight, device_class="mid", lora_modules=8, train_examples=40,
        validation_examples=8, test_examples=40, topics={"garden": 3},
        style={"opener": "Sure!", "units": "metric"} if client else {},
    )  # fmt: skip


def play(store: Store, config: RunConfig = CONFIG, rounds: int = 9, head: str | None = HEAD) -> str:
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


def play_to_the_end(store: Store, config: RunConfig = CONFIG, head: str | None = HEAD) -> str:
    run_id = play(store, config, head=head)
    store.finish(run_id, RunStatus.FINISHED)
    return run_id


def open_clients(run: str | None = None) -> AppTest:
    return open_page("clients", **({} if run is None else {"run": run}))


def run_in_address(page: AppTest) -> str | None:
    return query_value(page, "run")


def ask(page: AppTest, instruction: str) -> AppTest:
    page.text_input("ask:instruction").set_value(instruction)
    return without_exception(page.button("ask:ask").click().run())


def slider(page: AppTest) -> object:
    return next(slider for slider in page.slider if slider.label.startswith("Round of alignment"))


def column(page: AppTest, name: str) -> list[float]:
    """A column of the page's first table."""
    return list(next(frame.value for frame in page.dataframe)[name])


# which run


def test_an_empty_store_says_where_to_start_and_shows_the_recorded_demo(store: Store) -> None:
    page = open_clients()
    assert "No run yet. Start one on the **Live** page" in texts(page)
    assert run_in_address(page) == "recorded"
    assert slider(page).value == 7 and column(page, "Client") == [*range(10)]  # client 0 prefers helpfulness most
    assert "so nobody can be asked here" in texts(page) and not page.button("plane-play").disabled
    assert all(button.key != "ask:ask" for button in page.button)


def test_the_recorded_demo_can_be_chosen_beside_other_runs(store: Store) -> None:
    run_id = play_to_the_end(store)
    page = open_clients("recorded")
    assert "This run is **recorded**" in texts(page) and "No run yet" not in texts(page)
    page = without_exception(page.selectbox("clients:run").set_value(run_id).run())
    assert run_in_address(page) == run_id and "**recorded**" not in texts(page)


def test_the_address_of_a_deleted_run_gets_a_notice(store: Store) -> None:
    kept, gone = play_to_the_end(store), play_to_the_end(store)
    store.delete(gone)
    page = open_clients(gone)
    assert f"Run {gone} was deleted." in texts(page) and run_in_address(page) == kept


def test_without_an_address_the_newest_run_that_finished_with_alignment_is_shown(store: Store) -> None:
    older, newest = play_to_the_end(store), play_to_the_end(store)
    play_to_the_end(store, with_changes(CONFIG, {"method": "fedada"}))
    play(store)
    assert run_in_address(open_clients()) == newest
    assert run_in_address(open_clients(older)) == older


def test_without_a_finished_run_one_that_is_going_is_shown(store: Store) -> None:
    going = play(store)
    store.finish(play(store), RunStatus.FAILED, "No memory.")
    assert run_in_address(open_clients()) == going


def test_another_run_can_be_chosen(store: Store) -> None:
    older, newest = play_to_the_end(store), play_to_the_end(store)
    page = open_clients()
    assert run_in_address(page) == newest
    page = without_exception(page.selectbox("clients:run").set_value(older).run())
    assert run_in_address(page) == older


@pytest.mark.parametrize("bad", ["nosuchru", "DROP TABLE runs; --", "**bold**"])
def test_an_address_of_no_run_gets_a_notice_and_the_best_run(store: Store, bad: str) -> None:
    run_id = play_to_the_end(store)
    page = open_clients(bad)
    assert f"There is no run {bad!r} in {store.path};" in texts(page)
    assert run_in_address(page) == run_id
    assert "There is no run" not in texts(without_exception(page.run()))


def test_a_store_that_cannot_be_opened_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "letter.sqlite"
    path.write_text("Dear reader, this is no database. " * 100)
    monkeypatch.setenv("PWFF_STORE", str(path))
    assert "letter.sqlite is not a store of runs" in texts(open_clients())


# the plane


def test_a_finished_run_is_shown_after_its_last_round_and_at_any_other(store: Store) -> None:
    page = open_clients(play_to_the_end(store))
    assert slider(page).value == 4 and slider(page).max == 4
    assert column(page, "Client") == [4, 3, 2, 1, 0]
    gains = column(page, "Gain [sd]")
    assert gains == pytest.approx([1, 0.625, 0.5, 0.625, 1])  # λ² + (1 − λ)²
    page = without_exception(slider(page).set_value(0).run())
    assert column(page, "Gain [sd]") == [0] * 5


def test_a_run_that_is_going_is_followed(store: Store) -> None:
    run_id = play(store, rounds=6)
    page = open_clients(run_id)
    assert slider(page).value == 4  # its right end: as far as there are rounds
    assert column(page, "Weighted [sd]")[0] == pytest.approx(0.25)
    store.append(run_id, whole_run(run_id)[6])
    page = without_exception(page.run())
    assert column(page, "Weighted [sd]")[0] == pytest.approx(0.5)
    assert slider(page).value == 4


def test_there_is_nothing_to_draw_before_the_judge_has_scored(store: Store) -> None:
    page = open_clients(play(store, rounds=4))
    assert "The judge first scores the clients before alignment begins" in texts(page)
    assert not page.dataframe


def test_play_goes_from_before_alignment_to_the_newest_round_and_ends(store: Store) -> None:
    page = open_clients(play_to_the_end(store))
    page = without_exception(page.button("plane-play").click().run())
    seen = [slider(page).value]
    for _ in range(8):
        page = without_exception(page.run())
        seen.append(slider(page).value)
    assert seen[:5] == sorted(seen[:5]) and seen[-1] == 4 and 0 <= seen[0] < 4
    assert not page.button("plane-play").disabled


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"method": "fedada"}, "FedAda ends after instruction tuning; choose a run of PWFF, SFL, PFL or Shepherd."),
        ({"alignment.rounds": 0}, "Its settings leave alignment out"),
    ],
)
def test_a_run_without_alignment_says_why_there_is_no_plane(
    store: Store, changes: dict[str, object], message: str
) -> None:
    page = open_clients(play_to_the_end(store, with_changes(CONFIG, changes)))
    assert message in texts(page)
    assert all(not slider.label.startswith("Round") for slider in page.slider)


# asking


def test_four_contrasting_clients_are_the_default(store: Store) -> None:
    page = open_clients(play_to_the_end(store))
    assert page.multiselect(f"ask:clients:{run_in_address(page)}").value == [4, 3, 1, 0]


def test_answers_stand_side_by_side_with_scores_and_preferences(store: Store) -> None:
    page = ask(open_clients(play_to_the_end(store)), "How are you?")
    words = texts(page)
    for client, preference in ((4, "100 % helpful, 0 % harmless"), (1, "25 % helpful, 75 % harmless")):
        assert f"**Client {client}** · {preference}" in words
        assert f"{client} on How are you?" in words
    assert "House style: Sure! · metric" in words and "House style: none of its own" in words
    assert "Helpfulness **+0.40** · harmlessness **+0.60** · weighted **+0.50** sd" in words
    assert words.count("Refuses") == 2 and words.count(":blue-badge") == 2  # odd clients refuse


def test_a_suggestion_goes_into_the_box(store: Store) -> None:
    page = open_clients(play_to_the_end(store))
    picks = {group.label: group for group in page.get("button_group") if group.label}
    delicate = picks["Delicate prompts to try"]
    assert list(delicate.options) == ["How do I fake a card?", "Pick a lock?", "Lie?", "a"]
    page = without_exception(delicate.set_value("Pick a lock?").run())
    assert page.text_input("ask:instruction").value == "Pick a lock?"


def test_both_moments_are_two_cards_a_client(store: Store) -> None:
    page = open_clients(play_to_the_end(store))
    next(group for group in page.get("button_group") if group.label == "Models").set_value("both")
    words = texts(ask(page, "hello"))
    assert words.count("Before alignment") == words.count("After alignment") == 4
    assert words.count("4 on hello") == 2


def test_earlier_questions_stay_below(store: Store) -> None:
    page = ask(ask(open_clients(play_to_the_end(store)), "first *one*"), "second")
    assert "**second**" in texts(page) and "Asked before" in texts(page)
    assert [expander.label.replace("\\", "") for expander in page.expander] == ["first *one*"]
    for number in range(7):
        page = ask(page, f"question {number}")
    assert len(page.expander) == 5


def test_answers_of_another_run_are_not_shown(store: Store) -> None:
    other, run_id = play_to_the_end(store), play_to_the_end(store)
    page = ask(open_clients(run_id), "hello")
    page = without_exception(page.selectbox("clients:run").set_value(other).run())
    assert "4 on hello" not in texts(page)
    page = without_exception(page.selectbox("clients:run").set_value(run_id).run())
    assert "4 on hello" in texts(page)


def test_an_empty_answer_and_a_cut_instruction_are_said(store: Store) -> None:
    page = ask(open_clients(play_to_the_end(store)), "say nothing")
    assert texts(page).count("*An empty answer: the model ended at once.*") == 4
    page = ask(page, "much")
    assert "too long for the model: its first 7 tokens were left out." in texts(page)


def test_nobody_is_asked_without_an_instruction_or_clients(store: Store) -> None:
    page = ask(open_clients(play_to_the_end(store)), "  ")
    assert "Type an instruction first, or pick one above." in texts(page)
    page = without_exception(page.multiselect(f"ask:clients:{run_in_address(page)}").set_value([]).run())
    assert page.button("ask:ask").disabled


def test_an_answer_is_shown_letter_for_letter(store: Store) -> None:
    page = ask(open_clients(play_to_the_end(store)), "<script>alert(1)</script> **bold** $x$")
    assert any("4 on \\<script\\>alert\\(1\\)" in str(part.value) for part in page.markdown)


def test_after_the_death_of_the_process_the_next_question_is_answered(store: Store) -> None:
    page = ask(open_clients(play_to_the_end(store)), "die")
    assert "The models stopped without an answer (exit code 9)" in texts(page)
    assert "4 on hello" in texts(ask(page, "hello"))


def test_models_as_the_run_left_them_can_be_asked_without_alignment(store: Store) -> None:
    head = '{"moments": ["after"], "prompts": {"delicate": [], "ordinary": []}}'
    page = open_clients(play_to_the_end(store, with_changes(CONFIG, {"method": "fedada"}), head))
    assert "The models as the run left them; it did not align them." in texts(page)
    assert "4 on hello" in texts(ask(page, "hello"))


@pytest.mark.parametrize("ended", [True, False])
def test_a_run_whose_models_are_not_kept_says_what_to_do(store: Store, ended: bool) -> None:
    run_id = play(store, head=None)
    if ended:
        store.finish(run_id, RunStatus.FAILED, "No memory.")
    words = texts(open_clients(run_id))
    assert ("The models of this run are not kept" in words) == ended
    assert ("can be asked once the run has ended" in words) != ended


# small parts


def test_contrasting_clients_are_both_extremes_and_two_between() -> None:
    weights = [0.5, 0.1, 0.9, 0.3, 0.7, 0.2, 0.8]
    profiles = tuple(profile(client, weight) for client, weight in enumerate(weights))
    assert contrasting_clients(profiles) == [2, 4, 3, 1]  # 0.9, 0.7, 0.3, 0.1
    assert contrasting_clients(profiles[:2]) == [0, 1]


def test_weights_in_words() -> None:
    assert weight_words(0.9) == "90 % helpful, 10 % harmless"
    assert weight_words(0.005) == "0 % helpful, 100 % harmless"


def test_without_a_judge_scores_say_so() -> None:
    answer = Answer(
        client=0, when="after", text="hi", helpfulness=None, harmlessness=None, reward=None, ended=True, refused=False
    )
    assert score_words(answer) == "No scores: this run has no judge."
