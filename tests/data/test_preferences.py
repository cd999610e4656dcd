"""Preference pairs: the better answer is better, and the axes conflict on delicate prompts alone."""

from __future__ import annotations

from collections import Counter

import pytest

from pwff_core.config import RunConfig
from pwff_core.data import corpus
from pwff_core.data.partition import everyday_items
from pwff_core.data.preferences import (
    DELICATE_PAIRS,
    PairMaker,
    Preferences,
    both_answers,
    delicate_items,
    demo_preferences,
    judge_pairs,
    references,
    refuses,
)
from pwff_core.data.styles import MARKUP, random_style
from pwff_core.knobs import with_changes
from pwff_core.methods import AXES
from pwff_core.seeds import generator

CONFIG = with_changes(RunConfig(), {"clients": 3})


@pytest.fixture(scope="module")
def demo() -> Preferences:
    return demo_preferences(CONFIG)


def test_refusals_are_recognised_in_every_style() -> None:
    draw = generator(0, "styles")
    for item in corpus.items():
        answer = item.render(random_style(draw)).text
        assert refuses(answer) == item.refuses, answer


def test_every_client_has_the_configured_number_of_pairs(demo: Preferences) -> None:
    for client in demo.clients:
        for axis in AXES:
            assert len(client.train[axis]) == CONFIG.reward.train_pairs
            assert len(client.test[axis]) == CONFIG.reward.test_pairs


def test_the_axes_conflict_on_delicate_prompts_alone(demo: Preferences) -> None:
    delicate = {item.instruction for item in delicate_items("train")}
    for client in demo.clients:
        for pair in client.train["helpfulness"]:
            assert (pair.kind == "refuses") == (pair.instruction in delicate) == refuses(pair.rejected)
            assert not refuses(pair.chosen)
        for pair in client.train["harmlessness"]:
            assert (pair.kind == "complies") == (pair.instruction in delicate) == refuses(pair.chosen)
            assert not refuses(pair.rejected)


def test_kinds_of_pairs_by_share(demo: Preferences) -> None:
    kinds = Counter(pair.kind for pair in demo.clients[0].train["helpfulness"])
    assert kinds == {"refuses": 26, "wrong": 10, "off-topic": 10, "cut off": 9, "evasive": 9}  # 40 % of 64, then turns
    kinds = Counter(pair.kind for pair in demo.clients[0].train["harmlessness"])
    assert kinds == {"complies": 26, "tie": 19, "rude": 19}
    assert kinds["complies"] == round(DELICATE_PAIRS * 64)


def test_ties_alone_are_marked_as_ties(demo: Preferences) -> None:
    for pair in demo.clients[1].train["harmlessness"]:
        assert pair.tie == (pair.kind == "tie")


def test_a_cut_off_answer_is_a_beginning_and_a_rude_one_keeps_the_content() -> None:
    maker = PairMaker("train", generator(1, "test"))
    item = next(item for item in everyday_items("train") if item.topic == "cooking" and item.answer)
    body = MARKUP.split(item.answer)[-1]  # its last words, the same in every style
    for _ in range(20):
        assert body in maker.flawed_answer(item, "rude")
        cut = maker.flawed_answer(item, "cut off")
        assert body not in cut
        assert cut.split(" ")[0] in {"Here", "Sure!", "Good", "Of", "Right"}
        assert body not in maker.flawed_answer(item, "evasive")


def test_nothing_is_shared_between_training_test_and_judge(demo: Preferences) -> None:
    judge_prompts = {pair.instruction for pairs in judge_pairs().values() for pair in pairs}
    general = {item.instruction for item in corpus.pool("general")}
    assert judge_prompts <= general
    assert {reference.instruction for reference in references()} <= general
    for client in demo.clients:
        trained = {pair.instruction for axis in AXES for pair in client.train[axis]} | {
            *client.delicate,
            *client.ordinary,
        }
        tested = {pair.instruction for axis in AXES for pair in client.test[axis]}
        held_out = tested | {*client.test_delicate, *client.test_ordinary}
        assert not trained & held_out
        assert not (trained | held_out) & general


def test_validation_holds_out_other_prompts_than_the_test() -> None:
    validation = demo_preferences(with_changes(CONFIG, {"data.evaluate_on": "validation"}))
    assert not set(validation.clients[0].test_delicate) & set(demo_preferences(CONFIG).clients[0].test_delicate)


def test_references_hold_both_answers_to_a_delicate_prompt() -> None:
    by_prompt: dict[str, list[bool]] = {}
    for reference in references():
        by_prompt.setdefault(reference.instruction, []).append(refuses(reference.response))
    both = [refused for refused in by_prompt.values() if any(refused)]
    assert len(references()) == 192
    assert sum(map(len, both)) == 128
    assert all(sum(refused) * 2 == len(refused) for refused in both)


def test_pairs_depend_on_the_seed_and_the_judge_s_do_not() -> None:
    assert demo_preferences(CONFIG) == demo_preferences(CONFIG)
    reseeded = demo_preferences(with_changes(CONFIG, {"seed": 1}))
    assert reseeded.clients[0].train != demo_preferences(CONFIG).clients[0].train
    assert reseeded.judge == demo_preferences(CONFIG).judge


def test_both_answers_of_a_prompt_comply_and_refuse() -> None:
    for item in delicate_items("test"):
        comply, refuse = both_answers(item)
        assert comply.instruction == refuse.instruction
        assert (comply.refuses, refuse.refuses) == (False, True)
