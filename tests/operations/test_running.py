"""The product as it is run: each process started by the command of its container, in production mode, and killed."""

from __future__ import annotations

import json
import os
import re
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.operations.installation import PASSWORD, TOKEN, Browser, Server, wait_until


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    made = Server(tmp_path_factory.mktemp("production"))
    made.start()
    yield made
    made.stop()


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


def test_request_figures_are_those_of_every_process_living_or_dead(server: Server) -> None:
    def counted() -> float:
        text = Browser(server).get("/metrics", Authorization=f"Bearer {TOKEN}").text
        name = r"^django_http_requests_total_by_view_transport_method_total\{([^}]*)\} (\S+)"
        return sum(float(n) for labels, n in re.findall(name, text, re.MULTILINE) if 'view="live"' in labels)

    before = counted()
    crowd = [threading.Thread(target=Browser(server).get, args=("/health/live",)) for _ in range(60)]
    for one in crowd:
        one.start()
    for one in crowd:
        one.join(timeout=120)
    # Whichever process answers, it says the same.
    assert [counted() for _ in range(12)] == [before + 60] * 12
    assert server.process is not None
    children = Path(f"/proc/{server.process.pid}/task/{server.process.pid}/children").read_text().split()
    os.kill(int(children[0]), signal.SIGKILL)
    wait_until(lambda: not Path(f"/proc/{children[0]}").exists(), "the process does not end")
    assert counted() >= before + 60


def test_the_log_is_json_with_request_ids_and_without_secrets(server: Server) -> None:
    Browser(server).sign_in().get("/me/")
    lines = [json.loads(line) for line in server.log.read_text().splitlines() if line.startswith("{")]
    requests = [line for line in lines if line.get("event") == "request_finished"]
    assert requests
    assert all(line["request_id"] and line["timestamp"] for line in requests)
    # The libraries' lines too.
    Browser(server).get("/nowhere")
    lines = [json.loads(line) for line in server.log.read_text().splitlines() if line.startswith("{")]
    assert all(line["timestamp"] and line["level"] and line["logger"] for line in lines)
    text = server.log.read_text()
    for secret in (PASSWORD, server.env["ATTUNE_SECRET_KEY"], TOKEN):
        assert secret not in text


def test_an_acknowledged_answer_survives_kill_9_of_the_web_server(server: Server) -> None:
    browser = Browser(server).sign_in()
    answers = browser.lease(3)
    assert browser.outbox(answers) == ["stored"] * 3
    server.kill()
    server.start()
    # The session survives, the answers are there, and sending them again stores nothing new.
    assert browser.outbox(answers) == ["duplicate"] * 3
    assert browser.stored() == 3


def test_worker_and_beat_start_by_the_commands_of_their_containers(server: Server) -> None:
    job = "create_job(kind='report', parameters={'datasets': ['none']})"
    server.shell(f"from annotation.workflow.jobs import create_job; {job}")
    for name in ("worker", "quick", "beat"):
        server.launch(name)
    # No hint was sent: beat's reconciler finds the row, the worker tries it and says in the row why it failed.
    ask = "from annotation.models import Job; job = Job.objects.get(); print(job.state, job.error)"
    said: list[str] = []

    def failed() -> bool:
        said.append(server.shell(ask))
        return said[-1].startswith("failed")

    wait_until(failed, "the job does not end", seconds=150, every=3)
    assert len(said[-1]) > 10
    assert list(server.folder.glob("beat*"))
    logs = "".join((server.folder / f"{name}.log").read_text() for name in ("worker", "quick"))
    line = next(line for line in logs.splitlines() if "job_failed" in line)
    assert json.loads(line)["job"]
