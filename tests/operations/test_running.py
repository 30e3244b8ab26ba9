"""The product as it is run: each process started by the command of its container, in production mode, and killed."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator
from http.cookiejar import CookieJar
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
TOKEN = uuid.uuid4().hex
PASSWORD = "a long enough password"
PEOPLE = f"""
from tests.factories import make_corpus, make_campaign, MembershipFactory, UserFactory
from annotation.workflow.opening import open_campaign
campaign = make_campaign(corpus=make_corpus(), design={{"kind": "simple", "size": 6}}, seed=7)
ada = UserFactory.create(username="ada", password={PASSWORD!r})
MembershipFactory.create(user=ada, campaign=campaign)
open_campaign(campaign)
"""


def container_command(service: str) -> list[str]:
    """What the compose file runs, with this Python in front."""
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))
    command = [str(part) for part in compose["services"][service]["command"]]
    return [sys.executable, *command[1:]] if command[0] == "python" else [sys.executable, "-m", *command]


def free_port() -> int:
    with contextlib.closing(socket.socket()) as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


class Server:
    """A production installation in a folder of its own. HTTPS is the proxy's; here its headers are sent by hand."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.port = folder, free_port()
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("ATTUNE_", "DJANGO_"))}
        self.env = kept | {
            "ATTUNE_PRODUCTION": "1",
            "ATTUNE_SECRET_KEY": uuid.uuid4().hex * 2,
            "ATTUNE_ALLOWED_HOSTS": "attune.example,127.0.0.1",
            "ATTUNE_TRUSTED_ORIGINS": "https://attune.example",
            "ATTUNE_PROXIES": "1",
            "ATTUNE_DATA_DIR": str(folder),
            "ATTUNE_STATIC_ROOT": str(folder / "static"),
            "ATTUNE_METRICS_TOKEN": TOKEN,
            "ATTUNE_LOG_LEVEL": "INFO",
        }
        self.log = folder / "web.log"
        self.run(*container_command("migrate"), "-v0")
        self.run(sys.executable, "manage.py", "collectstatic", "--no-input", "-v0")
        self.run(sys.executable, "manage.py", "shell", "--no-imports", "-c", PEOPLE)
        self.process: subprocess.Popen[bytes] | None = None

    def run(self, *command: str) -> str:
        done = subprocess.run(command, cwd=ROOT, env=self.env, capture_output=True, text=True, timeout=280, check=False)
        assert done.returncode == 0, done.stderr[-3000:]
        return done.stdout

    def start(self) -> None:
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
        if self.process is not None and self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()


class Reply:
    def __init__(self, status: int, headers: Any, body: bytes) -> None:
        self.status, self.headers, self.body = status, headers, body

    @property
    def text(self) -> str:
        return self.body.decode()


class Browser:
    """A browser behind the proxy: HTTPS as the proxy tells it, cookies kept."""

    def __init__(self, server: Server) -> None:
        self.server, self.jar = server, CookieJar()
        self.cookies: dict[str, str] = {}

    def send(self, method: str, path: str, body: bytes | None = None, **headers: str) -> Reply:
        request = urllib.request.Request(f"http://127.0.0.1:{self.server.port}{path}", data=body, method=method)
        given = {
            "Host": "attune.example",
            "X-Forwarded-Proto": "https",
            "X-Forwarded-For": "203.0.113.7",
            "Origin": "https://attune.example",
            "Referer": "https://attune.example/",
            "Cookie": "; ".join(f"{name}={value}" for name, value in self.cookies.items()),
            "X-CSRFToken": self.cookies.get("csrftoken", self.cookies.get("__Secure-csrftoken", "")),
            **{name.replace("_", "-"): value for name, value in headers.items()},
        }
        for name, value in given.items():
            request.add_header(name, value)
        opener = urllib.request.build_opener(NoRedirect)
        try:
            with opener.open(request, timeout=30) as answer:
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


class NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *args: Any, **kwargs: Any) -> None:
        return None


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    made = Server(tmp_path_factory.mktemp("production"))
    made.start()
    yield made
    made.kill()


def test_pages_in_production_name_only_static_files_that_are_there(server: Server) -> None:
    browser = Browser(server).sign_in()
    for place in ("/", "/account/login/", "/campaigns/emotions/verify/"):
        page = browser.get(place)
        assert page.status in (200, 302), page.text[:500]
        for file in re.findall(r'(?:src|href)="(/static/[^"]+)"', page.text):
            found = browser.get(file)
            assert found.status == 200, file
            assert re.search(r"\.[0-9a-f]{8,}\.|assets/", file), f"{file} has no digest in its name"
            assert "max-age=" in found.headers["Cache-Control"]


def test_production_sends_secure_cookies_hsts_and_a_strict_policy(server: Server) -> None:
    page = Browser(server).get("/account/login/")
    assert "unsafe" not in page.headers["Content-Security-Policy"]
    assert int(re.search(r"max-age=(\d+)", page.headers["Strict-Transport-Security"]).group(1)) >= 3600  # type: ignore[union-attr]
    for cookie in page.headers.get_all("Set-Cookie"):
        assert "Secure" in cookie, cookie
        assert "SameSite" in cookie, cookie
    plain = Browser(server).send("GET", "/account/login/", **{"X-Forwarded-Proto": "http"})
    assert plain.status == 301
    assert plain.headers["Location"].startswith("https://")
    assert Browser(server).send("GET", "/health/live", Host="evil.example").status == 400


def test_figures_are_for_the_operator_and_tell_of_jobs_queues_answers_and_latency(server: Server) -> None:
    browser = Browser(server)
    assert browser.get("/metrics").status == 403
    assert browser.get("/metrics", Authorization="Bearer wrong").status == 403
    figures = browser.get("/metrics", Authorization=f"Bearer {TOKEN}")
    assert figures.status == 200
    for name in (
        "attune_jobs",
        "attune_queue_depth",
        "attune_queue_oldest_seconds",
        "attune_judgments",
        "attune_leases",
        "django_http_requests_latency_seconds_by_view_method",
        "django_http_responses_total_by_status",
    ):
        assert re.search(rf"^{name}", figures.text, re.MULTILINE), name
    assert float(re.search(r"^attune_queue_depth (\S+)", figures.text, re.MULTILINE).group(1)) == 0  # type: ignore[union-attr]


def test_the_log_is_json_with_request_ids_and_without_secrets(server: Server) -> None:
    Browser(server).sign_in().get("/me/")
    lines = [json.loads(line) for line in server.log.read_text().splitlines() if line.startswith("{")]
    requests = [line for line in lines if line.get("event") == "request_finished"]
    assert requests
    assert all(line["request_id"] and line["timestamp"] for line in requests)
    text = server.log.read_text()
    for secret in (PASSWORD, server.env["ATTUNE_SECRET_KEY"], TOKEN):
        assert secret not in text


def test_an_acknowledged_answer_survives_kill_9_of_the_web_server(server: Server) -> None:
    browser = Browser(server).sign_in()
    frame = {"task": "verify", "want": 3, "holding": [], "client": "tab"}
    dealt = json.loads(browser.post("/api/campaigns/emotions/lease/", frame).body)["items"]
    answers = [{"id": str(uuid.uuid4()), "slot": item["slot"], "action": "label", "label": "joy"} for item in dealt]
    place = "/api/campaigns/emotions/judgments/"
    receipt = json.loads(browser.post(place, {**frame, "want": 0, "judgments": answers}).body)
    assert [one["status"] for one in receipt["results"]] == ["stored"] * 3
    server.kill()
    server.start()
    # The session survives, the answers are there, and sending them again stores nothing new.
    again = json.loads(browser.post(place, {**frame, "want": 0, "judgments": answers}).body)
    assert [one["status"] for one in again["results"]] == ["duplicate"] * 3
    history = json.loads(browser.get("/api/campaigns/emotions/history/?task=verify").body)
    assert len(history["results"]) == 3


def test_worker_and_beat_start_by_the_commands_of_their_containers(server: Server, tmp_path: Path) -> None:
    job = "create_job(kind='report', parameters={'datasets': ['none']})"
    waiting = f"from annotation.workflow.jobs import create_job; {job}"
    server.run(sys.executable, "manage.py", "shell", "--no-imports", "-c", waiting)
    started = []
    for name in ("worker", "beat"):
        command = [part.replace("/tmp/beat", str(tmp_path / "beat")) for part in container_command(name)]
        with (tmp_path / name).open("wb") as log:
            started.append(
                subprocess.Popen(command, cwd=ROOT, env=server.env, stdout=log, stderr=log, start_new_session=True)
            )
    try:
        # No hint was sent: beat's reconciler finds the row, the worker tries it and says in the row why it failed.
        ask = "from annotation.models import Job; job = Job.objects.get(); print(job.state, job.error)"
        end, said = time.monotonic() + 150, ""
        while time.monotonic() < end and not said.startswith("failed"):
            time.sleep(3)
            said = server.run(sys.executable, "manage.py", "shell", "--no-imports", "-c", ask)
        assert said.startswith("failed"), (tmp_path / "worker").read_text()[-2000:]
        assert len(said) > 10
        assert list(tmp_path.glob("beat*"))
        line = next(line for line in (tmp_path / "worker").read_text().splitlines() if "job_failed" in line)
        assert json.loads(line)["job"]
    finally:
        for process in started:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
