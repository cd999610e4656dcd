"""A run as a parcel: its figures with captions, its tables, its settings."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import cast

import pandas as pd
import plotly.graph_objects as go

from pwff_core.config import RunConfig
from pwff_core.export.bundle import Parcel, write
from pwff_core.export.contents import clients_table, config_toml, rounds_table, run_words
from pwff_core.export.options import Order, checked_figures, ordered
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
    order = ordered("tables")
    return write(run_parcel(recording_of(store, run_id), order), order, folder).files


def run_parcel(recording: Recording, order: Order) -> Parcel:
    """What is taken home of a run, of figures only those that are ordered. ConfigError for one that is not there."""
    row = recording.row
    figures, captions = ({}, {}) if order.content == "tables" else _drawn(recording, order.figures)
    title = f"{row.name or METHODS[row.config.method].label} · run {row.id}"
    return Parcel(
        name=f"pwff-{row.id}",
        title=title,
        about=run_words(recording),
        figures=figures,
        captions=captions,
        tables={"rounds": rounds_table(recording.records), "clients": clients_table(recording.records)},
        texts={"run.json": to_json(recording), "config.toml": config_toml(row.config)},
        versions=recording.versions,
    )


def _drawn(recording: Recording, wanted: Collection[str] | None) -> tuple[dict[str, go.Figure], dict[str, str]]:
    """The figures that have numbers and are wanted, and a caption of each."""
    row, records, steerings = recording.row, recording.records, recording.steerings
    spans = spans_of(planned_stages(row.config, row.rounds_total, records), records)
    frame, plane = round_frame(records), plane_frame(records)
    panels = [one for one in panels_of(span.stage for span in spans) if PANELS[one].measured(frame)]
    drawable = [*panels, *([PLANE] if len(plane) else [])]
    expected = expected_pieces(row.config, steerings, spans)
    figures, captions = {}, {}
    for name in checked_figures(wanted, drawable, RUN_FIGURES):
        if name == PLANE:
            step = steps_of(plane)[-1]
            figures[name], captions[name] = plane_figure(plane, step), plane_words(plane, step)
            continue
        panel_id = cast(PanelId, name)
        figure = panel_figure(panel_id, frame, spans, expected=expected.get(panel_id, ()), steerings=steerings)
        figures[name] = _on_its_stages(figure, panel_id, frame, spans)
        captions[name] = _caption(panel_id, frame, spans)
    return figures, captions


def _on_its_stages(figure: go.Figure, panel_id: PanelId, frame: pd.DataFrame, spans: Sequence[Span]) -> go.Figure:
    """A panel of some stages only, without the empty rounds of the others."""
    columns = [line.column for line in PANELS[panel_id].lines]
    measured = frame.index[frame[columns].notna().any(axis=1)]
    own = [span for span in spans if span.stage in PANELS[panel_id].stages]
    first, last = min(measured[0], own[0].first), own[-1].last
    if (first, last) == (1, spans[-1].last):
        return figure
    return figure.update_xaxes(range=[first - 0.5, last + 0.5], dtick=max(1, round((last - first) / 8)))


def _caption(panel_id: PanelId, frame: pd.DataFrame, spans: Sequence[Span]) -> str:
    """What the figure says, what is measured, and what its band is."""
    panel = PANELS[panel_id]
    band = next((line for line in panel.measured(frame) if line.band), None)
    reach = f" Around {band.name!r}: from the lowest to the highest client." if band else ""
    return f"{panel_words(panel_id, frame, spans)} {METRICS[panel.metric].help}{reach}"


def comparison_parcel(
    title: str,
    about: str,
    figures: Mapping[str, Callable[[], go.Figure]],
    captions: Mapping[str, str],
    tables: Mapping[str, pd.DataFrame],
    config: RunConfig,
) -> Parcel:
    """What is taken home of a comparison.

    Args:
        title: its name for people.
        about: what all captions need: methods, seeds, settings.
        figures: file name without its ending → what draws the figure.
        captions: of these figures.
        tables: file name without its ending → table.
        config: the settings of its first run; the others differ in method and seed alone.
    """
    short = re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")[:40]
    return Parcel(
        name=f"pwff-{short or 'comparison'}",
        title=title,
        about=about,
        figures={name: drawn() for name, drawn in figures.items()},
        captions=captions,
        tables=tables,
        texts={"config.toml": config_toml(config)},
        versions=versions(),
    )
