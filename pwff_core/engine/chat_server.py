"""The chat process: `python -m pwff_core.engine.chat_server RUN_ID --store PATH` answers for a run's models.

It speaks JSON lines. It first writes `{"ready": true}`, or `{"error": …}` and ends. Then each line in is a `Question`,
each line out `{"answers": [Answer, …]}` or `{"error": …}`. It ends with its input, or when no question comes for a
quarter of an hour.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any

import torch
from pydantic import ValidationError

from pwff_core.data.client_profiles import helpfulness_weights
from pwff_core.data.encoding import prompt_text, prompt_tokens, truncate_left
from pwff_core.data.preferences import refuses
from pwff_core.engine.models.backbone import load_backbone
from pwff_core.engine.models.decoding import Answers, decode
from pwff_core.engine.models.encoder import EncodedTexts, Text, load_encoder
from pwff_core.engine.models.reward_models import RewardModels
from pwff_core.engine.models.saved_models import SavedModels, cohort_of, load
from pwff_core.errors import ConfigError, PwffError
from pwff_core.methods import AXES, Axis
from pwff_core.paths import default_store_path
from pwff_core.runs.chat import Answer, Question
from pwff_core.runs.run_files import RunFiles

IDLE_S = 900.0  # the process ends when no question comes for so long


class ChatServer:
    """A run's models, loaded and ready to answer. ModelError if backbone, encoder or models cannot be loaded.

    `decode` writes the tokens of the answers, as `decoding.decode` does.
    """

    def __init__(self, saved: SavedModels, decode: Callable[..., Answers] = decode) -> None:
        config = saved.config
        self.saved, self._decode = saved, decode
        self.backbone = load_backbone(config.backbone, config.device, config.precision)
        self.weights = helpfulness_weights(config)
        self.judge: RewardModels | None = None
        if saved.judge:
            encoder = load_encoder(config.reward.encoder, config.device)
            self.judge = RewardModels.from_state(encoder, dict(saved.judge))

    @torch.no_grad()
    def answer(self, question: Question) -> list[Answer]:
        """The answer of each client's model, in the question's order.

        ConfigError for an empty instruction, ModelError for a client or a moment that the run does not have.
        """
        text = question.instruction.strip()
        if not text:
            raise ConfigError("The instruction is empty; type what the clients should answer.")
        cohort = cohort_of(self.backbone, self.saved, question.clients, question.when)
        max_new_tokens = min(question.max_new_tokens, self.backbone.context // 2)
        prompt, cut = self._prompt(text, self.backbone.context - max_new_tokens)
        decoded = self._decode(
            cohort, [[prompt]] * len(question.clients), max_new_tokens, question.temperature,
            torch.Generator(self.backbone.device).manual_seed(question.seed),
        )  # fmt: skip
        texts = [
            self.backbone.tokenizer.decode(tokens[:length].tolist(), skip_special_tokens=True).strip()
            for tokens, length in zip(decoded.tokens, decoded.lengths, strict=True)
        ]
        ended = [bool(end) for end in decoded.ended]
        scores = self._scores(prompt_text(text), texts, ended)
        return [
            _answer(question, client, self.weights[client], response, end, client_scores, cut)
            for client, response, end, client_scores in zip(question.clients, texts, ended, scores, strict=True)
        ]

    def _prompt(self, instruction: str, room: int) -> tuple[list[int], int]:
        """Token ids of the prompt, at most `room`, and how many at its start did not fit."""
        tokenizer = self.backbone.tokenizer
        tokens = prompt_tokens(tokenizer, prompt_text(instruction))
        return truncate_left(tokenizer, tokens, room), max(len(tokens) - room, 0)

    def _scores(self, prompt: str, texts: Sequence[str], ended: Sequence[bool]) -> list[dict[Axis, float]]:
        """The judge's scores of each answer by axis; {} where there is no judge."""
        if self.judge is None:
            return [{} for _ in texts]
        answers = [Text(prompt, f" {text}" if text else "", end) for text, end in zip(texts, ended, strict=True)]
        encoded = EncodedTexts(self.judge.encoder, [answers])  # one judge for all clients
        by_axis = {axis: self.judge.score(axis, encoded)[0].tolist() for axis in AXES}
        return [{axis: scores[index] for axis, scores in by_axis.items()} for index in range(len(texts))]


def _answer(
    question: Question, client: int, weight: float, text: str, ended: bool, scores: dict[Axis, float], cut: int
) -> Answer:
    reward = weight * scores["helpfulness"] + (1.0 - weight) * scores["harmlessness"] if scores else None
    return Answer(
        client=client,
        when=question.when,
        text=text,
        helpfulness=scores.get("helpfulness"),
        harmlessness=scores.get("harmlessness"),
        reward=reward,
        ended=ended,
        refused=refuses(text),
        cut_tokens=cut,
    )


def reply(server: ChatServer, line: str) -> dict[str, Any]:
    """The message that answers one line of input, a Question as JSON."""
    try:
        answers = server.answer(Question.model_validate_json(line))
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"]) or "the question"
        return {"error": f"{field}: {first['msg']}."}
    except PwffError as error:
        return {"error": str(error)}
    return {"answers": [answer.model_dump() for answer in answers]}


@contextlib.contextmanager
def _exit_after(idle_s: float) -> Iterator[None]:
    """End the process if the body takes longer. The body waits for input, so nothing is left half-done."""
    timer = threading.Timer(idle_s, os._exit, (0,))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def serve(server: ChatServer, lines: IO[str], out: IO[str], idle_s: float) -> None:
    """Answer line by line until the input ends; end the process if no line comes for `idle_s` seconds."""
    while True:
        with _exit_after(idle_s):
            line = lines.readline()
        if not line:
            return
        _write(out, reply(server, line))


def _write(out: IO[str], message: dict[str, Any]) -> None:
    out.write(json.dumps(message) + "\n")
    out.flush()


def main(arguments: list[str] | None = None) -> int:
    """Run the process; the exit code is 1 if the models cannot be loaded."""
    parser = argparse.ArgumentParser(
        prog="python -m pwff_core.engine.chat_server", description="Answer questions to a run's models."
    )
    parser.add_argument("run_id", metavar="RUN_ID")
    parser.add_argument("--store", type=Path, default=default_store_path(), metavar="PATH")
    parser.add_argument("--idle-s", type=float, default=IDLE_S, metavar="SECONDS")
    options = parser.parse_args(arguments)
    out = sys.stdout
    with contextlib.redirect_stdout(sys.stderr):  # a line that a library prints is no answer
        try:
            server = ChatServer(load(RunFiles(options.store).models(options.run_id)))
        except PwffError as error:
            _write(out, {"error": str(error)})
            return 1
        _write(out, {"ready": True})
        serve(server, sys.stdin, out, options.idle_s)
    return 0


if __name__ == "__main__":
    sys.exit(main())
