"""What is kept for a later call: whole lines alone, the last of a key, and nothing lost by a cut."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pwff_core.errors import ConfigError
from pwff_core.tools.rank.cache import KeptResponses, KeptVerdict, keeping, read_kept

ONE = KeptVerdict(key="1", verdict="first", room=512, tokens_in=10, tokens_out=1)
TWO = KeptVerdict(key="2", verdict="unreadable", room=512, tokens_in=None, tokens_out=None, said="Hm … “é”\n")


def test_entries_come_back_and_later_ones_count(tmp_path: Path) -> None:
    path = tmp_path / "new" / "verdicts.jsonl"
    assert read_kept(path, KeptVerdict) == {}
    with keeping(path) as keeper:
        keeper.add(ONE)
        keeper.add(TWO)
        assert read_kept(path, KeptVerdict) == {"1": ONE, "2": TWO}  # at once, not when it is closed
    again = ONE.model_copy(update={"verdict": "tie"})
    with keeping(path) as keeper:
        keeper.add(again)
    assert read_kept(path, KeptVerdict) == {"1": again, "2": TWO}


def test_wherever_the_last_line_is_cut_the_others_stay_and_the_next_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "verdicts.jsonl"
    first, last = (entry.model_dump_json().encode() + b"\n" for entry in (ONE, TWO))
    for length in range(len(last)):
        path.write_bytes(first + last[:length])
        whole = {"2": TWO} if length == len(last) - 1 else {}  # all but the end of the line
        assert read_kept(path, KeptVerdict) == {"1": ONE} | whole
        with keeping(path) as keeper:
            keeper.add(ONE.model_copy(update={"key": "3"}))
        assert set(read_kept(path, KeptVerdict)) == {"1", "3", *whole}


@given(st.lists(st.binary(max_size=30), max_size=5))
def test_lines_that_are_no_entries_are_passed_over(
    tmp_path_factory: pytest.TempPathFactory, lines: list[bytes]
) -> None:
    path = tmp_path_factory.mktemp("kept") / "verdicts.jsonl"
    path.write_bytes(b"\n".join([*lines, ONE.model_dump_json().encode(), b""]))
    assert read_kept(path, KeptVerdict) == {"1": ONE}


def test_an_entry_of_another_kind_is_none(tmp_path: Path) -> None:
    path = tmp_path / "verdicts.jsonl"
    path.write_text(
        ONE.model_dump_json() + "\n" + '{"key": "4", "verdict": "maybe", "room": 1, "tokens_in": 1, "tokens_out": 1}\n'
    )
    assert read_kept(path, KeptResponses) == {}
    assert set(read_kept(path, KeptVerdict)) == {"1"}


def test_a_place_that_cannot_be_used_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(ConfigError, match=r"Cannot write .*choose another folder with --to\."):
        with keeping(tmp_path / "file" / "verdicts.jsonl"):
            pass
    with pytest.raises(ConfigError, match=r"Cannot read .* \(Is a directory\); choose another folder with --to\."):
        read_kept(tmp_path, KeptVerdict)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_full_disk_is_a_sentence() -> None:
    with pytest.raises(ConfigError, match="Cannot write /dev/full \\(No space left on device\\); make room"):
        with keeping(Path("/dev/full")) as keeper:
            keeper.add(ONE)


def test_an_unreadable_answer_holds_until_there_is_more_room() -> None:
    assert ONE.holds(1024)
    assert TWO.holds(512) and TWO.holds(8)
    assert not TWO.holds(513)
