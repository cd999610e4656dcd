"""Rollouts: policies' answers to prompts, and the probability of each of their tokens."""

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

READ_TOKENS = 2048  # of all models in a pass without gradients; more do not fit in the processor's cache


class Rollouts(NamedTuple):
    """n answers of each of M models; the longest is R tokens long, its end token included."""

    texts: list[list[Text]]  # M × n
    pieces: list[list[list[str]]]  # M × n: the text of every response token, "" for the end token
    tokens: Tensor  # (M, n, T) prompt and response, padded on the right
    at: Tensor  # (M, n, R) position in T that predicts a response token
    labels: Tensor  # (M, n, R) the response tokens
    mask: Tensor  # (M, n, R) true where there is one
    log_probs: Tensor  # (M, n, R) of each token under the policy that wrote it, as decoded; 0 where there is none

    @property
    def prompts(self) -> list[list[str]]:
        """The prompts, M × n."""
        return [[text.prompt for text in texts] for texts in self.texts]

    def part(self, models: slice, chosen: Tensor) -> Rollouts:
        """Rows `chosen` (m, c) of some of the models, cut to the longest of them, without their texts."""
        own = torch.arange(len(chosen), device=chosen.device)[:, None]
        mask, at = self.mask[models][own, chosen], self.at[models][own, chosen]
        longest = int(mask.sum(-1).max())
        end = int((at * mask).max()) + 2  # one past the position of the last token
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
    """Most tokens of a prompt: at most those of an example, and so many that the longest answer, or half of the
    context, still fits."""
    context = backbone.context
    return min(config.data.max_length, context - min(config.alignment.max_new_tokens, context // 2))


def cut_prompts_note(config: RunConfig, backbone: Backbone, clients: Sequence[ClientPreferences]) -> tuple[str, ...]:
    """A note on prompts of alignment that are too long, or none."""
    room, tokenizer = prompt_room(config, backbone), backbone.tokenizer
    prompts = {
        prompt
        for own in clients
        for part in (own.delicate, own.ordinary, own.test_delicate, own.test_ordinary)
        for prompt in part
    }
    cut = sum(len(prompt_tokens(tokenizer, prompt_text(prompt))) > room for prompt in prompts)
    return (
        (f"{cut} of {len(prompts)} prompts of alignment are longer than {room} tokens and lose their beginning.",)
        if cut
        else ()
    )


def answer(clients: Clients, prompts: Sequence[Sequence[str]], *purpose: str | int) -> Rollouts:
    """Every model's answers to its instructions, M × n of them; `purpose` names the random draw."""
    settings, backbone = clients.config.alignment, clients.backbone
    tokenizer, end = backbone.tokenizer, clients.padding
    room = prompt_room(clients.config, backbone)
    texts = [[prompt_text(instruction) for instruction in own] for own in prompts]
    tokens = [[truncate_left(tokenizer, prompt_tokens(tokenizer, text), room) for text in own] for own in texts]
    responses: list[list[list[int]]] = []
    token_log_probs: list[list[float]] = []
    generator = torch.Generator().manual_seed(seeds.torch_seed(clients.config.seed, "answers", *purpose, 0))
    # drawn for all models at once: a model's draws do not depend on its cohort
    draws = torch.rand(settings.max_new_tokens, len(tokens), len(tokens[0]), generator=generator)
    start = 0
    for cohort in clients.cohorts:
        models = slice(start, start + cohort.clients)
        start += cohort.clients
        answers = decode_drawn(cohort, tokens[models], settings.temperature, draws[:, models].flatten(1))
        rows = [
            response[: length + ended]
            for response, length, ended in zip(
                answers.tokens.tolist(), answers.lengths.tolist(), answers.ended.tolist(), strict=True
            )
        ]
        token_log_probs += answers.log_probs.tolist()
        num_prompts = len(tokens[0])
        responses += [rows[first : first + num_prompts] for first in range(0, len(rows), num_prompts)]
    return _stacked(texts, tokens, responses, token_log_probs, tokenizer, end, backbone.device)


def _stacked(
    texts: list[list[str]], prompts: list[list[list[int]]], responses: list[list[list[int]]],
    token_log_probs: list[list[float]], tokenizer: Any, end: int, device: torch.device,
) -> Rollouts:  # fmt: skip
    """The tensors of M × n prompts and responses; `token_log_probs` (M·n, …) of the responses."""
    rows = [[(p, r) for p, r in zip(ps, rs, strict=True)] for ps, rs in zip(prompts, responses, strict=True)]
    shape = (len(rows), len(rows[0]))
    width = max(len(p) + len(r) for model_rows in rows for p, r in model_rows)
    longest = max(len(r) for model_rows in rows for _, r in model_rows)
    tokens = np.full((*shape, width), end, dtype=np.int64)
    labels = np.full((*shape, longest), end, dtype=np.int64)
    at, mask = np.zeros((*shape, longest), dtype=np.int64), np.zeros((*shape, longest), dtype=bool)
    response_log_probs = np.zeros((*shape, longest), dtype=np.float32)
    for model, model_rows in enumerate(rows):
        for row, (prompt, response) in enumerate(model_rows):
            tokens[model, row, : len(prompt) + len(response)] = prompt + response
            labels[model, row, : len(response)] = response
            at[model, row, : len(response)] = np.arange(len(prompt) - 1, len(prompt) - 1 + len(response))
            mask[model, row, : len(response)] = True
            of_row = token_log_probs[model * shape[1] + row]
            response_log_probs[model, row, : len(response)] = of_row[: len(response)]
    pieces = [[["" if t == end else _piece(tokenizer, t) for t in response] for response in own] for own in responses]
    written = [
        [
            Text(prompt, "".join(parts), bool(response) and response[-1] == end)
            for prompt, parts, response in zip(own_prompts, own_pieces, own_responses, strict=True)
        ]
        for own_prompts, own_pieces, own_responses in zip(texts, pieces, responses, strict=True)
    ]
    arrays = (tokens, at, labels, mask, response_log_probs)
    return Rollouts(written, pieces, *(torch.from_numpy(array).to(device) for array in arrays))


@functools.lru_cache(maxsize=65_536)
def _piece(tokenizer: Any, token: int) -> str:
    """The text of one token."""
    text: str = tokenizer.decode([token], clean_up_tokenization_spaces=False)
    return text


def log_probs(cohorts: Sequence[Cohort], rollouts: Rollouts, temperature: float) -> Tensor:
    """Log probability (M, n, R) of every response token at the sampling temperature, without gradients.

    0 where there is no token. The cohorts' clients are the M models, in order.
    """
    result = torch.zeros(rollouts.mask.shape, device=rollouts.mask.device)
    start = 0
    for cohort in cohorts:
        models = slice(start, start + cohort.clients)
        start += cohort.clients
        own = torch.arange(models.start, models.stop, device=result.device)[:, None]
        for chosen in rollouts.passes(models, READ_TOKENS):
            part = rollouts.part(models, chosen)
            with torch.no_grad():
                result[own, chosen, : part.mask.shape[-1]] = part_log_probs(cohort, part, temperature)
    return result


def part_log_probs(cohort: Cohort, part: Rollouts, temperature: float) -> Tensor:
    """Log probabilities (m, c, R) of some rows of the cohort's m models, in one pass and with gradients."""
    backbone, tokens, mask = cohort.backbone, part.tokens, part.mask
    first = torch.arange(mask[..., 0].numel(), device=mask.device).view(*mask.shape[:2], 1) * tokens.shape[-1]
    with cohort.attached():
        hidden = backbone.hidden(tokens.flatten(0, 1))  # (m·c, T, d)
    predicting = hidden.reshape(-1, hidden.shape[-1])[(first + part.at)[mask]]  # (N, d)
    picked_log_probs = label_scores(backbone.head, predicting, part.labels[mask], temperature).log_probs
    return torch.zeros(mask.shape, device=mask.device).masked_scatter(mask, picked_log_probs)
