"""The texts that the tokenizer, the backbone and the encoder are pre-trained on: the corpus' general pool, rendered."""

from __future__ import annotations

from typing import NamedTuple

from pwff_core import seeds
from pwff_core.data import corpus
from pwff_core.data.encoding import prompt_text
from pwff_core.data.styles import DIMENSIONS, random_style, tags

SEED = 7
RENDERINGS = 6  # of every item, each in a random style
TAG_PROBABILITY = 0.5  # that a dimension of the style is told in the prompt


class Text(NamedTuple):
    """One pre-training example."""

    prompt: str
    response: str


def general_texts() -> list[Text]:
    """Every item of the general pool in RENDERINGS random styles, with optional style tags."""
    texts: list[Text] = []
    for index, item in enumerate(corpus.pool("general")):
        generator = seeds.generator(SEED, "render", index)
        for _ in range(RENDERINGS):
            style = random_style(generator)
            shown = generator.random(len(DIMENSIONS)) < TAG_PROBABILITY
            example = item.render(style)
            texts.append(Text(prompt_text(example.instruction, tags(style, shown)), " " + example.text))
    return texts
