"""Rollouts: the answers as texts and tensors, and the probability of each of their tokens."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from pwff_core.config import RunConfig
from pwff_core.data.encoding import prompt_text
from pwff_core.data.preferences import ClientPreferences
from pwff_core.engine.setup import prepare
from pwff_core.engine.stages.clients import Clients
from pwff_core.engine.stages.rollouts import answer, cut_prompts_note, log_probs, prompt_room
from pwff_core.knobs import with_changes

PROMPTS = [["say hello", "say hello there, would you?"], ["hello", "what?"], ["there", "hi hi hi"]]


@pytest.fixture
def clients(tiny_backbone: Path) -> Clients:
    """Three clients with different random adapters and LoRA."""
    changes = {
        "backbone": str(tiny_backbone), "clients": 3, "data.train_examples": 4, "data.test_examples": 2,
        "data.max_length": 64, "reward.rounds": 0, "alignment.rounds": 0, "alignment.max_new_tokens": 7,
        "device": "cpu", "precision": "float32",
    }  # fmt: skip
    clients = prepare(with_changes(RunConfig(), changes)).clients
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for tensor in clients.cohorts[0].parameters():
            tensor.add_(0.3 * torch.randn(tensor.shape, generator=generator))
    return clients


def test_tensors_and_texts_agree(clients: Clients) -> None:
    rollouts = answer(clients, PROMPTS, "test", 1)
    tokenizer, end = clients.backbone.tokenizer, clients.padding
    assert [[text.prompt for text in texts] for texts in rollouts.texts] == [
        [prompt_text(p) for p in own] for own in PROMPTS
    ]
    for client, texts in enumerate(rollouts.texts):
        for row, text in enumerate(texts):
            count = int(rollouts.mask[client, row].sum())
            tokens = rollouts.labels[client, row, :count].tolist()
            written = tokens[:-1] if text.ended else tokens
            assert (tokens[-1] == end) == text.ended
            assert end not in written
            assert 1 <= count <= 7
            assert text.ended or count == 7
            prompt = tokenizer(text.prompt)["input_ids"]
            assert rollouts.tokens[client, row, : len(prompt) + count].tolist() == prompt + tokens
            assert rollouts.at[client, row, :count].tolist() == list(range(len(prompt) - 1, len(prompt) - 1 + count))
            assert rollouts.pieces[client][row] == [tokenizer.decode([token]) for token in written] + [""] * text.ended
            assert text.response == "".join(rollouts.pieces[client][row])


def test_the_same_purpose_draws_the_same_answers(clients: Clients) -> None:
    first, again, other = (answer(clients, PROMPTS, *purpose) for purpose in (("a", 1), ("a", 1), ("a", 2)))
    assert first.texts == again.texts
    assert first.texts != other.texts


def test_log_probs_are_those_of_each_client_s_model_alone(clients: Clients) -> None:
    """Row by row without padding, through the whole softmax of the client's own model."""
    rollouts = answer(clients, PROMPTS, "test", 1)
    stacked = log_probs(clients.cohorts, rollouts, temperature=0.7)
    torch.testing.assert_close(rollouts.log_probs, stacked, atol=1e-5, rtol=1e-5)  # the sampler's own
    (cohort,) = clients.cohorts
    for client in range(3):
        for row in range(2):
            count = int(rollouts.mask[client, row].sum())
            end = int(rollouts.at[client, row, count - 1]) + 2
            with cohort.attached(), torch.no_grad():
                tokens = rollouts.tokens[client, row, :end].repeat(3, 1)
                logits = clients.backbone.logits(clients.backbone.hidden(tokens))[client] / 0.7
            expected = torch.log_softmax(logits, -1)[torch.arange(end - 1 - count, end - 1), tokens[0, end - count :]]
            torch.testing.assert_close(stacked[client, row, :count], expected, atol=1e-5, rtol=1e-5)
            assert not stacked[client, row, count:].any()


def test_a_part_has_the_same_log_probs(clients: Clients) -> None:
    rollouts = answer(clients, PROMPTS, "test", 1)
    whole = log_probs(clients.cohorts, rollouts, 1.0)
    chosen = torch.tensor([[1], [0], [1]])
    part = rollouts.part(slice(0, 3), chosen)
    part_log_probs = log_probs(clients.cohorts, part, 1.0)
    picked = whole[torch.arange(3)[:, None], chosen][..., : part_log_probs.shape[-1]]
    torch.testing.assert_close(part_log_probs, picked)
    assert part.tokens.shape[-1] <= rollouts.tokens.shape[-1]
    assert int(part.mask.sum()) == int(rollouts.mask[torch.arange(3)[:, None], chosen].sum())


def test_answers_do_not_depend_on_the_size_of_cohorts(clients: Clients) -> None:
    (cohort,) = clients.cohorts
    alone = [cohort.frozen_copy() for _ in range(3)]
    for client, single in enumerate(alone):
        single.clients, single.placed = 1, cohort.placed[client : client + 1]
        for named in single.tensors.values():
            for name, tensor in named.items():
                named[name] = torch.nn.Parameter(tensor[client : client + 1])
    together, apart = (answer(each, PROMPTS, "test", 1) for each in (clients, replace(clients, cohorts=alone)))
    assert apart.texts == together.texts
    torch.testing.assert_close(apart.log_probs, together.log_probs, atol=1e-5, rtol=0)


def test_passes_have_every_row_once_within_the_limit_of_tokens(clients: Clients) -> None:
    rollouts = answer(clients, [own * 3 for own in PROMPTS], "test", 1)
    lengths = (rollouts.at * rollouts.mask).amax(-1) + 2
    for most in (1, 100, 150, 10_000):
        passes = rollouts.passes(slice(1, 3), most)
        assert torch.cat(passes, dim=1).sort(dim=1).values.tolist() == [list(range(6))] * 2
        for rows in passes:
            tokens = rows.numel() * int(lengths[1:3].gather(1, rows).max())
            assert tokens <= most or rows.shape[1] == 1
        longest = [int(lengths[1:3].gather(1, rows).max()) for rows in passes]
        assert longest == sorted(longest)
        assert len(passes) == {1: 6, 10_000: 1}.get(most, len(passes))
    chosen = torch.tensor([[4, 0], [3, 5]])
    some = torch.cat(rollouts.passes(slice(1, 3), 1, chosen), dim=1)
    assert some.sort(dim=1).values.tolist() == [[0, 4], [3, 5]]


def test_long_prompts_lose_their_beginning_and_are_counted(clients: Clients) -> None:
    room = prompt_room(clients.config, clients.backbone)
    assert room == min(64, clients.backbone.context - 7)
    long, short = "say hello " * 40 + "there", "hi"
    people = [ClientPreferences({}, {}, (long, short), ("hello",), (long,), (short,))]
    (note,) = cut_prompts_note(clients.config, clients.backbone, people)
    assert note == f"1 of 3 prompts of alignment are longer than {room} tokens and lose their beginning."
    assert cut_prompts_note(clients.config, clients.backbone, []) == ()
    rollouts = answer(clients, [[long], [short], [short]], "test")
    whole = clients.backbone.tokenizer(prompt_text(long))["input_ids"]
    assert rollouts.tokens[0, 0, :room].tolist() == whole[-room:]
