"""What is taken home, before it is files: figures, tables and texts; and how it becomes a folder or one zip."""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import pandas as pd
import plotly.graph_objects as go

from pwff_core.export.chrome import Picture, draw, figure_text
from pwff_core.export.contents import caption_text, readme_text, table_bytes, web_page
from pwff_core.export.options import TABLE_FORMATS, Order
from pwff_core.figures.printing import PRESETS, for_print
from pwff_core.runs.files import deliver

WEB_PAGE = "figures.html"
_UNSQUEEZED = (".png", ".parquet")  # packed already


class Parcel(NamedTuple):
    """Everything that may be taken home of a run or a comparison. Names are those of files, without their ending."""

    name: str  # of the zip, and of the folder in it
    title: str
    about: str  # settings, seed and what else every caption needs
    figures: Mapping[str, go.Figure]
    captions: Mapping[str, str]  # of figures
    tables: Mapping[str, pd.DataFrame]
    texts: Mapping[str, str]  # file → what is in it, such as config.toml; there in every export but figures'
    versions: Mapping[str, str]


class Delivery(NamedTuple):
    """What became of an order."""

    files: list[Path]
    hint: str  # "" or what is missing and why


def write(parcel: Parcel, order: Order, folder: Path, told: Callable[[int, int], object] = lambda *_: None) -> Delivery:
    """Writes what is ordered into `folder`, which is made: files, or one zip; all of them, or none.

    `told(done, all)` hears how the pictures come along. Without Chrome their files are missing, and the hint says why.
    StoreError if the folder cannot be written.
    """
    hints: list[str] = []

    def fill(aside: Path) -> list[Path]:
        if order.content != "zip":
            return _files(parcel, order, aside, hints, told)
        inside = aside / parcel.name
        inside.mkdir()
        files = _files(parcel, order, inside, hints, told)
        packed = aside / f"{parcel.name}.zip"
        with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
            for file in files:
                squeeze = zipfile.ZIP_STORED if file.suffix in _UNSQUEEZED else zipfile.ZIP_DEFLATED
                archive.write(file, file.relative_to(aside), squeeze)
        return [packed]

    return Delivery(deliver(folder, fill), "".join(hints))


def file_bytes(parcel: Parcel, name: str) -> bytes:
    """One file that takes no browser: a table as "NAME.csv", "NAME.json" or "NAME.parquet", a text, or the web page."""
    if name == WEB_PAGE:
        return web_page(parcel.title, parcel.about, parcel.figures, parcel.captions).encode()
    if name in parcel.texts:
        return parcel.texts[name].encode()
    stem, _, ending = name.rpartition(".")
    return table_bytes(parcel.tables[stem], next(form for form in TABLE_FORMATS if form == ending))


def _files(
    parcel: Parcel, order: Order, inside: Path, hints: list[str], told: Callable[[int, int], object]
) -> list[Path]:
    """Everything that is ordered, as files; those of one kind alone lie flat, of both in folders of their own."""
    both = order.content in ("all", "zip")
    files: list[Path] = []
    if order.content != "figures":
        files += _tables(parcel, order, _made(inside, "tables" if both else ""))
    if order.content != "tables":
        files += _pictures(parcel, order, _made(inside, "figures" if both else ""), hints, told)
        files.append(_text(inside, "caption.txt", caption_text(parcel.about, parcel.captions)))
    if order.content != "figures":
        chosen = {"run.json"} if order.content == "tables" else set(parcel.texts)
        files += [_text(inside, name, text) for name, text in parcel.texts.items() if name in chosen]
    if both:
        names = [file.relative_to(inside).as_posix() for file in files]
        files.append(
            _text(inside, "README.txt", readme_text(parcel.title, parcel.about, names, order.size, parcel.versions))
        )
    return files


def _made(inside: Path, name: str) -> Path:
    folder = inside / name
    folder.mkdir(exist_ok=True)
    return folder


def _text(folder: Path, name: str, text: str) -> Path:
    file = folder / name
    file.write_text(text, encoding="utf-8", newline="\n")
    return file


def _tables(parcel: Parcel, order: Order, folder: Path) -> list[Path]:
    files = []
    for form in order.tables:
        for name, table in parcel.tables.items():
            file = folder / f"{name}.{form}"
            file.write_bytes(table_bytes(table, form))
            files.append(file)
    return files


def _pictures(
    parcel: Parcel, order: Order, folder: Path, hints: list[str], told: Callable[[int, int], object]
) -> list[Path]:
    preset, pictures = PRESETS[order.size], []
    if order.drawn:
        for name, figure in parcel.figures.items():
            text = figure_text(for_print(figure, preset))
            pictures += [Picture(text, folder / f"{name}.{form}", form, preset) for form in order.drawn]
    hints += filter(None, [draw(pictures, lambda done: told(done, len(pictures)))])
    files = [picture.file for picture in pictures if picture.file.is_file()]
    if "html" in order.formats and parcel.figures:
        page = web_page(parcel.title, parcel.about, parcel.figures, parcel.captions)
        files.append(_text(folder, WEB_PAGE, page))
    return files
