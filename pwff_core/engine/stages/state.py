"""What a stage has to remember between two rounds, as named tensors: to be written down, and to be put back.

Names are paths, "optimiser/3/exp_avg"; what belongs to clients is stacked over all of them (K, …), however many train
in one stack. Nothing random is among it: every draw is a function of the seed, a name and the round (`seeds`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor

from pwff_core.engine.models.cohort import Cohort

State = dict[str, Tensor]
_STEP = "step"  # of Adam: one number a tensor, the same for all clients


def prefixed(prefix: str, state: Mapping[str, Tensor]) -> State:
    """The same tensors, a level lower."""
    return {f"{prefix}/{name}": tensor for name, tensor in state.items()}


def under(prefix: str, state: Mapping[str, Tensor]) -> State:
    """The tensors of a level, by the rest of their names."""
    return {name.removeprefix(f"{prefix}/"): tensor for name, tensor in state.items() if name.startswith(f"{prefix}/")}


def stacked(parts: Sequence[Mapping[str, Tensor]]) -> State:
    """The tensors of several stacks of clients as one stack: copies, which no training changes."""
    return {name: torch.cat([part[name].detach() for part in parts]) for name in parts[0]}


@torch.no_grad()
def fill(parts: Sequence[Mapping[str, Tensor]], state: Mapping[str, Tensor]) -> None:
    """Puts back what `stacked` took. ValueError where names or shapes are others."""
    if parts and set(parts[0]) != set(state):
        raise ValueError(f"other tensors: {', '.join(sorted(set(parts[0]) ^ set(state))[:3])}")
    for name, whole in state.items():
        start = 0
        for part in parts:
            tensor = part[name]
            chosen = whole[start : start + len(tensor)]
            if chosen.shape != tensor.shape:
                raise ValueError(f"{name} has another shape")
            tensor.copy_(chosen)
            start += len(tensor)


def policies(cohorts: Sequence[Cohort]) -> list[State]:
    """The tensors of every cohort by flat name, "adapters.h.0.attn_out.down"."""
    return [
        {f"{group}.{name}": tensor for group, named in cohort.tensors.items() for name, tensor in named.items()}
        for cohort in cohorts
    ]


def optimiser_state(optimisers: Iterable[torch.optim.Optimizer]) -> State:
    """The moments and step counts of optimisers that have the same tensors for different clients, as copies.

    A tensor that has not been stepped yet has none.
    """
    moments = [optimiser.state_dict()["state"] for optimiser in optimisers]
    return {
        f"{index}/{key}": tensor.clone() if key == _STEP else torch.cat([mine[index][key] for mine in moments])
        for index, named in moments[0].items()
        for key, tensor in named.items()
    }


def load_optimisers(optimisers: Sequence[torch.optim.Optimizer], state: Mapping[str, Tensor]) -> None:
    """Puts back what `optimiser_state` took."""
    start = 0
    for optimiser in optimisers:
        clients = len(optimiser.param_groups[0]["params"][0])
        moments: dict[int, State] = {}
        for name, tensor in state.items():
            index, _, key = name.partition("/")
            mine = tensor if key == _STEP else tensor[start : start + clients]
            moments.setdefault(int(index), {})[key] = mine.clone()  # an optimiser goes on with the very tensor
        start += clients
        optimiser.load_state_dict({"state": moments, "param_groups": optimiser.state_dict()["param_groups"]})
