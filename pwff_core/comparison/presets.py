"""FIGURES: the paper's two comparisons as rows, and the runs of any comparison."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple, get_args

from pwff_core.config import RunConfig, stage_rounds
from pwff_core.errors import ConfigError
from pwff_core.knobs import with_changes
from pwff_core.methods import METHODS, MethodId

FigureId = Literal["fig4", "fig5"]
MOST_RUNS = 100  # of one comparison; more are most likely a typing error


class Figure(NamedTuple):
    """One figure of the paper: what it compares, and which settings its runs have of their own."""

    label: str
    methods: tuple[MethodId, ...]
    seeds: tuple[int, ...]
    changes: Mapping[str, Any]  # laid over the settings that a comparison starts from
    spread_preferences: bool  # the clients' λ spread evenly from 0 to 1, whatever the settings say
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
    """The base config with a figure's own settings. ConfigError if the stage that the figure shows has no rounds."""
    figure = FIGURES[figure_id]
    changes = dict(figure.changes)
    if figure.spread_preferences:
        weights = tuple(client / (base.clients - 1) for client in range(base.clients))
        changes |= {"preferences.helpfulness_weights": weights, "preferences.harmlessness_weights": None}
    config = with_changes(base, {"method": figure.methods[0]} | changes)
    stage = "alignment" if figure.spread_preferences else "instruction"
    if stage not in stage_rounds(config):
        raise ConfigError(f"{figure.label} shows {stage}, and {stage}.rounds is 0; set it to 1 or more.")
    return config


def plan(config: RunConfig, methods: Sequence[str], seeds: Sequence[str | int]) -> list[RunConfig]:
    """The checked config of every run, seed by seed, so that one seed of all methods is there first.

    ConfigError if a method or a seed is not allowed, and if there are no runs or more than MOST_RUNS.
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
    """An id for the runs of one comparison: 8 hexadecimal digits, safe in an address."""
    return secrets.token_hex(4)


def run_label(config: RunConfig) -> str:
    """A run's name among those of its comparison: 'PWFF, seed 1'."""
    return f"{METHODS[config.method].label}, seed {config.seed}"


def in_order(methods: Sequence[MethodId]) -> list[MethodId]:
    """Each of the methods once, in the order of METHODS."""
    return [method for method in get_args(MethodId) if method in methods]
