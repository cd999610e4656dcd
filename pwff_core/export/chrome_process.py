"""The process that draws: `python -m pwff_core.export.chrome_process JOB.json`, started and watched by chrome.py.

The job names the browser and the pictures. For each picture that is written, a line of JSON goes to stdout: {}, or
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
            errno = write_whole(Path(task["file"]), picture)
            print(json.dumps({"errno": errno} if errno else {}), flush=True)
            if errno:
                return


def write_whole(file: Path, content: bytes) -> int | None:
    """Writes the whole file and returns None, or leaves none there and returns the system's error number."""
    aside = file.with_name(f"{file.name}.part")
    try:
        aside.write_bytes(content)
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
        for child in psutil.Process().children(recursive=True):
            child.kill()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
