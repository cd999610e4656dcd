"""No data can run code: the package has no pickle, no eval and no loader that unpickles."""

from __future__ import annotations

import ast
import json
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pwff_core.config import RunConfig
from pwff_core.data.sources import load_clients
from pwff_core.engine.models import saved_models
from pwff_core.errors import DataError, ModelError
from pwff_core.knobs import with_changes
from pwff_core.runs import uploads
from pwff_core.runs.run_files import RunFiles

ROOT = Path(__file__).resolve().parents[2]
SOURCES = [ROOT / "app.py", *ROOT.glob("pages/**/*.py"), *ROOT.glob("pwff_core/**/*.py"), *ROOT.glob("benchmarks/*.py")]
MODULES = frozenset(
    {"pickle", "_pickle", "cPickle", "pickletools", "marshal", "shelve", "dill", "cloudpickle", "joblib", "jsonpickle"}
)
BUILT_IN = frozenset({"eval", "exec", "compile", "__import__"})
LOADERS = frozenset({"torch.load", "torch.save", "torch.jit.load", "yaml.load", "yaml.unsafe_load", "pd.read_pickle"})
METHODS = frozenset({"read_pickle", "to_pickle", "unsafe_load", "full_load"})  # of whatever they are called on
SWITCHES = {"allow_pickle": True, "weights_only": False, "trust_remote_code": True, "shell": True}


def dangers_in(source: str) -> Iterator[str]:
    """A line for each call or import in a source that can run what it reads."""
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Import(names=names):
                yield from (f"import {name.name}" for name in names if name.name.partition(".")[0] in MODULES)
            case ast.ImportFrom(module=str(module), names=names):
                dotted = {module, *(f"{module}.{name.name}" for name in names)}
                if module.partition(".")[0] in MODULES or dotted & LOADERS:
                    yield f"from {module} import {', '.join(name.name for name in names)}"
            case ast.Call(func=called, keywords=keywords):
                name = ast.unparse(called)
                if name in BUILT_IN | LOADERS or name.rpartition(".")[2] in METHODS:
                    yield name
                if name.endswith("import_module") and node.args and ast.unparse(node.args[0]).strip("'\"") in MODULES:
                    yield ast.unparse(node)
                for keyword in keywords:
                    value = keyword.value
                    if keyword.arg not in SWITCHES:
                        continue
                    if not isinstance(value, ast.Constant) or value.value is SWITCHES[keyword.arg]:
                        yield f"{name}({keyword.arg}={ast.unparse(value)})"


def test_no_source_can_run_what_it_reads() -> None:
    assert len(SOURCES) > 100
    dangers = [
        f"{path.relative_to(ROOT)}: {line}" for path in SOURCES for line in dangers_in(path.read_text(encoding="utf-8"))
    ]
    assert dangers == []


@pytest.mark.parametrize(
    "planted",
    [
        "import pickle",
        "import os, marshal",
        "def late():\n    from shelve import open as keep",
        "from joblib.numpy_pickle import load",
        "import dill as json",
        "importlib.import_module('cloudpickle')",
        "state = torch.load(path, weights_only=True)",
        "from torch import load",
        "np.load(path, allow_pickle=True)",
        "np.load(path, allow_pickle=whatever)",
        "yaml.load(text)",
        "from yaml import unsafe_load",
        "pandas.read_pickle(path)",
        "frame.to_pickle(path)",
        "eval(text)",
        "class A:\n    def b(self):\n        exec(self.c)",
        "load(name, trust_remote_code=True)",
        "subprocess.run(text, shell=True)",
    ],
)
def test_a_planted_danger_is_found(planted: str) -> None:
    assert len(list(dangers_in(planted))) == 1


@pytest.mark.parametrize(
    "harmless",
    ["import json", "yaml.safe_load(text)", "model.eval()", "re.compile(text)", "np.load(path, allow_pickle=False)"],
)
def test_harmless_code_is_not_reported(harmless: str) -> None:
    assert list(dangers_in(harmless)) == []


class Bomb:
    """A pickle that touches a file when it is read."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


def test_a_pickle_instead_of_weights_or_data_does_nothing(tmp_path: Path) -> None:
    """For folders of pickled backbones and encoders see tests/engine/models."""
    went_off = tmp_path / "went-off"
    bomb = pickle.dumps(Bomb(went_off))
    models = RunFiles(tmp_path / "runs.sqlite").models("abc")
    models.mkdir(parents=True)
    (models / "after.safetensors").write_bytes(bomb)
    config = RunConfig()
    head = {
        "format": saved_models.FORMAT,
        "config": config.model_dump(mode="json"),
        "placed": [[[True]]],
        "moments": ["after"],
    }
    (models / "saved.json").write_text(json.dumps(head), encoding="utf-8")
    with pytest.raises(ModelError, match=r"are damaged \(.*[Hh]eader"):
        saved_models.load(models)
    source = uploads.keep(tmp_path / "runs.sqlite", "rows.parquet", bomb)
    config = with_changes(config, {"data.source": source})
    with pytest.raises(DataError, match="not valid Parquet"):
        load_clients(uploads.with_path(config, tmp_path / "runs.sqlite"))
    assert not went_off.exists()
    pickle.loads(bomb)
    assert went_off.exists()  # the bomb works
