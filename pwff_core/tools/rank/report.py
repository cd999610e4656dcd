"""What is left of a ranking: two files of preference pairs, a summary of how they came about, a table."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from pwff_core.methods import Axis
from pwff_core.runs.files import deliver
from pwff_core.tools.rank.estimate import cost
from pwff_core.tools.rank.pairs import REASONS, Ranked
from pwff_core.tools.rank.prompt import instruction
from pwff_core.tools.rank.requests import Asked
from pwff_core.tools.rank.settings import RankingConfig
from pwff_core.tools.text_table import table

_PACKAGES = ("pwff", "openai", "torch", "transformers")


def write(folder: Path, results: Mapping[Axis, Ranked], summary: Mapping[str, Any]) -> list[Path]:
    """helpfulness.jsonl and harmlessness.jsonl in TRL's preference format, and summary.json: all of them or none.

    StoreError if the folder cannot be written.
    """

    def fill(aside: Path) -> list[Path]:
        files = []
        for axis, result in results.items():
            lines = [json.dumps(pair._asdict(), ensure_ascii=False) + "\n" for pair in result.pairs]
            files.append(aside / f"{axis}.jsonl")
            files[-1].write_text("".join(lines), encoding="utf-8", newline="\n")
        files.append(aside / "summary.json")
        files[-1].write_text(json.dumps(summary, indent=1, ensure_ascii=False) + "\n", encoding="utf-8", newline="\n")
        return files

    return deliver(folder, fill)


def summarised(
    config: RankingConfig, origin: str, prompts: int, asked: Asked, results: Mapping[Axis, Ranked]
) -> dict[str, Any]:
    """What a reader needs to judge the pairs, and to make them again. No key, and of the address its origin alone."""
    verdicts = list(asked.verdicts.values())
    tokens_in = sum(verdict.tokens_in or 0 for verdict in verdicts)
    tokens_out = sum(verdict.tokens_out or 0 for verdict in verdicts)
    return {
        "model": config.model,
        "server": origin,
        "settings": config.model_dump(exclude={"model", "server"}),
        "prompts": prompts,
        "axes": {
            axis: {
                "compared": result.compared,
                "agreed": len(result.pairs),
                "dropped": result.dropped,
                "first_share": result.first_share,
            }
            for axis, result in results.items()
        },
        "requests": {"this call": asked.requests, "verdicts in all": len(verdicts)},
        "tokens": {
            "in": tokens_in,
            "out": tokens_out,
            "verdicts without a count": sum(None in (one.tokens_in, one.tokens_out) for one in verdicts),
        },
        "cost": cost(config, tokens_in, tokens_out),
        "stopped": asked.stopped or None,
        "instructions": {axis: instruction(axis) for axis in results},
        "versions": {"python": platform.python_version(), **{name: _version(name) for name in _PACKAGES}},
    }


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def in_a_table(results: Mapping[Axis, Ranked]) -> str:
    """A row an axis: pairs compared, agreed on and dropped by reason."""
    header = ("", "compared", "agreed", *REASONS, "first named")
    rows = [
        (
            axis,
            *(f"{count}" for count in (result.compared, len(result.pairs), *result.dropped.values())),
            "–" if result.first_share is None else f"{100 * result.first_share:.0f} %",
        )
        for axis, result in results.items()
    ]
    return table(header, rows)
