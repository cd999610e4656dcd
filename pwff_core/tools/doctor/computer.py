"""What runs need of the computer: a folder to write to, disk, memory, the right versions, a browser for pictures."""

from __future__ import annotations

import os
import platform
import shutil
import tempfile
import tomllib
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import psutil
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from pwff_core.paths import root_dir
from pwff_core.tools.doctor.findings import Finding, Level
from pwff_core.units import with_prefix

LITTLE_DISK = 1_000_000_000  # bytes; a demo run with its checkpoints and models takes some ten million
NO_DISK = 100_000_000
LITTLE_MEMORY = 1_500_000_000  # bytes; a demo run needs 0.9 GB
_SHOWN = ("torch", "transformers", "streamlit", "plotly")  # of the packages; of the others only what is wrong


def findings(path: Path) -> Iterator[Finding]:
    """What there is to say of the computer, for a store at `path`."""
    folder = next(parent for parent in path.absolute().parents if parent.is_dir())
    yield _writable(folder)
    yield _disk(folder)
    yield _memory()
    yield from _versions()
    yield _browser()


def _writable(folder: Path) -> Finding:
    try:
        with tempfile.TemporaryFile(dir=folder):
            return Finding("Folder", Level.OK, f"{folder} can be written.")
    except OSError as error:
        return Finding(
            "Folder", Level.PROBLEM, f"{folder} cannot be written ({error.strerror}), so no run can be kept there.",
            "Allow writing there, or choose another file with --store or $PWFF_STORE.",
        )  # fmt: skip


def _disk(folder: Path) -> Finding:
    free = shutil.disk_usage(folder).free
    if free >= LITTLE_DISK:
        return Finding("Disk", Level.OK, f"{with_prefix(free, 'B')} are free.")
    advice = "Make room: delete runs on the Runs page and `pwff doctor --mend --purge-deleted`, or move the store."
    level, means = (
        (Level.NOTE, "runs with large models may fill it") if free >= NO_DISK else (Level.PROBLEM, "runs may stop")
    )
    return Finding("Disk", level, f"Only {with_prefix(free, 'B')} are free where the store lies; {means}.", advice)


def _memory() -> Finding:
    free = psutil.virtual_memory().available
    if free >= LITTLE_MEMORY:
        return Finding("Memory", Level.OK, f"{with_prefix(free, 'B')} are free.")
    return Finding(
        "Memory", Level.NOTE, f"Only {with_prefix(free, 'B')} are free; the demo needs about 0.9 GB, other runs more.",
        "Close other programs, or choose fewer clients.",
    )  # fmt: skip


def _versions() -> Iterator[Finding]:
    """Are the packages those that this pwff asks for? Nothing is imported for it."""
    python, asked = _asked()
    here = platform.python_version()
    if not python.contains(here):
        yield Finding("Versions", Level.PROBLEM, f"Python {here} is not {python}.", "Install pwff with such a Python.")
    found = {one.name: _installed(one.name) for one in asked}
    for one in asked:
        version = found[one.name]
        if version is None or not one.specifier.contains(version, prereleases=True):
            level = Level.PROBLEM if version is None else Level.NOTE
            has = "is not installed" if version is None else f"is {version}"
            yield Finding("Versions", level, f"{one.name} {has}; pwff asks for {one}.", f"pip install '{one}'")
    shown = ", ".join(f"{name} {found[name]}" for name in _SHOWN if found.get(name))
    yield Finding("Versions", Level.OK, f"Python {here}, {shown}; {len(asked)} packages were looked at.")


def _asked() -> tuple[SpecifierSet, list[Requirement]]:
    """The Python and the packages that are needed: as pyproject.toml says in a checkout, otherwise as it was installed.

    Optional ones are not among them.
    """
    project = root_dir() / "pyproject.toml"
    if project.is_file():
        table = tomllib.loads(project.read_text(encoding="utf-8"))["project"]
        python, lines = table["requires-python"], table["dependencies"]
    else:
        installed = metadata.metadata("pwff")
        python, lines = installed["Requires-Python"], installed.get_all("Requires-Dist") or []
    needed = [Requirement(line) for line in lines]
    return SpecifierSet(python), [one for one in needed if one.marker is None or one.marker.evaluate({"extra": ""})]


def _installed(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _browser() -> Finding:
    from choreographer.browsers.chromium import Chromium  # kaleido's own way to find one; pwff's needs pandas

    found = Chromium.find_browser(skip_local=False)
    if found and os.path.isfile(found) and os.access(found, os.X_OK):
        return Finding("Chrome", Level.OK, f"Pictures are drawn with {found}.")
    return Finding(
        "Chrome", Level.NOTE, "No Chrome or Chromium was found, so exports have no PNG, SVG and PDF; all else works.",
        "`apt install chromium`, or `kaleido_get_chrome`, or name the program in $BROWSER_PATH.",
    )  # fmt: skip
