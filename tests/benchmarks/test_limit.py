"""The operations of a round, counted again: on paper, and by PyTorch's own counter on the round itself."""

from __future__ import annotations

from collections import Counter
from types import SimpleNamespace

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.limit import Product, Products, Shape, gflop_by_part, padding_share, round_products, step_products
from benchmarks.plain import PeftLoop
from benchmarks.work import CohortLoop, demo
from pwff_core.engine.stages.batches import Batch

D, V, R, B = 8, 50, 2, 3
SHAPE = Shape(blocks=2, width=D, heads=2, vocabulary=V, rank=R, bottleneck=B)
CLIENTS, ROWS, LENGTH, PREDICTED = 2, 4, 6, 5
TOKENS = ROWS * LENGTH


def flops(groups: tuple[str, ...]) -> dict[str, int]:
    places = torch.zeros(PREDICTED, dtype=torch.int64)
    batch = Batch(torch.zeros(ROWS, LENGTH, dtype=torch.int64), places, places, places, places)
    by_part: Counter[str] = Counter()
    for product, times in step_products(SHAPE, batch, CLIENTS, groups).items():
        by_part[product.part] += product.flop * times
    return dict(by_part)


def test_frozen_layers_forward_and_back_but_below_the_lowest_trained_one() -> None:
    layer = 2 * TOKENS * D * D  # one d × d product
    # forward: q, k, v, out, 4 up, 4 down in both blocks; back: the same of the upper block,
    # of the lower one out, up and down with LoRA, up and down alone without it
    assert flops(("lora",))["frozen layers"] == (24 + 12 + 9) * layer
    assert flops(("adapters",))["frozen layers"] == (24 + 12 + 8) * layer


def test_the_head_reads_response_positions_alone() -> None:
    assert flops(("lora",))["head"] == 2 * (2 * PREDICTED * D * V)


def test_attention_is_two_products_forward_and_four_back_at_half_size() -> None:
    product = 2 * ROWS * LENGTH * LENGTH * D // 2
    assert flops(("adapters", "lora"))["attention"] == 12 * product
    assert flops(("adapters",))["attention"] == 8 * product  # the lower block's needs no way back


def test_weights_of_adapters_and_lora_are_counted_where_they_are_trained() -> None:
    half = 2 * TOKENS * D * B  # one half of one of six adapters: forward, back to its input, to its weights
    assert flops(("adapters", "lora"))["adapters"] == 6 * 2 * 3 * half
    assert flops(("lora",))["adapters"] == 6 * 2 * 2 * half
    assert flops(("adapters",))["adapters"] == 6 * 2 * 3 * half - half  # the first one's input needs no gradient


@pytest.mark.filterwarnings("ignore")  # of the counter
def test_a_plain_round_has_these_operations_and_more_for_the_head() -> None:
    cohort = CohortLoop(demo(quick=True))
    loop = PeftLoop(cohort.clients, cohort.federation.placed)
    products = round_products(cohort.clients, 1)
    needed = 1e9 * sum(gflop_by_part(products).values())
    with FlopCounterMode(display=False) as counter:
        loop.round()
    # the loop's head reads every position; its clients' rows are padded less, each batch to its own longest
    assert 0.7 < needed / counter.get_total_flops() < 1.1


def test_padding_fills_a_batch_up_to_its_longest_row() -> None:
    def row(tokens: int) -> SimpleNamespace:
        return SimpleNamespace(tokens=range(tokens))

    clients = SimpleNamespace(cohorts=[None], in_cohort=lambda index: range(2))
    # a step of two clients, with rows of 3 and 5 tokens and of 4: two rows of 5 for each
    assert padding_share(clients, [[[row(3), row(5)]], [[row(4)]]]) == pytest.approx(1 - 12 / 20)


def test_playing_the_products_takes_time() -> None:
    assert (
        Products(Counter({Product("head", 1, 5, 3, 2): 2, Product("LoRA", 4, 5, 3, 2): 1}), torch.bfloat16).play() > 0
    )
