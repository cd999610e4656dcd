"""The tables of the documents that come from the code, each between two markers.

`python -m tests.support.doc_tables` writes them; tests/test_docs.py checks them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pwff_core.knobs import allowed_values, knobs
from pwff_core.methods import METHODS

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = (
    *(ROOT / name for name in ("README.md", "CHANGELOG.md", "SECURITY.md")),
    *sorted((ROOT / "docs").glob("*.md")),
)
RESULTS = ROOT / "benchmarks" / "results.json"
GROUP_LABELS = {"adapters": "adapters", "lora": "LoRA"}
SIDE_BY_SIDE = {  # a row of RESULTS and what ours is compared with; a suffix says the number format of both
    "instruction/peft": "a loop over clients with `peft` models",
    "instruction/sfttrainer": "TRL's `SFTTrainer`, a new one a client, as OpenFedLLM does",
    "instruction/flower": "a Flower simulation of such clients, as FlowerTune does",
    "alignment/sequential": "the same PPO client by client, with `generate`",
    "instruction/matmul-limit": "the round's matrix products alone",
}


def knob_table() -> str:
    lines = ["| flag | symbol | default | what it takes | what it is |", "|---|---|---|---|---|"]
    for path, knob in knobs().items():
        flag = "--" + path.replace("_", "-")
        default = f"{knob.value:g}" if isinstance(knob.value, float) else str(knob.value).lower()
        takes = allowed_values(knob).removeprefix("give ")
        lines.append(f"| `{flag}` | {knob.symbol} | {default} | {takes} | {knob.help} |")
    return "\n".join(lines)


def method_table() -> str:
    lines = ["| method | trains | uploads | what it is |", "|---|---|---|---|"]
    for row in METHODS.values():
        trains = ", ".join(GROUP_LABELS[group] for group in row.trains)
        uploads = ", ".join(GROUP_LABELS[group] for group in row.uploads) or "nothing"
        lines.append(f"| `{row.id}` {row.label} | {trains} | {uploads} | {row.summary} |")
    return "\n".join(lines)


def bench_tables() -> str:
    """What `make bench` measured last. What it did not measure has no row."""
    rows: dict[str, dict[str, Any]] = {row["name"]: row for row in json.loads(RESULTS.read_text(encoding="utf-8"))}
    tables = (_side_by_side(rows), _clients(rows), _backbones(rows), _operations(rows))
    return "\n\n".join("\n".join(table) for table in tables if len(table) > 2)


def _side_by_side(rows: dict[str, dict[str, Any]]) -> list[str]:
    lines = ["| stage | beside | both in | ours [s] | other [s] | other / ours |", "|---|---|---|---|---|---|"]
    for name, words in SIDE_BY_SIDE.items():
        for suffix, precision in (("", "float32"), ("-bfloat16", "bfloat16")):
            if row := rows.get(name + suffix):
                ratio = _spread(row, 100.0, "{:.0f}") + " %" if "limit" in name else _spread(row, 1.0, "{:.2f}")
                times = f"{row['ours_s']:.2f} | {row['other_s']:.2f}"
                lines.append(f"| {name.split('/')[0]} | {words} | {precision} | {times} | {ratio} |")
    if row := rows.get("precision/bfloat16"):
        times = f"{row['ours_s']:.2f} | {row['other_s']:.2f} | {_spread(row, 1.0, '{:.2f}')}"
        lines.append(f"| instruction | ours in float32 | bfloat16, float32 | {times} |")
    return lines


def _spread(row: dict[str, Any], unit: float, form: str) -> str:
    low, middle, high = (form.format(unit * row[name]) for name in ("ratio_min", "ratio", "ratio_max"))
    return f"**{middle}** ({low}–{high})"


def _clients(rows: dict[str, dict[str, Any]]) -> list[str]:
    lines = ["| clients | instruction round [s] | of that with the fewest | peak memory [MB] |", "|---|---|---|---|"]
    scaling = list(_starting(rows, "scaling/clients-"))
    memory = rows.get("memory/per-client", {"peak_mb": {}})
    for clients, peak in memory["peak_mb"].items():
        row = next((row for row in scaling if row["name"].endswith(f"-{clients}")), None)
        round_s, ratio = (row["other_s"], _spread(row, 1.0, "{:.2f}")) if row else (scaling[0]["ours_s"], "1")
        lines.append(f"| {clients} | {round_s:.2f} | {ratio} | {peak} |")
    return lines


def _backbones(rows: dict[str, dict[str, Any]]) -> list[str]:
    lines = [
        "| backbone | blocks × width | a trained token [µs] | peak memory, ten clients [MB] |",
        "|---|---|---|---|",
    ]
    for row in _starting(rows, "backbone/"):
        size = f"{row['parameters'] / 1e6:.1f} M"
        lines.append(f"| {size} | {row['shape']} | {row['us_per_token']:.0f} | {row['peak_mb']} |")
    return lines


def _operations(rows: dict[str, dict[str, Any]]) -> list[str]:
    lines = ["| matrix products of a round | GFLOP | share |", "|---|---|---|"]
    if row := rows.get("instruction/matmul-limit"):
        whole = sum(row["gflop"].values())
        shares = {part: flop / whole for part, flop in row["gflop"].items()} | {"of all, padding": row["padding"]}
        lines += [f"| {part} | {share * whole:.0f} | {100 * share:.0f} % |" for part, share in shares.items()]
    return lines


def _starting(rows: dict[str, dict[str, Any]], prefix: str) -> Iterable[dict[str, Any]]:
    return (row for name, row in rows.items() if name.startswith(prefix))


TABLES = {"knobs": knob_table, "methods": method_table, "bench": bench_tables}


def with_tables(text: str) -> str:
    """A document with every table between its markers made anew."""
    for name, table in TABLES.items():
        between = re.compile(rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)", re.DOTALL)
        text = between.sub(lambda marker, table=table: f"{marker[1]}{table()}\n{marker[2]}", text)
    return text


if __name__ == "__main__":
    for document in DOCUMENTS:
        document.write_text(with_tables(document.read_text(encoding="utf-8")), encoding="utf-8")
