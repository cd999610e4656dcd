"""Candidate responses are the plain backbone's own, the same for the same settings, and are not sampled twice."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from pwff_core.tools.rank import candidates
from pwff_core.tools.rank.settings import RankingConfig

PROMPTS = ["say hello", "say", "hello there", "say hello there", "hello"]


@pytest.fixture
def config(tiny_backbone: Path) -> RankingConfig:
    return RankingConfig(backbone=str(tiny_backbone), device="cpu", candidates=3, max_new_tokens=6, temperature=1.0)


def sampled(config: RankingConfig, prompts: list[str], folder: Path) -> tuple[candidates.Responses, list[int]]:
    """The responses, and the sizes of the batches that were told of."""
    told: list[int] = []
    return candidates.sampled(config, prompts, folder / "candidates.jsonl", told.append), told


def test_nearly_greedy_responses_are_what_transformers_generates(config: RankingConfig, tmp_path: Path) -> None:
    cold = config.model_copy(update={"temperature": 0.05})
    # a random backbone is nearly undecided, so that even 0.05 would draw: its scores are spread to make it sure
    model = AutoModelForCausalLM.from_pretrained(config.backbone)
    with torch.no_grad():
        model.transformer.ln_f.weight.mul_(1000.0)
    tokenizer = AutoTokenizer.from_pretrained(config.backbone)
    model.save_pretrained(tmp_path / "sure")
    tokenizer.save_pretrained(tmp_path / "sure")
    found, _ = sampled(cold.model_copy(update={"backbone": str(tmp_path / "sure")}), PROMPTS, tmp_path)
    for prompt, responses in zip(PROMPTS, found, strict=True):
        ids = tokenizer(f"Instruction: {prompt}\nResponse:", return_tensors="pt")["input_ids"]
        written = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=6, do_sample=False)
        expected = tokenizer.decode(written[0, ids.shape[1] :], skip_special_tokens=True).strip()
        assert responses == (expected,) * 3


def test_the_same_settings_give_the_same_responses_and_others_others(config: RankingConfig, tmp_path: Path) -> None:
    first, _ = sampled(config, PROMPTS, tmp_path / "a")
    again, _ = sampled(config, PROMPTS, tmp_path / "b")
    assert first == again
    assert [len(responses) for responses in first] == [3] * 5
    assert len({text for responses in first for text in responses}) > 10  # they are samples
    other, _ = sampled(config.model_copy(update={"seed": 1}), PROMPTS, tmp_path / "a")
    assert other != first


def test_what_was_sampled_is_read_and_a_cut_call_goes_on(
    config: RankingConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(candidates, "ROWS_AT_ONCE", 7)  # two prompts of three responses
    whole, told = sampled(config, PROMPTS, tmp_path / "whole")
    assert told == [2, 2, 1]
    kept = (tmp_path / "whole" / "candidates.jsonl").read_bytes().splitlines(keepends=True)
    cut = tmp_path / "cut"
    cut.mkdir()
    (cut / "candidates.jsonl").write_bytes(kept[0] + kept[1][:20])
    batches: list[int] = []
    respond = candidates._respond

    def counted(backbone: object, config: RankingConfig, number: int, prompts: list[str]) -> candidates.Responses:
        batches.append(number)
        return respond(backbone, config, number, prompts)  # type: ignore[arg-type]

    monkeypatch.setattr(candidates, "_respond", counted)
    assert sampled(config, PROMPTS, cut)[0] == whole
    assert batches == [1, 2]
    monkeypatch.setattr(candidates, "load_backbone", None)  # is not needed any more
    assert sampled(config, PROMPTS, cut)[0] == whole


def test_a_long_prompt_loses_its_beginning_and_responses_fill_half_the_context_at_most(
    config: RankingConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[list[list[int]], int]] = []
    decode = candidates.decode

    def seen(cohort: Any, prompts: list[list[list[int]]], longest: int, *rest: Any) -> Any:
        asked.append((prompts[0], longest))
        return decode(cohort, prompts, longest, *rest)

    monkeypatch.setattr(candidates, "decode", seen)
    endless = config.model_copy(update={"max_new_tokens": 4096, "candidates": 2})
    sampled(endless, ["say", "hello " * 400], tmp_path)
    ((rows, longest),) = asked
    tokenizer = AutoTokenizer.from_pretrained(config.backbone)
    short, long = (tokenizer(f"Instruction: {text}\nResponse:")["input_ids"] for text in ("say", "hello " * 400))
    assert longest == 128  # of 256
    assert len(long) > 128
    assert rows == [short, short, long[-128:], long[-128:]]
