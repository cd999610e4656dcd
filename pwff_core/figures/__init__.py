"""Records to charts: tables in, plotly Figures out, with a template of our own. The room that knows plotly.

frames: records to tables, and where a run's stages lie on the axis of rounds · panels: what the charts show, as rows ·
drawing: a panel as a Figure, in words and as a table · theme: colours and templates.
"""

from __future__ import annotations

from pwff_core.figures.drawing import figure_json, panel_figure
from pwff_core.figures.frames import (
    MAX_CLIENT_LINES,
    STAGE_LABELS,
    STAGE_NAMES,
    ClientLines,
    Span,
    client_lines,
    planned_stages,
    round_frame,
    spans_of,
    value_text,
)
from pwff_core.figures.panels import PANELS, Line, Panel, PanelId, panel_table, panel_words, panels_of
from pwff_core.figures.theme import TEMPLATES, Theme, library_folder, template_tree

__all__ = [
    "MAX_CLIENT_LINES",
    "PANELS",
    "STAGE_LABELS",
    "STAGE_NAMES",
    "TEMPLATES",
    "ClientLines",
    "Line",
    "Panel",
    "PanelId",
    "Span",
    "Theme",
    "client_lines",
    "figure_json",
    "library_folder",
    "panel_figure",
    "panel_table",
    "panel_words",
    "panels_of",
    "planned_stages",
    "round_frame",
    "spans_of",
    "template_tree",
    "value_text",
]
