"""Hostile texts, wherever people or models can write them, are only letters on the pages."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from google.protobuf.message import Message
from streamlit.testing.v1 import AppTest

from pages.parts.words import plain
from pages.run.chat import Exchange
from pwff_core.export.build import run_bundle
from pwff_core.export.bundle import file_bytes
from pwff_core.export.contents import table_bytes
from pwff_core.export.options import parse_options
from pwff_core.runs.chat import Answer
from pwff_core.runs.recording import recording_of
from pwff_core.runs.store import Store
from tests.support.live_page import PAGE
from tests.support.pages import without_exception
from tests.support.planted import FORMULA, IMAGE, LONG, NASTY, plant

# fields that Streamlit shows without reading Markdown
PLAIN = {
    "Code.code_text", "Selectbox.options", "Selectbox.raw_value", "MultiSelect.options", "TextInput.default",
    "TextInput.value", "Arrow.data", "Dataframe.arrow_data.data", "ArrowData.data",
}  # fmt: skip
WOULD_ACT = ("<img", "<script", "</script", "<b>", "](https", "$x", "&lt;")


def strings(message: Message, path: str = "") -> Iterator[tuple[str, str]]:
    """Every text in a message to the browser, with the path of its field."""
    for field, value in message.ListFields():
        name = f"{path}.{field.name}"
        entries = value.values() if hasattr(value, "values") else value if field.is_repeated else [value]
        for entry in entries:
            if isinstance(entry, Message):
                yield from strings(entry, name)
            elif isinstance(entry, str | bytes):
                yield name, entry if isinstance(entry, str) else entry.decode("utf-8", "replace")


def page_texts(node: Any) -> Iterator[tuple[str, str]]:
    """Every text on a page."""
    proto = getattr(node, "proto", None)
    if isinstance(proto, Message):
        yield from ((f"{proto.DESCRIPTOR.name}{path}", text) for path, text in strings(proto))
    for child in getattr(node, "children", {}).values():
        yield from page_texts(child)


def active_pieces(text: str) -> list[str]:
    """The pieces of a hostile text that Markdown would still read as more than letters."""
    unescaped = re.sub(r"\\.", "", text)
    return [piece for piece in WOULD_ACT if piece in unescaped]


def open_page(page: str, ids: dict[str, str]) -> AppTest:
    name, _, run = page.partition("?")
    app = AppTest.from_file(PAGE, default_timeout=60)
    chosen = [ids[kind] for kind in run.split("+")] if run else [ids["finished"]]
    app.query_params["run"] = chosen[0]
    app.session_state["ask:history"] = [Exchange(ids["finished"], LONG, (answer(0), answer(1)))] * 2
    app.run()
    if name != "live":
        app.switch_page(f"pages/{name}.py").run()
    if name == "runs":
        app.session_state["runs:chosen"] = chosen
        app.run()
    return without_exception(app)


def answer(client: int) -> Answer:
    return Answer(
        client=client, when="after", text=f"{LONG}\n\n# {LONG}\n===\n    {LONG}", helpfulness=0, harmlessness=0,
        reward=0, ended=False, refused=False,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("page", "least"),
    [
        ("live?finished", 4), ("live?failed", 4), ("live?going", 4), ("live?waiting", 3),
        ("runs?finished", 3), ("runs?failed", 3), ("runs?finished+failed", 2), ("clients?finished", 7),
        ("compare?failed", 1),
    ],
)  # fmt: skip
def test_a_page_shows_hostile_texts_as_letters(store: Store, launched: list[object], page: str, least: int) -> None:
    ids = plant(store)
    app = open_page(page, ids)
    hostile = 0
    for path, text in page_texts(app._tree):
        if path.endswith("js_content") or not re.search(r"cmd|foreign\\?\.example|alert", text):
            continue
        hostile += 1
        if path not in PLAIN:
            assert active_pieces(text) == [] or path.startswith("BidiComponent"), (path, text)
        if path == "BidiComponent.json":  # a chart: plotly reads tags in its figure, and knows no Markdown
            figure = json.loads(text)["figure"]
            assert "<img" not in figure and "<script" not in figure, figure
    assert hostile >= least  # so that the test sees them


def test_unescaped_text_would_be_found() -> None:
    for piece in (NASTY, LONG):
        assert set(active_pieces(piece)) >= {"<img", "](https", "$x"}
        assert active_pieces(plain(piece)) == []


@pytest.mark.parametrize("letters", [NASTY, LONG, "".join(map(chr, range(32, 127)))])
def test_plain_text_comes_back_letter_for_letter(letters: str) -> None:
    assert re.sub(r"\\([!-/:-@\[-`{-~])", r"\1", plain(letters)).replace("\u2060", "") == letters


@pytest.mark.parametrize("address", ["https://a.example/b", "HTTP://a.example", "www.a.example", "me@a.example"])
def test_an_address_is_parted_so_that_it_is_no_link(address: str) -> None:
    text = re.sub(r"\\(.)", r"\1", plain(f"see {address}."))
    assert "\u2060" in text and not re.search(r"https?://|www\.|\w@", text, re.IGNORECASE)


def test_in_exported_files_hostile_texts_are_letters(store: Store) -> None:
    bundle = run_bundle(recording_of(store, plant(store)["finished"]), parse_options("all"))
    page = file_bytes(bundle, "figures.html").decode()
    body = re.sub(r"<script.*?</script>", "", page, flags=re.DOTALL)
    assert "&lt;img src=x" in body and "<img src=x" not in body and "alert(2)</script>" not in body
    assert tomllib.loads(bundle.texts["config.toml"])["data"]["topic_column"] == LONG


def test_no_spreadsheet_computes_a_text(store: Store, launched: list[object]) -> None:
    table = pd.DataFrame({"name": [FORMULA, "+1", "-1", "@x", " =x", "plain", None], "number": [-1.5] * 7})
    lines = table_bytes(table, "csv").decode().splitlines()[1:]
    assert lines == ["'=cmd(),-1.5", "'+1,-1.5", "'-1,-1.5", "'@x,-1.5", "' =x,-1.5", "plain,-1.5", ",-1.5"]
    ids = plant(store)
    tables = [frame.value for page in ("runs?finished", "live?finished") for frame in open_page(page, ids).dataframe]
    cells = [str(cell) for table in tables for cell in table.select_dtypes("str").to_numpy().ravel()]
    assert any(FORMULA in cell for cell in cells) and not any(cell.startswith(FORMULA) for cell in cells)


def test_a_file_is_offered_under_a_plain_name(store: Store, launched: list[object]) -> None:
    app = open_page("runs?finished", plant(store))
    names = [text for path, text in page_texts(app._tree) if path.endswith("DownloadButton.url")]
    assert all(IMAGE not in Path(name).name for name in names)
