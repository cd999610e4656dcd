"""The picture of benchmarks/results.json in docs/: `python benchmarks/picture.py` draws it for both themes.

Needs a Chrome or Chromium, as pwff's export does.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # benchmarks/ is not installed

import plotly.graph_objects as go  # noqa: E402
from plotly.io.json import to_json_plotly  # noqa: E402
from plotly.subplots import make_subplots  # noqa: E402

from benchmarks.rows import RESULTS, Row  # noqa: E402
from pwff_core.export.chrome import Picture, draw, find_chrome  # noqa: E402
from pwff_core.figures.printing import Preset  # noqa: E402
from pwff_core.figures.theme import BLUE, GREY, TEMPLATES, VERMILLION, Theme  # noqa: E402

ASSETS = Path(__file__).resolve().parent.parent / "assets"
WIDTH, HEIGHT = 980, 330  # [px]
SIZE = Preset("README", WIDTH / 96, HEIGHT / 96, 9, 1.0, True, 192, 50)
ALTERNATIVES = {  # from the bottom up
    "alignment/sequential": "PPO client by client<br>with generate",
    "instruction/flower": "Flower simulation<br>of SFTTrainers",
    "instruction/sfttrainer": "SFTTrainer<br>a client",
    "instruction/peft": "loop of<br>peft models",
}


def figure(rows: Mapping[str, Row], theme: Theme) -> go.Figure:
    """Times as fast as what others use, seconds against clients, microseconds a token against the backbone's size."""
    fig = make_subplots(
        cols=3, horizontal_spacing=0.09, column_widths=[0.36, 0.32, 0.32],
        subplot_titles=("times as fast as …", "time against clients", "time against the backbone"),
    )  # fmt: skip
    _speed(fig, rows, TEMPLATES[theme].layout.font.color)
    _clients(fig, rows)
    _backbones(fig, rows)
    fig.update_layout(
        template=TEMPLATES[theme], width=WIDTH, height=HEIGHT, showlegend=False,
        margin={"l": 8, "r": 14, "t": 40, "b": 8},
    )  # fmt: skip
    fig.update_annotations(font_size=14)
    fig.update_xaxes(title_font_size=13)
    fig.update_yaxes(title_font_size=13)
    return fig


def _speed(fig: go.Figure, rows: Mapping[str, Row], ink: str) -> None:
    for suffix, words, colour in (("-bfloat16", "bfloat16", VERMILLION), ("", "float32", BLUE)):  # from the bottom up
        names = [name for name in ALTERNATIVES if name + suffix in rows]
        measured = [rows[name + suffix] for name in names]
        spread = {
            "array": [row["ratio_max"] - row["ratio"] for row in measured],
            "arrayminus": [row["ratio"] - row["ratio_min"] for row in measured],
        }
        bars = go.Bar(
            x=[row["ratio"] for row in measured], y=[ALTERNATIVES[name] for name in names], orientation="h",
            marker_color=colour, width=0.38, name=words,
            error_x={"type": "data", "color": ink, "thickness": 1.5, "width": 4, **spread},
            text=[f"<b>{row['ratio']:.1f} ×</b>" for row in measured], textposition="inside",
            insidetextanchor="start", textfont={"color": "#ffffff", "size": 11}, textangle=0, constraintext="none",
        )  # fmt: skip
        fig.add_trace(bars, row=1, col=1)
    fig.add_vline(x=1, line={"color": GREY, "dash": "dot", "width": 1}, row=1, col=1)
    fig.update_xaxes(rangemode="tozero", title_text="upper bars: both in float32, lower: bfloat16", row=1, col=1)
    fig.update_yaxes(ticks="", showgrid=False, row=1, col=1)


def _clients(fig: go.Figure, rows: Mapping[str, Row]) -> None:
    measured = [row for name, row in rows.items() if name.startswith("scaling/clients-")]
    if not measured:
        return
    counts = [int(row["name"].rpartition("-")[2]) for row in measured]
    fewest = int(measured[0]["what"].split("ours_s ")[1].split()[0])
    x, y = [fewest, *counts], [measured[0]["ours_s"], *(row["other_s"] for row in measured)]
    straight = [y[0] * count / fewest for count in x]
    _line(fig, 2, x, straight, GREY, "dot", "proportional")
    _line(fig, 2, x, y, BLUE, "solid", "seconds a round")
    fig.update_xaxes(title_text="clients", type="log", tickvals=x, ticktext=[str(count) for count in x], row=1, col=2)
    _round_numbers(fig, 2, "seconds a round", y)


def _backbones(fig: go.Figure, rows: Mapping[str, Row]) -> None:
    measured = [row for name, row in rows.items() if name.startswith("backbone/")]
    if not measured:
        return
    x, y = [row["parameters"] / 1e6 for row in measured], [row["us_per_token"] for row in measured]
    straight = [y[-1] * size / x[-1] for size in x]
    _line(fig, 3, x, straight, GREY, "dot", "proportional")
    _line(fig, 3, x, y, VERMILLION, "solid", "µs a token")
    ticks = [f"{size:.0f}" for size in x]
    fig.update_xaxes(title_text="million parameters", type="log", tickvals=x, ticktext=ticks, row=1, col=3)
    _round_numbers(fig, 3, "microseconds a trained token", y)


def _round_numbers(fig: go.Figure, col: int, title: str, values: list[float]) -> None:
    """A logarithmic axis with ticks at 1, 2 and 5 times powers of ten, written out."""
    powers = range(math.floor(math.log10(min(values))), math.ceil(math.log10(max(values))) + 1)
    ticks = [digit * 10.0**power for power in powers for digit in (1, 2, 5)]
    texts = [f"{tick:,.10g}" for tick in ticks]
    fig.update_yaxes(title_text=title, type="log", tickvals=ticks, ticktext=texts, row=1, col=col)


def _line(fig: go.Figure, col: int, x: list[Any], y: list[float], colour: str, dash: str, name: str) -> None:
    mode = "lines" if dash == "dot" else "lines+markers"
    fig.add_trace(go.Scatter(x=x, y=y, name=name, mode=mode, line={"color": colour, "dash": dash}), row=1, col=col)


def main() -> None:
    rows = {row["name"]: row for row in json.loads(RESULTS.read_text(encoding="utf-8"))}
    pictures = [
        Picture(str(to_json_plotly(figure(rows, theme))), ASSETS / f"speed-{theme}.svg", "svg", SIZE)
        for theme in get_args(Theme)
    ]
    problem = draw(pictures, find_chrome())
    print(problem or "\n".join(f"assets/{picture.file.name}" for picture in pictures))
    sys.exit(bool(problem))


if __name__ == "__main__":
    main()
