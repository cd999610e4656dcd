"""The law of import, checked on the syntax trees of all sources; planted violations show that the check can fail."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parent.parent


class Layer(NamedTuple):
    """Rooms of one height. A room imports from the layers below its own, and from its peers unless they are blind."""

    rooms: frozenset[str]
    blind: bool = False


def layer(*rooms: str, blind: bool = False) -> Layer:
    return Layer(frozenset(rooms), blind)


# a room is a module or a package directly in pwff_core
LAYERS = (
    layer("symbols", "units", "errors", "paths", "seeds", "liveness", "processes"),
    layer("config", "methods", "records", "hosting", "uploads"),
    layer("wireless", "data", "models", "aggregation", blind=True),
    layer("stages"),
    layer("federation", "store", "figures", "launch", "conversation", "marks", blind=True),
    layer("recording", "queue", "comparison", "checkpoint", "resuming"),
    layer("worker", "talk", "export", "ranking", "flags", "terminal", "cli", "doctor", "foundation"),
    layer("__init__", "__main__"),
)
HEIGHT = {room: height for height, row in enumerate(LAYERS) for room in row.rooms}

# what the process of the user interface may load
INTERFACE = frozenset(
    {
        *("symbols", "units", "errors", "paths"),
        *("config", "methods", "records", "wireless", "hosting", "uploads"),
        *("store", "figures", "launch", "conversation", "marks"),
        *("recording", "queue", "comparison", "export", "resuming"),
    }
)
HEAVY = frozenset({"torch", "transformers", "peft", "trl", "accelerate", "datasets"})
ONLY_IN = {
    "streamlit": frozenset({"app", "pages"}),
    "plotly": frozenset({"figures", "export"}),
    "sqlite3": frozenset({"store"}),
    "openai": frozenset({"ranking"}),
}


def room_of(module: str) -> str:
    """`pwff_core.wireless.link` → `wireless`; `pages.widgets.knobs` → `pages`; `app` → `app`."""
    first, *rest = module.split(".")
    return (rest[0] if rest else "__init__") if first == "pwff_core" else first


def imported(module: str, source: str) -> Iterator[str]:
    """Dotted names of all modules that a source imports, wherever in it, relative names resolved."""
    here = module.split(".")  # a package's own source is called pwff_core.room.__init__, so the last name always falls
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            start = here[: -node.level] if node.level else []
            base = ".".join([*start, *([node.module] if node.module else [])])
            if base in ("pwff_core", "pages", "pages.widgets"):  # `from pwff_core import seeds` names the room last
                yield from (f"{base}.{alias.name}" for alias in node.names)
            else:
                yield base


def violations(sources: Mapping[str, str]) -> list[str]:
    """One line for each import that the law forbids, in sources by dotted module name."""
    found = []
    for module, source in sources.items():
        room = room_of(module)
        inside = module.startswith("pwff_core")
        if inside and room not in HEIGHT:
            found.append(f"{module}: the room {room!r} has no layer")
            continue
        for name in imported(module, source):
            reason = _own_rule(room, inside, name) if name.startswith("pwff_core") else _foreign_rule(room, name)
            if reason:
                found.append(f"{module} imports {name}: {reason}")
    return found


def _own_rule(room: str, inside: bool, name: str) -> str:
    target = room_of(name)
    if not inside:
        return "" if target in INTERFACE else "not a room of the user interface"
    if target == room:
        return ""
    if target not in HEIGHT:  # a name that the package itself defines: `from pwff_core import RunConfig`
        target = "__init__"
    if HEIGHT[target] > HEIGHT[room]:
        return "a higher layer"
    if HEIGHT[target] == HEIGHT[room] and LAYERS[HEIGHT[room]].blind:
        return "rooms of this layer do not know each other"
    return ""


def _foreign_rule(room: str, name: str) -> str:
    library = name.split(".")[0]
    if library in ("pages", "app", "tests", "benchmarks"):
        return "" if library == "pages" and room in ("pages", "app") else "nothing builds on it"
    if library in ONLY_IN and room not in ONLY_IN[library]:
        return f"{library} belongs to {', '.join(sorted(ONLY_IN[library]))}"
    if library in HEAVY and room in INTERFACE | {"pages", "app"}:
        return f"the user interface does not load {library}"
    return ""


def all_sources() -> dict[str, str]:
    paths = [*ROOT.glob("pwff_core/**/*.py"), *ROOT.glob("pages/**/*.py"), ROOT / "app.py"]
    names = {path: ".".join(path.relative_to(ROOT).with_suffix("").parts) for path in paths}
    return {name: path.read_text(encoding="utf-8") for path, name in names.items()}


def test_the_law_of_import() -> None:
    sources = all_sources()
    assert {"app", "pages.live", "pwff_core.federation", "pwff_core.wireless.link"} <= set(sources)
    assert violations(sources) == []


def test_every_room_of_the_law_exists() -> None:
    present = {room_of(module) for module in all_sources() if module.startswith("pwff_core")}
    assert present == set(HEIGHT)
    assert set(HEIGHT) >= INTERFACE


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("pwff_core.units", "from pwff_core.config import RunConfig"),
        ("pwff_core.units", "from pwff_core import RunConfig"),
        ("pwff_core.config", "import pwff_core.wireless.link"),
        ("pwff_core.wireless.link", "from pwff_core.data import corpus"),
        ("pwff_core.wireless.link", "from pwff_core import models"),
        ("pwff_core.wireless.link", "from ..data import corpus"),
        ("pwff_core.wireless.link", "from .. import data"),
        ("pwff_core.aggregation", "from .data import corpus"),
        ("pwff_core.models.cohort", "def late():\n    from pwff_core.aggregation import weighted_mean"),
        ("pwff_core.data.corpus", "from pwff_core.stages import instruction"),
        ("pwff_core.store", "if True:\n    from pwff_core.figures import PANELS"),
        ("pwff_core.federation", "from pwff_core.store import Store"),
        ("pwff_core.stages.instruction", "import pwff_core.cli"),
        ("pwff_core.cli", "from pages.widgets import knobs"),
        ("pwff_core.newroom", ""),
        ("pages.live", "from pwff_core.federation import run"),
        ("pages.live", "from pwff_core import run"),
        ("pages.live", "from pwff_core.worker import main"),
        ("pages.widgets.chart", "import torch"),
        ("pages.widgets.chart", "from plotly.graph_objects import Figure"),
        ("pages.widgets.chart", "import sqlite3"),
        ("app", "from pwff_core.models.cohort import Cohort"),
        ("app", "import transformers.models"),
        ("pages.live", "from pwff_core.ranking.settings import RankingConfig"),
        ("pwff_core.worker", "import streamlit as st"),
        ("pwff_core.cli", "import sqlite3"),
        ("pwff_core.stages.reward", "from openai import AsyncOpenAI"),
        ("pwff_core.store", "import plotly"),
        ("pwff_core.export", "def table():\n    import torch"),
        ("pwff_core.figures", "from peft import LoraConfig"),
        ("pwff_core.wireless.fading", "import torch.nn"),
    ],
)
def test_a_planted_violation_is_found(module: str, source: str) -> None:
    assert len(violations({module: source})) == 1


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("pwff_core.config", "from pwff_core.methods import MethodId\nfrom pwff_core import errors"),
        ("pwff_core.wireless.link", "from .fading import gains\nfrom ..config import RunConfig\nimport numpy"),
        ("pwff_core.federation", "import torch\nfrom pwff_core.stages import instruction\nfrom pwff_core import seeds"),
        ("pwff_core.worker", "from pwff_core.store import Store\nfrom pwff_core.federation import run"),
        ("pwff_core.__main__", "from pwff_core.cli import main"),
        ("pages.live", "import streamlit\nfrom pages.widgets import knobs\nfrom pwff_core import launch"),
        ("app", "import streamlit\nfrom pages.widgets import words\nfrom pwff_core.paths import assets_dir"),
        ("pwff_core.export", "import plotly.io\nfrom pwff_core.figures import PANELS"),
    ],
)
def test_a_lawful_import_is_not_accused(module: str, source: str) -> None:
    assert violations({module: source}) == []


def loaded_after(*modules: str) -> set[str]:
    """The heavy libraries that a fresh process holds after these imports."""
    code = f"import importlib, sys\nfor name in {modules!r}: importlib.import_module(name)\nprint(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return {name.split(".")[0] for name in done.stdout.split()} & HEAVY


def test_the_user_interface_s_rooms_do_not_load_torch() -> None:
    rooms = [
        *("pwff_core", "pwff_core.config", "pwff_core.methods", "pwff_core.records", "pwff_core.units"),
        *("pwff_core.symbols", "pwff_core.errors", "pwff_core.paths", "pwff_core.launch"),
        *("pwff_core.hosting", "pwff_core.uploads"),
        *("pwff_core.wireless.fading", "pwff_core.wireless.link", "pwff_core.wireless.payload"),
        *("pwff_core.store", "pwff_core.figures", "pwff_core.export", "pwff_core.conversation"),
        *("pwff_core.recording", "pwff_core.queue", "pwff_core.comparison", "pwff_core.marks", "pwff_core.resuming"),
    ]
    assert {room_of(name) for name in rooms} == INTERFACE | {"__init__"}
    assert loaded_after(*rooms) == set()


def test_the_widgets_do_not_load_torch() -> None:
    widgets = [name for name in all_sources() if name.startswith("pages.widgets.")]
    assert "pages.widgets.knobs" in widgets
    assert loaded_after(*widgets) == set()


def test_what_trains_does_load_torch() -> None:
    assert "torch" in loaded_after("pwff_core.federation")  # so the two tests above can fail
