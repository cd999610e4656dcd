"""The rows of METHODS are the paper's, and each is consistent in itself."""

from __future__ import annotations

from typing import get_args

import pytest

from pwff_core.methods import GROUPS, METHODS, Method, MethodId


def test_every_id_has_a_row_under_its_own_name() -> None:
    assert tuple(METHODS) == get_args(MethodId)
    assert all(name == row.id for name, row in METHODS.items())


@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
def test_a_row_uploads_only_what_it_trains(method: Method) -> None:
    assert method.trains
    assert set(method.uploads) <= set(method.trains) <= set(GROUPS)
    assert set(method.uploads) | set(method.personal) == set(method.trains)
    assert not set(method.uploads) & set(method.personal)
    assert not (method.pooled and method.uploads)  # pooled data leaves no model to average
    assert method.learning_rate > 0
    assert method.label
    assert method.summary


@pytest.mark.parametrize(
    ("name", "trains", "uploads", "personal", "rewards"),
    [
        ("pwff", {"adapters", "lora"}, {"adapters"}, {"lora"}, {"helpfulness", "harmlessness"}),
        ("vanilla_fl", {"adapters", "lora"}, {"adapters", "lora"}, set(), set()),
        ("fedada", {"adapters"}, {"adapters"}, set(), set()),
        ("fedlora", {"lora"}, {"lora"}, set(), set()),
        ("sfl", {"adapters", "lora"}, {"adapters"}, {"lora"}, {"helpfulness"}),
        ("pfl", {"adapters", "lora"}, {"adapters", "lora"}, set(), {"helpfulness", "harmlessness"}),
        ("shepherd", {"lora"}, {"lora"}, set(), {"helpfulness"}),
        ("local", {"adapters", "lora"}, set(), {"adapters", "lora"}, {"helpfulness", "harmlessness"}),
        ("centralised", {"adapters", "lora"}, set(), {"adapters", "lora"}, {"helpfulness", "harmlessness"}),
    ],
)
def test_the_rows_are_those_of_the_paper(
    name: MethodId, trains: set[str], uploads: set[str], personal: set[str], rewards: set[str]
) -> None:
    row = METHODS[name]
    assert (set(row.trains), set(row.uploads), set(row.personal)) == (trains, uploads, personal)
    assert set(row.rewards) == rewards


def test_labels_differ_and_only_centralised_pools_data() -> None:
    assert len({row.label for row in METHODS.values()}) == len(METHODS)
    assert [row.id for row in METHODS.values() if row.pooled] == ["centralised"]
