"""A comparison of several runs as a parcel."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

import pandas as pd
import plotly.graph_objects as go

from pwff_core.config import RunConfig
from pwff_core.export.bundle import Parcel
from pwff_core.export.contents import config_toml
from pwff_core.runs.recording import versions


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
