"""The limits of a hosted app (`pwff app --hosted`), which keep a stranger's run within minutes.

The pages check before they create, resume or fork a run, and the run's worker checks again: what a page says is not
trusted. Outside a hosted app nothing is limited, and every function here lets everything through.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any, NamedTuple

from pydantic import ValidationError

from pwff_core.config import PreferencesConfig, RunConfig, stage_rounds
from pwff_core.errors import ConfigError
from pwff_core.knobs import Knob, Problem, allowed_values, explain, knobs, with_changes
from pwff_core.runs import uploads
from pwff_core.runs.processes import hosted

DAY_S = 24 * 3600.0


class Limits(NamedTuple):
    """What a hosted app allows."""

    rounds: int  # of all stages of a run
    work: float  # times the demo's computing
    going: int  # runs of a visitor that wait or play
    a_day: int  # runs of a visitor
    queue: int  # runs of everybody that wait
    most: Mapping[str, float]  # dotted path of a knob → its largest value
    only: Mapping[str, tuple[str, ...]]  # dotted path of a knob → the values that it may have


_LIMITS = Limits(
    rounds=60,
    work=4.0,
    going=3,
    a_day=20,
    queue=30,
    most={
        "clients": 20,
        "instruction.rounds": 60,
        "instruction.local_steps": 50,
        "instruction.batch_size": 16,
        "reward.rounds": 60,
        "reward.local_steps": 50,
        "reward.batch_size": 64,
        "reward.hidden": 256,
        "reward.train_pairs": 256,
        "reward.test_pairs": 128,
        "alignment.rounds": 60,
        "alignment.batch_size": 32,
        "alignment.local_steps": 8,
        "alignment.minibatches": 16,
        "alignment.critic_steps": 20,
        "alignment.critic_warmup": 100,
        "alignment.max_new_tokens": 96,
        "alignment.test_prompts": 30,
        "adapter.bottleneck": 64,
        "lora.rank": 64,
        "data.max_rows": 100_000,
        "data.train_examples": 500,
        "data.test_examples": 100,
        "data.topics": 50,
        "data.max_length": 128,
    },
    only={
        "preset": ("demo",),
        "backbone": ("demo",),
        "reward.encoder": ("demo",),
        "reward.helpful_source": ("demo",),
        "reward.harmless_source": ("demo",),
        "data.source": ("demo",),  # or a file that was uploaded here
    },
)


def limits() -> Limits | None:
    """The limits of this app; None where it is not hosted."""
    return _LIMITS if hosted() else None


def summary() -> str:
    """The limits in a sentence, for whoever starts a hosted app."""
    caps = _LIMITS
    return (
        f"Hosted: runs of at most {caps.most['clients']:.0f} clients, {caps.rounds} rounds and {caps.work:g} times the "
        f"demo's computing, on the embedded models; a visitor has {caps.going} runs at a time and {caps.a_day} a day, "
        f"the queue {caps.queue} places."
    )


def owner_of(browser: str) -> str:
    """The owner of a browser's runs: a hash of the id that the browser keeps, as 32 hexadecimal digits."""
    return hashlib.sha256(f"pwff-visitor:{browser}".encode()).hexdigest()[:32]


def bounded(entry: Knob) -> Knob:
    """A knob with this app's largest value and choices instead of its own."""
    caps = limits()
    if caps is None:
        return entry
    if entry.path in caps.only and entry.choices:
        return entry._replace(choices=caps.only[entry.path])
    return entry._replace(high=caps.most.get(entry.path, entry.high))


def offered(path: str) -> bool:
    """Whether there is anything to choose at a knob."""
    caps = limits()
    return caps is None or len(caps.only.get(path, ("", ""))) > 1


def check(config: RunConfig) -> None:
    """ConfigError with a sentence for each limit of this app that a run would pass; nothing where it is not hosted."""
    if exceeded := problems(config):
        raise ConfigError(" ".join(str(problem) for problem in exceeded.values()))


def read_config(tree: dict[str, Any]) -> tuple[RunConfig | None, dict[str, Problem]]:
    """The config of nested dicts and no problem, or None and each problem by dotted path."""
    try:
        config = RunConfig.model_validate(tree)
    except ValidationError as error:
        return None, explain(error)
    exceeded = problems(config)
    return (None, exceeded) if exceeded else (config, {})


def problems(config: RunConfig) -> dict[str, Problem]:
    """Each limit of this app that a config exceeds, by dotted path; "" is the run as a whole."""
    caps = limits()
    if caps is None:
        return {}
    exceeded: dict[str, Problem] = {}
    for path, entry in knobs(config).items():
        if path in caps.only and not _is_offered(entry, caps.only[path]):
            exceeded[path] = Problem(
                path, f"{_short(entry.value)} is not offered on this hosted app; {_advice(path, caps)}."
            )
        elif path in caps.most and entry.value > caps.most[path]:
            exceeded[path] = Problem(
                path, f"{entry.value:,} is more than this hosted app allows; {allowed_values(bounded(entry))}."
            )
    rounds, times = sum(stage_rounds(config).values()), work(config)
    if rounds > caps.rounds:
        exceeded[""] = Problem(
            "", f"The stages have {rounds:,} rounds together; this hosted app allows {caps.rounds} in a run."
        )
    elif not exceeded and times > caps.work:
        exceeded[""] = Problem(
            "",
            f"This run would take about {times:,.1f} times the demo's computing; this hosted app allows {caps.work:g} "
            "times. Choose fewer clients, rounds, steps, examples or prompts.",
        )
    return exceeded


def clamp(config: RunConfig) -> RunConfig:
    """The config with every knob moved to the nearest value that this app allows."""
    caps = limits()
    if caps is None:
        return config
    entries, changes = knobs(config), dict[str, Any]()
    for path in problems(config):
        if path:
            changes[path] = caps.only[path][0] if path in caps.only else type(entries[path].value)(caps.most[path])
    if "clients" in changes:
        config = config.model_copy(update={"preferences": PreferencesConfig()})  # there was one weight a client
    return with_changes(config, changes)


def refusal(*, going: int, today: int | None, waiting: int, more: int = 1) -> str:
    """Why a visitor cannot have so many runs `more` that wait or play, in a sentence; "" if they can.

    `going`: the visitor's runs that wait or play; `today`: those that were made in the last 24 hours, or None where a
    run is resumed and none is made; `waiting`: everybody's runs in the queue.
    """
    caps = limits()
    if caps is None:
        return ""
    if going + more > caps.going:
        return (
            f"On this hosted app a visitor may have {caps.going} runs that wait or play, and you would have "
            f"{going + more}; wait until one has ended, or stop one."
        )
    if today is not None and today + more > caps.a_day:
        return (
            f"On this hosted app a visitor may start {caps.a_day} runs within 24 hours, and this would be number "
            f"{today + more}; come back later, or run pwff on your own computer."
        )
    if waiting + more > caps.queue:
        return f"The queue of this hosted app is full ({waiting} of {caps.queue} places); try again in a few minutes."
    return ""


def work(config: RunConfig) -> float:
    """A run's computing, in demos: 1.0 for RunConfig(). Counted in tokens that pass through a model."""
    return _tokens(config) / _tokens(RunConfig())


def _tokens(config: RunConfig) -> int:
    """Tokens through a model, over all clients and rounds; a trained one counts three times (there and back)."""
    rounds, longest = stage_rounds(config), config.data.max_length
    instruction, reward, alignment = config.instruction, config.reward, config.alignment
    a_round = {
        "instruction": (3 * instruction.local_steps * instruction.batch_size + config.data.test_examples) * longest,
        # two axes, two answers a pair; a head learns from features that are computed once
        "reward": 4 * 3 * reward.local_steps * reward.batch_size * longest if reward.trainable == "all" else 0,
        "alignment": (alignment.batch_size * (1 + 3 * alignment.local_steps) + alignment.test_prompts)
        * (longest + alignment.max_new_tokens),
    }
    features = 4 * (reward.train_pairs + reward.test_pairs) * longest if "reward" in rounds else 0
    return config.clients * (features + sum(count * a_round[stage] for stage, count in rounds.items()))


def _is_offered(entry: Knob, offered_values: tuple[str, ...]) -> bool:
    return entry.value in offered_values or (entry.path == "data.source" and uploads.is_reference(entry.value))


def _advice(path: str, caps: Limits) -> str:
    values = f"give {' or '.join(caps.only[path])}"
    return f"{values}, or upload a file" if path == "data.source" else values


def _short(text: str) -> str:
    return repr(text if len(text) <= 40 else text[:37] + "…")
