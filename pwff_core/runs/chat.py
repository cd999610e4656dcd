"""Chat with a run's models. A process of its own holds torch and the models; a ChatClient is a pipe to it.

    page  →  ChatClient.ask(Question)  →  python -m pwff_core.engine.chat_server RUN_ID  →  a tuple of Answers

The process starts with the first question and answers one at a time, a line of JSON each. It ends when nobody has asked
for a while, or with the process that started it. Nothing here needs torch.
"""

from __future__ import annotations

import json
import queue
import shutil
import subprocess
import time
from pathlib import Path
from threading import Lock
from typing import Any, NamedTuple

from pydantic import BaseModel, ConfigDict, Field

from pwff_core.errors import ConfigError, EngineError, ModelError
from pwff_core.records import When
from pwff_core.runs import processes
from pwff_core.runs.run_files import RunFiles

_TAIL_LINES = 3  # of the process's log in an error
_EXIT_S = 5.0  # how long a process that is asked to end may take


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
    """One client's response and its scores from the judge [sd]; these are None where the run has no judge."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    client: int
    when: When
    text: str  # "" if the model ended at once
    helpfulness: float | None
    harmlessness: float | None
    reward: float | None  # the two, weighted as the client's owner prefers
    ended: bool  # False: max_new_tokens were reached first
    refused: bool
    cut_tokens: int = 0  # tokens at the start of the prompt that did not fit the model's context


class KeptModels(NamedTuple):
    """What a page needs to know of a run's kept models."""

    moments: tuple[When, ...]
    delicate: tuple[str, ...]  # held-out prompts to try
    ordinary: tuple[str, ...]


def kept_models(store_path: Path, run_id: str) -> KeptModels | None:
    """The models of a run that can be asked; None where none are kept."""
    try:
        head = json.loads((RunFiles(store_path).models(run_id) / "saved.json").read_text(encoding="utf-8"))
        prompts = head["prompts"]
        return KeptModels(tuple(head["moments"]), tuple(prompts["delicate"]), tuple(prompts["ordinary"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def delete_models(store_path: Path, run_id: str) -> None:
    """Removes a run's models from the disk, if any are kept; afterwards its clients cannot be asked."""
    shutil.rmtree(RunFiles(store_path).models(run_id), ignore_errors=True)


class ChatClient:
    """A pipe to the models of one run. Threads may share it: their questions are answered one after another."""

    def __init__(self, store_path: Path, run_id: str, module: str = processes.CHAT_SERVER) -> None:
        self.store_path, self.run_id = store_path, run_id
        self._module = module
        self._lock = Lock()
        self._process: subprocess.Popen[str] | None = None
        self._lines: queue.SimpleQueue[str] = queue.SimpleQueue()

    def ask(self, question: Question, timeout_s: float = 180.0) -> tuple[Answer, ...]:
        """Every client's answer, in the order of the question's clients.

        ConfigError for a question that cannot be answered, ModelError if the models cannot be loaded, EngineError if
        the process cannot start, dies or takes too long; the next question then starts a new one.
        """
        deadline = time.monotonic() + timeout_s
        with self._lock:
            try:
                process = self._ready_process(deadline)
                _send(process, json.dumps(question.model_dump()))  # ASCII, whatever encoding a pipe has
                reply = self._read_reply(process, deadline)
            except (EngineError, ModelError):
                self._end(timeout_s=0)
                raise
        if "error" in reply:
            raise ConfigError(reply["error"])
        return tuple(Answer.model_validate(answer) for answer in reply["answers"])

    def close(self) -> None:
        """Ends the process once it has answered. A later question starts another one."""
        with self._lock:
            self._end(_EXIT_S)

    def _ready_process(self, deadline: float) -> subprocess.Popen[str]:
        """The process with its models loaded; a new one if there is none, or it has ended because nobody asked."""
        if self._process is not None and self._process.poll() is None:
            return self._process
        self._end(_EXIT_S)
        self._process = process = self._start()
        assert process.stdout is not None
        self._lines = processes.read_lines(process.stdout)
        greeting = self._read_reply(process, deadline)
        if "error" in greeting:
            raise ModelError(greeting["error"])
        return process

    def _start(self) -> subprocess.Popen[str]:
        log = RunFiles(self.store_path).chat_log(self.run_id)
        try:
            log.parent.mkdir(parents=True, exist_ok=True)
            with log.open("w", encoding="utf-8") as output:
                return processes.spawn(
                    self._module,
                    self.run_id,
                    "--store",
                    str(self.store_path.absolute()),
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    log=output,
                )
        except OSError as error:
            raise EngineError(
                f"The models cannot be started ({error}); check free memory and the folder {log.parent}."
            ) from None

    def _read_reply(self, process: subprocess.Popen[str], deadline: float) -> dict[str, Any]:
        """The next line of the process. EngineError if there is none in time, or ever."""
        try:
            line = self._lines.get(timeout=max(deadline - time.monotonic(), 0))
        except queue.Empty:
            raise EngineError(
                "The models took too long to answer and were stopped; ask again, with fewer clients or while no "
                "training is going on."
            ) from None
        if not line:
            code = process.wait()
            raise EngineError(f"The models stopped without an answer (exit code {code}){self._log_tail()}")
        reply: dict[str, Any] = json.loads(line)
        return reply

    def _log_tail(self) -> str:
        log = RunFiles(self.store_path).chat_log(self.run_id)
        lines = [line.strip() for line in log.read_text(encoding="utf-8", errors="replace").splitlines()]
        tail = " · ".join([line for line in lines if line][-_TAIL_LINES:])
        return f"{f': {tail}'.rstrip('.') if tail else ''}. Ask again; the full report is in {log}."

    def _end(self, timeout_s: float) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        assert process.stdin is not None
        try:
            process.stdin.close()
        except OSError:  # nobody reads what was still to be sent
            pass
        try:
            process.wait(timeout=timeout_s)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _send(process: subprocess.Popen[str], line: str) -> None:
    assert process.stdin is not None
    try:
        process.stdin.write(line + "\n")
        process.stdin.flush()
    except OSError:
        pass  # the process is dead: waiting for its reply says so, and why
