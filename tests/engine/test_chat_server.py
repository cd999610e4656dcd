"""The chat server, with a tiny backbone of random weights and a judge of random heads."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from pwff_core.config import RunConfig
from pwff_core.data.encoding import prompt_text
from pwff_core.engine import chat_server
from pwff_core.engine.chat_server import ChatServer, reply, serve
from pwff_core.engine.models.backbone import load_backbone
from pwff_core.engine.models.cohort import Cohort
from pwff_core.engine.models.decoding import Answers
from pwff_core.engine.models.encoder import Text, load_encoder
from pwff_core.engine.models.reward_models import RewardModels, new_reward_models
from pwff_core.engine.models.saved_models import SavedModels, cohort_of, save, stacked
from pwff_core.errors import ConfigError, ModelError
from pwff_core.methods import AXES
from pwff_core.runs.chat import Answer, ChatClient, Question
from pwff_core.runs.run_files import RunFiles

WEIGHTS = (0.9, 0.5, 0.0)
REFERENCES = [Text(prompt_text("say hello"), f" Hello number {n}.") for n in range(8)]


@pytest.fixture(scope="module")
def judge() -> RewardModels:
    models = new_reward_models(load_encoder("demo", "cpu"), AXES, 1, 8, "head", torch.Generator().manual_seed(3))
    models.calibrate(REFERENCES)
    return models


@pytest.fixture(scope="module")
def saved(tiny_backbone: Path, judge: RewardModels) -> SavedModels:
    """Three clients with random numbers, before and after."""
    config = RunConfig.model_validate(
        {
            "clients": 3, "backbone": str(tiny_backbone), "device": "cpu", "adapter": {"bottleneck": 3},
            "preferences": {"helpfulness_weights": WEIGHTS},
        }
    )  # fmt: skip
    backbone, moments = load_backbone(str(tiny_backbone), "cpu"), []
    for seed in range(2):
        generator = torch.Generator().manual_seed(seed)
        placed = torch.ones(3, 2, 3, dtype=torch.bool)
        cohort = Cohort(backbone, placed, ("adapters", "lora"), config.adapter, config.lora, generator)
        for tensor in cohort.parameters():
            tensor.data.normal_(std=0.5, generator=generator)
        moments.append(stacked([cohort]))
    return SavedModels(config, placed, moments[0], moments[1], judge.state())


@pytest.fixture(scope="module")
def server(saved: SavedModels) -> ChatServer:
    return ChatServer(saved)


def question(instruction: str = "say hello", clients: tuple[int, ...] = (0, 1, 2), **options: object) -> Question:
    options = {"max_new_tokens": 6} | options
    return Question.model_validate({"instruction": instruction, "clients": clients} | options)


def greedy(saved: SavedModels, client: int, tokens: list[int], steps: int) -> str:
    """The likeliest answer of one client, written out a token at a time over the whole text."""
    backbone = load_backbone(saved.config.backbone, "cpu")
    written: list[int] = []
    with torch.no_grad(), cohort_of(backbone, saved, [client], "after").attached():
        for _ in range(steps):
            logits = backbone.logits(backbone.hidden(torch.tensor([tokens + written])))[0, -1]
            if int(logits.argmax()) == backbone.tokenizer.eos_token_id:
                break
            written.append(int(logits.argmax()))
    return backbone.tokenizer.decode(written, skip_special_tokens=True).strip()


def test_every_client_answers_by_its_own_model(saved: SavedModels, server: ChatServer) -> None:
    answers = server.answer(question(clients=(2, 0)))
    tokens = server.backbone.tokenizer(prompt_text("say hello"))["input_ids"]
    assert [answer.client for answer in answers] == [2, 0]
    assert [answer.text for answer in answers] == [greedy(saved, client, tokens, 6) for client in (2, 0)]
    assert answers[0].text != answers[1].text


def test_before_and_after_alignment_answer_differently(server: ChatServer) -> None:
    before, after = (server.answer(question(when=when)) for when in ("before", "after"))
    assert [answer.when for answer in (*before, *after)] == ["before"] * 3 + ["after"] * 3
    assert [answer.text for answer in before] != [answer.text for answer in after]


def test_the_judge_scores_and_the_client_weights(server: ChatServer, judge: RewardModels) -> None:
    answers = server.answer(question())
    texts = [[Text(prompt_text("say hello"), f" {answer.text}", answer.ended) for answer in answers]]
    helpful, harmless = (judge.score(axis, texts)[0].tolist() for axis in AXES)
    assert [answer.helpfulness for answer in answers] == pytest.approx(helpful, abs=1e-5)
    assert [answer.harmlessness for answer in answers] == pytest.approx(harmless, abs=1e-5)
    expected = [w * a + (1 - w) * b for w, a, b in zip(WEIGHTS, helpful, harmless, strict=True)]
    assert [answer.reward for answer in answers] == pytest.approx(expected, abs=1e-5)
    assert len(set(helpful)) == 3


def test_without_a_judge_there_are_no_scores(saved: SavedModels) -> None:
    answers = ChatServer(saved._replace(judge={})).answer(question())
    assert {(answer.helpfulness, answer.harmlessness, answer.reward) for answer in answers} == {(None, None, None)}
    assert all(answer.text for answer in answers)


def test_the_seed_decides_the_answer(server: ChatServer) -> None:
    first, again, other = (server.answer(question(temperature=1.0, seed=seed)) for seed in (7, 7, 8))
    assert first == again
    assert [answer.text for answer in first] != [answer.text for answer in other]


def test_a_long_instruction_loses_its_beginning_and_the_answer_says_so(server: ChatServer) -> None:
    long = "hello " * 400
    coded = server.backbone.tokenizer(prompt_text(long.strip()), verbose=False)["input_ids"]
    answers = server.answer(question(long, (0, 1)))
    assert {answer.cut_tokens for answer in answers} == {len(coded) - (256 - 6)}
    assert server.answer(question(long, (0,), max_new_tokens=4096))[0].cut_tokens == len(coded) - 128


def answer_of(saved: SavedModels, tokens: torch.Tensor, ended: bool) -> Answer:
    """Client 1's answer where these tokens (1, N) are decoded."""
    answers = Answers(tokens, torch.tensor([tokens.shape[1]]), torch.tensor([ended]), torch.zeros(tokens.shape))
    (answer,) = ChatServer(saved, decode=lambda *args: answers).answer(question(clients=(1,)))
    return answer


def test_an_answer_that_ends_at_once_is_empty_and_scored(saved: SavedModels, judge: RewardModels) -> None:
    answer = answer_of(saved, torch.zeros(1, 0, dtype=torch.int64), ended=True)
    score = judge.score("helpfulness", [[Text(prompt_text("say hello"), "")]]).item()
    assert (answer.text, answer.ended, answer.refused) == ("", True, False)
    assert answer.helpfulness == pytest.approx(score, abs=1e-5)


def test_a_refusal_is_marked(saved: SavedModels, server: ChatServer) -> None:
    tokens = server.backbone.tokenizer(" I cannot help with that.", return_tensors="pt")["input_ids"]
    answer = answer_of(saved, tokens, ended=False)
    assert (answer.text, answer.ended, answer.refused) == ("I cannot help with that.", False, True)


@pytest.mark.parametrize("nothing", ["", "   ", "\n\t"])
def test_an_empty_instruction_is_refused(server: ChatServer, nothing: str) -> None:
    with pytest.raises(ConfigError, match="^The instruction is empty; type what the clients should answer"):
        server.answer(question(nothing))


def test_an_unknown_client_is_refused(server: ChatServer) -> None:
    with pytest.raises(ModelError, match=r"^There is no client 3; this run's clients are 0 to 2\.$"):
        server.answer(question(clients=(1, 3)))


@pytest.mark.parametrize(
    ("line", "error"),
    [
        ('{"instruction": "hi", "clients": []}', "clients: Tuple should have at least 1 item"),
        ('{"instruction": "hi", "clients": [0], "temperature": -1}', "temperature: Input should be greater than"),
        ("hello", "the question: Invalid JSON"),
        ('{"instruction": "", "clients": [0]}', "The instruction is empty;"),
        ('{"instruction": "hi", "clients": [99]}', "There is no client 99;"),
    ],
)  # fmt: skip
def test_a_line_that_is_no_question_gets_an_error(server: ChatServer, line: str, error: str) -> None:
    message = reply(server, line)
    assert set(message) == {"error"}
    assert message["error"].startswith(error)


def test_lines_are_answered_until_the_input_ends(server: ChatServer) -> None:
    lines = io.StringIO('{"instruction": "hi", "clients": [0], "max_new_tokens": 2}\nwhat?\n')
    out = io.StringIO()
    serve(server, lines, out, idle_s=60)
    first, second = map(json.loads, out.getvalue().splitlines())
    assert Answer.model_validate(first["answers"][0]).client == 0
    assert "error" in second


# the process


def test_a_client_of_the_process_gets_the_same_answers(saved: SavedModels, server: ChatServer, tmp_path: Path) -> None:
    store = tmp_path / "runs.sqlite"
    save(RunFiles(store).models("abc"), saved)
    client = ChatClient(store, "abc")
    try:
        assert client.ask(question()) == tuple(server.answer(question()))
        assert client.ask(question(when="before")) == tuple(server.answer(question(when="before")))
    finally:
        client.close()


def test_without_models_the_process_ends_with_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert chat_server.main(["abc", "--store", str(tmp_path / "runs.sqlite")]) == 1
    (line,) = capsys.readouterr().out.splitlines()
    assert json.loads(line)["error"].startswith(f"There are no models in {tmp_path / 'models' / 'abc'};")


def test_the_process_ends_when_no_question_comes() -> None:
    code = (
        "import sys; from pwff_core.engine.chat_server import serve; "
        "serve(None, sys.stdin, sys.stdout, idle_s=0.2); print('on')"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.wait(timeout=60) == 0  # its input is still open
        assert process.stdout is not None and process.stdout.read() == b""
