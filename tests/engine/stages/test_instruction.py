"""Batches and steps of stage 1, by hand."""

from __future__ import annotations

import math

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from pwff_core.data.encoding import PROMPT, Encoded
from pwff_core.engine.stages.batches import collate, passes, training_rows
from pwff_core.engine.stages.instruction import Score, clip_per_client


def row(*tokens: int, prompt: int = 1) -> Encoded:
    kinds = np.zeros(len(tokens), dtype=np.int8)
    kinds[:prompt] = PROMPT
    return Encoded(np.array(tokens), kinds, cut=False)


def test_collate_by_hand() -> None:
    batch = collate([[row(5, 6, 7)], [row(8, 9)]], padding=0, device=torch.device("cpu"))
    assert batch.tokens.tolist() == [[5, 6, 7], [8, 9, 0]]
    assert batch.at.tolist() == [0, 1, 3]  # positions that predict 6, 7 and 9
    assert batch.labels.tolist() == [6, 7, 9]
    assert batch.owner.tolist() == [0, 0, 1]


def test_a_client_with_fewer_rows_gets_empty_ones() -> None:
    batch = collate([[row(5, 6), row(5, 7)], []], padding=0, device=torch.device("cpu"))
    assert batch.tokens.shape == (4, 2)
    assert batch.owner.tolist() == [0, 0]


def batch_indices(examples: list[Encoded], seed: int, client: int, step: int, size: int) -> list[int]:
    return [int(r.tokens[0]) for r in training_rows(examples, seed, client, step, size)]


@given(st.integers(1, 20), st.integers(1, 5), st.integers(0, 3))
def test_an_epoch_has_every_example_once(count: int, size: int, seed: int) -> None:
    examples = [row(index, *range(index % 7)) for index in range(count)]
    batches = math.ceil(count / size)
    for epoch in range(3):
        batches_of_epoch = [batch_indices(examples, seed, 0, epoch * batches + turn, size) for turn in range(batches)]
        assert sorted(index for batch in batches_of_epoch for index in batch) == list(range(count))
        assert max(map(len, batches_of_epoch)) <= size
        assert max(map(len, batches_of_epoch)) - min(map(len, batches_of_epoch)) <= 1


def test_the_order_changes_with_epoch_client_and_seed() -> None:
    examples = [row(index, 0) for index in range(30)]

    def order(seed: int, client: int, epoch: int) -> tuple[int, ...]:
        return tuple(
            index for turn in range(10) for index in batch_indices(examples, seed, client, 10 * epoch + turn, 3)
        )

    assert len({order(*key) for key in ((0, 0, 0), (0, 0, 1), (0, 1, 0), (1, 0, 0))}) == 4


def test_clients_take_short_and_long_examples_at_the_same_steps() -> None:
    examples = [row(*range(length)) for length in range(5, 105)]
    for step in range(20):
        widths = [np.mean([len(r.tokens) for r in training_rows(examples, 0, client, step, 5)]) for client in range(4)]
        assert max(widths) - min(widths) < 25  # against 95 between the shortest and the longest


def lengths(part: list[list[Encoded]]) -> list[list[int]]:
    return [[len(r.tokens) for r in client_rows] for client_rows in part]


def test_passes_are_limited_in_tokens_longest_rows_first() -> None:
    rows = [[row(*range(length)) for length in (3, 9, 5)], [row(*range(length)) for length in (7, 4)]]
    # 2 clients × 1 row × 9 tokens; then 2 × 2 × 5, of which the second client has one
    assert [lengths(part) for part in passes(rows, 20)] == [[[9], [7]], [[5, 3], [4]]]
    assert [lengths(part) for part in passes(rows, 1)] == [[[9], [7]], [[5], [4]], [[3], []]]
    assert [lengths(part) for part in passes(rows, 1000)] == [[[9, 5, 3], [7, 4]]]
    assert [lengths(part) for part in passes(rows, 1000, 2)] == [[[9, 5], [7, 4]], [[3], []]]


@given(
    st.lists(st.lists(st.integers(1, 30), max_size=8), min_size=1, max_size=4).filter(any),
    st.integers(1, 300),
    st.integers(1, 5) | st.none(),
)
def test_passes_have_every_row_once(sizes: list[list[int]], tokens_at_once: int, rows_at_once: int | None) -> None:
    rows = [[row(*range(length)) for length in client_sizes] for client_sizes in sizes]
    parts = list(passes(rows, tokens_at_once, rows_at_once))
    for client, client_sizes in enumerate(sizes):
        assert [n for part in parts for n in lengths(part)[client]] == sorted(client_sizes, reverse=True)
    for part in parts:
        most, longest = max(map(len, part)), max(n for client_sizes in lengths(part) for n in client_sizes)
        assert most <= (rows_at_once or most)
        assert most == 1 or len(rows) * most * longest <= tokens_at_once


def test_clipping_is_each_client_s_own() -> None:
    a, b = torch.zeros(2, 2, requires_grad=True), torch.zeros(2, 1, requires_grad=True)
    a.grad, b.grad = torch.tensor([[3.0, 0.0], [0.3, 0.0]]), torch.tensor([[4.0], [0.4]])
    norms = clip_per_client([a, b], 1.0)
    np.testing.assert_allclose(norms.numpy(), [5.0, 0.5], rtol=1e-6)
    np.testing.assert_allclose(a.grad.numpy(), [[0.6, 0.0], [0.3, 0.0]], rtol=1e-5)
    np.testing.assert_allclose(b.grad.numpy(), [[0.8], [0.4]], rtol=1e-5)


def test_scores_by_hand() -> None:
    score = Score(np.array([6, 1, 0]), np.array([8, 2, 0]), loss=5.0)
    assert score.accuracy() == 0.7
    assert score.accuracy("style") == 0.5
    assert score.accuracy("knowledge") is None
    assert score.mean_loss() == 0.5
