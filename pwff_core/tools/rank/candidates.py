"""The prompts to rank on, and the candidate responses: what the plain backbone answers, several times to each."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import torch
from transformers import PreTrainedTokenizerBase

from pwff_core import seeds
from pwff_core.config import AdapterConfig, LoraConfig
from pwff_core.data.encoding import prompt_text, prompt_tokens, truncate_left
from pwff_core.data.partition import everyday_items
from pwff_core.data.preference_files import PAIR_COLUMNS, read_pairs
from pwff_core.data.preferences import DELICATE_PAIRS, delicate_items
from pwff_core.data.tables import End, read_table, short_repr
from pwff_core.engine.models.backbone import Backbone, load_backbone
from pwff_core.engine.models.cohort import Cohort
from pwff_core.engine.models.decoding import decode
from pwff_core.errors import DataError
from pwff_core.tools.rank.cache import CachedResponses, open_cache, read_cache
from pwff_core.tools.rank.settings import RankingConfig

MOST_ROWS = 100_000  # of a source; prompts are drawn from these
ROWS_AT_ONCE = 64  # responses that are written together
_COLUMNS = ("instruction", "input")

Responses = tuple[tuple[str, ...], ...]  # n to each prompt


def load_prompts(source: str, count: int, seed: int) -> list[str]:
    """`count` distinct prompts in an order by the seed, or all where there are fewer.

    demo: the training pool's ordinary prompts, and delicate ones in the share that the demo's own pairs have. Otherwise
    a file, a folder or a Hub id whose columns are TRL's (chosen, rejected) or Alpaca's (instruction, perhaps input).
    DataError if it cannot be read or has no prompt.
    """
    if source == "demo":
        delicate = round(count * DELICATE_PAIRS)
        parts = [
            _draw((item.instruction for item in everyday_items("train")), count - delicate, seed, "ordinary"),
            _draw((item.instruction for item in delicate_items("train")), delicate, seed, "delicate"),
        ]
        return _draw((text for part in parts for text in part), count, seed, "order")
    prompts = _draw(_read_prompts(source), count, seed, "prompts")
    if not prompts:
        raise DataError(f"{source} has no prompt: every instruction in it is empty.")
    return prompts


def _read_prompts(source: str) -> list[str]:
    def choose(columns: Sequence[str]) -> dict[str, End]:
        if set(PAIR_COLUMNS) <= set(columns):
            return {PAIR_COLUMNS[0]: "beginning"}  # `read_pairs` reads the rest of them
        if "instruction" not in columns:
            raise DataError(
                f"{source} has the columns {', '.join(columns)}; prompts come from instruction (and perhaps input), or "
                "from preference pairs: prompt, chosen and rejected."
            )
        return {name: "end" for name in _COLUMNS if name in columns}

    table = read_table(source, MOST_ROWS, choose)
    if "instruction" not in table.rows[0]:
        return [pair.instruction for pair in read_pairs(source, MOST_ROWS)[0]]
    prompts = []
    for number, row in zip(table.numbers, table.rows, strict=True):
        for name, value in row.items():
            if value is not None and not isinstance(value, str):
                raise DataError(f"{source}, row {number}: {name!r} is {short_repr(value)}, but it must be a text.")
        prompts.append("\n".join((value or "").strip() for value in row.values()).strip())
    return prompts


def _draw(texts: Iterable[str], count: int, seed: int, purpose: str) -> list[str]:
    """At most `count` of the distinct texts that are not empty, in a random order."""
    distinct = [text for text in dict.fromkeys(texts) if text]
    order = seeds.generator(seed, "ranking", purpose).permutation(len(distinct))
    return [distinct[index] for index in order[:count]]


def sample_responses(
    config: RankingConfig,
    prompts: Sequence[str],
    path: Path,
    on_progress: Callable[[int], object],
    rows_at_once: int = ROWS_AT_ONCE,
) -> Responses:
    """`config.candidates` responses to each prompt, trimmed; equal ones may be among them.

    They are written to `path`, batch by batch; responses that are there already are read, since the same settings give
    the same responses. `on_progress` gets the number of prompts of each batch. ModelError if the backbone cannot be
    loaded.
    """
    size = max(1, rows_at_once // config.candidates)
    batches = [prompts[start : start + size] for start in range(0, len(prompts), size)]
    cache = read_cache(path, CachedResponses)
    backbone: Backbone | None = None
    responses: list[tuple[str, ...]] = []
    with open_cache(path) as writer:
        for number, batch in enumerate(batches):
            key = batch_key(config, number, batch)
            if key not in cache:
                backbone = backbone or load_backbone(config.backbone, config.device)
                cache[key] = CachedResponses(key=key, responses=_respond(backbone, config, number, batch))
                writer.add(cache[key])
            responses += cache[key].responses
            on_progress(len(batch))
    return tuple(responses)


def batch_key(config: RankingConfig, number: int, prompts: Sequence[str]) -> str:
    """The key of a batch's responses in the cache: a hash of all that they depend on."""
    settings = (config.backbone, config.candidates, config.temperature, config.max_new_tokens, config.seed)
    return hashlib.sha256(repr((settings, number, tuple(prompts))).encode()).hexdigest()


def encode_prompts(
    tokenizer: PreTrainedTokenizerBase, context: int, max_new_tokens: int, prompts: Sequence[str]
) -> tuple[list[list[int]], int]:
    """Token ids of each prompt, and the longest response [token], which takes half the context at the most.

    A prompt that is too long for the rest of the context loses its beginning.
    """
    longest = min(max_new_tokens, context // 2)
    room = context - longest
    return [truncate_left(tokenizer, prompt_tokens(tokenizer, prompt_text(text)), room) for text in prompts], longest


def _respond(backbone: Backbone, config: RankingConfig, number: int, prompts: Sequence[str]) -> Responses:
    no_lora = torch.zeros(1, len(backbone.attention), 3, dtype=torch.bool)  # one client, no LoRA anywhere
    plain = Cohort(backbone, no_lora, (), AdapterConfig(), LoraConfig(), torch.Generator().manual_seed(0))
    tokenizer = backbone.tokenizer
    encoded, longest = encode_prompts(tokenizer, backbone.context, config.max_new_tokens, prompts)
    rows = [ids for ids in encoded for _ in range(config.candidates)]
    generator = torch.Generator(backbone.device)
    generator.manual_seed(seeds.torch_seed(config.seed, "candidates", number))
    answers = decode(plain, [rows], longest, config.temperature, generator)
    texts = [
        tokenizer.decode(tokens[:length], skip_special_tokens=True).strip()
        for tokens, length in zip(answers.tokens.tolist(), answers.lengths.tolist(), strict=True)
    ]
    n = config.candidates
    return tuple(tuple(texts[start : start + n]) for start in range(0, len(texts), n))
