"""What an export says in words: settings as TOML, captions, and the README of a folder."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

from pwff_core.config import RunConfig, stage_rounds
from pwff_core.figures import PRESETS, SizeId, setting_text, steering_words
from pwff_core.knobs import knobs
from pwff_core.methods import METHODS
from pwff_core.runs.recording import Recording

_FADING = {"rayleigh": "Rayleigh fading", "awgn": "no fading (AWGN)"}


def config_toml(config: RunConfig) -> str:
    """All settings as TOML that `pwff run --config` takes back; TOML has no none, so one that is none says "none"."""
    sections: dict[str, list[str]] = {"": []}
    for path, entry in knobs(config).items():  # whose defaults are this config's values
        section, _, name = path.rpartition(".")
        unit = f"  # {entry.unit}" if entry.unit else ""
        sections.setdefault(section, []).append(f"{name} = {_toml(entry.value)}{unit}")
    blocks = ["\n".join([f"[{section}]"] * bool(section) + lines) for section, lines in sections.items()]
    return "\n\n".join(blocks) + "\n"


def _toml(value: Any) -> str:
    if value is None:
        return '"none"'
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):  # JSON's escapes are TOML's, but for one control character that JSON lets through
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, tuple):
        return f"[{', '.join(_toml(one) for one in value)}]"
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
    steered = "".join(f" {steering_words(one)}." for one in recording.steerings)
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
    shown = dict.fromkeys(re.sub(r"[^/]+(\.(png|svg|pdf))$", r"*\1", file) for file in files)
    listed = "\n".join(f"  {file:<24} {_explained(file, size)}" for file in shown)
    again = _AGAIN * ("config.toml" in shown) + _STEERED * ("run.json" in shown)
    return f"""{title}
{"=" * len(title)}

{about}

Files
-----
{listed}

{again}Numbers are in SI units (s, J, bit, bit/s), in dB, or in standard deviations of the judge's scores (sd);
shares are shares of 1 in tables and % in figures. What was not measured is empty.

Made with: {versions_words(versions)}
"""


_AGAIN = """To play such a run again: pwff run --config config.toml
The same settings and seed give the same numbers on the same computer with the same versions.

"""
_STEERED = """Settings that were changed while the run was going are not in config.toml: run.json has them, with the
round from which each held.

"""
_EXPLAINED = {
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


def _explained(file: str, size: SizeId) -> str:
    path = file.rpartition("/")[2]
    stem, _, form = path.rpartition(".")
    said = _EXPLAINED.get(path) or _EXPLAINED.get(stem) or _EXPLAINED.get(form) or "a table"
    preset = PRESETS[size]
    return f"{preset.width_in:.4g} × {preset.height_in:g} in; {said}" if form in ("png", "svg", "pdf") else said
