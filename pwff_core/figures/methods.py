"""How each method looks in every chart that shows several: colour, dash, marker and, as a bar, pattern.

Colours are the four of the theme, so some methods share one; those of one figure of the paper never do, and no two
methods share a marker, or a colour together with a dash or a pattern.
"""

from __future__ import annotations

from typing import NamedTuple

from pwff_core.figures.theme import BLUE, GREEN, GREY, PURPLE, VERMILLION
from pwff_core.methods import MethodId


class Look(NamedTuple):
    """One method's look; dash, marker and pattern in plotly's words."""

    colour: str
    dash: str
    marker: str
    pattern: str  # "" is a full bar


LOOKS: dict[MethodId, Look] = {
    "pwff": Look(BLUE, "solid", "circle", ""),
    "vanilla_fl": Look(VERMILLION, "dash", "square", "/"),
    "fedada": Look(GREEN, "dot", "diamond", "x"),
    "fedlora": Look(PURPLE, "dashdot", "triangle-up", "."),
    "sfl": Look(VERMILLION, "longdash", "triangle-down", "\\"),
    "pfl": Look(GREEN, "longdashdot", "cross", "+"),
    "shepherd": Look(PURPLE, "8px 3px 2px 3px 2px 3px", "star", "|"),
    "local": Look(GREY, "solid", "hexagon", "-"),
    "centralised": Look(GREY, "dash", "x", "/"),
}
