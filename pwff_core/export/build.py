"""The bundles of a run and of a comparison: figures with captions, tables, settings."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import cast

import pandas as pd
import plotly.graph_objects as go

from pwff_core.config import RunConfig
from pwff_core.export.bundle import Bundle, write
from pwff_core.export.contents import clients_table, config_toml, rounds_table, run_words
from pwff_core.export.options import ExportOptions, choose_figures, parse_options
from pwff_core.figures.frames import Span, planned_stages, round_frame, spans_of
from pwff_core.figures.panel_figure import panel_figure
from pwff_core.figures.panels import PANELS, PanelId, panel_words, panels_of
from pwff_core.figures.plane import plane_figure, plane_frame, plane_words, steps_of
from pwff_core.figures.steering_marks import expected_pieces
from pwff_core.methods import METHODS
from pwff_core.records import METRICS
from pwff_core.runs.recording import Recording, recording_of, to_json, versions
from pwff_core.runs.store import Store

PLANE = "plane"
RUN_FIGURES: tuple[str, ...] = (*PANELS, PLANE)


def export_run(store: Store, run_id: str, folder: Path) -> list[Path]:
    """Writes rounds.csv, clients.csv and run.json of a run into `folder`, which is made; returns their paths.

    run.json holds the settings, the seed among them, the clients, remarks, changes, versions and every round.
    StoreError if there is no such run or the folder cannot be written.
    """
    options = parse_options("tables")
    return write(run_bundle(recording_of(store, run_id), options), options, folder).files


def run_bundle(recording: Recording, options: ExportOptions) -> Bundle:
    """All that a run can export, of its figures those that the options name. ConfigError for one that is not there."""
    row = recording.row
    figures, captions = ({}, {}) if options.content == "tables" else _figures(recording, options.figures)
    title = f"{row.name or METHODS[row.config.method].label} · run {row.id}"
    return Bundle(
        name=f"pwff-{row.id}",
        title=title,
        about=run_words(recording),
        figures=figures,
        captions=captions,
        tables={"rounds": rounds_table(recording.records), "clients": clients_table(recording.records)},
        texts={"run.json": to_json(recording), "config.toml": config_toml(row.config)},
        versions=recording.versions,
    )


def comparison_bundle(
    title: str,
    about: str,
    figures: Mapping[str, Callable[[], go.Figure]],
    captions: Mapping[str, str],
    tables: Mapping[str, pd.DataFrame],
    config: RunConfig,
) -> Bundle:
    """All that a comparison can export.

    Args:
        title: its name for people.
        about: what all captions need: methods, seeds, settings.
        figures: file name without its ending → what draws the figure.
        captions: of these figures.
        tables: file name without its ending → table.
        config: the settings of its first run; the others differ in method and seed alone.
    """
    short = re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")[:40]
    return Bundle(
        name=f"pwff-{short or 'comparison'}",
        title=title,
        about=about,
        figures={name: draw() for name, draw in figures.items()},
        captions=captions,
        tables=tables,
        texts={"config.toml": config_toml(config)},
        versions=versions(),
    )


def _figures(recording: Recording, names: Collection[str] | None) -> tuple[dict[str, go.Figure], dict[str, str]]:
    """The figures of these names (None: all that have numbers), and a caption of each."""
    row, records, steerings = recording.row, recording.records, recording.steerings
    spans = spans_of(planned_stages(row.config, row.rounds_total, records), records)
    frame, plane = round_frame(records), plane_frame(records)
    panels = [panel_id for panel_id in panels_of(span.stage for span in spans) if PANELS[panel_id].measured(frame)]
    drawable = [*panels, *([PLANE] if len(plane) else [])]
    expected = expected_pieces(row.config, steerings, spans)
    figures, captions = {}, {}
    for name in choose_figures(names, drawable, RUN_FIGURES):
        if name == PLANE:
            step = steps_of(plane)[-1]
            figures[name], captions[name] = plane_figure(plane, step), plane_words(plane, step)
            continue
        panel_id = cast(PanelId, name)
        figure = panel_figure(panel_id, frame, spans, expected=expected.get(panel_id, ()), steerings=steerings)
        figures[name] = _crop_to_stages(figure, panel_id, frame, spans)
        captions[name] = _caption(panel_id, frame, spans)
    return figures, captions


def _crop_to_stages(figure: go.Figure, panel_id: PanelId, frame: pd.DataFrame, spans: Sequence[Span]) -> go.Figure:
    """A panel of some stages only, without the empty rounds of the others."""
    columns = [line.column for line in PANELS[panel_id].lines]
    measured = frame.index[frame[columns].notna().any(axis=1)]
    panel_spans = [span for span in spans if span.stage in PANELS[panel_id].stages]
    first, last = min(measured[0], panel_spans[0].first), panel_spans[-1].last
    if (first, last) == (1, spans[-1].last):
        return figure
    return figure.update_xaxes(range=[first - 0.5, last + 0.5], dtick=max(1, round((last - first) / 8)))


def _caption(panel_id: PanelId, frame: pd.DataFrame, spans: Sequence[Span]) -> str:
    """What the figure says, what is measured, and what its band is."""
    panel = PANELS[panel_id]
    band = next((line for line in panel.measured(frame) if line.band), None)
    reach = f" Around {band.name!r}: from the lowest to the highest client." if band else ""
    return f"{panel_words(panel_id, frame, spans)} {METRICS[panel.metric].help}{reach}"
