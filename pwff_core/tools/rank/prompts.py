"""The prompts that candidates respond to: of the embedded corpus, of instructions, or of existing preference pairs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from pwff_core import seeds
from pwff_core.data.partition import everyday_items
from pwff_core.data.preference_files import NEEDED, read_pairs
from pwff_core.data.preferences import DELICATE_PAIRS, delicate_items
from pwff_core.data.tables import End, read_table, shortened
from pwff_core.errors import DataError

MOST_ROWS = 100_000  # of a source; prompts are drawn from these
_ASKING = ("instruction", "input")


def load_prompts(source: str, count: int, seed: int) -> list[str]:
    """`count` distinct prompts in an order that the seed decides, or all where there are fewer.

    demo: the training pool's ordinary prompts, and delicate ones in the share that the demo's own pairs have. Otherwise
    a file, a folder or a Hub id whose columns are TRL's (chosen, rejected) or Alpaca's (instruction, perhaps input).
    DataError if it cannot be read or has no prompt.
    """
    if source == "demo":
        delicate = round(count * DELICATE_PAIRS)
        parts = [
            _drawn((item.instruction for item in everyday_items("train")), count - delicate, seed, "ordinary"),
            _drawn((item.instruction for item in delicate_items("train")), delicate, seed, "delicate"),
        ]
        return _drawn((text for part in parts for text in part), count, seed, "order")
    found = _drawn(_prompts_of(source), count, seed, "prompts")
    if not found:
        raise DataError(f"{source} has no prompt: every instruction in it is empty.")
    return found


def _prompts_of(source: str) -> list[str]:
    def choose(columns: Sequence[str]) -> dict[str, End]:
        if set(NEEDED) <= set(columns):
            return {NEEDED[0]: "beginning"}  # pairs: they have a reader of their own
        if "instruction" not in columns:
            raise DataError(
                f"{source} has the columns {', '.join(columns)}; prompts come from instruction (and perhaps input), or "
                "from preference pairs: prompt, chosen and rejected."
            )
        return {name: "end" for name in _ASKING if name in columns}

    table = read_table(source, MOST_ROWS, choose)
    if "instruction" not in table.rows[0]:
        return [pair.instruction for pair in read_pairs(source, MOST_ROWS)[0]]
    prompts = []
    for number, row in zip(table.numbers, table.rows, strict=True):
        for name, value in row.items():
            if value is not None and not isinstance(value, str):
                raise DataError(f"{source}, row {number}: {name!r} is {shortened(value)}, but it must be a text.")
        prompts.append("\n".join((value or "").strip() for value in row.values()).strip())
    return prompts


def _drawn(texts: Iterable[str], count: int, seed: int, purpose: str) -> list[str]:
    """At most `count` of the distinct texts that are not empty, in a random order."""
    distinct = [text for text in dict.fromkeys(texts) if text]
    order = seeds.generator(seed, "ranking", purpose).permutation(len(distinct))
    return [distinct[index] for index in order[:count]]
