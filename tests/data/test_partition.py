"""How examples are spread: one knob from non-IID to IID, disjoint splits, unequal counts."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pwff_core import seeds
from pwff_core.config import RunConfig
from pwff_core.data import corpus
from pwff_core.data.corpus import DELICATE, KNOWLEDGE, Example, Segment
from pwff_core.data.partition import (
    client_sizes,
    client_styles,
    demo_clients,
    fact_holders,
    heterogeneity,
    spread_examples,
    topic_shares,
)
from pwff_core.data.styles import COMMON, personal_style
from pwff_core.errors import DataError
from pwff_core.knobs import with_changes


def changed(**values: object) -> RunConfig:
    return with_changes(RunConfig(), {name.replace("__", "."): value for name, value in values.items()})


def test_splits_share_no_instruction_within_or_across_clients() -> None:
    clients = demo_clients(RunConfig())
    splits = [
        {example.instruction for client in clients for example in getattr(client, name)}
        for name in ("train", "validation", "test")
    ]
    for first, second in itertools.combinations(splits, 2):
        assert not first & second


@pytest.mark.parametrize("alpha", [0.01, 0.3, 1000.0])
def test_clients_hold_different_amounts_around_the_mean(alpha: float) -> None:
    config = changed(data__alpha=alpha, clients=40)
    counts = [len(client.train) for client in demo_clients(config)]
    assert counts == client_sizes(config)
    assert len(set(counts)) > 10
    assert np.mean(counts) == pytest.approx(config.data.train_examples, rel=0.15)


def test_clients_train_on_their_facts_and_are_tested_on_all() -> None:
    config = RunConfig()
    value_of = {item.instruction: item.fact for item in corpus.items() if item.fact}
    clients = demo_clients(config)
    untrained = set()
    for client in clients:
        trained = {value_of[e.instruction] for e in client.train if e.topic == KNOWLEDGE}
        assert len(trained) == client.facts_held < 48
        untrained |= {value_of[e.instruction] for e in client.test if e.topic == KNOWLEDGE} - trained
        assert not any(example.topic == DELICATE for example in client.test)
    assert len(untrained) > 30


def test_alpha_sets_the_holders_of_a_fact() -> None:
    for alpha, holders in ((0.3, 2), (1.0, 5), (1000.0, 10)):
        held = fact_holders(changed(data__alpha=alpha), 48)
        assert (held.sum(axis=0) == holders).all()
        assert held.sum(axis=1).max() - held.sum(axis=1).min() <= 1


@given(st.floats(0.01, 1000), st.integers(0, 5))
def test_topic_shares_sum_to_one(alpha: float, seed: int) -> None:
    shares = topic_shares(changed(data__alpha=alpha, seed=seed), 15)
    assert shares.sum(axis=1) == pytest.approx(1.0)
    assert (shares >= 0).all()


def test_topic_shares_have_the_dirichlet_s_variance() -> None:
    # Var of a share = (1/n)(1 − 1/n) / (n·α + 1)
    shares = topic_shares(changed(data__alpha=0.5, clients=200), 8)
    assert shares.var() == pytest.approx((1 / 8) * (7 / 8) / (8 * 0.5 + 1), rel=0.1)


def test_a_higher_share_only_adds_personal_conventions() -> None:
    for client in range(20):
        styles = [personal_style(seeds.generator(3, client), share) for share in (0.0, 0.3, 0.7, 1.0)]
        assert styles[0] == COMMON
        different = [{i for i, (a, b) in enumerate(zip(s, COMMON, strict=True)) if a != b} for s in styles]
        assert all(a <= b for a, b in itertools.pairwise(different))


def test_without_personal_styles_all_have_the_common_one() -> None:
    assert client_styles(changed(data__personal_styles=False)) == [COMMON] * 10
    assert len(set(client_styles(RunConfig()))) == 10
    assert heterogeneity(1000.0) < 0.001


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_the_share_of_unseen_templates(share: float) -> None:
    unseen = {item.instruction for item in corpus.items() if item.unseen}
    clients = demo_clients(changed(data__unseen_share=share, data__knowledge_share=0.0))
    is_unseen = [example.instruction in unseen for client in clients for example in client.test]
    assert np.mean(is_unseen) == pytest.approx(share, abs=0.1)


def test_delicate_prompts_are_trained_on_with_both_answers() -> None:
    for client in demo_clients(RunConfig()):
        prompts = [example.instruction for example in client.train if example.topic == DELICATE]
        assert prompts
        assert all(prompts.count(prompt) == 2 for prompt in prompts)


def examples_by_topic(count: int, topics: int = 4) -> dict[str, list[Example]]:
    by_topic: dict[str, list[Example]] = {}
    for index in range(count):
        topic = str(index % topics)
        by_topic.setdefault(topic, []).append(Example(f"q{index}", (Segment(f"a{index}", "plain"),), topic))
    return by_topic


@given(st.integers(30, 3000), st.integers(2, 10), st.integers(1, 500), st.integers(1, 100))
def test_an_example_goes_to_one_client_and_one_split(count: int, clients: int, train: int, test: int) -> None:
    config = changed(clients=clients, data__train_examples=train, data__test_examples=test)
    spread = spread_examples(examples_by_topic(count), config)
    owned = [e.instruction for c in spread for part in (c.train, c.validation, c.test) for e in part]
    assert len(owned) == len(set(owned)) <= count
    assert all(c.train and c.validation and c.test for c in spread)


def test_a_small_alpha_concentrates_clients_on_few_topics() -> None:
    def largest(alpha: float) -> float:
        spread = spread_examples(examples_by_topic(4000), changed(data__alpha=alpha))
        return float(np.mean([max(c.topics().values()) / len(c.train) for c in spread]))

    assert largest(0.05) > 0.8
    assert largest(1000.0) < 0.45


def test_too_few_rows_are_an_error_with_numbers() -> None:
    with pytest.raises(DataError, match="has 29 usable rows for 10 clients.*at least 3.*at most 9 clients"):
        spread_examples(examples_by_topic(29), RunConfig())
