"""A page without a browser: opened at an address, checked for exceptions, and read as text."""

from __future__ import annotations

from pathlib import Path

from streamlit.testing.v1 import AppTest

ROOT = Path(__file__).resolve().parents[2]


def open_page(name: str, **query: str) -> AppTest:
    """The page pages/NAME.py at an address with these query parameters."""
    page = AppTest.from_file(str(ROOT / "pages" / f"{name}.py"), default_timeout=60)
    page.query_params.update(query)
    return without_exception(page.run())


def without_exception(page: AppTest) -> AppTest:
    assert not page.exception, page.exception
    return page


def query_value(page: AppTest, name: str) -> str | None:
    value = page.query_params.get(name)
    return value[0] if isinstance(value, list) else value


def texts(page: AppTest) -> str:
    """All texts of the page, without Markdown's escapes."""
    parts = [*page.markdown, *page.caption, *page.error, *page.warning, *page.info, *page.success, *page.subheader]
    bars = [bar.proto.text for bar in page.get("progress")]
    html = [block.proto.body for block in page.get("html")]
    return "\n".join([*(str(part.value) for part in parts), *bars, *html]).replace("\\", "").replace("\u00a0", " ")
