"""When asking goes on and when it ends, without any server."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from pwff_core.errors import ConfigError, RankingError
from pwff_core.tools.rank.cache import KeptVerdict
from pwff_core.tools.rank.prompt import Question
from pwff_core.tools.rank.reading import Verdict
from pwff_core.tools.rank.requests import PATIENCE, PATIENCE_UNANSWERED, Asked, NotAnswered, Reply, ask_all

GOOD, BAD = Reply("first", 1, 1), Reply("unreadable", 1, 1, "Hm.")
MISSED, REFUSED = NotAnswered("Not this one."), RankingError("None at all.")


def kept(question: Question, reply: Reply) -> KeptVerdict:
    return KeptVerdict(key=question.prompt, room=512, **reply._asdict())


def after(script: Sequence[Reply | RankingError], parallel: int = 1) -> Asked:
    """What has come of as many questions as there are answers in the script, one each."""
    questions = [Question("helpfulness", f"{number}?", "yes", "no") for number in range(len(script))]
    asked, told = Asked({}), []

    async def answer(question: Question) -> Reply:
        await asyncio.sleep(0)
        come = script[questions.index(question)]
        if isinstance(come, RankingError):
            raise come
        return come

    asyncio.run(ask_all(asked, questions, answer, kept, parallel, lambda: told.append(1)))
    assert len(told) == asked.requests == len(asked.verdicts) + len(asked.failed) + (asked.stopped == str(REFUSED))
    return asked


def test_all_answers_are_kept() -> None:
    asked = after([GOOD, BAD, MISSED, GOOD])
    assert [verdict.verdict for verdict in asked.verdicts.values()] == ["first", "unreadable", "first"]
    assert {question.prompt for question in asked.failed} == {"2?"}
    assert (asked.requests, asked.stopped) == (4, "")


def test_patience_is_of_answers_in_a_row() -> None:
    streak = [BAD] * (PATIENCE - 1)
    assert after([*streak, GOOD, *streak, GOOD]).stopped == ""
    asked = after([GOOD, *streak, BAD, GOOD])
    assert asked.requests == 1 + PATIENCE
    assert asked.stopped.startswith(f"{PATIENCE} answers in a row named neither A nor B nor a tie; ")


def test_patience_with_failed_requests_is_shorter_and_before_any_answer_there_is_none() -> None:
    streak = [MISSED] * (PATIENCE_UNANSWERED - 1)
    assert after([GOOD, *streak, GOOD, *streak, BAD]).stopped == ""
    asked = after([GOOD, *streak, MISSED, GOOD])
    assert (asked.requests, asked.stopped) == (1 + PATIENCE_UNANSWERED, "Not this one.")
    assert after([MISSED, GOOD]).requests == 1


def test_what_no_other_request_can_mend_ends_it_at_once() -> None:
    asked = after([GOOD, REFUSED, GOOD])
    assert (asked.requests, asked.stopped, len(asked.verdicts)) == (2, "None at all.", 1)


def test_what_is_under_way_when_it_ends_still_counts() -> None:
    asked = after([REFUSED, GOOD, GOOD, GOOD], parallel=3)
    assert (asked.requests, len(asked.verdicts)) == (3, 2)


def test_a_verdict_that_cannot_be_written_down_does_not_count_and_ends_it() -> None:
    asked = Asked({})

    async def answer(question: Question) -> Reply:
        return GOOD

    def full(question: Question, reply: Reply) -> KeptVerdict:
        raise ConfigError("No room.")

    questions = [Question("helpfulness", f"{number}?", "yes", "no") for number in range(3)]
    asyncio.run(ask_all(asked, questions, answer, full, 1, int))
    assert (asked.verdicts, asked.requests, asked.stopped) == ({}, 1, "No room.")


@given(st.lists(st.sampled_from(["first", "second", "tie"]), max_size=40), st.integers(1, 7))
def test_however_many_at_a_time_each_question_is_asked_once(verdicts: list[Verdict], parallel: int) -> None:
    asked = after([Reply(verdict, 1, 1) for verdict in verdicts], parallel)
    found = {question.prompt: entry.verdict for question, entry in asked.verdicts.items()}
    assert found == {f"{number}?": verdict for number, verdict in enumerate(verdicts)}
    assert asked.requests == len(verdicts)
