"""N annotators at once against a real server while texts are pre-labelled and a report is computed.

python -m benchmarks load                                    12 annotators, 20 s, SQLite
python -m benchmarks.load --annotators 50 --seconds 300 --texts 200000 --database postgres://… --redis redis://…

Prints the latency of `next` (lease) and `submit` as an annotator's browser sees it, errors, and the most memory used.
The annotators are programs; what they "label" is thrown away with the data folder.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import json
import os
import random
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
PREPARE = """
from annotation.corpora.dialogue import text_digest
from annotation.models import Text
from annotation.workflow import accounts, jobs
from annotation.workflow.opening import open_campaign
from tests.factories import MembershipFactory, UserFactory, make_campaign, make_corpus
corpus = make_corpus({turns} // 2)
campaign = make_campaign("load", corpus=corpus, design={{"kind": "simple", "size": {turns}}}, rate_responses=False)
for number in range({annotators}):
    user = UserFactory.create(username=f"load{{number}}")
    MembershipFactory.create(user=user, campaign=campaign)
    print("TOKEN", accounts.make_token(user=user, name="load", scope="write", days=1))
open_campaign(campaign)
for first in range(0, {texts}, 10_000):
    texts = [f"said {{n}}: film {{n}} was fine" for n in range(first, min(first + 10_000, {texts}))]
    Text.objects.bulk_create([Text(digest=text_digest(text), content=text) for text in texts], batch_size=1000)
jobs.create_job(kind="prelabel", parameters={{}})
jobs.create_job(kind="report", parameters={{"campaign": "load", "replicates": 200}})
"""
AFTERWARDS = """
from annotation.models import Job, Judgment, Slot
print("STORED", Judgment.objects.count(), "DONE", Slot.objects.filter(state="done").count())
for job in Job.objects.all():
    print("JOB", job.kind, job.state, f"{job.done}/{job.total}", job.error[:80])
"""


class Annotator(threading.Thread):
    """Leases a few items ahead, thinks, submits one answer and gets the next in the same reply."""

    def __init__(self, port: int, token: str, until: float, think: float) -> None:
        super().__init__(daemon=True)
        self.port, self.token, self.until, self.think = port, token, until, think
        self.next: list[float] = []
        self.submit: list[float] = []
        self.errors: list[str] = []
        self.acknowledged = 0
        self.connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)

    def ask(self, place: str, body: dict[str, Any], times: list[float]) -> dict[str, Any]:
        headers = {"Authorization": f"Bearer {self.token}", "Content-Type": "application/json"}
        started = time.perf_counter()
        self.connection.request("POST", f"/api/campaigns/load/{place}/", json.dumps(body), headers)
        reply = self.connection.getresponse()
        content = reply.read()
        self.connection.close()  # one connection a request: no reply is lost to a connection that was just closed
        times.append(time.perf_counter() - started)
        if reply.status != 200:
            raise RuntimeError(f"{place}: {reply.status} {content[:120]!r}")
        found: dict[str, Any] = json.loads(content)
        return found

    def run(self) -> None:
        frame = {"task": "verify", "client": str(uuid.uuid4())}
        waiting: list[int] = []
        time.sleep(random.random() * self.think)
        while time.monotonic() < self.until:
            try:
                if not waiting:
                    dealt = self.ask("lease", {**frame, "want": 5, "holding": []}, self.next)
                    waiting = [item["slot"] for item in dealt["items"]]
                    if not waiting:
                        return
                time.sleep(random.expovariate(1 / self.think))
                answer = {"id": str(uuid.uuid4()), "slot": waiting.pop(0), "action": "label", "label": "neutral"}
                body = {**frame, "want": 1, "holding": waiting, "judgments": [answer]}
                reply = self.ask("judgments", body, self.submit)
                self.acknowledged += reply["results"][0]["status"] == "stored"
                waiting += [item["slot"] for item in reply["items"]]
            except (OSError, RuntimeError, http.client.HTTPException) as error:
                self.errors.append(f"{type(error).__name__}: {error}"[:160])
                self.connection.close()


def quantiles(name: str, times: list[float]) -> dict[str, Any]:
    if len(times) < 20:
        return {"what": name, "n": len(times), "reason": "fewer than 20 requests"}
    cuts = statistics.quantiles(times, n=100)
    return {"what": name, "n": len(times), **{f"p{q}_ms": round(1000 * cuts[q - 1], 1) for q in (50, 95, 99)}}


def memory(pid: int) -> float:
    """Resident MiB of a process and its children (shared pages counted in each)."""
    total = 0.0
    for status in Path("/proc").glob("[0-9]*/status"):
        with contextlib.suppress(OSError):
            fields = dict(line.split(":", 1) for line in status.read_text().splitlines() if ":" in line)
            if str(pid) in (fields["PPid"].strip(), fields["Pid"].strip()):
                total += int(fields.get("VmRSS", "0 kB").split()[0]) / 1024
    return round(total)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--annotators", type=int, default=12)
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--think", type=float, default=2.0, help="mean seconds between two answers of one annotator")
    parser.add_argument("--texts", type=int, default=4000, help="to pre-label meanwhile")
    parser.add_argument("--turns", type=int, default=400)
    parser.add_argument("--database", default="")
    parser.add_argument("--redis", default="")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, contextlib.closing(socket.socket()) as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        taken.close()
        return load(given, Path(folder), port)


def load(given: argparse.Namespace, folder: Path, port: int) -> int:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("ATTUNE_")}
    env = {**kept, "ATTUNE_DATA_DIR": str(folder), "ATTUNE_REDIS_URL": given.redis, "ATTUNE_WORKER_PROCESSES": "1"}
    if given.database:
        env["ATTUNE_DATABASE_URL"] = given.database

    def manage(*command: str) -> str:
        done = subprocess.run(
            [sys.executable, "manage.py", *command], cwd=ROOT, env=env, stdout=subprocess.PIPE, text=True, check=True
        )
        return done.stdout

    manage("migrate", "-v0")
    prepared = manage("shell", "--no-imports", "-c", PREPARE.format(**vars(given)))
    tokens = [line.split()[1] for line in prepared.splitlines() if line.startswith("TOKEN")]
    python = [sys.executable, "-m"]
    serve = ["gunicorn", "config.wsgi", "--bind", f"127.0.0.1:{port}", "--worker-class", "gthread"]
    work = ["celery", "--app", "config", "worker", "--loglevel", "ERROR"]
    commands = {
        "web": [*serve, "--config", "python:config.gunicorn", "--workers", "2", "--threads", "8"],
        "worker": [*work, "--beat", "--schedule", str(folder / "beat")],
        "quick": [*work, "--queues", "quick", "--hostname", "quick@%h"],  # takes the report
    }
    children = {
        name: subprocess.Popen([*python, *command], cwd=ROOT, env=env, start_new_session=True)
        for name, command in commands.items()
    }
    try:
        wait_for(port)
        until = time.monotonic() + given.seconds
        people = [Annotator(port, token, until, given.think) for token in tokens]
        for person in people:
            person.start()
        most = dict.fromkeys(children, 0.0)
        while any(person.is_alive() for person in people):
            time.sleep(2)
            most = {name: max(most[name], memory(child.pid)) for name, child in children.items()}
        used = {f"{name}_mib": mib for name, mib in most.items()}
    finally:
        for child in children.values():
            os.killpg(child.pid, signal.SIGKILL)
            child.wait()
    errors = [error for person in people for error in person.errors]
    print(json.dumps(vars(given) | {"load_average": os.getloadavg()[0]}))
    print(json.dumps(quantiles("next", [one for person in people for one in person.next])))
    print(json.dumps(quantiles("submit", [one for person in people for one in person.submit])))
    print(json.dumps({"errors": len(errors), "examples": errors[:3], **used}))
    print(f"ACKNOWLEDGED {sum(person.acknowledged for person in people)}")
    print(manage("shell", "--no-imports", "-c", AFTERWARDS), end="")
    return bool(errors)


def wait_for(port: int) -> None:
    end = time.monotonic() + 120
    while time.monotonic() < end:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
        with contextlib.suppress(OSError):
            connection.request("GET", "/health/ready")
            if connection.getresponse().status == 200:
                return
        time.sleep(0.3)
    raise SystemExit("The server did not answer within two minutes.")


if __name__ == "__main__":
    sys.exit(main())
