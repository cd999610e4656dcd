"""Rollouts: what policies answer to prompts, and how probable each token of it is."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from pwff_core import seeds
from pwff_core.config import RunConfig
from pwff_core.data.encoding import prompt_text, prompt_tokens, truncate_left
from pwff_core.data.preferences import ClientPreferences
from pwff_core.engine.models.backbone import Backbone
from pwff_core.engine.models.cohort import Cohort
from pwff_core.engine.models.decoding import decode_drawn
from pwff_core.engine.models.encoder import Text
from pwff_core.engine.models.lm_head import label_scores
from pwff_core.engine.stages.clients import Clients

READ_TOKENS = 2048  # of all models in a pass without gradients; with more, it leaves the processor's cache


class Rollouts(NamedTuple):
    """n answers of each of M models; the longest is R tokens long, its end token included."""

    texts: list[list[Text]]  # M × n
    pieces: list[list[list[str]]]  # M × n: the text of every response token, "" for the end token
    tokens: Tensor  # (M, n, T) prompt and response, padded on the right
    at: Tensor  # (M, n, R) position in T that predicts a response token
    labels: Tensor  # (M, n, R) the response tokens
    mask: Tensor  # (M, n, R) true where there is one
    log_probs: Tensor  # (M, n, R) of each token under the policy that wrote it, as decoding told; 0 where there is none

    @property
    def prompts(self) -> list[list[str]]:
        """The prompts, M × n."""
        return [[text.prompt for text in mine] for mine in self.texts]

    def part(self, models: slice, chosen: Tensor) -> Rollouts:
        """Rows `chosen` (m, c) of some of the models, no longer than they need to be; their texts are left out."""
        own = torch.arange(len(chosen), device=chosen.device)[:, None]
        mask, at = self.mask[models][own, chosen], self.at[models][own, chosen]
        longest = int(mask.sum(-1).max())
        end = int((at * mask).max()) + 2  # the position of the last token, and one more
        return Rollouts(
            [], [], self.tokens[models][own, chosen][..., :end], at[..., :longest],
            self.labels[models][own, chosen][..., :longest], mask[..., :longest],
            self.log_probs[models][own, chosen][..., :longest],
        )  # fmt: skip

    def by_length(self, models: slice, parts: int, jitter: Tensor | None = None) -> list[Tensor]:
        """The n rows of each of some models in parts of similar length, (m, about n / parts) each, short ones first.

        All models' i-th parts are stacked, so little of it is padding. `jitter` (m, n) [tokens] mixes the lengths.
        """
        lengths = self._lengths(models)
        order = (lengths if jitter is None else lengths + jitter).argsort(dim=1)
        return list(order.tensor_split(min(parts, order.shape[1]), dim=1))

    def passes(self, models: slice, tokens_at_once: int, chosen: Tensor | None = None) -> list[Tensor]:
        """Rows `chosen` (m, c) of some models, or all, in parts (m, …) for a pass each, short ones first.

        A pass has at most so many tokens, padding included, unless it is a single row of each model.
        """
        lengths = self._lengths(models)
        order = lengths.argsort(dim=1) if chosen is None else chosen.gather(1, lengths.gather(1, chosen).argsort(dim=1))
        longest = lengths.gather(1, order).amax(0).long().tolist()  # of every column
        parts, start = [], 0
        for column, length in enumerate(longest):
            if column > start and (column + 1 - start) * length * len(order) > tokens_at_once:
                parts.append(order[:, start:column])
                start = column
        return [*parts, order[:, start:]]

    def _lengths(self, models: slice) -> Tensor:
        """Tokens (m, n) of prompt and response."""
        return (self.at[models] * self.mask[models]).amax(-1).float() + 2


def prompt_room(config: RunConfig, backbone: Backbone) -> int:
    """Most tokens of a prompt: those of an example, and as the context leaves beside the longest answer or a half."""
    context = backbone.context
    return min(config.data.max_length, context - min(config.alignment.max_new_tokens, context // 2))


def cut_prompts_note(config: RunConfig, backbone: Backbone, people: Sequence[ClientPreferences]) -> tuple[str, ...]:
    """What a reader should know about prompts of alignment that are too long; nothing where none is."""
    room, tokenizer = prompt_room(config, backbone), backbone.tokenizer
    asked = {
        text
        for mine in people
        for texts in (mine.delicate, mine.ordinary, mine.test_delicate, mine.test_ordinary)
        for text in texts
    }
    cut = sum(len(prompt_tokens(tokenizer, prompt_text(text))) > room for text in asked)
    return (
        (f"{cut} of {len(asked)} prompts of alignment are longer than {room} tokens and lose their beginning.",)
        if cut
        else ()
    )


def answer(clients: Clients, prompts: Sequence[Sequence[str]], *purpose: str | int) -> Rollouts:
    """Every model's answers to its instructions, M × n of them; `purpose` names the random draw."""
    settings, backbone = clients.config.alignment, clients.backbone
    tokenizer, end = backbone.tokenizer, clients.padding
    room = prompt_room(clients.config, backbone)
    texts = [[prompt_text(instruction) for instruction in mine] for mine in prompts]
    given = [[truncate_left(tokenizer, prompt_tokens(tokenizer, text), room) for text in mine] for mine in texts]
    responses: list[list[list[int]]] = []
    told: list[list[float]] = []
    generator = torch.Generator().manual_seed(seeds.torch_seed(clients.config.seed, "answers", *purpose, 0))
    # a model's numbers do not depend on how the models are put together in cohorts
    draws = torch.rand(settings.max_new_tokens, len(given), len(given[0]), generator=generator)
    start = 0
    for cohort in clients.cohorts:
        models = slice(start, start + cohort.clients)
        start += cohort.clients
        mine = given[models]
        answers = decode_drawn(cohort, mine, settings.temperature, draws[:, models].flatten(1))
        rows = [
            tokens[: length + ended]
            for tokens, length, ended in zip(
                answers.tokens.tolist(), answers.lengths.tolist(), answers.ended.tolist(), strict=True
            )
        ]
        told += answers.log_probs.tolist()
        responses += [rows[first : first + len(mine[0])] for first in range(0, len(rows), len(mine[0]))]
    return _stacked(texts, given, responses, told, tokenizer, end, backbone.device)


def _stacked(
    texts: list[list[str]], given: list[list[list[int]]], responses: list[list[list[int]]], told: list[list[float]],
    tokenizer: Any, end: int, device: torch.device,
) -> Rollouts:  # fmt: skip
    rows = [[(p, r) for p, r in zip(ps, rs, strict=True)] for ps, rs in zip(given, responses, strict=True)]
    shape = (len(rows), len(rows[0]))
    width = max(len(p) + len(r) for mine in rows for p, r in mine)
    longest = max(len(r) for mine in rows for _, r in mine)
    tokens = np.full((*shape, width), end, dtype=np.int64)
    labels = np.full((*shape, longest), end, dtype=np.int64)
    at, mask = np.zeros((*shape, longest), dtype=np.int64), np.zeros((*shape, longest), dtype=bool)
    probable = np.zeros((*shape, longest), dtype=np.float32)
    for model, mine in enumerate(rows):
        for row, (prompt, response) in enumerate(mine):
            tokens[model, row, : len(prompt) + len(response)] = prompt + response
            labels[model, row, : len(response)] = response
            at[model, row, : len(response)] = np.arange(len(prompt) - 1, len(prompt) - 1 + len(response))
            mask[model, row, : len(response)] = True
            probable[model, row, : len(response)] = told[model * shape[1] + row][: len(response)]
    pieces = [[["" if t == end else _piece(tokenizer, t) for t in response] for _, response in mine] for mine in rows]
    written = [
        [
            Text(prompt, "".join(parts), bool(response) and response[-1] == end)
            for prompt, parts, (_, response) in zip(prompts, theirs, mine, strict=True)
        ]
        for prompts, theirs, mine in zip(texts, pieces, rows, strict=True)
    ]
    parts = (tokens, at, labels, mask, probable)
    return Rollouts(written, pieces, *(torch.from_numpy(part).to(device) for part in parts))


@functools.lru_cache(maxsize=65_536)
def _piece(tokenizer: Any, token: int) -> str:
    """The text of one token."""
    text: str = tokenizer.decode([token], clean_up_tokenization_spaces=False)
    return text


def log_probs(cohorts: Sequence[Cohort], rollouts: Rollouts, temperature: float) -> Tensor:
    """Log probability (M, n, R) of every response token at the sampling temperature, without gradients; 0 where there
    is none. The cohorts' clients are the M models, in order.
    """
    found = torch.zeros(rollouts.mask.shape, device=rollouts.mask.device)
    start = 0
    for cohort in cohorts:
        models = slice(start, start + cohort.clients)
        start += cohort.clients
        own = torch.arange(models.start, models.stop, device=found.device)[:, None]
        for chosen in rollouts.passes(models, READ_TOKENS):
            part = rollouts.part(models, chosen)
            with torch.no_grad():
                found[own, chosen, : part.mask.shape[-1]] = part_log_probs(cohort, part, temperature)
    return found


def part_log_probs(cohort: Cohort, part: Rollouts, temperature: float) -> Tensor:
    """The same (m, c, R) of some rows of the cohort's m models, in one pass and with gradients."""
    backbone, tokens, mask = cohort.backbone, part.tokens, part.mask
    first = torch.arange(mask[..., 0].numel(), device=mask.device).view(*mask.shape[:2], 1) * tokens.shape[-1]
    with cohort.attached():
        hidden = backbone.hidden(tokens.flatten(0, 1))  # (m·c, T, d)
    predicting = hidden.reshape(-1, hidden.shape[-1])[(first + part.at)[mask]]  # (N, d)
    picked = label_scores(backbone.head, predicting, part.labels[mask], temperature).log_probs
    return torch.zeros(mask.shape, device=mask.device).masked_scatter(mask, picked)
