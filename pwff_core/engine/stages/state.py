"""The state of a stage between two rounds as named tensors, to be saved and restored.

Names are paths, "optimiser/3/exp_avg". Clients' tensors are stacked over all clients (K, …), however many train in one
stack. No random state is needed: every draw is a function of the seed, a name and the round (`seeds`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor

from pwff_core.engine.models.cohort import Cohort

State = dict[str, Tensor]
_STEP = "step"  # Adam's count of steps: one number for a tensor, the same for all clients


def prefixed(prefix: str, state: Mapping[str, Tensor]) -> State:
    """The same tensors, a level deeper."""
    return {f"{prefix}/{name}": tensor for name, tensor in state.items()}


def under(prefix: str, state: Mapping[str, Tensor]) -> State:
    """The tensors of a level, by their names below it."""
    return {name.removeprefix(f"{prefix}/"): tensor for name, tensor in state.items() if name.startswith(f"{prefix}/")}


def stacked(parts: Sequence[Mapping[str, Tensor]]) -> State:
    """The tensors of several stacks of clients as one stack: copies, which no training changes."""
    return {name: torch.cat([part[name].detach() for part in parts]) for name in parts[0]}


@torch.no_grad()
def fill(parts: Sequence[Mapping[str, Tensor]], state: Mapping[str, Tensor]) -> None:
    """Copies `state` into several stacks: the inverse of `stacked`. ValueError if names or shapes differ."""
    if parts and set(parts[0]) != set(state):
        raise ValueError(f"other tensors: {', '.join(sorted(set(parts[0]) ^ set(state))[:3])}")
    for name, stack in state.items():
        start = 0
        for part in parts:
            tensor = part[name]
            values = stack[start : start + len(tensor)]
            if values.shape != tensor.shape:
                raise ValueError(f"{name} has another shape")
            tensor.copy_(values)
            start += len(tensor)


def policies(cohorts: Sequence[Cohort]) -> list[State]:
    """The tensors of every cohort by flat name, "adapters.h.0.attn_out.down"."""
    return [
        {f"{group}.{name}": tensor for group, named in cohort.tensors.items() for name, tensor in named.items()}
        for cohort in cohorts
    ]


def optimiser_state(optimisers: Iterable[torch.optim.Optimizer]) -> State:
    """The moments and step counts of optimisers over the same tensors of different clients, as copies.

    A tensor that has had no step yet has none.
    """
    moments = [optimiser.state_dict()["state"] for optimiser in optimisers]
    return {
        f"{index}/{key}": tensor.clone() if key == _STEP else torch.cat([other[index][key] for other in moments])
        for index, named in moments[0].items()
        for key, tensor in named.items()
    }


def load_optimisers(optimisers: Sequence[torch.optim.Optimizer], state: Mapping[str, Tensor]) -> None:
    """Restores what `optimiser_state` returned."""
    start = 0
    for optimiser in optimisers:
        clients = len(optimiser.param_groups[0]["params"][0])
        moments: dict[int, State] = {}
        for name, tensor in state.items():
            index, _, key = name.partition("/")
            part = tensor if key == _STEP else tensor[start : start + clients]
            moments.setdefault(int(index), {})[key] = part.clone()  # the optimiser keeps and changes this very tensor
        start += clients
        optimiser.load_state_dict({"state": moments, "param_groups": optimiser.state_dict()["param_groups"]})
