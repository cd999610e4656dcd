"""From verdicts to preference pairs: which comparisons there are, and which are agreed on. Pure."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Literal, NamedTuple, get_args

from pwff_core.methods import AXES, Axis
from pwff_core.tools.rank.prompt import Question
from pwff_core.tools.rank.reading import Verdict

Dropped = Literal["tie", "disagreed", "unreadable", "circular", "unanswered", "not asked"]
REASONS: tuple[Dropped, ...] = get_args(Dropped)


class Preference(NamedTuple):
    """A row in TRL's preference format."""

    prompt: str
    chosen: str
    rejected: str


class Ranked(NamedTuple):
    """What came of one axis' comparisons."""

    pairs: tuple[Preference, ...]
    dropped: dict[Dropped, int]
    first_share: float | None  # of the verdicts for one response, those for the one shown first; ½ without bias

    @property
    def compared(self) -> int:
        """All comparisons, agreed on or dropped."""
        return len(self.pairs) + sum(self.dropped.values())


def round_robin(prompt: str, responses: Sequence[str]) -> list[Question]:
    """Every two distinct, non-empty responses, on each axis; each question is asked as it stands and swapped.

    n responses give n(n−1)/2 pairs an axis, each for two requests. A tournament would ask of n−1 pairs alone, at the
    same price a pair, and would have to infer the others, which takes for granted that verdicts are transitive.
    """
    distinct = [text for text in dict.fromkeys(responses) if text]
    return [Question(axis, prompt, *two) for axis in AXES for two in itertools.combinations(distinct, 2)]


def requests(questions: Sequence[Question]) -> list[Question]:
    """What is asked of the server: each question and, next to it, the same with positions swapped."""
    return [asked for question in questions for asked in (question, question.swapped())]


def agreed(one: Verdict, swapped: Verdict) -> Literal["first", "second"] | Dropped:
    """What two verdicts on a pair come to, in the positions of the first; the second saw the responses swapped."""
    if "unreadable" in (one, swapped):
        return "unreadable"
    if one == "tie" or swapped == "tie":
        return "tie"
    if one == swapped:  # the same place, so the other response
        return "disagreed"
    return "first" if one == "first" else "second"


def ranked(
    axis: Axis, questions: Sequence[Question], verdicts: Mapping[Question, Verdict], failed: Collection[Question]
) -> Ranked:
    """The preference pairs of an axis from the verdicts that there are; `failed` requests were asked in vain.

    Pairs of one prompt that contradict each other in a circle (a over b, b over c, c over a) are dropped together.
    """
    dropped: Counter[Dropped] = Counter()
    by_prompt: dict[str, list[Preference]] = {}
    for question in questions:
        if question.axis != axis:
            continue
        both = (question, question.swapped())
        if not all(asked in verdicts for asked in both):
            dropped["unanswered" if any(asked in failed for asked in both) else "not asked"] += 1
            continue
        outcome = agreed(verdicts[both[0]], verdicts[both[1]])
        if outcome == "first" or outcome == "second":
            winner = both[outcome == "second"]
            by_prompt.setdefault(question.prompt, []).append(Preference(question.prompt, winner.first, winner.second))
        else:
            dropped[outcome] += 1
    pairs = [pair for mine in by_prompt.values() for pair in without_circles(mine)]
    dropped["circular"] = sum(map(len, by_prompt.values())) - len(pairs)
    named = [v for asked, v in verdicts.items() if asked.axis == axis and v in ("first", "second")]
    first_share = named.count("first") / len(named) if named else None
    return Ranked(tuple(pairs), {reason: dropped[reason] for reason in REASONS}, first_share)


def without_circles(pairs: Sequence[Preference]) -> list[Preference]:
    """The pairs of one prompt whose rejected response is not, through other pairs, preferred to their chosen one."""
    better: dict[str, set[str]] = {}
    for pair in pairs:
        better.setdefault(pair.chosen, set()).add(pair.rejected)
    return [pair for pair in pairs if pair.chosen not in _below(pair.rejected, better.get)]


def _below(start: str, step: Callable[[str], set[str] | None]) -> set[str]:
    """All that can be reached."""
    found, waiting = set[str](), [start]
    while waiting:
        new = (step(waiting.pop()) or set()) - found
        found |= new
        waiting += new
    return found
