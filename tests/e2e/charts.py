"""What a person sees on a chart and does to it, by the key of the panel: "accuracy", "delay", …"""

from __future__ import annotations

from typing import Any

from playwright.sync_api import Locator, Page

# what plotly drew, also where the figure came as typed arrays; only the marks that the test asks about
_READ = """(plot) => ({
  traces: plot._fullData.map((trace) => ({ name: trace.name, x: [...trace.x ?? []], y: [...trace.y ?? []] })),
  range: [...plot._fullLayout.xaxis.range],
  lines: plot._fullLayout.shapes.filter((shape) => shape.x0 === shape.x1).map((shape) => shape.x0),
  labels: plot._fullLayout.annotations.map((label) => label.text),
})"""
_LAST_ROUND = """([key, wanted]) => {
  const plot = document.querySelector(`.st-key-chart-${key} .pwff-chart.js-plotly-plot`);
  return (plot?._fullData ?? []).some((trace) => [...trace.x ?? []].some((x) => x >= wanted));
}"""
_WITHIN = """([key, [left, right]]) => {
  const range = document.querySelector(`.st-key-chart-${key} .pwff-chart`)._fullLayout.xaxis.range;
  return range[0] > left && range[1] < right;
}"""


def chart(page: Page, key: str) -> Locator:
    """The chart's element, once plotly has drawn it."""
    return page.locator(f".st-key-chart-{key} .pwff-chart.js-plotly-plot")


def drawn(page: Page, key: str) -> dict[str, Any]:
    """Its traces (name, x, y), the range of its x axis, where it has upright lines, and its labels."""
    found: dict[str, Any] = chart(page, key).evaluate(_READ)
    return found


def last_round(page: Page, key: str = "accuracy") -> float:
    """The last round that is drawn."""
    return max((x for trace in drawn(page, key)["traces"] for x in trace["x"] if x is not None), default=0)


def wait_for_round(page: Page, number: float, key: str = "accuracy") -> None:
    """Waits until a round is drawn."""
    page.wait_for_function(_LAST_ROUND, arg=[key, number])


def zoom(page: Page, key: str) -> list[float]:
    """Draws a rectangle over the left half of the chart with the mouse; the range of x that is shown then."""
    before = drawn(page, key)["range"]
    plot = chart(page, key)
    plot.scroll_into_view_if_needed()
    box = plot.locator(".nsewdrag").bounding_box()
    assert box is not None
    left, top = box["x"], box["y"]
    page.mouse.move(left + 0.02 * box["width"], top + 0.1 * box["height"])
    page.mouse.down()
    page.mouse.move(left + 0.5 * box["width"], top + 0.9 * box["height"], steps=5)
    page.mouse.up()
    wait_for_zoom(page, key, before)
    after: list[float] = drawn(page, key)["range"]
    return after


def wait_for_zoom(page: Page, key: str, before: list[float]) -> None:
    """Waits until the chart shows less of its x axis than before."""
    page.wait_for_function(_WITHIN, arg=[key, before])
