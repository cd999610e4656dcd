"""A pretrained model before any of its weights is loaded: where its files are, and what its config.json says.

A Hub id is a folder too: the snapshot in the Hub's local cache. A snapshot that is there is used without asking the
network, so a model that was once fetched loads offline and stays the same; HF_HUB_OFFLINE=1 forbids the network
altogether.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import torch

from pwff_core.data.hub import Refusal, refusal
from pwff_core.errors import ModelError
from pwff_core.paths import assets_dir

Kind = Literal["backbone", "encoder"]
FLAGS: dict[Kind, str] = {"backbone": "--backbone", "encoder": "--reward.encoder"}
DESCRIPTION = ("*.json", "*.txt", "*.model")  # the files of config and tokenizer
WEIGHTS = ("model.safetensors", "model-*.safetensors")
INDEX = "model.safetensors.index.json"
PICKLED = frozenset({".bin", ".pt", ".pth", ".ckpt", ".h5", ".msgpack"})


def description_folder(name: str, kind: Kind) -> Path:
    """The folder with the config.json and the tokenizer of a model: `demo`, a local folder, or a Hub id.

    ModelError if there is no such model, it cannot be fetched, or the folder holds no model.
    """
    folder = _folder(name, kind)
    if folder is None:
        folder = _snapshot(name, kind, DESCRIPTION)
    if (folder / "config.json").is_file():
        return folder
    if (folder / "adapter_config.json").is_file():
        raise ModelError(f"{name} is a PEFT adapter, not a model{_base_model(folder)}.")
    raise ModelError(f"{name} has no config.json, so it is no model; give a folder as `save_pretrained` writes it.")


def weights_folder(name: str, kind: Kind) -> Path:
    """The folder with the model's safetensors weights too; a Hub model is fetched. ModelError if it has none."""
    folder = _folder(name, kind)
    if folder is None:
        folder = _snapshot(name, kind, (*DESCRIPTION, *WEIGHTS))
    missing = _missing_weights(folder)
    if missing:
        raise ModelError(
            f"{name} lacks {missing[0]}, which its index of weights names; give the whole model, or fetch it again."
        )
    if missing is None:
        pickled = any(file.suffix in PICKLED for file in folder.iterdir())
        fault = "has pickled weights only, which may run code as they load" if pickled else "has no weights"
        raise ModelError(
            f"{name} {fault}; model.safetensors is wanted. Where you trust such a file, convert it once with "
            f"transformers: AutoModelForCausalLM.from_pretrained(OLD).save_pretrained(NEW), and the same of its "
            "AutoTokenizer."
        )
    return folder


def read_config(name: str, kind: Kind) -> Any:
    """The model's config, of the class that transformers has for it. ModelError if it cannot be read or used."""
    from huggingface_hub.errors import StrictDataclassError
    from transformers import AutoConfig

    folder = description_folder(name, kind)
    try:
        with quiet():
            config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError, TypeError, LookupError, ArithmeticError, StrictDataclassError) as error:
        raise ModelError(f"The config.json of {name} cannot be used: {first_line(error)}") from None
    if getattr(config, "quantization_config", None):
        raise ModelError(f"The weights of {name} are quantised; give the model that it was made from.")
    return config


@contextmanager
def quiet() -> Iterator[None]:
    """While this holds, transformers shows no progress and no warnings: what matters is checked and raised here."""
    from transformers.utils import logging

    verbosity = logging.get_verbosity()
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)


def skeleton(auto: Any, config: Any, attention: str | None = None) -> Any:
    """A model without memory for its weights, as one of transformers' Auto classes builds it from a config.

    ValueError where the class knows no such model, or the model does not support that kind of attention.
    """
    with quiet(), torch.device("meta"):
        return auto.from_config(config, attn_implementation=attention, trust_remote_code=False)


def first_line(error: Exception) -> str:
    """The first line of an exception's text as the end of a sentence."""
    text = (str(error).splitlines() or [""])[0].strip() or type(error).__name__
    return text if text.endswith(".") else f"{text}."


def _folder(name: str, kind: Kind) -> Path | None:
    """The model's local folder; None for a name that can only be a Hub id."""
    if name == "demo":
        folder = assets_dir() / kind
        if not (folder / "config.json").is_file():
            raise ModelError(
                f"The embedded {kind} is missing from {assets_dir()}. Get a complete checkout, or run "
                "`make foundation`."
            )
        return folder
    path = Path(name).expanduser()
    if path.is_dir():
        return path
    if path.exists():
        raise ModelError(f"{name} is a file; give the folder that it is in, or a Hub id.")
    if path.is_absolute() or name.startswith((".", "~")) or name.count("/") > 1 or "\\" in name:
        raise ModelError(f"There is no folder {name}; check the path, or use the embedded default: {FLAGS[kind]} demo.")
    return None


def _snapshot(name: str, kind: Kind, patterns: Sequence[str]) -> Path:
    """The local folder of a Hub model with the files of these patterns, fetched if they are not in the cache."""
    import huggingface_hub as hub
    from huggingface_hub.errors import LocalEntryNotFoundError

    default = f"use the embedded default: {FLAGS[kind]} demo"
    refusals: dict[Refusal, str] = {
        "invalid name": f"{name!r} is neither a folder here nor a name that the Hub allows; {default}.",
        "gated": f"The {kind} {name!r} is gated: ask for access on its page, log in with `hf auth login`, or "
        f"{default}.",
        "not found": f"The Hub has no model {name!r}, or not for you; check the name, or {default}.",
    }
    try:
        try:
            folder = Path(hub.snapshot_download(name, allow_patterns=list(patterns), local_files_only=True))
            if (folder / "config.json").is_file() and (patterns == DESCRIPTION or _missing_weights(folder) == []):
                return folder
        except LocalEntryNotFoundError:
            pass  # not in the cache, or not all of it
        return Path(hub.snapshot_download(name, allow_patterns=list(patterns)))
    except (OSError, ValueError) as error:
        if reason := refusal(error):
            raise ModelError(refusals[reason]) from None
        if isinstance(error, ValueError):
            raise
        raise ModelError(  # no network, HF_HUB_OFFLINE, a full disk
            f"The {kind} {name!r} is neither a folder here nor in the Hub's local cache, and it could not be fetched "
            f"({type(error).__name__}). Check the name and the network, or {default}."
        ) from None


def _missing_weights(folder: Path) -> list[str] | None:
    """The safetensors files that the index names and the folder lacks; None where it has no weights at all."""
    if (folder / "model.safetensors").is_file():
        return []
    try:
        files = json.loads((folder / INDEX).read_text(encoding="utf-8"))["weight_map"].values()
        return sorted(file for file in set(files) if not (folder / file).is_file())
    except OSError:
        return None
    except (ValueError, LookupError, TypeError, AttributeError):
        return [INDEX]  # it is there, but broken


def _base_model(folder: Path) -> str:
    """The model that an adapter is for, as the end of a sentence."""
    try:
        base = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))["base_model_name_or_path"]
    except (OSError, ValueError, LookupError, TypeError):
        base = None
    return f"; the model that it adapts is {base}" if base else "; give the model that it adapts"
