"""One request against a server with faults: what is tried again, how long is waited, and what a person is told."""

from __future__ import annotations

import asyncio
import json
import socket

import pytest

from pwff_core.errors import RankingError
from pwff_core.tools.rank.address import Server
from pwff_core.tools.rank.client import RETRIES, Ranker
from pwff_core.tools.rank.prompt import Question
from pwff_core.tools.rank.requests import NotAnswered, Reply
from tests.support.ranking_samples import KEY
from tests.support.ranking_server import Fault, Loopback, failure

QUESTION = Question("helpfulness", "Why?", "Because of this.", "No.")
ANSWER = Reply("first", 100, 1)


def ask(loopback: Loopback, key: str = "", times: int = 1, timeout_s: float = 10.0, url: str = "") -> list[Reply]:
    """Replies to the same question, one after another."""

    async def all_of_them() -> list[Reply]:
        async with Ranker(Server(url or loopback.url, key), "small", timeout_s, 512) as ranker:
            return [await ranker.answer(QUESTION) for _ in range(times)]

    return asyncio.run(all_of_them())


def problem(
    loopback: Loopback, key: str = "", timeout_s: float = 10.0, url: str = ""
) -> tuple[type[RankingError], str]:
    """The kind of error, and its sentence without the server's address."""
    with pytest.raises(RankingError) as caught:
        ask(loopback, key, timeout_s=timeout_s, url=url)
    assert "\n" not in str(caught.value)
    return type(caught.value), str(caught.value).replace(loopback.url.removesuffix("/v1"), "HOST")


def test_a_question_and_its_answer(loopback: Loopback) -> None:
    assert ask(loopback) == [ANSWER]
    (body,) = loopback.bodies
    messages = [{"role": role, "content": text} for role, text in QUESTION.messages()]
    assert body == {"model": "small", "messages": messages, "temperature": 0.0, "max_tokens": 512}


def test_the_key_goes_into_its_header_and_nowhere_else(loopback: Loopback) -> None:
    ask(loopback, KEY)
    ask(loopback)
    assert [headers["authorization"] for headers in loopback.headers] == [f"Bearer {KEY}", "Bearer none"]
    rest = [{name: value for name, value in one.items() if name != "authorization"} for one in loopback.headers]
    assert KEY not in json.dumps([rest, loopback.bodies])


def test_no_proxy_sees_what_stays_on_this_computer(loopback: Loopback, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    monkeypatch.setenv("NO_PROXY", "")
    assert ask(loopback, KEY) == [ANSWER]


def test_a_server_that_counts_no_tokens(loopback: Loopback) -> None:
    loopback.usage = False
    assert ask(loopback) == [Reply("first", None, None)]


def test_an_unreadable_answer_is_told_cleaned(loopback: Loopback) -> None:
    loopback.verdict = lambda question: f"Well,\nthe key is {KEY}" + "!" * 300
    (reply,) = ask(loopback, KEY)
    assert reply.verdict == "unreadable"
    assert reply.said.startswith("Well, the key is [key]!!!") and len(reply.said) == 200


# what is tried again


def test_the_wait_that_the_server_names_is_kept_to(loopback: Loopback, waits: list[float]) -> None:
    loopback.faults = {
        0: failure(429, "Slow down.", ("Retry-After", "7")),
        1: failure(429, "", ("Retry-After-Ms", "1500")),
    }
    assert ask(loopback) == [ANSWER]
    assert waits == [7.0, 1.5]
    assert len(loopback.bodies) == 3


def test_without_a_named_wait_it_is_doubled_less_a_random_quarter(loopback: Loopback, waits: list[float]) -> None:
    loopback.faults = dict.fromkeys(range(RETRIES), failure(429))
    assert ask(loopback) == [ANSWER]
    assert len(waits) == RETRIES
    for wait, most in zip(waits, (0.5, 1.0, 2.0, 4.0, 8.0, 8.0), strict=True):
        assert 0.75 * most <= wait <= most


@pytest.mark.parametrize("fault", [failure(500), failure(503), failure(408), Fault(cut=True), Fault(502, b"<html>")])
def test_what_may_pass_is_tried_again(loopback: Loopback, waits: list[float], fault: Fault) -> None:
    loopback.faults = {0: fault, 1: fault}
    assert ask(loopback) == [ANSWER]
    assert (len(loopback.bodies), len(waits)) == (3, 2)


def test_a_slow_answer_is_asked_for_again(loopback: Loopback, waits: list[float]) -> None:
    loopback.faults = {0: Fault(silent=True)}
    assert ask(loopback, timeout_s=1.0) == [ANSWER]
    assert (len(loopback.bodies), len(waits)) == (2, 1)


# what is given up


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (failure(500, "Out of\nmemory."), "HOST answered with status 500. It says: Out of memory."),
        (failure(503), "HOST answered with status 503."),
        (
            Fault(cut=True),
            "HOST cannot be reached or cut the connection (Server disconnected without sending a response.).",
        ),
    ],
)
def test_after_the_retries_a_request_has_failed(
    loopback: Loopback, waits: list[float], fault: Fault, said: str
) -> None:
    loopback.always(fault)
    assert problem(loopback) == (NotAnswered, said)
    assert (len(loopback.bodies), len(waits)) == (RETRIES + 1, RETRIES)


def test_silence_to_the_end(loopback: Loopback, waits: list[float]) -> None:
    loopback.always(Fault(silent=True))
    said = "HOST did not answer in time; a longer --timeout-s may help."
    assert problem(loopback, timeout_s=0.02) == (NotAnswered, said)


def test_a_server_that_is_not_there(loopback: Loopback, waits: list[float]) -> None:
    with socket.socket() as taken:  # bound, but nobody listens
        taken.bind(("127.0.0.1", 0))
        origin = f"http://127.0.0.1:{taken.getsockname()[1]}"
        kind, said = problem(loopback, url=f"{origin}/v1")
    assert (kind, len(waits)) == (NotAnswered, RETRIES)
    assert said == f"{origin} cannot be reached or cut the connection (All connection attempts failed)."


@pytest.mark.parametrize(
    "body", [b"<html>hello</html>", b"{", b"", b"[]", b"null", b"3", b'{"choices": []}', b'{"choices": [{}]}', b'"A"']
)
def test_a_body_that_is_no_completion(loopback: Loopback, body: bytes) -> None:
    loopback.always(Fault(200, body))
    said = "HOST answered with something that is no chat completion; is its address right?"
    assert problem(loopback) == (NotAnswered, said)
    assert len(loopback.bodies) == 1


def test_an_answer_without_text_is_unreadable(loopback: Loopback) -> None:
    loopback.always(Fault(200, b'{"choices": [{"message": {"role": "assistant", "content": null}}]}'))
    assert ask(loopback) == [Reply("unreadable", None, None)]


def test_one_request_that_is_too_long_says_nothing_of_others(loopback: Loopback) -> None:
    loopback.always(failure(400, "This model's context is 64 tokens."))
    said = "HOST answered with status 400. It says: This model's context is 64 tokens."
    assert problem(loopback) == (NotAnswered, said)


# what no other request can mend


@pytest.mark.parametrize(
    ("status", "key", "said"),
    [
        (401, KEY, "HOST does not accept the key in $OPENAI_API_KEY (status 401). It says: Wrong key [key]."),
        (403, KEY, "HOST does not accept the key in $OPENAI_API_KEY (status 403). It says: Wrong key [key]."),
        (401, "", "HOST wants a $OPENAI_API_KEY (status 401). It says: Wrong key [key]."),
        (402, KEY, "HOST answered with status 402. It says: Wrong key [key]."),
    ],
)
def test_a_key_that_is_refused_is_not_repeated(loopback: Loopback, status: int, key: str, said: str) -> None:
    loopback.always(failure(status, f"Wrong key {KEY}."))
    assert problem(loopback, key) == (RankingError, said)
    assert len(loopback.bodies) == 1


def test_a_model_that_is_not_there(loopback: Loopback) -> None:
    loopback.always(failure(404, "The model does not exist."))
    lead = "HOST knows no model 'small' at this address (404)."
    assert problem(loopback) == (RankingError, f"{lead} It has small, large.")
    loopback.models = [f"m{number}" for number in range(9)]
    assert problem(loopback)[1] == f"{lead} It has m0, m1, m2, m3, m4, m5, m6, m7, …."
    for body in (failure(404), Fault(200, b"[]"), Fault(200, b"hello")):
        loopback.models = body
        assert problem(loopback)[1] == f"{lead} Check --model and --server; most addresses end in /v1."


def test_an_address_without_its_path(loopback: Loopback) -> None:
    said = "HOST knows no model 'small' at this address (404). Check --model and --server; most addresses end in /v1."
    assert problem(loopback, url=loopback.url.removesuffix("/v1")) == (RankingError, said)


def test_a_rate_limit_that_lasts(loopback: Loopback, waits: list[float]) -> None:
    loopback.always(failure(429, "Your quota is used up.", ("x-should-retry", "false")))
    said = "HOST takes no more requests for now (429); call again later. It says: Your quota is used up."
    assert problem(loopback) == (RankingError, said)
    loopback.always(failure(429, "Your quota is used up.", ("Retry-After", "600")))
    assert problem(loopback) == (RankingError, said)
    assert (len(loopback.bodies), waits) == (2, [])


def test_a_redirect_is_not_followed(loopback: Loopback) -> None:
    loopback.always(Fault(307, b"", (("Location", f"{loopback.url}/chat/completions"),)))
    assert problem(loopback, KEY) == (RankingError, "HOST answered with status 307.")
    assert len(loopback.bodies) == 1


# options that a model does not know


def test_a_reasoning_model_s_options_are_found_out_once(loopback: Loopback) -> None:
    loopback.faults = {
        0: failure(400, "Use 'max_completion_tokens'.", param="max_tokens", code="unsupported_parameter"),
        1: failure(400, "Only the default is supported.", param="temperature", code="unsupported_value"),
    }
    assert ask(loopback, times=2) == [ANSWER, ANSWER]
    sent = [{name for name in body if name not in ("model", "messages")} for body in loopback.bodies]
    assert sent == [{"temperature", "max_tokens"}, {"temperature", "max_completion_tokens"}] + 2 * [
        {"max_completion_tokens"}
    ]
    assert loopback.bodies[-1]["max_completion_tokens"] == 512


def test_another_parameter_s_fault_is_told(loopback: Loopback) -> None:
    loopback.always(failure(400, "No such role.", param="messages"))
    assert problem(loopback) == (NotAnswered, "HOST answered with status 400. It says: No such role.")
    assert len(loopback.bodies) == 1
