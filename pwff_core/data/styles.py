"""House styles: personal conventions under which the same instruction has a different right answer.

Text of the corpus marks its variants as `[dimension:first|second]`; openers and closings frame every answer, and
`layout` decides how steps are written.
"""

from __future__ import annotations

import re
from typing import NamedTuple

import numpy as np

OPTIONS: dict[str, tuple[str, ...]] = {
    "opener": ("Here is my answer:", "Sure!", "Good question.", "Of course.", "Right then:"),
    "closing": ("That is all.", "Hope that helps!", "Good luck!", "Ask me again any time.", "Best wishes."),
    "layout": ("prose", "list"),
    "tone": ("formal", "casual"),
    "units": ("metric", "imperial"),
    "clock": ("24-hour", "12-hour"),
    "spelling": ("British", "American"),
}
DIMENSIONS = tuple(OPTIONS)
MARKUP = re.compile(r"\[(tone|units|clock|spelling):([^|\]]*)\|([^|\]]*)\]")


class Style(NamedTuple):
    """A house style: for each dimension, an index into its OPTIONS."""

    opener: int = 0
    closing: int = 0
    layout: int = 0
    tone: int = 0
    units: int = 0
    clock: int = 0
    spelling: int = 0

    def options(self) -> dict[str, str]:
        """Dimension → the option in words."""
        return {name: OPTIONS[name][index] for name, index in zip(DIMENSIONS, self, strict=True)}


COMMON = Style()


def random_style(generator: np.random.Generator) -> Style:
    """Each dimension uniform and independent of the others."""
    return Style(*(int(generator.integers(len(options))) for options in OPTIONS.values()))


def personal_style(generator: np.random.Generator, share: float) -> Style:
    """A client's style: each dimension is personal with probability `share` and common with 1 − `share`.

    The draws do not depend on `share`, so a higher one only adds personal conventions.
    """
    personal = random_style(generator)
    draws = generator.random(len(DIMENSIONS))
    return Style(*(p if draw < share else c for p, c, draw in zip(personal, COMMON, draws, strict=True)))


def style_tags(style: Style, visible: np.ndarray) -> str:
    """The optional style line of pre-training prompts, with the dimensions where `visible` (7,) is true.

    Tags teach the backbone that a style is a switch, which a personal LoRA can then set; federation never uses them.
    """
    names = [OPTIONS[name][index] for name, index, show in zip(DIMENSIONS, style, visible, strict=True) if show]
    return f"Style: {'; '.join(names)}\n" if names else ""
