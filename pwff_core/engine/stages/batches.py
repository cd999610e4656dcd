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

LENGTH_JITTER = 8.0  # [tokens] of noise on lengths, so that every epoch has other batches of similar lengths


class Batch(NamedTuple):
    """n rows of each of K clients, with N response tokens to predict."""

    tokens: Tensor  # (K·n, T) int64, padded on the right
    at: Tensor  # (N,) flat index into K·n·T of the position that predicts the token
    labels: Tensor  # (N,) the token
    kinds: Tensor  # (N,) index into encoding.KINDS
    owner: Tensor  # (N,) client, 0 … K−1


def collate(rows: Sequence[Sequence[Encoded]], padding: int, device: torch.device) -> Batch:
    """A batch of each client's rows; a client with fewer rows than the others gets empty ones."""
    count = max(len(client_rows) for client_rows in rows)
    length = max(len(row.tokens) for client_rows in rows for row in client_rows)
    tokens = np.full((len(rows), count, length), padding, dtype=np.int64)
    kinds = np.full((len(rows), count, length), PROMPT, dtype=np.int64)
    for client, client_rows in enumerate(rows):
        for index, row in enumerate(client_rows):
            tokens[client, index, : len(row.tokens)] = row.tokens
            kinds[client, index, : len(row.kinds)] = row.kinds
    predicted = np.flatnonzero(kinds.ravel() != PROMPT)
    parts = (
        tokens.reshape(-1, length), predicted - 1, tokens.ravel()[predicted], kinds.ravel()[predicted],
        predicted // (count * length),
    )  # fmt: skip
    return Batch(*(torch.from_numpy(np.ascontiguousarray(part)).to(device) for part in parts))


def training_rows(examples: Sequence[Encoded], seed: int, client: int, step: int, size: int) -> list[Encoded]:
    """Batch number `step` (0 …) of a client's `examples`, at most `size` of them; an epoch has every example once.

    Batches hold examples of similar length, and all clients take short and long ones at the same steps, so that little
    of a stacked batch is padding. A function of its arguments alone: nothing is remembered between rounds.
    """
    batches = math.ceil(len(examples) / size)
    epoch, turn = divmod(step, batches)
    lengths = tuple(len(row.tokens) for row in examples)
    return [examples[index] for index in _epoch(lengths, seed, client, epoch, batches)[turn]]


@functools.lru_cache(maxsize=1024)
def _epoch(lengths: tuple[int, ...], seed: int, client: int, epoch: int, batches: int) -> list[list[int]]:
    """One epoch's batches of indices, in the order of their steps."""
    jitter = seeds.generator(seed, "order", client, epoch).uniform(-LENGTH_JITTER, LENGTH_JITTER, len(lengths))
    left = np.array_split(np.argsort(np.array(lengths) + jitter), batches)  # from short to long
    order = []
    for step in range(epoch * batches, (epoch + 1) * batches):
        place = seeds.generator(seed, "length", step).random()  # the same for all clients
        order.append(left.pop(int(place * len(left))).tolist())
    return order


def passes(
    rows: Sequence[Sequence[Encoded]], tokens_at_once: int, rows_at_once: int | None = None
) -> Iterator[list[list[Encoded]]]:
    """The rows of K clients in parts, the longest rows first.

    A part has equally many rows of every client, and at most `tokens_at_once` tokens, padding included, unless it is a
    single row of each. Rows of similar lengths need little padding. A client with fewer rows than the others has none
    in the last parts.
    """
    ordered = [sorted(client_rows, key=lambda row: -len(row.tokens)) for client_rows in rows]
    most, start = max(len(client_rows) for client_rows in ordered), 0
    while start < most:
        longest = max(len(client_rows[start].tokens) for client_rows in ordered if start < len(client_rows))
        count = max(1, min(tokens_at_once // (len(rows) * longest), rows_at_once or most))
        yield [client_rows[start : start + count] for client_rows in ordered]
        start += count
