"""What the pages say: settings, status and prices as short sentences."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from statistics import median

from pwff_core.config import RunConfig, stage_rounds
from pwff_core.figures.changes import WEIGHTS, value_words
from pwff_core.figures.frames import STAGE_NAMES, Span, setting_text
from pwff_core.knobs import knobs
from pwff_core.methods import AXES, METHODS, Group
from pwff_core.records import RoundRecord, Stage, Value
from pwff_core.runs.store import RunRow, RunStatus
from pwff_core.units import seconds_text

GROUP_LABELS: dict[Group, str] = {"adapters": "adapters", "lora": "LoRA"}
FADING_LABELS = {"rayleigh": "Rayleigh fading", "awgn": "no fading (AWGN)"}
_RECENT_ROUNDS = 5  # the time left is reckoned from so many rounds: the first is slower than the others
# how long a round takes in one stage beside another: a guess, until the stage's first round is through
_ROUND_RATIOS: dict[Stage, float] = {"instruction": 1.0, "reward": 1.0, "alignment": 3.0}
_NO_WIDTH = "\u2060"
_ADDRESS = re.compile(r"https?:(?=//)|www(?=\.)|(?=@)", re.IGNORECASE)
_NEAR_CHANCE = 0.55  # a reward model that ranks no more held-out pairs right than this has hardly learned anything


def plain(text: str) -> str:
    """Text that Streamlit shows letter for letter: whatever Markdown would read as more than text is escaped.

    Streamlit makes links of addresses even in escaped text, so a letter of no width parts those.
    """
    text = _ADDRESS.sub(f"\\g<0>{_NO_WIDTH}", text)
    return re.sub(r"([\\`*_{}\[\]()#+\-.!|~$:<>&=])", r"\\\1", text)


def sentence(text: str) -> str:
    """The text with a capital letter first, unless it starts with the name of a setting."""
    return text if "_" in text.partition(" ")[0] else text[:1].upper() + text[1:]


def settings_words(config: RunConfig, stages: Mapping[Stage, int] | None = None) -> str:
    """The settings that matter most, in a line; `stages` where a run has other rounds than its settings say now."""
    return f"{METHODS[config.method].label} · {shared_settings_words(config, stages)} · seed {config.seed}"


def shared_settings_words(config: RunConfig, stages: Mapping[Stage, int] | None = None) -> str:
    """The same without method and seed, in which the runs of a comparison differ."""
    channel = config.channel
    rounds = " + ".join(f"{number}" for number in (stage_rounds(config) if stages is None else stages).values())
    return (
        f"{config.clients} clients · {channel.snr_db:g} dB, {setting_text(channel.bandwidth_hz, 'Hz')}, "
        f"{FADING_LABELS[channel.fading]} · {rounds or 'no'} rounds"
    )


def count(number: int, noun: str) -> str:
    """'1 round', '2 rounds'."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def seconds_left(spans: Sequence[Span], records: Sequence[RoundRecord]) -> float | None:
    """Seconds of computing until the last round, over all stages; None before the first round.

    A stage that has begun goes on as in its recent rounds; the others are guessed from the stage that plays.
    """
    if not records:
        return None
    round_s: dict[Stage, float] = {}
    for span in (span for span in spans if span.done):
        recent = records[span.first - 1 : span.first - 1 + span.done][-_RECENT_ROUNDS:]
        round_s[span.stage] = median(record.wall_s for record in recent)
    now = records[-1].stage
    unit = round_s[now] / _ROUND_RATIOS[now]
    return sum((span.rounds - span.done) * round_s.get(span.stage, unit * _ROUND_RATIOS[span.stage]) for span in spans)


def status_words(
    row: RunRow,
    records: Sequence[RoundRecord],
    spans: Sequence[Span],
    pending: frozenset[str] = frozenset(),
    position: int = 0,
) -> str:
    """Where a run stands, in a sentence or two.

    `pending`: the commands that were asked of it and are not done yet; `position`: in the queue, from 1.
    """
    done = len(records)
    if row.status is RunStatus.QUEUED:
        if not row.in_queue:
            return "Waiting for the engine."
        place = f" at position {position}" if position else ""
        return f"Waits in the queue{place}; it starts by itself once the runs before it have ended."
    if row.status is RunStatus.RUNNING:
        return _running_words(row, records, spans, pending)
    if row.status is RunStatus.STALLED:
        then = "stops" if "stop" in pending else "pauses" if "pause" in pending else ""
        return f"{held_up_words(row)}{f' It {then} as soon as it goes on.' if then else ''}"
    if row.status is RunStatus.PAUSED:
        after = f"Paused after {count(done, 'round')} of {sum(span.rounds for span in spans)}."
        if "stop" in pending:
            return f"{after} Stopping."
        return f"{after} {'Going on.' if 'resume' in pending else 'Resume goes on with the next round.'}"
    spent = seconds_text(sum(record.wall_s for record in records))
    if row.status is RunStatus.FINISHED:
        parts = (f"Finished: {count(done, 'round')} in {spent} of computing.", early_words(spans), row.message)
        return " ".join(part for part in parts if part)
    if row.status is RunStatus.STOPPED:
        stopped = row.message or f"Stopped after {count(done, 'round')}."
        return f"{stopped} What was measured is kept."
    return failed_words(row, done)


def failed_words(row: RunRow, done: int) -> str:
    """Where and why a run has failed, and how many of its rounds are kept."""
    reason = row.message or "The engine gave no reason."
    kept = {0: "No round was complete.", 1: "Its 1 round is kept."}.get(done, f"Its {done} rounds are kept.")
    where = f"Failed in round {done + 1}" if row.profiles else "Failed before the first round"
    complete = row.end is not None and row.end.says_what_is_kept
    return f"{where}: {reason}" if complete else f"{where}: {reason} {kept}"


def held_up_words(row: RunRow) -> str:
    """Why a run is held up, and that nothing is lost by it."""
    safe = "Its rounds are safe; should the engine end, the run can be resumed."
    return f"Held up after {count(row.rounds_done, 'round')} of {row.rounds_total}: {row.message} {safe}"


def resume_words(row: RunRow, checkpoints: Sequence[int]) -> str:
    """What Resume would do to a run that has ended before its time; `checkpoints` are the rounds that have one."""
    done = row.rounds_done
    if not done:
        return "Resume starts it anew: it has no round yet."
    first = 1 + max((position for position in checkpoints if position <= done), default=0)
    # a checkpoint is written behind the training, so one round is often missing, and nobody will notice
    again = f", once rounds {first} to {done} have been computed again" if first < done else ""
    return f"Resume goes on after round {done}{again}; all that was measured stays."


def _running_words(row: RunRow, records: Sequence[RoundRecord], spans: Sequence[Span], pending: frozenset[str]) -> str:
    if "stop" in pending:
        return f"Stopping after the round that is being trained ({count(len(records), 'round')} done)."
    if "pause" in pending:
        return f"Pausing after the round that is being trained ({count(len(records), 'round')} done)."
    if not row.profiles or not spans:
        return "The engine loads the model and deals out the data."
    if row.message:  # a run that was resumed is on its way back to where it stood
        return row.message
    left = seconds_left(spans, records)
    number, span = next(
        ((number, span) for number, span in enumerate(spans, start=1) if span.done < span.rounds),
        (len(spans), spans[-1]),
    )
    round_now = f"ound {min(span.done + 1, span.rounds)} of {span.rounds}"
    stage = f"Stage {number} of {len(spans)}, {STAGE_NAMES[span.stage]}: r" if len(spans) > 1 else "R"
    if left is None:
        return f"{stage}{round_now} is being trained."
    return f"{stage}{round_now} · about {seconds_text(left)} left. {early_words(spans)}".rstrip(". ")


def change_words(path: str, value: Value) -> str:
    """A setting and its value: 'SNR 0 dB', or 'preferences' for the weights of all clients."""
    return "preferences" if path == WEIGHTS else f"{knobs()[path].label} {value_words(path, value)}"


def pending_words(changes: Mapping[str, Value]) -> list[str]:
    """A line for each setting that was asked of a run and does not hold yet, without its full stop."""
    return [
        f"{change_words(path, value)}: asked, {'hold' if path == WEIGHTS else 'holds'} from the next round"
        for path, value in changes.items()
    ]


def early_words(spans: Sequence[Span]) -> str:
    """Which stages ended before all their rounds were played, and why; "" where none did."""
    parts = []
    for span in (span for span in spans if span.early):
        why = f": {span.reason.rstrip('.')}" if span.reason else ""
        parts.append(f"{sentence(STAGE_NAMES[span.stage])} ended after {span.rounds} of {span.planned} rounds{why}.")
    return " ".join(parts)


def doubts(spans: Sequence[Span], records: Sequence[RoundRecord]) -> list[str]:
    """A warning for each reward model that, once learned, hardly beats chance on held-out pairs."""
    span = next((span for span in spans if span.stage == "reward" and span.done == span.rounds), None)
    if span is None:
        return []
    last = records[span.last - 1]
    shares = ((axis, getattr(last, f"{axis}_accuracy")) for axis in AXES)
    return [
        f"The {axis} reward model ranks {100 * share:.0f} % of held-out pairs right, and guessing gets 50 %: it has "
        f"hardly learned what {axis} is, so what alignment does with its scores means little. More training pairs, "
        "more rounds of reward learning or clearer pairs may help."
        for axis, share in shares
        if share is not None and share <= _NEAR_CHANCE
    ]
