"""Decoding in one batch with a cache equals the plain way: every prompt alone, the whole sequence for each token."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import dropwhile, groupby
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare
from torch import nn

from pwff_core.config import AdapterConfig, LoraConfig
from pwff_core.engine.models.backbone import load_backbone
from pwff_core.engine.models.cohort import Cohort
from pwff_core.engine.models.decoding import Answers, decode, decode_drawn
from pwff_core.engine.models.kv_cache import BLOCK, COMPACT_EVERY
from pwff_core.errors import ModelError, TrainingError
from tests.support.backbones import family_folder

PLACED = torch.tensor([[[1, 1, 1], [1, 1, 1]], [[0, 0, 1], [0, 0, 1]], [[1, 0, 1], [1, 0, 0]]], dtype=torch.bool)
PROMPTS = [  # five for each of three clients
    [[5, 6, 7], [9, 8, 7, 6, 5, 4, 3, 2], [40], [61, 62, 63, 64], [200, 199]],
    [[11, 12], [13] * 9, [5, 6, 7], [150, 3, 150, 3], [90]],
    [[200, 3], [17, 18, 19, 20], [60], [5, 6, 7], [250, 240, 230, 220, 210, 200]],
]
ROWS = [(client, prompt) for client in range(3) for prompt in PROMPTS[client]]
LIKELY = 7  # an end token that answers come to
UNLIKELY = 1  # the padding token: no answer below comes to it


class Pass(NamedTuple):
    """One pass of the backbone while a cohort decodes."""

    kind: str  # "prefill" or "step"
    tokens: list[list[int]]  # of each row, prompts padded on the left


def new_cohort(folder: Path, end: int = UNLIKELY, precision: str = "float32", device: str = "cpu") -> Cohort:
    """Three clients, each with adapters and LoRA of its own, on a backbone whose next token depends on all before."""
    backbone = load_backbone(str(folder), device, precision)._replace(tokenizer=SimpleNamespace(eos_token_id=end))
    cohort = Cohort(
        backbone, PLACED, ("adapters", "lora"), AdapterConfig(bottleneck=5), LoraConfig(rank=4, alpha=8.0),
        torch.Generator().manual_seed(1),
    )  # fmt: skip
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for tensor in backbone.model.parameters():
            tensor.mul_(10.0 if tensor.dim() > 1 else 1.0)  # from GPT-2's small first weights
        if end == LIKELY:
            direction = backbone.model.get_output_embeddings().weight[end]
            backbone.model.base_model.ln_f.bias += 2.1 * direction / direction.norm()
        for tensor in cohort.parameters():
            tensor.add_(torch.randn(tensor.shape, generator=generator).to(tensor.device), alpha=0.1)
    return cohort


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@torch.no_grad()
def next_scores(cohort: Cohort, client: int, tokens: list[int]) -> torch.Tensor:
    """Scores (V,) of the token after these, by a whole pass without a cache."""
    batch = torch.tensor([tokens] * cohort.clients, device=cohort.backbone.device)
    with cohort.attached():
        hidden = cohort.backbone.hidden(batch)[client, -1]
        return cohort.backbone.logits(hidden).float()


def plain_greedy(cohort: Cohort, client: int, prompt: list[int], most: int) -> list[int]:
    """The answer without its end token."""
    answer: list[int] = []
    while len(answer) < most:
        token = int(next_scores(cohort, client, prompt + answer).argmax())
        if token == cohort.backbone.tokenizer.eos_token_id:
            break
        answer.append(token)
    return answer


def written(answers: Answers) -> list[list[int]]:
    return [row[:length] for row, length in zip(answers.tokens.tolist(), answers.lengths.tolist(), strict=True)]


def plain_sample(cohort: Cohort, row: int, temperature: float, draws: torch.Tensor) -> list[int]:
    """The answer of a row, without its end token, that these uniform draws (most, K·n) choose."""
    client, prompt = ROWS[row]
    answer: list[int] = []
    for draw in draws[:, row].tolist():
        shares = (next_scores(cohort, client, prompt + answer).double() / temperature).softmax(-1).tolist()
        token = 0
        while draw >= shares[token]:
            draw -= shares[token]
            token += 1
        if token == cohort.backbone.tokenizer.eos_token_id:
            break
        answer.append(token)
    return answer


@pytest.mark.parametrize("temperature", [0.0, 0.6])
def test_one_batch_equals_each_prompt_alone_without_a_cache(tiny_backbone: Path, temperature: float) -> None:
    most = 3 * BLOCK + 3
    cohort = new_cohort(tiny_backbone, LIKELY)
    answers = decode(cohort, PROMPTS, most, temperature, generator())
    draws = torch.rand(most, len(ROWS), generator=generator())
    expected = [
        plain_sample(cohort, row, temperature, draws) if temperature else plain_greedy(cohort, *ROWS[row], most)
        for row in range(len(ROWS))
    ]
    assert written(answers) == expected
    assert answers.ended.tolist() == [len(answer) < most for answer in expected]
    for row, answer in zip(answers.tokens.tolist(), expected, strict=True):
        assert row[len(answer) :] == [LIKELY] * (answers.tokens.shape[1] - len(answer))
    assert len({len(answer) for answer in expected}) >= 4  # a telling case: some end early, some late, some never
    assert 0 < answers.ended.sum() < len(ROWS)
    assert len({tuple(answer) for answer in expected}) >= 8


@contextmanager
def watched(cohort: Cohort) -> Iterator[list[Pass]]:
    """While this holds, every pass of the backbone is noted."""
    passes: list[Pass] = []

    def note(module: nn.Module, args: tuple[object, ...], given: dict[str, torch.Tensor]) -> None:
        _, _, queries, keys = given["attention_mask"].shape
        passes.append(Pass("prefill" if queries == keys else "step", given["input_ids"].tolist()))

    handle = cohort.backbone.model.base_model.register_forward_pre_hook(note, with_kwargs=True)
    try:
        yield passes
    finally:
        handle.remove()


@pytest.mark.parametrize("temperature", [0.0, 0.6])
def test_small_batches_and_split_prompts_give_the_same_answers(tiny_backbone: Path, temperature: float) -> None:
    cohort = new_cohort(tiny_backbone, LIKELY)
    whole = decode(cohort, PROMPTS, 40, temperature, generator())
    # keys and values of 2 blocks, 32 wide, in 4 bytes; 9 prompt tokens and 40 more: two rows of each of three clients
    two_rows = 2 * 3 * (2 * 2 * 32 * 4 * (9 + 40)) + 1
    draws = torch.rand(40, len(ROWS), generator=generator())
    with watched(cohort) as passes:
        parts = decode_drawn(cohort, PROMPTS, temperature, draws, cache_bytes=two_rows, prefill_tokens=1)
    assert written(parts) == written(whole)
    assert torch.equal(parts.ended, whole.ended)
    torch.testing.assert_close(parts.log_probs, whole.log_probs, atol=1e-4, rtol=0)
    by_length = [sorted(prompts, key=len) for prompts in PROMPTS]
    prefills = [item.tokens for item in passes if item.kind == "prefill"]
    read = [[list(dropwhile(LIKELY.__eq__, row)) for row in tokens] for tokens in prefills]
    assert read == [[prompts[row] for prompts in by_length] for row in range(5)]  # short prompts first, little padding
    assert [kind for kind, _ in groupby(item.kind for item in passes)] == ["prefill", "step"] * 3  # 2 + 2 + 1 rows


@pytest.mark.parametrize("family", ["Llama", "Qwen3"])
def test_other_families_answer_as_without_a_cache(tmp_path: Path, family: str) -> None:
    cohort = new_cohort(family_folder(tmp_path, family))
    answers = decode(cohort, PROMPTS, 2 * BLOCK + 3, 0.0, generator())
    assert written(answers) == [plain_greedy(cohort, *row, 2 * BLOCK + 3) for row in ROWS]
    assert len({tuple(answer) for answer in written(answers)}) >= 8


def test_ended_rows_are_removed(tiny_backbone: Path) -> None:
    cohort = new_cohort(tiny_backbone, LIKELY)
    with watched(cohort) as watched_passes:
        answers = decode(cohort, PROMPTS, 40, 0.6, generator())
    sizes = [len(item.tokens) for item in watched_passes]
    assert len(sizes) == answers.tokens.shape[1]  # a pass a token, the prompts' pass included
    passes = answers.lengths + answers.ended  # that an answer needs
    for index, size in enumerate(sizes):
        written = (index - 1) // COMPACT_EVERY * COMPACT_EVERY + 1  # tokens of a row when ended rows were last removed
        assert size == (int((passes > written).sum()) if index else 15)
    assert len(set(sizes)) >= 5
    still = (passes > 1 + COMPACT_EVERY).view(3, 5).sum(1)
    assert len(set(still.tolist())) > 1  # a telling case: clients have unequally many


def test_decoding_stops_when_all_have_ended(tiny_backbone: Path) -> None:
    first = plain_greedy(new_cohort(tiny_backbone), 1, PROMPTS[1][1], 1)[0]
    cohort = new_cohort(tiny_backbone, end=first)
    prompts = [[[13] * 9]] * 3
    expected = [plain_greedy(cohort, client, prompts[client][0], 30) for client in range(3)]
    answers = decode(cohort, prompts, 30, 0.0, generator())
    assert written(answers) == expected
    assert answers.lengths[1] == 0
    assert answers.ended[1]


def test_an_answer_that_ends_at_once_is_empty(tiny_backbone: Path) -> None:
    cohort = new_cohort(tiny_backbone)
    end = plain_greedy(cohort, 0, [5, 6, 7], 1)[0]
    for tensor in cohort.parameters():  # all clients as the first
        tensor.data.copy_(tensor.data[:1].expand_as(tensor))
    cohort.placed[:] = cohort.placed[0]
    cohort.backbone = cohort.backbone._replace(tokenizer=SimpleNamespace(eos_token_id=end))
    answers = decode(cohort, [[[5, 6, 7]]] * 3, 30, 0.0, generator())
    assert answers.tokens.tolist() == [[end]] * 3
    assert answers.lengths.tolist() == [0, 0, 0]
    assert answers.ended.all()


def test_sampled_frequencies_match_the_probabilities(tiny_backbone: Path) -> None:
    cohort, prompt, temperature, rows = new_cohort(tiny_backbone), [5, 6, 7], 0.7, 3000
    answers = decode(cohort, [[prompt] * rows] * 3, 1, temperature, generator())
    for client in range(3):
        drawn = answers.tokens.view(3, rows)[client].bincount(minlength=302)
        scores = next_scores(cohort, client, prompt)
        assert fits(drawn, scores, temperature) > 0.01
        assert fits(drawn, scores, 1.3 * temperature) < 1e-6


def fits(drawn: torch.Tensor, scores: torch.Tensor, temperature: float) -> float:
    """p-value of Pearson's test; tokens that are expected less than 8 times count as one."""
    expected = torch.softmax(scores.double() / temperature, -1)[: len(drawn)] * drawn.sum()
    often = expected >= 8
    counts = [*drawn[often].tolist(), int(drawn[~often].sum())]
    wanted = [*expected[often].tolist(), float(drawn.sum() - expected[often].sum())]
    return float(chisquare(counts, wanted).pvalue)


def test_the_same_seed_gives_the_same_answers(tiny_backbone: Path) -> None:
    cohort = new_cohort(tiny_backbone)
    first, same, other = (decode(cohort, PROMPTS, 12, 1.0, generator(seed)) for seed in (3, 3, 4))
    assert torch.equal(first.tokens, same.tokens)
    assert not torch.equal(first.tokens, other.tokens)


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_a_client_s_answers_do_not_depend_on_other_clients_prompts(tiny_backbone: Path, temperature: float) -> None:
    cohort = new_cohort(tiny_backbone)
    changed = [[[7] * 25, [3, 4], [8], [9], [10]], PROMPTS[1], [[1] * 3, [2] * 14, [30, 31], [32], [33] * 4]]
    answers = decode(cohort, PROMPTS, 20, temperature, generator())
    other = decode(cohort, changed, 20, temperature, generator())
    assert written(answers)[5:10] == written(other)[5:10]
    assert written(answers)[0] != written(other)[0]


def test_an_answer_ends_where_the_context_is_full(tiny_backbone: Path) -> None:
    cohort = new_cohort(tiny_backbone)
    long, full = [3, 4] * 126, [5] * 256  # of a context of 256
    answers = decode(cohort, [[long], [full], [[5, 6]]], 12, 0.0, generator())
    assert answers.lengths.tolist() == [4, 0, 12]
    assert answers.ended.tolist() == [False, False, False]
    assert written(answers) == [plain_greedy(cohort, 0, long, 4), [], plain_greedy(cohort, 2, [5, 6], 12)]


def test_a_prompt_longer_than_the_context_is_refused(tiny_backbone: Path) -> None:
    with pytest.raises(ModelError, match="257 tokens; this backbone reads 256"):
        decode(new_cohort(tiny_backbone), [[[5] * 257], [[5]], [[5]]], 4, 0.0, generator())


def test_a_diverged_client_is_an_error_and_the_backbone_stays_the_same(tiny_backbone: Path) -> None:
    cohort = new_cohort(tiny_backbone)
    tokens = torch.tensor([[5, 6, 7]])
    before = cohort.backbone.hidden(tokens)
    cohort.tensors["lora"]["h.1.attn.q.lora_a"].data[2, 0, 0] = torch.nan
    with pytest.raises(TrainingError, match="diverged"):
        decode(cohort, PROMPTS, 4, 1.0, generator())
    assert cohort.backbone.model.config._attn_implementation == "sdpa"
    assert torch.equal(cohort.backbone.hidden(tokens), before)


def test_greedy_in_bfloat16_picks_the_best_token_up_to_rounding(tiny_backbone: Path) -> None:
    cohort = new_cohort(tiny_backbone, precision="bfloat16")
    answers = written(decode(cohort, PROMPTS, 12, 0.0, generator()))
    for (client, prompt), answer in zip(ROWS, answers, strict=True):
        for step, token in enumerate(answer):
            scores = next_scores(cohort, client, prompt + answer[:step])
            assert scores[token] >= scores.max() - 0.05 * scores.std()


@settings(max_examples=15)
@given(st.lists(st.lists(st.integers(2, 250), min_size=1, max_size=12), min_size=3, max_size=3), st.integers(1, 20))
def test_answers_are_consistent(tiny_backbone: Path, prompts: list[list[int]], most: int) -> None:
    cohort = new_cohort(tiny_backbone, LIKELY)
    tokens, lengths, ended, log_probs = decode(cohort, [[prompt] for prompt in prompts], most, 1.0, generator())
    assert tokens.dtype == lengths.dtype == torch.int64
    assert tokens.shape == (3, int((lengths + ended).max()))
    for row, length, over in zip(tokens.tolist(), lengths.tolist(), ended.tolist(), strict=True):
        assert row == [token for token in row[:length] if token != LIKELY] + [LIKELY] * (len(row) - length)
        assert over == (length < most)
    written = torch.arange(tokens.shape[1]) < (lengths + ended)[:, None]
    assert ((log_probs < 0) == written).all()


@pytest.mark.gpu
def test_cuda_gives_the_same_greedy_answers(tiny_backbone: Path) -> None:
    there, here = (
        decode(new_cohort(tiny_backbone, device=device), PROMPTS, 20, 0.0, generator()) for device in ("cuda", "cpu")
    )
    assert torch.equal(there.tokens.cpu(), here.tokens)
