"""Time and memory against the number of clients, and against the size of the backbone."""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from benchmarks.players import Player, players
from benchmarks.rows import Row, comparison_row, take_turns, value_row
from pwff_core.paths import assets_dir


class Size(NamedTuple):
    """A GPT-2-type model."""

    name: str
    blocks: int
    width: int
    heads: int
    vocabulary: int
    context: int


SIZES = (
    Size("1M", 4, 128, 2, 3072, 256),
    Size("4M", 4, 256, 4, 3072, 256),  # the embedded default's
    Size("16M", 6, 448, 7, 3072, 256),
    Size("40M", 8, 640, 10, 3072, 256),
    Size("124M", 12, 768, 12, 50_257, 1024),  # GPT-2 small's
)
TINY = (Size("tiny", 2, 32, 2, 3072, 256), Size("small", 2, 64, 2, 3072, 256))
AS_RUN: dict[str, object] = {"precision": "auto"}  # the default
# a round of GPT-2 small takes half a minute with these; rows and lengths are the demo's
SHORT: dict[str, object] = {
    "instruction.local_steps": 2, "instruction.personal_steps": 1, "data.test_examples": 1,
}  # fmt: skip


def against_clients(counts: tuple[int, ...], rounds: int, stage: str, **changes: object) -> Iterator[Row]:
    """Rows of time at more clients over time at the fewest, and of memory a client more."""
    prefix = "scaling/" if stage == "instruction" else f"scaling/{stage}-"
    with players([{**AS_RUN, **changes, "clients": count} for count in counts], stage) as runs:
        take_turns([_whole_round(player) for player in runs], rounds)
        fewest, *more = zip(counts, runs, strict=True)
        peaks = {str(count): round(player.played[-1].peak_mb) for count, player in (fewest, *more)}
        for count, player in more:
            times = [[played.round_s for played in run.played[1:]] for run in (fewest[1], player)]
            what = f"{stage} round, tests included: ours_s {fewest[0]} clients, other_s {count}"
            yield comparison_row(f"{prefix}clients-{count}", what, *times, peak_mb=peaks[str(count)])
    most = counts[-1]
    each = (peaks[str(most)] - peaks[str(counts[0])]) / (most - counts[0])
    what = f"peak memory of a client more, from {counts[0]} to {most} clients, {stage} rounds"
    name = "memory/per-client" if stage == "instruction" else f"memory/{stage}-per-client"
    yield value_row(name, what, each, "MB", peak_mb=peaks)


def _whole_round(player: Player) -> Callable[[], float]:
    return lambda: player.round().round_s


def against_backbones(sizes: tuple[Size, ...], rounds: int, **changes: object) -> Iterator[Row]:
    """Rows of time at every size of backbone over time at the first, and a token, and the memory."""
    with tempfile.TemporaryDirectory() as folder:
        settings = [{**AS_RUN, **SHORT, **changes, "backbone": str(new_backbone(size, Path(folder)))} for size in sizes]
        with players(settings, "instruction") as runs:
            take_turns([_whole_round(player) for player in runs], rounds)
            first = runs[0]
            for size, player in zip(sizes, runs, strict=True):
                times = [[played.train_s for played in run.played[1:]] for run in (first, player)]
                token = statistics.median(played.train_s / played.tokens for played in player.played[1:])
                yield comparison_row(
                    f"backbone/{size.name}", f"training of a short round: ours_s {sizes[0].name}, other_s {size.name}",
                    *times, parameters=player.parameters, shape=f"{size.blocks} × {size.width}",
                    us_per_token=round(1e6 * token, 1), peak_mb=round(player.played[-1].peak_mb),
                )  # fmt: skip


def new_backbone(size: Size, folder: Path) -> Path:
    """A model of random weights with the embedded default's tokenizer, as `from_pretrained` reads it."""
    import torch
    from transformers import AutoTokenizer, GPT2Config, GPT2LMHeadModel

    tokenizer = AutoTokenizer.from_pretrained(assets_dir() / "backbone")
    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=size.vocabulary, n_positions=size.context, n_embd=size.width, n_layer=size.blocks,
        n_head=size.heads, activation_function="gelu_new", resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0,
        bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    target = folder / size.name
    GPT2LMHeadModel(config).save_pretrained(target)
    tokenizer.save_pretrained(target)
    return target
