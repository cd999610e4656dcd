"""METHODS: one row a method. A method is data: what it trains, what it uploads, where its data lies.

Delay, energy, stages and personalisation follow from the row alone. No code asks which method a run has.
Rows and claims: arXiv 2404.13238v2, section V-B; local only and centralised are controls of ours.
"""

from __future__ import annotations

from typing import Literal, NamedTuple, get_args

MethodId = Literal["pwff", "vanilla_fl", "fedada", "fedlora", "sfl", "pfl", "shepherd", "local", "centralised"]
Group = Literal["adapters", "lora"]
Axis = Literal["helpfulness", "harmlessness"]
GROUPS: tuple[Group, ...] = get_args(Group)
AXES: tuple[Axis, ...] = get_args(Axis)


class Method(NamedTuple):
    """One row of the table of methods."""

    id: MethodId
    label: str
    trains: tuple[Group, ...]
    uploads: tuple[Group, ...]
    rewards: tuple[Axis, ...]  # what alignment rewards; a method without any ends after instruction tuning
    learning_rate: float  # AdamW's; benchmarks/figure4.py searched all methods over one grid, on validation data
    summary: str
    alignment_rate: float = 1e-3  # the same for alignment, by benchmarks/figure5.py; the controls have PWFF's
    pooled: bool = False  # one model trained on everybody's data: what privacy forbids, as an upper control

    @property
    def personal(self) -> tuple[Group, ...]:
        """The groups that are trained and never leave the client."""
        return tuple(group for group in self.trains if group not in self.uploads)


METHODS: dict[MethodId, Method] = {
    row.id: row
    for row in (
        Method("pwff", "PWFF", ("adapters", "lora"), ("adapters",), AXES, 5e-3,
               "adapters are averaged, LoRA stays personal; both rewards, weighted by each owner"),
        Method("vanilla_fl", "Vanilla FL", ("adapters", "lora"), ("adapters", "lora"), (), 5e-3,
               "adapters and LoRA are both averaged; instruction tuning alone"),
        Method("fedada", "FedAda", ("adapters",), ("adapters",), (), 5e-3,
               "adapters alone, averaged; instruction tuning alone"),
        Method("fedlora", "FedLoRA", ("lora",), ("lora",), (), 5e-3,
               "LoRA alone, averaged; instruction tuning alone"),
        Method("sfl", "SFL", ("adapters", "lora"), ("adapters",), ("helpfulness",), 5e-3,
               "as PWFF, but rewarded for helpfulness alone", alignment_rate=5e-4),
        Method("pfl", "PFL", ("adapters", "lora"), ("adapters", "lora"), AXES, 5e-3,
               "both rewards as in PWFF, but LoRA is averaged too", alignment_rate=5e-4),
        Method("shepherd", "Shepherd", ("lora",), ("lora",), ("helpfulness",), 5e-3,
               "LoRA alone, averaged, rewarded for helpfulness alone"),
        Method("local", "Local only", ("adapters", "lora"), (), AXES, 5e-4,
               "control: every client alone, nothing is sent"),
        Method("centralised", "Centralised", ("adapters", "lora"), (), AXES, 2e-3,
               "control: one model on everybody's pooled data, no privacy", pooled=True),
    )
}  # fmt: skip
