"""An HTTP transport that calls only the address that was checked, and reads no more and no longer than an answer needs.

Redirects are handed back, not followed; the one request that leaves this machine carries the one key that is meant for
its host, whatever else a client library finds in the environment.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Final

import httpx2

from annotation.inference.addresses import Address, AddressRefusedError, Resolver, checked_addresses, parse_address

MAX_ANSWER_BYTES: Final = 2 * 1024 * 1024
"""128 tokens are a few kilobytes; whatever sends more is not answering."""

_DROPPED_HEADERS: Final = ("openai-organization", "openai-project", "cookie", "authorization")


class GuardedTransport(httpx2.BaseTransport):
    """Sends a request only to an address that was checked, and reads no more and no longer than an answer needs.

    Parameters
    ----------
    allow_private
        Whether private addresses may be called: the operator's choice, never a parameter of a job.
    seconds
        For a whole request from the first byte to the last, whatever trickles in meanwhile.
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
        self._inner = inner or httpx2.HTTPTransport(trust_env=False)

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        target = parse_address(str(request.url))
        if (target.scheme, target.host, target.port) != (self._origin.scheme, self._origin.host, self._origin.port):
            raise AddressRefusedError("A request left the checked origin and was not sent.")
        addresses = checked_addresses(target, allow_private=self._allow_private, resolver=self._resolver)
        deadline = time.monotonic() + self._seconds
        error: httpx2.TransportError | None = None
        for ip in addresses:
            try:
                response = self._inner.handle_request(self._aimed(request, target, ip))
            except (httpx2.ConnectError, httpx2.ConnectTimeout) as problem:
                error = problem
                continue
            if response.headers.get("content-encoding", "identity").lower() != "identity":
                response.close()
                raise httpx2.RemoteProtocolError("The answer is compressed although that was not asked for.")
            return httpx2.Response(
                status_code=response.status_code,
                headers=response.headers,
                stream=_Bounded(response.stream, deadline),
                extensions=response.extensions,
            )
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


class _Bounded(httpx2.SyncByteStream):
    """A body that ends in an error when it grows too long or takes too long."""

    def __init__(self, stream: object, deadline: float) -> None:
        assert isinstance(stream, httpx2.SyncByteStream)
        self._stream = stream
        self._deadline = deadline

    def __iter__(self) -> Iterator[bytes]:
        size = 0
        for piece in self._stream:
            size += len(piece)
            if size > MAX_ANSWER_BYTES:
                raise httpx2.RemoteProtocolError("The answer is longer than an answer can be.")
            if time.monotonic() > self._deadline:
                raise httpx2.ReadTimeout("The answer took longer than a request may take.")
            yield piece

    def close(self) -> None:
        self._stream.close()
