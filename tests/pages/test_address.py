"""Settings in the address: a config survives it, and nonsense falls back to the preset with a notice."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args
from urllib.parse import parse_qs, urlsplit

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from streamlit.testing.v1 import AppTest

from pages.settings.address import config_of, link, settings_of
from pwff_core.config import PresetId, RunConfig, preset_config
from pwff_core.errors import ConfigError
from pwff_core.knobs import Knob, knobs, with_changes

OPTIONAL = {path for path, knob in knobs().items() if knob.value is None}
TEXT = st.text(st.characters(exclude_categories=("Cc", "Cs")), min_size=1, max_size=60)


def read(**query: str) -> tuple[RunConfig | None, list[str]]:
    """The config and the notices of an address; "__" stands for the dot of a path."""
    return config_of({name.replace("__", "."): [text] for name, text in query.items()})


def values(knob: Knob) -> st.SearchStrategy[Any]:
    """The values of a knob."""
    if knob.kind == "switch":
        strategy: st.SearchStrategy[Any] = st.booleans()
    elif knob.kind == "choice":
        strategy = st.sampled_from(knob.choices)
    elif knob.kind == "integer":
        strategy = st.integers(int(knob.low or 0), int(knob.high or 10**6))
    elif knob.kind == "number":
        strategy = st.floats(knob.low, knob.high, allow_nan=False)
    elif knob.kind == "list":
        strategy = st.lists(st.floats(0, 1), min_size=2, max_size=6).map(tuple)
    else:
        strategy = TEXT
    return st.none() | strategy if knob.path in OPTIONAL else strategy


@st.composite
def configs(draw: st.DrawFn) -> RunConfig:
    """Any config of the panel: a preset with some of its knobs moved."""
    base = preset_config(draw(st.sampled_from(get_args(PresetId))))
    moved = draw(st.sets(st.sampled_from([path for path in knobs() if path != "preset"]), max_size=12))
    changes = {path: draw(values(knobs()[path])) for path in sorted(moved)}
    if weights := changes.get("preferences.helpfulness_weights"):
        changes |= {"clients": len(weights), "preferences.harmlessness_weights": None}
    try:
        return with_changes(base, changes)
    except ConfigError:
        assume(False)
        raise


def query_of(config: RunConfig) -> dict[str, list[str]]:
    return {name: [text] for name, text in settings_of(config).items()}


@given(configs())
@settings(deadline=None)
def test_a_config_survives_the_address(config: RunConfig) -> None:
    assert config_of(query_of(config)) == (config, [])


@given(configs())
@settings(deadline=None, max_examples=30)
def test_a_config_survives_a_link(config: RunConfig) -> None:
    query = parse_qs(urlsplit(link(config, "abcdefgh")).query, keep_blank_values=True)
    assert query["run"] == ["abcdefgh"]
    assert config_of(query) == (config, [])


def test_an_address_holds_only_what_differs_from_the_preset() -> None:
    assert settings_of(RunConfig()) == {"preset": "demo"}
    assert settings_of(preset_config("paper")) == {"preset": "paper"}
    config = with_changes(
        preset_config("paper"),
        {
            "clients": 2, "channel.snr_db": 12.5, "data.personal_styles": False, "instruction.learning_rate": None,
            "preferences.helpfulness_weights": (0.25, 1.0),
        },
    )  # fmt: skip
    assert settings_of(config) == {
        "preset": "paper", "clients": "2", "channel.snr_db": "12.5", "data.personal_styles": "false",
        "instruction.learning_rate": "", "preferences.helpfulness_weights": "0.25,1",
    }  # fmt: skip


def test_a_link_leads_to_the_live_page_and_is_escaped() -> None:
    config = with_changes(RunConfig(), {"data.source": "a b&run=<i>.csv"})
    assert link(config) == "http://localhost:8501/?preset=demo&data.source=a%20b%26run%3D%3Ci%3E.csv"


def test_an_address_without_settings_has_no_config() -> None:
    assert config_of({}) == (None, [])
    assert read(run="abcdefgh", replay="recorded") == (None, [])


BAD: dict[str, tuple[Mapping[str, list[str]], str]] = {
    "huge": (
        {"channel.snr_db": ["1e300"]},
        "SNR cannot be “1e300”: give a number from -30 to 60 dB. The preset's value is used.",
    ),
    "negative": (
        {"clients": ["-3"]},
        "Clients cannot be “-3”: give a whole number from 2 to 200. The preset's value is used.",
    ),
    "html": (
        {"channel.fading": ["<img src=x>"]},
        "Fading cannot be “<img src=x>”: give one of rayleigh, awgn. The preset's value is used.",
    ),
    "wrong type": (
        {"data.personal_styles": ["maybe"]},
        "Personal styles cannot be “maybe”: give true or false. The preset's value is used.",
    ),
    "long": (
        {"data.source": ["x" * 10_000]},
        f"Data source cannot be “{'x' * 40}…”: give a text. The preset's value is used.",
    ),
    "unseen letters": (
        {"data.source": ["a\x00\x1b"]},
        "Data source cannot be “a��”: give a text. The preset's value is used.",
    ),
    "many digits": (
        {"seed": ["9" * 10_000]},
        f"Seed cannot be “{'9' * 40}…”: give a whole number from 0 to 2,147,483,647. The preset's value is used.",
    ),
    "no number": (
        {"channel.deadline_s": ["nan"]},
        "Upload deadline cannot be “nan”: give a number of at least 0.001 s, or inf. The preset's value is used.",
    ),
    "nothing": (
        {"clients": [""]},
        "Clients cannot be “”: give a whole number from 2 to 200. The preset's value is used.",
    ),
    "twice": (
        {"seed": ["1", "2"]},
        "Seed is in the address 2 times. The preset's value is used.",
    ),
    "no preset": (
        {"preset": ["<b>"]},
        "The preset cannot be “<b>”: give one of demo, paper, paper-as-printed. Demo is used.",
    ),
    "two presets": (
        {"preset": ["demo", "paper"]},
        "The preset cannot be “demo, paper”: give one of demo, paper, paper-as-printed. Demo is used.",
    ),
    "wrong list": (
        {"preferences.helpfulness_weights": ["0.5,2"]},
        "Helpfulness weights cannot be “0.5,2”: give a list of numbers from 0 to 1, one a client. "
        "The preset's value is used.",
    ),
    "at odds": (
        {"preferences.helpfulness_weights": ["0,1"]},
        "preferences.helpfulness_weights has 2 weights for 10 clients; give one a client. The preset's value is used.",
    ),
    "no method": (
        {"method": ["fedavg"]},
        "Method cannot be “fedavg”: give one of pwff, vanilla_fl, fedada, fedlora, sfl, pfl, shepherd, local, "
        "centralised. The preset's value is used.",
    ),
}  # fmt: skip


@pytest.mark.parametrize("query, notice", BAD.values(), ids=BAD)
def test_nonsense_falls_back_to_the_preset_with_a_notice(query: Mapping[str, list[str]], notice: str) -> None:
    assert config_of(query) == (RunConfig(), [notice])


def test_good_settings_beside_nonsense_are_used() -> None:
    config, notices = read(preset="paper", channel__snr_db="17", clients="many", lora__rank="4")
    assert config == with_changes(preset_config("paper"), {"channel.snr_db": 17.0, "lora.rank": 4})
    assert [notice.split(":")[0] for notice in notices] == ["Clients cannot be “many”"]


def test_settings_that_need_each_other_may_come_in_any_order() -> None:
    expected = with_changes(RunConfig(), {"channel.deadline_s": 2.0, "channel.coherence_time_s": math.inf})
    config, notices = read(channel__coherence_time_s="inf", channel__deadline_s="2.0", seed="-1")
    assert (config, len(notices)) == (expected, 1)
    alone, (notice,) = read(channel__coherence_time_s="inf")
    assert alone == RunConfig()
    assert "set deadline_s (seconds) or a finite coherence_time_s. The preset's value is used." in notice


def test_all_unknown_names_are_in_one_notice() -> None:
    assert read(snr="5") == (None, ["The address names “snr”. pwff has no such setting and leaves it out."])
    config, notices = read(seed="3", a="", b="", c="", d="")
    assert config == RunConfig(seed=3)
    assert notices == ["The address names “a”, “b”, “c” and 1 more. pwff has no such settings and leaves them out."]


def test_there_are_no_more_notices_than_a_person_reads() -> None:
    config, notices = config_of({path: ["<x>", "<y>"] for path in knobs()})
    assert config == RunConfig()
    assert len(notices) == 6
    assert notices[-1] == f"What else cannot be used ({len(knobs()) - 5}) falls back to the preset too."


NAMES = st.sampled_from([*knobs(), "run", "replay"]) | st.text(max_size=20)
TEXTS = st.text(max_size=40) | st.sampled_from(["inf", "-inf", "nan", "1e400", "0", "-1", "true", "1,1,1", ",", "1e5"])


@given(st.dictionaries(NAMES, st.lists(TEXTS, min_size=1, max_size=2), max_size=12))
@settings(deadline=None)
def test_any_address_has_a_config_and_short_notices(query: dict[str, list[str]]) -> None:
    config, notices = config_of(query)
    assert (config is None) == (not set(query) & set(knobs()))
    assert all(len(notice) < 400 for notice in notices)
    if config is not None:
        assert config_of(query_of(config)) == (config, [])


# ---- in a page ---------------------------------------------------------------------------------------------------


def address_page(changes: str, run_id: str = "") -> AppTest:
    """A page that reads its address, writes the config with these changes to it, and shares a link."""
    script = (
        "import sys; sys.path.insert(0, {root!r})\n"
        "import streamlit as st\n"
        "from pages.settings import address\n"
        "from pwff_core.config import RunConfig\nfrom pwff_core.knobs import with_changes\n"
        "read = address.read()\n"
        "st.session_state['read'] = read\n"
        "address.write(with_changes(read[0] or RunConfig(), {changes}))\n"
        "address.share(RunConfig(), {run_id!r})\n"
    )
    return AppTest.from_string(script.format(root=str(Path.cwd()), changes=changes, run_id=run_id), default_timeout=30)


def test_a_page_reads_and_writes_its_address_and_its_run_stays() -> None:
    page = address_page("{'seed': 4}")
    page.query_params["run"] = "abcdefgh"
    page.query_params["channel.snr_db"] = "12"
    page.query_params["nonsense"] = "<b>"
    page.run()
    assert not page.exception, page.exception
    config, notices = page.session_state["read"]
    assert config == with_changes(RunConfig(), {"channel.snr_db": 12.0})
    assert notices == ["The address names “nonsense”. pwff has no such setting and leaves it out."]
    assert page.query_params == {"run": "abcdefgh", "preset": "demo", "seed": "4", "channel.snr_db": "12"}


def test_the_link_is_shown_to_be_copied() -> None:
    page = address_page("{}", "abcdefgh").run()
    assert not page.exception, page.exception
    assert page.code[0].value.endswith("/?run=abcdefgh&preset=demo")
    assert any("run abcdefgh" in part.value for part in page.caption)
