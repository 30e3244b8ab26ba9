"""The proxy of the compose file: the real program with the shipped Caddyfile, in front of a real web server."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.operations.installation import ROOT, TOKEN, UNVERIFIED, Browser, Server, free_port, kill_group, wait_until

CADDY = Path(sys.executable).parent / "caddy"


class Proxy:
    """The shipped Caddyfile on ports of this machine, with certificates of its own making."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.plain, self.secure = folder, free_port(), free_port()
        self.env = os.environ | {
            "ATTUNE_HOST": "localhost",
            "XDG_DATA_HOME": str(folder / "data"),
            "XDG_CONFIG_HOME": str(folder / "config"),
        }

    @property
    def origin(self) -> str:
        return f"https://localhost:{self.secure}"

    def start(self, server: Server) -> None:
        shipped = (ROOT / "deploy" / "Caddyfile").read_text(encoding="utf-8")
        here = f"{{\n\tadmin off\n\tskip_install_trust\n\thttp_port {self.plain}\n\thttps_port {self.secure}\n\tservers"
        text = shipped.replace("{\n\tservers", here, 1).replace("web:8000", f"127.0.0.1:{server.port}")
        assert text.count(str(server.port)) == 1
        assert "admin off" in text
        (self.folder / "Caddyfile").write_text(text, encoding="utf-8")
        command = [str(CADDY), "run", "--config", str(self.folder / "Caddyfile"), "--adapter", "caddyfile"]
        with (self.folder / "caddy.log").open("wb") as log:
            self.process = subprocess.Popen(
                command, env=self.env, stdout=log, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True
            )

        def answers() -> bool:
            assert self.process.poll() is None, (self.folder / "caddy.log").read_text()[-2000:]
            with contextlib.suppress(OSError):
                return Browser(server, origin=self.origin).get("/health/ready").status == 200
            return False

        wait_until(answers, "the proxy does not answer")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    proxy = Proxy(tmp_path_factory.mktemp("proxy"))
    made = Server(
        tmp_path_factory.mktemp("behind"),
        ATTUNE_ALLOWED_HOSTS="localhost,attune.example",
        ATTUNE_TRUSTED_ORIGINS=proxy.origin,
    )
    with contextlib.ExitStack() as ends:
        ends.callback(made.stop)
        made.start()
        proxy.start(made)
        ends.callback(kill_group, proxy.process)
        made.proxy = proxy.origin
        yield made


def test_the_shipped_configuration_is_valid_and_formatted(tmp_path: Path) -> None:
    shipped = str(ROOT / "deploy" / "Caddyfile")
    env = os.environ | {
        "ATTUNE_HOST": "attune.example",
        "XDG_DATA_HOME": str(tmp_path),
        "XDG_CONFIG_HOME": str(tmp_path),
    }
    for command in (["validate", "--config", shipped, "--adapter", "caddyfile"], ["fmt", "--diff", shipped]):
        done = subprocess.run([CADDY, *command], env=env, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


def test_people_work_through_the_proxy_by_https_alone(server: Server) -> None:
    ada = Browser(server, origin=server.proxy).sign_in()
    assert ada.outbox(ada.lease(2)) == ["stored"] * 2
    assert ada.get("/metrics", Authorization=f"Bearer {TOKEN}").status == 404
    page = ada.get("/account/login/", Accept_Encoding="gzip")
    assert "max-age" in page.headers["Strict-Transport-Security"]


def test_an_address_that_a_client_claims_is_not_believed(server: Server) -> None:
    """Lock-out and log go by the address that the proxy saw."""
    Browser(server, origin=server.proxy).get("/account/login/?claimed", X_Forwarded_For="198.51.100.9")
    line = next(
        line for line in server.log.read_text().splitlines() if "?claimed" in line and "request_started" in line
    )
    assert "198.51.100.9" not in line


def test_requests_sent_drop_by_drop_do_not_reach_the_threads_of_the_web_server(server: Server) -> None:
    """Slow loris: far more half-sent requests than the web server has threads, and everybody else goes on working."""
    port = int(server.proxy.rsplit(":", 1)[1])
    head = "POST /account/login/ HTTP/1.1\r\nHost: localhost:{}\r\nContent-Length: 900\r\n\r\nlogin="
    with contextlib.ExitStack() as ends:
        for number in range(60):
            raw = ends.enter_context(socket.create_connection(("127.0.0.1", port), timeout=60))
            slow = ends.enter_context(UNVERIFIED.wrap_socket(raw, server_hostname="localhost"))
            slow.sendall((head.format(port) if number % 2 else head[:40]).encode())
        bo = Browser(server, origin=server.proxy).sign_in("bo")
        assert bo.outbox(bo.lease(2)) == ["stored"] * 2
