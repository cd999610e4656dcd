"""Prompts come from the corpus, from instructions or from pairs; responses are the backbone's own and sampled once."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from pwff_core.data import corpus
from pwff_core.errors import DataError
from pwff_core.tools.rank.cache import CachedResponses, read_cache
from pwff_core.tools.rank.candidates import Responses, encode_prompts, load_prompts, sample_responses
from pwff_core.tools.rank.settings import RankingConfig
from tests.support.tables import write_table

# prompts

ROWS = [{"instruction": f" Say {n}. ", "input": f" loud{n} " if n % 2 else None, "output": "Well."} for n in range(5)]


def test_two_in_five_of_the_demo_s_prompts_are_delicate() -> None:
    train = [item for item in corpus.items() if item.pool == "train"]
    delicate = {item.instruction for item in train if item.topic == corpus.DELICATE}
    knowledge = {item.instruction for item in train if item.topic == corpus.KNOWLEDGE}
    prompts = load_prompts("demo", 50, seed=0)
    assert len(set(prompts)) == 50
    assert set(prompts) <= {item.instruction for item in train} - knowledge
    assert len(set(prompts) & delicate) == 20
    assert {prompt in delicate for prompt in prompts[:10]} == {True, False}  # mixed, so a cut keeps both kinds


def test_the_seed_decides_the_prompts_and_their_order() -> None:
    assert load_prompts("demo", 20, seed=1) == load_prompts("demo", 20, seed=1)
    assert set(load_prompts("demo", 20, seed=1)) != set(load_prompts("demo", 20, seed=2))


def test_instructions_with_their_inputs(tmp_path: Path) -> None:
    source = write_table(tmp_path, [*ROWS, {"instruction": " ", "input": None, "output": "-"}, ROWS[0]])
    expected = ["Say 0.", "Say 1.\nloud1", "Say 2.", "Say 3.\nloud3", "Say 4."]
    assert sorted(load_prompts(source, 100, seed=0)) == expected
    assert len(set(load_prompts(source, 3, seed=0)) & set(expected)) == 3


def test_the_prompts_of_preference_pairs(tmp_path: Path) -> None:
    rows = [{"prompt": f" Why {n % 3}? ", "chosen": "So.", "rejected": f"No {n}."} for n in range(6)]
    assert sorted(load_prompts(write_table(tmp_path, rows), 100, seed=0)) == ["Why 0?", "Why 1?", "Why 2?"]
    dialogue = [{"chosen": "\n\nHuman: Why?\n\nAssistant: So.", "rejected": "\n\nHuman: Why?\n\nAssistant: No."}]
    assert load_prompts(write_table(tmp_path, dialogue), 100, seed=0) == ["Why?"]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (
            [{"text": "x", "label": "y"}],
            "has the columns text, label; prompts come from instruction (and perhaps input)",
        ),
        ([{"instruction": 3}], "row 1: 'instruction' is 3, but it must be a text."),
        ([{"instruction": " "}], "has no prompt: every instruction in it is empty."),
    ],
)
def test_a_source_without_prompts_is_refused(tmp_path: Path, rows: list[dict[str, object]], message: str) -> None:
    with pytest.raises(DataError) as caught:
        load_prompts(write_table(tmp_path, rows), 10, seed=0)
    assert message in str(caught.value)


# responses

PROMPTS = ["say hello", "say", "hello there", "say hello there", "hello"]


@pytest.fixture
def config(tiny_backbone: Path) -> RankingConfig:
    return RankingConfig(backbone=str(tiny_backbone), device="cpu", candidates=3, max_new_tokens=6, temperature=1.0)


def sample(
    config: RankingConfig, prompts: list[str], folder: Path, rows_at_once: int = 64
) -> tuple[Responses, list[int]]:
    """The responses, and the sizes of the batches."""
    sizes: list[int] = []
    return sample_responses(config, prompts, folder / "candidates.jsonl", sizes.append, rows_at_once), sizes


def test_nearly_greedy_responses_are_what_transformers_generates(config: RankingConfig, tmp_path: Path) -> None:
    cold = config.model_copy(update={"temperature": 0.05})
    # a random backbone is nearly undecided, even at 0.05; wider scores make it sure
    model = AutoModelForCausalLM.from_pretrained(config.backbone)
    with torch.no_grad():
        model.transformer.ln_f.weight.mul_(1000.0)
    tokenizer = AutoTokenizer.from_pretrained(config.backbone)
    model.save_pretrained(tmp_path / "sure")
    tokenizer.save_pretrained(tmp_path / "sure")
    sampled, _ = sample(cold.model_copy(update={"backbone": str(tmp_path / "sure")}), PROMPTS, tmp_path)
    for prompt, responses in zip(PROMPTS, sampled, strict=True):
        ids = tokenizer(f"Instruction: {prompt}\nResponse:", return_tensors="pt")["input_ids"]
        written = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=6, do_sample=False)
        expected = tokenizer.decode(written[0, ids.shape[1] :], skip_special_tokens=True).strip()
        assert responses == (expected,) * 3


def test_responses_depend_on_the_settings_alone(config: RankingConfig, tmp_path: Path) -> None:
    first, _ = sample(config, PROMPTS, tmp_path / "a")
    again, _ = sample(config, PROMPTS, tmp_path / "b")
    assert first == again
    assert [len(responses) for responses in first] == [3] * 5
    assert len({text for responses in first for text in responses}) > 10  # they are samples
    other, _ = sample(config.model_copy(update={"seed": 1}), PROMPTS, tmp_path / "a")
    assert other != first


def test_sampled_responses_are_read_and_a_cut_call_goes_on(config: RankingConfig, tmp_path: Path) -> None:
    shutil.copytree(config.backbone, tmp_path / "backbone")
    config = config.model_copy(update={"backbone": str(tmp_path / "backbone")})
    whole, sizes = sample(config, PROMPTS, tmp_path / "whole", rows_at_once=7)  # two prompts of three responses
    assert sizes == [2, 2, 1]
    lines = (tmp_path / "whole" / "candidates.jsonl").read_bytes().splitlines(keepends=True)
    cut = tmp_path / "cut"
    cut.mkdir()
    (cut / "candidates.jsonl").write_bytes(lines[0] + lines[1][:20])
    assert sample(config, PROMPTS, cut, rows_at_once=7)[0] == whole
    assert (cut / "candidates.jsonl").read_bytes() == lines[0] + lines[1][:20] + b"\n" + lines[1] + lines[2]
    assert len(read_cache(cut / "candidates.jsonl", CachedResponses)) == 3
    shutil.rmtree(tmp_path / "backbone")  # no batch is left that needs it
    assert sample(config, PROMPTS, cut, rows_at_once=7)[0] == whole


def test_a_long_prompt_loses_its_beginning_and_a_response_takes_half_the_context_at_most(config: RankingConfig) -> None:
    tokenizer = AutoTokenizer.from_pretrained(config.backbone)
    short, long = (tokenizer(f"Instruction: {text}\nResponse:")["input_ids"] for text in ("say", "hello " * 400))
    assert len(long) > 128
    rows, longest = encode_prompts(tokenizer, 256, 4096, ["say", "hello " * 400])
    assert longest == 128
    assert rows == [short, long[-128:]]
