"""A ranking model's answer, read strictly: what does not plainly name one choice is unreadable, never a guess."""

from __future__ import annotations

import json
import re
from typing import Any, Literal

Verdict = Literal["first", "second", "tie", "unreadable"]

_THOUGHT = re.compile(r"<(think|thinking|reasoning)>.*?(?:</\1>|\Z)", re.DOTALL | re.IGNORECASE)
_OBJECT = re.compile(r"\{[^{}]*\}")
_KEYS = ("verdict", "answer", "choice", "better", "best", "winner", "preferred", "preference", "response", "result")
_ADVERB = r"(?:(?:clearly|slightly|much|far|somewhat|overall|a bit|a little)\s+)?"
_NOUN = r"(?:responses?|answers?|options?|candidates?|assistants?)"
_MERIT = r"(?:better|best|more\s+(?:helpful|harmless|useful)|less\s+harmful|safer|preferred|preferable|superior)"
_CHOICE = rf"(?:{_NOUN}\s+)?\(?(?P<letter>[ABTC])\)?"
_TIE = (
    rf"(?P<tie>(?:(?:it\s+is|it's)\s+)?(?:a\s+)?(?:tie|draw)|equal|neutral|neither(?:\s+(?:{_NOUN}\s+)?is\s+{_MERIT})?"
    rf"|both(?:\s+{_NOUN})?\s+are\s+equally\s+\w+)"
)
_LEAD = (
    r"(?:(?:so|thus|therefore|hence|overall|in\s+conclusion|conclusion)[,:]?\s+)?"
    r"(?:(?:(?:my|the)\s+)?(?:final\s+)?(?:verdict|answer|choice|decision|winner|judg[e]?ment|preference)(?:\s+is|\s*:)+\s+"
    rf"|(?:the\s+)?{_MERIT}(?:\s+(?:one|{_NOUN}))?(?:\s+is|\s*:)+\s+"
    r"|i\s+(?:would\s+)?(?:prefer|choose|pick|select)\s+)?"
)
_TAIL = (
    rf"(?:\s+(?:is|seems|wins|was)(?:\s+{_ADVERB}(?:the\s+)?{_MERIT}(?:\s+(?:one|{_NOUN}))?"
    rf"(?:\s+than\s+(?:{_NOUN}\s+)?[AB])?)?)?"
    r"(?:,?\s+(?:because|since)\b.*)?"
)
# the letters stand for themselves: "a" is an article, unless it is the whole answer
_STATEMENT = re.compile(rf"(?i:{_LEAD})(?:(?-i:{_CHOICE.replace(_NOUN, f'(?i:{_NOUN})')})(?i:{_TAIL})|(?i:{_TIE}))")
_LETTER_FIRST = re.compile(r"\W*(?P<letter>[AB])\W*[.:)]\W*\s(?P<reason>.+)")
_LETTERS: dict[str, Verdict] = {"A": "first", "B": "second", "T": "tie", "C": "tie"}  # C: a tie, as some benchmarks ask
_ORNAMENT = " \t*_`\"'#>.!–—-"


def read_verdict(text: str) -> Verdict:
    """The choice that an answer names: a letter, perhaps with a reason; JSON; a plain sentence, first or last line.

    Reasoning may stand before or after it. If two of these places name different choices, or none names one, the
    answer is unreadable; so is every sentence that needs understanding ("A is not better than B").
    """
    answer = _THOUGHT.sub("", text).strip()
    objects = [_from_object(match[0]) for match in _OBJECT.finditer(answer)]
    named = {found for found in objects if found} or _from_lines(answer)
    return named.pop() if len(named) == 1 else "unreadable"


def _from_object(text: str) -> Verdict | None:
    """What a JSON object names under a key that means a choice."""
    try:
        value: Any = json.loads(text)
    except ValueError:
        return None
    fields = {str(key).lower(): one for key, one in value.items()}
    chosen = next((fields[key] for key in _KEYS if key in fields), None)
    return _statement(chosen) if isinstance(chosen, str) else None


def _from_lines(answer: str) -> set[Verdict]:
    lines = [line for line in answer.splitlines() if line.strip(_ORNAMENT)]
    if not lines:
        return set()
    last_sentence = re.split(r"(?<=[.!])\s+", lines[-1])[-1]
    places = [_statement(lines[0]), _statement(lines[-1]), _statement(last_sentence)]
    if len(lines) == 1:
        places.append(_with_reason(lines[0]))
    return {found for found in places if found}


def _with_reason(line: str) -> Verdict | None:
    """`A. It gives the steps.`: a letter and a reason, which does not speak of the other letter; a list would."""
    match = _LETTER_FIRST.fullmatch(line.strip())
    if match is None or re.search(rf"\b{'B' if match['letter'] == 'A' else 'A'}\b", match["reason"]):
        return None
    return _LETTERS[match["letter"]]


def _statement(text: str) -> Verdict | None:
    plain = re.sub(r"[*`_\"]|\[\[|\]\]|\\boxed|[{}]", "", text).strip(_ORNAMENT)
    if len(plain) == 1:
        plain = plain.upper()
    match = _STATEMENT.fullmatch(plain)
    if match is None:
        return None
    return _LETTERS[match["letter"]] if match["letter"] else "tie"
