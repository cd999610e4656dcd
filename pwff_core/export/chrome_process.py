"""The process that draws: `python -m pwff_core.export.chrome_process JOB.json`, started and watched by chrome.py.

The job names the browser and the pictures. For each one that is written, a line of JSON goes to stdout: {}, or
{"errno": …} if its file cannot be written, which is the last.
"""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

import kaleido
import psutil


async def _draw(job: dict[str, Any]) -> None:
    # no sandbox, as root has none; nothing but our own figures is opened, and nothing is fetched (mathjax)
    async with kaleido.Kaleido(path=job["chrome"], mathjax=False, timeout=None) as chrome:
        for task in job["pictures"]:
            picture = await chrome.calc_fig(task["figure"], opts=task["options"])
            problem = _write(Path(task["file"]), picture)
            print(json.dumps({"errno": problem} if problem else {}), flush=True)
            if problem:
                return


def _write(file: Path, picture: bytes) -> int | None:
    """The whole file, or none and the number of the system's error."""
    aside = file.with_name(f"{file.name}.part")
    try:
        aside.write_bytes(picture)
        aside.replace(file)
    except OSError as error:
        aside.unlink(missing_ok=True)
        return error.errno
    return None


def main(job: Path) -> None:
    """Draws the job's pictures, and leaves no process behind."""
    try:
        asyncio.run(_draw(json.loads(job.read_text(encoding="utf-8"))))
    finally:
        for one in psutil.Process().children(recursive=True):
            one.kill()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
