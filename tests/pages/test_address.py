"""Settings in the address: what is written is read back, and nonsense falls back to the preset in words."""

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

OPTIONAL = {path for path, entry in knobs().items() if entry.value is None}
TEXT = st.text(st.characters(exclude_categories=("Cc", "Cs")), min_size=1, max_size=60)


def read(**found: str) -> tuple[RunConfig | None, list[str]]:
    """What an address says in which every name has one value; "__" stands for the dot of a path."""
    return config_of({name.replace("__", "."): [text] for name, text in found.items()})


def values(entry: Knob) -> st.SearchStrategy[Any]:
    """What a knob can be set to."""
    if entry.kind == "switch":
        found: st.SearchStrategy[Any] = st.booleans()
    elif entry.kind == "choice":
        found = st.sampled_from(entry.choices)
    elif entry.kind == "integer":
        found = st.integers(int(entry.low or 0), int(entry.high or 10**6))
    elif entry.kind == "number":
        found = st.floats(entry.low, entry.high, allow_nan=False)
    elif entry.kind == "list":
        found = st.lists(st.floats(0, 1), min_size=2, max_size=6).map(tuple)
    else:
        found = TEXT
    return st.none() | found if entry.path in OPTIONAL else found


@st.composite
def configs(draw: st.DrawFn) -> RunConfig:
    """Any config that the panel can spell: a preset with some of its knobs moved."""
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


def written(config: RunConfig) -> dict[str, list[str]]:
    return {name: [text] for name, text in settings_of(config).items()}


@given(configs())
@settings(deadline=None)
def test_what_is_written_is_read_back(config: RunConfig) -> None:
    assert config_of(written(config)) == (config, [])


@given(configs())
@settings(deadline=None, max_examples=30)
def test_a_link_s_query_is_read_back(config: RunConfig) -> None:
    found = parse_qs(urlsplit(link(config, "abcdefgh")).query, keep_blank_values=True)
    assert found["run"] == ["abcdefgh"]
    assert config_of(found) == (config, [])


def test_only_what_differs_from_the_preset_is_written() -> None:
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


def test_a_link_leads_to_the_live_page_and_escapes_what_must_be() -> None:
    config = with_changes(RunConfig(), {"data.source": "a b&run=<i>.csv"})
    assert link(config) == "http://localhost:8501/?preset=demo&data.source=a%20b%26run%3D%3Ci%3E.csv"


def test_an_address_without_settings_says_nothing() -> None:
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


@pytest.mark.parametrize("found, notice", BAD.values(), ids=BAD)
def test_nonsense_falls_back_to_the_preset_and_says_so(found: Mapping[str, list[str]], notice: str) -> None:
    assert config_of(found) == (RunConfig(), [notice])


def test_what_is_right_beside_nonsense_is_used() -> None:
    config, notices = read(preset="paper", channel__snr_db="17", clients="many", lora__rank="4")
    assert config == with_changes(preset_config("paper"), {"channel.snr_db": 17.0, "lora.rank": 4})
    assert [notice.split(":")[0] for notice in notices] == ["Clients cannot be “many”"]


def test_settings_that_wait_for_each_other_are_taken_in_any_order() -> None:
    wanted = with_changes(RunConfig(), {"channel.deadline_s": 2.0, "channel.coherence_time_s": math.inf})
    config, notices = read(channel__coherence_time_s="inf", channel__deadline_s="2.0", seed="-1")
    assert (config, len(notices)) == (wanted, 1)
    alone, (notice,) = read(channel__coherence_time_s="inf")
    assert alone == RunConfig()
    assert "set deadline_s (seconds) or a finite coherence_time_s. The preset's value is used." in notice


def test_unknown_names_are_named_once() -> None:
    assert read(snr="5") == (None, ["The address names “snr”. pwff has no such setting and leaves it out."])
    config, notices = read(seed="3", a="", b="", c="", d="")
    assert config == RunConfig(seed=3)
    assert notices == ["The address names “a”, “b”, “c” and 1 more. pwff has no such settings and leaves them out."]


def test_no_more_notices_than_a_person_reads() -> None:
    config, notices = config_of({path: ["<x>", "<y>"] for path in knobs()})
    assert config == RunConfig()
    assert len(notices) == 6
    assert notices[-1] == f"What else cannot be used ({len(knobs()) - 5}) falls back to the preset too."


NAMES = st.sampled_from([*knobs(), "run", "replay"]) | st.text(max_size=20)
TEXTS = st.text(max_size=40) | st.sampled_from(["inf", "-inf", "nan", "1e400", "0", "-1", "true", "1,1,1", ",", "1e5"])


@given(st.dictionaries(NAMES, st.lists(TEXTS, min_size=1, max_size=2), max_size=12))
@settings(deadline=None)
def test_no_address_is_too_wild(found: dict[str, list[str]]) -> None:
    config, notices = config_of(found)
    assert (config is None) == (not set(found) & set(knobs()))
    assert all(len(notice) < 400 for notice in notices)
    if config is not None:
        assert config_of(written(config)) == (config, [])


# the widgets, in a page


def page(config: str, run_id: str = "") -> AppTest:
    script = (
        "import sys; sys.path.insert(0, {root!r})\n"
        "import streamlit as st\n"
        "from pages.settings import address\n"
        "from pwff_core.config import RunConfig\nfrom pwff_core.knobs import with_changes\n"
        "read = address.read()\n"
        "st.session_state['read'] = read\n"
        "address.write(with_changes(read[0] or RunConfig(), {config}))\n"
        "address.share(RunConfig(), {run_id!r})\n"
    )
    return AppTest.from_string(script.format(root=str(Path.cwd()), config=config, run_id=run_id), default_timeout=30)


def test_the_page_s_address_is_read_and_written_and_its_run_stays() -> None:
    shown = page("{'seed': 4}")
    shown.query_params["run"] = "abcdefgh"
    shown.query_params["channel.snr_db"] = "12"
    shown.query_params["nonsense"] = "<b>"
    shown.run()
    assert not shown.exception, shown.exception
    config, notices = shown.session_state["read"]
    assert config == with_changes(RunConfig(), {"channel.snr_db": 12.0})
    assert notices == ["The address names “nonsense”. pwff has no such setting and leaves it out."]
    assert shown.query_params == {"run": "abcdefgh", "preset": "demo", "seed": "4", "channel.snr_db": "12"}


def test_the_link_is_shown_to_be_copied() -> None:
    shown = page("{}", "abcdefgh").run()
    assert not shown.exception, shown.exception
    assert shown.code[0].value.endswith("/?run=abcdefgh&preset=demo")
    assert any("run abcdefgh" in part.value for part in shown.caption)
