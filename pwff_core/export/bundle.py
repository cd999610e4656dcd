"""A bundle of figures, tables and texts, and how it becomes files in a folder or one zip."""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import pandas as pd
import plotly.graph_objects as go
from plotly.io.json import to_json_plotly

from pwff_core.export.chrome import Picture, draw, find_chrome
from pwff_core.export.contents import caption_text, readme_text, table_bytes, web_page
from pwff_core.export.options import TABLE_FORMATS, ExportOptions
from pwff_core.figures.printing import PRESETS, for_print
from pwff_core.runs.files import deliver

WEB_PAGE = "figures.html"
_COMPRESSED = (".png", ".parquet")  # already, so a zip only stores them

OnProgress = Callable[[int, int], object]  # pictures that are drawn, and how many there will be


class Bundle(NamedTuple):
    """All that a run or a comparison can export. Names are those of files, without their ending."""

    name: str  # of the zip, and of the folder in it
    title: str
    about: str  # settings, seed and what else every caption needs
    figures: Mapping[str, go.Figure]
    captions: Mapping[str, str]  # of figures
    tables: Mapping[str, pd.DataFrame]
    texts: Mapping[str, str]  # file name → its text, such as config.toml; an export of figures alone has none
    versions: Mapping[str, str]


class ExportResult(NamedTuple):
    """The files of an export, and what is missing."""

    files: list[Path]
    hint: str  # "" or what is missing and why


def write(
    bundle: Bundle, options: ExportOptions, folder: Path, on_progress: OnProgress = lambda done, total: None
) -> ExportResult:
    """Writes the bundle into `folder`, which is made: as files, or as one zip; all of them, or none.

    Without Chrome the pictures are missing, and the hint says why. StoreError if the folder cannot be written.
    """
    hint = ""

    def fill(aside: Path) -> list[Path]:
        nonlocal hint
        if options.content != "zip":
            files, hint = _write_files(bundle, options, aside, on_progress)
            return files
        inside = aside / bundle.name
        inside.mkdir()
        files, hint = _write_files(bundle, options, inside, on_progress)
        archive_file = aside / f"{bundle.name}.zip"
        with zipfile.ZipFile(archive_file, "w", zipfile.ZIP_DEFLATED) as archive:
            for file in files:
                method = zipfile.ZIP_STORED if file.suffix in _COMPRESSED else zipfile.ZIP_DEFLATED
                archive.write(file, file.relative_to(aside), method)
        return [archive_file]

    return ExportResult(deliver(folder, fill), hint)


def file_bytes(bundle: Bundle, name: str) -> bytes:
    """One file that takes no browser: a table as "NAME.csv", "NAME.json" or "NAME.parquet", a text, or the web page."""
    if name == WEB_PAGE:
        return web_page(bundle.title, bundle.about, bundle.figures, bundle.captions).encode()
    if name in bundle.texts:
        return bundle.texts[name].encode()
    stem, _, ending = name.rpartition(".")
    return table_bytes(bundle.tables[stem], next(name for name in TABLE_FORMATS if name == ending))


def _write_files(
    bundle: Bundle, options: ExportOptions, folder: Path, on_progress: OnProgress
) -> tuple[list[Path], str]:
    """The files, and a hint at missing ones. Tables or figures alone lie flat, both together in a folder each."""
    both = options.content in ("all", "zip")
    files: list[Path] = []
    hint = ""
    if options.content != "figures":
        files += _write_tables(bundle, options, _subfolder(folder, "tables" if both else ""))
    if options.content != "tables":
        figures_folder = _subfolder(folder, "figures" if both else "")
        pictures, hint = _draw_pictures(bundle, options, figures_folder, on_progress)
        files += pictures
        if "html" in options.formats and bundle.figures:
            page = web_page(bundle.title, bundle.about, bundle.figures, bundle.captions)
            files.append(_write_text(figures_folder, WEB_PAGE, page))
        files.append(_write_text(folder, "caption.txt", caption_text(bundle.about, bundle.captions)))
    if options.content != "figures":
        names = {"run.json"} if options.content == "tables" else set(bundle.texts)
        files += [_write_text(folder, name, text) for name, text in bundle.texts.items() if name in names]
    if both:
        listed = [file.relative_to(folder).as_posix() for file in files]
        readme = readme_text(bundle.title, bundle.about, listed, options.size, bundle.versions)
        files.append(_write_text(folder, "README.txt", readme))
    return files, hint


def _subfolder(folder: Path, name: str) -> Path:
    subfolder = folder / name
    subfolder.mkdir(exist_ok=True)
    return subfolder


def _write_text(folder: Path, name: str, text: str) -> Path:
    file = folder / name
    file.write_text(text, encoding="utf-8", newline="\n")
    return file


def _write_tables(bundle: Bundle, options: ExportOptions, folder: Path) -> list[Path]:
    files = []
    for table_format in options.table_formats:
        for name, table in bundle.tables.items():
            file = folder / f"{name}.{table_format}"
            file.write_bytes(table_bytes(table, table_format))
            files.append(file)
    return files


def _draw_pictures(
    bundle: Bundle, options: ExportOptions, folder: Path, on_progress: OnProgress
) -> tuple[list[Path], str]:
    """The pictures that Chrome drew, and why some are missing."""
    if not (options.picture_formats and bundle.figures):
        return [], ""
    preset, pictures = PRESETS[options.size], []
    for name, figure in bundle.figures.items():
        text = str(to_json_plotly(for_print(figure, preset)))
        pictures += [Picture(text, folder / f"{name}.{form}", form, preset) for form in options.picture_formats]
    hint = draw(pictures, find_chrome(), lambda done: on_progress(done, len(pictures)))
    return [picture.file for picture in pictures if picture.file.is_file()], hint
