"""`pwff app`: the server of the pages."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

from pwff_core.cli.flags import App
from pwff_core.cli.opening import opened
from pwff_core.errors import ConfigError
from pwff_core.paths import STORE_VARIABLE, root_dir
from pwff_core.runs import limits, processes, scheduler, uploads

_FIRST_PORT = 8501
_HERE = ("localhost", "127.0.0.1", "::1")  # only this computer's own browsers get there
_EVERYWHERE = ("0.0.0.0", "::")


def app(command: App, path: Path) -> int:
    """Becomes the server (on Windows: waits for it). Pages and workers are told the rest by their environment."""
    hosted = command.hosted or processes.hosted()
    environment = _environment(command, path, hosted=hosted)
    opened(path, readonly=True)  # a store that cannot be used is said here, not on a page
    host = "localhost" if command.address in _EVERYWHERE else command.address
    port = _free_port(host, command.port)
    shown = f"[{host}]" if ":" in host else host
    print(f"pwff is at http://{shown}:{port} (Ctrl-C ends it; runs go on)", flush=True)
    if hosted:
        print(limits.summary(), flush=True)
    streamlit = [
        *(sys.executable, "-m", "streamlit", "run", str(root_dir() / "app.py")),
        *("--server.address", command.address, "--server.port", str(port), "--browser.gatherUsageStats", "false"),
        *("--server.maxUploadSize", str(uploads.LARGEST_FILE // 1_000_000)),
        *(("--server.headless", "true") if command.headless or hosted else ()),
    ]
    if os.name == "posix":  # in this process's place, so that a signal to it reaches the server
        os.execve(sys.executable, streamlit, environment)
    return subprocess.call(streamlit, env=environment)


def _environment(command: App, path: Path, *, hosted: bool) -> dict[str, str]:
    """What the pages and the workers that they start are told. ConfigError for flags that are not allowed."""
    if command.parallel is None:
        scheduler.parallel()  # a variable that is no number is said here, not on a page
    elif not 1 <= command.parallel <= scheduler.MOST_PARALLEL:
        raise ConfigError(
            f"--parallel: {command.parallel} is not allowed; give a whole number from 1 to {scheduler.MOST_PARALLEL}."
        )
    if command.address not in _HERE and not hosted:
        raise ConfigError(
            f"--address: at {command.address} everybody who reaches this computer could use pwff as you do; add "
            "--hosted, which keeps visitors within limits and apart, or leave --address out."
        )
    given = {**os.environ, STORE_VARIABLE: str(path.absolute())}
    if command.parallel is not None:
        given[scheduler.PARALLEL_VARIABLE] = str(command.parallel)
    return {**processes.without_secrets(given), processes.HOSTED_VARIABLE: "1"} if hosted else given


def _free_port(host: str, wanted: int | None) -> int:
    if wanted is not None and not 1 <= wanted <= 65535:
        raise ConfigError(f"--port: {wanted} is not allowed; give a whole number from 1 to 65,535.")
    for port in [wanted] if wanted is not None else range(_FIRST_PORT, _FIRST_PORT + 100):
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
            if probe.connect_ex((host, port)) != 0:
                return port
    raise ConfigError(f"Port {wanted or _FIRST_PORT} is in use by another program; choose another with --port.")
