"""Preferences: which of two answers is more helpful, which is more harmless; and the prompts of alignment.

Demo pairs are made from the embedded corpus. Both answers of a pair stand in random house styles, so that style says
nothing about which is better.

- *helpful*: the right answer over a wrong one (of the same kind, or off topic), a cut-off one or an evasive one; on
  delicate prompts complying over refusing.
- *harmless*: on delicate prompts refusing, with a safe alternative, over complying; a polite answer over a rude one;
  and ties, two polite answers to an ordinary prompt of which neither is better.

On delicate prompts the two axes contradict each other, and only the owner's weights can decide.
"""

from __future__ import annotations

import functools
import re
import tomllib
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal, NamedTuple, get_args

import numpy as np

from pwff_core import seeds
from pwff_core.config import RunConfig
from pwff_core.data import corpus
from pwff_core.data.corpus import Item, Pool
from pwff_core.data.partition import everyday_by_client, everyday_items
from pwff_core.data.styles import random_style
from pwff_core.methods import AXES, Axis
from pwff_core.paths import assets_dir

Flaw = Literal["wrong", "off-topic", "cut off", "evasive", "rude"]
FLAWS: tuple[Flaw, ...] = get_args(Flaw)
JUDGE_SEED = 20_238  # the judge is the same in every run, whatever the run's seed and settings
JUDGE_PAIRS = 384  # of each axis
REFERENCES = 192
ORDINARY_PROMPTS = 64  # of a client for rollouts, and as many held out
DELICATE_PAIRS = 0.4  # share of the pairs of an axis
TIES = 0.3  # share of harmlessness pairs
CLIENTS_SHARE = 0.25  # of evasive and rude phrases: clients alone see them
REFUSAL = re.compile(
    r"\bI (?:cannot|can't|can not|won't|will not) (?:help|assist|advise|do that|support)|\bI am sorry, but\b|"
    r"\bI'm sorry, but\b|\bnot something I can help with\b|\bI would rather not\b|\bI'd rather not\b",
    re.IGNORECASE,
)


class Pair(NamedTuple):
    """Two answers to an instruction, the better one first."""

    instruction: str
    chosen: str
    rejected: str
    tie: bool = False  # neither is better
    kind: str = ""  # the flaw of the rejected one, for reports


class Reference(NamedTuple):
    """An answer that scores are centred and scaled on."""

    instruction: str
    response: str


class ClientPreferences(NamedTuple):
    """One client's pairs by axis, and its prompts for alignment."""

    train: dict[Axis, tuple[Pair, ...]]
    test: dict[Axis, tuple[Pair, ...]]
    delicate: tuple[str, ...]  # prompts where helpfulness and harmlessness conflict
    ordinary: tuple[str, ...]
    test_delicate: tuple[str, ...]
    test_ordinary: tuple[str, ...]


class Preferences(NamedTuple):
    """Everybody's preferences, and what the judge and the scores' scale come from."""

    clients: list[ClientPreferences]
    judge: dict[Axis, tuple[Pair, ...]]
    references: tuple[Reference, ...]
    notes: tuple[str, ...]


def refuses(text: str) -> bool:
    """Whether an answer refuses, by its wording alone: independent of any reward model."""
    return REFUSAL.search(text) is not None


@functools.cache
def _answer_templates() -> dict[str, list[str]]:
    text = (assets_dir() / "answer_templates.toml").read_text(encoding="utf-8")
    templates: dict[str, list[str]] = tomllib.loads(text)
    return templates


def _phrase(name: str, general: bool, generator: np.random.Generator) -> str:
    """A phrase of a poor answer, from the encoder's part of the list (`general`) or from the clients'."""
    phrases = _answer_templates()[name]
    clients_count = round(len(phrases) * CLIENTS_SHARE)
    part = phrases[clients_count:] if general else phrases[:clients_count]
    return part[int(generator.integers(len(part)))]


class PairMaker:
    """Makes the demo's pairs from one pool of items; every draw comes from `generator`."""

    def __init__(self, name: Pool, generator: np.random.Generator) -> None:
        self._general = name == "general"
        self._generator = generator
        everyday = everyday_items(name)
        self._by_template: dict[tuple[str, str], list[Item]] = {}
        self._by_topic: dict[str, list[Item]] = {}
        for item in everyday:
            self._by_template.setdefault((item.topic, item.template), []).append(item)
            self._by_topic.setdefault(item.topic, []).append(item)

    def right_answer(self, item: Item) -> str:
        """The item's answer in a random style."""
        return item.render(random_style(self._generator)).text

    def flawed_answer(self, item: Item, flaw: Flaw) -> str:
        """An answer to the item's instruction with one flaw."""
        make: dict[Flaw, Callable[[Item], str]] = {
            "wrong": self._wrong, "off-topic": self._off_topic, "cut off": self._cut_off,
            "evasive": self._evasive, "rude": self._rude,
        }  # fmt: skip
        return make[flaw](item)

    def _pick(self, items: Sequence[Item]) -> Item:
        return items[int(self._generator.integers(len(items)))]

    def _wrong(self, item: Item) -> str:
        """The answer to another question of the template; of the topic, where the template has one answer only."""
        others = [other for other in self._by_template[item.topic, item.template] if _body(other) != _body(item)]
        if not others:
            others = [other for other in self._by_topic[item.topic] if other.template != item.template]
        return self.right_answer(self._pick(others))

    def _off_topic(self, item: Item) -> str:
        topics = [topic for topic in self._by_topic if topic != item.topic]
        return self.right_answer(self._pick(self._by_topic[topics[int(self._generator.integers(len(topics)))]]))

    def _cut_off(self, item: Item) -> str:
        words = self.right_answer(item).split(" ")
        return " ".join(words[: max(1, int(len(words) * self._generator.uniform(0.2, 0.7)))])

    def _evasive(self, item: Item) -> str:
        options = random_style(self._generator).options()
        return f"{options['opener']} {_phrase('evasive', self._general, self._generator)} {options['closing']}"

    def _rude(self, item: Item) -> str:
        """The right answer in a rude frame: before it, behind it, or both."""
        style = random_style(self._generator)
        text, frame = item.render(style).text, self._generator.integers(3)
        opener, closing = style.options()["opener"], style.options()["closing"]
        if frame != 1:
            text = _phrase("rude_openers", self._general, self._generator) + text.removeprefix(opener)
        if frame != 0:
            text = text.removesuffix(closing) + _phrase("rude_closings", self._general, self._generator)
        return text

    def helpful_pairs(self, items: Sequence[Item], delicate: Sequence[Item]) -> tuple[Pair, ...]:
        """Helpfulness pairs: one of each everyday item, with the flaws in turn, and one of each delicate item."""
        flaws: tuple[Flaw, ...] = ("wrong", "off-topic", "cut off", "evasive")
        pairs = [
            Pair(item.instruction, self.right_answer(item), self.flawed_answer(item, flaw), kind=flaw)
            for item, flaw in zip(items, _cycle(flaws, len(items)), strict=True)
        ]
        pairs += [self._delicate(item, refusing_wins=False) for item in delicate]
        return tuple(pairs)

    def harmless_pairs(self, items: Sequence[Item], delicate: Sequence[Item]) -> tuple[Pair, ...]:
        """Harmlessness pairs: a share of the everyday items as ties, the others polite over rude; and delicate ones."""
        ties = round(len(items) * TIES / (1.0 - DELICATE_PAIRS))
        pairs = [
            Pair(item.instruction, self.right_answer(item), self._equally_harmless(item), tie=True, kind="tie")
            for item in items[:ties]
        ]
        pairs += [
            Pair(item.instruction, self.right_answer(item), self.flawed_answer(item, "rude"), kind="rude")
            for item in items[ties:]
        ]
        pairs += [self._delicate(item, refusing_wins=True) for item in delicate]
        return tuple(pairs)

    def _equally_harmless(self, item: Item) -> str:
        """An answer as harmless as the right one: right in another style, or merely useless."""
        return self.right_answer(item) if self._generator.random() < 0.5 else self._evasive(item)

    def _delicate(self, item: Item, *, refusing_wins: bool) -> Pair:
        comply, refuse = (self.right_answer(answer) for answer in both_answers(item))
        if refusing_wins:
            return Pair(item.instruction, refuse, comply, kind="complies")
        return Pair(item.instruction, comply, refuse, kind="refuses")


def _body(item: Item) -> str:
    return item.answer + "/".join(item.steps)


def _cycle(values: Sequence[Any], count: int) -> list[Any]:
    return [values[index % len(values)] for index in range(count)]


@functools.cache
def _delicate_answers() -> dict[str, tuple[Item, Item]]:
    """Delicate prompt → (complying item, refusing item)."""
    by_prompt: dict[str, dict[bool, Item]] = {}
    for item in corpus.items():
        if item.topic == corpus.DELICATE:
            by_prompt.setdefault(item.instruction, {})[item.refuses] = item
    return {prompt: (answers[False], answers[True]) for prompt, answers in by_prompt.items()}


def both_answers(item: Item) -> tuple[Item, Item]:
    """The complying and the refusing item of a delicate prompt."""
    return _delicate_answers()[item.instruction]


def delicate_items(name: Pool) -> list[Item]:
    """An item for each delicate prompt of a pool, in a fixed order."""
    return [item for item in corpus.pool(name) if item.topic == corpus.DELICATE and not item.refuses]


def _shuffle(items: Sequence[Item], count: int, generator: np.random.Generator) -> list[Item]:
    """`count` items in a random order, again from the start when they run out."""
    order = generator.permutation(len(items))
    return [items[order[index % len(items)]] for index in range(count)]


def demo_preferences(config: RunConfig) -> Preferences:
    """The embedded corpus' pairs and prompts for `config.clients` clients.

    Everyday pairs follow the client's topic shares; training pairs are made from the training pool, test pairs and
    held-out prompts from the test pool (or the validation pool, as `data.evaluate_on` says).
    """
    held_out: Pool = config.data.evaluate_on
    train = _client_pairs(config, "train", config.reward.train_pairs)
    test = _client_pairs(config, held_out, config.reward.test_pairs)
    prompts = {name: _client_prompts(config, name) for name in ("train", held_out)}
    clients = [
        ClientPreferences(train[client], test[client], *prompts["train"][client], *prompts[held_out][client])
        for client in range(config.clients)
    ]
    return Preferences(
        clients,
        judge_pairs(),
        references(),
        ("Preference pairs: made from the embedded corpus, the same way for all.",),
    )


def _client_pairs(config: RunConfig, name: Pool, count: int) -> list[dict[Axis, tuple[Pair, ...]]]:
    delicate_count = round(count * DELICATE_PAIRS)
    everyday = {axis: everyday_by_client(name, count - delicate_count, config, f"pairs/{axis}") for axis in AXES}
    pairs: list[dict[Axis, tuple[Pair, ...]]] = []
    for client in range(config.clients):
        generator = seeds.generator(config.seed, "pairs", name, client)
        maker = PairMaker(name, generator)
        delicate = {axis: _shuffle(delicate_items(name), delicate_count, generator) for axis in AXES}
        pairs.append(
            {
                "helpfulness": maker.helpful_pairs(everyday["helpfulness"][client], delicate["helpfulness"]),
                "harmlessness": maker.harmless_pairs(everyday["harmlessness"][client], delicate["harmlessness"]),
            }
        )
    return pairs


def _client_prompts(config: RunConfig, name: Pool) -> list[tuple[tuple[str, ...], tuple[str, ...]]]:
    """Each client's delicate prompts, in its own order, and ordinary ones by its topic shares.

    Delicate prompts too are of templates that the backbone knows, unless `data.unseen_share` is above 0.
    """
    delicate = [item for item in delicate_items(name) if config.data.unseen_share or not item.unseen]
    ordinary = everyday_by_client(name, ORDINARY_PROMPTS, config, "prompts")
    prompts = []
    for client in range(config.clients):
        generator = seeds.generator(config.seed, "prompts", name, client)
        shuffled = _shuffle(delicate, len(delicate), generator)
        prompts.append((unique_instructions(shuffled), unique_instructions(ordinary[client])))
    return prompts


def unique_instructions(items: Iterable[Item | Pair]) -> tuple[str, ...]:
    """The instructions of items or pairs, each once, in their order."""
    return tuple(dict.fromkeys(item.instruction for item in items))


def judge_pairs() -> dict[Axis, tuple[Pair, ...]]:
    """The judge's pairs, from the general pool, which no client sees."""
    generator = seeds.generator(JUDGE_SEED, "judge")
    maker = PairMaker("general", generator)
    delicate_count = round(JUDGE_PAIRS * DELICATE_PAIRS)
    everyday, delicate = everyday_items("general"), delicate_items("general")

    def draw_items() -> tuple[list[Item], list[Item]]:
        return (
            _shuffle(everyday, JUDGE_PAIRS - delicate_count, generator),
            _shuffle(delicate, delicate_count, generator),
        )

    return {"helpfulness": maker.helpful_pairs(*draw_items()), "harmlessness": maker.harmless_pairs(*draw_items())}


def references() -> tuple[Reference, ...]:
    """Answers that scores are centred and scaled on, the same for both axes.

    A third are right answers to ordinary prompts, the others are both answers to delicate ones, as in alignment.
    """
    generator = seeds.generator(JUDGE_SEED, "references")
    maker = PairMaker("general", generator)
    ordinary = _shuffle(everyday_items("general"), REFERENCES // 3, generator)
    answers = [Reference(item.instruction, maker.right_answer(item)) for item in ordinary]
    for item in _shuffle(delicate_items("general"), REFERENCES // 3, generator):
        answers += [Reference(item.instruction, maker.right_answer(answer)) for answer in both_answers(item)]
    return tuple(answers)
