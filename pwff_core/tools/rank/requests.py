"""Ask a ranking model many questions, a few at a time, and keep every verdict as it comes."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import NamedTuple

from pwff_core.errors import PwffError, RankingError
from pwff_core.tools.rank.cache import KeptVerdict
from pwff_core.tools.rank.prompt import Question
from pwff_core.tools.rank.reading import Verdict

PATIENCE = 20  # unreadable answers in a row after which it makes no sense to go on
PATIENCE_UNANSWERED = 4  # the same of failed requests; before any answer one is enough, as each has been retried


class Reply(NamedTuple):
    """A verdict, and the tokens that the server counted; None where it did not."""

    verdict: Verdict
    tokens_in: int | None
    tokens_out: int | None
    said: str = ""  # the beginning of an unreadable answer


class NotAnswered(RankingError):
    """One request has failed for good; others may not."""


class Asked:
    """What has come of the questions so far. It is up to date at any time, also when asking is interrupted."""

    def __init__(self, kept: Mapping[Question, KeptVerdict]) -> None:
        self.verdicts = dict(kept)
        self.failed: set[Question] = set()
        self.requests = 0  # of this call; the client's retries of one request count as one
        self.stopped = ""  # why no more was asked, as a sentence
        self._unreadable = self._unanswered = 0  # in a row
        self._heard = False

    def heard(self, question: Question, verdict: KeptVerdict) -> None:
        """One more answer."""
        self.verdicts[question] = verdict
        self._heard, self._unanswered = True, 0
        self._unreadable = self._unreadable + 1 if verdict.verdict == "unreadable" else 0
        if self._unreadable == PATIENCE:
            self.stop(
                f"{PATIENCE} answers in a row named neither A nor B nor a tie; the last one began "
                f"{verdict.said[:60]!r}. Choose another --model, or give it room with --verdict-tokens."
            )

    def missed(self, question: Question, error: NotAnswered) -> None:
        """One more request in vain."""
        self.failed.add(question)
        self._unanswered += 1
        if not self._heard or self._unanswered == PATIENCE_UNANSWERED:
            self.stop(str(error))

    def stop(self, sentence: str) -> None:
        """Ask no more; the first reason counts."""
        self.stopped = self.stopped or sentence


async def ask_all(
    asked: Asked,
    questions: Iterable[Question],
    answer: Callable[[Question], Awaitable[Reply]],
    keep: Callable[[Question, Reply], KeptVerdict],
    parallel: int,
    told: Callable[[], object],
) -> None:
    """Asks the questions in order, `parallel` at a time, until all are through or `asked` says stop.

    `keep` writes a reply down before it counts; `told` is called after each request. Requests that are under way when
    asking stops are awaited: they are paid for.
    """
    waiting = iter(questions)

    async def work() -> None:
        while not asked.stopped and (question := next(waiting, None)):
            asked.requests += 1
            try:
                reply = await answer(question)
                asked.heard(question, keep(question, reply))
            except NotAnswered as error:
                asked.missed(question, error)
            except PwffError as error:
                asked.stop(str(error))
            told()

    async with asyncio.TaskGroup() as group:
        for _ in range(parallel):
            group.create_task(work())
