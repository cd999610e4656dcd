"""The panel "Export": a run's or a comparison's figures, tables and settings to take home.

Single files are made when they are asked for. The zip is written by a process of its own, as its pictures take a
browser and some seconds; meanwhile the page goes on. Call these functions outside of a page's own fragment.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import streamlit as st

from pages.parts.notices import errors_as_notice
from pages.parts.words import plain, sentence
from pwff_core.config import RunConfig
from pwff_core.export.build import comparison_bundle, run_bundle
from pwff_core.export.bundle import WEB_PAGE, Bundle, file_bytes
from pwff_core.export.chrome import find_chrome, no_chrome_words
from pwff_core.export.job import ExportJob, ExportStatus
from pwff_core.export.options import CHROME_FORMATS, FIGURE_FORMATS, TABLE_FORMATS, ExportOptions, parse_options
from pwff_core.figures.printing import PRESETS, SizeId
from pwff_core.runs.recording import recording_of
from pwff_core.runs.store import Store

POLL_S = 0.7
_LABELS = {"png": "PNG", "svg": "SVG", "pdf": "PDF", "html": "HTML", "csv": "CSV", "json": "JSON", "parquet": "Parquet"}
_TYPES = {"csv": "text/csv", "json": "application/json", "html": "text/html", "toml": "application/toml"}
StartJob = Callable[[Bundle, ExportOptions], ExportJob]


class Offer(NamedTuple):
    """What one panel offers."""

    subject: str  # what it is of; a zip of another subject is not offered
    prefix: str  # of a single file's name
    bundle: Callable[[ExportOptions], Bundle]
    singles: tuple[str, ...]  # files to take one by one
    explanation: str  # what is in them

    def file(self, name: str) -> bytes:
        """One of its single files, made now."""
        options = parse_options("figures", ["html"]) if name == WEB_PAGE else parse_options("tables")
        return file_bytes(self.bundle(options), name)


class Prepared(NamedTuple):
    """A zip that was asked for in this session."""

    subject: str
    options: ExportOptions
    job: ExportJob


def run_offer(store: Store, run_id: str) -> Offer:
    """The files of one run."""
    singles = [f"{table}.{form}" for table in ("rounds", "clients") for form in TABLE_FORMATS]
    return Offer(
        run_id,
        f"pwff-{run_id}-",
        lambda options: run_bundle(recording_of(store, run_id), options),
        (*singles, "run.json", "config.toml", WEB_PAGE),
        "*rounds* has a row a round, *clients* a row a client and round; *run.json* is the whole run, *config.toml* "
        "its settings for `pwff run --config`, *figures.html* all charts, which work without a network.",
    )


def comparison_offer(
    name: str,
    figures: Mapping[str, Callable[[], Any]],
    tables: Mapping[str, pd.DataFrame],
    *,
    captions: Mapping[str, str],
    about: str,
    config: RunConfig,
) -> Offer:
    """The files of a comparison: `figures` draw plotly Figures when they are needed. See `comparison_bundle`."""

    def bundle(options: ExportOptions) -> Bundle:
        wanted = {} if options.content == "tables" else figures
        return comparison_bundle(name, about, wanted, captions, tables, config)

    singles = [f"{table}.{form}" for table in tables for form in TABLE_FORMATS]
    return Offer(
        name,
        "pwff-comparison-",
        bundle,
        (*singles, "config.toml", WEB_PAGE),
        "*config.toml* holds the settings of its first run, from which the others differ in method and seed alone; "
        "*figures.html* holds all charts, which work without a network.",
    )


def draw_export(
    offer: Offer, key: str, *, start_job: StartJob = ExportJob, chrome: Callable[[], Path | None] = find_chrome
) -> None:
    """The panel of one offer.

    Args:
        offer: its files.
        key: tells several panels of a page apart.
        start_job: starts the process that writes the zip.
        chrome: finds the browser that pictures are made with, or None.
    """
    with st.expander("Export", icon=":material/download:", key=f"export:{key}"):
        going = _going(key, offer)
        panel = partial(_draw_panel, offer, key, going=going, start_job=start_job, with_chrome=chrome() is not None)
        st.fragment(panel, run_every=POLL_S if going else None)()


def _going(key: str, offer: Offer) -> bool:
    prepared = _prepared(key, offer)
    return prepared is not None and not prepared.job.status().ended


def _prepared(key: str, offer: Offer) -> Prepared | None:
    """This session's zip of the panel; one of another subject is thrown away."""
    prepared: Prepared | None = st.session_state.get(f"export:zip:{key}")
    if prepared and prepared.subject != offer.subject:
        _throw_away(key)
        return None
    return prepared


def _throw_away(key: str) -> None:
    prepared: Prepared | None = st.session_state.pop(f"export:zip:{key}", None)
    if prepared:
        prepared.job.close()


def _draw_panel(offer: Offer, key: str, *, going: bool, start_job: StartJob, with_chrome: bool) -> None:
    if _going(key, offer) != going:
        st.rerun()  # so that the panel begins, or ends, to poll
    _zip(offer, key, going=going, start_job=start_job, with_chrome=with_chrome)
    st.markdown("**One file, at once**")
    st.caption(offer.explanation)
    with st.container(horizontal=True, key=f"export:singles:{key}"):
        for name in offer.singles:
            st.download_button(
                name,
                partial(offer.file, name),
                file_name=f"{offer.prefix}{name}",
                mime=_TYPES.get(name.rpartition(".")[2], "application/octet-stream"),
                on_click="ignore",
                key=f"export:{name}:{key}",
            )


def _zip(offer: Offer, key: str, *, going: bool, start_job: StartJob, with_chrome: bool) -> None:
    """Size, formats, the button, and how far the zip is."""
    st.markdown("**Everything in one zip: figures, tables, settings, captions**")
    formats = [form for form in (*FIGURE_FORMATS, *TABLE_FORMATS) if with_chrome or form not in CHROME_FORMATS]
    if not with_chrome:
        st.info(plain(no_chrome_words()), icon=":material/info:")
    size: SizeId = st.segmented_control(
        "Size of the figures",
        list(PRESETS),
        default="ieee-1",
        required=True,
        format_func=lambda preset: PRESETS[preset].label,
        key=f"export:size:{key}",
        help="Letters are 8 pt in print and 18 pt on a slide, whatever the size.",
    )
    chosen = st.pills(
        "Formats",
        formats,
        selection_mode="multi",
        default=formats,
        format_func=_LABELS.__getitem__,
        key=f"export:formats:{key}",
        help="PNG for documents, SVG to edit, PDF for LaTeX, HTML to look at; CSV, JSON and Parquet are the tables.",
    )
    st.button(
        "Prepare the zip",
        icon=":material/folder_zip:",
        key=f"export:prepare:{key}",
        on_click=_prepare,
        args=(offer, key, tuple(chosen), size, start_job),
        disabled=going or not chosen,
        help=None if chosen else "Choose a format first.",
    )
    if problem := st.session_state.pop(f"export:problem:{key}", ""):
        st.error(plain(sentence(problem)))
    if prepared := _prepared(key, offer):
        _draw_status(prepared, prepared.job.status(), key)


def _prepare(offer: Offer, key: str, formats: tuple[str, ...], size: SizeId, start_job: StartJob) -> None:
    """Callback: starts the process that writes the zip."""
    _throw_away(key)
    tell = partial(st.session_state.__setitem__, f"export:problem:{key}")
    try:
        with errors_as_notice(tell=tell):
            options = parse_options("zip", formats, size)
            prepared = Prepared(offer.subject, options, start_job(offer.bundle(options), options))
            st.session_state[f"export:zip:{key}"] = prepared
    except OSError as error:
        tell(f"The zip cannot be prepared ({error.strerror}); make room on the disk.")


def _draw_status(prepared: Prepared, status: ExportStatus, key: str) -> None:
    """How far a zip is, or the button to take it."""
    if status.error:
        st.error(plain(sentence(status.error)))
        return
    if status.file is None:
        picture = f"Picture {status.done} of {status.total} is drawn …"
        text = picture if status.total else "The tables and figures are prepared …"
        st.progress(status.done / status.total if status.total else 0.0, text=text)
        return
    if status.hint:
        st.warning(plain(status.hint), icon=":material/image_not_supported:")
    formats = ", ".join(_LABELS[form] for form in prepared.options.formats)
    st.download_button(
        f"Download {prepared.job.name} ({status.file.stat().st_size / 1e6:.1f} MB)",
        partial(Path.read_bytes, status.file),
        file_name=prepared.job.name,
        mime="application/zip",
        type="primary",
        icon=":material/download:",
        on_click="ignore",
        key=f"export:download:{key}",
        help=f"{PRESETS[prepared.options.size].label}: {formats}.",
    )
