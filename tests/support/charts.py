"""A chart in the browser, read and zoomed, by the key of its panel: "accuracy", "delay", …"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from playwright.sync_api import Locator, Page

from tests.support.browser import ENGINE_MS
from tests.support.repeating import act_until

# plotly's own copy of the figure, also where that came as typed arrays
_READ = """(plot) => ({
  traces: plot._fullData.map((trace) => ({
    name: trace.name, dash: trace.line?.dash, x: [...trace.x ?? []], y: [...trace.y ?? []],
  })),
  range: [...plot._fullLayout.xaxis.range],
  lines: plot._fullLayout.shapes.filter((shape) => shape.x0 === shape.x1).map((shape) => shape.x0),
  labels: plot._fullLayout.annotations.map((label) => label.text),
})"""
_LAST_ROUND = """([key, wanted]) => {
  const plot = document.querySelector(`.st-key-chart-${key} .pwff-chart.js-plotly-plot`);
  const own = (trace) => trace.mode?.includes("markers") && trace.legendgroup !== "parent";
  const measured = (plot?._fullData ?? []).filter(own);
  return measured.some((trace) => [...trace.x ?? []].some((x) => x >= wanted));
}"""
_OF_RUN = """([key, run]) => {
  const plot = document.querySelector(`.st-key-chart-${key} .pwff-chart.js-plotly-plot`);
  return (plot?.pwffChart.state ?? "").startsWith(`${run}/`);
}"""
_NAMES = """([key, wanted]) => {
  const plot = document.querySelector(`.st-key-chart-${key} .pwff-chart.js-plotly-plot`);
  const names = (plot?._fullData ?? []).map((trace) => trace.name);
  return wanted.every((name) => names.includes(name));
}"""
_WITHIN = """([key, [left, right]]) => {
  const range = document.querySelector(`.st-key-chart-${key} .pwff-chart`)._fullLayout.xaxis.range;
  return range[0] > left && range[1] < right;
}"""


def chart(page: Page, key: str) -> Locator:
    """The chart's element, once plotly has drawn it."""
    return page.locator(f".st-key-chart-{key} .pwff-chart.js-plotly-plot")


def drawn(page: Page, key: str) -> dict[str, Any]:
    """Its traces (name, dash, x, y), the range of its x axis, where it has upright lines, and its labels."""
    drawing: dict[str, Any] = chart(page, key).evaluate(_READ)
    return drawing


def last_round(page: Page, key: str = "accuracy") -> float:
    """The last round that is drawn."""
    return max((x for trace in drawn(page, key)["traces"] for x in trace["x"] if x is not None), default=0)


def wait_for_run(page: Page, run_id: str, key: str = "accuracy") -> None:
    """Waits until the chart shows this run: an earlier run's chart stays a little longer than its words."""
    page.wait_for_function(_OF_RUN, arg=[key, run_id], timeout=ENGINE_MS)


def wait_for_round(page: Page, number: float, key: str = "accuracy") -> None:
    """Waits until a round of the run itself is drawn; levels and a parent's lines reach further and do not count."""
    page.wait_for_function(_LAST_ROUND, arg=[key, number], timeout=ENGINE_MS)


def zoom(page: Page, key: str) -> list[float]:
    """Draws a rectangle over the left half of the chart with the mouse; returns the range of x that is then shown."""
    before = drawn(page, key)["range"]
    act_until(page, lambda: _drag(page, key), lambda: bool(page.evaluate(_WITHIN, [key, before])))
    after: list[float] = drawn(page, key)["range"]
    return after


def _drag(page: Page, key: str) -> None:
    plot = chart(page, key)
    plot.scroll_into_view_if_needed()
    box = plot.locator(".nsewdrag").bounding_box()
    assert box is not None
    left, top = box["x"], box["y"]
    page.mouse.move(left + 0.02 * box["width"], top + 0.1 * box["height"])
    page.mouse.down()
    page.mouse.move(left + 0.5 * box["width"], top + 0.9 * box["height"], steps=5)
    page.mouse.up()


def wait_for_zoom(page: Page, key: str, before: list[float]) -> None:
    """Waits until the chart shows less of its x axis than before."""
    page.wait_for_function(_WITHIN, arg=[key, before])


def wait_for_lines(page: Page, key: str, names: Collection[str]) -> None:
    """Waits until the chart has a line of each of these names."""
    page.wait_for_function(_NAMES, arg=[key, list(names)], timeout=ENGINE_MS)
