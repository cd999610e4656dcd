"""Colours and templates."""

from __future__ import annotations

import tomllib
from typing import get_args

from pwff_core.figures.panels import PANELS
from pwff_core.figures.theme import BLUE, GREY, METHOD_STYLES, TEMPLATES, VERMILLION, library_folder, mix, template_tree
from pwff_core.methods import MethodId
from pwff_core.paths import root_dir
from tests.support.contrast import contrast


def test_lines_contrast_with_both_backgrounds_at_three_to_one() -> None:
    for theme in TEMPLATES:
        background = template_tree(theme)["layout"]["paper_bgcolor"]
        lines = [line.colour for panel in PANELS.values() for line in panel.lines]
        clients = [mix(BLUE, VERMILLION, weight / 20) for weight in range(21)]
        for colour in (*lines, *clients, GREY):
            assert contrast(colour, background) >= 3, (theme, colour)


def test_charts_have_the_background_of_the_page() -> None:
    path = root_dir() / ".streamlit" / "config.toml"
    page = tomllib.loads(path.read_text(encoding="utf-8"))["theme"]
    for theme in TEMPLATES:
        assert template_tree(theme)["layout"]["paper_bgcolor"] == page[theme]["backgroundColor"]
        assert template_tree(theme)["layout"]["font"]["color"] == page[theme]["textColor"]


def test_plotly_js_lies_in_the_library_folder() -> None:
    assert (library_folder() / "plotly.min.js").stat().st_size > 1_000_000


def test_every_method_has_a_style_of_its_own() -> None:
    assert set(METHOD_STYLES) == set(get_args(MethodId))
    assert len({style.marker for style in METHOD_STYLES.values()}) == len(METHOD_STYLES)
    assert len({(style.colour, style.dash) for style in METHOD_STYLES.values()}) == len(METHOD_STYLES)
    assert len({(style.colour, style.pattern) for style in METHOD_STYLES.values()}) == len(METHOD_STYLES)
    for methods in (("pwff", "vanilla_fl", "fedada", "fedlora"), ("pwff", "sfl", "pfl", "shepherd")):
        for part in ("colour", "dash", "marker", "pattern"):
            assert len({getattr(METHOD_STYLES[method], part) for method in methods}) == 4
