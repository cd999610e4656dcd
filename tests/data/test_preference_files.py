"""Preference pairs from files: TRL's format in all its forms, and a sentence for every mistake."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pwff_core.config import RunConfig
from pwff_core.data.preference_files import file_preferences, load_preferences, read_pairs, shared_length, spread_pairs
from pwff_core.data.preferences import Pair, demo_preferences
from pwff_core.errors import DataError
from pwff_core.knobs import with_changes
from tests.support.tables import write_table

ROWS = [{"prompt": f" Question {i}? ", "chosen": f"Answer {i}.", "rejected": f" No idea {i}."} for i in range(40)]
PAIRS = [Pair(f"Question {i}?", f"Answer {i}.", f"No idea {i}.") for i in range(40)]


@pytest.mark.parametrize("kind", ["json", "jsonl", "csv", "parquet"])
def test_every_format_gives_the_same_pairs(tmp_path: Path, kind: str) -> None:
    assert read_pairs(write_table(tmp_path, ROWS, kind), 1000) == (PAIRS, [])


def dialogue(*turns: str) -> str:
    return "".join(
        f"\n\n{name}: {text}" for name, text in zip(["Human", "Assistant"] * len(turns), turns, strict=False)
    )


def test_dialogues_with_an_implicit_prompt(tmp_path: Path) -> None:
    rows = [
        {"chosen": dialogue("Hi", "I do not know."), "rejected": dialogue("Hi", "I do it.")},  # share "I do "
        {"chosen": dialogue("Hi", "Yes?", "Go on", "No."), "rejected": dialogue("Hi", "Yes?", "Go on", "No. Well.")},
    ]
    pairs, _ = read_pairs(write_table(tmp_path, rows), 1000)
    assert pairs == [
        Pair("Hi", "I do not know.", "I do it."),
        Pair("Human: Hi\n\nAssistant: Yes?\n\nHuman: Go on", "No.", "No. Well."),
    ]


def test_plain_texts_with_an_implicit_prompt_are_not_cut_within_a_word(tmp_path: Path) -> None:
    rows = [
        {"chosen": "The sky is blue.", "rejected": "The sky is black."},
        {"chosen": "Two and two make four", "rejected": "Two and two make five"},
        {"chosen": "It is green", "rejected": "It is"},
    ]
    assert read_pairs(write_table(tmp_path, rows[:2]), 1000)[0] == [
        Pair("The sky is", "blue.", "black."),
        Pair("Two and two make", "four", "five"),
    ]
    assert read_pairs(write_table(tmp_path, rows), 1000)[0][:2] == read_pairs(write_table(tmp_path, rows[:2]), 1000)[0]


@pytest.mark.slow  # importing TRL takes seconds
@given(st.text("ab \n", max_size=6), st.text("ab \n", min_size=1, max_size=6), st.text("ab \n", min_size=1, max_size=6))
def test_an_implicit_prompt_is_the_one_that_trl_finds(prompt: str, chosen: str, rejected: str) -> None:
    from trl.data_utils import extract_prompt

    row = {name: dialogue(prompt, text) for name, text in (("chosen", chosen), ("rejected", rejected))}
    shared = row["chosen"][: shared_length(*row.values())]
    assert shared.rstrip(" ") == extract_prompt(row)["prompt"].rstrip(" ")


def test_conversations(tmp_path: Path) -> None:
    def message(role: str, content: str) -> dict[str, str]:
        return {"role": role, "content": content}

    ask, yes, no = message("user", "Is it?"), message("assistant", "Yes."), message("assistant", "No.")
    more = [message("system", "Be brief."), ask]
    explicit = [{"prompt": [ask], "chosen": [yes], "rejected": [no]}]
    implicit = [{"chosen": [*more, yes], "rejected": [*more, no]}]
    repeated = [{"prompt": "Is it?", "chosen": [ask, yes], "rejected": [ask, no]}]
    assert read_pairs(write_table(tmp_path, explicit), 1000)[0] == [
        Pair("User: Is it?".removeprefix("User: "), "Yes.", "No.")
    ]
    assert read_pairs(write_table(tmp_path, implicit, "json"), 1000)[0] == [
        Pair("System: Be brief.\n\nHuman: Is it?", "Yes.", "No.")
    ]
    assert read_pairs(write_table(tmp_path, repeated, "parquet"), 1000)[0] == [Pair("Is it?", "Yes.", "No.")]


def test_unusable_rows_are_counted(tmp_path: Path) -> None:
    rows = [
        *ROWS[:2],
        {"prompt": " ", "chosen": "a", "rejected": "b"},
        {"prompt": "p", "chosen": None, "rejected": "b"},
        {"prompt": "p", "chosen": "same ", "rejected": " same"},
    ]
    pairs, notes = read_pairs(source := write_table(tmp_path, rows), 1000)
    assert pairs == PAIRS[:2]
    assert notes == [
        f"3 of 5 rows of {source} were left out: 2 with an empty prompt or answer and 1 with identical chosen and "
        "rejected."
    ]


def problem(source: str) -> str:
    with pytest.raises(DataError) as caught:
        read_pairs(source, 1000)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_unreadable_sources_are_errors(tmp_path: Path) -> None:
    assert problem(str(tmp_path / "none.jsonl")).startswith("There is no file or folder ")
    assert "neither a file or folder here nor a data set" in problem("nobody/has-this")
    lacking = problem(write_table(tmp_path, [{"prompt": "p", "better": "a", "rejected": "b"}]))
    assert "lacks the column 'chosen'; it has prompt, better, rejected." in lacking
    assert "prompt, chosen, rejected" in lacking


def test_no_usable_pair(tmp_path: Path) -> None:
    same = [{"prompt": "p", "chosen": "a", "rejected": "a"}] * 3
    assert problem(write_table(tmp_path, same)).endswith(
        "has no usable pair; 3 of 3 rows of " + str(tmp_path / "rows.jsonl")
        + " were left out: 3 with identical chosen and rejected."
    )  # fmt: skip


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (7, "row 1: 'chosen' is 7, but it must be a text or a list of messages"),
        (["a"], "row 1: 'chosen' has 'a', but a message is {role, content}"),
        ([{"role": "user", "text": "a"}], "but a message is {role, content}"),
    ],
)
def test_answers_must_be_texts_or_messages(tmp_path: Path, bad: object, message: str) -> None:
    assert message in problem(write_table(tmp_path, [{"prompt": "p", "chosen": bad, "rejected": "b"}]))


# pairs by owner


def config(**changes: object) -> RunConfig:
    dotted = {name.replace("__", "."): value for name, value in changes.items()}
    return with_changes(RunConfig(), {"clients": 4, "reward.train_pairs": 4, "reward.test_pairs": 2, **dotted})


@given(st.integers(18, 120), st.integers(2, 4), st.integers(1, 3), st.integers(0, 3))
def test_no_prompt_is_in_two_places(prompts: int, clients: int, each: int, seed: int) -> None:
    pairs = [Pair(f"q{i}", f"a{i} {j}", "b") for i in range(prompts) for j in range(each)]
    part = spread_pairs(config(clients=clients, seed=seed), "helpfulness", pairs)
    places = [part.judge, *part.train, *part.test]
    instructions = [{pair.instruction for pair in place} for place in places]
    assert sum(map(len, instructions)) == len(set.union(*instructions))
    assert len(instructions[0]) == round(prompts / 3)
    assert all(1 <= len(pairs) <= 4 for pairs in part.train)
    assert all(1 <= len(pairs) <= 2 for pairs in part.test)


def test_enough_pairs_give_the_configured_numbers() -> None:
    part = spread_pairs(config(), "helpfulness", PAIRS)  # 40: 13 for the judge, 27 for four clients
    assert len(part.judge) == 13
    assert [(len(train), len(test)) for train, test in zip(part.train, part.test, strict=True)] == [(4, 2)] * 4


def test_few_pairs_keep_the_proportion() -> None:
    part = spread_pairs(config(reward__train_pairs=64, reward__test_pairs=32), "helpfulness", PAIRS)
    assert sorted((len(train), len(test)) for train, test in zip(part.train, part.test, strict=True)) == [
        (4, 2), (5, 2), (5, 2), (5, 2),
    ]  # fmt: skip


def test_the_judge_s_pairs_are_the_same_in_every_run() -> None:
    first = spread_pairs(config(), "harmlessness", PAIRS)
    other_run = spread_pairs(config(seed=5, clients=2, method="local"), "harmlessness", PAIRS)
    assert first.judge == other_run.judge
    assert first.train[0] != other_run.train[0]


def test_too_few_pairs() -> None:
    changed = config(clients=10, reward__helpful_source="few.jsonl")
    with pytest.raises(
        DataError, match="few.jsonl has usable pairs on 40 prompts, and 10 clients need 3 prompts each"
    ) as error:
        spread_pairs(changed, "helpfulness", PAIRS)
    assert "They would do for 9 clients: set clients to 9" in str(error.value)  # 40 − 13 = 27 = 9 · 3
    assert spread_pairs(with_changes(changed, {"clients": 9}), "helpfulness", PAIRS).train[8]
    with pytest.raises(DataError, match="too few for any federation"):
        spread_pairs(changed, "helpfulness", PAIRS[:6])


def test_both_axes_from_files() -> None:
    harmless = [Pair(f"Delicate {i}", f"I cannot {i}.", f"Sure {i}.") for i in range(40)]
    preferences = file_preferences(config(), {"helpfulness": PAIRS, "harmlessness": harmless})
    for client in preferences.clients:
        assert set(client.delicate) == {pair.instruction for pair in client.train["harmlessness"]}
        assert set(client.test_ordinary) == {pair.instruction for pair in client.test["helpfulness"]}
    assert [reference.instruction.split()[0] for reference in preferences.references] == ["Question"] * 26 + [
        "Delicate"
    ] * 26
    assert {reference.response for reference in preferences.references[:2]} == {
        preferences.judge["helpfulness"][0].chosen,
        preferences.judge["helpfulness"][0].rejected,
    }


def test_one_axis_from_a_file_and_one_from_the_corpus(tmp_path: Path) -> None:
    source = write_table(tmp_path, [*ROWS, {"prompt": "", "chosen": "a", "rejected": "b"}])
    changed = config(reward__harmless_source=source)
    preferences, demo = load_preferences(changed), demo_preferences(changed)
    for client, demo_client in zip(preferences.clients, demo.clients, strict=True):
        assert client.train["helpfulness"] == demo_client.train["helpfulness"]
        assert client.ordinary == demo_client.ordinary
        assert {pair.instruction for pair in client.train["harmlessness"]} == set(client.delicate)
        assert all(prompt.startswith("Question") for prompt in (*client.delicate, *client.test_delicate))
    assert preferences.judge["helpfulness"] == demo.judge["helpfulness"]
    assert preferences.references[: len(demo.references)] == demo.references
    assert preferences.notes[-2:] == (
        f"Harmlessness pairs: 24 of the 40 usable pairs of {source}, spread evenly over the clients, 4 to train on and "
        "2 to test on; 13 are the judge's.",
        f"1 of 41 rows of {source} were left out: 1 with an empty prompt or answer.",
    )
    assert load_preferences(config()) == demo_preferences(config())
