"""The way over the network: certificates are checked against the name, and no step outlasts the request."""

from __future__ import annotations

import shutil
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from annotation.inference import transport as module
from annotation.inference.addresses import parse_address
from annotation.inference.transport import GuardedTransport

pytestmark = pytest.mark.skipif(shutil.which("openssl") is None, reason="makes certificates with openssl")


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("tls")
    key, certificate = folder / "key.pem", folder / "certificate.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=api.example.org"]
    more = ["-addext", "subjectAltName=DNS:api.example.org", "-keyout", str(key), "-out", str(certificate)]
    subprocess.run([*command, *more], check=True, capture_output=True)
    return key, certificate


@pytest.fixture
def port(certificate: tuple[Path, Path]) -> Iterator[int]:
    """A server that greets well, or at the path /slow sends a header now and then without end."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate[1], certificate[0])
    listening = socket.create_server(("127.0.0.1", 0))

    def answer(plain: socket.socket) -> None:
        try:
            with context.wrap_socket(plain, server_side=True) as connection:
                if b" /slow " not in connection.recv(65536):
                    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi")
                    return
                connection.sendall(b"HTTP/1.1 200 OK\r\n")
                for _ in range(50):
                    connection.sendall(b"X-a: b\r\n")
                    time.sleep(0.1)
        except OSError:
            pass

    def serve() -> None:
        while True:
            try:
                plain, _ = listening.accept()
            except OSError:
                return
            threading.Thread(target=answer, args=(plain,), daemon=True).start()

    threading.Thread(target=serve, daemon=True).start()
    yield listening.getsockname()[1]
    listening.close()


def client(port: int, host: str = "api.example.org", seconds: float = 20.0) -> httpx2.Client:
    origin = parse_address(f"https://{host}:{port}")
    guarded = GuardedTransport(
        origin=origin, allow_private=True, seconds=seconds, resolver=lambda host, port: ["127.0.0.1"]
    )
    return httpx2.Client(transport=guarded, trust_env=False, timeout=30.0)


@pytest.fixture
def trusted(certificate: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    context = ssl.create_default_context(cafile=str(certificate[1]))
    monkeypatch.setattr(module.httpx2, "create_ssl_context", lambda **options: context)


@pytest.mark.usefixtures("trusted")
def test_a_certificate_for_the_name_is_accepted_though_the_connection_goes_to_an_address(port: int) -> None:
    assert client(port).get(f"https://api.example.org:{port}/v1").content == b"hi"


@pytest.mark.usefixtures("trusted")
def test_a_certificate_for_another_name_is_refused(port: int) -> None:
    with pytest.raises(httpx2.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
        client(port, "other.example.org").get(f"https://other.example.org:{port}/v1")


def test_a_certificate_that_nobody_vouches_for_is_refused(port: int) -> None:
    with pytest.raises(httpx2.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
        client(port).get(f"https://api.example.org:{port}/v1")


@pytest.mark.usefixtures("trusted")
def test_headers_that_trickle_in_over_tls_end_with_the_request(port: int) -> None:
    began = time.monotonic()
    with pytest.raises(httpx2.ReadTimeout):
        client(port, seconds=0.6).get(f"https://api.example.org:{port}/slow")
    assert time.monotonic() - began < 2.0


def test_a_handshake_that_never_ends_ends_with_the_request() -> None:
    silent = socket.create_server(("127.0.0.1", 0))
    port = silent.getsockname()[1]
    began = time.monotonic()
    with pytest.raises(httpx2.TimeoutException):
        client(port, seconds=0.6).get(f"https://api.example.org:{port}/v1")
    assert time.monotonic() - began < 2.0
    silent.close()
