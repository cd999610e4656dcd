from __future__ import annotations

import re

import plotly.graph_objects as go
from plotly.offline import get_plotlyjs

from pwff_core.export import web_page

EVIL = "</script><script>alert(1)</script>\"'"


def page() -> str:
    figure = go.Figure(go.Scatter(x=[1, 2], y=[3, 4], name=EVIL), {"title": {"text": EVIL}})
    return web_page(EVIL, EVIL, {"one": figure, "two": figure}, {"one": EVIL, "two": "A caption."})


def test_the_page_holds_plotly_once_and_asks_the_network_for_nothing() -> None:
    text = page().replace(get_plotlyjs(), "THE LIBRARY", 1)
    assert text.count("THE LIBRARY") == 1 and len(text) < 60_000  # so it is not in it a second time
    assert not re.search(r'(src|href)\s*=\s*["\']', text)


def test_what_people_typed_is_text() -> None:
    text = page().replace(get_plotlyjs(), "")
    assert "alert(1)</script>" not in text
    assert text.count("<script") == text.count("</script>")
    assert "&lt;/script&gt;" in text


def test_every_figure_has_its_caption_and_its_text_for_those_who_do_not_see_it() -> None:
    text = page()
    assert text.count("<figure>") == 2
    assert 'aria-label="A caption."' in text and "<figcaption>A caption.</figcaption>" in text
