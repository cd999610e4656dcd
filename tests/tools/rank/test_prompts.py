"""Which prompts are responded to: of the embedded corpus, of instructions, of existing pairs."""

from __future__ import annotations

from pathlib import Path

import pytest

from pwff_core.data import corpus
from pwff_core.errors import DataError
from pwff_core.tools.rank.prompts import load_prompts
from tests.support.tables import write_table

ROWS = [{"instruction": f" Say {n}. ", "input": f" loud{n} " if n % 2 else None, "output": "Well."} for n in range(5)]


def test_two_in_five_of_the_demo_s_prompts_are_delicate() -> None:
    train = [item for item in corpus.items() if item.pool == "train"]
    delicate = {item.instruction for item in train if item.topic == corpus.DELICATE}
    knowledge = {item.instruction for item in train if item.topic == corpus.KNOWLEDGE}
    prompts = load_prompts("demo", 50, seed=0)
    assert len(set(prompts)) == 50
    assert set(prompts) <= {item.instruction for item in train} - knowledge
    assert len(set(prompts) & delicate) == 20
    assert {prompt in delicate for prompt in prompts[:10]} == {True, False}  # mixed, so a cut keeps both kinds


def test_the_seed_decides_which_and_in_what_order() -> None:
    assert load_prompts("demo", 20, seed=1) == load_prompts("demo", 20, seed=1)
    assert set(load_prompts("demo", 20, seed=1)) != set(load_prompts("demo", 20, seed=2))


def test_instructions_with_their_inputs(tmp_path: Path) -> None:
    source = write_table(tmp_path, [*ROWS, {"instruction": " ", "input": None, "output": "-"}, ROWS[0]])
    expected = ["Say 0.", "Say 1.\nloud1", "Say 2.", "Say 3.\nloud3", "Say 4."]
    assert sorted(load_prompts(source, 100, seed=0)) == expected
    assert len(set(load_prompts(source, 3, seed=0)) & set(expected)) == 3


def test_the_prompts_of_preference_pairs(tmp_path: Path) -> None:
    rows = [{"prompt": f" Why {n % 3}? ", "chosen": "So.", "rejected": f"No {n}."} for n in range(6)]
    assert sorted(load_prompts(write_table(tmp_path, rows), 100, seed=0)) == ["Why 0?", "Why 1?", "Why 2?"]
    dialogue = [{"chosen": "\n\nHuman: Why?\n\nAssistant: So.", "rejected": "\n\nHuman: Why?\n\nAssistant: No."}]
    assert load_prompts(write_table(tmp_path, dialogue), 100, seed=0) == ["Why?"]


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (
            [{"text": "x", "label": "y"}],
            "has the columns text, label; prompts come from instruction (and perhaps input)",
        ),
        ([{"instruction": 3}], "row 1: 'instruction' is 3, but it must be a text."),
        ([{"instruction": " "}], "has no prompt: every instruction in it is empty."),
    ],
)
def test_what_has_no_prompts_is_a_sentence(tmp_path: Path, rows: list[dict[str, object]], said: str) -> None:
    with pytest.raises(DataError) as caught:
        load_prompts(write_table(tmp_path, rows), 10, seed=0)
    assert said in str(caught.value)
