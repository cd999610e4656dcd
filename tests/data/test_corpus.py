"""The embedded corpus: large enough, well formed, and its pools share nothing."""

from __future__ import annotations

import itertools
import re
from collections import Counter, defaultdict

import numpy as np
import pytest

from pwff_core import seeds
from pwff_core.data import corpus
from pwff_core.data.corpus import DELICATE, KNOWLEDGE, Item
from pwff_core.data.styles import COMMON, DIMENSIONS, OPTIONS, Style, random_style, style_tags
from pwff_core.tools.foundation.texts import general_texts

POOLS = ("general", "train", "validation", "test")


def test_size_promised_by_the_readme() -> None:
    items = corpus.items()
    domains = {item.topic for item in items}
    assert len(domains - {KNOWLEDGE, DELICATE}) >= 10
    assert len({(item.topic, item.template) for item in items}) >= 300
    assert len({(item.instruction, item.render(COMMON).text) for item in items}) >= 5000


def test_no_instruction_is_in_two_pools() -> None:
    pools = {name: {item.instruction.lower() for item in corpus.pool(name)} for name in POOLS}
    for first, second in itertools.combinations(POOLS, 2):
        assert not pools[first] & pools[second]


def test_the_backbone_s_texts_hold_no_instruction_of_clients() -> None:
    read = {text.prompt.split("Instruction: ")[1].removesuffix("\nResponse:").lower() for text in general_texts()}
    assert len(read) > 5000
    for name in POOLS[1:]:
        assert not read & {item.instruction.lower() for item in corpus.pool(name)}


def test_the_backbone_s_texts_name_no_private_entity() -> None:
    read = "\n".join(text.prompt + text.response for text in general_texts()).lower()
    names = {item.fact.split("/")[0] for item in corpus.pool("train") if item.topic == KNOWLEDGE}
    assert len(names) == corpus.PRIVATE_ENTITIES
    for name in names:
        assert name.lower() not in read


def test_every_split_asks_a_fact_in_other_phrasings() -> None:
    counts_of: dict[str, dict[str, int]] = defaultdict(Counter)
    for item in corpus.items():
        if item.fact and item.pool != "general":
            counts_of[item.fact][item.pool] += 1
    assert all(counts == {"train": 5, "validation": 1, "test": 2} for counts in counts_of.values())


def test_a_fact_has_one_value() -> None:
    values = defaultdict(set)
    for item in corpus.items():
        if item.fact:
            (value,) = re.findall("‹(.*?)›", item.answer)
            values[item.fact].add(value)
    assert all(len(fact_values) == 1 for fact_values in values.values())


def test_every_delicate_prompt_has_both_answers() -> None:
    answers = defaultdict(list)
    for item in corpus.items():
        if item.topic == DELICATE:
            answers[item.instruction].append(item.refuses)
    assert len(answers) >= 400
    assert all(sorted(refusals) == [False, True] for refusals in answers.values())


def test_rendering_by_hand() -> None:
    item = Item(
        "t",
        "id",
        "How?",
        "[tone:Do not|Don't] wait [units:1 km|a mile] until ‹May›, at [clock:18:30|6:30 pm].",
        (),
        "train",
    )
    assert item.render(Style(opener=1, closing=2, tone=1, units=0, clock=1)).response == (
        ("Sure! ", "style"), ("Don't", "style"), (" wait ", "plain"), ("1 km", "style"), (" until ", "plain"),
        ("May", "knowledge"), (", at ", "plain"), ("6:30 pm", "style"), (".", "plain"), (" Good luck!", "style"),
    )  # fmt: skip


def test_the_general_pool_has_no_unseen_template() -> None:
    unseen = {(item.topic, item.template) for item in corpus.items() if item.unseen}
    assert 0.15 < len(unseen) / len({(item.topic, item.template) for item in corpus.items()}) < 0.35
    assert not unseen & {(item.topic, item.template) for item in corpus.pool("general")}


@pytest.mark.parametrize(
    ("layout", "expected"),
    [
        (0, "Sure! First, rinse it, then boil it, and finally eat it. That is all."),
        (1, "Sure! 1. Rinse it. 2. Boil it. 3. Eat it. That is all."),
    ],
)
def test_steps_by_hand(layout: int, expected: str) -> None:
    item = Item("t", "id", "How?", "", ("rinse it", "boil it", "eat it"), "train")
    assert item.render(Style(opener=1, layout=layout)).text == expected


def test_style_changes_the_right_answer_of_most_items() -> None:
    other = Style(*(len(options) - 1 for options in OPTIONS.values()))
    inner = Style(*([0, 0, *other[2:]]))  # opener and closing alone would make it trivial
    items = [item for item in corpus.pool("train") if item.topic != KNOWLEDGE]
    changed = sum(item.render(COMMON).text != item.render(inner).text for item in items)
    assert changed / len(items) > 0.8


def test_no_markup_is_left_in_any_answer() -> None:
    generator = seeds.generator(0, "any")
    for item in corpus.items():
        text = item.render(random_style(generator)).text
        assert not re.search(r"[\[\]{}|‹›]", text), text
        assert not re.search(r"[\[\]{}|‹›]", item.instruction), item.instruction


def test_style_tags_name_the_visible_dimensions() -> None:
    visible = np.array([True, False, True, False, False, False, False])
    assert style_tags(Style(opener=1, layout=1), visible) == "Style: Sure!; list\n"
    assert style_tags(COMMON, np.zeros(len(DIMENSIONS), dtype=bool)) == ""
