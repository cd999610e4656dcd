"""The clients of a run: their examples, their models, their owners' preferences. All stages work on these."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray

from pwff_core import seeds
from pwff_core.config import RunConfig
from pwff_core.data.client_profiles import helpfulness_weights
from pwff_core.data.encoding import Encoded, cut_note, encode
from pwff_core.data.partition import ClientData
from pwff_core.engine.models.backbone import Backbone, Sites
from pwff_core.engine.models.cohort import Cohort
from pwff_core.engine.models.memory import tokens_of_pass
from pwff_core.methods import Method

Measures: TypeAlias = dict[str, float | None]  # what is measured of a client, by field of its record
COHORT_SIZE = 10  # most clients of one stack; more train in several stacks: no slower, and memory stays bounded


class Splits(NamedTuple):
    """One client's examples as tokens."""

    train: list[Encoded]
    held_out: list[Encoded]


@dataclass(eq=False)
class Clients:
    """The clients of a run over one backbone, in cohorts that train as one stack.

    The run's config is here and nowhere else; steering replaces it between two rounds, so read it anew in each.
    """

    config: RunConfig
    method: Method
    backbone: Backbone
    cohorts: list[Cohort]
    splits: list[Splits]  # K
    cohort_size: int
    tokens_at_once: int  # most of all clients of a cohort together, in a pass with gradients

    @property
    def weights(self) -> list[float]:
        """How much each of the K owners weighs helpfulness, 0 … 1."""
        return helpfulness_weights(self.config)

    @property
    def padding(self) -> int:
        """The token that fills shorter rows of a batch."""
        token: int = self.backbone.tokenizer.eos_token_id
        return token

    def in_cohort(self, cohort: int) -> range:
        """The clients that a cohort's models serve; the one model of pooled training serves all clients."""
        start = cohort * self.cohort_size
        return range(self.config.clients) if self.method.pooled else range(start, start + self.cohorts[cohort].clients)


def tokens_at_once(backbone: Backbone) -> int:
    """Most tokens of a pass with gradients, so that what it keeps for the backward pass stays bounded."""
    return tokens_of_pass(Sites(backbone.attention, backbone.adapters), backbone.dtype)


def fitting_cohort_size(backbone: Backbone, splits: Sequence[Splits]) -> int:
    """How many clients train in one stack: at most COHORT_SIZE, and a row of each fits in a pass.

    The stacks are of about equal size.
    """
    longest = max(len(row.tokens) for split in splits for row in split.train)
    most_clients = min(COHORT_SIZE, max(1, tokens_at_once(backbone) // longest))
    return math.ceil(len(splits) / math.ceil(len(splits) / most_clients))


def new_cohorts(
    config: RunConfig, method: Method, backbone: Backbone, placed: NDArray[np.bool_], cohort_size: int
) -> list[Cohort]:
    """Cohorts of at most `cohort_size` clients, all with the same initial tensors; `placed` (K, blocks, 3)."""
    rows = torch.from_numpy(placed[:1] if method.pooled else placed)
    return [
        Cohort(
            backbone, stack, method.trains, config.adapter, config.lora,
            torch.Generator().manual_seed(seeds.torch_seed(config.seed, "start")),
        )
        for stack in rows.split(cohort_size)
    ]  # fmt: skip


def encode_splits(
    data: Sequence[ClientData], config: RunConfig, backbone: Backbone
) -> tuple[list[Splits], tuple[str, ...]]:
    """Every client's examples as tokens, and a note on those that were cut."""
    most_tokens = min(config.data.max_length, backbone.context)
    splits = []
    for own in data:
        held_out = own.test if config.data.evaluate_on == "test" else own.validation
        parts = (
            [encode(example, backbone.tokenizer, most_tokens) for example in part] for part in (own.train, held_out)
        )
        splits.append(Splits(*parts))
    return splits, cut_note([row for split in splits for part in split for row in part], most_tokens)
