"""How near an instruction round comes to the machine's limit: the same matrix products, and nothing else.

Counted is what a round of this method cannot do without, at the shapes of its padded batches:

- frozen layers: a product forward, and one for the gradient of the input (none for weights, which are frozen);
- the head at response positions alone, forward and input gradient;
- attention: two products forward and four backward, at half of their size, as no query looks ahead;
- adapters and LoRA: stacked by client; gradients of weights where the step trains them;
- below the lowest trained layer: forward alone.

Padding is counted, as the round computes it; `padding_share` says how much of it there is. Not counted: norms,
activations, softmax, residuals, loss, optimiser, average, and all that Python does. The limit is the time that
`torch.mm` and `torch.bmm` take for these products into buffers that are there already.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import torch

from benchmarks.work import round_rows, seconds
from pwff_core.data.encoding import Encoded
from pwff_core.engine.stages.batches import Batch, collate
from pwff_core.engine.stages.clients import Clients
from pwff_core.engine.stages.instruction import trained
from pwff_core.methods import Group


class Product(NamedTuple):
    """`batch` products (rows, inner) × (inner, columns) of one part of the model."""

    part: str
    batch: int
    rows: int
    inner: int
    columns: int

    @property
    def flop(self) -> int:
        """Floating-point operations: a multiplication and an addition a term."""
        return 2 * self.batch * self.rows * self.inner * self.columns


class Shape(NamedTuple):
    """The sizes of a GPT-2-type model on which its products depend."""

    blocks: int
    width: int
    heads: int
    vocabulary: int
    rank: int
    bottleneck: int


def round_products(clients: Clients, number: int) -> Counter[Product]:
    """The products of all local steps of round `number`, and how often each is needed."""
    config = clients.config
    model = clients.backbone.model.config
    shape = Shape(
        model.n_layer, model.n_embd, model.n_head, model.vocab_size, config.lora.rank, config.adapter.bottleneck
    )
    settings, products = config.instruction, Counter[Product]()
    for step, rows in enumerate(zip(*round_rows(clients, number), strict=True)):
        groups = trained(clients.method, step, settings.local_steps, settings.personal_steps)
        for index in range(len(clients.cohorts)):
            batch = collate([rows[client] for client in clients.in_cohort(index)], 0, torch.device("cpu"))
            products += step_products(shape, batch, len(clients.in_cohort(index)), groups)
    return products


def step_products(shape: Shape, batch: Batch, clients: int, groups: tuple[Group, ...]) -> Counter[Product]:
    """The products of one training step of a cohort that trains some groups."""
    rows, length = batch.tokens.shape
    tokens, width = rows * length, shape.width
    products: Counter[Product] = Counter()
    lora, adapters = "lora" in groups, "adapters" in groups
    adapter, update = (width, shape.bottleneck, width), (width, 3 * shape.rank, 3 * width)
    for block in range(shape.blocks):
        below = block > 0  # something below this block is trained
        _layer(products, tokens, width, 3 * width, backward=below)
        _stacked(products, "LoRA", clients, tokens, update, weights=lora, middle=lora or below, inputs=below)
        _attention(products, rows * shape.heads, length, width // shape.heads, backward=lora or below)
        _layer(products, tokens, width, width, backward=lora or below)
        _stacked(products, "adapters", clients, tokens, adapter, weights=adapters, middle=True, inputs=lora or below)
        _layer(products, tokens, width, 4 * width, backward=True)
        _layer(products, tokens, 4 * width, width, backward=True)
        for _ in ("after the MLP", "after the block"):
            _stacked(products, "adapters", clients, tokens, adapter, weights=adapters, middle=True, inputs=True)
    predicted = len(batch.at)
    products[Product("head", 1, predicted, width, shape.vocabulary)] += 1
    products[Product("head", 1, predicted, shape.vocabulary, width)] += 1
    return products


def _layer(products: Counter[Product], tokens: int, inputs: int, outputs: int, *, backward: bool) -> None:
    products[Product("frozen layers", 1, tokens, inputs, outputs)] += 1
    if backward:
        products[Product("frozen layers", 1, tokens, outputs, inputs)] += 1


def _attention(products: Counter[Product], batch: int, length: int, width: int, *, backward: bool) -> None:
    half = -(-length // 2)
    products[Product("attention", batch, half, width, length)] += 1  # scores
    products[Product("attention", batch, half, length, width)] += 1  # their values
    if backward:  # of the weights and the values, of queries and keys
        products[Product("attention", batch, half, width, length)] += 1
        products[Product("attention", batch, half, length, width)] += 3


def _stacked(
    products: Counter[Product], part: str, clients: int, tokens: int, widths: tuple[int, int, int], *, weights: bool,
    middle: bool, inputs: bool,
) -> None:  # fmt: skip
    """A bottleneck of every client, and those of its gradients that are needed: of weights, its middle, its inputs."""
    first, inner, last = widths
    each = tokens // clients
    products[Product(part, clients, each, first, inner)] += 1
    products[Product(part, clients, each, inner, last)] += 1
    if middle:
        products[Product(part, clients, each, last, inner)] += 1
    if inputs:
        products[Product(part, clients, each, inner, first)] += 1
    if weights:
        products[Product(part, clients, first, each, inner)] += 1
        products[Product(part, clients, inner, each, last)] += 1


def padding_share(clients: Clients, rows: Sequence[Sequence[Sequence[Encoded]]]) -> float:
    """The share of padding in the tokens of a round, whose rows are given by client and step.

    A cohort's batch is as long as its longest row.
    """
    real = padded = 0
    for batches in zip(*rows, strict=True):
        for index in range(len(clients.cohorts)):
            members = [batches[client] for client in clients.in_cohort(index)]
            lengths = [len(row.tokens) for batch in members for row in batch]
            real += sum(lengths)
            padded += len(members) * max(map(len, members)) * max(lengths)
    return 1.0 - real / padded


def gflop_by_part(products: Counter[Product]) -> dict[str, float]:
    """GFLOP of a round by part of the model."""
    parts: Counter[str] = Counter()
    for product, times in products.items():
        parts[product.part] += product.flop * times
    return {part: round(flop / 1e9, 2) for part, flop in parts.most_common()}


class Products:
    """All products of a round, computed in a number format."""

    def __init__(self, products: Counter[Product], dtype: torch.dtype) -> None:
        self.products = products
        sizes = [max(size(product) for product in products) for size in (_left, _right, _result)]
        self._buffers = [torch.randn(size).to(dtype) for size in sizes]

    def play(self) -> float:
        """Seconds that one round's products take, one after another."""
        return seconds(self._all)

    def _all(self) -> None:
        left, right, result = self._buffers
        for product, times in self.products.items():
            batch, rows, inner, columns = product[1:]
            a = left[: _left(product)].view(batch, rows, inner)
            # in one of its two directions a layer's weight is transposed
            b = right[: _right(product)].view(batch, inner, columns)
            out = result[: _result(product)].view(batch, rows, columns)
            for _ in range(times):
                if batch == 1:
                    torch.mm(a[0], b[0], out=out[0])
                else:
                    torch.bmm(a, b, out=out)


def _left(product: Product) -> int:
    return product.batch * product.rows * product.inner


def _right(product: Product) -> int:
    return product.batch * product.inner * product.columns


def _result(product: Product) -> int:
    return product.batch * product.rows * product.columns
