"""What crosses the air: how many parameters a method uploads, by tensor group, and their bits.

Sizes follow arXiv 2404.13238v2, section V-A: 3 adapters and up to 3 LoRA modules a transformer block.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args, overload

from pwff_core.config import RunConfig
from pwff_core.methods import Group, Method
from pwff_core.paths import assets_dir

ADAPTERS_PER_BLOCK = 3  # after the attention output, after the MLP output, on the block's output


class Geometry(NamedTuple):
    """The sizes of a backbone that a payload depends on."""

    blocks: int  # n
    width: int  # d
    query: int  # output width of the query projection
    key: int  # of the key projection; below `query` where heads share keys (grouped-query attention)
    value: int  # of the value projection


GPT2_SMALL = Geometry(12, 768, 768, 768, 768)
DISTILBERT_PARAMS, DISTILBERT_WIDTH = 66_362_880, 768  # distilbert-base-uncased without its heads

Part = Literal["adapters", "lora", "reward"]  # the groups of alignment and, in reward learning, the reward models
PARTS: tuple[Part, ...] = get_args(Part)
Fate = Literal["uploaded", "home", "pooled", "untrained"]


class Cell(NamedTuple):
    """What becomes of one tensor group under a method."""

    fate: Fate
    num_params: int  # of one client, LoRA at all 3n sites; 0 where nothing is trained


def geometry_of(backbone: str) -> Geometry | None:
    """Geometry of a backbone as far as it is known without loading the model; None where it is not.

    For `demo` and a local folder, config.json says it (GPT-2 family or Llama type); `gpt2` is GPT-2 small.
    """
    if backbone == "gpt2":
        return GPT2_SMALL
    folder = assets_dir() / "backbone" if backbone == "demo" else Path(backbone).expanduser()
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        return _geometry_from(config)
    except (OSError, ValueError, LookupError, TypeError, ArithmeticError):
        return None  # no folder, or no model that fits: the loader gives the reason when the run starts


def _geometry_from(config: dict[str, Any]) -> Geometry | None:
    """Geometry from a transformers config.json; None where it is neither a GPT-2 nor of Llama type.

    Llama's descendants all say how many heads share keys and values; the first Llamas did not, and shared none.
    """
    if config["model_type"] == "gpt2":
        blocks, width = int(config["n_layer"]), int(config["n_embd"])
        return Geometry(blocks, width, width, width, width)
    if config["model_type"] == "llama" or "num_key_value_heads" in config:
        width, heads = int(config["hidden_size"]), int(config["num_attention_heads"])
        head_width = int(config.get("head_dim") or width // heads)
        shared = int(config.get("num_key_value_heads") or heads) * head_width
        return Geometry(int(config["num_hidden_layers"]), width, heads * head_width, shared, shared)
    return None


@overload
def pricing_geometry(config: RunConfig, geometry: Geometry) -> Geometry: ...
@overload
def pricing_geometry(config: RunConfig, geometry: None) -> Geometry | None: ...
def pricing_geometry(config: RunConfig, geometry: Geometry | None) -> Geometry | None:
    """The geometry that uploads are priced by: GPT-2 small where `price_as` says so, otherwise the backbone's own."""
    return GPT2_SMALL if config.price_as == "gpt2" else geometry


def num_adapter_params(geometry: Geometry, bottleneck: int) -> int:
    """Parameters of all 3n adapters of one client.

    An adapter is d → b → d with both biases, 2·d·b + b + d parameters (Houlsby et al., arXiv 1902.00751, section 2.1).
    """
    adapter = 2 * geometry.width * bottleneck + bottleneck + geometry.width
    return ADAPTERS_PER_BLOCK * geometry.blocks * adapter


def num_lora_params(geometry: Geometry, rank: int) -> int:
    """Parameters of all 3n LoRA modules (query, key and value of every block) of one client.

    A module on a d_in → d_out projection is A (d_in, r) and B (r, d_out), r·(d_in + d_out) parameters
    (Hu et al., arXiv 2106.09685, section 4.1).
    """
    outputs = (geometry.query, geometry.key, geometry.value)
    return geometry.blocks * sum(rank * (geometry.width + output) for output in outputs)


def num_upload_params(method: Method, geometry: Geometry, config: RunConfig) -> dict[Group, int]:
    """Parameters that one client uploads in a round, by tensor group; empty where the method uploads nothing.

    A group that is averaged goes up whole, LoRA at all 3n sites, whatever the client's device class.
    `geometry` is the backbone's own; `price_as` is applied here.
    """
    sizes = _group_sizes(geometry, config)
    return {group: sizes[group] for group in method.uploads}


def _group_sizes(geometry: Geometry, config: RunConfig) -> dict[Group, int]:
    """Parameters of one client by tensor group, priced as `price_as` says."""
    priced = pricing_geometry(config, geometry)
    return {
        "adapters": num_adapter_params(priced, config.adapter.bottleneck),
        "lora": num_lora_params(priced, config.lora.rank),
    }


def uplink_bits(num_params: Mapping[Group, int], float_bits: int) -> int:
    """Bits of one client's upload: S = bits a parameter × parameters uploaded."""
    return float_bits * sum(num_params.values())


def num_head_params(width: int, hidden: int) -> int:
    """Parameters of a reward model's head: 3·width inputs (features), `hidden` inner units, one output."""
    return (3 * width + 1) * hidden + hidden + 1


def num_reward_model_params(config: RunConfig) -> int:
    """Trained parameters of one reward model, priced as if its encoder were DistilBERT."""
    encoder = DISTILBERT_PARAMS if config.reward.trainable == "all" else 0
    return num_head_params(DISTILBERT_WIDTH, config.reward.hidden) + encoder


def num_reward_upload_params(method: Method, config: RunConfig) -> int:
    """Parameters that one client uploads in a round of reward learning; 0 where the method uploads nothing."""
    return len(method.rewards) * num_reward_model_params(config) if method.uploads else 0


def fates(method: Method, geometry: Geometry, config: RunConfig) -> dict[Part, Cell]:
    """What is uploaded, what stays at home and what is not trained under a method, part by part, with sizes.

    A method that pools all clients' data has one model in one place: nothing is uploaded, and nothing is at home.
    `geometry` is the backbone's own; `price_as` is applied.
    """
    groups = _group_sizes(geometry, config)
    sizes: dict[Part, int] = {
        "adapters": groups["adapters"],
        "lora": groups["lora"],
        "reward": len(method.rewards) * num_reward_model_params(config),
    }
    trained: set[Part] = {*method.trains, *(("reward",) if method.rewards else ())}
    uploaded: set[Part] = {*method.uploads, *(("reward",) if method.rewards and method.uploads else ())}
    stays: Fate = "pooled" if method.pooled else "home"
    return {
        part: Cell("uploaded" if part in uploaded else stays, sizes[part]) if part in trained else Cell("untrained", 0)
        for part in PARTS
    }
