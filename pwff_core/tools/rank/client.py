"""The ranking model's server: where it is, which key opens it, and requests to it through the openai package.

The key is read from the environment and goes to its server alone. It is no flag and no setting and is written to no
file; a server may echo it in an error, so every message of the server passes `Server.clean` before it is shown or kept.

What is left to the package: 408, 409, 429, 5xx, cut connections and timeouts are tried again RETRIES times, after the
wait that the server names in Retry-After (up to two minutes), otherwise after half a second, doubled each time up to
eight, less a random quarter; `x-should-retry` of the server is obeyed. What is added here: no redirect is followed, so
the key stays with its server; a local server is not asked through a proxy; an option that a model does not know is
dropped; every failure is one sentence.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from typing import Any, NamedTuple
from urllib.parse import SplitResult, urlsplit

import openai

from pwff_core.errors import ConfigError, RankingError
from pwff_core.tools.rank.prompt import Comparison, read_verdict
from pwff_core.tools.rank.requests import Reply, RequestError

KEY_VARIABLE, SERVER_VARIABLE = "OPENAI_API_KEY", "OPENAI_BASE_URL"
OPENAI = "https://api.openai.com/v1"
REDACTED = "[key]"
_LONGEST_MESSAGE = 200  # characters of a server's message in a sentence
_SECRET_LENGTH = 8  # characters of a key in a row that must not be shown
_LOOKS_LIKE_A_KEY = re.compile(r"\bsk-[\w*.-]+")
RETRIES = 6
NO_KEY = "none"  # what a server without a key gets: the package always sends one
_OF_THIS_REQUEST = (400, 408, 409, 413, 422)  # another request may fare better
_LISTED_MODELS = 8


class Server(NamedTuple):
    """A checked address, and the key. Its repr does not show the key."""

    url: str
    key: str

    def __repr__(self) -> str:
        return f"Server({self.origin!r}, {'with' if self.key else 'without'} a key)"

    @property
    def origin(self) -> str:
        """Scheme, host and port. Only these are shown or written, as a path may hold a token."""
        parts = urlsplit(self.url)
        return f"{parts.scheme}://{parts.netloc}"

    @property
    def is_local_http(self) -> bool:
        """Plain http to this computer."""
        parts = urlsplit(self.url)
        return parts.scheme == "http" and _is_this_computer(parts.hostname or "")

    def clean(self, message: object) -> str:
        """A server's message as one short line of printable characters, without the key or a part of it."""
        text = "".join(char if char.isprintable() else " " for char in str(message))
        text = _LOOKS_LIKE_A_KEY.sub(REDACTED, text.replace(self.key, REDACTED) if self.key else text)
        if any(self.key[start : start + _SECRET_LENGTH] in text for start in range(len(self.key) - _SECRET_LENGTH + 1)):
            return "(left out: it holds a part of the key)"
        text = " ".join(text.split())
        return text if len(text) <= _LONGEST_MESSAGE else text[: _LONGEST_MESSAGE - 1] + "…"


def resolve_server(address: str | None, environment: Mapping[str, str]) -> Server:
    """The server at an address, else at the environment's, else OpenAI's.

    ConfigError for a text that is no address or carries credentials, for a key over plain http to another computer,
    and for OpenAI without a key.
    """
    url = (address or environment.get(SERVER_VARIABLE) or OPENAI).strip().rstrip("/")
    name = "--server" if address else f"${SERVER_VARIABLE}"
    parts = _parts(url, name)
    key = environment.get(KEY_VARIABLE, "").strip()
    if not (key.isascii() and all("!" <= char <= "~" for char in key)):
        raise ConfigError(f"${KEY_VARIABLE} holds a character that no key has (a blank, a line break); set it anew.")
    if key and parts.scheme == "http" and not _is_this_computer(parts.hostname or ""):
        raise ConfigError(
            f"{name} is plain http to {parts.hostname}, and ${KEY_VARIABLE} would cross the network for all to read; "
            f"use https, or unset ${KEY_VARIABLE} if that server needs no key."
        )
    if not key and parts.hostname == urlsplit(OPENAI).hostname:
        raise ConfigError(
            f"${KEY_VARIABLE} is not set, and {parts.hostname} needs a key. Set it in the environment, or name a "
            "server of your own with --server, such as http://localhost:8000/v1."
        )
    return Server(url, key)


def _parts(url: str, name: str) -> SplitResult:
    """The parts of an address. No error repeats the address: it may hold a password."""
    try:
        parts = urlsplit(url)
        valid = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        valid = False
    if not valid:
        raise ConfigError(f"{name} is no address; give one such as https://host/v1 or http://localhost:8000/v1.")
    if "@" in parts.netloc or parts.query or parts.fragment:
        raise ConfigError(
            f"{name} has a name, a password or a query in it; give scheme, host, port and path alone, and put the key "
            f"into ${KEY_VARIABLE}."
        )
    return parts


def _is_this_computer(host: str) -> bool:
    """Whether a host's name alone says that it is this computer; nothing is looked up."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class RankingClient:
    """A ranking model behind its server; an async context."""

    def __init__(self, server: Server, model: str, timeout_s: float, verdict_tokens: int) -> None:
        self._server, self._model = server, model
        self._options: dict[str, Any] = {"temperature": 0.0, "max_tokens": verdict_tokens}
        self._client = openai.AsyncOpenAI(
            api_key=server.key or NO_KEY,
            base_url=server.url,
            timeout=timeout_s,
            max_retries=RETRIES,
            # requests within this computer do not pass the environment's proxy
            http_client=openai.DefaultAsyncHttpxClient(follow_redirects=False, trust_env=not server.is_local_http),
        )

    async def __aenter__(self) -> RankingClient:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._client.close()

    async def compare(self, comparison: Comparison) -> Reply:
        """The model's verdict. RequestError if this request fails; RankingError if no other can succeed either."""
        try:
            completion = await self._completion(comparison)
        except openai.APIStatusError as error:
            raise await self._status_error(error) from None
        except openai.APITimeoutError:
            raise RequestError(
                f"{self._server.origin} did not answer in time; a longer --timeout-s may help."
            ) from None
        except openai.APIConnectionError as error:
            reason = self._server.clean(error.__cause__ or error)
            raise RequestError(f"{self._server.origin} cannot be reached or cut the connection ({reason}).") from None
        except (openai.APIResponseValidationError, ValueError):
            raise RequestError(self._no_completion()) from None
        return self._reply(completion)

    async def _completion(self, comparison: Comparison) -> Any:
        messages = [{"role": role, "content": text} for role, text in comparison.messages()]
        while True:
            options = dict(self._options)
            try:
                return await self._client.chat.completions.create(
                    model=self._model,
                    messages=messages,  # type: ignore[arg-type] # a union of a dozen TypedDicts
                    **options,
                )
            except openai.BadRequestError as error:
                if not self._drop_option(error.param, options):
                    raise

    def _drop_option(self, option: str | None, sent: dict[str, Any]) -> bool:
        """Drops an option that the server names as the fault; whether the request is worth sending again.

        Reasoning models take no temperature, and have another name for the longest answer.
        """
        if option not in sent:
            return False
        value = self._options.pop(option, None)  # a parallel request may have dropped it already
        if option == "max_tokens" and value is not None:
            self._options["max_completion_tokens"] = value
        return True

    def _reply(self, completion: Any) -> Reply:
        """The verdict of a completion; the package passes on bodies of any shape."""
        try:
            text = completion.choices[0].message.content
        except (AttributeError, IndexError, TypeError):
            raise RequestError(self._no_completion()) from None
        usage = getattr(completion, "usage", None)
        answer = text if isinstance(text, str) else ""  # null where the model declined to write
        verdict = read_verdict(answer)
        said = self._server.clean(answer) if verdict == "unreadable" else ""
        return Reply(verdict, _count(usage, "prompt_tokens"), _count(usage, "completion_tokens"), said)

    def _no_completion(self) -> str:
        return f"{self._server.origin} answered with something that is no chat completion; is its address right?"

    async def _status_error(self, error: openai.APIStatusError) -> RankingError:
        """The error for an answer with an error status, after the package's retries."""
        status, origin = error.status_code, self._server.origin
        body = error.body.get("message") if isinstance(error.body, dict) else None
        message = f" It says: {self._server.clean(body).rstrip('.')}." if body else ""
        if status in (401, 403):
            fault = f"does not accept the key in ${KEY_VARIABLE}" if self._server.key else f"wants a ${KEY_VARIABLE}"
            return RankingError(f"{origin} {fault} (status {status}).{message}")
        if status == 404:
            return RankingError(f"{origin} knows no model {self._model!r} at this address (404).{await self._models()}")
        if status == 429:
            return RankingError(f"{origin} takes no more requests for now (429); call again later.{message}")
        sentence = f"{origin} answered with status {status}.{message}"
        return RequestError(sentence) if status in _OF_THIS_REQUEST or status >= 500 else RankingError(sentence)

    async def _models(self) -> str:
        """The models that the server has, if it lists them."""
        try:
            page = await self._client.with_options(max_retries=0).models.list()
            names = [self._server.clean(model.id) for model in page.data]
        except (openai.OpenAIError, AttributeError, TypeError, ValueError):
            return " Check --model and --server; most addresses end in /v1."
        return f" It has {', '.join(names[:_LISTED_MODELS])}{', …' if len(names) > _LISTED_MODELS else ''}."


def _count(usage: object, name: str) -> int | None:
    """A number of tokens; None where the server does not give it."""
    count = getattr(usage, name, None)
    return count if isinstance(count, int) else None
