"""The tables of README.md that come from the code. `python tests/readme.py` writes them; a test checks them."""

from __future__ import annotations

from pathlib import Path

from pwff_core.config import allowed, knobs
from pwff_core.methods import METHODS

README = Path(__file__).resolve().parent.parent / "README.md"
NAMES = {"adapters": "adapters", "lora": "LoRA"}


def knob_table() -> str:
    lines = ["| flag | symbol | default | what it takes | what it is |", "|---|---|---|---|---|"]
    for path, knob in knobs().items():
        flag = "--" + path.replace("_", "-")
        shown = f"{knob.default:g}" if isinstance(knob.default, float) else str(knob.default).lower()
        takes = allowed(knob).removeprefix("give ")
        lines.append(f"| `{flag}` | {knob.symbol} | {shown} | {takes} | {knob.help} |")
    return "\n".join(lines)


def method_table() -> str:
    lines = ["| method | trains | uploads | what it is |", "|---|---|---|---|"]
    for row in METHODS.values():
        trains = ", ".join(NAMES[group] for group in row.trains)
        uploads = ", ".join(NAMES[group] for group in row.uploads) or "nothing"
        lines.append(f"| `{row.id}` {row.label} | {trains} | {uploads} | {row.summary} |")
    return "\n".join(lines)


TABLES = {"knobs": knob_table, "methods": method_table}


def with_tables(text: str) -> str:
    """The README with every table between its markers made anew."""
    for name, table in TABLES.items():
        before, rest = text.split(f"<!-- {name} -->\n")
        after = rest.split(f"<!-- /{name} -->")[1]
        text = f"{before}<!-- {name} -->\n{table()}\n<!-- /{name} -->{after}"
    return text


if __name__ == "__main__":
    README.write_text(with_tables(README.read_text(encoding="utf-8")), encoding="utf-8")
