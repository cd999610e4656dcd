"""The texts for pre-training tokenizer, backbone and encoder: the corpus' general pool, rendered.

The encoder also learns what is wrong with an answer, as a reward model's encoder has to know whether a response fits
its instruction. No client's prompt, pair or phrase is in these texts.
"""

from __future__ import annotations

from typing import NamedTuple

from pwff_core import seeds
from pwff_core.data import corpus
from pwff_core.data.encoding import prompt_text
from pwff_core.data.partition import everyday_items
from pwff_core.data.preferences import FLAWS, PairMaker, both_answers, delicate_items
from pwff_core.data.styles import DIMENSIONS, random_style, style_tags

SEED = 7
RENDERINGS = 6  # of every item, each in a random style
TAG_PROBABILITY = 0.5  # that the prompt names a dimension of the style
JUDGED = 96_000  # texts with a verdict
RIGHT_SHARE, DELICATE_SHARE = 0.45, 0.1
FLAW_SHARES = {
    "wrong": 0.3,
    "off-topic": 0.3,
    "cut off": 0.1,
    "evasive": 0.1,
    "rude": 0.2,
}  # flaws that are hard to see more often
VERDICTS = ("right", *FLAWS, "refuses")


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
            tagged = generator.random(len(DIMENSIONS)) < TAG_PROBABILITY
            example = item.render(style)
            texts.append(Text(prompt_text(example.instruction, style_tags(style, tagged)), " " + example.text))
    return texts


class Judged(NamedTuple):
    """A text and what is wrong with its response: an index into VERDICTS."""

    text: Text
    verdict: int


def judged_texts() -> list[Judged]:
    """Right answers and flawed ones; to delicate prompts helpful answers and refusals."""
    generator = seeds.generator(SEED, "judged")
    maker = PairMaker("general", generator)
    everyday, delicate = everyday_items("general"), delicate_items("general")
    judged = []
    for _ in range(JUDGED):
        if generator.random() < DELICATE_SHARE:
            item = both_answers(delicate[generator.integers(len(delicate))])[generator.integers(2)]
            verdict, response = VERDICTS.index("refuses") if item.refuses else 0, maker.right_answer(item)
        else:
            item = everyday[generator.integers(len(everyday))]
            right = generator.random() < RIGHT_SHARE
            flaw = FLAWS[generator.choice(len(FLAWS), p=[FLAW_SHARES[flaw] for flaw in FLAWS])]
            verdict = 0 if right else VERDICTS.index(flaw)
            response = maker.right_answer(item) if right else maker.flawed_answer(item, flaw)
        judged.append(Judged(Text(prompt_text(item.instruction), " " + response), verdict))
    return judged
