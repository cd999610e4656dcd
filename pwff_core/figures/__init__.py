"""Records to charts: tables in, plotly Figures out, with a template of our own. The room that knows plotly.

frames: records to tables, and where a run's stages lie on the axis of rounds · panels: what the charts show, as rows ·
changes: what a steered run's settings were when · steered: its changes as lines, and what was expected of the link ·
drawing: a panel as a Figure, in words and as a table · theme: colours and templates · printing: a figure for paper ·
methods: how each method looks · comparison, comparison_drawing: several methods side by side.
"""

from __future__ import annotations

from pwff_core.figures.changes import WEIGHTS, changes_text, config_at, steering_words, value_words
from pwff_core.figures.frames import (
    MAX_CLIENT_LINES,
    STAGE_LABELS,
    STAGE_NAMES,
    ClientLines,
    Span,
    client_lines,
    planned_stages,
    round_frame,
    setting_text,
    spans_of,
    value_text,
)
from pwff_core.figures.panel_figure import cell, figure_json, panel_figure
from pwff_core.figures.panels import PANELS, Line, Panel, PanelId, Parent, WhatIf, panel_table, panel_words, panels_of
from pwff_core.figures.printing import PRESETS, Preset, SizeId, for_print
from pwff_core.figures.steering_marks import Piece, expected_pieces
from pwff_core.figures.theme import TEMPLATES, Theme, library_folder, template_tree

__all__ = [
    "MAX_CLIENT_LINES",
    "PANELS",
    "PRESETS",
    "STAGE_LABELS",
    "STAGE_NAMES",
    "TEMPLATES",
    "WEIGHTS",
    "ClientLines",
    "Line",
    "Panel",
    "PanelId",
    "Parent",
    "Piece",
    "Preset",
    "SizeId",
    "Span",
    "Theme",
    "WhatIf",
    "changes_text",
    "cell",
    "client_lines",
    "config_at",
    "expected_pieces",
    "figure_json",
    "for_print",
    "library_folder",
    "panel_figure",
    "panel_table",
    "panel_words",
    "panels_of",
    "planned_stages",
    "round_frame",
    "setting_text",
    "spans_of",
    "steering_words",
    "template_tree",
    "value_text",
    "value_words",
]
