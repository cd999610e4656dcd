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

from pages.parts.words import plain, sentence
from pwff_core.config import RunConfig
from pwff_core.errors import PwffError
from pwff_core.export.build import comparison_bundle, run_bundle
from pwff_core.export.bundle import WEB_PAGE, Bundle, file_bytes
from pwff_core.export.chrome import find_chrome, no_chrome_words
from pwff_core.export.job import ExportJob, ExportStatus
from pwff_core.export.options import CHROME_FORMATS, FIGURE_FORMATS, TABLE_FORMATS, ExportOptions, parse_options
from pwff_core.figures.printing import PRESETS, SizeId
from pwff_core.runs.recording import recording_of
from pwff_core.runs.store import Store

LOOK_S = 0.7
_LABELS = {"png": "PNG", "svg": "SVG", "pdf": "PDF", "html": "HTML", "csv": "CSV", "json": "JSON", "parquet": "Parquet"}
_TYPES = {"csv": "text/csv", "json": "application/json", "html": "text/html", "toml": "application/toml"}


class Offer(NamedTuple):
    """What can be taken home, from one panel."""

    subject: str  # what it is of; a zip of another subject is not offered
    prefix: str  # of a single file's name
    bundle: Callable[[ExportOptions], Bundle]
    singles: tuple[str, ...]  # files to take one by one
    explained: str  # what is in them


class Prepared(NamedTuple):
    """A zip that was asked for in this session."""

    subject: str
    options: ExportOptions
    job: ExportJob


def draw_export(store: Store, run_id: str, key: str) -> None:
    """The panel of one run; `key` tells several panels of a page apart."""
    singles = [f"{table}.{form}" for table in ("rounds", "clients") for form in TABLE_FORMATS]
    offer = Offer(
        run_id,
        f"pwff-{run_id}-",
        lambda options: run_bundle(recording_of(store, run_id), options),
        (*singles, "run.json", "config.toml", WEB_PAGE),
        "*rounds* has a row a round, *clients* a row a client and round; *run.json* is the whole run, *config.toml* "
        "its settings for `pwff run --config`, *figures.html* all charts, which work without a network.",
    )
    _panel(offer, key)


def draw_export_comparison(
    name: str,
    figures: Mapping[str, Callable[[], Any]],
    tables: Mapping[str, pd.DataFrame],
    *,
    captions: Mapping[str, str],
    about: str,
    config: RunConfig,
    key: str,
) -> None:
    """The panel of a comparison: `figures` draw plotly Figures when they are needed. See `comparison_bundle`."""

    def bundle(options: ExportOptions) -> Bundle:
        drawn = {} if options.content == "tables" else figures
        return comparison_bundle(name, about, drawn, captions, tables, config)

    singles = [f"{table}.{form}" for table in tables for form in TABLE_FORMATS]
    offer = Offer(
        name,
        "pwff-comparison-",
        bundle,
        (*singles, "config.toml", WEB_PAGE),
        "*config.toml* holds the settings of its first run, from which the others differ in method and seed alone; "
        "*figures.html* holds all charts, which work without a network.",
    )
    _panel(offer, key)


def _panel(offer: Offer, key: str) -> None:
    with st.expander("Export", icon=":material/download:", key=f"export:{key}"):
        looking = _going(key, offer)
        st.fragment(partial(_inside, offer, key, looking=looking), run_every=LOOK_S if looking else None)()


def _going(key: str, offer: Offer) -> bool:
    prepared = _prepared(key, offer)
    return prepared is not None and not prepared.job.status().ended


def _prepared(key: str, offer: Offer) -> Prepared | None:
    """This session's zip of the panel; one of another subject is thrown away."""
    found: Prepared | None = st.session_state.get(f"export:zip:{key}")
    if found and found.subject != offer.subject:
        _throw_away(key)
        return None
    return found


def _throw_away(key: str) -> None:
    found: Prepared | None = st.session_state.pop(f"export:zip:{key}", None)
    if found:
        found.job.close()


def _inside(offer: Offer, key: str, *, looking: bool) -> None:
    if _going(key, offer) != looking:
        st.rerun()  # so that the panel begins, or ends, to look by itself
    _zip(offer, key, looking=looking)
    st.markdown("**One file, at once**")
    st.caption(offer.explained)
    with st.container(horizontal=True, key=f"export:singles:{key}"):
        for name in offer.singles:
            st.download_button(
                name,
                partial(_single, offer, name),
                file_name=f"{offer.prefix}{name}",
                mime=_TYPES.get(name.rpartition(".")[2], "application/octet-stream"),
                on_click="ignore",
                key=f"export:{name}:{key}",
            )


def _single(offer: Offer, name: str) -> bytes:
    options = parse_options("figures", ["html"]) if name == WEB_PAGE else parse_options("tables")
    return file_bytes(offer.bundle(options), name)


def _zip(offer: Offer, key: str, *, looking: bool) -> None:
    """Size, formats, the button, and how the zip comes along."""
    st.markdown("**Everything in one zip: figures, tables, settings, captions**")
    missing = "" if find_chrome() else no_chrome_words()
    formats = [one for one in (*FIGURE_FORMATS, *TABLE_FORMATS) if not missing or one not in CHROME_FORMATS]
    if missing:
        st.info(plain(missing), icon=":material/info:")
    size: SizeId = st.segmented_control(
        "Size of the figures",
        list(PRESETS),
        default="ieee-1",
        required=True,
        format_func=lambda one: PRESETS[one].label,
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
        args=(offer, key, tuple(chosen), size),
        disabled=looking or not chosen,
        help=None if chosen else "Choose a format first.",
    )
    if problem := st.session_state.pop(f"export:problem:{key}", ""):
        st.error(plain(sentence(problem)))
    if prepared := _prepared(key, offer):
        _state(prepared, prepared.job.status(), key)


def _prepare(offer: Offer, key: str, formats: tuple[str, ...], size: SizeId) -> None:
    """Callback: starts the process that writes the zip."""
    _throw_away(key)
    try:
        options = parse_options("zip", formats, size)
        prepared = Prepared(offer.subject, options, ExportJob(offer.bundle(options), options))
        st.session_state[f"export:zip:{key}"] = prepared
    except PwffError as error:
        st.session_state[f"export:problem:{key}"] = str(error)
    except OSError as error:
        st.session_state[f"export:problem:{key}"] = (
            f"The zip cannot be prepared ({error.strerror}); make room on the disk."
        )


def _state(prepared: Prepared, status: ExportStatus, key: str) -> None:
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
    inside = ", ".join(_LABELS[one] for one in prepared.options.formats)
    st.download_button(
        f"Download {prepared.job.name} ({status.file.stat().st_size / 1e6:.1f} MB)",
        partial(Path.read_bytes, status.file),
        file_name=prepared.job.name,
        mime="application/zip",
        type="primary",
        icon=":material/download:",
        on_click="ignore",
        key=f"export:download:{key}",
        help=f"{PRESETS[prepared.options.size].label}: {inside}.",
    )
