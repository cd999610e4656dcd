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
    unique_instructions,
)
from pwff_core.data.tables import End, read_table, short_repr
from pwff_core.errors import DataError
from pwff_core.methods import AXES, Axis

PAIR_COLUMNS = ("chosen", "rejected")
HUMAN, ANSWER = "Human:", "\n\nAssistant:"  # how HH marks a turn
SPEAKERS = {"user": "Human", "assistant": "Assistant"}  # lists of messages are written with the same marks
JUDGE_SHARE = 1 / 3  # of a source's prompts, at most JUDGE_PAIRS
LEAST_PROMPTS = 3  # of a client: two to train on, one to test on
REFERENCE_PAIRS = 48  # of each source; both answers serve


class AxisPairs(NamedTuple):
    """A source's pairs by owner; no prompt is in two places."""

    train: list[tuple[Pair, ...]]  # (K,)
    test: list[tuple[Pair, ...]]  # (K,)
    judge: tuple[Pair, ...]


def read_pairs(source: str, max_rows: int) -> tuple[list[Pair], list[str]]:
    """The usable pairs among at most `max_rows` rows of a file, folder or Hub id, and remarks on what was left out.

    DataError if it cannot be read, lacks a column, holds something else than texts, or has no usable pair.
    """

    def choose(columns: Sequence[str]) -> dict[str, End]:
        missing = [name for name in PAIR_COLUMNS if name not in columns]
        if missing:
            raise DataError(
                f"{source} lacks the column {missing[0]!r}; it has {', '.join(columns)}. Preference columns are "
                "needed: prompt, chosen, rejected; or chosen, rejected alone, as dialogues that begin the same way."
            )
        present = [name for name in ("prompt", *PAIR_COLUMNS) if name in columns]
        return {name: "end" if name == "prompt" else "beginning" for name in present}

    table = read_table(source, max_rows, choose)
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
    left_out = f"{empty + identical} of {len(table.rows)} rows of {source} were left out: {' and '.join(reasons)}."
    if not pairs:
        raise DataError(f"{source} has no usable pair; {left_out}")
    return pairs, [*table.notes, *([left_out] if reasons else [])]


def _check(value: Any, where: str) -> None:
    if value is None or isinstance(value, str):
        return
    if not isinstance(value, list):
        raise DataError(f"{where} is {short_repr(value)}, but it must be a text or a list of messages.")
    for message in value:
        if not isinstance(message, dict) or not all(isinstance(message.get(key), str) for key in ("role", "content")):
            raise DataError(f"{where} has {short_repr(message)}, but a message is {{role, content}}, both texts.")


def _pair(row: Mapping[str, Any]) -> Pair:
    """A row's pair, its texts trimmed."""
    prompt, chosen, rejected = row.get("prompt"), row["chosen"], row["rejected"]
    if "prompt" not in row or (isinstance(prompt, str) and isinstance(chosen, list)):  # both answers begin with it
        shared = shared_length(chosen, rejected)
        turn = _turn_end(chosen[:shared], chosen) if isinstance(chosen, str) else shared
        prompt, chosen, rejected = chosen[:turn], chosen[turn:], rejected[turn:]
    return Pair(_prompt(prompt or ""), _answer(chosen), _answer(rejected))


def shared_length(chosen: Sequence[Any], rejected: Sequence[Any]) -> int:
    """The number of characters or messages that two dialogues share at their beginning, without the shorter one's last.

    TRL's `extract_prompt` finds the same, but its import takes seconds.
    """
    if isinstance(chosen, str) and isinstance(rejected, str):
        shared = len(os.path.commonprefix([chosen, rejected]))
    else:
        turns = zip(chosen, rejected, strict=False)
        shared = sum(1 for _ in itertools.takewhile(lambda turn: turn[0] == turn[1], turns))
    return min(shared, len(chosen) - 1, len(rejected) - 1)


def _turn_end(shared: str, chosen: str) -> int:
    """Where the answer begins. It may lie before the end of `shared`, as both answers may begin alike."""
    mark = shared.rfind(ANSWER)
    if mark >= 0:
        return mark + len(ANSWER)
    if chosen[len(shared) : len(shared) + 1].isspace() or shared[-1:].isspace():
        return len(shared)
    return max(shared.rfind(" "), shared.rfind("\n")) + 1  # never within a word


def _prompt(prompt: str | Sequence[Mapping[str, str]]) -> str:
    """The dialogue without the mark of the answer; a single question without the mark of its speaker."""
    text = (prompt if isinstance(prompt, str) else _dialogue(prompt)).strip()
    text = text.removesuffix(ANSWER.strip()).strip()
    return text if ANSWER in text else text.removeprefix(HUMAN).strip()


def _answer(answer: str | Sequence[Mapping[str, str]]) -> str:
    if isinstance(answer, str):
        return answer.strip()
    return (answer[0]["content"] if len(answer) == 1 else _dialogue(answer)).strip()


def _dialogue(messages: Iterable[Mapping[str, str]]) -> str:
    speakers = [SPEAKERS.get(message["role"], message["role"].capitalize()) for message in messages]
    return "\n\n".join(f"{name}: {message['content']}" for name, message in zip(speakers, messages, strict=True))


def spread_pairs(config: RunConfig, axis: Axis, pairs: Sequence[Pair]) -> AxisPairs:
    """One axis' pairs: first the judge's part, then the others evenly and at random over the clients.

    The judge's part depends on the pairs alone, not on the run. Pairs on one prompt stay together. DataError if there
    are too few.
    """
    by_prompt: dict[str, list[Pair]] = {}
    for pair in pairs:
        by_prompt.setdefault(pair.instruction, []).append(pair)
    groups = list(by_prompt.values())
    order = seeds.generator(JUDGE_SEED, "judge", axis).permutation(len(groups))
    judge_prompts = min(round(len(groups) * JUDGE_SHARE), JUDGE_PAIRS)
    judge = [pair for index in order[:judge_prompts] for pair in groups[index]]
    left = order[judge_prompts:]
    affordable = len(left) // LEAST_PROMPTS
    if affordable < config.clients:
        raise DataError(_too_few_pairs(config, axis, len(groups), affordable))
    left = seeds.generator(config.seed, "pairs of files", axis).permutation(left)
    by_client = [[groups[index] for index in left[client :: config.clients]] for client in range(config.clients)]
    splits = [_split_pairs(config, own_groups) for own_groups in by_client]
    return AxisPairs([train for train, _ in splits], [test for _, test in splits], tuple(judge))


def _split_pairs(config: RunConfig, groups: Sequence[list[Pair]]) -> tuple[tuple[Pair, ...], tuple[Pair, ...]]:
    """One client's training and test pairs. `groups` are its pairs by prompt; a few are split in proportion."""
    train, test = config.reward.train_pairs, config.reward.test_pairs
    test_prompts = min(test, max(1, round(len(groups) * test / (train + test))))
    test_pairs = tuple(pair for group in groups[:test_prompts] for pair in group)
    train_pairs = tuple(pair for group in groups[test_prompts:] for pair in group)
    return train_pairs[:train], test_pairs[:test]


def _source(config: RunConfig, axis: Axis) -> str:
    return config.reward.helpful_source if axis == "helpfulness" else config.reward.harmless_source


def _too_few_pairs(config: RunConfig, axis: Axis, prompts: int, affordable: int) -> str:
    lead = (
        f"{_source(config, axis)} has usable pairs on {prompts} prompts, and {config.clients} clients need "
        f"{LEAST_PROMPTS} prompts each beside the third that is kept for the judge"
    )
    if affordable < 2:
        return f"{lead}; that is too few for any federation. Give more pairs."
    return f"{lead}. They would do for {affordable} clients: set clients to {affordable}, or give more pairs."


def load_preferences(config: RunConfig) -> Preferences:
    """All clients' pairs and prompts from the sources that the config names. DataError if one cannot be used."""
    sources = {axis: _source(config, axis) for axis in AXES}
    files = {axis: read_pairs(source, config.data.max_rows) for axis, source in sources.items() if source != "demo"}
    demo = demo_preferences(config) if len(files) < len(sources) else None
    if demo is not None and not files:
        return demo
    preferences = file_preferences(config, {axis: pairs for axis, (pairs, _) in files.items()}, demo)
    return preferences._replace(notes=(*preferences.notes, *(note for _, notes in files.values() for note in notes)))


def file_preferences(
    config: RunConfig, files: Mapping[Axis, Sequence[Pair]], demo: Preferences | None = None
) -> Preferences:
    """Preferences from the pairs of one or both axes; what no file gives is taken from `demo`.

    The prompts of harmlessness pairs are the delicate ones, those of helpfulness pairs the ordinary ones. Both answers
    of some of the judge's pairs are the references of the scores.
    """
    spread = {axis: spread_pairs(config, axis, pairs) for axis, pairs in files.items()}
    clients = []
    for client in range(config.clients):
        train = {axis: part.train[client] for axis, part in spread.items()}
        test = {axis: part.test[client] for axis, part in spread.items()}
        prompts = {
            "ordinary": unique_instructions(train.get("helpfulness", ())),
            "test_ordinary": unique_instructions(test.get("helpfulness", ())),
            "delicate": unique_instructions(train.get("harmlessness", ())),
            "test_delicate": unique_instructions(test.get("harmlessness", ())),
        }
        if demo is not None:
            base = demo.clients[client]
            train, test = base.train | train, base.test | test
            prompts = {name: texts or getattr(base, name) for name, texts in prompts.items()}
        clients.append(ClientPreferences(train, test, **prompts))
    judge = {axis: part.judge for axis, part in spread.items()}
    references = _references(judge)
    notes = tuple(_note(config, axis, spread[axis], len(files[axis])) for axis in AXES if axis in spread)
    if demo is not None:
        judge, references, notes = demo.judge | judge, demo.references + references, demo.notes + notes
    return Preferences(clients, judge, references, notes)


def _references(judge: Mapping[Axis, Sequence[Pair]]) -> tuple[Reference, ...]:
    return tuple(
        Reference(pair.instruction, answer)
        for pairs in judge.values()
        for pair in pairs[:REFERENCE_PAIRS]
        for answer in (pair.chosen, pair.rejected)
    )


def _note(config: RunConfig, axis: Axis, part: AxisPairs, total: int) -> str:
    train, test = (np.array([len(pairs) for pairs in split]) for split in (part.train, part.test))
    return (
        f"{axis.capitalize()} pairs: {train.sum() + test.sum()} of the {total} usable pairs of "
        f"{_source(config, axis)}, spread evenly over the clients, {_range_words(train)} to train on and "
        f"{_range_words(test)} to test on; {len(part.judge)} are the judge's."
    )


def _range_words(counts: Any) -> str:
    low, high = int(counts.min()), int(counts.max())
    return str(low) if low == high else f"{low} to {high}"
