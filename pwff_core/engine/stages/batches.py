"""Client-major batches of encoded examples."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from pwff_core import seeds
from pwff_core.data.encoding import PROMPT, Encoded

LENGTH_JITTER = 8.0  # tokens: how far lengths in a training batch are mixed anew every epoch


class Batch(NamedTuple):
    """n rows of every one of K clients; N response tokens are to be predicted."""

    tokens: Tensor  # (K·n, T) int64, padded on the right
    at: Tensor  # (N,) flat index into K·n·T of the position that predicts
    labels: Tensor  # (N,) the token that follows it
    kinds: Tensor  # (N,) index into encoding.KINDS
    owner: Tensor  # (N,) client, 0 … K−1


def collate(rows: Sequence[Sequence[Encoded]], padding: int, device: torch.device) -> Batch:
    """A batch of each client's rows; a client with fewer rows than the others gets empty ones."""
    count = max(len(mine) for mine in rows)
    length = max(len(row.tokens) for mine in rows for row in mine)
    tokens = np.full((len(rows), count, length), padding, dtype=np.int64)
    kinds = np.full((len(rows), count, length), PROMPT, dtype=np.int64)
    for client, mine in enumerate(rows):
        for index, row in enumerate(mine):
            tokens[client, index, : len(row.tokens)] = row.tokens
            kinds[client, index, : len(row.kinds)] = row.kinds
    predicted = np.flatnonzero(kinds.ravel() != PROMPT)
    parts = (
        tokens.reshape(-1, length), predicted - 1, tokens.ravel()[predicted], kinds.ravel()[predicted],
        predicted // (count * length),
    )  # fmt: skip
    return Batch(*(torch.from_numpy(np.ascontiguousarray(part)).to(device) for part in parts))


def training_rows(mine: Sequence[Encoded], seed: int, client: int, step: int, size: int) -> list[Encoded]:
    """The `step`-th batch (0 …) of a client, at most `size` examples; an epoch shows every example once.

    Batches hold examples of similar length, and all clients take short and long ones at the same steps, so that little
    of a stacked batch is padding. A function of its arguments alone: nothing is remembered between rounds.
    """
    batches = math.ceil(len(mine) / size)
    epoch, turn = divmod(step, batches)
    lengths = tuple(len(row.tokens) for row in mine)
    return [mine[index] for index in _epoch(lengths, seed, client, epoch, batches)[turn]]


@functools.lru_cache(maxsize=1024)
def _epoch(lengths: tuple[int, ...], seed: int, client: int, epoch: int, batches: int) -> list[list[int]]:
    """One epoch's batches of indices, in the order of their steps."""
    jitter = seeds.generator(seed, "order", client, epoch).uniform(-LENGTH_JITTER, LENGTH_JITTER, len(lengths))
    left = np.array_split(np.argsort(np.array(lengths) + jitter), batches)  # from short to long
    order = []
    for step in range(epoch * batches, (epoch + 1) * batches):
        wanted = seeds.generator(seed, "length", step).random()  # the same for all clients
        order.append(left.pop(int(wanted * len(left))).tolist())
    return order


def passes(
    rows: Sequence[Sequence[Encoded]], tokens_at_once: int, rows_at_once: int | None = None
) -> Iterator[list[list[Encoded]]]:
    """The rows of K clients in parts, longest first: of every client equally many, and together at most
    `tokens_at_once` tokens with their padding, unless it is a single row of each.

    Batches of similar lengths have little padding; a client with fewer rows than the others has none in the last parts.
    """
    ordered = [sorted(mine, key=lambda row: -len(row.tokens)) for mine in rows]
    most, start = max(len(mine) for mine in ordered), 0
    while start < most:
        longest = max(len(mine[start].tokens) for mine in ordered if start < len(mine))
        count = max(1, min(tokens_at_once // (len(rows) * longest), rows_at_once or most))
        yield [mine[start : start + count] for mine in ordered]
        start += count
