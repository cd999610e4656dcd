"""The frozen text encoder under all reward models and critics, and texts as it reads them.

A text is read as `<cls> prompt response <end>`, the end token only where the response really ended. Reward models and
critics see its features, [v, u ∗ v, last]: the response's mean state, its product with the prompt's mean state, and the
last state. The product says how far the two are about the same thing, as in InferSent and Sentence-BERT (Conneau et
al., arXiv 1705.02364; Reimers and Gurevych, arXiv 1908.10084); an encoder as small as the embedded one does not find
that out by attention alone.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pwff_core.engine.models.backbone import pick_device
from pwff_core.engine.models.encoder_checks import adapt_masks, check_kind, check_reading, positions
from pwff_core.engine.models.pretrained import first_line, quiet, read_config, weights_folder
from pwff_core.errors import ModelError

FEATURES = 3  # features are this many times as wide as a state
# what a token belongs to; the start token belongs to the prompt, an end token to the response
PADDING, PROMPT, RESPONSE = 0, 1, 2
FEWEST_WORDS = 8  # of a real tokenizer; transformers makes up an empty one where there are no files
TOKENS_AT_ONCE = 2048  # that the frozen encoder reads, padding included: more would only add padding


class Text(NamedTuple):
    """A prompt and the response to it."""

    prompt: str  # as the policy reads it
    response: str  # as it follows the prompt, so usually with a space first
    ended: bool = True  # False: the response ran out of room before its end


class Encoder(NamedTuple):
    """A loaded bidirectional text encoder: frozen weights and tokenizer."""

    model: Any  # of transformers, without pooler and head
    tokenizer: Any  # a fast tokenizer with start (cls), end (sep) and padding tokens
    context: int  # most tokens of a text
    width: int  # d, of a state; features are 3d wide
    device: torch.device

    def tokenise(self, texts: Sequence[Text]) -> tuple[list[NDArray[np.int64]], int]:
        """Each text's token ids and what they belong to (2, T), and how many texts were too long.

        A text that is too long loses its beginning.
        """
        if not texts:
            return [], 0
        whole = [text.prompt + text.response for text in texts]
        coded = self.tokenizer(whole, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
        rows: list[NDArray[np.int64]] = []
        cut = 0
        for index, text in enumerate(texts):
            ends = np.array([end for _, end in coded["offset_mapping"][index]], dtype=np.int64)
            parts = np.where(ends > len(text.prompt), RESPONSE, PROMPT)
            row = np.stack([np.array(coded["input_ids"][index], dtype=np.int64), parts])
            if text.ended:
                row = np.append(row, [[self.tokenizer.sep_token_id], [RESPONSE]], axis=1)
            cut += row.shape[1] > self.context - 1
            rows.append(np.insert(row[:, -(self.context - 1) :], 0, [self.tokenizer.cls_token_id, PROMPT], axis=1))
        return rows, cut

    def padded(self, rows: Sequence[NDArray[np.int64]]) -> tuple[Tensor, Tensor]:
        """Token ids (n, T) padded on the right, and what each belongs to (n, T): PADDING, PROMPT or RESPONSE."""
        longest = max(row.shape[1] for row in rows)
        ids = np.full((len(rows), longest), self.tokenizer.pad_token_id, dtype=np.int64)
        parts = np.full((len(rows), longest), PADDING, dtype=np.int64)
        for index, row in enumerate(rows):
            ids[index, : row.shape[1]], parts[index, : row.shape[1]] = row
        return torch.from_numpy(ids).to(self.device), torch.from_numpy(parts).to(self.device)

    def states(self, ids: Tensor, seen: Tensor) -> Tensor:
        """The frozen encoder's last states (n, T, d); the mask `seen` is (n, T), or (n or 1, 1, T, T), query by key."""
        return self.model(input_ids=ids, attention_mask=seen).last_hidden_state  # type: ignore[no-any-return]


def pooled(states: Tensor, parts: Tensor) -> Tensor:
    """Features (…, 3d) of states (…, T, d) whose tokens belong to `parts` (…, T)."""
    prompt, response = (_mean(states, parts == part) for part in (PROMPT, RESPONSE))
    last = (parts != PADDING).sum(-1, keepdim=True).unsqueeze(-1) - 1  # (…, 1, 1)
    final = states.take_along_dim(last, dim=-2).squeeze(-2)
    return torch.cat([response, prompt * response, final], dim=-1)


def running(states: Tensor, parts: Tensor) -> Tensor:
    """Features (…, T, 3d) of every prefix, from states (…, T, d) that were read causally."""
    responds = (parts == RESPONSE).unsqueeze(-1)  # (…, T, 1)
    response = (states * responds).cumsum(-2) / responds.cumsum(-2).clamp(min=1)
    prompt = _mean(states, parts == PROMPT).unsqueeze(-2)
    return torch.cat([response, prompt * response, states], dim=-1)


def _mean(states: Tensor, chosen: Tensor) -> Tensor:
    """Mean (…, d) of the chosen (…, T) among states (…, T, d); 0 where none is chosen."""
    return (states * chosen.unsqueeze(-1)).sum(-2) / chosen.sum(-1, keepdim=True).clamp(min=1)


def by_length(rows: Sequence[NDArray[np.int64]], most: int = TOKENS_AT_ONCE) -> Iterator[list[int]]:
    """Batches of indices of `rows`, longest first, each of at most `most` tokens with its padding, or a single row."""
    order = sorted(range(len(rows)), key=lambda index: -rows[index].shape[1])
    start = 0
    while start < len(order):
        count = max(1, most // rows[order[start]].shape[1])
        yield order[start : start + count]
        start += count


class EncodedTexts:
    """Texts of K clients, n of each, as an encoder reads them.

    Every different text is one of `rows`: it is tokenised once, and the frozen encoder reads it at most once, however
    many models score it. `cut` counts the rows that lost their beginning.
    """

    def __init__(self, encoder: Encoder, texts: Sequence[Sequence[Text]]) -> None:
        different = dict.fromkeys(text for client_texts in texts for text in client_texts)
        places = {text: place for place, text in enumerate(different)}
        self.encoder = encoder
        self.rows, self.cut = encoder.tokenise(list(places))
        index = [[places[text] for text in client_texts] for client_texts in texts]
        self.index = torch.tensor(index, dtype=torch.int64, device=encoder.device)  # (K, n) into rows

    @functools.cached_property
    def features(self) -> Tensor:
        """The frozen encoder's features (rows, 3d) of every different text."""
        features = torch.empty(len(self.rows), FEATURES * self.encoder.width, device=self.encoder.device)
        with torch.no_grad():
            for places in by_length(self.rows):
                ids, parts = self.encoder.padded([self.rows[place] for place in places])
                features[places] = pooled(self.encoder.states(ids, parts != PADDING), parts)
        return features

    def tokens(self, index: Tensor) -> tuple[Tensor, Tensor]:
        """Token ids (K, n, T) of the rows at `index` (K, n), and what each belongs to."""
        ids, parts = self.encoder.padded([self.rows[place] for place in index.flatten().tolist()])
        return ids.view(*index.shape, -1), parts.view(*index.shape, -1)


def load_encoder(name: str, device: str = "auto") -> Encoder:
    """Load and freeze a bidirectional text encoder: `demo`, a folder, or a Hub id. Weights come from safetensors alone.

    Every family fits that passes `check_reading`. ModelError if the encoder cannot be had, is of another kind, lacks
    weights, or has no tokenizer that fits.
    """
    model, tokenizer, missing = _load_parts(name)
    if getattr(model, "pooler", None) is not None:  # states do not pass through it, so it need not be complete
        model.pooler = None
        missing = {key for key in missing if not key.startswith("pooler.")}
    if missing:
        raise ModelError(f"{name} lacks weights of its encoder, such as {min(missing)}. Give a complete one.")
    words = _word_ids(name, tokenizer, model.get_input_embeddings().num_embeddings)
    context = positions(name, model)
    model.requires_grad_(False).eval().to(pick_device(device))
    adapt_masks(model)
    check_reading(name, model, words, tokenizer.pad_token_id, context)
    return Encoder(model, tokenizer, context, model.config.hidden_size, model.device)


def _load_parts(name: str) -> tuple[Any, Any, set[str]]:
    """An encoder's model and tokenizer, and the names of weights that its files lack."""
    import transformers
    from safetensors import SafetensorError

    config = read_config(name, "encoder")
    check_kind(name, config)  # before gigabytes are fetched and read
    folder = weights_folder(name, "encoder")
    try:
        with quiet():  # a language-model head that comes with the encoder is left over, on purpose
            model, report = transformers.AutoModel.from_pretrained(
                folder, config=config, dtype=torch.float32, use_safetensors=True, local_files_only=True,
                output_loading_info=True,
            )  # fmt: skip
            tokenizer = transformers.AutoTokenizer.from_pretrained(
                folder, local_files_only=True, trust_remote_code=False
            )
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise ModelError(f"{name} cannot be loaded as an encoder: {first_line(error)}") from None
    return model, tokenizer, set(report["missing_keys"])


def _word_ids(name: str, tokenizer: Any, embeddings: int) -> list[int]:
    """The ids of the tokenizer's words. ModelError if the tokenizer does not fit an encoder with so many embeddings.

    Where a tokenizer has no cls and sep, its start and end tokens serve as such.
    """
    words = sorted(set(tokenizer.get_vocab().values()) - set(tokenizer.all_special_ids))
    if len(words) < FEWEST_WORDS:
        raise ModelError(f"{name} has no tokenizer; add its files (tokenizer.json, or vocab.txt and the like).")
    if len(tokenizer) > embeddings:
        raise ModelError(
            f"The tokenizer of {name} has {len(tokenizer)} tokens and its encoder {embeddings}; give a matching pair."
        )
    if tokenizer.cls_token_id is None:
        tokenizer.cls_token = tokenizer.bos_token
    if tokenizer.sep_token_id is None:
        tokenizer.sep_token = tokenizer.eos_token
    if not tokenizer.is_fast or None in (tokenizer.cls_token_id, tokenizer.sep_token_id, tokenizer.pad_token_id):
        raise ModelError(
            f"The tokenizer of {name} lacks a cls (or bos), sep (or eos) or pad token or a fast version "
            "(tokenizer.json); add one."
        )
    return words
