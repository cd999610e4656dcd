"""The server's address, its key, and its messages without the key."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pwff_core.errors import ConfigError
from pwff_core.tools.rank.client import OPENAI, REDACTED, Server, resolve_server
from tests.support.ranking_samples import KEY


def problem(address: str | None, **environment: str) -> str:
    with pytest.raises(ConfigError) as caught:
        resolve_server(address, environment)
    assert KEY not in str(caught.value) and "\n" not in str(caught.value)
    return str(caught.value)


def test_the_flag_overrides_the_environment_which_overrides_openai() -> None:
    environment = {"OPENAI_API_KEY": KEY, "OPENAI_BASE_URL": "https://host.example/v1/"}
    assert resolve_server("https://other.example/v1", environment) == Server("https://other.example/v1", KEY)
    assert resolve_server(None, environment) == Server("https://host.example/v1", KEY)
    assert resolve_server(None, {"OPENAI_API_KEY": f" {KEY}\n"}) == Server(OPENAI, KEY)


@pytest.mark.parametrize("host", ["localhost:8000", "127.0.0.1:11434", "127.8.9.10", "[::1]:8000", "box.localhost"])
def test_a_local_server_needs_no_key_and_may_have_one_over_http(host: str) -> None:
    assert resolve_server(f"http://{host}/v1", {}) == Server(f"http://{host}/v1", "")
    assert resolve_server(f"http://{host}/v1", {"OPENAI_API_KEY": KEY}).key == KEY


@pytest.mark.parametrize(
    "host", ["host.example", "192.168.1.5:8000", "localhost.example", "127.0.0.1.example", "[2001:db8::1]"]
)
def test_a_key_never_crosses_a_network_in_the_open(host: str) -> None:
    assert "use https, or unset $OPENAI_API_KEY" in problem(f"http://{host}/v1", OPENAI_API_KEY=KEY)
    assert resolve_server(f"http://{host}/v1", {}).key == ""
    assert resolve_server(f"https://{host}/v1", {"OPENAI_API_KEY": KEY}).key == KEY


def test_openai_needs_a_key() -> None:
    assert problem(None) == (
        "$OPENAI_API_KEY is not set, and api.openai.com needs a key. Set it in the environment, or name a server of "
        "your own with --server, such as http://localhost:8000/v1."
    )
    assert "is not set" in problem(None, OPENAI_API_KEY="  ")


@pytest.mark.parametrize(
    "address", ["localhost:8000", "ftp://host/v1", "https://", "https://host:port/v1", "https://[::1", "x"]
)
def test_a_text_that_is_no_address_is_refused(address: str) -> None:
    assert problem(address) == "--server is no address; give one such as https://host/v1 or http://localhost:8000/v1."


@pytest.mark.parametrize(
    "address", ["https://me:{}@host/v1", "https://{}@host/v1", "https://host/v1?key={}", "https://host/v1#{}"]
)
def test_an_address_with_credentials_is_refused_and_not_repeated(address: str) -> None:
    assert problem(address.format(KEY)).startswith("--server has a name, a password or a query in it;")
    assert problem(None, OPENAI_BASE_URL=address.format(KEY)).startswith("$OPENAI_BASE_URL has a name, a password")


@pytest.mark.parametrize("key", [f"{KEY}\nX", f"{KEY} X", f"{KEY}é", f"{KEY}\x00"])
def test_a_key_with_a_blank_or_a_line_break_is_refused(key: str) -> None:
    assert "holds a character that no key has" in problem("https://host/v1", OPENAI_API_KEY=key)


def test_neither_the_repr_nor_the_origin_shows_a_secret() -> None:
    server = Server("https://host:8443/token/v1", KEY)
    assert server.origin == "https://host:8443"
    assert repr(server) == "Server('https://host:8443', with a key)"
    assert repr(Server("http://localhost", "")) == "Server('http://localhost', without a key)"


def test_a_server_s_message_becomes_one_short_printable_line() -> None:
    server = Server("https://host", "")
    assert server.clean(" a\n\x1b[31mb\t ") == "a [31mb"
    assert len(server.clean("word " * 100)) == 200 and server.clean("word " * 100).endswith("…")


@pytest.mark.parametrize(
    ("message", "cleaned"),
    [
        (f"Bad key {KEY}.", f"Bad key {REDACTED}."),
        ("Incorrect API key provided: sk-pl*****XYZ.", f"Incorrect API key provided: {REDACTED}"),
        ("Another's sk-proj-abc_1-2 too", f"Another's {REDACTED} too"),
        (f"It began with {KEY[3:12]}", "(left out: it holds a part of the key)"),
    ],
)
def test_an_echoed_key_is_removed(message: str, cleaned: str) -> None:
    assert Server("https://host", KEY).clean(message) == cleaned


@given(st.text(alphabet="abcdefghij0123456789-_", min_size=8, max_size=40), st.data())
def test_no_eight_characters_of_a_key_pass(key: str, data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(key) - 8))
    message = data.draw(st.text(max_size=20)) + key[start:] + data.draw(st.text(max_size=20))
    assert key[start : start + 8] not in Server("https://host", key).clean(message).replace(
        "(left out: it holds a part of the key)", ""
    )
