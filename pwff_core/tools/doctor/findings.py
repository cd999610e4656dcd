"""The lines of the checklist, and how a terminal shows them."""

from __future__ import annotations

import json
import shutil
import textwrap
from collections.abc import Sequence
from enum import StrEnum
from typing import NamedTuple

_LEAST_WIDTH, _MOST_WIDTH = 60, 120  # characters of a line


class Level(StrEnum):
    """How much a finding matters."""

    OK = "ok"
    NOTE = "note"  # worth knowing; nothing is wrong
    PROBLEM = "problem"


class Finding(NamedTuple):
    """One line of the checklist."""

    about: str  # "Store", "Runs", …
    level: Level
    text: str  # what was found, and what it means
    advice: str = ""  # what mends it


def counted(count: int, noun: str) -> str:
    """1, "run" → '1 run'; 2 → '2 runs'."""
    return f"{count} {noun}{'' if count == 1 else 's'}"


def healthy(findings: Sequence[Finding]) -> bool:
    """Whether none of them is a problem."""
    return all(finding.level is not Level.PROBLEM for finding in findings)


def as_json(finding: Finding) -> str:
    """A finding as one line of JSON."""
    return json.dumps(finding._asdict(), ensure_ascii=False)


def as_text(findings: Sequence[Finding]) -> str:
    """The checklist in three columns: level, subject, text; advice below, behind an arrow."""
    width = max(_LEAST_WIDTH, min(_MOST_WIDTH, shutil.get_terminal_size().columns))
    first = max(len(level) for level in Level)
    second = max(len(finding.about) for finding in findings)
    indent = " " * (first + second + 4)
    lines = []
    for finding in findings:
        start = f"{finding.level:<{first}}  {finding.about:<{second}}  "
        lines.append(textwrap.fill(finding.text, width, initial_indent=start, subsequent_indent=indent))
        if finding.advice:
            arrow = f"{indent}→ "
            lines.append(textwrap.fill(finding.advice, width, initial_indent=arrow, subsequent_indent=f"{indent}  "))
    return "\n".join(lines)
