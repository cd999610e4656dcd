"""The limits of a hosted app; nothing is limited at home."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pwff_core.config import RunConfig, preset_config
from pwff_core.errors import ConfigError
from pwff_core.knobs import knobs, with_changes
from pwff_core.runs import limits, processes

UPLOAD = f"upload:{'0' * 64}.csv"


@pytest.mark.parametrize(
    "changes",
    [{}, {"clients": 20}, {"data.source": UPLOAD}, {"instruction.rounds": 49}, {"channel.snr_db": -30.0}],
)
def test_a_classroom_s_settings_are_allowed(hosted: None, changes: dict[str, Any]) -> None:
    limits.check(with_changes(RunConfig(), changes))


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"clients": 21}, "clients: 21 is more than this hosted app allows; give a whole number from 2 to 20."),
        ({"instruction.rounds": 50}, "The stages have 61 rounds together; this hosted app allows 60 in a run."),
        ({"backbone": "gpt2"}, "backbone: 'gpt2' is not offered on this hosted app; give demo."),
        ({"reward.encoder": "/etc"}, "reward.encoder: '/etc' is not offered on this hosted app; give demo."),
        ({"reward.helpful_source": UPLOAD}, "is not offered on this hosted app; give demo."),
        ({"reward.harmless_source": "x/y"}, "reward.harmless_source: 'x/y' is not offered on this hosted app"),
        ({"data.source": "/etc/passwd"}, "data.source: '/etc/passwd' is not offered on this hosted app; give demo, or"),
        ({"data.source": "tatsu-lab/alpaca"}, "is not offered on this hosted app; give demo, or upload a file."),
        ({"data.source": "upload:../../x.csv"}, "'upload:../../x.csv' is not offered"),
        ({"alignment.max_new_tokens": 4096}, "4,096 is more than this hosted app allows; give a whole number from 1"),
        ({"clients": 20, "instruction.batch_size": 16}, "This run would take about 5.2 times the demo's computing"),
    ],
)
def test_a_refusal_names_the_limit(hosted: None, changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ConfigError, match=r"\.$") as refused:
        limits.check(with_changes(RunConfig(), changes))
    assert sentence in str(refused.value)


def test_at_home_nothing_is_limited() -> None:
    config = with_changes(preset_config("paper"), {"clients": 200})
    limits.check(config)
    assert limits.clamp(config) is config
    assert limits.refusal(going=1000, today=1000, waiting=1000) == ""
    assert all(limits.bounded(entry) is entry and limits.offered(path) for path, entry in knobs().items())


def test_every_limit_is_of_a_knob_that_there_is_and_narrower_than_its_own(hosted: None) -> None:
    allowed, entries = limits.limits(), knobs()
    assert allowed is not None
    for path, most in allowed.most.items():
        assert (entries[path].low or 0) <= most < (entries[path].high or math.inf)
        assert limits.bounded(entries[path]).high == most
        assert entries[path].value <= most  # the demo itself is allowed
    assert {path for path, entry in entries.items() if entry.kind == "text"} - {"data.topic_column"} <= {*allowed.only}


def test_a_text_knob_is_hidden_and_only_the_demo_s_preset_is_left(hosted: None) -> None:
    assert not limits.offered("backbone") and not limits.offered("data.source")
    assert limits.offered("clients") and limits.offered("device")
    assert limits.bounded(knobs()["preset"]).choices == ("demo",)


def test_work_is_counted_in_tokens() -> None:
    # a client of the demo: 16 rounds × (3 × 8 × 3 + 30) × 96, 4 × 96 pairs × 96, 7 × (12 × 7 + 10) × 160
    assert 16 * 102 * 96 + 4 * 96 * 96 + 7 * 94 * 160 == 298_816
    assert limits.work(RunConfig()) == 1.0
    assert limits.work(with_changes(RunConfig(), {"clients": 20})) == 2.0
    without = with_changes(RunConfig(), {"alignment.rounds": 0, "reward.rounds": 0})
    assert limits.work(without) == pytest.approx(16 * 102 * 96 / 298_816)
    whole = with_changes(RunConfig(), {"reward.trainable": "all"})
    assert limits.work(whole) == pytest.approx((298_816 + 4 * 12 * 10 * 16 * 96) / 298_816)


@pytest.mark.parametrize("preset", ["paper", "paper-as-printed"])
def test_a_config_is_brought_within_the_limits(hosted: None, preset: Any) -> None:
    config = with_changes(preset_config(preset), {"clients": 30, "preferences.helpfulness_weights": (0.5,) * 30})
    clamped = limits.clamp(config)
    assert set(limits.problems(clamped)) <= {""}  # the rounds, of which a person has to choose
    assert (clamped.clients, clamped.backbone, clamped.preset) == (20, "demo", "demo")
    assert limits.clamp(clamped) == clamped


@pytest.mark.parametrize(
    ("going", "today", "waiting", "more", "word"),
    [
        (0, 0, 0, 3, ""), (2, 19, 29, 1, ""), (2, None, 29, 1, ""), (3, None, 0, 1, "may have 3 runs"),
        (3, 0, 0, 1, "may have 3 runs"), (1, 0, 0, 3, "you would have 4"),
        (0, 20, 0, 1, "number 21"), (0, 0, 30, 1, "is full (30 of 30 places)"),
    ],
)  # fmt: skip
def test_a_visitor_s_share(hosted: None, going: int, today: int | None, waiting: int, more: int, word: str) -> None:
    sentence = limits.refusal(going=going, today=today, waiting=waiting, more=more)
    assert word in sentence and bool(sentence) == bool(word)


@given(st.text(alphabet="0123456789abcdef", min_size=32, max_size=32))
def test_an_owner_does_not_give_the_browser_s_id_away(browser: str) -> None:
    owner = limits.owner_of(browser)
    assert len(owner) == 32 and int(owner, 16) >= 0
    assert browser not in owner and owner == limits.owner_of(browser) != limits.owner_of(owner)


SECRETS = {
    "OPENAI_API_KEY": "s", "HF_TOKEN": "s", "AWS_SECRET_ACCESS_KEY": "s", "MY_PASSWORD": "s", "GITHUB_TOKEN": "s",
    "apikey": "s", "GOOGLE_APPLICATION_CREDENTIALS": "/x.json", "HTTPS_PROXY": "http://user:word@proxy:80",
    "HUGGING_FACE_HUB_TOKEN": "s", "WANDB_API_KEY": "s", "NETRC_AUTH": "s",
}  # fmt: skip
HARMLESS = {
    "PATH": "/bin", "HOME": "/root", "TOKENIZERS_PARALLELISM": "false", "KEYBOARD": "de", "PWFF_STORE": "/runs.sqlite",
    "HTTP_PROXY": "http://proxy:80", "LANG": "C.UTF-8", "AUTHOR": "a@b.c",
}  # fmt: skip


def test_secrets_are_recognised_by_names_and_by_logins_in_addresses() -> None:
    assert processes.without_secrets({**SECRETS, **HARMLESS}) == HARMLESS


def test_the_children_of_a_hosted_app_have_no_secrets(hosted: None, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)
    child_environment = processes.environment()
    assert not SECRETS.keys() & child_environment.keys()
    assert child_environment["HF_HUB_OFFLINE"] == "1" and child_environment["PATH"]
    monkeypatch.delenv(processes.HOSTED_VARIABLE)
    assert SECRETS.items() <= processes.environment().items()  # at home `pwff rank` and gated models need theirs
