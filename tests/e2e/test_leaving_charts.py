"""A chart that leaves the page while plotly still draws it."""

from __future__ import annotations

from playwright.sync_api import expect

from tests.e2e.conftest import Visitor
from tests.support.browser import settle

# every drawing now takes half a second more; a chart that is purged before its drawing is over counts as early
SLOW_DRAWINGS = """() => {
  const { react, purge } = window.Plotly;
  window.purged = { early: 0, late: 0 };
  window.Plotly.react = async (plot, ...rest) => {
    plot.drawings = (plot.drawings ?? 0) + 1;
    await react(plot, ...rest);
    await new Promise((resolve) => setTimeout(resolve, 500));
    plot.drawings -= 1;
  };
  window.Plotly.purge = (plot) => {
    window.purged[plot.drawings ? "early" : "late"] += 1;
    return purge(plot);
  };
}"""
SWITCH_TO_DARK = "() => document.querySelector('.stApp').style.setProperty('background-color', 'black')"


def test_a_chart_is_purged_only_once_it_is_drawn(visit: Visitor) -> None:
    page = visit("channel")
    charts = page.locator(".pwff-chart.js-plotly-plot").count()
    assert charts > 0
    page.evaluate(SLOW_DRAWINGS)
    page.evaluate(SWITCH_TO_DARK)
    page.wait_for_function("() => [...document.querySelectorAll('.pwff-chart')].some((plot) => plot.drawings)")
    page.get_by_role("link", name="Runs").click()
    expect(page.get_by_role("heading", name="Runs")).to_be_visible()
    settle(page)
    page.wait_for_function(f"() => window.purged.early + window.purged.late >= {charts}")
    assert page.evaluate("() => window.purged.early") == 0
