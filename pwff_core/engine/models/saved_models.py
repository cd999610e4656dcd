"""A run's models on disk, kept with the run: safetensors and JSON, nothing that could be code.

    saved.json           format, settings, where LoRA is placed, a few held-out prompts to try
    after.safetensors    every client's tensors as the run left them, stacked (K, …), named GROUP.NAME
    before.safetensors   the same before alignment; absent where the run had no alignment
    judge.safetensors    the reward models that scored the run; absent where it had none

A folder is complete or absent: it is written beside its place and then renamed.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal, NamedTuple, get_args

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from pwff_core.config import RunConfig
from pwff_core.engine.models.backbone import Backbone
from pwff_core.engine.models.cohort import Cohort
from pwff_core.errors import ModelError
from pwff_core.methods import GROUPS, METHODS, Group
from pwff_core.records import When

FORMAT = 1
INFO_FILE = "saved.json"
PromptKind = Literal["delicate", "ordinary"]
Stacks = Mapping[Group, Mapping[str, Tensor]]  # (K, …) by group and name, as in Cohort.tensors


class SavedModels(NamedTuple):
    """All that is needed to chat with a run's clients."""

    config: RunConfig
    placed: Tensor  # (clients, blocks, 3) bool: LoRA on q, k, v; a row a client, also where training is pooled
    before: Stacks | None  # None: the run has no alignment, or ended before it
    after: Stacks  # K = clients; K = 1 where training is pooled and all clients share one model
    judge: Mapping[str, Tensor]  # RewardModels.state(); empty where the run has no reward models
    prompts: Mapping[PromptKind, Sequence[str]] = {}  # held out from training


def save(folder: Path, saved: SavedModels) -> None:
    """Write the models into `folder`, which is replaced. ModelError if it cannot be written."""
    head = {
        "format": FORMAT,
        "config": json.loads(saved.config.model_dump_json()),
        "placed": saved.placed.tolist(),
        "moments": list(get_args(When)) if saved.before is not None else ["after"],
        "prompts": {kind: list(saved.prompts.get(kind, ())) for kind in get_args(PromptKind)},
    }
    files = {"before": _flat(saved.before or {}), "after": _flat(saved.after), "judge": dict(saved.judge)}
    fresh, old = folder.with_name(f"{folder.name}.new"), folder.with_name(f"{folder.name}.old")
    try:
        for leftover in (fresh, old):
            shutil.rmtree(leftover, ignore_errors=True)
        fresh.mkdir(parents=True)
        for name, tensors in files.items():
            if tensors:
                save_file({key: _storable(tensor) for key, tensor in tensors.items()}, fresh / f"{name}.safetensors")
        (fresh / INFO_FILE).write_text(json.dumps(head, ensure_ascii=False, indent=1), encoding="utf-8")
        if folder.exists():
            folder.rename(old)
        fresh.rename(folder)
        shutil.rmtree(old, ignore_errors=True)
    except (OSError, SafetensorError) as error:
        shutil.rmtree(fresh, ignore_errors=True)
        raise ModelError(
            f"The models cannot be written to {folder} ({_reason(error)}); make room or allow writing there."
        ) from None


def load(folder: Path) -> SavedModels:
    """Read what `save` wrote, onto the CPU. ModelError if it is missing, damaged or of another version."""
    if not (folder / INFO_FILE).is_file():
        raise ModelError(f"There are no models in {folder}; a run's models are kept once it has finished or stopped.")
    try:
        head = json.loads((folder / INFO_FILE).read_text(encoding="utf-8"))
        if head["format"] != FORMAT:
            raise ModelError(f"The models in {folder} were kept by another version of pwff; use that, or run again.")
        saved = SavedModels(
            config=RunConfig.model_validate(head["config"]),
            placed=torch.tensor(head["placed"], dtype=torch.bool),
            before=_grouped(load_file(folder / "before.safetensors")) if "before" in head["moments"] else None,
            after=_grouped(load_file(folder / "after.safetensors")),
            judge=load_file(judge) if (judge := folder / "judge.safetensors").exists() else {},
            prompts={kind: tuple(head["prompts"][kind]) for kind in get_args(PromptKind)},
        )
        _check(saved)
    except (OSError, SafetensorError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise ModelError(f"The models in {folder} are damaged ({_reason(error)}); run the experiment again.") from None
    return saved


def stacked(cohorts: Sequence[Cohort]) -> dict[Group, dict[str, Tensor]]:
    """Copies of the tensors of all clients of several cohorts, in order: later training does not change them."""
    return {
        group: {name: torch.cat([cohort.tensors[group][name].detach() for cohort in cohorts]) for name in named}
        for group, named in cohorts[0].tensors.items()
    }


def cohort_of(backbone: Backbone, saved: SavedModels, clients: Sequence[int], when: When) -> Cohort:
    """A frozen cohort of these clients alone, in this order.

    ModelError for a client that the run does not have, for `before` where there was no alignment, and where the
    backbone has changed since.
    """
    stacks = stacks_of(saved, when)
    rows = _rows(saved, clients)
    cohort = Cohort(
        backbone, saved.placed[list(clients)], tuple(stacks), saved.config.adapter, saved.config.lora,
        torch.Generator().manual_seed(0),
    )  # fmt: skip
    for group, named in cohort.tensors.items():
        for name, tensor in named.items():
            if name not in stacks[group] or stacks[group][name][0].shape != tensor.shape[1:]:
                raise ModelError(
                    f"The saved models do not fit the backbone {saved.config.backbone}: it has changed since the run."
                )
            tensor.data.copy_(stacks[group][name][rows])
    cohort.train_only(())
    return cohort


def stacks_of(saved: SavedModels, when: When) -> Stacks:
    """All clients' tensors before or after alignment. ModelError for `before` where there was no alignment."""
    if when == "after":
        return saved.after
    if saved.before is None:
        raise ModelError("This run's models were not aligned, so there is no before; ask for them as they are: after.")
    return saved.before


def of_client(saved: SavedModels, client: int, when: When) -> dict[Group, dict[str, Tensor]]:
    """One client's tensors, without the client axis. ModelErrors as for `cohort_of`."""
    (row,) = _rows(saved, [client])
    return {
        group: {name: stack[row] for name, stack in named.items()} for group, named in stacks_of(saved, when).items()
    }


def _rows(saved: SavedModels, clients: Sequence[int]) -> list[int]:
    """Where each client's model lies in the stacks."""
    for client in clients:
        if not 0 <= client < saved.config.clients:
            raise ModelError(f"There is no client {client}; this run's clients are 0 to {saved.config.clients - 1}.")
    return [0 if METHODS[saved.config.method].pooled else client for client in clients]


def _flat(stacks: Stacks) -> dict[str, Tensor]:
    return {f"{group}.{name}": tensor for group, named in stacks.items() for name, tensor in named.items()}


def _grouped(flat: Mapping[str, Tensor]) -> dict[Group, dict[str, Tensor]]:
    stacks: dict[Group, dict[str, Tensor]] = {}
    for key, tensor in flat.items():
        group, _, name = key.partition(".")
        if group not in GROUPS:
            raise ValueError(f"unknown tensor {key}")
        stacks.setdefault(group, {})[name] = tensor
    return {group: stacks[group] for group in GROUPS if group in stacks}  # the order of a cohort


def _storable(tensor: Tensor) -> Tensor:
    return tensor.detach().cpu().contiguous().clone()  # safetensors refuses memory that two names share


def _check(saved: SavedModels) -> None:
    """ValueError unless there is a model for every client."""
    method, clients = METHODS[saved.config.method], saved.config.clients
    models = 1 if method.pooled else clients
    if saved.placed.shape[0] != clients:
        raise ValueError(f"{saved.placed.shape[0]} placements for {clients} clients")
    for stacks in (saved.after, *([] if saved.before is None else [saved.before])):
        if set(stacks) != set(method.trains):
            raise ValueError(f"there are {', '.join(stacks) or 'no tensors'} in place of {', '.join(method.trains)}")
        for name, tensor in _flat(stacks).items():
            if tensor.dim() == 0 or tensor.shape[0] != models:
                raise ValueError(f"{name} is not stacked over {models} models")


def _reason(error: Exception) -> str:
    """What an exception says, in a few words."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    if isinstance(error, KeyError):
        return f"{error} is missing"
    return (str(error).splitlines() or [type(error).__name__])[0]
