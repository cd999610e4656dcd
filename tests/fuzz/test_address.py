"""Any query in a page's address gives allowed settings and a few short notices."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pages.settings import address
from pwff_core.config import RunConfig
from pwff_core.knobs import knobs
from pwff_core.runs import limits
from pwff_core.runs.processes import HOSTED_VARIABLE
from tests.support.fuzz_cases import fuzzed
from tests.support.fuzz_material import texts

numbers = st.one_of(st.integers(-5, 1000).map(str), st.floats().map(str))
queries = st.dictionaries(
    st.one_of(st.sampled_from([*knobs(), address.RUN, address.REPLAY]), texts),
    st.lists(st.one_of(texts, numbers, st.sampled_from(["demo", "paper", "true", "0.1,0.9"])), min_size=1, max_size=2),
    max_size=8,
)


@pytest.mark.parametrize("hosted", ["0", "1"])
@given(query=queries)
@fuzzed(0.08)
def test_an_address_gives_allowed_settings_and_short_notices(hosted: str, query: dict[str, list[str]]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(HOSTED_VARIABLE, hosted)
        config, notices = address.config_of(query)
        if config:
            limits.check(config)
            assert address.config_of({name: [text] for name, text in address.settings_of(config).items()}) == (
                config,
                [],
            )
    assert isinstance(config, RunConfig) or config is None
    assert len(notices) <= 6 and all(len(notice) < 1_000 and notice.endswith(".") for notice in notices)
