"""A client alone, trained the plain way: adapters as modules, LoRA by `peft`, a loop over steps and rows."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from pwff_core.config import AdapterConfig, LoraConfig
from pwff_core.data.encoding import PROMPT, Encoded
from pwff_core.engine.models.backbone import Backbone
from pwff_core.engine.models.cohort import Cohort
from pwff_core.engine.stages.batches import collate
from pwff_core.engine.stages.instruction import ADAM_BETAS, ADAM_EPSILON, new_optimiser, train_step

RANK, ALPHA, BOTTLENECK, RATE, CLIP = 4, 8.0, 5, 3e-3, 0.5
PLACED = torch.tensor([[[1, 1, 1], [1, 1, 1]], [[0, 0, 1], [0, 0, 1]], [[1, 0, 1], [1, 0, 0]]], dtype=torch.bool)


def new_cohort(backbone: Backbone, seed: int | None = None) -> Cohort:
    """Three clients over two blocks; with a seed, far from their common start."""
    cohort = Cohort(
        backbone, PLACED, ("adapters", "lora"), AdapterConfig(bottleneck=BOTTLENECK),
        LoraConfig(rank=RANK, alpha=ALPHA), torch.Generator().manual_seed(1),
    )  # fmt: skip
    if seed is not None:
        generator = torch.Generator().manual_seed(seed)
        for tensor in cohort.parameters():
            tensor.data.add_(torch.randn(tensor.shape, generator=generator), alpha=0.1)
    return cohort


def some_rows(seed: int) -> list[list[Encoded]]:
    """Two rows for each of three clients, of lengths 7 … 24."""
    generator = np.random.default_rng(seed)

    def row() -> Encoded:
        length = int(generator.integers(7, 25))
        kinds = np.zeros(length, dtype=np.int8)
        kinds[: int(generator.integers(2, 5))] = PROMPT
        return Encoded(generator.integers(2, 250, length), kinds, cut=False)

    return [[row(), row()] for _ in range(3)]


class PlainAdapter(nn.Module):
    """A module with one client's adapter behind it, which starts from the cohort's weights."""

    def __init__(self, inner: nn.Module, cohort: Cohort, name: str, client: int) -> None:
        super().__init__()
        tensors = cohort.tensors["adapters"]
        parts = ("down", "down_bias", "up", "up_bias")
        self.inner = inner
        self.own = nn.ParameterDict({part: tensors[f"{name}.{part}"][client].detach().clone() for part in parts})

    def forward(self, *args: object, **kwargs: object) -> torch.Tensor:
        y: torch.Tensor = self.inner(*args, **kwargs)
        inner = nn.functional.gelu(y @ self.own["down"] + self.own["down_bias"], approximate="tanh")
        return y + inner @ self.own["up"] + self.own["up_bias"]


def train_cohort(cohort: Cohort, steps: int, padding: int) -> None:
    """Train all clients of a cohort at once, on the same rows as `train_plain` does."""
    optimiser = new_optimiser(cohort, RATE)
    for step in range(steps):
        train_step(cohort, optimiser, [collate(some_rows(step), padding, torch.device("cpu"))], CLIP)


def train_plain(model: nn.Module, client: int, steps: int) -> None:
    """Train a client's model by the mean cross entropy over all response tokens, each row run by itself."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimiser = torch.optim.AdamW(trained, lr=RATE, betas=ADAM_BETAS, eps=ADAM_EPSILON, weight_decay=0.0)
    for step in range(steps):
        optimiser.zero_grad()
        losses = []
        for row in some_rows(step)[client]:
            tokens = torch.from_numpy(row.tokens)[None]
            predicted = torch.from_numpy(row.kinds[1:] != PROMPT)
            logits = model(input_ids=tokens).logits[0, :-1][predicted]
            losses.append(nn.functional.cross_entropy(logits, tokens[0, 1:][predicted], reduction="none"))
        torch.cat(losses).mean().backward()
        nn.utils.clip_grad_norm_(trained, CLIP)
        optimiser.step()


def assert_same_adapter(cohort: Cohort, name: str, client: int, module: PlainAdapter, atol: float) -> None:
    """The cohort's adapter of a client equals the plain one."""
    for part, expected in module.own.items():
        tensor = cohort.tensors["adapters"][f"{name}.{part}"][client]
        torch.testing.assert_close(tensor, expected, atol=atol, rtol=0)
