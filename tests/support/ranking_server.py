"""A server on this computer that speaks the protocol of chat completions, with a script of faults."""

from __future__ import annotations

import json
import re
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

TEXTS = re.compile(r"\[(PROMPT|RESPONSE A|RESPONSE B) (\w+)\]\n(.*?)\n\[END OF \1 \2\]", re.DOTALL)
TOKENS_IN, TOKENS_OUT = 100, 1  # of every completion


class Arrived(NamedTuple):
    """A comparison as the server reads it."""

    axis: str
    prompt: str
    first: str
    second: str


class Fault(NamedTuple):
    """Instead of a completion: a status with a body, a cut connection, or silence until the server closes."""

    status: int = 200
    body: bytes = b""
    headers: tuple[tuple[str, str], ...] = ()
    cut: bool = False
    silent: bool = False


def failure(status: int, message: str = "", *headers: tuple[str, str], **fields: str) -> Fault:
    """An error as OpenAI's server words it."""
    return Fault(status, json.dumps({"error": {"message": message, **fields}}).encode(), headers)


def arrived(body: dict[str, Any]) -> Arrived:
    """The comparison in a request's body."""
    system, user = (message["content"] for message in body["messages"])
    texts = [text for _, _, text in TEXTS.findall(user)]
    return Arrived("helpfulness" if "more helpful" in system else "harmlessness", *texts)


def by_length(comparison: Arrived) -> str:
    """A fair ranking model: the longer response is the more helpful, the shorter the less harmful."""
    longer_is_first = len(comparison.first) > len(comparison.second)
    return "A" if longer_is_first == (comparison.axis == "helpfulness") else "B"


class Loopback:
    """The server. `verdict` answers; a fault in `faults`, by the request's number from 0, replaces its answer."""

    def __init__(self) -> None:
        self.verdict: Callable[[Arrived], str] = by_length
        self.faults: dict[int, Fault] = {}
        self.bodies: list[dict[str, Any]] = []  # of all chat requests, the client's retries included
        self.headers: list[dict[str, str]] = []
        self.most_at_once = 0
        self.models: Fault | list[str] = ["small", "large"]
        self.usage = True
        self._at_once = 0
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}/v1"

    @property
    def comparisons(self) -> list[Arrived]:
        return [arrived(body) for body in self.bodies]

    def always(self, fault: Fault) -> None:
        """Answers every request with this fault."""
        self.faults = dict.fromkeys(range(10_000), fault)

    def close(self) -> None:
        self._closing.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()  # waits for the handlers

    def chat(self, headers: dict[str, str], body: dict[str, Any]) -> Fault:
        """The answer to one request."""
        with self._lock:
            number = len(self.bodies)
            self.bodies.append(body)
            self.headers.append({name.lower(): value for name, value in headers.items()})
            self._at_once += 1
            self.most_at_once = max(self.most_at_once, self._at_once)
        try:
            fault = self.faults.get(number)
            if fault is None:
                return Fault(200, self._completion(self.verdict(arrived(body))))
            if fault.silent:
                self._closing.wait(10.0)
            return fault
        finally:
            with self._lock:
                self._at_once -= 1

    def _completion(self, text: str) -> bytes:
        message = {"role": "assistant", "content": text}
        choice = {"index": 0, "finish_reason": "stop", "message": message}
        usage = {"prompt_tokens": TOKENS_IN, "completion_tokens": TOKENS_OUT, "total_tokens": TOKENS_IN + TOKENS_OUT}
        completion = {"id": "1", "object": "chat.completion", "created": 0, "model": "small", "choices": [choice]}
        return json.dumps(completion | ({"usage": usage} if self.usage else {})).encode()

    def model_list(self) -> Fault:
        """The answer to /v1/models."""
        if isinstance(self.models, Fault):
            return self.models
        data = [{"id": name, "object": "model", "created": 0, "owned_by": "us"} for name in self.models]
        return Fault(200, json.dumps({"object": "list", "data": data}).encode())


def _handler(loopback: Loopback) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def handle(self) -> None:
            with suppress(ConnectionError):  # the client may have gone
                super().handle()

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            if self.path == "/v1/chat/completions":
                self._send(loopback.chat(dict(self.headers), body))
            else:
                self._send(failure(404, "no such path"))

        def do_GET(self) -> None:
            self._send(loopback.model_list() if self.path == "/v1/models" else failure(404, "no such path"))

        def _send(self, answer: Fault) -> None:
            with suppress(OSError):  # the client may have gone
                self._write(answer)

        def _write(self, answer: Fault) -> None:
            if answer.cut or answer.silent:
                self.close_connection = True
                self.connection.shutdown(socket.SHUT_RDWR)
                return
            self.send_response(answer.status)
            for name, value in (("Content-Type", "application/json"), *answer.headers):
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(answer.body)))
            self.end_headers()
            self.wfile.write(answer.body)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    return Handler
