"""`pwff compare`: plays several methods over several seeds, compares them with each other and with the paper."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from pwff_core.cli.arguments import Compare, split_list
from pwff_core.cli.config_flags import config_of
from pwff_core.cli.run import play
from pwff_core.cli.runs import open_store
from pwff_core.comparison.presets import FIGURES, FigureId, figure_config, in_order, new_comparison_id, plan, run_label
from pwff_core.config import RunConfig
from pwff_core.errors import ConfigError, TrainingError
from pwff_core.methods import MethodId
from pwff_core.runs.store import RunStatus, Store
from pwff_core.tools.text_table import table

if TYPE_CHECKING:  # pandas, which it needs, takes most of a second to load
    from pwff_core.comparison.outcomes import Outcome

_WIDTH = 100  # characters of a line of prose


def compare(command: Compare, path: Path) -> int:
    """Plays the runs that the flags ask for as one comparison; returns the exit code.

    Afterwards it shows a row a method, and what the paper claims. A run that is stopped from a page or whose training
    fails is reported on stderr and left out (exit code 2). Other PwffErrors and KeyboardInterrupt end the comparison
    and are raised, after the finished runs are shown.
    """
    configs = _configs(command)
    store = open_store(path)
    outcomes: list[Outcome] = []
    comparison, methods = new_comparison_id(), in_order([config.method for config in configs])
    _write_csv(command.csv, outcomes, methods)  # a file that cannot be written shows now, not after an hour
    try:
        for config in configs:
            outcomes += _play_one(store, config, comparison, command.json)
            _write_csv(command.csv, outcomes, methods)
    finally:
        if outcomes and not command.json:
            print(_comparison_text(outcomes, methods))
    return 0 if len(outcomes) == len(configs) else 2


def _configs(command: Compare) -> list[RunConfig]:
    config = config_of(command.preset, command.config, command.settings)
    figure = next((figure_id for figure_id in get_args(FigureId) if figure_id == command.figure), None)
    if command.figure is not None and figure is None:
        raise ConfigError(f"--figure: {command.figure!r} is not one of {', '.join(get_args(FigureId))}.")
    defaults = FIGURES[figure or "fig4"]
    methods = defaults.methods if command.methods is None else split_list("methods", command.methods)
    seeds = (defaults.seeds if figure else (0,)) if command.seeds is None else split_list("seeds", command.seeds)
    return plan(figure_config(figure, config) if figure else config, methods, seeds)


def _play_one(store: Store, config: RunConfig, comparison: str, as_json: bool) -> list[Outcome]:
    """The outcome of one more run of a comparison; none if it did not finish."""
    from pwff_core.comparison.outcomes import outcome_of

    label = run_label(config)
    run_id = store.create_run(config, f"Compare: {label}", comparison=comparison)
    try:
        records = play(store, run_id, label, as_json=as_json)
    except TrainingError as error:
        print(f"pwff: {label} is left out: {error}", file=sys.stderr)
        return []
    except KeyboardInterrupt:
        print(f"pwff: {label} is stopped; `pwff resume {run_id}` goes on with this run alone.", file=sys.stderr)
        raise
    row = store.run(run_id)
    if row.status is not RunStatus.FINISHED:
        print(f"pwff: {label} is left out: {row.message}", file=sys.stderr)
        return []
    return [outcome_of(run_id, config, records)]


def _comparison_text(outcomes: Sequence[Outcome], methods: Sequence[MethodId]) -> str:
    """A row a method, mean ± standard deviation over seeds; then each claim of the paper about them, with a verdict."""
    from pwff_core.comparison.outcomes import method_table
    from pwff_core.comparison.verdicts import verdicts

    rows = method_table(outcomes)
    parts = [table(list(rows.columns), rows.to_numpy().tolist())]
    for verdict in verdicts(outcomes, methods):
        reason = textwrap.fill(verdict.reason, _WIDTH, initial_indent="  ", subsequent_indent="  ")
        parts.append(f"The paper: {verdict.claim.sentence} Here: {verdict.ruling}.\n{reason}")
    return "\n\n".join(parts)


def _write_csv(path: Path | None, outcomes: Sequence[Outcome], methods: Sequence[MethodId]) -> None:
    """A row a run, in SI units and shares of 1; in a file beside it, a row a claim. ConfigError if that fails."""
    from pwff_core.comparison.outcomes import run_table
    from pwff_core.comparison.verdicts import verdict_table, verdicts

    if path is None:
        return
    tables = {path: run_table(outcomes)}
    if claims := verdicts(outcomes, methods):
        tables[path.with_stem(f"{path.stem}-claims")] = verdict_table(claims)
    try:
        for target, rows in tables.items():
            with target.open("w", encoding="utf-8", newline="") as file:
                rows.to_csv(file, index=False, lineterminator="\n")
    except OSError as error:
        raise ConfigError(f"Cannot write {path} ({error.strerror}); choose another file with --csv.") from None
