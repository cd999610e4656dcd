"""The one place that talks to the server, through the openai package.

What is left to the package: 408, 409, 429, 5xx, cut connections and timeouts are tried again RETRIES times, after the
wait that the server names in Retry-After (up to two minutes), otherwise after half a second, doubled each time up to
eight, less a random quarter; `x-should-retry` of the server is obeyed. What is added here: no redirect is followed, so
the key stays with its server; a local server is not asked through a proxy; an option that a model does not know is
dropped; every failure is one sentence.
"""

from __future__ import annotations

from typing import Any

import openai

from pwff_core.errors import RankingError
from pwff_core.tools.rank.address import KEY_VARIABLE, Server
from pwff_core.tools.rank.prompt import Question
from pwff_core.tools.rank.reading import read_verdict
from pwff_core.tools.rank.requests import NotAnswered, Reply

RETRIES = 6
NO_KEY = "none"  # what a server without a key gets: the package always sends one
_OF_THIS_REQUEST = (400, 408, 409, 413, 422)  # another request may fare better
_SHOWN_MODELS = 8


class Ranker:
    """A ranking model behind its server; an async context."""

    def __init__(self, server: Server, model: str, timeout_s: float, verdict_tokens: int) -> None:
        self._server, self._model = server, model
        self._options: dict[str, Any] = {"temperature": 0.0, "max_tokens": verdict_tokens}
        self._client = openai.AsyncOpenAI(
            api_key=server.key or NO_KEY,
            base_url=server.url,
            timeout=timeout_s,
            max_retries=RETRIES,
            # the environment's proxy is another computer, which has no part in what stays on this one
            http_client=openai.DefaultAsyncHttpxClient(follow_redirects=False, trust_env=not server.in_the_open_here),
        )

    async def __aenter__(self) -> Ranker:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._client.close()

    async def answer(self, question: Question) -> Reply:
        """The model's verdict. NotAnswered if this request fails; RankingError if no other can succeed either."""
        try:
            completion = await self._completion(question)
        except openai.APIStatusError as error:
            raise await self._refusal(error) from None
        except openai.APITimeoutError:
            raise NotAnswered(f"{self._server.origin} did not answer in time; a longer --timeout-s may help.") from None
        except openai.APIConnectionError as error:
            reason = self._server.clean(error.__cause__ or error)
            raise NotAnswered(f"{self._server.origin} cannot be reached or cut the connection ({reason}).") from None
        except (openai.APIResponseValidationError, ValueError):
            raise NotAnswered(self._garbage()) from None
        return self._reply(completion)

    async def _completion(self, question: Question) -> Any:
        messages = [{"role": role, "content": text} for role, text in question.messages()]
        while True:
            options = dict(self._options)
            try:
                return await self._client.chat.completions.create(
                    model=self._model,
                    messages=messages,  # type: ignore[arg-type] # a union of a dozen TypedDicts
                    **options,
                )
            except openai.BadRequestError as error:
                if not self._give_up(error.param, options):
                    raise

    def _give_up(self, option: str | None, sent: dict[str, Any]) -> bool:
        """Whether to ask again without an option that the server names as the fault.

        Reasoning models take no temperature, and call the longest answer by another name.
        """
        if option not in sent:
            return False
        value = self._options.pop(option, None)  # another request may have been faster
        if option == "max_tokens" and value is not None:
            self._options["max_completion_tokens"] = value
        return True

    def _reply(self, completion: Any) -> Reply:
        """The verdict of a completion; the package hands on bodies of any shape as they came."""
        try:
            text = completion.choices[0].message.content
        except (AttributeError, IndexError, TypeError):
            raise NotAnswered(self._garbage()) from None
        usage = getattr(completion, "usage", None)
        written = text if isinstance(text, str) else ""  # null where the model declined to write
        verdict = read_verdict(written)
        said = self._server.clean(written) if verdict == "unreadable" else ""
        return Reply(verdict, _count(usage, "prompt_tokens"), _count(usage, "completion_tokens"), said)

    def _garbage(self) -> str:
        return f"{self._server.origin} answered with something that is no chat completion; is its address right?"

    async def _refusal(self, error: openai.APIStatusError) -> RankingError:
        """The sentence for an answer with an error's status, after the package's retries."""
        status, origin = error.status_code, self._server.origin
        body = error.body.get("message") if isinstance(error.body, dict) else None
        said = f" It says: {self._server.clean(body).rstrip('.')}." if body else ""
        if status in (401, 403):
            wrong = f"does not accept the key in ${KEY_VARIABLE}" if self._server.key else f"wants a ${KEY_VARIABLE}"
            return RankingError(f"{origin} {wrong} (status {status}).{said}")
        if status == 404:
            return RankingError(f"{origin} knows no model {self._model!r} at this address (404).{await self._models()}")
        if status == 429:
            return RankingError(f"{origin} takes no more requests for now (429); call again later.{said}")
        sentence = f"{origin} answered with status {status}.{said}"
        return NotAnswered(sentence) if status in _OF_THIS_REQUEST or status >= 500 else RankingError(sentence)

    async def _models(self) -> str:
        """What the server has instead, if it tells."""
        try:
            page = await self._client.with_options(max_retries=0).models.list()
            names = [self._server.clean(model.id) for model in page.data]
        except (openai.OpenAIError, AttributeError, TypeError, ValueError):
            return " Check --model and --server; most addresses end in /v1."
        return f" It has {', '.join(names[:_SHOWN_MODELS])}{', …' if len(names) > _SHOWN_MODELS else ''}."


def _count(usage: object, name: str) -> int | None:
    """A number of tokens as the server told it."""
    count = getattr(usage, name, None)
    return count if isinstance(count, int) else None
