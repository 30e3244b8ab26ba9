"""A server that answers every request with the very bytes it is given, at the pace it is given."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

Reply = bytes | Sequence[tuple[float, bytes]]
"""What is sent: bytes, or pieces, each after so many seconds."""


def whole(body: object, status: int = 200, **headers: str) -> bytes:
    """A response with its length: `body` as JSON, or bytes as they are."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    known = {"Content-Type": "application/json", "Content-Length": str(len(content))}
    known |= {name.replace("_", "-"): value for name, value in headers.items()}
    head = "".join(f"{name}: {value}\r\n" for name, value in known.items())
    return f"HTTP/1.1 {status} X\r\n{head}\r\n".encode() + content


def said(content: object, finish: object = "stop", **more: Any) -> dict[str, Any]:
    """A body that answers; `message` adds to its message, `choice` to its choice."""
    message = {"role": "assistant", "content": content, **more.pop("message", {})}
    choice = {"index": 0, "message": message, "finish_reason": finish, **more.pop("choice", {})}
    usage = {"prompt_tokens": 5, "completion_tokens": 3}
    return {"model": "tiny", "choices": [choice], "usage": usage, **more}


def streamed(*pieces: object) -> bytes:
    """A stream of these pieces, properly ended."""
    events = [piece if isinstance(piece, bytes) else json.dumps(piece).encode() for piece in pieces]
    body = b"".join(b"data: " + event + b"\n\n" for event in events) + b"data: [DONE]\n\n"
    return whole(body, **{"Content-Type": "text/event-stream"})


def piece(delta: object, finish: object = None, index: int = 0) -> dict[str, Any]:
    return {"model": "tiny", "choices": [{"index": index, "delta": delta, "finish_reason": finish}]}


class Raw:
    """What the server does with its n-th request (from 1), and when each came."""

    def __init__(self, reply: Reply | Callable[[int], Reply]) -> None:
        self.reply = reply
        self.times: list[float] = []
        self.requests: list[bytes] = []
        self._lock = threading.Lock()
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listening.getsockname()[1]}/v1"

    def serve(self) -> None:
        while True:
            try:
                connection, _ = self._listening.accept()
            except OSError:
                return
            threading.Thread(target=self._answer, args=(connection,), daemon=True).start()

    def close(self) -> None:
        self._listening.close()

    def _answer(self, connection: socket.socket) -> None:
        with connection:
            try:
                request = self._read(connection)
                with self._lock:
                    self.times.append(time.monotonic())
                    self.requests.append(request)
                    number = len(self.times)
                reply = self.reply(number) if callable(self.reply) else self.reply
                for seconds, content in [(0.0, reply)] if isinstance(reply, bytes) else reply:
                    time.sleep(seconds)
                    connection.sendall(content)
            except OSError:
                pass

    @staticmethod
    def _read(connection: socket.socket) -> bytes:
        got = b""
        while b"\r\n\r\n" not in got:
            got += connection.recv(65536)
        head, _, body = got.partition(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0] or b"0")
        while len(body) < length:
            body += connection.recv(65536)
        return head + b"\r\n\r\n" + body


@contextmanager
def raw_server(reply: Reply | Callable[[int], Reply]) -> Iterator[Raw]:
    server = Raw(reply)
    threading.Thread(target=server.serve, daemon=True).start()
    try:
        yield server
    finally:
        server.close()
