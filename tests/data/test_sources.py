"""Examples from files: Alpaca columns in four formats, and a sentence for every mistake."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pwff_core.config import RunConfig
from pwff_core.data.sources import load_clients
from pwff_core.errors import DataError
from pwff_core.knobs import with_changes
from tests.support.tables import write_table

SUBJECTS = ("soup", "bread", "engine", "wheel", "river", "lake")


def alpaca(count: int = 60) -> list[dict[str, str]]:
    return [
        {
            "instruction": f"Explain the {SUBJECTS[i % 6]} number {i}",
            "input": "briefly" if i % 2 else "",
            "output": f"The {SUBJECTS[i % 6]} {i} is fine.",
            "area": SUBJECTS[i % 6],
        }
        for i in range(count)
    ]


def config_of(path: object, **changes: object) -> RunConfig:
    dotted = {name.replace("__", "."): value for name, value in changes.items()}
    return with_changes(RunConfig(), {"data.source": str(path), "clients": 4, **dotted})


@pytest.mark.parametrize("kind", ["json", "jsonl", "csv", "parquet"])
def test_every_format_gives_the_same_clients(tmp_path: Path, kind: str) -> None:
    clients, notes = load_clients(config_of(write_table(tmp_path, alpaca(), kind)))
    reference, _ = load_clients(config_of(write_table(tmp_path, alpaca(), "jsonl")))
    assert clients == reference
    example = next(e for e in clients[0].train if "briefly" in e.instruction)
    number = int(example.instruction.split("number ")[1].split("\n")[0])
    assert example.instruction == f"Explain the {SUBJECTS[number % 6]} number {number}\nbriefly"
    assert example.text == f"The {SUBJECTS[number % 6]} {number} is fine."
    assert "of the 60 usable rows" in notes[0]
    assert "clustering" in notes[0]


def test_topics_from_a_column(tmp_path: Path) -> None:
    clients, notes = load_clients(config_of(write_table(tmp_path, alpaca(), "json"), data__topic_column="area"))
    assert {topic for client in clients for topic in client.topics()} <= set(SUBJECTS)
    assert "topics from the column 'area'" in notes[0]


def test_clusters_are_the_subjects(tmp_path: Path) -> None:
    clients, _ = load_clients(config_of(write_table(tmp_path, alpaca(), "json"), data__topics=6))
    clusters = {(e.topic, e.instruction.split()[2]) for c in clients for e in (*c.train, *c.test, *c.validation)}
    assert len(clusters) <= 8  # 6 clusters over 6 subjects, hardly mixed


def test_rows_without_text_are_counted(tmp_path: Path) -> None:
    path = tmp_path / "rows.json"
    path.write_text(json.dumps([*alpaca(), {"instruction": " ", "input": "", "output": "x", "area": ""}]))
    _, notes = load_clients(config_of(path))
    assert "1 rows with an empty instruction or output were left out." in notes


def problem(path: object, **changes: object) -> str:
    with pytest.raises(DataError) as caught:
        load_clients(config_of(path, **changes))
    text = str(caught.value)
    assert "Traceback" not in text
    assert "\n" not in text
    return text


def test_missing_file(tmp_path: Path) -> None:
    assert problem(tmp_path / "none.json").startswith("There is no file or folder ")


def test_empty_file(tmp_path: Path) -> None:
    (tmp_path / "rows.json").write_text("")
    assert "is empty" in problem(tmp_path / "rows.json")


def test_unknown_type(tmp_path: Path) -> None:
    (tmp_path / "rows.txt").write_text("hello")
    assert "unknown type; give a .json, .jsonl, .csv or .parquet file" in problem(tmp_path / "rows.txt")


def test_not_json(tmp_path: Path) -> None:
    (tmp_path / "rows.json").write_text("hello, {this is not JSON")
    assert "cannot be read: " in problem(tmp_path / "rows.json")


def test_lacking_columns_are_named(tmp_path: Path) -> None:
    (tmp_path / "rows.json").write_text(json.dumps([{"question": "a", "output": "b"}] * 50))
    text = problem(tmp_path / "rows.json")
    assert "lacks the column 'instruction'" in text
    assert "question, output" in text
    assert "lacks the column 'subject'" in problem(
        write_table(tmp_path, alpaca(), "jsonl"), data__topic_column="subject"
    )


def test_too_few_rows_for_the_clients(tmp_path: Path) -> None:
    (tmp_path / "rows.json").write_text(json.dumps(alpaca(3)))
    assert "3 usable rows for 4 clients" in problem(tmp_path / "rows.json")


@pytest.mark.parametrize("bad", [7, 2.5, True, ["a"], {"b": "c"}])
def test_values_must_be_texts(tmp_path: Path, bad: object) -> None:
    (tmp_path / "rows.json").write_text(json.dumps([{"instruction": "a", "output": bad}] * 50))
    assert "row 1: 'output' is" in problem(tmp_path / "rows.json")


def test_mixed_types_in_a_column(tmp_path: Path) -> None:
    rows = [*alpaca(), {"instruction": "x", "input": "", "output": 5, "area": ""}]
    (tmp_path / "rows.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    assert "rows.jsonl" in problem(tmp_path / "rows.jsonl")


def test_unknown_hub_id_without_network() -> None:
    assert "neither a file or folder here nor a data set" in problem("nobody/has-this")
