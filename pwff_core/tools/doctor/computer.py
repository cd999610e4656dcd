"""What runs need of the computer: a writable folder, disk, memory, the right versions, a browser for pictures."""

from __future__ import annotations

import os
import platform
import shutil
import tempfile
import tomllib
from collections.abc import Callable, Iterator, Sequence
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
_LISTED = ("torch", "transformers", "streamlit", "plotly")  # packages whose versions are always shown


def findings(path: Path) -> Iterator[Finding]:
    """The checklist of the computer, for a store at `path`."""
    folder = next(parent for parent in path.absolute().parents if parent.is_dir())
    yield folder_finding(folder)
    yield disk_finding(shutil.disk_usage(folder).free)
    yield memory_finding(psutil.virtual_memory().available)
    yield from version_findings(*requirements(root_dir() / "pyproject.toml"))
    yield browser_finding()


def folder_finding(folder: Path) -> Finding:
    """Can a store be written there?"""
    try:
        with tempfile.TemporaryFile(dir=folder):
            return Finding("Folder", Level.OK, f"{folder} can be written.")
    except OSError as error:
        return Finding(
            "Folder", Level.PROBLEM, f"{folder} cannot be written ({error.strerror}), so no run can be kept there.",
            "Allow writing there, or choose another file with --store or $PWFF_STORE.",
        )  # fmt: skip


def disk_finding(free: float) -> Finding:
    """Is there room for runs? `free`: [byte]."""
    if free >= LITTLE_DISK:
        return Finding("Disk", Level.OK, f"{with_prefix(free, 'B')} are free.")
    advice = "Make room: delete runs on the Runs page and `pwff doctor --mend --purge-deleted`, or move the store."
    level, consequence = (
        (Level.NOTE, "runs with large models may fill it") if free >= NO_DISK else (Level.PROBLEM, "runs may stop")
    )
    return Finding(
        "Disk", level, f"Only {with_prefix(free, 'B')} are free where the store lies; {consequence}.", advice
    )


def memory_finding(free: float) -> Finding:
    """Is there memory for a run? `free`: [byte]."""
    if free >= LITTLE_MEMORY:
        return Finding("Memory", Level.OK, f"{with_prefix(free, 'B')} are free.")
    return Finding(
        "Memory", Level.NOTE, f"Only {with_prefix(free, 'B')} are free; the demo needs about 0.9 GB, other runs more.",
        "Close other programs, or choose fewer clients.",
    )  # fmt: skip


def _installed_version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def version_findings(
    python: SpecifierSet,
    packages: Sequence[Requirement],
    installed_version: Callable[[str], str | None] = _installed_version,
) -> Iterator[Finding]:
    """Are Python and the packages those that pwff asks for? No package is imported."""
    current = platform.python_version()
    if not python.contains(current):
        advice = "Install pwff with such a Python."
        yield Finding("Versions", Level.PROBLEM, f"Python {current} is not {python}.", advice)
    versions = {package.name: installed_version(package.name) for package in packages}
    for package in packages:
        version = versions[package.name]
        if version is None or not package.specifier.contains(version, prereleases=True):
            level = Level.PROBLEM if version is None else Level.NOTE
            state = "is not installed" if version is None else f"is {version}"
            text = f"{package.name} {state}; pwff asks for {package}."
            yield Finding("Versions", level, text, f"pip install '{package}'")
    listed = ", ".join(f"{name} {versions[name]}" for name in _LISTED if versions.get(name))
    yield Finding("Versions", Level.OK, f"Python {current}, {listed}; {len(packages)} packages were looked at.")


def requirements(project_file: Path, package: str = "pwff") -> tuple[SpecifierSet, list[Requirement]]:
    """The Python and the packages that pwff needs, without optional ones.

    Read from pyproject.toml in a checkout, otherwise from the metadata of the installed package.
    """
    if project_file.is_file():
        project = tomllib.loads(project_file.read_text(encoding="utf-8"))["project"]
        python, lines = project["requires-python"], project["dependencies"]
    else:
        installed = metadata.metadata(package)
        python, lines = installed["Requires-Python"], installed.get_all("Requires-Dist") or []
    packages = [Requirement(line) for line in lines]
    return SpecifierSet(python), [p for p in packages if p.marker is None or p.marker.evaluate({"extra": ""})]


def browser_finding() -> Finding:
    """Is there a browser that draws pictures?"""
    from choreographer.browsers.chromium import Chromium  # kaleido's own search; pwff's needs pandas

    program = Chromium.find_browser(skip_local=False)
    if program and os.path.isfile(program) and os.access(program, os.X_OK):
        return Finding("Chrome", Level.OK, f"Pictures are drawn with {program}.")
    return Finding(
        "Chrome", Level.NOTE, "No Chrome or Chromium was found, so exports have no PNG, SVG and PDF; all else works.",
        "`apt install chromium`, or `kaleido_get_chrome`, or name the program in $BROWSER_PATH.",
    )  # fmt: skip
