"""Which files an export writes, in which formats and size."""

from __future__ import annotations

import pytest

from pwff_core.errors import ConfigError
from pwff_core.export.options import ExportOptions, choose_figures, parse_options


def test_defaults_by_content() -> None:
    assert parse_options("tables") == ExportOptions("tables", ("csv",))
    assert parse_options("figures").formats == ("png", "svg", "pdf", "html")
    assert parse_options("zip") == ExportOptions(
        "zip", ("png", "svg", "pdf", "html", "csv", "json", "parquet"), "ieee-1", None
    )


def test_formats_are_sorted_and_unique() -> None:
    options = parse_options("all", ["csv", "pdf", "csv", "png"], "slide", ["delay"])
    assert options == ExportOptions("all", ("png", "pdf", "csv"), "slide", ("delay",))
    assert (options.picture_formats, options.table_formats) == (("png", "pdf"), ("csv",))


@pytest.mark.parametrize(
    ("content", "formats", "size", "figures", "sentence"),
    [
        ("all", ["gif"], None, None, "--formats: 'gif' is not one of png, svg, pdf, html, csv, json, parquet."),
        ("tables", ["pdf"], None, None, "--formats: 'pdf' is not one of csv, json, parquet; --as all takes it."),
        ("figures", ["csv"], None, None, "--formats: 'csv' is not one of png, svg, pdf, html; --as all takes it."),
        ("zip", None, "a4", None, "--size: 'a4' is not one of ieee-1, ieee-2, slide."),
        ("tables", None, "slide", None, "--size and --figures are of figures; add --as figures, all or zip."),
        ("tables", None, None, ["delay"], "--size and --figures are of figures; add --as figures, all or zip."),
    ],
)
def test_a_wrong_option_is_a_sentence(
    content: str, formats: list[str] | None, size: str | None, figures: list[str] | None, sentence: str
) -> None:
    with pytest.raises(ConfigError) as error:
        parse_options(content, formats, size, figures)
    assert str(error.value) == sentence


def test_figures_keep_their_order_and_need_numbers() -> None:
    assert choose_figures(None, ["a", "b"], ["a", "b", "c"]) == ["a", "b"]
    assert choose_figures(("b", "a"), ["a", "b"], ["a", "b", "c"]) == ["a", "b"]
    with pytest.raises(ConfigError, match=r"^There is no figure 'bb'; there are a, bbb\. Did you mean 'bbb'\?$"):
        choose_figures(("bb",), ["a"], ["a", "bbb"])
    with pytest.raises(ConfigError, match=r"^This run has no numbers for the figure 'c'; it has a, b\.$"):
        choose_figures(("c",), ["a", "b"], ["a", "b", "c"])
    with pytest.raises(ConfigError, match=r"; it has none of any figure\.$"):
        choose_figures(("c",), [], ["a", "b", "c"])
