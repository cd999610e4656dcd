"""The embedded corpus: everyday instructions, invented facts and delicate prompts, written for this project.

`assets/corpus/*.toml` hold templates with slots. Filled in, they give *items*: an instruction and an answer that can be
rendered in any house style. A hash of template and instruction puts every item into one pool:

- `general`: what the backbone and the encoder are pre-trained on,
- `train`, `validation`, `test`: what clients own. A quarter of the templates and all facts about the private entities
  are in these pools alone, so the backbone has never seen them.
"""

from __future__ import annotations

import functools
import hashlib
import itertools
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, NamedTuple

from pwff_core import seeds
from pwff_core.data.styles import MARKUP, OPTIONS, Style
from pwff_core.paths import assets_dir

Kind = Literal["plain", "style", "knowledge"]
Pool = Literal["general", "train", "validation", "test"]

WORLD_SEED = 20_404  # of the invented world: its names, and which values are true
PRIVATE_TEMPLATES = 0.25
COMBINATIONS_PER_TEMPLATE = 24  # slot fillings of one template
GENERAL_ENTITIES, PRIVATE_ENTITIES = 100, 16
TRAIN_PHRASINGS, VALIDATION_PHRASINGS = 5, 1  # of a fact's eight phrasings; the others are for the test
KNOWLEDGE, DELICATE = "knowledge", "delicate"


class Segment(NamedTuple):
    """A piece of a response, and what decides it: its style, a fact, or neither."""

    text: str
    kind: Kind


class Example(NamedTuple):
    """One instruction with its right answer."""

    instruction: str
    response: tuple[Segment, ...]
    topic: str

    @property
    def text(self) -> str:
        """The response as plain text."""
        return "".join(segment.text for segment in self.response)


class Item(NamedTuple):
    """An instruction with an answer that can be rendered in any style."""

    topic: str
    template: str
    instruction: str
    answer: str  # with style markup; a value that is a fact stands in ‹›
    steps: tuple[str, ...]  # instead of an answer
    pool: Pool
    unseen: bool = False  # the backbone was never shown this template
    fact: str = ""  # "entity/fact", for knowledge
    refuses: bool = False  # for delicate prompts

    def render(self, style: Style) -> Example:
        """The item's answer in a house style."""
        body = _step_segments(self.steps, style) if self.steps else list(_marked_segments(self.answer, style))
        options = style.options()
        segments = [Segment(options["opener"] + " ", "style"), *body, Segment(" " + options["closing"], "style")]
        return Example(self.instruction, tuple(segment for segment in segments if segment.text), self.topic)


def _marked_segments(text: str, style: Style) -> Iterator[Segment]:
    end = 0
    for match in MARKUP.finditer(text):
        yield from _fact_segments(text[end : match.start()])
        yield Segment(match[2 + getattr(style, match[1])], "style")
        end = match.end()
    yield from _fact_segments(text[end:])


def _fact_segments(text: str) -> Iterator[Segment]:
    for index, piece in enumerate(re.split("[‹›]", text)):
        yield Segment(piece, "knowledge" if index % 2 else "plain")


def _step_segments(steps: tuple[str, ...], style: Style) -> list[Segment]:
    segments: list[Segment] = []
    as_list = OPTIONS["layout"][style.layout] == "list"
    for number, step in enumerate(steps, start=1):
        if as_list:
            lead, body, end = f"{number}. ", step[0].upper() + step[1:], "." if number == len(steps) else ". "
        else:
            lead = "First, " if number == 1 else "and finally " if number == len(steps) else "then "
            body, end = step, "." if number == len(steps) else ", "
        end_segment = Segment(end, "style" if end != "." else "plain")
        segments += [Segment(lead, "style"), *_marked_segments(body, style), end_segment]
    return segments


def _hash_fraction(*words: str) -> float:
    """A number in [0, 1) that depends on the words alone."""
    return int.from_bytes(hashlib.sha256("/".join(words).encode()).digest()[:7], "big") / 2**56


def _is_unseen(topic: str, template: str) -> bool:
    return _hash_fraction(topic, template) < PRIVATE_TEMPLATES


def _pool(topic: str, template: str, instruction: str) -> Pool:
    general, train, validation = (0.0, 0.60, 0.70) if _is_unseen(topic, template) else (0.70, 0.88, 0.91)
    fraction = _hash_fraction(topic, template, instruction)
    if fraction < general:
        return "general"
    return "train" if fraction < train else "validation" if fraction < validation else "test"


def _fillings(template: str, text: str, slots: dict[str, list[Any]]) -> list[dict[str, str]]:
    """Slot fillings of a template: at most COMBINATIONS_PER_TEMPLATE of them, picked uniformly from all."""
    names = sorted({name.split(".")[0] for name in re.findall(r"\{([\w.]+)\}", text)})
    combinations = []
    for values in itertools.product(*(slots[name] for name in names)):
        filling: dict[str, str] = {}
        for name, value in zip(names, values, strict=True):
            attributes = {"name": value} if isinstance(value, str) else value
            filling |= {f"{name}.{key}": text for key, text in attributes.items()} | {name: attributes["name"]}
        combinations.append(filling)
    generator = seeds.generator(WORLD_SEED, "fillings", template)
    order = generator.permutation(len(combinations))[:COMBINATIONS_PER_TEMPLATE]
    return [combinations[index] for index in sorted(order)]


def _fill(text: str, filling: dict[str, str]) -> str:
    filled = re.sub(r"\{([\w.]+)\}", lambda match: filling[match[1]], text)
    # A slot may begin a sentence.
    return re.sub(r"(^|[.?!] )([a-z])", lambda match: match[1] + match[2].upper(), filled)


def _domain_items(document: dict[str, Any]) -> Iterator[Item]:
    topic: str = document["domain"]
    for template in document["template"]:
        questions, unseen = template["ask"], _is_unseen(topic, template["id"])
        for filling in _fillings(f"{topic}/{template['id']}", " ".join(questions), document.get("slots", {})):
            for question in questions:
                instruction = _fill(question, filling)
                pool = _pool(topic, template["id"], instruction)
                if topic == DELICATE:  # with both answers, so that a policy can learn to choose
                    for key in ("comply", "refuse"):
                        answer = _fill(template[key], filling)
                        yield Item(
                            topic, template["id"], instruction, answer, (), pool, unseen, refuses=key == "refuse"
                        )
                elif "steps" in template:
                    steps = tuple(_fill(step, filling).replace("\n", " ") for step in template["steps"])
                    steps = tuple(step[0].lower() + step[1:] for step in steps)
                    yield Item(topic, template["id"], instruction, "", steps, pool, unseen)
                else:
                    answer = _fill(template["answer"], filling)
                    yield Item(topic, template["id"], instruction, answer, (), pool, unseen)


def _knowledge_items(document: dict[str, Any]) -> Iterator[Item]:
    names = [(adjective, noun) for adjective in document["adjectives"] for noun in document["nouns"]]
    order = seeds.generator(WORLD_SEED, "names").permutation(len(names))
    kinds = document["kind"]
    for index in range(GENERAL_ENTITIES + PRIVATE_ENTITIES):
        kind, (adjective, noun) = kinds[index % len(kinds)], names[order[index]]
        name = kind["name"].format(adjective=adjective, noun=noun)
        for fact in kind["fact"]:
            value = fact["values"][seeds.generator(WORLD_SEED, "value", name, fact["id"]).integers(len(fact["values"]))]
            answer = fact["answer"].replace("{Name}", name[0].upper() + name[1:]).replace("{name}", name)
            answer = answer.replace("{value}", f"‹{value}›")
            for phrasing, question in enumerate(fact["ask"]):
                pool = _fact_pool(index, phrasing)
                instruction = _fill(question.replace("{name}", name), {})
                yield Item(KNOWLEDGE, fact["id"], instruction, answer, (), pool, fact=f"{name}/{fact['id']}")


def _fact_pool(entity: int, phrasing: int) -> Pool:
    if entity < GENERAL_ENTITIES:
        return "general"
    if phrasing < TRAIN_PHRASINGS:
        return "train"
    return "validation" if phrasing < TRAIN_PHRASINGS + VALIDATION_PHRASINGS else "test"


@functools.cache
def items(folder: Path | None = None) -> tuple[Item, ...]:
    """All items of the corpus in a fixed order. An instruction belongs to the first template that asks it."""
    kept: list[Item] = []
    template_of: dict[str, tuple[str, str]] = {}
    for path in sorted((folder or assets_dir() / "corpus").glob("*.toml")):
        document = tomllib.loads(path.read_text(encoding="utf-8"))
        items_of = _knowledge_items if document["domain"] == KNOWLEDGE else _domain_items
        for item in items_of(document):
            template = (item.topic, item.template)
            if template_of.setdefault(item.instruction.lower(), template) == template:
                kept.append(item)
    return tuple(dict.fromkeys(kept))


def pool(name: Pool) -> tuple[Item, ...]:
    """The items of one pool."""
    return tuple(item for item in items() if item.pool == name)
