"""The README and docs/ say what the code does, and their links lead somewhere."""

from __future__ import annotations

import re
import sys

import pytest

from tests.support.doc_tables import DOCUMENTS, ROOT, TABLES, with_tables

TEXTS = {path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8") for path in DOCUMENTS}


def anchors(text: str) -> set[str]:
    """The fragments by which a link reaches the headings of a document, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading).strip().lower().replace(" ", "-") for heading in headings}


def links(text: str) -> list[str]:
    """What a document links to or shows, except other sites."""
    targets = re.findall(r"\]\(([^)\s]+)\)", text) + re.findall(r'(?:src|srcset|href)="([^"]+)"', text)
    return [target for target in targets if not target.startswith(("http:", "https:", "mailto:"))]


@pytest.mark.parametrize("name", TEXTS)
def test_tables_equal_the_code(name: str) -> None:
    assert with_tables(TEXTS[name]) == TEXTS[name], f"run: {sys.executable} -m tests.support.doc_tables"


@pytest.mark.parametrize("table", TABLES)
def test_every_table_has_one_place(table: str) -> None:
    assert sum(text.count(f"<!-- {table} -->") for text in TEXTS.values()) == 1


@pytest.mark.parametrize("name", TEXTS)
def test_every_link_leads_somewhere(name: str) -> None:
    for link in links(TEXTS[name]):
        target, _, fragment = link.partition("#")
        path = (ROOT / name).parent / target if target else ROOT / name
        assert path.exists(), link
        assert not fragment or fragment in anchors(path.read_text(encoding="utf-8")), link


def test_the_readme_links_to_every_document() -> None:
    assert {name for name in TEXTS if name != "README.md"} <= set(links(TEXTS["README.md"]))


def test_the_readme_stays_short() -> None:
    assert len(TEXTS["README.md"].encode()) <= 15_000


@pytest.mark.parametrize("name", TEXTS)
def test_files_that_a_text_names_exist(name: str) -> None:
    tops = "assets|benchmarks|docs|pages|pwff_core|tests"
    for path in re.findall(rf"`((?:{tops})/[\w./-]*)`", TEXTS[name]):
        assert (ROOT / path).exists(), path


def test_the_floor_plan_names_every_folder_and_the_vocabulary() -> None:
    plan = re.search(r"```text\n(app\.py.*?)```", TEXTS["docs/house.md"], re.DOTALL)
    assert plan is not None
    listed: set[str] = set()
    above: list[str] = []
    for line in plan[1].splitlines():
        depth = (len(line) - len(line.lstrip())) // 2
        above = [*above[:depth], line.split()[0]]
        listed.add("".join(above))
    assert [name for name in sorted(listed) if not (ROOT / name).exists()] == []
    sources = [*ROOT.glob("pwff_core/**/*.py"), *ROOT.glob("pages/**/*.py")]
    folders = {f"{path.parent.relative_to(ROOT).as_posix()}/" for path in sources}
    vocabulary = {f"pwff_core/{path.name}" for path in ROOT.glob("pwff_core/*.py") if not path.name.startswith("__")}
    assert folders | vocabulary <= listed
