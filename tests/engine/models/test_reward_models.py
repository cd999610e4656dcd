"""Reward models and critics, each against the plain way: one text, one client, one token at a time."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from pwff_core.engine.models.critics import Critics
from pwff_core.engine.models.encoder import PROMPT, RESPONSE, EncodedTexts, Encoder, Text, load_encoder
from pwff_core.engine.models.reward_models import RewardModels, joined, new_reward_models
from tests.support.encoders import TEXTS, plain_features, plain_tokens, prompt_length

CLIENTS, HIDDEN = 3, 5
PROMPTS = [["say hello", "please"], ["say", "hello there"], ["no no", "fine"]]
PIECES = [
    [[" hel", "lo", " there", ""], [" good", ""]],
    [[" bad", " fine", " no"], [" g", "ood", ""]],
    [[""], [" say", " please"]],
]


def new_models(encoder: Encoder, trainable: str = "head", clients: int = CLIENTS) -> RewardModels:
    """Models that differ between clients and axes in everything that is trained."""
    axes = ("helpfulness", "harmlessness")
    models = new_reward_models(encoder, axes, clients, HIDDEN, trainable, torch.Generator().manual_seed(3))
    generator = torch.Generator().manual_seed(4)
    with torch.no_grad():
        for named in models.tensors.values():
            for tensor in named.values():
                tensor.add_(0.2 * torch.randn(tensor.shape, generator=generator))
    return models


def plain_head(tensors: dict[str, Tensor], client: int) -> nn.Sequential:
    inner, outer = (nn.Linear(48, HIDDEN), nn.Linear(HIDDEN, 1))
    for name, layer in (("inner", inner), ("outer", outer)):
        layer.weight.data.copy_(tensors[f"head.{name}.weight"][client].detach())
        layer.bias.data.copy_(tensors[f"head.{name}.bias"][client].detach())
    return nn.Sequential(inner, nn.GELU(approximate="tanh"), outer)


def plain_encoder(encoder: Encoder, tensors: dict[str, Tensor], client: int) -> nn.Module:
    """A client's own DistilBertModel, where it has one; otherwise the frozen one."""
    from transformers import DistilBertModel

    model = DistilBertModel(encoder.model.config).eval()
    own = {name[8:]: tensor[client].detach() for name, tensor in tensors.items() if name.startswith("encoder.")}
    model.load_state_dict(encoder.model.state_dict() | own)
    return model


# Reward models


def test_a_head_starts_like_nn_linear(encoder: Encoder) -> None:
    models = new_reward_models(encoder, ("helpfulness",), 2, 400, "head", torch.Generator().manual_seed(0))
    start = models.tensors["helpfulness"]
    assert {name: tuple(tensor.shape) for name, tensor in start.items()} == {
        "head.inner.weight": (2, 400, 48), "head.inner.bias": (2, 400), "head.outer.weight": (2, 1, 400),
        "head.outer.bias": (2, 1),
    }  # fmt: skip
    for tensor in start.values():
        assert torch.equal(tensor[0], tensor[1])
    inner, outer = (float(start[f"head.{name}.weight"].detach().max()) for name in ("inner", "outer"))
    assert 0.98 / math.sqrt(48) < inner <= 1 / math.sqrt(48)
    assert 0.9 * 0.1 / math.sqrt(400) < outer <= 0.1 / math.sqrt(400)


def test_methods_start_from_the_same_numbers(encoder: Encoder) -> None:
    def start(*axes: str) -> RewardModels:
        return new_reward_models(encoder, axes, 1, HIDDEN, "head", torch.Generator().manual_seed(7))

    both = start("helpfulness", "harmlessness").tensors
    for axis in ("helpfulness", "harmlessness"):
        alone = start(axis).tensors
        assert list(alone) == [axis]
        assert all(torch.equal(alone[axis][name], tensor) for name, tensor in both[axis].items())
    assert not torch.equal(both["helpfulness"]["head.inner.bias"], both["harmlessness"]["head.inner.bias"])


@pytest.mark.parametrize("trainable", ["head", "all"])
def test_scores_equal_each_client_alone(encoder: Encoder, trainable: str) -> None:
    models = new_models(encoder, trainable)
    for axis in models.axes:
        raw = models.raw(axis, EncodedTexts(encoder, TEXTS))
        for client, client_texts in enumerate(TEXTS):
            reader = plain_encoder(encoder, models.tensors[axis], client)
            head = plain_head(models.tensors[axis], client)
            for place, text in enumerate(client_texts):
                states = reader(input_ids=plain_tokens(text)).last_hidden_state[0]
                alone = head(plain_features(states, prompt_length(text.prompt)))
                torch.testing.assert_close(raw[client, place], alone[0], atol=1e-5, rtol=0)
        torch.testing.assert_close(models.assess(axis, EncodedTexts(encoder, TEXTS)), raw, atol=1e-6, rtol=0)


@pytest.mark.parametrize("trainable", ["head", "all"])
def test_calibration_by_hand(encoder: Encoder, trainable: str) -> None:
    models = new_models(encoder, trainable)
    references = [text for client_texts in TEXTS for text in client_texts]
    references += [Text("there", f"{' say' * n}") for n in range(9)]
    raw = {axis: models.assess(axis, EncodedTexts(encoder, [references])) for axis in models.axes}
    models.calibrate(references)
    for axis in models.axes:
        calibrated = models.score(axis, [references])
        assert calibrated.shape == (CLIENTS, len(references))
        for client in range(CLIENTS):
            scores = raw[axis][client].double()
            mean = float(sum(scores) / len(scores))
            sd = math.sqrt(sum((float(score) - mean) ** 2 for score in scores) / len(scores))
            for place in range(len(references)):
                assert float(calibrated[client, place]) == pytest.approx((float(scores[place]) - mean) / sd, abs=1e-4)


def test_one_model_scores_all_clients_texts(encoder: Encoder) -> None:
    alone = new_models(encoder, clients=1)
    alone.calibrate([text for client_texts in TEXTS for text in client_texts])
    scores = alone.score("helpfulness", TEXTS)
    assert scores.shape == (3, 2)
    for client, client_texts in enumerate(TEXTS):
        expected = alone.score("helpfulness", [client_texts])
        torch.testing.assert_close(scores[client : client + 1], expected, atol=1e-5, rtol=0)
    assert float(scores[0, 0]) == float(scores[1, 0]) == float(scores[2, 1])  # one text


def test_models_and_texts_of_different_numbers_of_clients_are_refused(encoder: Encoder) -> None:
    with pytest.raises(ValueError, match="3 reward models cannot score the texts of 2 clients"):
        new_models(encoder).score("helpfulness", TEXTS[:2])


@pytest.mark.parametrize("trainable", ["head", "all"])
def test_models_are_restored_from_their_state(encoder: Encoder, trainable: str) -> None:
    models = new_models(encoder, trainable)
    models.calibrate(TEXTS[0])
    state = models.state()
    assert {"helpfulness/head.inner.weight", "harmlessness/mean", "harmlessness/sd"} <= set(state)
    again = RewardModels.from_state(encoder, state)
    for axis in models.axes:
        assert torch.equal(again.score(axis, TEXTS), models.score(axis, TEXTS))
        assert torch.equal(models.part(slice(1, 3)).score(axis, TEXTS[1:]), models.score(axis, TEXTS)[1:])


def test_parts_joined_equal_the_whole(encoder: Encoder) -> None:
    models = new_models(encoder)
    whole = joined([models.part(slice(0, 2)), models.part(slice(2, 3))])
    assert torch.equal(whole.score("harmlessness", TEXTS), models.score("harmlessness", TEXTS))


# Critics


def causal_states(encoder: Encoder, model: nn.Module, tokens: Tensor) -> Tensor:
    """DistilBERT's states (T, d) where a token looks at itself and what is left of it; token by token, head by head."""
    table = model.embeddings
    x = table.LayerNorm(table.word_embeddings(tokens) + table.position_embeddings(torch.arange(len(tokens))))
    for layer in model.transformer.layer:
        attention, heads = layer.attention, encoder.model.config.n_heads
        size = encoder.width // heads
        q, k, v = (part(x) for part in (attention.q_lin, attention.k_lin, attention.v_lin))
        mixed = torch.zeros_like(x)
        for t in range(len(tokens)):
            for h in range(heads):
                span = slice(h * size, (h + 1) * size)
                weights = torch.softmax(k[: t + 1, span] @ q[t, span] / math.sqrt(size), dim=0)
                mixed[t, span] = weights @ v[: t + 1, span]
        x = layer.sa_layer_norm(attention.out_lin(mixed) + x)
        x = layer.output_layer_norm(layer.ffn.lin2(nn.functional.gelu(layer.ffn.lin1(x))) + x)
    return x


def calibrated_models(encoder: Encoder, trainable: str = "head") -> RewardModels:
    models = new_models(encoder, trainable)
    models.calibrate([text for client_texts in TEXTS for text in client_texts])
    return models


@torch.no_grad()
def plain_value(encoder: Encoder, models: RewardModels, axis: str, client: int, prompt: str, prefix: str) -> float:
    """What the client's head makes of causal features of a prefix of prompt and response, in calibrated units."""
    tokens = plain_tokens(Text(prefix, "", ended=False))[0]
    states = causal_states(encoder, plain_encoder(encoder, models.tensors[axis], client), tokens)
    raw = plain_head(models.tensors[axis], client)(plain_features(states, prompt_length(prompt)))
    return float((raw - models.mean[axis][client]) / models.sd[axis][client])


@pytest.mark.parametrize("trainable", ["head", "all"])
def test_values_are_the_head_on_causal_features_of_each_prefix(encoder: Encoder, trainable: str) -> None:
    models = calibrated_models(encoder, trainable)
    critics = models.critics()
    batch = critics.prepare(PROMPTS, PIECES, 5)
    assert batch.ids.shape[:2] == (3, 2)
    prefixes_of = {  # client, response: the prefix that the encoder knows before each response token
        (0, 0): ["say hello", "say hello", "say hello hello", "say hello hello there"],
        (0, 1): ["please", "please good"],
        (1, 0): ["say", "say bad", "say bad fine"],
        (1, 1): ["hello there", "hello there", "hello there good"],
        (2, 0): ["no no"],
        (2, 1): ["fine", "fine say"],
    }
    for axis in models.axes:
        values = critics.values(axis, batch)
        assert values.shape == (3, 2, 5)
        for (client, row), prefixes in prefixes_of.items():
            prompt = PROMPTS[client][row]
            expected = [plain_value(encoder, models, axis, client, prompt, prefix) for prefix in prefixes]
            assert values[client, row, : len(prefixes)].tolist() == pytest.approx(expected, abs=2e-4)
            assert not values[client, row, len(prefixes) :].any()


def test_features_are_kept_where_there_are_tokens(encoder: Encoder) -> None:
    batch = new_models(encoder).critics().prepare(PROMPTS, PIECES, 5)
    assert batch.mask.sum(-1).tolist() == [[4, 2], [3, 3], [1, 2]]
    assert batch.features is not None
    assert batch.features.shape == (3, 6, 48)  # the most that a client has, not 2 × 5
    assert batch.features.abs().sum(-1).gt(0).tolist() == [[True] * 6, [True] * 6, [True] * 3 + [False] * 3]


def test_critics_with_own_encoders_read_a_few_responses_at_once(encoder: Encoder) -> None:
    critics = calibrated_models(encoder, "all").critics()
    batch = critics.prepare(PROMPTS, PIECES, 4)
    assert batch.portions(1) == [slice(0, 1), slice(1, 2)]
    parts = [critics.values("harmlessness", batch, rows) for rows in batch.portions(1)]
    torch.testing.assert_close(torch.cat(parts, 1), critics.values("harmlessness", batch), atol=1e-5, rtol=0)
    assert calibrated_models(encoder).critics().prepare(PROMPTS, PIECES, 4).portions() == [slice(0, 2)]


def test_a_word_of_two_pieces_is_valued_once_it_is_whole(encoder: Encoder) -> None:
    batch = new_models(encoder, clients=1).critics().prepare([["say hel"]], [[["l", "o", " there", ""]]], 4)
    assert batch.at[0, 0].tolist() == [1, 1, 2, 3]  # `hello` is one token
    assert batch.parts[0, 0].tolist() == [PROMPT, PROMPT, RESPONSE, RESPONSE]


@given(st.lists(st.sampled_from([" good", " bad", " no", " he", "llo"]), max_size=6), st.integers(1, 6))
def test_later_tokens_do_not_change_earlier_values(encoder: Encoder, later: list[str], kept: int) -> None:
    critics = calibrated_models(encoder).critics()
    start = [" fine", " no", " hello", " there", " bad", " say"][:kept]
    short, long = (critics.prepare([["say"]] * 3, [[start + rest]] * 3, 16) for rest in ([], [" "] + later))
    first, second = (critics.values("helpfulness", batch)[..., :kept] for batch in (short, long))
    torch.testing.assert_close(first, second, atol=1e-5, rtol=0)


def test_a_byte_level_encoder_reads_another_tokenizer_s_pieces() -> None:
    encoder = load_encoder("demo", "cpu")
    critics = new_reward_models(encoder, ("helpfulness",), 1, 4, "head", torch.Generator().manual_seed(0)).critics()
    prompt, pieces = "Instruction: hi\nResponse:", [" S", "ure", ", nai", "ve é", "a", "."]
    batch = critics.prepare([[prompt]], [[pieces]], len(pieces))
    ids = batch.ids[0, 0].tolist()
    for i in range(len(pieces)):
        at, before = int(batch.at[0, 0, i]), prompt + "".join(pieces[:i])
        assert before.startswith(encoder.tokenizer.decode(ids[1 : at + 1]))
        assert not before.startswith(encoder.tokenizer.decode(ids[1 : at + 2])) or at + 1 == len(ids)


def test_a_prompt_too_long_loses_its_beginning_and_values_stay_in_place(encoder: Encoder) -> None:
    critics = calibrated_models(encoder).critics()
    kept, lost = "hello " * 20 + "there", "say " * 30  # 21 words, the start token and 2 of the response fill 24 places
    pieces = [[[" good", " bad", ""]]] * 3
    long, short = (critics.prepare([[prompt]] * 3, pieces, 3) for prompt in (lost + kept, kept))
    assert torch.equal(long.ids, short.ids)
    assert torch.equal(long.parts, short.parts)
    assert long.at[0, 0].tolist() == [21, 22, 23]  # the prompt's last word, `good`, `bad`
    assert torch.equal(critics.values("harmlessness", long), critics.values("harmlessness", short))


@pytest.mark.parametrize("trainable", ["head", "all"])
def test_rows_of_a_batch(encoder: Encoder, trainable: str) -> None:
    critics = calibrated_models(encoder, trainable).critics()
    batch = critics.prepare(PROMPTS, PIECES, 4)
    whole = critics.values("helpfulness", batch)
    for rows in (slice(1, 2), torch.tensor([1])):
        torch.testing.assert_close(critics.values("helpfulness", batch, rows), whole[:, 1:], atol=1e-5, rtol=0)


@pytest.mark.parametrize("trainable", ["head", "all"])
def test_critics_learn_and_reward_models_do_not(encoder: Encoder, trainable: str) -> None:
    models = calibrated_models(encoder, trainable)
    before = {axis: models.score(axis, TEXTS) for axis in models.axes}
    critics: Critics = models.critics()
    batch = critics.prepare(PROMPTS, PIECES, 4)
    optimiser = torch.optim.AdamW(critics.parameters(), 0.05 if trainable == "head" else 0.005)
    losses = []
    for _ in range(30):
        optimiser.zero_grad()
        loss = sum(((critics.values(axis, batch) - 1.0) ** 2).mean() for axis in models.axes)
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.5 * losses[0]
    for axis in models.axes:
        assert torch.equal(models.score(axis, TEXTS), before[axis])
