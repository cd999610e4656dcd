"""The cache for a later call: whole lines alone, the last of a key, and nothing lost by a cut."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pwff_core.errors import ConfigError
from pwff_core.tools.rank.cache import CachedResponses, CachedVerdict, open_cache, read_cache

FIRST = CachedVerdict(key="1", verdict="first", room=512, tokens_in=10, tokens_out=1)
UNREADABLE = CachedVerdict(key="2", verdict="unreadable", room=512, tokens_in=None, tokens_out=None, said="Hm … “é”\n")


def test_entries_are_read_back_and_later_ones_win(tmp_path: Path) -> None:
    path = tmp_path / "new" / "verdicts.jsonl"
    assert read_cache(path, CachedVerdict) == {}
    with open_cache(path) as writer:
        writer.add(FIRST)
        writer.add(UNREADABLE)
        assert read_cache(path, CachedVerdict) == {"1": FIRST, "2": UNREADABLE}  # at once, not when it is closed
    again = FIRST.model_copy(update={"verdict": "tie"})
    with open_cache(path) as writer:
        writer.add(again)
    assert read_cache(path, CachedVerdict) == {"1": again, "2": UNREADABLE}


def test_a_last_line_that_is_cut_anywhere_harms_no_other(tmp_path: Path) -> None:
    path = tmp_path / "verdicts.jsonl"
    first, last = (entry.model_dump_json().encode() + b"\n" for entry in (FIRST, UNREADABLE))
    for length in range(len(last)):
        path.write_bytes(first + last[:length])
        whole = {"2": UNREADABLE} if length == len(last) - 1 else {}  # all but the end of the line
        assert read_cache(path, CachedVerdict) == {"1": FIRST} | whole
        with open_cache(path) as writer:
            writer.add(FIRST.model_copy(update={"key": "3"}))
        assert set(read_cache(path, CachedVerdict)) == {"1", "3", *whole}


@given(st.lists(st.binary(max_size=30), max_size=5))
def test_lines_that_are_no_entries_are_ignored(tmp_path_factory: pytest.TempPathFactory, lines: list[bytes]) -> None:
    path = tmp_path_factory.mktemp("cache") / "verdicts.jsonl"
    path.write_bytes(b"\n".join([*lines, FIRST.model_dump_json().encode(), b""]))
    assert read_cache(path, CachedVerdict) == {"1": FIRST}


def test_entries_of_another_kind_are_ignored(tmp_path: Path) -> None:
    path = tmp_path / "verdicts.jsonl"
    unknown = '{"key": "4", "verdict": "maybe", "room": 1, "tokens_in": 1, "tokens_out": 1}'
    path.write_text(f"{FIRST.model_dump_json()}\n{unknown}\n")
    assert read_cache(path, CachedResponses) == {}
    assert set(read_cache(path, CachedVerdict)) == {"1"}


def test_a_path_that_cannot_be_used_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(ConfigError, match=r"Cannot write .*choose another folder with --to\."):
        with open_cache(tmp_path / "file" / "verdicts.jsonl"):
            pass
    with pytest.raises(ConfigError, match=r"Cannot read .* \(Is a directory\); choose another folder with --to\."):
        read_cache(tmp_path, CachedVerdict)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_full_disk_is_an_error() -> None:
    with pytest.raises(ConfigError, match="Cannot write /dev/full \\(No space left on device\\); make room"):
        with open_cache(Path("/dev/full")) as writer:
            writer.add(FIRST)


def test_an_unreadable_answer_is_final_unless_there_is_more_room() -> None:
    assert FIRST.is_final(1024)
    assert UNREADABLE.is_final(512) and UNREADABLE.is_final(8)
    assert not UNREADABLE.is_final(513)
