"""Settings of any kind, from a tree or a file, give a config or a sentence and nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pwff_core.config import STEERABLE, RunConfig
from pwff_core.errors import ConfigError
from pwff_core.export.contents import config_toml
from pwff_core.knobs import knobs, load_toml, parse_config, steered, with_changes
from tests.support.fuzz_cases import fuzzed
from tests.support.fuzz_material import damaged, is_a_sentence, texts, values

PATHS = sorted(knobs())
SECTIONS = sorted({path.partition(".")[0] for path in PATHS})
changes = st.dictionaries(st.one_of(st.sampled_from(PATHS), texts), values, max_size=5)


@st.composite
def trees(draw: st.DrawFn) -> dict[Any, Any]:
    """A config's own tree with some of its leaves and sections replaced."""
    tree = RunConfig().model_dump()
    for path, value in draw(changes).items():
        section, _, leaf = path.rpartition(".")
        inner = tree.get(section) if section else tree
        (inner if isinstance(inner, dict) else tree)[leaf] = value
    if draw(st.booleans()):
        tree[draw(st.sampled_from(SECTIONS))] = draw(values)
    return tree


@given(trees())
@fuzzed(0.22)
def test_any_tree_is_a_config_or_a_sentence(tree: dict[Any, Any]) -> None:
    try:
        config = parse_config(tree)
    except ConfigError as error:
        assert is_a_sentence(str(error), 40_000)
        return
    assert RunConfig.model_validate_json(config.model_dump_json()) == config  # so that the store can keep it


@given(changes)
@fuzzed(0.15)
def test_any_changes_are_made_or_refused(changed: dict[str, Any]) -> None:
    for change in (with_changes, steered):
        try:
            config = change(RunConfig(), changed)
        except ConfigError as error:
            assert is_a_sentence(str(error), 40_000)
        else:
            assert isinstance(config, RunConfig) and (change is with_changes or set(changed) <= set(STEERABLE))


@given(st.one_of(st.binary(max_size=200), damaged(config_toml(RunConfig()).encode())))
@fuzzed(0.15)
def test_any_file_is_a_config_or_a_sentence(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = Path(tmp_path_factory.getbasetemp()) / "fuzzed.toml"
    path.write_bytes(content)
    try:
        config = load_toml(path, RunConfig())
    except ConfigError as error:
        assert is_a_sentence(str(error), 40_000)
    else:
        path.write_text(config_toml(config), encoding="utf-8")
        assert load_toml(path, RunConfig()) == config
