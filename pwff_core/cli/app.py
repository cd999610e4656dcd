"""`pwff app`: the server of the pages."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from pwff_core.cli.arguments import App
from pwff_core.cli.runs import open_store
from pwff_core.errors import ConfigError
from pwff_core.paths import STORE_VARIABLE, root_dir
from pwff_core.runs import limits, processes, scheduler, uploads

_FIRST_PORT = 8501
_HERE = ("localhost", "127.0.0.1", "::1")  # only browsers on this computer reach these
_EVERYWHERE = ("0.0.0.0", "::")


def _execute(argv: list[str], environment: dict[str, str]) -> int:
    if os.name == "posix":  # the server replaces this process, so signals reach it
        os.execve(argv[0], argv, environment)
    return subprocess.call(argv, env=environment)


def serve(command: App, path: Path, execute: Callable[[list[str], dict[str, str]], int] = _execute) -> int:
    """Becomes the server (on Windows: waits for it). Its environment tells pages and workers the rest."""
    hosted = command.hosted or processes.hosted()
    environment = _environment(command, path, hosted=hosted)
    open_store(path, readonly=True)  # an error about the store is shown here, not on a page
    host = "localhost" if command.address in _EVERYWHERE else command.address
    port = _free_port(host, command.port)
    url_host = f"[{host}]" if ":" in host else host
    print(f"pwff is at http://{url_host}:{port} (Ctrl-C ends it; runs go on)", flush=True)
    if hosted:
        print(limits.summary(), flush=True)
    argv = [
        *(sys.executable, "-m", "streamlit", "run", str(root_dir() / "app.py")),
        *("--server.address", command.address, "--server.port", str(port), "--browser.gatherUsageStats", "false"),
        *("--server.maxUploadSize", str(uploads.LARGEST_FILE // 1_000_000)),
        *(("--server.headless", "true") if command.headless or hosted else ()),
    ]
    return execute(argv, environment)


def _environment(command: App, path: Path, *, hosted: bool) -> dict[str, str]:
    """The environment of the pages, and of the workers that they start. ConfigError for flags that are not allowed."""
    if command.parallel is None:
        scheduler.parallel()  # an error about the variable is shown here, not on a page
    elif not 1 <= command.parallel <= scheduler.MOST_PARALLEL:
        raise ConfigError(
            f"--parallel: {command.parallel} is not allowed; give a whole number from 1 to {scheduler.MOST_PARALLEL}."
        )
    if command.address not in _HERE and not hosted:
        raise ConfigError(
            f"--address: at {command.address} everybody who reaches this computer could use pwff as you do; add "
            "--hosted, which keeps visitors within limits and apart, or leave --address out."
        )
    environment = {**os.environ, STORE_VARIABLE: str(path.absolute())}
    if command.parallel is not None:
        environment[scheduler.PARALLEL_VARIABLE] = str(command.parallel)
    return {**processes.without_secrets(environment), processes.HOSTED_VARIABLE: "1"} if hosted else environment


def _free_port(host: str, requested: int | None) -> int:
    if requested is not None and not 1 <= requested <= 65535:
        raise ConfigError(f"--port: {requested} is not allowed; give a whole number from 1 to 65,535.")
    for port in [requested] if requested is not None else range(_FIRST_PORT, _FIRST_PORT + 100):
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
            if probe.connect_ex((host, port)) != 0:
                return port
    raise ConfigError(f"Port {requested or _FIRST_PORT} is in use by another program; choose another with --port.")
