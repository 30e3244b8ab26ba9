"""An installation as it is run: each process started by the command of its container, in production mode.

Besides: a browser that speaks as the proxy does, and servers of PostgreSQL and Redis of one's own, which may be killed.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import psycopg
import pytest
import redis
import yaml

ROOT = Path(__file__).resolve().parents[2]
TOKEN = uuid.uuid4().hex
PASSWORD = "a long enough password"
PEOPLE = f"""
from tests.factories import make_corpus, make_campaign, MembershipFactory, UserFactory
from annotation.workflow.opening import open_campaign
campaign = make_campaign(corpus=make_corpus(), design={{"kind": "simple", "size": 6}}, seed=7)
for name in ("ada", "bo"):
    user = UserFactory.create(username=name, password={PASSWORD!r})
    MembershipFactory.create(user=user, campaign=campaign)
open_campaign(campaign)
"""


def container_command(service: str) -> list[str]:
    """What the compose file runs, with this Python in front."""
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))
    command = [str(part) for part in compose["services"][service]["command"]]
    return [sys.executable, *command[1:]] if command[0] == "python" else [sys.executable, "-m", *command]


def health_check(service: str) -> list[str]:
    """What the compose file asks to learn whether a service is well, as a command of this machine."""
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))
    kind, *command = compose["services"][service]["healthcheck"]["test"]
    if kind == "CMD-SHELL":
        return ["sh", "-c", command[0].replace("$$", "$")]
    return [sys.executable if part == "python" else part for part in command]


def free_port() -> int:
    with contextlib.closing(socket.socket()) as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


def wait_until(holds: Callable[[], bool], what: str, *, seconds: float = 120, every: float = 0.2) -> None:
    """Ask again and again, so that a slow machine costs time and not the test."""
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, f"{what}: not within {seconds:.0f} s"
        time.sleep(every)


def kill_group(process: subprocess.Popen[bytes]) -> None:
    """Kill -9 a process with all its children; nothing happens when it has ended."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
    process.wait(timeout=60)


class Server:
    """A production installation in a folder of its own. HTTPS is the proxy's; here its headers are sent by hand."""

    static: Path | None = None
    """Collected by the first server of a run, for all."""

    def __init__(self, folder: Path, **settings: str) -> None:
        self.folder, self.port = folder, free_port()
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("ATTUNE_", "DJANGO_"))}
        self.env = kept | {
            "ATTUNE_PRODUCTION": "1",
            "ATTUNE_SECRET_KEY": uuid.uuid4().hex * 2,
            "ATTUNE_ALLOWED_HOSTS": "attune.example",  # one name, as in the compose file
            "ATTUNE_TRUSTED_ORIGINS": "https://attune.example",
            "ATTUNE_PROXIES": "1",
            "ATTUNE_DATA_DIR": str(folder),
            "ATTUNE_STATIC_ROOT": str(Server.static or folder / "static"),
            "ATTUNE_METRICS_TOKEN": TOKEN,
            "ATTUNE_LOG_LEVEL": "INFO",
            "ATTUNE_CLASSIFIER_THREADS": "1",
            **settings,
        }
        self.log = folder / "web.log"
        self.proxy = ""
        self.process: subprocess.Popen[bytes] | None = None
        self.others: list[subprocess.Popen[bytes]] = []
        self.run(*container_command("migrate"), "-v0")
        if Server.static is None:
            self.run(sys.executable, "manage.py", "collectstatic", "--no-input", "-v0")
            Server.static = folder / "static"
        self.shell(PEOPLE)

    def run(self, *command: str) -> str:
        done = subprocess.run(command, cwd=ROOT, env=self.env, capture_output=True, text=True, timeout=280, check=False)
        assert done.returncode == 0, done.stderr[-3000:]
        return done.stdout

    def shell(self, code: str) -> str:
        return self.run(sys.executable, "manage.py", "shell", "--no-imports", "-c", code).strip()

    def start(self) -> None:
        """Start the web server and wait until it answers."""
        command = [part.replace("0.0.0.0:8000", f"127.0.0.1:{self.port}") for part in container_command("web")]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                command, cwd=ROOT, env=self.env, stdout=log, stderr=log, start_new_session=True
            )
        end = time.monotonic() + 120
        while time.monotonic() < end:
            with contextlib.suppress(OSError):
                if Browser(self).get("/health/ready").status == 200:
                    return
            assert self.process.poll() is None, self.log.read_text()[-3000:]
            time.sleep(0.2)
        pytest.fail(f"The server does not answer: {self.log.read_text()[-3000:]}")

    def kill(self) -> None:
        """Kill -9 the web server."""
        if self.process is not None:
            kill_group(self.process)

    def launch(self, service: str) -> subprocess.Popen[bytes]:
        """Start another container's process; what it says is in `<service>.log`."""
        command = [part.replace("/tmp/beat", str(self.folder / "beat")) for part in container_command(service)]
        with (self.folder / f"{service}.log").open("ab") as log:
            process = subprocess.Popen(command, cwd=ROOT, env=self.env, stdout=log, stderr=log, start_new_session=True)
        self.others.append(process)
        return process

    def stop(self) -> None:
        self.kill()
        for process in self.others:
            kill_group(process)


# The proxy of a test signs its certificate itself.
UNVERIFIED = ssl.create_default_context()
UNVERIFIED.check_hostname, UNVERIFIED.verify_mode = False, ssl.CERT_NONE


class Reply:
    def __init__(self, status: int, headers: Any, body: bytes) -> None:
        self.status, self.headers, self.body = status, headers, body

    @property
    def text(self) -> str:
        return self.body.decode()

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Browser:
    """A browser that keeps cookies: of a real proxy at `origin`, else without one, saying itself what a proxy says."""

    def __init__(self, server: Server, *, origin: str = "", timeout: float = 60) -> None:
        self.port, self.origin, self.timeout = server.port, origin, timeout
        self.cookies: dict[str, str] = {}

    def headers(self, **headers: str) -> dict[str, str]:
        behind = {"Host": "attune.example", "X-Forwarded-Proto": "https", "X-Forwarded-For": "203.0.113.7"}
        return {
            **({} if self.origin else behind),
            "Origin": self.origin or "https://attune.example",
            "Referer": f"{self.origin or 'https://attune.example'}/",
            "Cookie": "; ".join(f"{name}={value}" for name, value in self.cookies.items()),
            "X-CSRFToken": self.cookies.get("csrftoken", self.cookies.get("__Secure-csrftoken", "")),
            **{name.replace("_", "-"): value for name, value in headers.items()},
        }

    def send(self, method: str, path: str, body: bytes | None = None, **headers: str) -> Reply:
        place = self.origin or f"http://127.0.0.1:{self.port}"
        request = urllib.request.Request(f"{place}{path}", data=body, method=method)
        for name, value in self.headers(**headers).items():
            request.add_header(name, value)
        opener = urllib.request.build_opener(NoRedirect, urllib.request.HTTPSHandler(context=UNVERIFIED))
        try:
            with opener.open(request, timeout=self.timeout) as answer:
                reply = Reply(answer.status, answer.headers, answer.read())
        except urllib.error.HTTPError as error:
            reply = Reply(error.code, error.headers, error.read())
        for line in reply.headers.get_all("Set-Cookie") or []:
            name, _, value = line.split(";")[0].partition("=")
            self.cookies[name] = value
        return reply

    def get(self, path: str, **headers: str) -> Reply:
        return self.send("GET", path, **headers)

    def post(self, path: str, given: dict[str, Any], *, form: bool = False) -> Reply:
        if form:
            return self.send("POST", path, urlencode(given).encode(), Content_Type="application/x-www-form-urlencoded")
        return self.send("POST", path, json.dumps(given).encode(), Content_Type="application/json")

    def sign_in(self, name: str = "ada") -> Browser:
        self.get("/account/login/")
        token = {"csrfmiddlewaretoken": self.cookies["csrftoken"]}
        assert self.post("/account/login/", {"login": name, "password": PASSWORD, **token}, form=True).status == 302
        return self

    # The workbench -----------------------------------------------------------------------------------------------

    FRAME = {"task": "verify", "holding": [], "client": "tab"}

    def lease(self, want: int) -> list[dict[str, Any]]:
        """Take items and return an answer to each, not yet sent."""
        dealt = self.post("/api/campaigns/emotions/lease/", {**self.FRAME, "want": want}).json["items"]
        return [{"id": str(uuid.uuid4()), "slot": item["slot"], "action": "label", "label": "joy"} for item in dealt]

    def submit(self, answers: list[dict[str, Any]]) -> Reply:
        return self.post("/api/campaigns/emotions/judgments/", {**self.FRAME, "want": 0, "judgments": answers})

    def outbox(self, answers: list[dict[str, Any]], *, seconds: float = 120) -> list[str]:
        """Send answers as the workbench's outbox does: again and again until the server says what became of them."""
        said: list[str] = []

        def acknowledged() -> bool:
            with contextlib.suppress(OSError, http.client.HTTPException):
                reply = self.submit(answers)
                if reply.status == 200:
                    said[:] = [one["status"] for one in reply.json["results"]]
            return bool(said)

        wait_until(acknowledged, "no receipt", seconds=seconds)
        return said

    def stored(self) -> int:
        """How many answers of one's own the server has."""
        return len(self.get("/api/campaigns/emotions/history/?task=verify").json["results"])


class NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *args: Any, **kwargs: Any) -> None:
        return None


class Postgres:
    """A PostgreSQL server of one's own, from Debian's package."""

    def __init__(self) -> None:
        found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
        if not found:
            pytest.skip("No PostgreSQL server: install the package postgresql.")
        self.programs, self.port = found[-1].parent, free_port()
        # Not below pytest's own folder, which the user postgres may not enter.
        self.folder = Path(tempfile.mkdtemp(prefix="attune-postgres-"))
        self.folder.chmod(0o755)
        if os.getuid() == 0:
            shutil.chown(self.folder, "postgres")
        self._run(f"{self.programs}/initdb -D {self.folder}/data -A trust -U postgres --no-sync")
        self.start()
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            connection.execute("CREATE DATABASE attune")

    def url(self, database: str = "attune") -> str:
        return f"postgres://postgres@127.0.0.1:{self.port}/{database}"

    def _run(self, command: str) -> None:
        whole = ["su", "postgres", "-s", "/bin/sh", "-c", command] if os.getuid() == 0 else ["sh", "-c", command]
        done = subprocess.run(whole, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, timeout=120, check=False)
        assert done.returncode == 0, done.stderr.decode()[-2000:]

    def start(self) -> None:
        options = f"-p {self.port} -k {self.folder} -c listen_addresses=127.0.0.1"
        self._run(f"{self.programs}/pg_ctl -D {self.folder}/data -w -t 100 -l {self.folder}/log -o '{options}' start")

    def crash(self) -> None:
        """End every process at once, without a checkpoint: the next start recovers from the log."""
        self._run(f"{self.programs}/pg_ctl -D {self.folder}/data -m immediate -w -t 100 stop")

    def one(self, query: str) -> Any:
        with psycopg.connect(self.url()) as connection:
            row = connection.execute(query).fetchone()  # type: ignore[call-overload]
            return row[0] if row else None

    def stop(self) -> None:
        with contextlib.suppress(AssertionError):
            self.crash()
        shutil.rmtree(self.folder, ignore_errors=True)


class Redis:
    """A Redis server of one's own that keeps nothing: killed, it comes back empty."""

    def __init__(self) -> None:
        program = shutil.which("redis-server")
        if program is None:
            pytest.skip("No Redis server: install the package redis-server.")
        self.program, self.port = program, free_port()
        self.start()

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> None:
        options = ["--bind", "127.0.0.1", "--port", str(self.port), "--save", "", "--appendonly", "no"]
        self.process = subprocess.Popen(
            [self.program, *options], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
        )

        def answers() -> bool:
            with contextlib.suppress(redis.RedisError):
                return bool(redis.Redis.from_url(self.url).ping())
            return False

        wait_until(answers, "Redis does not answer", seconds=60)

    def kill(self) -> None:
        kill_group(self.process)


class Link:
    """A network between a client and the web server: slow, and held up or cut where a test says so.

    `hold_after` bytes of the client's are let through, then the rest waits for `released`; with `cut` the connection is
    dropped at that point instead. `lose_reply` drops it when the server begins to answer.
    """

    def __init__(
        self, port: int, *, rate: int = 0, hold_after: int | None = None, cut: bool = False, lose_reply: bool = False
    ) -> None:
        self.target, self.rate, self.hold_after, self.cut, self.lose_reply = port, rate, hold_after, cut, lose_reply
        self.released, self.held = threading.Event(), threading.Event()
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self.listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self.listener.accept()
                server = socket.create_connection(("127.0.0.1", self.target), timeout=120)
                for work in ((self._up, client, server), (self._down, server, client)):
                    threading.Thread(target=work[0], args=work[1:], daemon=True).start()

    def _up(self, client: socket.socket, server: socket.socket) -> None:
        sent = 0
        with contextlib.suppress(OSError):
            while piece := client.recv(self._piece(sent)):
                server.sendall(piece)
                sent += len(piece)
                self._pace(piece)
                if sent == self.hold_after:
                    self.held.set()
                    if self.cut:
                        break
                    self.released.wait(timeout=300)
            self._end(server, client)

    def _down(self, server: socket.socket, client: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while piece := server.recv(self._piece(0)):
                if self.lose_reply:
                    break
                client.sendall(piece)
                self._pace(piece)
            self._end(client, server)

    def _piece(self, sent: int) -> int:
        size = max(1, self.rate // 10) if self.rate else 65536
        return min(size, self.hold_after - sent) if self.hold_after and sent < self.hold_after else size

    def _pace(self, piece: bytes) -> None:
        if self.rate:
            time.sleep(len(piece) / self.rate)

    @staticmethod
    def _end(*ends: socket.socket) -> None:
        for end in ends:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()

    def close(self) -> None:
        self.released.set()
        self.listener.close()
