"""Reward learning: the loss by hand, each client alone as the oracle, what goes up, what is measured, the judge."""

from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from pwff_core.config import RunConfig
from pwff_core.data.preferences import ClientPreferences, Pair, Preferences, Reference
from pwff_core.engine.models.encoder import Encoder, load_encoder
from pwff_core.engine.models.stacked import ENCODER
from pwff_core.engine.stages.instruction import ADAM_BETAS, ADAM_EPSILON
from pwff_core.engine.stages.reward import RewardStage, bradley_terry, pair_rows, text_of, train_judge, train_step
from pwff_core.errors import TrainingError
from pwff_core.knobs import with_changes
from pwff_core.methods import AXES, METHODS
from tests.support.encoders import wordpiece_folder

CLIENTS = 3
# A key's bias shifts all of a query's weights alike, the output's bias both scores of a pair: their gradients are 0 but
# for rounding, which Adam blows up.
IDLE = ("k_lin.bias", "head.outer.bias")
REFERENCES = tuple(Reference("say hello", answer) for answer in ("good", "bad", "fine there", "no please", "hello"))
FILLERS = ("say", "there", "hello", "fine", "no", "please")


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Encoder:
    return load_encoder(str(wordpiece_folder(tmp_path_factory.mktemp("wordpiece"))), "cpu")


def some_pairs(
    count: int, generator: np.random.Generator, better: str = "good", worse: str = "bad"
) -> tuple[Pair, ...]:
    """Pairs that one word decides; every fourth is a tie."""

    def words() -> str:
        return " ".join(generator.choice(FILLERS, size=int(generator.integers(1, 5))))

    pairs = [Pair(words(), f"{words()} {better}", f"{words()} {worse}") for _ in range(count)]
    return tuple(
        Pair(pair.instruction, words(), words(), tie=True) if index % 4 == 3 else pair
        for index, pair in enumerate(pairs)
    )


def preferences(count: int = 9, tested: int = 2) -> list[ClientPreferences]:
    """Client k has count + k pairs to train on and tested + k to be tested on; on each axis other words decide."""
    generator = np.random.default_rng(0)
    words = {"helpfulness": ("good", "bad"), "harmlessness": ("please", "no")}
    return [
        ClientPreferences(
            {axis: some_pairs(count + client, generator, *words[axis]) for axis in AXES},
            {axis: some_pairs(tested + client, generator, *words[axis]) for axis in AXES},
            (), (), (), (),
        )
        for client in range(CLIENTS)
    ]  # fmt: skip


def clients_of(method: str = "pwff", **changes: object) -> SimpleNamespace:
    """What the stage needs of the run's `Clients`: no backbone, and no policies."""
    dotted = {f"reward.{name}": value for name, value in changes.items()}
    start = {"method": method, "clients": CLIENTS, "reward.hidden": 6, "reward.batch_size": 4, "reward.local_steps": 3}
    return SimpleNamespace(config=with_changes(RunConfig(), start | dotted), method=METHODS[method])


def all_preferences(clients: list[ClientPreferences]) -> Preferences:
    return Preferences(clients, {}, REFERENCES, ())


def new_stage(encoder: Encoder, method: str = "pwff", cohort_size: int = 10, **changes: object) -> RewardStage:
    return RewardStage(clients_of(method, **changes), all_preferences(preferences()), encoder, cohort_size)


# The loss


def test_bradley_terry_by_hand() -> None:
    better, worse = torch.tensor([1.0, 3.0, 3.0, 1.0, 0.0]), torch.tensor([1.0, 1.0, 1.0, 3.0, 0.0])
    ties = torch.tensor([False, False, True, False, True])
    # ln 2; ln(1 + e⁻²); the mean of ln(1 + e⁻²) and ln(1 + e²); ln(1 + e²); ln 2
    expected = [0.693147, 0.126928, 1.126928, 2.126928, 0.693147]
    assert bradley_terry(better, worse, ties).tolist() == pytest.approx(expected, abs=1e-6)


@given(st.lists(st.tuples(st.floats(-20, 20), st.floats(-20, 20), st.booleans()), min_size=1, max_size=20))
def test_bradley_terry_in_plain_python(pairs: list[tuple[float, float, bool]]) -> None:
    better, worse, ties = (list(column) for column in zip(*pairs, strict=True))
    losses = bradley_terry(torch.tensor(better).double(), torch.tensor(worse).double(), torch.tensor(ties))
    for loss, (a, b, tie) in zip(losses.tolist(), pairs, strict=True):
        win, lose = math.log1p(math.exp(b - a)), math.log1p(math.exp(a - b))
        assert loss == pytest.approx((win + lose) / 2 if tie else win, rel=1e-5, abs=1e-9)


# Batches


@given(st.integers(1, 40), st.integers(1, 16), st.integers(0, 3))
def test_an_epoch_has_every_pair_once(count: int, size: int, epoch: int) -> None:
    batches = math.ceil(count / size)
    drawn = [pair_rows(count, 5, "helpfulness", 2, epoch * batches + turn, size) for turn in range(batches)]
    assert sorted(np.concatenate(drawn).tolist()) == list(range(count))
    assert all(1 <= len(rows) <= size for rows in drawn)


def test_batches_depend_on_their_arguments_alone() -> None:
    def drawn(**changes: object) -> list[int]:
        usual = {"count": 30, "seed": 0, "axis": "helpfulness", "client": 1, "step": 2, "size": 10}
        return pair_rows(**(usual | changes)).tolist()

    assert drawn() == drawn()
    for change in ({"seed": 1}, {"axis": "harmlessness"}, {"client": 2}, {"step": 5}):
        assert drawn(**change) != drawn()


# Training


class PlainScorer(nn.Module):
    """One client's reward model as one would write it for one client."""

    def __init__(self, encoder: Encoder, hidden: int) -> None:
        from transformers import DistilBertModel

        super().__init__()
        self.encoder = DistilBertModel(encoder.model.config)
        self.encoder.load_state_dict(encoder.model.state_dict())
        self.inner, self.outer = nn.Linear(3 * encoder.width, hidden), nn.Linear(hidden, 1)
        self.eval()

    def forward(self, prompt: list[int], response: list[int]) -> torch.Tensor:
        states = self.encoder(input_ids=torch.tensor([prompt + response])).last_hidden_state[0]
        asked, said = states[: len(prompt)].mean(0), states[len(prompt) :].mean(0)
        features = torch.cat([said, asked * said, states[-1]])
        return self.outer(nn.functional.gelu(self.inner(features), approximate="tanh"))[0]


def plain_training(
    encoder: Encoder, start: dict[str, torch.Tensor], client: int, axis: str, config: RunConfig
) -> nn.Module:
    """One client and one axis alone: pair by pair, text by text, with plain AdamW."""
    model, whole = PlainScorer(encoder, config.reward.hidden), config.reward.trainable == "all"
    for name in ("inner.weight", "inner.bias", "outer.weight", "outer.bias"):
        model.get_parameter(name).data.copy_(start[f"head.{name}"])
    model.encoder.requires_grad_(whole)
    rate = config.reward.learning_rate
    groups = [{"params": [*model.inner.parameters(), *model.outer.parameters()], "lr": rate}]
    if whole:
        groups.append({"params": list(model.encoder.parameters()), "lr": rate / 10})
    optimiser = torch.optim.AdamW(groups, betas=ADAM_BETAS, eps=ADAM_EPSILON, weight_decay=0.0)
    pairs = preferences()[client].train[axis]
    tokeniser = encoder.tokenizer
    for step in range(2 * config.reward.local_steps):
        losses = []
        for row in pair_rows(len(pairs), config.seed, axis, client, step, config.reward.batch_size):
            pair = pairs[row]
            prompt = tokeniser(f"Instruction: {pair.instruction}\nResponse:")["input_ids"][:-1]  # without its [SEP]
            a, b = (
                model(prompt, tokeniser(answer)["input_ids"][1:])  # without its [CLS]
                for answer in (pair.chosen, pair.rejected)
            )
            win, lose = -torch.log(torch.sigmoid(a - b)), -torch.log(torch.sigmoid(b - a))
            losses.append((win + lose) / 2 if pair.tie else win)
        optimiser.zero_grad()
        torch.stack(losses).mean().backward()
        optimiser.step()
    return model


@pytest.mark.parametrize("trainable", ["head", "all"])
def test_the_stack_equals_each_client_alone(encoder: Encoder, trainable: str) -> None:
    changes = {"trainable": trainable, "learning_rate": 1e-2}
    stage, config = new_stage(encoder, **changes), clients_of(**changes).config
    start = {axis: {name: tensor[0].detach().clone() for name, tensor in named.items()}
             for axis, named in stage.models[0].tensors.items()}  # fmt: skip
    stage.train(1)
    stage.train(2)
    for client, axis in ((0, "helpfulness"), (2, "harmlessness")):
        alone = plain_training(encoder, start[axis], client, axis, config)
        for name, stacked in stage.models[0].tensors[axis].items():
            plain = alone.get_parameter(name.removeprefix("head."))
            if not name.endswith(IDLE):
                torch.testing.assert_close(stacked[client], plain, atol=2e-5, rtol=0, msg=f"{axis} {name}")
        moved = stage.models[0].tensors[axis]["head.inner.weight"][client] - start[axis]["head.inner.weight"]
        assert float(moved.detach().abs().max()) > 1e-2


@pytest.mark.parametrize("trainable", ["head", "all"])
def test_chunks_of_clients_equal_one_stack(encoder: Encoder, trainable: str) -> None:
    whole, parts = (new_stage(encoder, cohort_size=size, trainable=trainable) for size in (10, 2))
    for stage in (whole, parts):
        stage.train(1)
    assert [len(next(iter(shared.values()))) for shared in parts.shared()] == [2, 1]
    for name, stacked in whole.shared()[0].items():
        if not name.endswith(IDLE):
            torch.testing.assert_close(
                torch.cat([shared[name] for shared in parts.shared()]), stacked, atol=1e-5, rtol=0
            )
    for whole_measures, part_measures in zip(whole.measure(), parts.measure(), strict=True):
        assert whole_measures == pytest.approx(part_measures, abs=1e-5)


def test_pairs_in_several_passes_make_the_same_step(encoder: Encoder) -> None:
    stages = []
    for texts_at_once in (8, 2):  # four pairs, or one
        stage = new_stage(encoder, trainable="all", local_steps=1)
        batches = {axis: stage.training.batch(axis, [np.arange(4)] * CLIENTS) for axis in AXES}
        train_step(stage.models[0], stage.optimisers[0], stage.training.encoded, batches, texts_at_once)
        stages.append(stage)
    whole, parts = (stage.models[0].tensors for stage in stages)
    for axis in AXES:
        for name, tensor in whole[axis].items():
            torch.testing.assert_close(parts[axis][name].grad, tensor.grad, atol=1e-6, rtol=1e-4)
        assert float(whole[axis]["head.inner.weight"].grad.abs().max()) > 1e-3


# What goes up


def test_what_goes_up_by_method(encoder: Encoder) -> None:
    heads = {f"head.{layer}.{part}" for layer in ("inner", "outer") for part in ("weight", "bias")}
    [both] = new_stage(encoder).shared()
    assert set(both) == {f"{axis}/{name}" for axis in AXES for name in heads}
    assert both["helpfulness/head.inner.weight"].shape == (CLIENTS, 6, 48)
    [helpful] = new_stage(encoder, "sfl").shared()
    assert set(helpful) == {f"helpfulness/{name}" for name in heads}
    assert new_stage(encoder, "local").shared() == [{}]
    assert new_stage(encoder, "centralised").shared() == [{}]
    [whole] = new_stage(encoder, trainable="all").shared()
    weights = {f"{axis}/{ENCODER}{name}" for axis in AXES for name, _ in encoder.model.named_parameters()}
    assert set(whole) == set(both) | weights


def test_writing_into_what_goes_up_gives_the_clients_new_models(encoder: Encoder) -> None:
    stage = new_stage(encoder)
    stage.train(1)
    before = stage.measure()
    with torch.no_grad():
        for tensor in stage.shared()[0].values():
            tensor.copy_(tensor.mean(0, keepdim=True).expand_as(tensor))
    assert stage.measure() != before
    assert stage.num_examples == [18.0, 20.0, 22.0]


def test_pooled_training_has_one_model_on_everybody_s_pairs(encoder: Encoder) -> None:
    stage = new_stage(encoder, "centralised", batch_size=100, local_steps=1)
    stage.train(1)
    [models] = stage.models
    assert models.clients == 1
    assert len(stage.measure()) == CLIENTS
    pairs = preferences()
    merged = [pairs[0]._replace(train={axis: sum((own.train[axis] for own in pairs), ()) for axis in AXES})]
    alone = RewardStage(clients_of(batch_size=100, local_steps=1), all_preferences(merged), encoder)
    alone.train(1)
    for axis in AXES:
        for name, tensor in alone.models[0].tensors[axis].items():
            torch.testing.assert_close(models.tensors[axis][name], tensor, atol=1e-5, rtol=0)


# What is measured


def test_measures_in_plain_python(encoder: Encoder) -> None:
    stage = new_stage(encoder)
    stage.train(1)
    for client, (own, measured) in enumerate(zip(preferences(), stage.measure(), strict=True)):
        losses = []
        for axis in AXES:
            pair_losses, right = [], []
            for pair in own.test[axis]:
                texts = [text_of(pair.instruction, answer) for answer in (pair.chosen, pair.rejected)]
                a, b = stage.models[0].part(slice(client, client + 1)).score(axis, [texts])[0].double().tolist()
                win, lose = math.log1p(math.exp(b - a)), math.log1p(math.exp(a - b))
                pair_losses.append((win + lose) / 2 if pair.tie else win)
                right += [] if pair.tie else [a > b]
            losses.append(sum(pair_losses) / len(pair_losses))
            assert measured[f"{axis}_accuracy"] == pytest.approx(sum(right) / len(right))
        assert measured["loss"] == pytest.approx(sum(losses) / 2, abs=1e-5)


def test_an_axis_without_a_model_is_not_measured(encoder: Encoder) -> None:
    for measured in new_stage(encoder, "sfl").measure():
        assert measured["harmlessness_accuracy"] is None
        assert measured["helpfulness_accuracy"] is not None


def test_reward_models_learn_what_decides(encoder: Encoder) -> None:
    clients = clients_of(local_steps=60, learning_rate=1e-2, batch_size=16, hidden=16)
    stage = RewardStage(clients, all_preferences(preferences(count=150, tested=60)), encoder)
    assert stage.measure()[0]["loss"] == pytest.approx(math.log(2), abs=0.05)
    stage.train(1)
    for axis in AXES:
        assert np.mean([measures[f"{axis}_accuracy"] for measures in stage.measure()]) > 0.8


def test_a_loss_that_is_not_finite_stops_the_stage(encoder: Encoder) -> None:
    stage = new_stage(encoder)
    with torch.no_grad():
        stage.models[0].tensors["harmlessness"]["head.inner.bias"][1, 0] = float("nan")
    with pytest.raises(
        TrainingError, match=r"client 1 is no longer a number \(stage reward, harmlessness, round 3, step 1\)"
    ):
        stage.train(3)


def test_a_note_counts_texts_that_lost_their_beginning(encoder: Encoder) -> None:
    assert new_stage(encoder).notes == ()
    owners = preferences()
    long = Pair("say " * 30, "good", "bad")
    owners[1].train["helpfulness"] = (*owners[1].train["helpfulness"], long)
    stage = RewardStage(clients_of(), all_preferences(owners), encoder)
    total = len(stage.training.encoded.rows) + len(stage.held_out.encoded.rows)
    assert stage.notes == (
        f"2 of {total} texts of preference pairs are longer than the encoder's 24 tokens and lost their beginning.",
    )


# The frozen models, and the judge


@pytest.mark.parametrize("method", ["pwff", "centralised"])
def test_finished_models_are_calibrated(encoder: Encoder, method: str) -> None:
    stage = new_stage(encoder, method, cohort_size=2)
    stage.train(1)
    models = stage.finish()
    assert models.clients == (1 if method == "centralised" else CLIENTS)
    for axis in AXES:
        scores = models.score(axis, [[text_of(*reference) for reference in REFERENCES]])
        torch.testing.assert_close(scores.mean(1), torch.zeros(models.clients), atol=1e-4, rtol=0)
        torch.testing.assert_close(scores.std(1, correction=0), torch.ones(models.clients), atol=1e-4, rtol=0)


def test_the_judge_learns_and_is_always_the_same(encoder: Encoder) -> None:
    generator = np.random.default_rng(9)
    pairs = {"helpfulness": some_pairs(200, generator), "harmlessness": some_pairs(150, generator, "please", "no")}
    first, second = (train_judge(encoder, pairs, REFERENCES).state() for _ in range(2))
    assert all(torch.equal(first[name], second[name]) for name in first)
    judge = train_judge(encoder, pairs, REFERENCES)
    good, bad = judge.score("helpfulness", [[text_of("say there", "hello good"), text_of("say there", "hello bad")]])[0]
    assert float(good) > float(bad) + 1.0
