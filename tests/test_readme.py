"""The README says what the code does."""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")


def test_tables_come_from_the_code() -> None:
    spec = importlib.util.spec_from_file_location("readme", ROOT / "tests" / "readme.py")
    assert spec is not None
    assert spec.loader is not None
    readme = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(readme)
    assert readme.with_tables(TEXT) == TEXT, f"run: {sys.executable} tests/support/readme.py"


def test_the_tree_names_what_is_there() -> None:
    tree = re.search(r"```text\n(app\.py.*?)```", TEXT, re.DOTALL)
    assert tree is not None
    folder = ROOT
    for line in tree[1].splitlines():
        name = line.split()[0]
        inside = line.startswith("  ")
        if not inside:
            folder = ROOT / name
        assert (folder / name if inside else ROOT / name).exists(), line
    listed = set(re.findall(r"^ {2}(\S+)", tree[1], re.MULTILINE))
    rooms = {path.name + "/" * path.is_dir() for path in (ROOT / "pwff_core").iterdir()}
    hidden = {"__pycache__/", "__init__.py", "__main__.py", "py.typed"}
    assert rooms - hidden <= listed


def test_pictures_and_files_it_links_to_exist() -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", TEXT):
        if not target.startswith("http"):
            assert (ROOT / target).exists(), target
