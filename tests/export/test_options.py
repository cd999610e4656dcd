from __future__ import annotations

import pytest

from pwff_core.errors import ConfigError
from pwff_core.export.options import Order, checked_figures, ordered


def test_what_is_usual() -> None:
    assert ordered("tables") == Order("tables", ("csv",))
    assert ordered("figures").formats == ("png", "svg", "pdf", "html")
    assert ordered("zip") == Order("zip", ("png", "svg", "pdf", "html", "csv", "json", "parquet"), "ieee-1", None)


def test_formats_come_in_one_order_and_once() -> None:
    order = ordered("all", ["csv", "pdf", "csv", "png"], "slide", ["delay"])
    assert order == Order("all", ("png", "pdf", "csv"), "slide", ("delay",))
    assert (order.drawn, order.tables) == (("png", "pdf"), ("csv",))


@pytest.mark.parametrize(
    ("content", "formats", "size", "figures", "said"),
    [
        ("all", ["gif"], None, None, "--formats: 'gif' is not one of png, svg, pdf, html, csv, json, parquet."),
        ("tables", ["pdf"], None, None, "--formats: 'pdf' is not one of csv, json, parquet; --as all takes it."),
        ("figures", ["csv"], None, None, "--formats: 'csv' is not one of png, svg, pdf, html; --as all takes it."),
        ("zip", None, "a4", None, "--size: 'a4' is not one of ieee-1, ieee-2, slide."),
        ("tables", None, "slide", None, "--size and --figures are of figures; add --as figures, all or zip."),
        ("tables", None, None, ["delay"], "--size and --figures are of figures; add --as figures, all or zip."),
    ],
)
def test_what_cannot_be_had_is_a_sentence(
    content: str, formats: list[str] | None, size: str | None, figures: list[str] | None, said: str
) -> None:
    with pytest.raises(ConfigError) as error:
        ordered(content, formats, size, figures)
    assert str(error.value) == said


def test_figures_are_those_with_numbers_in_their_order() -> None:
    assert checked_figures(None, ["a", "b"], ["a", "b", "c"]) == ["a", "b"]
    assert checked_figures(("b", "a"), ["a", "b"], ["a", "b", "c"]) == ["a", "b"]
    with pytest.raises(ConfigError, match=r"^There is no figure 'bb'; there are a, bbb\. Did you mean 'bbb'\?$"):
        checked_figures(("bb",), ["a"], ["a", "bbb"])
    with pytest.raises(ConfigError, match=r"^This run has no numbers for the figure 'c'; it has a, b\.$"):
        checked_figures(("c",), ["a", "b"], ["a", "b", "c"])
    with pytest.raises(ConfigError, match=r"; it has none of any figure\.$"):
        checked_figures(("c",), [], ["a", "b", "c"])
