"""What is in the files of an export."""

from __future__ import annotations

import io
import json
import math
import re
import tomllib
from pathlib import Path
from typing import get_args

import pandas as pd
import plotly.graph_objects as go
import pyarrow.parquet as parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st
from plotly.offline import get_plotlyjs

from pwff_core.config import PresetId, RunConfig, preset_config
from pwff_core.export.contents import (
    clients_table,
    config_toml,
    readme_text,
    rounds_table,
    run_words,
    table_bytes,
    toml_value,
    web_page,
)
from pwff_core.knobs import load_toml, with_changes
from pwff_core.records import ClientRecord, RoundRecord, Steering
from pwff_core.runs.recording import Recording
from pwff_core.runs.store import RunRow, RunStatus
from tests.support.scripted import record, whole_run

TEXTS = st.text(st.characters(exclude_categories=["Cs"]))


@given(TEXTS | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False) | st.booleans() | st.tuples(st.floats(0, 1)))
def test_a_value_reads_back_from_toml(value: object) -> None:
    assert tomllib.loads(f"x = {toml_value(value)}")["x"] == (list(value) if isinstance(value, tuple) else value)


@pytest.mark.parametrize("preset", get_args(PresetId))
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"seed": 7, "channel.deadline_s": 2.5, "channel.coherence_time_s": math.inf, "data.personal_styles": False},
        {"instruction.learning_rate": None, "alignment.learning_rate": 1e-7, "data.topic_column": 'a "b" \\ \x7f ü'},
        {"clients": 2, "preferences.helpfulness_weights": (0.0, 1 / 3), "channel.deadline_s": math.inf},
    ],
)
def test_the_config_reads_back_over_every_preset(preset: PresetId, changes: dict[str, object], tmp_path: Path) -> None:
    config = with_changes(preset_config(preset), changes)
    file = tmp_path / "config.toml"
    file.write_text(config_toml(config), encoding="utf-8")
    for base in get_args(PresetId):
        assert load_toml(file, preset_config(base)) == config


def test_units_stand_beside_the_numbers() -> None:
    assert "snr_db = 5.0  # dB\n" in config_toml(RunConfig())


def recording(**changes: object) -> Recording:
    row = RunRow(
        id="abc", name="", created_at=0.0, status=RunStatus.STOPPED, message="", config=RunConfig(seed=3), profiles=(),
        notes=(), rounds_done=0, rounds_total=27, pid=None, heartbeat_at=None, deleted=False,
    )  # fmt: skip
    return Recording(row.model_copy(update=changes), (), (), {"python": "3.12.1", "pwff": "0.1.0"})


def test_a_run_in_words() -> None:
    assert run_words(recording(name="für <b>Ω</b>")) == (
        "Run abc (für <b>Ω</b>): PWFF, 10 clients, mean SNR 5 dB, 1 MHz and 1 W a client, Rayleigh fading; rounds at "
        "the most: 16 of instruction, 4 of reward, 7 of alignment; seed 3; 0 of 27 rounds played, stopped. The "
        "training is real; the channel, and with it delay and energy, is simulated."
    )


def test_a_steered_run_in_words() -> None:
    change = Steering(
        position=7,
        stage="instruction",
        round=7,
        before={"channel.snr_db": 5.0},
        changes={"channel.snr_db": 0.0},
        at=1.0,
    )
    text = run_words(recording()._replace(steerings=(change,)))
    assert "stopped. From round 7: SNR 5 → 0 dB. The training is real" in text


def test_the_readme_lists_files_sizes_versions_and_the_next_step() -> None:
    files = ["figures/a.pdf", "figures/b.pdf", "figures/figures.html", "tables/rounds.csv", "config.toml", "run.json"]
    text = readme_text("A title", "About it.", files, "ieee-2", {"python": "3.12.1", "pwff": "0.1.0"})
    assert text.startswith("A title\n=======\n\nAbout it.\n")
    assert text.count("figures/*.pdf            7.16 × 3 in; for LaTeX") == 1 and "a.pdf" not in text
    assert "pwff run --config config.toml" in text and "run.json has them" in text
    assert "Made with: Python 3.12.1, pwff 0.1.0" in text
    short = readme_text("A title", "About it.", ["tables/means.csv"], "slide", {})
    assert "--config" not in short and "run.json" not in short and "means.csv" in short


# ---- tables ----

RECORDS = [record(1, "abc"), record(2, "abc")]
TABLE = pd.DataFrame({"text": ["für Ω", "a,b"], "number": [math.inf, math.nan], "count": [1, 2], "yes": [True, False]})


def test_rounds_table_has_a_row_a_round_and_a_column_a_field() -> None:
    table = rounds_table(RECORDS)
    assert list(table.columns) == [name for name in RoundRecord.model_fields if name != "clients"]
    assert table["round"].tolist() == [1, 2]
    assert table["accuracy"].tolist() == [0.01, 0.02]
    assert table["energy_j"].sum() == 8.0
    assert table["reward"].isna().all()


def test_clients_table_has_a_row_a_client_and_round() -> None:
    table = clients_table(RECORDS)
    assert list(table.columns) == ["run", "method", "stage", "round", *ClientRecord.model_fields]
    assert table[["round", "client"]].to_numpy().tolist() == [[1, 0], [1, 1], [2, 0], [2, 1]]
    assert table["delivered"].tolist() == [True, False, True, False]
    assert table["delay_s"].tolist() == [2.0, 1.0, 2.0, 1.0]


def test_tables_of_no_rounds_keep_their_columns() -> None:
    assert rounds_table([]).shape == (0, len(RoundRecord.model_fields) - 1)
    assert clients_table([]).shape == (0, 4 + len(ClientRecord.model_fields))


def test_parquet_has_the_same_types_whatever_was_measured() -> None:
    few, whole = (table_bytes(rounds_table(records), "parquet") for records in (RECORDS, whole_run("abc")))
    schemas = [parquet.read_schema(io.BytesIO(packed)) for packed in (few, whole)]
    assert schemas[0].types == schemas[1].types
    assert str(schemas[0].field("reward").type) == "double" and str(schemas[0].field("round").type) == "int64"


def test_every_format_reads_back_as_the_table() -> None:
    csv = table_bytes(TABLE, "csv")
    assert csv.decode() == 'text,number,count,yes\nfür Ω,inf,1,True\n"a,b",,2,False\n'
    pd.testing.assert_frame_equal(pd.read_parquet(io.BytesIO(table_bytes(TABLE, "parquet"))), TABLE)
    assert json.loads(table_bytes(TABLE, "json")) == [
        {"text": "für Ω", "number": "Infinity", "count": 1, "yes": True},
        {"text": "a,b", "number": None, "count": 2, "yes": False},
    ]


def test_json_is_strict() -> None:
    def refuse(name: str) -> None:
        raise AssertionError(f"{name} is not JSON")

    packed = table_bytes(clients_table(whole_run("abc")), "json")
    rows = json.loads(packed, parse_constant=refuse)
    assert len(rows) == 9 * 5 and rows[0]["reward"] is None


# ---- the web page ----

EVIL = "</script><script>alert(1)</script>\"'"


def page() -> str:
    figure = go.Figure(go.Scatter(x=[1, 2], y=[3, 4], name=EVIL), {"title": {"text": EVIL}})
    return web_page(EVIL, EVIL, {"one": figure, "two": figure}, {"one": EVIL, "two": "A caption."})


def test_the_page_holds_plotly_once_and_needs_no_network() -> None:
    text = page().replace(get_plotlyjs(), "THE LIBRARY", 1)
    assert text.count("THE LIBRARY") == 1 and len(text) < 60_000  # so it is not in it a second time
    assert not re.search(r'(src|href)\s*=\s*["\']', text)


def test_hostile_text_stays_text() -> None:
    text = page().replace(get_plotlyjs(), "")
    assert "alert(1)</script>" not in text
    assert text.count("<script") == text.count("</script>")
    assert "&lt;/script&gt;" in text


def test_every_figure_has_a_caption_and_a_text_alternative() -> None:
    text = page()
    assert text.count("<figure>") == 2
    assert 'aria-label="A caption."' in text and "<figcaption>A caption.</figcaption>" in text
