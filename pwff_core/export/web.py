"""Figures as one web page that needs nothing but itself: plotly.js is in it, so it works without a network."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape

import plotly.graph_objects as go
from plotly.io import to_html
from plotly.offline import get_plotlyjs

_HEIGHT = "460px"
_STYLE = (
    "body{font:16px/1.5 system-ui,sans-serif;color:#1b2733;max-width:1000px;margin:2rem auto;padding:0 1rem}"
    "figure{margin:2.5rem 0}figcaption{margin-top:.5rem}"
)


def web_page(title: str, about: str, figures: Mapping[str, go.Figure], captions: Mapping[str, str]) -> str:
    """The figures below each other, each with its caption, as one HTML text of about 5 MB."""
    drawn = "\n".join(_figure(name, figure, captions.get(name, "")) for name, figure in figures.items())
    return (
        f'<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n<title>{escape(title)}</title>\n'
        f"<style>{_STYLE}</style>\n<script>{get_plotlyjs()}</script>\n</head>\n<body>\n"
        f"<h1>{escape(title)}</h1>\n<p>{escape(about)}</p>\n{drawn}\n</body>\n</html>\n"
    )


def _figure(name: str, figure: go.Figure, caption: str) -> str:
    config = {"displaylogo": False, "toImageButtonOptions": {"format": "svg", "filename": name}}
    chart = to_html(
        figure, config=config, full_html=False, include_plotlyjs=False, default_height=_HEIGHT, div_id=f"figure-{name}"
    )
    label = escape(caption or name, quote=True)
    return (
        f'<figure><div role="img" aria-label="{label}">{chart}</div><figcaption>{escape(caption)}</figcaption></figure>'
    )
