"""What is in the files of an export: settings as TOML, captions, the README, tables, and all figures as a web page."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping
from html import escape
from typing import Any

import pandas as pd
import plotly.graph_objects as go
from plotly.io import to_html
from plotly.offline import get_plotlyjs
from pydantic import BaseModel

from pwff_core.config import RunConfig, stage_rounds
from pwff_core.export.options import TableFormat
from pwff_core.figures.changes import steering_words
from pwff_core.figures.frames import setting_text
from pwff_core.figures.panel_figure import safe_cell
from pwff_core.figures.printing import PRESETS, SizeId
from pwff_core.knobs import knobs
from pwff_core.methods import METHODS
from pwff_core.records import ClientRecord, RoundRecord
from pwff_core.runs.recording import Recording

_FADING = {"rayleigh": "Rayleigh fading", "awgn": "no fading (AWGN)"}
_KEYS = ("run", "method", "stage", "round")
_NUMBERS: tuple[Any, ...] = (float, float | None)  # the annotations of a record's fields that become float64
_FIGURE_HEIGHT = "460px"
_PAGE_STYLE = (
    "body{font:16px/1.5 system-ui,sans-serif;color:#1b2733;max-width:1000px;margin:2rem auto;padding:0 1rem}"
    "figure{margin:2.5rem 0}figcaption{margin-top:.5rem}"
)


def config_toml(config: RunConfig) -> str:
    """All settings as TOML, which `pwff run --config` reads back. TOML has no null: such a setting says "none"."""
    sections: dict[str, list[str]] = {"": []}
    for path, knob in knobs(config).items():
        section, _, name = path.rpartition(".")
        unit = f"  # {knob.unit}" if knob.unit else ""
        sections.setdefault(section, []).append(f"{name} = {toml_value(knob.value)}{unit}")
    blocks = ["\n".join([f"[{section}]"] * bool(section) + lines) for section, lines in sections.items()]
    return "\n\n".join(blocks) + "\n"


def toml_value(value: Any) -> str:
    """A setting's value as TOML."""
    if value is None:
        return '"none"'
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):  # JSON's escapes are TOML's, but for one control character that JSON lets through
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, tuple):
        return f"[{', '.join(toml_value(item) for item in value)}]"
    return repr(value)  # 5, 0.01, 1e-05, inf: as TOML writes them


def config_words(config: RunConfig) -> str:
    """The settings that matter most, as a caption names them."""
    channel = config.channel
    rounds = ", ".join(f"{count} of {stage}" for stage, count in stage_rounds(config).items())
    return (
        f"{METHODS[config.method].label}, {config.clients} clients, mean SNR {channel.snr_db:g} dB, "
        f"{setting_text(channel.bandwidth_hz, 'Hz')} and {setting_text(channel.transmit_power_w, 'W')} a client, "
        f"{_FADING[channel.fading]}; rounds at the most: {rounds or 'none'}; seed {config.seed}"
    )


def run_words(recording: Recording) -> str:
    """What run this is, how it was steered, and what of it is real, in a few sentences."""
    row = recording.row
    name = f" ({row.name})" if row.name else ""
    done = f"{len(recording.records)} of {row.rounds_total} rounds played, {row.status.value}"
    steered = "".join(f" {steering_words(steering)}." for steering in recording.steerings)
    priced = " and priced as for GPT-2 small" if row.config.price_as == "gpt2" else ""
    return (
        f"Run {row.id}{name}: {config_words(row.config)}; {done}.{steered} The training is real; the channel, and with "
        f"it delay and energy, is simulated{priced}."
    )


def versions_words(versions: Mapping[str, str]) -> str:
    """'Python 3.11.2, pwff 0.1.0'."""
    return ", ".join(f"{'Python' if name == 'python' else name} {version}" for name, version in versions.items())


def caption_text(about: str, captions: Mapping[str, str]) -> str:
    """The captions of figures, each beginning with the name of its file, and what all of them show."""
    parts = [f"{name}: {caption}" for name, caption in captions.items()]
    return "\n\n".join([*parts, f"All: {about}"]) + "\n"


def readme_text(title: str, about: str, files: Iterable[str], size: SizeId, versions: Mapping[str, str]) -> str:
    """What lies in the folder, and what to do with it."""
    # pictures differ in name only: a line for each format
    names = dict.fromkeys(re.sub(r"[^/]+(\.(png|svg|pdf))$", r"*\1", file) for file in files)
    listing = "\n".join(f"  {file:<24} {_explain(file, size)}" for file in names)
    notes = _REPLAY_NOTE * ("config.toml" in names) + _STEERING_NOTE * ("run.json" in names)
    return f"""{title}
{"=" * len(title)}

{about}

Files
-----
{listing}

{notes}Numbers are in SI units (s, J, bit, bit/s), in dB, or in standard deviations of the judge's scores (sd);
shares are shares of 1 in tables and % in figures. What was not measured is empty.

Made with: {versions_words(versions)}
"""


_REPLAY_NOTE = """\
To play such a run again: pwff run --config config.toml
The same settings and seed give the same numbers on the same computer with the same versions.

"""
_STEERING_NOTE = """\
Settings that were changed while the run was going are not in config.toml: run.json has them, with the
round from which each held.

"""
_EXPLANATIONS = {
    "config.toml": "all settings, the seed among them; `pwff run --config` takes it",
    "run.json": "the whole run: settings, clients, changes, versions, every round and client",
    "caption.txt": "a caption for every figure",
    "rounds": "one row a round",
    "clients": "one row a client and round",
    "html": "all figures in one page; opens in any browser, without a network",
    "png": "for documents and web pages",
    "svg": "to edit, for instance in Inkscape",
    "pdf": "for LaTeX: \\includegraphics, without a scale",
}


def _explain(file: str, size: SizeId) -> str:
    path = file.rpartition("/")[2]
    stem, _, form = path.rpartition(".")
    text = _EXPLANATIONS.get(path) or _EXPLANATIONS.get(stem) or _EXPLANATIONS.get(form) or "a table"
    preset = PRESETS[size]
    return f"{preset.width_in:.4g} × {preset.height_in:g} in; {text}" if form in ("png", "svg", "pdf") else text


def rounds_table(records: Iterable[RoundRecord]) -> pd.DataFrame:
    """(rounds, fields): what a stage does not measure is missing."""
    rows = [record.model_dump(exclude={"clients"}) for record in records]
    return _with_types(pd.DataFrame(rows, columns=[name for name in RoundRecord.model_fields if name != "clients"]))


def clients_table(records: Iterable[RoundRecord]) -> pd.DataFrame:
    """(rounds · clients, fields): a row is one client in one round, with its run, method, stage and round in front."""
    rows = [
        {key: getattr(record, key) for key in _KEYS} | client.model_dump()
        for record in records
        for client in record.clients
    ]
    return _with_types(pd.DataFrame(rows, columns=[*_KEYS, *ClientRecord.model_fields]))


def _with_types(table: pd.DataFrame) -> pd.DataFrame:
    """Numbers as float64 even where none was measured, so that the tables of all runs have the same types."""
    models: tuple[type[BaseModel], ...] = (RoundRecord, ClientRecord)
    numbers = {name for model in models for name, field in model.model_fields.items() if field.annotation in _NUMBERS}
    return table.astype({name: "float64" for name in table.columns if name in numbers})


def table_bytes(table: pd.DataFrame, table_format: TableFormat) -> bytes:
    """The table as a file: CSV in UTF-8; JSON, a list of objects (missing: null, infinite: "Infinity"); Parquet."""
    if table_format == "parquet":
        parquet: bytes = table.to_parquet(index=False)
        return parquet
    if table_format == "csv":
        texts = table.select_dtypes("str").columns  # people wrote some of them: no spreadsheet may compute them
        text: str = table.assign(**{name: table[name].map(safe_cell, "ignore") for name in texts}).to_csv(
            index=False, lineterminator="\n"
        )
        return text.encode()
    rows = [{name: _json_value(value) for name, value in row.items()} for row in table.to_dict(orient="records")]
    return (json.dumps(rows, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode()


def _json_value(value: Any) -> Any:
    """A value that strict JSON can hold; infinite numbers as the run's own JSON has them."""
    if not isinstance(value, float) or math.isfinite(value):
        return value
    return None if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


def web_page(title: str, about: str, figures: Mapping[str, go.Figure], captions: Mapping[str, str]) -> str:
    """The figures below each other, each with its caption, as one HTML text of about 5 MB."""
    body = "\n".join(_figure_html(name, figure, captions.get(name, "")) for name, figure in figures.items())
    return (
        f'<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n<title>{escape(title)}</title>\n'
        f"<style>{_PAGE_STYLE}</style>\n<script>{get_plotlyjs()}</script>\n</head>\n<body>\n"
        f"<h1>{escape(title)}</h1>\n<p>{escape(about)}</p>\n{body}\n</body>\n</html>\n"
    )


def _figure_html(name: str, figure: go.Figure, caption: str) -> str:
    config = {"displaylogo": False, "toImageButtonOptions": {"format": "svg", "filename": name}}
    chart = to_html(
        figure,
        config=config,
        full_html=False,
        include_plotlyjs=False,
        default_height=_FIGURE_HEIGHT,
        div_id=f"figure-{name}",
    )
    label = escape(caption or name, quote=True)
    return (
        f'<figure><div role="img" aria-label="{label}">{chart}</div><figcaption>{escape(caption)}</figcaption></figure>'
    )
