"""Other people's preference pairs: a file or a Hub data set in TRL's preference format, spread over clients.

TRL's format has the columns `prompt, chosen, rejected`, or `chosen, rejected` alone, which then begin with the same
prompt (HH: Bai et al., arXiv 2204.05862). Each is a text, or a list of messages `{role, content}`.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from pwff_core import seeds
from pwff_core.config import RunConfig
from pwff_core.data.preferences import (
    JUDGE_PAIRS,
    JUDGE_SEED,
    ClientPreferences,
    Pair,
    Preferences,
    Reference,
    demo_preferences,
)
from pwff_core.data.tables import End, read_table, shortened
from pwff_core.errors import DataError
from pwff_core.methods import AXES, Axis

NEEDED = ("chosen", "rejected")
HUMAN, ANSWER = "Human:", "\n\nAssistant:"  # HH's marks of a turn
SPEAKERS = {"user": "Human", "assistant": "Assistant"}  # messages are written with the same marks
JUDGE_SHARE = 1 / 3  # of a source's pairs at most
LEAST_PROMPTS = 3  # of a client: two to train on, one to be tested on
REFERENCE_PAIRS = 48  # of each source; both answers of each


class AxisPairs(NamedTuple):
    """A source's pairs by whose they are; no prompt is in two places."""

    train: list[tuple[Pair, ...]]  # a client
    test: list[tuple[Pair, ...]]  # a client
    judge: tuple[Pair, ...]


def read_pairs(source: str, most: int) -> tuple[list[Pair], list[str]]:
    """The usable pairs among at most `most` rows of a file, folder or Hub id, and what was left out and why.

    DataError if it cannot be read, lacks a column, holds something else than texts, or has no usable pair.
    """

    def choose(columns: Sequence[str]) -> dict[str, End]:
        missing = [name for name in NEEDED if name not in columns]
        if missing:
            raise DataError(
                f"{source} lacks the column {missing[0]!r}; it has {', '.join(columns)}. Preference columns are "
                "needed: prompt, chosen, rejected; or chosen, rejected alone, as dialogues that begin the same way."
            )
        return {name: "end" if name == "prompt" else "beginning" for name in ("prompt", *NEEDED) if name in columns}

    table = read_table(source, most, choose)
    pairs, empty, identical = [], 0, 0
    for number, row in zip(table.numbers, table.rows, strict=True):
        for name, value in row.items():
            _check(value, f"{source}, row {number}: {name!r}")
        if not row["chosen"] or not row["rejected"]:
            empty += 1
            continue
        if row["chosen"] == row["rejected"]:
            identical += 1
            continue
        pair = _pair(row)
        if not (pair.instruction and pair.chosen and pair.rejected):
            empty += 1
        elif pair.chosen == pair.rejected:
            identical += 1
        else:
            pairs.append(pair)
    reasons = [
        *([f"{empty} with an empty prompt or answer"] if empty else []),
        *([f"{identical} with identical chosen and rejected"] if identical else []),
    ]
    told = f"{empty + identical} of {len(table.rows)} rows of {source} were left out: {' and '.join(reasons)}."
    if not pairs:
        raise DataError(f"{source} has no usable pair; {told}")
    return pairs, [*table.notes, *([told] if reasons else [])]


def _check(value: Any, where: str) -> None:
    if value is None or isinstance(value, str):
        return
    if not isinstance(value, list):
        raise DataError(f"{where} is {shortened(value)}, but it must be a text or a list of messages.")
    for message in value:
        if not isinstance(message, dict) or not all(isinstance(message.get(key), str) for key in ("role", "content")):
            raise DataError(f"{where} has {shortened(message)}, but a message is {{role, content}}, both texts.")


def _pair(row: Mapping[str, Any]) -> Pair:
    """A row's pair, its texts trimmed."""
    prompt, chosen, rejected = row.get("prompt"), row["chosen"], row["rejected"]
    if "prompt" not in row or (isinstance(prompt, str) and isinstance(chosen, list)):  # then the prompt is repeated
        shared = _shared(chosen, rejected)
        turn = _turn_end(chosen[:shared], chosen) if isinstance(chosen, str) else shared
        prompt, chosen, rejected = chosen[:turn], chosen[turn:], rejected[turn:]
    return Pair(_prompt(prompt or ""), _answer(chosen), _answer(rejected))


def _shared(chosen: Sequence[Any], rejected: Sequence[Any]) -> int:
    """How many characters or messages two dialogues share at their beginning, the shorter one's last never among them.

    As TRL's `extract_prompt` finds, whose import takes seconds.
    """
    if isinstance(chosen, str) and isinstance(rejected, str):
        same = len(os.path.commonprefix([chosen, rejected]))
    else:
        same = sum(1 for _ in itertools.takewhile(lambda both: both[0] == both[1], zip(chosen, rejected, strict=False)))
    return min(same, len(chosen) - 1, len(rejected) - 1)


def _turn_end(shared: str, chosen: str) -> int:
    """Where the answer begins: what two texts share may reach into it, when both answers begin alike."""
    mark = shared.rfind(ANSWER)
    if mark >= 0:
        return mark + len(ANSWER)
    if chosen[len(shared) : len(shared) + 1].isspace() or shared[-1:].isspace():
        return len(shared)
    return max(shared.rfind(" "), shared.rfind("\n")) + 1  # never within a word


def _prompt(prompt: str | Sequence[Mapping[str, str]]) -> str:
    """The dialogue as it stands, without the mark of the answer; a single question without the mark of its asker."""
    text = (prompt if isinstance(prompt, str) else _dialogue(prompt)).strip()
    text = text.removesuffix(ANSWER.strip()).strip()
    return text if ANSWER in text else text.removeprefix(HUMAN).strip()


def _answer(answer: str | Sequence[Mapping[str, str]]) -> str:
    if isinstance(answer, str):
        return answer.strip()
    return (answer[0]["content"] if len(answer) == 1 else _dialogue(answer)).strip()


def _dialogue(messages: Iterable[Mapping[str, str]]) -> str:
    speakers = [SPEAKERS.get(message["role"], message["role"].capitalize()) for message in messages]
    return "\n\n".join(f"{who}: {message['content']}" for who, message in zip(speakers, messages, strict=True))


def spread_pairs(config: RunConfig, axis: Axis, pairs: Sequence[Pair]) -> AxisPairs:
    """Spread one axis' pairs evenly and at random over the clients, after the judge has had its part.

    The judge's part depends on the pairs alone, not on the run. Pairs on one prompt stay together. DataError if there
    are too few.
    """
    by_prompt: dict[str, list[Pair]] = {}
    for pair in pairs:
        by_prompt.setdefault(pair.instruction, []).append(pair)
    decks = list(by_prompt.values())
    order = seeds.generator(JUDGE_SEED, "judge", axis).permutation(len(decks))
    judge_decks = min(round(len(decks) * JUDGE_SHARE), JUDGE_PAIRS)
    judge = [pair for index in order[:judge_decks] for pair in decks[index]]
    left = order[judge_decks:]
    enough = len(left) // LEAST_PROMPTS
    if enough < config.clients:
        raise DataError(_too_few(config, axis, len(decks), enough))
    left = seeds.generator(config.seed, "pairs of files", axis).permutation(left)
    hands = [[decks[index] for index in left[client :: config.clients]] for client in range(config.clients)]
    mine = [_own(config, hand) for hand in hands]
    return AxisPairs([train for train, _ in mine], [test for _, test in mine], tuple(judge))


def _own(config: RunConfig, decks: Sequence[list[Pair]]) -> tuple[tuple[Pair, ...], tuple[Pair, ...]]:
    """One client's training and test pairs from its prompts' pairs, in the wanted proportion where they are few."""
    train, test = config.reward.train_pairs, config.reward.test_pairs
    tested = min(test, max(1, round(len(decks) * test / (train + test))))
    held_out = [pair for deck in decks[:tested] for pair in deck]
    return tuple(pair for deck in decks[tested:] for pair in deck)[:train], tuple(held_out)[:test]


def _too_few(config: RunConfig, axis: Axis, prompts: int, enough: int) -> str:
    source = config.reward.helpful_source if axis == "helpfulness" else config.reward.harmless_source
    lead = (
        f"{source} has usable pairs on {prompts} prompts, and {config.clients} clients need {LEAST_PROMPTS} prompts "
        "each beside the third that is kept for the judge"
    )
    if enough < 2:
        return f"{lead}; that is too few for any federation. Give more pairs."
    return f"{lead}. They would do for {enough} clients: set clients to {enough}, or give more pairs."


def load_preferences(config: RunConfig) -> Preferences:
    """Everybody's pairs and prompts from the sources that the config names. DataError if it cannot be."""
    sources: dict[Axis, str] = {
        "helpfulness": config.reward.helpful_source,
        "harmlessness": config.reward.harmless_source,
    }
    read = {axis: read_pairs(source, config.data.max_rows) for axis, source in sources.items() if source != "demo"}
    demo = demo_preferences(config) if len(read) < len(sources) else None
    if demo is not None and not read:
        return demo
    found = file_preferences(config, {axis: pairs for axis, (pairs, _) in read.items()}, demo)
    return found._replace(notes=(*found.notes, *(note for _, left_out in read.values() for note in left_out)))


def file_preferences(
    config: RunConfig, files: Mapping[Axis, Sequence[Pair]], demo: Preferences | None = None
) -> Preferences:
    """Preferences from the pairs of one or both axes; what no file gives is taken from `demo`.

    Prompts of harmlessness pairs are the delicate ones, prompts of helpfulness pairs the ordinary ones. Scores are
    calibrated on both answers of some of the judge's pairs.
    """
    spread = {axis: spread_pairs(config, axis, pairs) for axis, pairs in files.items()}
    clients = []
    for client in range(config.clients):
        train = {axis: part.train[client] for axis, part in spread.items()}
        test = {axis: part.test[client] for axis, part in spread.items()}
        prompts = {
            "ordinary": _instructions(train.get("helpfulness", ())),
            "test_ordinary": _instructions(test.get("helpfulness", ())),
            "delicate": _instructions(train.get("harmlessness", ())),
            "test_delicate": _instructions(test.get("harmlessness", ())),
        }
        if demo is not None:
            base = demo.clients[client]
            train, test = base.train | train, base.test | test
            prompts = {name: own or getattr(base, name) for name, own in prompts.items()}
        clients.append(ClientPreferences(train, test, **prompts))
    judge = {axis: part.judge for axis, part in spread.items()}
    references = _references(judge)
    notes = tuple(_note(config, axis, spread[axis], len(files[axis])) for axis in AXES if axis in spread)
    if demo is not None:
        judge, references, notes = demo.judge | judge, demo.references + references, demo.notes + notes
    return Preferences(clients, judge, references, notes)


def _instructions(pairs: Iterable[Pair]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(pair.instruction for pair in pairs))


def _references(judge: Mapping[Axis, Sequence[Pair]]) -> tuple[Reference, ...]:
    return tuple(
        Reference(pair.instruction, answer)
        for pairs in judge.values()
        for pair in pairs[:REFERENCE_PAIRS]
        for answer in (pair.chosen, pair.rejected)
    )


def _note(config: RunConfig, axis: Axis, part: AxisPairs, total: int) -> str:
    source = config.reward.helpful_source if axis == "helpfulness" else config.reward.harmless_source
    train, test = (np.array([len(mine) for mine in whose]) for whose in (part.train, part.test))
    return (
        f"{axis.capitalize()} pairs: {train.sum() + test.sum()} of the {total} usable pairs of {source}, spread evenly "
        f"over the clients, {_span(train)} to train on and {_span(test)} to test on; {len(part.judge)} are the judge's."
    )


def _span(counts: Any) -> str:
    low, high = int(counts.min()), int(counts.max())
    return str(low) if low == high else f"{low} to {high}"
