"""An HTTP transport that calls only the address that was checked, and reads no more and no longer than an answer needs.

Redirects are handed back, not followed; the one request that leaves this machine carries the one key that is meant for
its host, whatever else a client library finds in the environment.
"""

from __future__ import annotations

import logging
import math
import ssl
import threading
import time
from collections.abc import Iterable, Iterator
from typing import Any, Final

import httpcore2
import httpx2

from annotation.inference.addresses import Address, AddressRefusedError, Resolver, checked_addresses, parse_address

MAX_ANSWER_BYTES: Final = 2 * 1024 * 1024
"""128 tokens are a few kilobytes; whatever sends more is not answering."""

MAX_ERROR_BYTES: Final = 64 * 1024
"""Of an error only the code is read; the rest of a long one does not matter."""

_CHATTY: Final = ("openai", "httpx2", "httpcore2", "httpx", "httpcore")

_KEPT_HEADERS: Final = ("retry-after", "retry-after-ms")
"""What of a server's headers is used. No other reaches the client library, which would believe it and log it."""

_DROPPED_HEADERS: Final = ("openai-organization", "openai-project", "cookie", "authorization")


class CompressedError(httpx2.RemoteProtocolError):
    """An answer that is compressed although that was not asked for: it could grow to any size."""


class TooLongError(httpx2.RemoteProtocolError):
    """An answer that is longer than an answer can be."""


class _Deadline(threading.local):
    """When the request that this thread is making must be over. Connections are shared, requests are not."""

    at: float = math.inf

    def left(self, timeout: float | None, late: type[Exception]) -> float:
        """Give the seconds that one step may take: no longer than the whole request may still."""
        left = self.at - time.monotonic()
        if left <= 0:
            raise late("The request took longer than a request may take.")
        return left if timeout is None else min(left, timeout)


_DEADLINE: Final = _Deadline()


class _TimedStream(httpcore2.NetworkStream):
    """A connection on which no step outlasts the request: a server that sends a byte now and then gains no time."""

    def __init__(self, stream: httpcore2.NetworkStream) -> None:
        self._stream = stream

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._stream.read(max_bytes, _DEADLINE.left(timeout, httpcore2.ReadTimeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        for start in range(0, len(buffer), 16_384):
            self._stream.write(buffer[start : start + 16_384], _DEADLINE.left(timeout, httpcore2.WriteTimeout))

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore2.NetworkStream:
        left = _DEADLINE.left(timeout, httpcore2.ConnectTimeout)
        return _TimedStream(self._stream.start_tls(ssl_context, server_hostname, left))

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)


class _TimedBackend(httpcore2.NetworkBackend):
    def __init__(self) -> None:
        self._inner = httpcore2.SyncBackend()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore2.NetworkStream:
        left = _DEADLINE.left(timeout, httpcore2.ConnectTimeout)
        return _TimedStream(self._inner.connect_tcp(host, port, left, local_address, socket_options))

    def sleep(self, seconds: float) -> None:
        self._inner.sleep(seconds)


class Network(httpx2.BaseTransport):
    """Plain HTTP/1.1 over connections that keep the deadline. (httpx2's own transport does not let one be set.)"""

    def __init__(self) -> None:
        self._pool = httpcore2.ConnectionPool(
            ssl_context=httpx2.create_ssl_context(trust_env=False),
            max_connections=None,
            max_keepalive_connections=64,
            keepalive_expiry=5.0,
            network_backend=_TimedBackend(),
        )

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        url = request.url
        sent = httpcore2.Request(
            method=request.method,
            url=httpcore2.URL(scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path),
            headers=request.headers.raw,
            content=request.read(),
            extensions=request.extensions,
        )
        try:
            response = self._pool.handle_request(sent)
        except _FAULTS as error:
            raise _translated(error) from error
        return httpx2.Response(response.status, headers=response.headers, stream=_Body(response))

    def close(self) -> None:
        self._pool.close()


class _Body(httpx2.SyncByteStream):
    def __init__(self, response: httpcore2.Response) -> None:
        self._response = response

    def __iter__(self) -> Iterator[bytes]:
        try:
            yield from self._response.iter_stream()
        except _FAULTS as error:
            raise _translated(error) from error

    def close(self) -> None:
        self._response.close()


_FAULTS: Final = (
    httpcore2.TimeoutException,
    httpcore2.NetworkError,
    httpcore2.ProtocolError,
    httpcore2.UnsupportedProtocol,
)


def _translated(error: Exception) -> httpx2.TransportError:
    """Give the error of the same name that the layers above know."""
    kind = getattr(httpx2, type(error).__name__, httpx2.TransportError)
    return kind(str(error)) if issubclass(kind, httpx2.TransportError) else httpx2.TransportError(str(error))


class _OnlyWarnings(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        return record.levelno >= logging.WARNING


_ONLY_WARNINGS: Final = _OnlyWarnings()


def quiet_libraries() -> None:
    """Keep the client libraries from logging below warnings, whatever level is set.

    At the level of debugging they log headers and bodies, in which a server may send our own key back. A level can be
    changed afterwards and does not bind what lies below a name; a filter on each logger stays.
    """
    known = [name for name in logging.root.manager.loggerDict if name.partition(".")[0] in _CHATTY]
    for name in {*known, *_CHATTY}:
        logger = logging.getLogger(name)
        if _ONLY_WARNINGS not in logger.filters:
            logger.addFilter(_ONLY_WARNINGS)
            if name in _CHATTY:
                logger.setLevel(max(logging.WARNING, logger.level))


class GuardedTransport(httpx2.BaseTransport):
    """Sends a request only to an address that was checked, and reads no more and no longer than an answer needs.

    Parameters
    ----------
    allow_private
        Whether private addresses may be called: the operator's choice, never a parameter of a job.
    seconds
        For a whole request, from looking the name up to the last byte, whatever trickles in meanwhile.
    credentials
        The value of the Authorization header, or empty for none. It is set here, for the one origin `origin`, so that
        no other header that a client library finds in its environment leaves this machine.
    """

    def __init__(
        self,
        *,
        origin: Address,
        credentials: str = "",
        allow_private: bool = False,
        seconds: float = 120.0,
        resolver: Resolver | None = None,
        inner: httpx2.BaseTransport | None = None,
    ) -> None:
        self._origin = origin
        self._credentials = credentials
        self._allow_private = allow_private
        self._seconds = seconds
        self._resolver = resolver
        self._inner = inner or Network()

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        target = parse_address(str(request.url))
        if (target.scheme, target.host, target.port) != (self._origin.scheme, self._origin.host, self._origin.port):
            raise AddressRefusedError("A request left the checked origin and was not sent.")
        deadline = time.monotonic() + self._seconds
        addresses = checked_addresses(target, allow_private=self._allow_private, resolver=self._resolver)
        _DEADLINE.at = deadline
        error: httpx2.TransportError | None = None
        for ip in addresses:
            try:
                response = self._inner.handle_request(self._aimed(request, target, ip))
            except (httpx2.ConnectError, httpx2.ConnectTimeout) as problem:
                error = problem
                continue
            return _guarded(response, deadline)
        assert error is not None
        raise error

    def _headers(self, request: httpx2.Request) -> httpx2.Headers:
        # A copy: the client library reads its own marks from the request again when the answer is there.
        kept = [
            (name, value)
            for name, value in request.headers.multi_items()
            if name.lower() not in _DROPPED_HEADERS and not name.lower().startswith("x-stainless")
        ]
        headers = httpx2.Headers(kept)
        headers["Accept-Encoding"] = "identity"
        if self._credentials:
            headers["Authorization"] = self._credentials
        return headers

    def _aimed(self, request: httpx2.Request, target: Address, ip: str) -> httpx2.Request:
        """Copy a request so that it goes to `ip`, while Host header and certificate check keep the name."""
        return httpx2.Request(
            method=request.method,
            url=request.url.copy_with(host=ip),
            headers=self._headers(request),
            stream=request.stream,
            extensions={**request.extensions, "sni_hostname": target.host},
        )

    def close(self) -> None:
        self._inner.close()


def _guarded(response: httpx2.Response, deadline: float) -> httpx2.Response:
    """Give a response whose body is bounded, and which says no more of itself than is used."""
    failed = response.status_code >= 300
    packed = (response.headers.get("content-encoding", "").strip() or "identity").lower() != "identity"
    if packed and not failed:
        response.close()
        raise CompressedError("The answer is compressed although that was not asked for.")
    # The kind without its parameters: a library that believes in a charset of the server's choice fails at it.
    kind = "application/json" if failed else response.headers.get("content-type", "").partition(";")[0].strip()
    kept = {name: value for name in _KEPT_HEADERS if (value := response.headers.get(name)) is not None}
    stream: httpx2.SyncByteStream = _Bounded(response.stream, deadline, failed=failed)
    if packed:  # the status of a failure says enough
        response.close()
        stream = httpx2.ByteStream(b"")
    return httpx2.Response(response.status_code, headers={"content-type": kind, **kept}, stream=stream)


class _Bounded(httpx2.SyncByteStream):
    """A body that ends in an error when it grows too long or takes too long; that of a failure just ends."""

    def __init__(self, stream: object, deadline: float, *, failed: bool = False) -> None:
        assert isinstance(stream, httpx2.SyncByteStream)
        self._stream = stream
        self._deadline = deadline
        self._failed = failed

    def __iter__(self) -> Iterator[bytes]:
        try:
            yield from self._pieces()
        except httpx2.TransportError:
            if not self._failed:  # what a failure's status says, its broken body does not unsay
                raise

    def _pieces(self) -> Iterator[bytes]:
        size, most = 0, MAX_ERROR_BYTES if self._failed else MAX_ANSWER_BYTES
        _DEADLINE.at = self._deadline
        for piece in self._stream:
            size += len(piece)
            if size > most:
                raise TooLongError("The answer is longer than an answer can be.")
            if time.monotonic() > self._deadline:
                raise httpx2.ReadTimeout("The answer took longer than a request may take.")
            yield piece
            _DEADLINE.at = self._deadline

    def close(self) -> None:
        self._stream.close()
