"""FIGURES: the paper's two comparisons as rows, and the runs that any comparison consists of."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple, get_args

from pwff_core.config import RunConfig, stage_rounds
from pwff_core.errors import ConfigError
from pwff_core.knobs import with_changes
from pwff_core.methods import METHODS, MethodId

FigureId = Literal["fig4", "fig5"]
MOST_RUNS = 100  # of one comparison: more is a typing error rather than a wish


class Figure(NamedTuple):
    """One figure of the paper: what it compares, and how its runs differ from other settings."""

    label: str
    methods: tuple[MethodId, ...]
    seeds: tuple[int, ...]
    changes: Mapping[str, Any]  # laid over the settings that a comparison starts from
    wishes_spread: bool  # owners' weights λ evenly from 0 to 1, instead of those of the settings
    summary: str


FIGURES: dict[FigureId, Figure] = {
    "fig4": Figure(
        "Fig. 4",
        ("pwff", "vanilla_fl", "fedada", "fedlora"),
        (1, 2, 3),
        {"reward.rounds": 0, "alignment.rounds": 0},  # so that all four play the same steps
        False,
        "accuracy and delay of instruction tuning; every method plays that stage alone, so the same steps are compared",
    ),
    "fig5": Figure(
        "Fig. 5",
        ("pwff", "sfl", "pfl", "shepherd"),
        (1, 2, 3),
        {},
        True,
        "reward and energy of alignment; all three stages, with owners' wishes λ spread evenly from 0 to 1",
    ),
}


def figure_config(figure_id: FigureId, base: RunConfig) -> RunConfig:
    """Settings of a figure's runs: the base with the figure's changes. ConfigError if a stage that it shows is off."""
    figure = FIGURES[figure_id]
    changes = dict(figure.changes)
    if figure.wishes_spread:
        weights = tuple(client / (base.clients - 1) for client in range(base.clients))
        changes |= {"preferences.helpfulness_weights": weights, "preferences.harmlessness_weights": None}
    config = with_changes(base, {"method": figure.methods[0]} | changes)
    shown = "alignment" if figure.wishes_spread else "instruction"
    if shown not in stage_rounds(config):
        raise ConfigError(f"{figure.label} shows {shown}, and {shown}.rounds is 0; set it to 1 or more.")
    return config


def plan(config: RunConfig, methods: Sequence[str], seeds: Sequence[str | int]) -> list[RunConfig]:
    """A config a run, seed by seed, so that the first seed of all methods is there first; all of them checked.

    ConfigError if one cannot be, or if there are none or more than MOST_RUNS.
    """
    count = len(methods) * len(seeds)
    if not count:
        raise ConfigError("A comparison needs at least one method and one seed.")
    if count > MOST_RUNS:
        raise ConfigError(
            f"{len(methods)} methods with {len(seeds)} seeds are {count} runs; at most {MOST_RUNS} are allowed."
        )
    return [with_changes(config, {"seed": seed, "method": method}) for seed in seeds for method in methods]


def new_comparison_id() -> str:
    """An id that the runs of one comparison share: 8 hexadecimal digits, safe in an address."""
    return secrets.token_hex(4)


def run_label(config: RunConfig) -> str:
    """What a run is called among the others: 'PWFF, seed 1'."""
    return f"{METHODS[config.method].label}, seed {config.seed}"


def in_order(methods: Sequence[MethodId]) -> list[MethodId]:
    """Methods, each once, in the order of METHODS, so that a comparison looks the same however it was asked for."""
    return [method for method in get_args(MethodId) if method in methods]
