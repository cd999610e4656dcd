"""One request to a server with faults: retries, the waits before them, and the error at the end."""

from __future__ import annotations

import asyncio
import json
import socket

import pytest

from pwff_core.errors import RankingError
from pwff_core.tools.rank.client import RETRIES, RankingClient, Server
from pwff_core.tools.rank.prompt import Comparison
from pwff_core.tools.rank.requests import Reply, RequestError
from tests.support.ranking_samples import KEY
from tests.support.ranking_server import Fault, Loopback, failure

COMPARISON = Comparison("helpfulness", "Why?", "Because of this.", "No.")
ANSWER = Reply("first", 100, 1)


def ask(loopback: Loopback, key: str = "", times: int = 1, timeout_s: float = 10.0, url: str = "") -> list[Reply]:
    """Replies to the same comparison, one after another."""

    async def ask_all() -> list[Reply]:
        async with RankingClient(Server(url or loopback.url, key), "small", timeout_s, 512) as client:
            return [await client.compare(COMPARISON) for _ in range(times)]

    return asyncio.run(ask_all())


def problem(
    loopback: Loopback, key: str = "", timeout_s: float = 10.0, url: str = ""
) -> tuple[type[RankingError], str]:
    """The kind of error, and its sentence without the server's address."""
    with pytest.raises(RankingError) as caught:
        ask(loopback, key, timeout_s=timeout_s, url=url)
    assert "\n" not in str(caught.value)
    return type(caught.value), str(caught.value).replace(loopback.url.removesuffix("/v1"), "HOST")


def test_a_request_and_its_reply(loopback: Loopback) -> None:
    assert ask(loopback) == [ANSWER]
    (body,) = loopback.bodies
    messages = [{"role": role, "content": text} for role, text in COMPARISON.messages()]
    assert body == {"model": "small", "messages": messages, "temperature": 0.0, "max_tokens": 512}


def test_the_key_is_in_its_header_alone(loopback: Loopback) -> None:
    ask(loopback, KEY)
    ask(loopback)
    assert [headers["authorization"] for headers in loopback.headers] == [f"Bearer {KEY}", "Bearer none"]
    rest = [{name: value for name, value in headers.items() if name != "authorization"} for headers in loopback.headers]
    assert KEY not in json.dumps([rest, loopback.bodies])


def test_a_local_server_is_reached_without_a_proxy(loopback: Loopback, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    monkeypatch.setenv("NO_PROXY", "")
    assert ask(loopback, KEY) == [ANSWER]


def test_a_server_that_counts_no_tokens(loopback: Loopback) -> None:
    loopback.usage = False
    assert ask(loopback) == [Reply("first", None, None)]


def test_an_unreadable_answer_is_cleaned(loopback: Loopback) -> None:
    loopback.verdict = lambda comparison: f"Well,\nthe key is {KEY}" + "!" * 300
    (reply,) = ask(loopback, KEY)
    assert reply.verdict == "unreadable"
    assert reply.said.startswith("Well, the key is [key]!!!") and len(reply.said) == 200


# retries


def test_the_server_s_retry_after_is_obeyed(loopback: Loopback, waits: list[float]) -> None:
    loopback.faults = {
        0: failure(429, "Slow down.", ("Retry-After", "7")),
        1: failure(429, "", ("Retry-After-Ms", "1500")),
    }
    assert ask(loopback) == [ANSWER]
    assert waits == [7.0, 1.5]
    assert len(loopback.bodies) == 3


def test_without_retry_after_the_wait_doubles_less_a_random_quarter(loopback: Loopback, waits: list[float]) -> None:
    loopback.faults = dict.fromkeys(range(RETRIES), failure(429))
    assert ask(loopback) == [ANSWER]
    assert len(waits) == RETRIES
    for wait, most in zip(waits, (0.5, 1.0, 2.0, 4.0, 8.0, 8.0), strict=True):
        assert 0.75 * most <= wait <= most


@pytest.mark.parametrize("fault", [failure(500), failure(503), failure(408), Fault(cut=True), Fault(502, b"<html>")])
def test_a_passing_fault_is_retried(loopback: Loopback, waits: list[float], fault: Fault) -> None:
    loopback.faults = {0: fault, 1: fault}
    assert ask(loopback) == [ANSWER]
    assert (len(loopback.bodies), len(waits)) == (3, 2)


def test_a_slow_answer_is_requested_again(loopback: Loopback, waits: list[float]) -> None:
    loopback.faults = {0: Fault(silent=True)}
    assert ask(loopback, timeout_s=1.0) == [ANSWER]
    assert (len(loopback.bodies), len(waits)) == (2, 1)


# failed requests


@pytest.mark.parametrize(
    ("fault", "message"),
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
    loopback: Loopback, waits: list[float], fault: Fault, message: str
) -> None:
    loopback.always(fault)
    assert problem(loopback) == (RequestError, message)
    assert (len(loopback.bodies), len(waits)) == (RETRIES + 1, RETRIES)


def test_a_server_that_stays_silent(loopback: Loopback, waits: list[float]) -> None:
    loopback.always(Fault(silent=True))
    message = "HOST did not answer in time; a longer --timeout-s may help."
    assert problem(loopback, timeout_s=0.02) == (RequestError, message)


def test_a_server_that_is_not_there(loopback: Loopback, waits: list[float]) -> None:
    with socket.socket() as silent:  # bound, but nobody listens
        silent.bind(("127.0.0.1", 0))
        origin = f"http://127.0.0.1:{silent.getsockname()[1]}"
        kind, message = problem(loopback, url=f"{origin}/v1")
    assert (kind, len(waits)) == (RequestError, RETRIES)
    assert message == f"{origin} cannot be reached or cut the connection (All connection attempts failed)."


@pytest.mark.parametrize(
    "body", [b"<html>hello</html>", b"{", b"", b"[]", b"null", b"3", b'{"choices": []}', b'{"choices": [{}]}', b'"A"']
)
def test_a_body_that_is_no_completion(loopback: Loopback, body: bytes) -> None:
    loopback.always(Fault(200, body))
    message = "HOST answered with something that is no chat completion; is its address right?"
    assert problem(loopback) == (RequestError, message)
    assert len(loopback.bodies) == 1


def test_an_answer_without_text_is_unreadable(loopback: Loopback) -> None:
    loopback.always(Fault(200, b'{"choices": [{"message": {"role": "assistant", "content": null}}]}'))
    assert ask(loopback) == [Reply("unreadable", None, None)]


def test_a_request_that_is_too_long_fails_alone(loopback: Loopback) -> None:
    loopback.always(failure(400, "This model's context is 64 tokens."))
    message = "HOST answered with status 400. It says: This model's context is 64 tokens."
    assert problem(loopback) == (RequestError, message)


# errors of every request


@pytest.mark.parametrize(
    ("status", "key", "message"),
    [
        (401, KEY, "HOST does not accept the key in $OPENAI_API_KEY (status 401). It says: Wrong key [key]."),
        (403, KEY, "HOST does not accept the key in $OPENAI_API_KEY (status 403). It says: Wrong key [key]."),
        (401, "", "HOST wants a $OPENAI_API_KEY (status 401). It says: Wrong key [key]."),
        (402, KEY, "HOST answered with status 402. It says: Wrong key [key]."),
    ],
)
def test_a_key_that_is_refused_is_not_repeated(loopback: Loopback, status: int, key: str, message: str) -> None:
    loopback.always(failure(status, f"Wrong key {KEY}."))
    assert problem(loopback, key) == (RankingError, message)
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


def test_an_address_without_v1(loopback: Loopback) -> None:
    message = (
        "HOST knows no model 'small' at this address (404). Check --model and --server; most addresses end in /v1."
    )
    assert problem(loopback, url=loopback.url.removesuffix("/v1")) == (RankingError, message)


def test_a_rate_limit_that_lasts(loopback: Loopback, waits: list[float]) -> None:
    loopback.always(failure(429, "Your quota is used up.", ("x-should-retry", "false")))
    message = "HOST takes no more requests for now (429); call again later. It says: Your quota is used up."
    assert problem(loopback) == (RankingError, message)
    loopback.always(failure(429, "Your quota is used up.", ("Retry-After", "600")))
    assert problem(loopback) == (RankingError, message)
    assert (len(loopback.bodies), waits) == (2, [])


def test_a_redirect_is_not_followed(loopback: Loopback) -> None:
    loopback.always(Fault(307, b"", (("Location", f"{loopback.url}/chat/completions"),)))
    assert problem(loopback, KEY) == (RankingError, "HOST answered with status 307.")
    assert len(loopback.bodies) == 1


# options that a model does not take


def test_a_reasoning_model_s_options_are_learned_once(loopback: Loopback) -> None:
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


def test_a_fault_of_another_parameter_is_reported(loopback: Loopback) -> None:
    loopback.always(failure(400, "No such role.", param="messages"))
    assert problem(loopback) == (RequestError, "HOST answered with status 400. It says: No such role.")
    assert len(loopback.bodies) == 1
