"""Candidate responses: what the plain backbone answers, several times to each prompt, sampled in batches."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from pwff_core import seeds
from pwff_core.config import AdapterConfig, LoraConfig
from pwff_core.data.encoding import prompt_text, prompt_tokens, without_beginning
from pwff_core.engine.models.backbone import Backbone, load_backbone
from pwff_core.engine.models.cohort import Cohort
from pwff_core.engine.models.decoding import decode
from pwff_core.tools.rank.cache import KeptResponses, keeping, read_kept
from pwff_core.tools.rank.settings import RankingConfig

ROWS_AT_ONCE = 64  # responses that are written together

Responses = tuple[tuple[str, ...], ...]  # n to each prompt


def sampled(config: RankingConfig, prompts: Sequence[str], path: Path, told: Callable[[int], object]) -> Responses:
    """`config.candidates` responses to each prompt, trimmed; equal ones may be among them.

    They are kept in `path`, batch by batch, and those that are there already are read: the same settings give the same
    responses. `told` gets the number of prompts of each batch. ModelError if the backbone cannot be loaded.
    """
    size = max(1, ROWS_AT_ONCE // config.candidates)
    batches = [prompts[start : start + size] for start in range(0, len(prompts), size)]
    kept = read_kept(path, KeptResponses)
    backbone: Backbone | None = None
    found: list[tuple[str, ...]] = []
    with keeping(path) as keeper:
        for number, batch in enumerate(batches):
            key = _key(config, number, batch)
            if key not in kept:
                backbone = backbone or load_backbone(config.backbone, config.device)
                kept[key] = KeptResponses(key=key, responses=_respond(backbone, config, number, batch))
                keeper.add(kept[key])
            found += kept[key].responses
            told(len(batch))
    return tuple(found)


def _key(config: RankingConfig, number: int, prompts: Sequence[str]) -> str:
    """A hash of all that a batch's responses depend on."""
    settings = (config.backbone, config.candidates, config.temperature, config.max_new_tokens, config.seed)
    return hashlib.sha256(repr((settings, number, tuple(prompts))).encode()).hexdigest()


def _respond(backbone: Backbone, config: RankingConfig, number: int, prompts: Sequence[str]) -> Responses:
    nobody = torch.zeros(1, len(backbone.attention), 3, dtype=torch.bool)  # one client, no LoRA anywhere
    plain = Cohort(backbone, nobody, (), AdapterConfig(), LoraConfig(), torch.Generator().manual_seed(0))
    longest = min(config.max_new_tokens, backbone.context // 2)
    room = backbone.context - longest  # a prompt that is too long loses its beginning
    tokenizer = backbone.tokenizer
    given = [without_beginning(tokenizer, prompt_tokens(tokenizer, prompt_text(text)), room) for text in prompts]
    rows = [ids for ids in given for _ in range(config.candidates)]
    generator = torch.Generator(backbone.device)
    generator.manual_seed(seeds.torch_seed(config.seed, "candidates", number))
    answers = decode(plain, [rows], longest, config.temperature, generator)
    texts = [
        tokenizer.decode(tokens[:length], skip_special_tokens=True).strip()
        for tokens, length in zip(answers.tokens.tolist(), answers.lengths.tolist(), strict=True)
    ]
    n = config.candidates
    return tuple(tuple(texts[start : start + n]) for start in range(0, len(texts), n))
