"""Kill -9 of the web server in a stream of answers: what was acknowledged is there, and nothing is there twice."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import uuid
from typing import Any

import pytest

from tests.annotation.stress.conftest import REPOSITORY, Site

PEOPLE = 4
LABELS = ("joy", "sadness", "anger", "fear")


class Server:
    """Real gunicorn on a free port, with workers; killed with all its children, and started again on the same port."""

    def __init__(self, site: Site) -> None:
        self.site = site
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = [sys.executable, "-m", "gunicorn", "config.wsgi", "--workers", "2", "--threads", "2"]
        options = ["--bind", f"127.0.0.1:{self.port}", "--log-level", "critical"]
        self.process = subprocess.Popen(
            [*command, *options], cwd=REPOSITORY, env=self.site.environment, start_new_session=True
        )
        end = time.monotonic() + 120
        while time.monotonic() < end:
            try:
                connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
                connection.request("GET", "/health/live")
                if connection.getresponse().status == 200:
                    return
            except OSError:
                time.sleep(0.1)
        raise AssertionError("gunicorn did not start")

    def kill(self) -> None:
        if self.process is not None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            self.process = None


class Browser(threading.Thread):
    """One annotator: leases, answers, and sends again whatever was not acknowledged, as the outbox does."""

    def __init__(self, server: Server, token: str, stop: threading.Event) -> None:
        super().__init__(daemon=True)
        self.server, self.token, self.stop = server, token, stop
        self.client = str(uuid.uuid4())
        self.sent: dict[str, dict[str, Any]] = {}
        self.acknowledged: dict[str, str] = {}
        self.pending: list[dict[str, Any]] = []
        self.broken = 0
        self.finished = False

    def post(self, path: str, body: Any) -> Any:
        while True:
            try:
                connection = http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=60)
                headers = {"Authorization": f"Bearer {self.token}", "Content-Type": "application/json"}
                connection.request("POST", f"/api/campaigns/stress/{path}/", json.dumps(body), headers)
                answer = connection.getresponse()
                text = answer.read()
                if answer.status == 200:
                    return json.loads(text)
                if answer.status < 500:
                    raise AssertionError(text)
            except (OSError, http.client.HTTPException, ValueError):
                self.broken += 1
            time.sleep(0.05)

    def run(self) -> None:
        items = self.post("lease", {"task": "verify", "want": 5, "client": self.client})["items"]
        while items and not self.stop.is_set():
            item = items.pop(0)
            given = {
                "id": str(uuid.uuid4()),
                "slot": item["slot"],
                "action": "label",
                "label": LABELS[len(self.sent) % len(LABELS)],
            }
            self.sent[given["id"]] = given
            holding = [other["slot"] for other in items]
            ask = {"task": "verify", "want": 1, "client": self.client, "judgments": [given], "holding": holding}
            answer = self.post("judgments", ask)
            for result in answer["results"]:
                self.acknowledged[result["id"]] = result["status"]
            items += answer["items"]
        self.finished = True


def stream(site: Site, *, answers: int, kills: int) -> None:
    turns = answers // (2 * 2)  # two items a turn, two answers an item
    tokens = json.loads(site.run("-m", "tests.annotation.stress.annotators", "tokens", str(PEOPLE), "2", str(turns)))
    server, stop = Server(site), threading.Event()
    server.start()
    browsers = [Browser(server, token, stop) for token in tokens]
    try:
        for browser in browsers:
            browser.start()
        for number in range(1, kills + 1):
            goal = number * answers // (kills + 1)
            while sum(len(browser.acknowledged) for browser in browsers) < goal:
                assert any(browser.is_alive() for browser in browsers), "the stream ended before the kill"
                time.sleep(0.002)
            server.kill()
            server.start()
        for browser in browsers:
            browser.join(timeout=500)
            assert browser.finished
    finally:
        stop.set()
        server.kill()
    stored = {row[0]: row[1:] for row in json.loads(site.run("-m", "tests.annotation.stress.annotators", "judgments"))}
    acknowledged = {key: status for browser in browsers for key, status in browser.acknowledged.items()}
    sent = {key: given for browser in browsers for key, given in browser.sent.items()}
    facts = json.loads(site.run("-m", "tests.annotation.stress.annotators", "facts"))

    assert sum(browser.broken for browser in browsers) > 0, "no request was cut: the kill hit nothing"
    assert set(acknowledged.values()) <= {"stored", "duplicate"}
    assert set(acknowledged) == set(sent)
    assert set(stored) == set(sent)  # nothing acknowledged is missing, nothing unasked is there
    assert all(stored[key] == [sent[key]["label"], False] for key in sent)
    assert facts["twice"] == 0
    assert facts["answers_per_item"] == [2]
    assert facts["standing"] == facts["counted"] == facts["wanted"] == len(sent) == 4 * turns


def test_no_answer_is_lost_or_doubled_when_the_web_server_is_killed(site: Site) -> None:
    stream(site, answers=300, kills=2)


@pytest.mark.slow
def test_no_answer_of_two_thousand_is_lost_or_doubled_when_the_web_server_is_killed(site: Site) -> None:
    stream(site, answers=2000, kills=8)
