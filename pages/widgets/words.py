"""What the pages say: settings, status and prices as short sentences."""

from __future__ import annotations

import re
from collections.abc import Sequence
from statistics import median

from pwff_core.config import RunConfig
from pwff_core.methods import METHODS, Group
from pwff_core.records import RoundRecord
from pwff_core.store import RunRow, RunStatus
from pwff_core.units import seconds_text, with_prefix

GROUP_LABELS: dict[Group, str] = {"adapters": "adapters", "lora": "LoRA"}
FADING_LABELS = {"rayleigh": "Rayleigh fading", "awgn": "no fading (AWGN)"}
_RECENT_ROUNDS = 5  # the time left is told from as many rounds: the first is slower than the others


def plain(text: str) -> str:
    """Text that Streamlit shows letter for letter: whatever Markdown would read as more than text is escaped."""
    return re.sub(r"([\\`*_{}\[\]()#+\-.!|~$:<>])", r"\\\1", text)


def sentence(text: str) -> str:
    """The text with a capital letter first, unless it starts with the name of a setting."""
    return text if "_" in text.partition(" ")[0] else text[:1].upper() + text[1:]


def setting_text(value: float, unit: str) -> str:
    """A number that somebody chose, with a prefix and no digits that were not chosen: '1 MHz', '1.5 W'."""
    number, _, rest = with_prefix(value, unit, digits=4).partition(" ")
    return f"{number.rstrip('0').rstrip('.') if '.' in number else number} {rest}"


def settings_words(config: RunConfig) -> str:
    """The settings that matter most, in a line."""
    channel, stage = config.channel, config.instruction
    return (
        f"{METHODS[config.method].label} · {config.clients} clients · {channel.snr_db:g} dB, "
        f"{setting_text(channel.bandwidth_hz, 'Hz')}, {FADING_LABELS[channel.fading]} · "
        f"{stage.rounds} rounds of {stage.local_steps} steps · seed {config.seed}"
    )


def count(number: int, noun: str) -> str:
    """'1 round', '2 rounds'."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def seconds_left(row: RunRow, records: Sequence[RoundRecord]) -> float | None:
    """Seconds of computing until the last round, from the recent rounds; None before the first."""
    if not records:
        return None
    return median(record.wall_s for record in records[-_RECENT_ROUNDS:]) * max(row.rounds_total - len(records), 0)


def status_words(row: RunRow, records: Sequence[RoundRecord], stopping: bool) -> str:
    """Where a run stands, in a sentence."""
    done, total = len(records), row.rounds_total
    if row.status is RunStatus.QUEUED:
        return "Waiting for the engine."
    if row.status is RunStatus.RUNNING:
        if stopping:
            return f"Stopping after the round that is being trained ({count(done, 'round')} done)."
        if not row.profiles:
            return "The engine loads the model and deals out the data."
        left = seconds_left(row, records)
        round_now = f"Round {min(done + 1, total)} of {total}"
        return f"{round_now} is being trained." if left is None else f"{round_now} · about {seconds_text(left)} left"
    spent = seconds_text(sum(record.wall_s for record in records))
    if row.status is RunStatus.FINISHED:
        return f"Finished: {count(done, 'round')} in {spent} of computing."
    if row.status is RunStatus.STOPPED:
        stopped = row.message or f"Stopped after {count(done, 'round')}."
        return f"{stopped} What was measured is kept."
    reason = row.message or "The engine gave no reason."
    kept = {0: "No round was complete.", 1: "Its 1 round is kept."}.get(done, f"Its {done} rounds are kept.")
    where = f"Failed in round {done + 1}" if row.profiles else "Failed before the first round"
    return f"{where}: {reason}" if " kept" in reason else f"{where}: {reason} {kept}"
