"""Rows of benchmarks/results.json: medians of things that took turns, and their ratio with its spread."""

from __future__ import annotations

import json
import os
import platform
import statistics
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).with_name("results.json")
LIBRARIES = ("torch", "transformers", "peft", "trl")

Row = dict[str, Any]  # name, ours_s, other_s, ratio, and whatever helps to read them


def take_turns(players: Sequence[Callable[[], float]], rounds: int, warm_up: int = 1) -> list[list[float]]:
    """Each player's seconds in each of its rounds, in the order A, B, A, B …; the first rounds are left out.

    A noisy machine disturbs neighbours in time alike, so their ratio is steadier than their times.
    """
    times: list[list[float]] = [[] for _ in players]
    for _ in range(warm_up + rounds):
        for player, seconds in zip(players, times, strict=True):
            seconds.append(player())
    return [seconds[warm_up:] for seconds in times]


def comparison_row(name: str, what: str, ours_s: Sequence[float], other_s: Sequence[float], **more: object) -> Row:
    """A row of seconds: medians, ratio = other / ours of the medians, and the extremes of the ratios turn by turn."""
    ratios = [other / cohort for cohort, other in zip(ours_s, other_s, strict=True)]
    cohort, other = statistics.median(ours_s), statistics.median(other_s)
    return {
        "name": name, "ours_s": round(cohort, 4), "other_s": round(other, 4), "ratio": round(other / cohort, 3),
        "ratio_min": round(min(ratios), 3), "ratio_max": round(max(ratios), 3), "turns": len(ratios), "what": what,
        **more,
    }  # fmt: skip


def value_row(name: str, what: str, value: float, unit: str, **more: object) -> Row:
    """A row of one number, which nothing is compared with; its value stands as the ratio, with its unit."""
    return {"name": name, "ours_s": None, "other_s": None, "ratio": round(value, 3), "unit": unit, "what": what, **more}


def machine() -> str:
    """The processor and the libraries that a row was measured with."""
    import torch

    versions = ", ".join(f"{name} {version(name)}" for name in LIBRARIES)
    return f"{_processor()}, {os.cpu_count()} cores, {torch.get_num_threads()} threads; {versions}"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def save_rows(rows: Sequence[Row], path: Path, describe_machine: Callable[[], str] = machine) -> None:
    """Writes rows into a results file, each in the place of the one with its name; other rows stay as they are."""
    by_name: dict[str, Mapping[str, Any]] = {}
    if path.exists():
        by_name = {row["name"]: row for row in json.loads(path.read_text(encoding="utf-8"))}
    by_name |= {row["name"]: row | {"machine": describe_machine()} for row in rows}
    aside = path.with_suffix(".part")
    aside.write_text(json.dumps(list(by_name.values()), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    aside.replace(path)  # so that an aborted measurement leaves whole rows


def row_text(row: Row) -> str:
    """A row as a line of text."""
    if row["ours_s"] is None:
        return f"{row['name']:36} {row['ratio']:g} {row['unit']}"
    spread = f" ({row['ratio_min']:g} to {row['ratio_max']:g})"
    return f"{row['name']:36} {row['ours_s']:9.3f} s {row['other_s']:9.3f} s   ratio {row['ratio']:g}{spread}"
