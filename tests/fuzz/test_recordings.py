"""A recording's text with any change gives a recording or a sentence."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from pwff_core.errors import StoreError
from pwff_core.runs.recording import from_json, recorded_demo, to_json
from tests.support.fuzz_cases import fuzzed
from tests.support.fuzz_material import damaged, is_a_sentence, values

DEMO = recorded_demo()
TEXT = to_json(DEMO._replace(records=DEMO.records[:2]))


@st.composite
def trees(draw: st.DrawFn) -> Any:
    """A recording's tree with a value somewhere in it replaced."""
    tree = json.loads(TEXT)
    place = tree
    while True:
        name = draw(st.sampled_from(sorted(place) if isinstance(place, dict) else range(len(place))))
        if not isinstance(place[name], dict | list) or not place[name] or draw(st.booleans()):
            break
        place = place[name]
    place[name] = draw(values)
    return tree


def check(text: str) -> None:
    try:
        recording = from_json(text)
    except StoreError as error:
        assert is_a_sentence(str(error), 40_000)
    else:
        assert from_json(to_json(recording)) == recording


@given(trees())
@fuzzed(0.06)
def test_any_value_at_any_place(tree: Any) -> None:
    check(json.dumps(tree))


@given(damaged(TEXT.encode()))
@fuzzed(0.06)
def test_damaged_text(content: bytes) -> None:
    check(content.decode("utf-8", "replace"))
