from __future__ import annotations

import io
import json
import math

import pandas as pd
import pyarrow.parquet as parquet

from pwff_core.export import clients_table, rounds_table, table_bytes
from pwff_core.records import ClientRecord, RoundRecord
from tests.support.scripted import record, whole_run

RECORDS = [record(1, "abc"), record(2, "abc")]
TABLE = pd.DataFrame({"text": ["für Ω", "a,b"], "number": [math.inf, math.nan], "count": [1, 2], "yes": [True, False]})


def test_the_table_of_rounds_has_a_row_a_round_and_a_column_a_field() -> None:
    table = rounds_table(RECORDS)
    assert list(table.columns) == [name for name in RoundRecord.model_fields if name != "clients"]
    assert table["round"].tolist() == [1, 2]
    assert table["accuracy"].tolist() == [0.01, 0.02]
    assert table["energy_j"].sum() == 8.0
    assert table["reward"].isna().all()


def test_the_table_of_clients_has_a_row_a_client_and_round() -> None:
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
