"""The law of import, checked on the syntax trees of all sources; planted violations show that the check can fail.

1. vocabulary ← wireless ← runs | figures | comparison ← data | export ← engine ← tools ← cli; figures, comparison: no runs.store
2. pages import anything but data, engine, tools, cli; engine's models, stages, setup and federation never import runs.store
3. torch and its kind in engine and tools alone; streamlit in app and pages; plotly in figures and export; sqlite3 in runs.store
4. a new module is lawful by where it stands: folders alone are named here
"""  # noqa: E501

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
CORE, VOCABULARY = "pwff_core", ""

# line 1: a folder of pwff_core imports from the floors below its own, and from its own floor; modules outside any
# folder are the vocabulary
FLOORS = (
    {VOCABULARY},
    {"wireless"},
    {"runs", "figures", "comparison"},
    {"data", "export"},
    {"engine"},
    {"tools"},
    {"cli"},
)
FLOOR = {folder: height for height, folders in enumerate(FLOORS) for folder in folders}
# lines 1 and 2: who never imports whom, whatever the floors say
NEVER = (
    ("pwff_core.figures", "pwff_core.runs.store"),
    ("pwff_core.comparison", "pwff_core.runs.store"),
    ("pwff_core.engine.models", "pwff_core.runs.store"),
    ("pwff_core.engine.stages", "pwff_core.runs.store"),
    ("pwff_core.engine.setup", "pwff_core.runs.store"),
    ("pwff_core.engine.federation", "pwff_core.runs.store"),
    *((page, f"pwff_core.{folder}") for page in ("pages", "app") for folder in ("data", "engine", "tools", "cli")),
)
# line 3: a library and the places that may import it
TORCH = ("torch", "transformers", "peft", "trl", "safetensors", "accelerate")
ONLY_IN = {
    **dict.fromkeys(TORCH, ("pwff_core.engine", "pwff_core.tools")),
    "datasets": ("pwff_core.data", "pwff_core.engine", "pwff_core.tools"),
    "openai": ("pwff_core.tools",),
    "plotly": ("pwff_core.figures", "pwff_core.export"),
    "sqlite3": ("pwff_core.runs.store",),
    "streamlit": ("pages", "app"),
}
# the package's two faces hand names on: they load the engine and the command line when these are first asked for
FACES = ("pwff_core.__init__", "pwff_core.__main__")


def within(module: str, place: str) -> bool:
    """Whether a module is this place, or stands in it."""
    return module == place or module.startswith(f"{place}.")


def imported(module: str, source: str) -> Iterator[str]:
    """Dotted names of all that a source imports, wherever in it, relative names resolved.

    `from a.b import c` is both a.b and a.b.c: c may be a module.
    """
    here = module.split(".")  # a package's own source is called pwff_core.room.__init__, so the last name always falls
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            start = here[: -node.level] if node.level else []
            base = ".".join([*start, *([node.module] if node.module else [])])
            yield from (f"{base}.{alias.name}" for alias in node.names)


def folder_of(name: str) -> str:
    """The folder of pwff_core in which a dotted name stands: `pwff_core.wireless.link.rate` → `wireless`."""
    parts = name.split(".")
    return parts[1] if len(parts) > 1 and parts[1] in FLOOR else VOCABULARY


def violation(module: str, name: str) -> str:
    """Why a module may not import a name; nothing where it may."""
    library = name.split(".")[0]
    places = ONLY_IN.get(library)
    if places and not any(within(module, place) for place in places):
        return f"{library} belongs to {' and '.join(places)}"
    if library in ("app", "tests", "benchmarks") or (library == "pages" and module.startswith(f"{CORE}.")):
        return "nothing builds on it"
    if library != CORE or module in FACES:
        return ""
    if name in (CORE, f"{CORE}.run") and not module.startswith(f"{CORE}."):
        return "the package's `run` is the engine"
    for importer, target in NEVER:
        if within(module, importer) and within(name, target):
            return f"{importer} never imports {target}"
    if module.startswith(f"{CORE}."):
        return "a higher floor" if FLOOR[folder_of(name)] > FLOOR[folder_of(module)] else ""
    return ""


def violations(sources: Mapping[str, str]) -> list[str]:
    """One line for each import that the law forbids, in sources by dotted module name."""
    return [
        f"{module} imports {name}: {reason}"
        for module, source in sources.items()
        for name in imported(module, source)
        if (reason := violation(module, name))
    ]


def all_sources() -> dict[str, str]:
    paths = [*ROOT.glob("pwff_core/**/*.py"), *ROOT.glob("pages/**/*.py"), ROOT / "app.py"]
    names = {path: ".".join(path.relative_to(ROOT).with_suffix("").parts) for path in paths}
    return {name: path.read_text(encoding="utf-8") for path, name in names.items()}


def test_the_law_of_import() -> None:
    sources = all_sources()
    assert {"app", "pages.live", "pwff_core.engine.federation", "pwff_core.wireless.link"} <= set(sources)
    assert violations(sources) == []


def test_every_folder_has_a_floor() -> None:
    folders = {path.parent.name for path in ROOT.glob(f"{CORE}/*/*.py")}
    assert folders == set(FLOOR) - {VOCABULARY}


@pytest.mark.parametrize(
    ("module", "source"),
    [
        # 1: floors
        ("pwff_core.units", "from pwff_core.wireless.link import transfer"),
        ("pwff_core.config", "import pwff_core.wireless.link"),
        ("pwff_core.config", "from pwff_core import runs"),
        ("pwff_core.new_module", "from pwff_core.engine.setup import prepare"),
        ("pwff_core.wireless.link", "from pwff_core.runs import limits"),
        ("pwff_core.wireless.link", "from ..data import corpus"),
        ("pwff_core.wireless.link", "from .. import data"),
        ("pwff_core.runs.chat", "from pwff_core.data.encoding import encode"),
        ("pwff_core.runs.new_module", "from pwff_core.export import parse_options"),
        ("pwff_core.figures.panels", "if True:\n    from pwff_core.runs.store import Store"),
        ("pwff_core.comparison.claims", "from pwff_core.runs import store"),
        ("pwff_core.data.corpus", "from pwff_core.engine.stages import instruction"),
        ("pwff_core.export.new_module", "from pwff_core.engine import peft_export"),
        ("pwff_core.engine.worker.new_module", "import pwff_core.tools.doctor"),
        ("pwff_core.tools.rank.command", "from pwff_core.cli.terminal import table"),
        ("pwff_core.cli.run", "from pages.parts import words"),
        ("pwff_core.cli.run", "from tests.support import scripted"),
        # 2: pages, and what of the engine knows no store
        ("pages.live", "from pwff_core.engine.federation import run"),
        ("pages.live", "from pwff_core import run"),
        ("pages.live", "import pwff_core"),
        ("pages.run.new_module", "from pwff_core.data.corpus import load"),
        ("pages.settings.panel", "from pwff_core.cli import main"),
        ("pages.live", "from pwff_core.tools.rank.settings import RankingConfig"),
        ("app", "from pwff_core.engine.models.cohort import Cohort"),
        ("pwff_core.engine.federation", "from pwff_core.runs.store import Store"),
        ("pwff_core.engine.setup", "from pwff_core.runs import store"),
        ("pwff_core.engine.stages.new_module", "def late():\n    from pwff_core.runs.store.rows import RunRow"),
        ("pwff_core.engine.models.cohort", "import pwff_core.runs.store"),
        # 3: libraries
        ("pwff_core.figures.theme", "from peft import LoraConfig"),
        ("pwff_core.wireless.fading", "import torch.nn"),
        ("pwff_core.runs.checkpoints", "from safetensors.torch import load_file"),
        ("pwff_core.export.contents", "def table():\n    import torch"),
        ("pwff_core.cli.app", "import transformers"),
        ("pwff_core.runs.uploads", "import datasets"),
        ("pages.parts.chart", "import torch"),
        ("pages.parts.chart", "from plotly.graph_objects import Figure"),
        ("pages.parts.chart", "import sqlite3"),
        ("app", "import transformers.models"),
        ("pwff_core.engine.worker.new_module", "import streamlit as st"),
        ("pwff_core.cli.runs", "import sqlite3"),
        ("pwff_core.runs.recording", "import plotly"),
        ("pwff_core.engine.stages.reward", "from openai import AsyncOpenAI"),
    ],
)
def test_a_planted_violation_is_found(module: str, source: str) -> None:
    assert len(violations({module: source})) == 1


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("pwff_core.config", "from pwff_core.methods import MethodId\nfrom pwff_core import errors"),
        ("pwff_core.wireless.link", "from .fading import gains\nfrom ..config import RunConfig\nimport numpy"),
        ("pwff_core.runs.new_module", "from pwff_core.runs.store import Store\nfrom pwff_core import units"),
        ("pwff_core.figures.panels", "from pwff_core.runs import recording\nimport plotly"),
        ("pwff_core.export.job", "import plotly.io\nfrom pwff_core.figures import PANELS"),
        ("pwff_core.engine.federation", "import torch\nfrom pwff_core.data import corpus\nfrom pwff_core import seeds"),
        ("pwff_core.engine.worker.new_module", "from pwff_core.runs.store import Store"),
        ("pwff_core.tools.new_tool.command", "from pwff_core.engine.models import backbone\nimport torch"),
        ("pwff_core.cli.run", "from pwff_core import RunConfig, seeds\nfrom pwff_core.tools import doctor"),
        ("pwff_core.__main__", "from pwff_core.cli import main"),
        ("pages.live", "import streamlit\nfrom pages.run import steering\nfrom pwff_core.runs import scheduler"),
        ("app", "import streamlit\nfrom pages.parts import words\nfrom pwff_core.paths import assets_dir"),
    ],
)
def test_a_lawful_import_is_not_accused(module: str, source: str) -> None:
    assert violations({module: source}) == []


def loaded_after(*modules: str) -> set[str]:
    """The heavy libraries that a fresh process holds after these imports."""
    code = f"import importlib, sys\nfor name in {modules!r}: importlib.import_module(name)\nprint(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return {name.split(".")[0] for name in done.stdout.split()} & {*TORCH, "datasets"}


def test_what_pages_may_import_does_not_load_torch() -> None:
    forbidden = ("pwff_core.data", "pwff_core.engine", "pwff_core.tools", "pwff_core.cli")
    modules = [name.removesuffix(".__init__") for name in all_sources() if name.startswith((CORE, "pages."))]
    scripts = {f"pages.{path.stem}" for path in ROOT.glob("pages/*.py")}  # these draw as they are imported
    light = [
        name
        for name in modules
        if not any(within(name, place) for place in forbidden) and name not in scripts and "__main__" not in name
    ]
    assert {"pwff_core", "pages.run.steering", "pwff_core.runs.store.store"} <= set(light)
    assert loaded_after(*light) == set()


def test_what_trains_does_load_torch() -> None:
    assert "torch" in loaded_after("pwff_core.engine.federation")  # so the test above can fail
