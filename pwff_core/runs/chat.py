"""Talking to a run's models from a page: a process of its own has torch and the models, this has a pipe to it.

    page  →  Conversation.ask(Question)  →  python -m pwff_core.engine.chat_server RUN_ID  →  a tuple of Answers

The process starts with the first question, answers one at a time, a line of JSON each, and ends when nobody has asked
for a while or the server of the pages ends. Nothing here needs torch.
"""

from __future__ import annotations

import json
import queue
import shutil
import subprocess
import threading
import time
from pathlib import Path
from typing import IO, Any, NamedTuple

from pydantic import BaseModel, ConfigDict, Field

from pwff_core.errors import ConfigError, EngineError, ModelError
from pwff_core.records import When
from pwff_core.runs import processes
from pwff_core.runs.run_files import RunFiles

_TAIL_LINES = 3  # of the process's last words in an error
_ENDING_S = 5.0  # a process that is asked to end has this long to do so


class Question(BaseModel):
    """One instruction to some clients' models."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    instruction: str
    clients: tuple[int, ...] = Field(min_length=1)
    when: When = "after"
    temperature: float = Field(0.0, ge=0, le=10, allow_inf_nan=False)  # 0: the likeliest token each time
    seed: int = Field(0, ge=0, lt=2**63)
    max_new_tokens: int = Field(64, ge=1, le=4096)


class Answer(BaseModel):
    """What one client's model said, and what the judge thinks of it [sd]; None where the run has no judge."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    client: int
    when: When
    text: str  # "" if the model ended at once
    helpfulness: float | None
    harmlessness: float | None
    reward: float | None  # the two, weighted as the client's owner wishes
    ended: bool  # False: the longest answer was reached first
    refused: bool
    cut_tokens: int = 0  # so many tokens at the start of the prompt did not fit the model's context


class Kept(NamedTuple):
    """What is kept of a run's models, as far as a page needs to know."""

    moments: tuple[When, ...]
    delicate: tuple[str, ...]  # held-out prompts to try
    ordinary: tuple[str, ...]


def kept(store_path: Path, run_id: str) -> Kept | None:
    """What there is to talk to; None where a run's models are not kept."""
    try:
        head = json.loads((RunFiles(store_path).models(run_id) / "saved.json").read_text(encoding="utf-8"))
        prompts = head["prompts"]
        return Kept(tuple(head["moments"]), tuple(prompts["delicate"]), tuple(prompts["ordinary"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def forget(store_path: Path, run_id: str) -> None:
    """Frees the disk of a run's models, if any are kept; its clients cannot be asked any more."""
    shutil.rmtree(RunFiles(store_path).models(run_id), ignore_errors=True)


def command(store_path: Path, run_id: str) -> list[str]:
    """The process's command line."""
    return processes.module_command("pwff_core.engine.chat_server", run_id, "--store", str(store_path.absolute()))


class Conversation:
    """A conversation with the models of one run. Threads may share it: they are answered one after another."""

    def __init__(self, store_path: Path, run_id: str) -> None:
        self.store_path, self.run_id = store_path, run_id
        self._lock = threading.Lock()
        self._process: subprocess.Popen[str] | None = None
        self._lines: queue.SimpleQueue[str] = queue.SimpleQueue()

    def ask(self, question: Question, timeout_s: float = 180.0) -> tuple[Answer, ...]:
        """Every asked client's answer, in the order asked.

        ConfigError for a question that cannot be answered, ModelError if the models cannot be loaded, EngineError if
        the process cannot start, dies or takes too long; the next question then starts a new one.
        """
        give_up_at = time.monotonic() + timeout_s
        with self._lock:
            try:
                process = self._running(give_up_at)
                _send(process, json.dumps(question.model_dump()))  # ASCII, whatever encoding a pipe has
                reply = self._reply(process, give_up_at)
            except (EngineError, ModelError):
                self._end(patience_s=0)
                raise
        if "error" in reply:
            raise ConfigError(reply["error"])
        return tuple(Answer.model_validate(answer) for answer in reply["answers"])

    def close(self) -> None:
        """Ends the process, once it has answered what it was asked. A later question would start it again."""
        with self._lock:
            self._end(_ENDING_S)

    def _running(self, give_up_at: float) -> subprocess.Popen[str]:
        """The process with its models loaded, started if there is none or it has ended after a long silence."""
        if self._process is not None and self._process.poll() is None:
            return self._process
        self._end(_ENDING_S)
        self._process = process = self._started()
        self._lines = queue.SimpleQueue()
        assert process.stdout is not None
        threading.Thread(target=_pass_on, args=(process.stdout, self._lines), daemon=True).start()
        first = self._reply(process, give_up_at)
        if "error" in first:
            raise ModelError(first["error"])
        return process

    def _started(self) -> subprocess.Popen[str]:
        log = RunFiles(self.store_path).chat_log(self.run_id)
        try:
            log.parent.mkdir(parents=True, exist_ok=True)
            with log.open("w", encoding="utf-8") as report:
                return subprocess.Popen(
                    command(self.store_path, self.run_id),
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=report,
                    encoding="utf-8",
                    env=processes.environment(),
                    start_new_session=True,
                    creationflags=processes.creation_flags(),
                )
        except OSError as error:
            raise EngineError(
                f"The models cannot be started ({error}); check free memory and the folder {log.parent}."
            ) from None

    def _reply(self, process: subprocess.Popen[str], give_up_at: float) -> dict[str, Any]:
        """The next line of the process. EngineError if there is none in time, or ever."""
        try:
            line = self._lines.get(timeout=max(give_up_at - time.monotonic(), 0))
        except queue.Empty:
            raise EngineError(
                "The models took too long to answer and were stopped; ask again, with fewer clients or while no "
                "training is going on."
            ) from None
        if not line:
            code = process.wait()
            raise EngineError(f"The models stopped without an answer (exit code {code}){self._last_words()}")
        reply: dict[str, Any] = json.loads(line)
        return reply

    def _last_words(self) -> str:
        log = RunFiles(self.store_path).chat_log(self.run_id)
        tail = [line.strip() for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
        said = f": {' · '.join(tail[-_TAIL_LINES:])}" if tail else ""
        return f"{said.rstrip('.')}. Ask again; the full report is in {log}."

    def _end(self, patience_s: float) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        assert process.stdin is not None
        try:
            process.stdin.close()
        except OSError:  # what was still to be sent has no reader any more
            pass
        try:
            process.wait(timeout=patience_s)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _send(process: subprocess.Popen[str], line: str) -> None:
    assert process.stdin is not None
    try:
        process.stdin.write(line + "\n")
        process.stdin.flush()
    except OSError:
        pass  # it is dead: waiting for its reply finds that out, and why


def _pass_on(lines: IO[str], into: queue.SimpleQueue[str]) -> None:
    """Each line into the queue, and "" at the end: a queue can be waited on for a while, a pipe cannot everywhere."""
    with lines:
        for line in lines:
            into.put(line)
        into.put("")
