"""Critics: the reward models' weights under a causal mask, which value every prefix of a response.

A reward model sees a whole text at once; to value each prefix with it would take a pass a token. Under a causal mask a
state depends only on what stands to its left, so one pass gives the features of every prefix: the running mean of the
response's states so far, its product with the prompt's mean state, and the state itself. At first such a value is
biased, because the reward model has never read an unfinished text; alignment warms the critic up. Actor and critic:
Schulman et al., arXiv 1707.06347.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pwff_core.engine.models.encoder import FEATURES, PROMPT, RESPONSE, Encoder, by_length, running
from pwff_core.engine.models.stacked import ROWS_AT_ONCE, Named, encoder_states, head_scores, trains_encoder
from pwff_core.methods import Axis


class CriticBatch(NamedTuple):
    """Responses of K clients, n of each, at most R tokens long.

    N is the number of response tokens of the client that has most. The features are the largest tensor of a round, so
    they are stored for real tokens alone, (K, N), not for every place of (K, n, R).
    """

    ids: Tensor  # (K, n, T) the encoder's tokens of prompt and response, padded on the right
    parts: Tensor  # (K, n, T) what each token belongs to: PADDING, PROMPT or RESPONSE
    at: Tensor  # (K, n, R) the encoder token whose state values the text before response token i
    mask: Tensor  # (K, n, R) true where there is a response token
    features: Tensor | None  # (K, N, 3d) of the frozen encoder; None where the critics have encoders of their own

    def portions(self, rows_at_once: int = ROWS_AT_ONCE) -> list[slice]:
        """The n responses in portions to value at once: all, or `rows_at_once` where critics have own encoders."""
        responses = self.mask.shape[1]
        most = rows_at_once if self.features is None else responses
        return [slice(start, start + most) for start in range(0, responses, most)]


class Critics:
    """The critics of K clients, one an axis: trainable copies of calibrated reward models."""

    def __init__(
        self,
        encoder: Encoder,
        tensors: Mapping[Axis, Mapping[str, Tensor]],
        mean: Mapping[Axis, Tensor],
        sd: Mapping[Axis, Tensor],
    ) -> None:
        self.encoder = encoder
        self.tensors: dict[Axis, Named] = {
            axis: {name: nn.Parameter(tensor.detach().clone()) for name, tensor in named.items()}
            for axis, named in tensors.items()
        }
        self.mean, self.sd = dict(mean), dict(sd)  # (K,) each

    def parameters(self) -> list[nn.Parameter]:
        """All stacked tensors, in a fixed order."""
        return [tensor for named in self.tensors.values() for tensor in named.values()]

    def prepare(
        self, prompts: Sequence[Sequence[str]], pieces: Sequence[Sequence[Sequence[str]]], length: int
    ) -> CriticBatch:
        """What valuing K × n responses needs. `pieces` is the text that each response token adds: "" for the end token.

        `length` is R, at least the length of the longest response. The frozen encoder reads here, once.
        """
        flat = [
            (prompt, list(response))
            for client_prompts, client_pieces in zip(prompts, pieces, strict=True)
            for prompt, response in zip(client_prompts, client_pieces, strict=True)
        ]
        rows, at = _prefixes(self.encoder, flat, length)
        ids, parts = self.encoder.padded(rows)
        lengths = torch.tensor([len(response) for _, response in flat], device=at.device)
        mask = torch.arange(length, device=at.device) < lengths[:, None]
        shape = (len(prompts), -1)
        own_encoders = any(trains_encoder(named) for named in self.tensors.values())
        features = None if own_encoders else _frozen_features(self.encoder, rows, at, mask, len(prompts))
        ids, parts, at, mask = (tensor.unflatten(0, shape) for tensor in (ids, parts, at, mask))
        return CriticBatch(ids, parts, at, mask, features)

    def values(self, axis: Axis, batch: CriticBatch, rows: slice | Tensor | None = None) -> Tensor:
        """Values (K, n, R) before each response token, in calibrated units, 0 where there is no token; differentiable.

        `rows` picks some of the n responses, the same of every client.
        """
        chosen = slice(None) if rows is None else rows
        if batch.features is not None:
            raw = head_scores(self.tensors[axis], batch.features)  # (K, N)
            values = self._calibrated(axis, raw)[_filled(batch.mask)]
            return torch.zeros_like(batch.mask, dtype=values.dtype).masked_scatter(batch.mask, values)[:, chosen]
        ids, parts, at, mask = (tensor[:, chosen] for tensor in (batch.ids, batch.parts, batch.at, batch.mask))
        states = encoder_states(self.encoder, self.tensors[axis], ids, _causal(ids))
        features = _at(running(states, parts), at).flatten(1, 2)  # (K, n·R, 3d)
        raw = head_scores(self.tensors[axis], features)
        return torch.where(mask, self._calibrated(axis, raw).view(mask.shape), 0.0)

    def _calibrated(self, axis: Axis, raw: Tensor) -> Tensor:
        return (raw - self.mean[axis][:, None]) / self.sd[axis][:, None]


def _filled(mask: Tensor) -> Tensor:
    """(K, N), true for each of a client's N places that holds a token of the mask (K, n, R), filled in order."""
    tokens = mask.sum((1, 2))
    return torch.arange(int(tokens.max()), device=mask.device) < tokens[:, None]


def _prefixes(
    encoder: Encoder, flat: Sequence[tuple[str, list[str]]], length: int
) -> tuple[list[NDArray[np.int64]], Tensor]:
    """Tokens (2, T) of each prompt + response as the encoder reads them, and where each prefix ends, (n, R).

    Before response token i the text is prompt + pieces[:i]; it ends at the last token whose text lies within it, the
    start token where there is none. A shorter response is followed by zeros.
    """
    full = [prompt + "".join(pieces) for prompt, pieces in flat]
    coded = encoder.tokenizer(full, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
    rows, at = [], np.zeros((len(flat), length), dtype=np.int64)
    for index, (prompt, pieces) in enumerate(flat):
        ends = np.array([end for _, end in coded["offset_mapping"][index]], dtype=np.int64)
        before = len(prompt) + np.cumsum([0, *map(len, pieces)])[:-1]  # characters before response token i
        lost = max(0, len(ends) + 1 - encoder.context)  # a long text loses its beginning, as one that is scored does
        places = (np.searchsorted(ends, before, side="right") - lost).clip(min=0)
        at[index, : len(places)] = places
        parts = np.where(ends > len(prompt), RESPONSE, PROMPT)[lost:]
        ids = [encoder.tokenizer.cls_token_id, *coded["input_ids"][index][lost:]]
        rows.append(np.stack([np.array(ids, dtype=np.int64), np.insert(parts, 0, PROMPT)]))
    return rows, torch.from_numpy(at).to(encoder.device)


@torch.no_grad()
def _frozen_features(
    encoder: Encoder, rows: Sequence[NDArray[np.int64]], at: Tensor, mask: Tensor, clients: int
) -> Tensor:
    """Causal features (K, N, 3d) of the frozen encoder at the places `at` (K·n, R) where the mask (K·n, R) is true."""
    filled = _filled(mask.unflatten(0, (clients, -1)))
    features = torch.zeros(*filled.shape, FEATURES * encoder.width, device=encoder.device)
    place = torch.zeros_like(at)
    place[mask] = filled.flatten().nonzero()[:, 0]  # an index into K·N
    for chosen in by_length(rows):
        ids, parts = encoder.padded([rows[row] for row in chosen])
        prefixes = _at(running(encoder.states(ids, _causal(ids)), parts), at[chosen])  # (b, R, 3d)
        features.flatten(0, 1)[place[chosen][mask[chosen]]] = prefixes[mask[chosen]]
    return features


def _causal(ids: Tensor) -> Tensor:
    """A mask (1, 1, T, T), true where the key stands at or before the query; padding on the right is never seen."""
    length = ids.shape[-1]
    return torch.ones(length, length, dtype=torch.bool, device=ids.device).tril()[None, None]


def _at(features: Tensor, at: Tensor) -> Tensor:
    """The features (…, R, 3d) at the places (…, R)."""
    return features.take_along_dim(at.unsqueeze(-1), dim=-2)
