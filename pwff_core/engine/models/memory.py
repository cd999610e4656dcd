"""How much memory a run needs, estimated from config.json alone: before weights are read, or even fetched.

The estimate is of the peak, in parts that are easy to compute by hand. With d the width of a block, q, k, v the widths
of its projections, f its inner width, 4 bytes a number:

    loading      the backbone's parameters as they are read, before anything else is loaded; for bfloat16 in the format
                 of the file, which may be float32
    weights      the backbone's parameters as they are used (in bfloat16 2 bytes each, but 4 in the head), and the
                 encoder's
    trained      every client's adapters and LoRA, 16 bytes a parameter: itself, its gradient and Adam's two moments;
                 4 more in alignment, for the reference
    rewards      the same of reward models and, in alignment, of critics; the encoder's features that both learn from
    activations  what a block keeps of a token until the backward pass: its input to two norms, to LoRA and to three
                 adapters, 6d; queries, keys, values and the output of attention, 2q + k + v; what the MLP's activation
                 needs, f, or 3f where it has a gate. Passes are split so that this is PASS_BYTES at most
    cache        keys and values, k + v a block, of the tokens of all answers that are written at once: CACHE_BYTES at
                 most
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import psutil
import torch

from pwff_core.config import RunConfig, stage_rounds
from pwff_core.engine.models.backbone import Sites, context_of, empty_backbone, pick_device
from pwff_core.engine.models.bfloat16 import pick_precision
from pwff_core.engine.models.decoding import CACHE_BYTES
from pwff_core.engine.models.encoder import FEATURES
from pwff_core.engine.models.pretrained import first_line, read_config, skeleton
from pwff_core.errors import ModelError
from pwff_core.methods import METHODS, Method
from pwff_core.units import with_prefix

PROGRAM_BYTES = 600_000_000  # Python, PyTorch, transformers and the data, as measured
PASS_BYTES = 2**30  # what a pass with gradients keeps at most, unless one row of each client is more
FLOAT32_BYTES = 4
TRAINED_BYTES = 4 * FLOAT32_BYTES  # a parameter, its gradient, Adam's two moments
CGROUPS = Path("/sys/fs/cgroup")

ADVICE = {  # by the largest part
    "program": "close other programs",
    "loading": "a smaller backbone or one that is stored in bfloat16",
    "weights": "a smaller backbone or --precision bfloat16",
    "trained": "fewer clients, a smaller --adapter.bottleneck or --lora.rank",
    "rewards": "--reward.trainable head, a smaller encoder or fewer clients",
    "activations": "a smaller --instruction.batch-size or --data.max-length",
    "cache": "a smaller --alignment.batch-size or --alignment.max-new-tokens",
}


class Memory(NamedTuple):
    """What a run needs at its peak, by part [byte]."""

    program: int
    loading: int
    weights: int
    trained: int
    rewards: int
    activations: int
    cache: int

    @property
    def total(self) -> int:
        """The peak: either loading, or a stage, where passes and decoding alternate."""
        stage = self.weights + self.trained + self.rewards + max(self.activations, self.cache)
        return self.program + max(self.loading, stage)

    def largest_first(self) -> list[tuple[str, int]]:
        """The parts of the peak that are a hundredth of it or more."""
        parts = self._asdict()
        at_loading = self.program + self.loading == self.total
        peak = {"program", "loading"} if at_loading else parts.keys() - {"loading"}
        large = [(name, parts[name]) for name in peak if parts[name] >= 0.01 * self.total]
        return sorted(large, key=lambda part: -part[1])


class EncoderSize(NamedTuple):
    """The sizes of an encoder that memory depends on."""

    num_params: int
    width: int  # of a state


class TokenSize(NamedTuple):
    """How many numbers a token takes in a backbone."""

    activations: int  # kept for the backward pass in all blocks, and what one block computes meanwhile
    cache: int  # keys and values of all blocks


def check_memory(config: RunConfig, cohort_size: int, *, force: bool = False, free: int | None = None) -> None:
    """ModelError with numbers where a run needs more memory than is free; `force` skips the check.

    At most `cohort_size` clients are trained and decoded at once. `free` bytes are what `free_memory` says, if not
    given.
    """
    if force:
        return
    need, device = estimate(config, cohort_size), pick_device(config.device)
    if device.type == "cuda":
        _require(config, need._replace(program=0), torch.cuda.mem_get_info(device)[0], "GPU memory")
        # weights pass through the computer's memory on their way to the GPU
        need = need._replace(trained=0, rewards=0, activations=0, cache=0)
    _require(config, need, free_memory() if free is None else free, "memory")


def _require(config: RunConfig, need: Memory, free: int, where: str) -> None:
    if need.total <= free:
        return
    largest = need.largest_first()
    parts = ", ".join(f"{_size(size)} {name}" for name, size in largest)
    raise ModelError(
        f"The run with the backbone {config.backbone} and {config.clients} clients needs about {_size(need.total)} of "
        f"{where}: {parts}; {_size(free)} are free. Choose {ADVICE[largest[0][0]]}, or try all the same: "
        "pwff run --force."
    )


def _size(size: int) -> str:
    return with_prefix(size, "B", digits=2)


def estimate(config: RunConfig, cohort_size: int) -> Memory:
    """The parts of a run's peak. ModelError if the backbone's description cannot be had or does not fit."""
    method, stages = METHODS[config.method], stage_rounds(config)
    model_config = read_config(config.backbone, "backbone")
    model, sites = empty_backbone(config.backbone, model_config)
    dtype = pick_precision(config.precision, pick_device(config.device))
    token = _token_size(sites)
    row = min(config.data.max_length, context_of(model_config))  # tokens
    together = min(cohort_size, config.clients, max(1, tokens_of_pass(sites, dtype) // row))
    # pooled training has all clients' rows in one batch, so a pass may be as small as a single row
    rows, fewest = (config.clients, 1) if method.pooled else (together, together)
    aligned = "alignment" in stages
    encoder = _encoder_of(config) if "reward" in stages else None
    answer = min(row + config.alignment.max_new_tokens, context_of(model_config)) if aligned else 0
    answers = rows * config.alignment.batch_size * answer
    tokens = max(rows * config.instruction.batch_size * row, math.ceil(answers / config.alignment.minibatches))
    pass_tokens = min(tokens, max(fewest * max(row, answer), tokens_of_pass(sites, dtype)))
    cached = token.cache * dtype.itemsize  # bytes a token
    return Memory(
        program=PROGRAM_BYTES,
        loading=num_params(model) * _file_dtype(model_config, dtype).itemsize,
        weights=_weight_bytes(model, dtype) + (encoder.num_params * FLOAT32_BYTES if encoder else 0),
        trained=_trained_bytes(config, method, sites, aligned),
        rewards=_reward_bytes(config, method, encoder, rows if aligned else 0) if encoder else 0,
        activations=pass_tokens * token.activations * dtype.itemsize,
        cache=min(answers * cached, max(fewest * answer * cached, CACHE_BYTES)),
    )


def free_memory(cgroups: Path = CGROUPS) -> int:
    """Bytes that this process can still have: what the system has available, or what a container's limit leaves.

    What the process has already counts as free, for the estimate includes it.
    """
    own: int = psutil.Process().memory_info().rss
    system: int = psutil.virtual_memory().available
    return min([system + own, *(limit + own for limit in _left_by_limits(cgroups))])


def _left_by_limits(root: Path) -> Iterator[int]:
    """Bytes that each limit of a control group leaves; files that could be dropped from memory count as free."""
    for limit, used, stat, cached in (
        (root / "memory.max", root / "memory.current", root / "memory.stat", "inactive_file"),
        (root / "memory/memory.limit_in_bytes", root / "memory/memory.usage_in_bytes", root / "memory/memory.stat",
         "total_inactive_file"),
    ):  # fmt: skip
        try:
            stats = dict(line.split() for line in stat.read_text(encoding="ascii").splitlines())
            yield int(limit.read_text("ascii")) - int(used.read_text("ascii")) + int(stats.get(cached, 0))
        except (OSError, ValueError):  # there is no such group, or its limit is "max": none
            continue


def tokens_of_pass(sites: Sites, dtype: torch.dtype) -> int:
    """How many tokens a pass with gradients may have, so that what it keeps stays within PASS_BYTES."""
    return max(1, PASS_BYTES // (_token_size(sites).activations * dtype.itemsize))


def _token_size(sites: Sites) -> TokenSize:
    kept = cached = widest = 0
    outputs, blocks = sites.adapters[1::3], sites.adapters[2::3]  # the sites on each MLP and on each block
    for (query, key, value), mlp, block in zip(sites.attention, outputs, blocks, strict=True):
        inner = sum(part.numel() for part in mlp.module.parameters() if part.dim() == 2) // mlp.width
        gated = hasattr(getattr(block.module, "mlp", None), "gate_proj")
        kept += 6 * block.width + 2 * query.outputs + key.outputs + value.outputs + (3 if gated else 1) * inner
        cached += key.outputs + value.outputs
        widest = max(widest, 3 * inner, 3 * query.width)
    return TokenSize(kept + widest, cached)


def _weight_bytes(model: Any, dtype: torch.dtype) -> int:
    if dtype == torch.float32:
        return num_params(model) * FLOAT32_BYTES
    head = model.get_output_embeddings()
    return num_params(model.base_model) * dtype.itemsize + num_params(head) * FLOAT32_BYTES


def _file_dtype(model_config: Any, dtype: torch.dtype) -> torch.dtype:
    """The number format in which a backbone for `dtype` is read: for bfloat16 the file's, if config.json names it."""
    stored = model_config.dtype
    return stored if dtype != torch.float32 and isinstance(stored, torch.dtype) else torch.float32


def num_params(model: Any) -> int:
    """Parameters of a model; those that two of its parts share count once."""
    return sum(parameter.numel() for parameter in model.parameters())


def _trained_bytes(config: RunConfig, method: Method, sites: Sites, aligned: bool) -> int:
    bottleneck, rank = config.adapter.bottleneck, config.lora.rank
    sizes = {
        "adapters": sum(2 * site.width * bottleneck + bottleneck + site.width for site in sites.adapters),
        "lora": sum(rank * (part.inputs + part.outputs) for block in sites.attention for part in block),
    }
    models = 1 if method.pooled else config.clients
    return models * sum(sizes[group] for group in method.trains) * (TRAINED_BYTES + FLOAT32_BYTES * aligned)


def _reward_bytes(config: RunConfig, method: Method, encoder: EncoderSize, aligned: int) -> int:
    """Bytes of reward models and critics, and of the features that heads on a frozen encoder learn from.

    `aligned` clients are in alignment at once, and have features for their critics; 0 without alignment.
    """
    models = (1 if method.pooled else config.clients) * len(method.rewards) * (2 if aligned else 1)
    features = FEATURES * encoder.width
    head = (features + 1) * config.reward.hidden + config.reward.hidden + 1
    if config.reward.trainable == "all":
        return models * (head + encoder.num_params) * TRAINED_BYTES
    texts = 2 * config.clients * len(method.rewards) * (config.reward.train_pairs + config.reward.test_pairs)
    valued = aligned * config.alignment.batch_size * config.alignment.max_new_tokens
    return models * head * TRAINED_BYTES + (texts + valued) * features * FLOAT32_BYTES


def _encoder_of(config: RunConfig) -> EncoderSize:
    from transformers import AutoModel

    encoder_config = read_config(config.reward.encoder, "encoder")
    try:
        model = skeleton(AutoModel, encoder_config)
    except ValueError as error:
        raise ModelError(f"{config.reward.encoder} cannot be used as an encoder: {first_line(error)}") from None
    return EncoderSize(num_params(model), encoder_config.hidden_size)
