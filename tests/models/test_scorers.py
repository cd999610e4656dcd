"""Encoder, reward models and critics, each against the plain way: one text, one client, one token at a time."""

from __future__ import annotations

import json
import logging
import math
import shutil
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from pwff_core.errors import ModelError
from pwff_core.models.critics import Critics
from pwff_core.models.encoder import (
    PADDING,
    PROMPT,
    RESPONSE,
    Encoder,
    Reading,
    Text,
    by_length,
    load_encoder,
    pooled,
    running,
)
from pwff_core.models.scorers import RewardModels, joined, new_reward_models
from tests.encoders import WORDS, wordpiece_folder

CLIENTS, HIDDEN = 3, 5
TEXTS = [
    [Text("say hello", " good"), Text("say hello", " bad bad no", ended=False)],
    [Text("say hello", " good"), Text("please say", " fine")],
    [Text("no", " hello there : fine"), Text("say hello", " good")],
]
PROMPTS = [["say hello", "please"], ["say", "hello there"], ["no no", "fine"]]
PIECES = [
    [[" hel", "lo", " there", ""], [" good", ""]],
    [[" bad", " fine", " no"], [" g", "ood", ""]],
    [[""], [" say", " please"]],
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return wordpiece_folder(tmp_path_factory.mktemp("wordpiece"))


@pytest.fixture(scope="module")
def encoder(folder: Path) -> Encoder:
    return load_encoder(str(folder), "cpu")


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


def plain_features(states: Tensor, asked: int) -> Tensor:
    """Features (3d) of a text from its states (T, d), the first `asked` of which belong to the prompt."""
    prompt = sum(states[:asked]) / asked
    response = sum(states[asked:], torch.zeros(states.shape[1])) / max(len(states) - asked, 1)
    return torch.cat([response, prompt * response, states[-1]])


def words_asked(prompt: str) -> int:
    """Tokens of a prompt, the start token among them."""
    return 1 + len(prompt.split())


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


def plain_tokens(text: Text) -> Tensor:
    """Word by word: every word of these texts is one token."""
    words = ["[CLS]", *(text.prompt + text.response).split(), *(["[SEP]"] if text.ended else [])]
    return torch.tensor([[WORDS.index(word) for word in words]])


# The encoder


def test_a_text_as_tokens(encoder: Encoder) -> None:
    rows, cut = encoder.tokenise([Text("Say hello", " THERE"), Text("Say hello", " theres", ended=False)])
    assert [[WORDS[token] for token in tokens] for tokens, _ in rows] == [
        ["[CLS]", "say", "hello", "there", "[SEP]"],
        ["[CLS]", "say", "hello", "there", "##s"],
    ]
    assert [parts.tolist() for _, parts in rows] == [[PROMPT] * 3 + [RESPONSE] * 2] * 2
    assert cut == 0
    assert encoder.tokenise([]) == ([], 0)


def told(encoder: Encoder, text: Text) -> list[tuple[str, int]]:
    [(tokens, parts)], _ = encoder.tokenise([text])
    return [(WORDS[token], part) for token, part in zip(tokens, parts.tolist(), strict=True)]


def test_an_empty_response_is_its_end_or_nothing(encoder: Encoder) -> None:
    assert told(encoder, Text("say", "")) == [("[CLS]", PROMPT), ("say", PROMPT), ("[SEP]", RESPONSE)]
    assert told(encoder, Text("say", "", ended=False)) == [("[CLS]", PROMPT), ("say", PROMPT)]
    assert told(encoder, Text("", "", ended=False)) == [("[CLS]", PROMPT)]
    states = torch.tensor([[3.0], [5.0]])  # of the start token and of `say`, without a response
    assert pooled(states, torch.tensor([PROMPT, PROMPT])).tolist() == [0.0, 0.0, 5.0]


def test_a_token_that_the_response_ends_belongs_to_it(encoder: Encoder) -> None:
    assert told(encoder, Text("say hel", "lo there", ended=False)) == [
        ("[CLS]", PROMPT), ("say", PROMPT), ("hello", RESPONSE), ("there", RESPONSE),
    ]  # fmt: skip
    batch = new_models(encoder, clients=1).critics().prepare([["say hel"]], [[["l", "o", " there", ""]]], 4)
    assert batch.at[0, 0].tolist() == [1, 1, 2, 3]  # `hello` is known once it is whole
    assert batch.parts[0, 0].tolist() == [PROMPT, PROMPT, RESPONSE, RESPONSE]


def test_a_text_too_long_loses_its_beginning(encoder: Encoder) -> None:
    fits, long = Text("say " * 19 + "hello there", " fine"), Text("no " + "say " * 19 + "hello there", " fine")
    rows, cut = encoder.tokenise([fits, long])
    assert cut == 1
    assert rows[0].shape == (2, encoder.context) == (2, 24)
    assert rows[0].tolist() == rows[1].tolist()
    assert rows[0][1].tolist() == [PROMPT] * 22 + [RESPONSE] * 2


def test_a_response_too_long_loses_its_beginning_and_all_of_the_prompt(encoder: Encoder) -> None:
    [(tokens, parts)], cut = encoder.tokenise([Text("say hello", " good" * 25 + " bad")])
    assert cut == 1
    assert [WORDS[token] for token in tokens] == ["[CLS]", *["good"] * 21, "bad", "[SEP]"]
    assert parts.tolist() == [PROMPT] + [RESPONSE] * 23


@pytest.mark.parametrize("text", {text for mine in TEXTS for text in mine})
def test_features_are_those_of_a_text_alone(encoder: Encoder, text: Text) -> None:
    reading = Reading(encoder, TEXTS)
    place = next(reading.index[k, i] for k, mine in enumerate(TEXTS) for i, other in enumerate(mine) if other == text)
    states = encoder.model(input_ids=plain_tokens(text)).last_hidden_state[0]
    expected = plain_features(states, words_asked(text.prompt))
    torch.testing.assert_close(reading.features[place], expected, atol=1e-5, rtol=0)


def test_each_different_text_is_read_once(encoder: Encoder) -> None:
    reading = Reading(encoder, TEXTS)
    assert len(reading.rows) == 4  # of six
    assert reading.features.shape == (4, 48)
    assert reading.index.shape == (3, 2)
    assert reading.index[0, 0] == reading.index[1, 0] == reading.index[2, 1]


@given(st.lists(st.integers(1, 30), min_size=1, max_size=40), st.integers(1, 64))
def test_batches_by_length_hold_everything_once_and_little(lengths: list[int], most: int) -> None:
    batches = list(by_length([torch.zeros(2, length).numpy() for length in lengths], most))
    assert sorted(sum(batches, [])) == list(range(len(lengths)))
    for batch in batches:
        assert len(batch) == 1 or len(batch) * max(lengths[index] for index in batch) <= most


STATES = torch.tensor([[[2.0], [4.0], [6.0], [8.0], [100.0]], [[1.0], [7.0], [9.0], [11.0], [19.0]]])
PARTS = torch.tensor([[PROMPT, PROMPT, RESPONSE, RESPONSE, PADDING], [PROMPT, RESPONSE, RESPONSE, RESPONSE, RESPONSE]])


def test_pooling_by_hand() -> None:
    # the response's mean, that times the prompt's mean (3 and 1), the last state that is no padding
    assert pooled(STATES, PARTS).tolist() == [[7.0, 21.0, 8.0], [11.5, 11.5, 19.0]]


def test_running_features_by_hand() -> None:
    first, second = running(STATES, PARTS).tolist()
    assert first[:4] == [[0.0, 0.0, 2.0], [0.0, 0.0, 4.0], [6.0, 18.0, 6.0], [7.0, 21.0, 8.0]]
    assert second == [[0.0, 0.0, 1.0], [7.0, 7.0, 7.0], [8.0, 8.0, 9.0], [9.0, 9.0, 11.0], [11.5, 11.5, 19.0]]


@given(st.integers(1, 5), st.integers(0, 6), st.integers(0, 3), st.integers(0, 999))
def test_running_features_are_the_pooled_ones_of_every_prefix(asked: int, said: int, padding: int, seed: int) -> None:
    parts = torch.tensor([PROMPT] * asked + [RESPONSE] * said + [PADDING] * padding)
    states = torch.randn(len(parts), 3, generator=torch.Generator().manual_seed(seed))
    every = running(states, parts)
    for t in range(asked - 1, asked + said):  # from the prompt's end on: only there is a value asked for
        prefix = plain_features(states[: t + 1], asked)
        torch.testing.assert_close(every[t], prefix, atol=1e-5, rtol=0)
    torch.testing.assert_close(pooled(states, parts), prefix, atol=1e-5, rtol=0)


def test_the_embedded_encoder_loads_silently() -> None:
    told: list[logging.LogRecord] = []
    handler = logging.Handler()
    handler.emit = told.append  # type: ignore[method-assign]
    logger = logging.getLogger("transformers")
    logger.addHandler(handler)
    try:
        encoder = load_encoder("demo", "cpu")
    finally:
        logger.removeHandler(handler)
    assert told == []
    assert not any(parameter.requires_grad for parameter in encoder.model.parameters())
    assert type(encoder.model).__name__ == "DistilBertModel"
    [row], _ = encoder.tokenise([Text("Instruction: hi\nResponse:", " Sure.")])
    tokens, parts = row
    assert (tokens[0], tokens[-1]) == (encoder.tokenizer.cls_token_id, encoder.tokenizer.eos_token_id)
    assert encoder.tokenizer.decode(tokens[parts == PROMPT][1:]) == "Instruction: hi\nResponse:"
    assert encoder.tokenizer.decode(tokens[parts == RESPONSE][:-1]) == " Sure."


def problem(name: str) -> str:
    with pytest.raises(ModelError) as caught:
        load_encoder(name, "cpu")
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_encoders_that_cannot_be_had(folder: Path, tiny_backbone: Path, tmp_path: Path) -> None:
    assert "--reward.encoder demo" in problem("nobody/nothing")
    assert "cannot be loaded as an encoder" in problem(str(tmp_path))
    assert "is a gpt2 model" in problem(str(tiny_backbone))
    pickled = shutil.copytree(folder, tmp_path / "pickled")
    (pickled / "model.safetensors").rename(pickled / "pytorch_model.bin")
    assert "safetensors" in problem(str(pickled))


def test_an_encoder_that_lacks_weights(folder: Path, tmp_path: Path) -> None:
    deeper = shutil.copytree(folder, tmp_path / "deeper")
    config = json.loads((deeper / "config.json").read_text())
    (deeper / "config.json").write_text(json.dumps(config | {"n_layers": 3}))
    assert "lacks weights of a DistilBERT encoder, such as transformer.layer.2." in problem(str(deeper))


def test_a_tokenizer_without_a_start_token(folder: Path, tmp_path: Path) -> None:
    other = shutil.copytree(folder, tmp_path / "other")
    path = other / "tokenizer_config.json"
    kept = {name: value for name, value in json.loads(path.read_text()).items() if name != "cls_token"}
    path.write_text(json.dumps(kept | {"tokenizer_class": "PreTrainedTokenizerFast"}))
    assert "lacks a cls, sep or pad token" in problem(str(other))


# Reward models


def test_a_head_starts_as_nn_linear_does(encoder: Encoder) -> None:
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
        raw = models.raw(axis, Reading(encoder, TEXTS))
        for client, mine in enumerate(TEXTS):
            reader = plain_encoder(encoder, models.tensors[axis], client)
            head = plain_head(models.tensors[axis], client)
            for place, text in enumerate(mine):
                states = reader(input_ids=plain_tokens(text)).last_hidden_state[0]
                alone = head(plain_features(states, words_asked(text.prompt)))
                torch.testing.assert_close(raw[client, place], alone[0], atol=1e-5, rtol=0)
        torch.testing.assert_close(models.assess(axis, Reading(encoder, TEXTS)), raw, atol=1e-6, rtol=0)


@pytest.mark.parametrize("trainable", ["head", "all"])
def test_calibration_by_hand(encoder: Encoder, trainable: str) -> None:
    models = new_models(encoder, trainable)
    references = [text for mine in TEXTS for text in mine] + [Text("there", f"{' say' * n}") for n in range(9)]
    raw = {axis: models.assess(axis, Reading(encoder, [references])) for axis in models.axes}
    models.calibrate(references)
    for axis in models.axes:
        calibrated = models.score(axis, [references])
        assert calibrated.shape == (CLIENTS, len(references))
        for client in range(CLIENTS):
            told = raw[axis][client].double()
            mean = float(sum(told) / len(told))
            sd = math.sqrt(sum((float(score) - mean) ** 2 for score in told) / len(told))
            for place in range(len(references)):
                assert float(calibrated[client, place]) == pytest.approx((float(told[place]) - mean) / sd, abs=1e-4)


def test_one_model_scores_everybody(encoder: Encoder) -> None:
    alone = new_models(encoder, clients=1)
    alone.calibrate([text for mine in TEXTS for text in mine])
    scores = alone.score("helpfulness", TEXTS)
    assert scores.shape == (3, 2)
    for client, mine in enumerate(TEXTS):
        torch.testing.assert_close(scores[client : client + 1], alone.score("helpfulness", [mine]), atol=1e-5, rtol=0)
    assert float(scores[0, 0]) == float(scores[1, 0]) == float(scores[2, 1])  # one text


def test_models_and_texts_of_different_numbers_of_clients(encoder: Encoder) -> None:
    with pytest.raises(ValueError, match="3 reward models cannot score the texts of 2 clients"):
        new_models(encoder).score("helpfulness", TEXTS[:2])


@pytest.mark.parametrize("trainable", ["head", "all"])
def test_state_brings_everything_back(encoder: Encoder, trainable: str) -> None:
    models = new_models(encoder, trainable)
    models.calibrate(TEXTS[0])
    state = models.state()
    assert {"helpfulness/head.inner.weight", "harmlessness/mean", "harmlessness/sd"} <= set(state)
    again = RewardModels.from_state(encoder, state)
    for axis in models.axes:
        assert torch.equal(again.score(axis, TEXTS), models.score(axis, TEXTS))
        assert torch.equal(models.part(slice(1, 3)).score(axis, TEXTS[1:]), models.score(axis, TEXTS)[1:])


def test_parts_join_to_the_whole(encoder: Encoder) -> None:
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
    models.calibrate([text for mine in TEXTS for text in mine])
    return models


@torch.no_grad()
def plain_value(encoder: Encoder, models: RewardModels, axis: str, client: int, prompt: str, prefix: str) -> float:
    """What the client's head makes of causal features of a prefix of prompt and response, in calibrated units."""
    tokens = plain_tokens(Text(prefix, "", ended=False))[0]
    states = causal_states(encoder, plain_encoder(encoder, models.tensors[axis], client), tokens)
    raw = plain_head(models.tensors[axis], client)(plain_features(states, words_asked(prompt)))
    return float((raw - models.mean[axis][client]) / models.sd[axis][client])


@pytest.mark.parametrize("trainable", ["head", "all"])
def test_values_are_the_head_on_causal_features_of_each_prefix(encoder: Encoder, trainable: str) -> None:
    models = calibrated_models(encoder, trainable)
    critics = models.critics()
    batch = critics.prepare(PROMPTS, PIECES, 5)
    assert batch.ids.shape[:2] == (3, 2)
    known = {  # client, response: the prefix that the encoder knows before each response token
        (0, 0): ["say hello", "say hello", "say hello hello", "say hello hello there", "say hello hello there"],
        (0, 1): ["please", "please good", "please good", "please good", "please good"],
        (1, 0): ["say", "say bad", "say bad fine", "say bad fine", "say bad fine"],
        (1, 1): ["hello there", "hello there", "hello there good", "hello there good", "hello there good"],
        (2, 0): ["no no"] * 5,
        (2, 1): ["fine", "fine say", "fine say", "fine say", "fine say"],
    }
    for axis in models.axes:
        values = critics.values(axis, batch)
        assert values.shape == (3, 2, 5)
        for (client, row), prefixes in known.items():
            prompt = PROMPTS[client][row]
            expected = [plain_value(encoder, models, axis, client, prompt, prefix) for prefix in prefixes]
            assert values[client, row].tolist() == pytest.approx(expected, abs=2e-4)


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
