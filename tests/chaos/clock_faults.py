"""The computer's clock is set while a run plays: by libfaketime, for the worker and for a page alike."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from glob import glob
from pathlib import Path

from pwff_core.runs import processes
from tests.chaos.reference import ROOT
from tests.chaos.scene import Row, Scene, Skipped

_LIBRARIES = "/usr/lib/*/faketime/libfaketimeMT.so.1"  # Debian's package faketime
_JUMPS = {"+1 h": 3600, "−1 h": -3600, "+1 day": 86400, "−1 day": -86400}


def jump(name: str) -> Callable[[Scene], Row]:
    """The fault that the clock jumps after two rounds, by the jump of this name."""

    def clock(scene: Scene) -> Row:
        offset = scene.folder / "offset"
        variables = _faketime(offset)
        _set(offset, 0)
        worker = scene.play(0, variables)
        command = [sys.executable, "-m", "tests.chaos.page", str(scene.store.path), scene.run_id]
        with subprocess.Popen(
            command, cwd=ROOT, env=processes.environment() | variables, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            text=True,
        ) as page:  # fmt: skip
            assert page.stdin is not None and page.stdout is not None

            def page_words() -> str:
                assert page.stdin is not None and page.stdout is not None
                print(file=page.stdin, flush=True)
                return scene.short(page.stdout.readline().strip())

            page_words()
            worker.wait(lambda: worker.look().rounds >= 2)
            beaten = worker.look().beaten_at
            _set(offset, _JUMPS[name])
            worker.wait(lambda: abs((worker.look().beaten_at or 0) - (beaten or 0)) > 1800)
            scene.sees = page_words()
        return scene.row(f"the clock jumps {name}", scene.finish())

    clock.__name__ = f"clock {name}"
    return clock


def _faketime(offset: Path) -> dict[str, str]:
    libraries = glob(_LIBRARIES)
    if not libraries:
        raise Skipped("setting a clock needs libfaketime (Debian's package faketime)")
    return {
        "LD_PRELOAD": libraries[0], "FAKETIME_TIMESTAMP_FILE": str(offset), "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }  # fmt: skip


def _set(offset: Path, seconds: int) -> None:
    fresh = offset.with_suffix(".new")
    fresh.write_text(f"{seconds:+d}\n")
    fresh.replace(offset)


FAULTS = tuple(jump(name) for name in _JUMPS)
