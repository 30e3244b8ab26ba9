"""An OpenAI-compatible server that misbehaves on purpose: what it does to each prompt, and how often, is scripted.

It remembers every request by prompt, and for how many it sent a whole good answer, so that a test can tell what was
asked twice. Run as a program it serves until it is ended: `python faulty_server.py PORT SECONDS_PER_ANSWER LOG`.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

Script = Callable[[str, int], str]
"""What to do with a prompt (its last message) at its n-th request (from 1): the name of a fault, or `ok`."""

SECRET_IN_BODY = "body-that-must-not-be-quoted"

STATUSES = {"429": 429, "500": 500, "503": 503, "401": 401, "404": 404, "400": 400, "402": 402}


@dataclass
class Faulty:
    """The server's memory and script."""

    script: Script
    retry_after: str = "0.05"
    seconds: float = 0.0
    log: Path | None = None
    requests: Counter[str] = field(default_factory=Counter)
    answered: Counter[str] = field(default_factory=Counter)
    bodies: list[dict[str, Any]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    at_once: int = 0
    most_at_once: int = 0
    port: int = 0
    location: str = ""
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"


def answer_to(prompt: str) -> str:
    """What the server says to a prompt: the same words for the same prompt, others for another."""
    return f"Sure, have you seen that one? I liked it a lot. ({len(prompt)}-{sum(map(ord, prompt)) % 9973})"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    faulty: Faulty

    def log_message(self, format: str, *args: Any) -> None:
        """Stay silent."""

    def do_POST(self) -> None:
        faulty = self.faulty
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        prompt = body["messages"][-1]["content"]
        with faulty.lock:
            faulty.requests[prompt] += 1
            number = faulty.requests[prompt]
            faulty.bodies.append(body)
            faulty.headers.append({name.lower(): value for name, value in self.headers.items()})
            faulty.times.append(time.monotonic())
            faulty.at_once += 1
            faulty.most_at_once = max(faulty.most_at_once, faulty.at_once)
        try:
            self._misbehave(faulty.script(prompt, number), prompt, body)
        except (BrokenPipeError, ConnectionResetError):
            pass
        finally:
            with faulty.lock:
                faulty.at_once -= 1

    def _misbehave(self, fault: str, prompt: str, body: dict[str, Any]) -> None:
        if self.faulty.seconds:
            time.sleep(self.faulty.seconds)
        if fault in STATUSES:
            error = {"error": {"message": SECRET_IN_BODY, "type": "x", "code": None, "param": None}}
            headers = {"Retry-After": self.faulty.retry_after} if fault == "429" else {}
            return self._send(STATUSES[fault], json.dumps(error).encode(), headers)
        if fault == "no_seed" and "seed" in body:
            return self._send(400, json.dumps({"error": {"message": SECRET_IN_BODY, "param": "seed"}}).encode())
        if fault == "no_seed_unsaid" and "seed" in body:
            return self._send(400, json.dumps({"error": {"message": SECRET_IN_BODY}}).encode())
        if fault == "no_max_tokens" and "max_tokens" in body:
            return self._send(400, json.dumps({"error": {"message": SECRET_IN_BODY, "param": "max_tokens"}}).encode())
        if fault == "gone":
            error = {"error": {"message": SECRET_IN_BODY, "code": "model_decommissioned"}}
            return self._send(400, json.dumps(error).encode())
        if fault == "redirect":
            return self._send(307, b"", {"Location": self.faulty.location})
        if fault == "wrong_json":
            return self._send(200, b'{"choices": [{"message": {"content": "half')
        if fault == "other_json":
            return self._send(200, json.dumps({"choices": "none", "x": SECRET_IN_BODY}).encode())
        if fault == "html":
            return self._send(200, f"<html>{SECRET_IN_BODY}</html>".encode(), {"Content-Type": "text/html"})
        if fault == "huge":
            return self._send(200, b" " * (3 * 1024 * 1024))
        if fault == "stall":
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", "1000")
            self.end_headers()
            self.wfile.flush()
            time.sleep(3)
            self.close_connection = True
            return None
        if fault == "drip":
            return self._drip()
        if fault == "cut":
            return self._cut(prompt, body)
        return self._answer(self._words(fault, prompt), body, prompt, "length" if fault == "long" else "stop")

    def _words(self, fault: str, prompt: str) -> str:
        said = {
            "empty": "  \n",
            "error_text": "Internal Server Error: the upstream model is not available.",
            "refusal": "I'm sorry, but I can't help with that.",
            "spanish": "Claro, la película es muy buena y el final es una sorpresa para todos los que la ven.",
            "nul": "A good\x00 one, you will like it.",
            "echo_key": f"Your header was {self.headers.get('Authorization', '')}.",
        }
        return said.get(fault, answer_to(prompt))

    def _drip(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", "100000")
        self.end_headers()
        for _ in range(60):
            self.wfile.write(b" ")
            self.wfile.flush()
            time.sleep(0.05)
        self.close_connection = True

    def _cut(self, prompt: str, body: dict[str, Any]) -> None:
        self.send_response(200)
        if body.get("stream"):
            self.send_header("Content-Type", "text/event-stream")
            self.send_header("Connection", "close")
            self.end_headers()
            self.wfile.write(_event({"choices": [{"index": 0, "delta": {"content": "Half an ans"}}]}))
        else:
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", "5000")
            self.end_headers()
            self.wfile.write(json.dumps(_body(answer_to(prompt), "stop", prompt)).encode()[:80])
        self.wfile.flush()
        self.close_connection = True

    def _answer(self, words: str, body: dict[str, Any], prompt: str, finish: str) -> None:
        # Counted before it is sent: whoever has read an answer finds it counted.
        with self.faulty.lock:
            self.faulty.answered[prompt] += 1
        try:
            if body.get("stream"):
                self._stream(words, body, prompt, finish)
            else:
                self._send(200, json.dumps(_body(words, finish, prompt)).encode())
        except OSError:
            with self.faulty.lock:
                self.faulty.answered[prompt] -= 1
            raise
        with self.faulty.lock:
            if self.faulty.log is not None:
                with self.faulty.log.open("a", encoding="utf-8") as log:
                    log.write(json.dumps(prompt) + "\n")

    def _stream(self, words: str, body: dict[str, Any], prompt: str, finish: str) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Connection", "close")
        self.end_headers()
        half = len(words) // 2
        for piece in (words[:half], words[half:]):
            self.wfile.write(_event({"model": "tiny", "choices": [{"index": 0, "delta": {"content": piece}}]}))
        self.wfile.write(_event({"model": "tiny", "choices": [{"index": 0, "delta": {}, "finish_reason": finish}]}))
        if body.get("stream_options"):
            self.wfile.write(_event({"model": "tiny", "choices": [], "usage": _body(words, finish, prompt)["usage"]}))
        self.wfile.write(b"data: [DONE]\n\n")
        self.close_connection = True

    def _send(self, status: int, content: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        known = {"Content-Type": "application/json", "Content-Length": str(len(content)), **(headers or {})}
        for name, value in known.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)


def _event(chunk: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps({"id": "x", "object": "chat.completion.chunk", **chunk}).encode() + b"\n\n"


def _body(words: str, finish: str, prompt: str) -> dict[str, Any]:
    tokens_in, tokens_out = len(prompt.split()), 128 if finish == "length" else len(words.split())
    return {
        "id": "x",
        "object": "chat.completion",
        "model": "tiny",
        "choices": [{"index": 0, "finish_reason": finish, "message": {"role": "assistant", "content": words}}],
        "usage": {"prompt_tokens": tokens_in, "completion_tokens": tokens_out, "total_tokens": tokens_in + tokens_out},
    }


@contextmanager
def serving(faulty: Faulty) -> Iterator[Faulty]:
    """Serve on a free port of 127.0.0.1 until the block ends."""
    handler = type("Scripted", (Handler,), {"faulty": faulty})
    server = ThreadingHTTPServer(("127.0.0.1", faulty.port), handler)
    server.daemon_threads = True
    faulty.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield faulty
    finally:
        server.shutdown()
        server.server_close()
        thread.join(timeout=5)


if __name__ == "__main__":
    arguments = sys.argv[1:]
    state = Faulty(
        lambda prompt, number: "ok", port=int(arguments[0]), seconds=float(arguments[1]), log=Path(arguments[2])
    )
    with serving(state):
        threading.Event().wait()
