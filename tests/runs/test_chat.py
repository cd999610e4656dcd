"""The chat client of a page and its process, here one without models."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest
from pydantic import ValidationError

from pwff_core.errors import ConfigError, EngineError, ModelError
from pwff_core.runs.chat import ChatClient, Question
from pwff_core.runs.run_files import RunFiles

FAKE = "tests.support.fake_chat_server"


@pytest.fixture
def client(tmp_path: Path) -> Iterator[ChatClient]:
    client = ChatClient(tmp_path / "runs.sqlite", "abc", FAKE)
    yield client
    client.close()


def question(instruction: str, *clients: int) -> Question:
    return Question(instruction=instruction, clients=clients or (0,))


def process_id(client: ChatClient) -> int:
    return int(client.ask(question("who are you"))[0].text)


def test_clients_answer_in_the_order_of_the_question(client: ChatClient) -> None:
    first, second = client.ask(question("grüß den Ω-Fluss 🙂", 3, 1))
    assert (first.client, first.text, first.helpfulness, first.refused) == (3, "3 on grüß den Ω-Fluss 🙂", 0.3, True)
    assert (second.client, second.when, second.reward) == (1, "after", 0.5)


def test_one_process_answers_all_questions_until_it_is_closed(client: ChatClient) -> None:
    pid = process_id(client)
    assert process_id(client) == pid
    client.close()
    assert not psutil.pid_exists(pid)
    assert process_id(client) != pid


def test_an_invalid_question_is_an_error_and_the_process_stays(client: ChatClient) -> None:
    pid = process_id(client)
    with pytest.raises(ConfigError, match="^The instruction is empty; type what"):
        client.ask(question(""))
    assert process_id(client) == pid


def test_a_process_that_dies_is_an_error_with_its_log_tail_and_is_replaced(client: ChatClient, tmp_path: Path) -> None:
    with pytest.raises(EngineError) as caught:
        client.ask(question("die"))
    assert str(caught.value) == (
        "The models stopped without an answer (exit code 9): It starts. Nothing is wrong. · Out of memory · Killed. "
        f"Ask again; the full report is in {tmp_path / 'logs' / 'abc.talk.log'}."
    )
    assert client.ask(question("hello"))[0].text == "0 on hello"


def test_an_answer_that_takes_too_long_ends_the_process(client: ChatClient) -> None:
    pid = process_id(client)
    start = time.monotonic()
    with pytest.raises(EngineError, match="^The models took too long to answer and were stopped;"):
        client.ask(question("sleep"), timeout_s=0.3)
    assert time.monotonic() - start < 5
    assert not psutil.pid_exists(pid)
    assert client.ask(question("hello"))[0].text == "0 on hello"  # not the answer to the earlier question


def test_a_process_that_ended_when_idle_is_started_again(client: ChatClient) -> None:
    pid = process_id(client)
    client.ask(question("leave"))
    while psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
        time.sleep(0.01)
    assert process_id(client) != pid


def test_models_that_cannot_be_loaded_are_reported(tmp_path: Path) -> None:
    client = ChatClient(tmp_path / "runs.sqlite", "unloadable", FAKE)
    with pytest.raises(ModelError, match=r"^There are no models in this folder\.$"):
        client.ask(question("hello"))


def test_a_missing_program_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", str(tmp_path / "nothing"))
    with pytest.raises(EngineError, match=r"^The models cannot be started \(.*No such file"):
        ChatClient(tmp_path / "runs.sqlite", "abc").ask(question("hello"))


def test_two_browsers_each_get_their_own_answers(client: ChatClient) -> None:
    texts = [f"question {number}" for number in range(20)]
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda text: client.ask(question(text, 5))[0].text, texts))
    assert answers == [f"5 on {text}" for text in texts]


def test_the_log_holds_only_the_newest_process(client: ChatClient) -> None:
    process_id(client)
    client.close()
    process_id(client)
    client.close()
    assert RunFiles(client.store_path).chat_log("abc").read_text() == "It starts. Nothing is wrong.\n"


@pytest.mark.parametrize(
    "wrong",
    [{"clients": ()}, {"when": "during"}, {"temperature": -1}, {"temperature": float("nan")}, {"max_new_tokens": 0}],
)
def test_a_question_is_checked_when_it_is_made(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Question.model_validate({"instruction": "hello", "clients": (0,)} | wrong)
