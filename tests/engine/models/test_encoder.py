"""The encoder, and texts as it reads them, each against the plain way: one text, one token at a time."""

from __future__ import annotations

import logging

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pwff_core.engine.models.encoder import (
    PADDING,
    PROMPT,
    RESPONSE,
    EncodedTexts,
    Encoder,
    Text,
    by_length,
    load_encoder,
    pooled,
    running,
)
from tests.support.encoders import (
    TEXTS,
    WORDS,
    plain_features,
    plain_tokens,
    prompt_length,
)


def test_a_text_as_tokens(encoder: Encoder) -> None:
    rows, cut = encoder.tokenise([Text("Say hello", " THERE"), Text("Say hello", " theres", ended=False)])
    assert [[WORDS[token] for token in tokens] for tokens, _ in rows] == [
        ["[CLS]", "say", "hello", "there", "[SEP]"],
        ["[CLS]", "say", "hello", "there", "##s"],
    ]
    assert [parts.tolist() for _, parts in rows] == [[PROMPT] * 3 + [RESPONSE] * 2] * 2
    assert cut == 0
    assert encoder.tokenise([]) == ([], 0)


def labelled(encoder: Encoder, text: Text) -> list[tuple[str, int]]:
    [(tokens, parts)], _ = encoder.tokenise([text])
    return [(WORDS[token], part) for token, part in zip(tokens, parts.tolist(), strict=True)]


def test_an_empty_response_is_an_end_token_or_nothing(encoder: Encoder) -> None:
    assert labelled(encoder, Text("say", "")) == [("[CLS]", PROMPT), ("say", PROMPT), ("[SEP]", RESPONSE)]
    assert labelled(encoder, Text("say", "", ended=False)) == [("[CLS]", PROMPT), ("say", PROMPT)]
    assert labelled(encoder, Text("", "", ended=False)) == [("[CLS]", PROMPT)]
    states = torch.tensor([[3.0], [5.0]])  # of the start token and of `say`, without a response
    assert pooled(states, torch.tensor([PROMPT, PROMPT])).tolist() == [0.0, 0.0, 5.0]


def test_a_token_across_prompt_and_response_belongs_to_the_response(encoder: Encoder) -> None:
    assert labelled(encoder, Text("say hel", "lo there", ended=False)) == [
        ("[CLS]", PROMPT), ("say", PROMPT), ("hello", RESPONSE), ("there", RESPONSE),
    ]  # fmt: skip


def test_a_text_too_long_loses_its_beginning(encoder: Encoder) -> None:
    fits, long = Text("say " * 19 + "hello there", " fine"), Text("no " + "say " * 19 + "hello there", " fine")
    rows, cut = encoder.tokenise([fits, long])
    assert cut == 1
    assert rows[0].shape == (2, encoder.context) == (2, 24)
    assert rows[0].tolist() == rows[1].tolist()
    assert rows[0][1].tolist() == [PROMPT] * 22 + [RESPONSE] * 2


def test_a_response_too_long_loses_its_beginning_and_the_prompt(encoder: Encoder) -> None:
    [(tokens, parts)], cut = encoder.tokenise([Text("say hello", " good" * 25 + " bad")])
    assert cut == 1
    assert [WORDS[token] for token in tokens] == ["[CLS]", *["good"] * 21, "bad", "[SEP]"]
    assert parts.tolist() == [PROMPT] + [RESPONSE] * 23


@pytest.mark.parametrize("text", {text for client_texts in TEXTS for text in client_texts})
def test_features_are_those_of_a_text_alone(encoder: Encoder, text: Text) -> None:
    encoded = EncodedTexts(encoder, TEXTS)
    place = next(encoded.index[k, i] for k, row in enumerate(TEXTS) for i, other in enumerate(row) if other == text)
    states = encoder.model(input_ids=plain_tokens(text)).last_hidden_state[0]
    expected = plain_features(states, prompt_length(text.prompt))
    torch.testing.assert_close(encoded.features[place], expected, atol=1e-5, rtol=0)


def test_each_different_text_is_read_once(encoder: Encoder) -> None:
    encoded = EncodedTexts(encoder, TEXTS)
    assert len(encoded.rows) == 4  # of six
    assert encoded.features.shape == (4, 48)
    assert encoded.index.shape == (3, 2)
    assert encoded.index[0, 0] == encoded.index[1, 0] == encoded.index[2, 1]


@given(st.lists(st.integers(1, 30), min_size=1, max_size=40), st.integers(1, 64))
def test_batches_by_length_hold_each_row_once_and_few_tokens(lengths: list[int], most: int) -> None:
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
def test_running_features_are_the_pooled_ones_of_prefixes(prompt: int, response: int, padding: int, seed: int) -> None:
    parts = torch.tensor([PROMPT] * prompt + [RESPONSE] * response + [PADDING] * padding)
    states = torch.randn(len(parts), 3, generator=torch.Generator().manual_seed(seed))
    every = running(states, parts)
    for t in range(prompt - 1, prompt + response):  # values are needed from the prompt's end on
        prefix = plain_features(states[: t + 1], prompt)
        torch.testing.assert_close(every[t], prefix, atol=1e-5, rtol=0)
    torch.testing.assert_close(pooled(states, parts), prefix, atol=1e-5, rtol=0)


def test_the_embedded_encoder_loads_silently() -> None:
    records: list[logging.LogRecord] = []
    handler = logging.Handler()
    handler.emit = records.append  # type: ignore[method-assign]
    logger = logging.getLogger("transformers")
    logger.addHandler(handler)
    try:
        encoder = load_encoder("demo", "cpu")
    finally:
        logger.removeHandler(handler)
    assert records == []
    assert not any(parameter.requires_grad for parameter in encoder.model.parameters())
    assert type(encoder.model).__name__ == "DistilBertModel"
    [row], _ = encoder.tokenise([Text("Instruction: hi\nResponse:", " Sure.")])
    tokens, parts = row
    assert (tokens[0], tokens[-1]) == (encoder.tokenizer.cls_token_id, encoder.tokenizer.eos_token_id)
    assert encoder.tokenizer.decode(tokens[parts == PROMPT][1:]) == "Instruction: hi\nResponse:"
    assert encoder.tokenizer.decode(tokens[parts == RESPONSE][:-1]) == " Sure."
