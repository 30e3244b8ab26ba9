"""Real Celery workers, killed at any moment: nothing lost, nothing doubled."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis

ROOT = Path(__file__).resolve().parents[2]
TEXTS = 8000

FILL = """
from annotation.models import Text
from annotation.corpora.dialogue import text_digest
texts = [f"message number {n}: I {['love', 'watched', 'feared', 'hated'][n % 4]} film {n}" for n in range(TEXTS)]
Text.objects.bulk_create([Text(digest=text_digest(t), content=t) for t in texts], batch_size=1000)
from annotation.workflow import jobs
from annotation.models import Job
from annotation.tasks import hint
job = jobs.create_job(kind="prelabel", parameters={})
hint(str(job.pk))
hint(str(job.pk))
"""
TEMPLATES: dict[str, Path] = {}


class Installation:
    """A data folder of its own with a migrated database, and the workers started on it."""

    def __init__(self, folder: Path, broker: str = "") -> None:
        self.workers: list[subprocess.Popen[bytes]] = []
        self.env = {
            **{name: value for name, value in os.environ.items() if not name.startswith("ATTUNE_")},
            "DJANGO_SETTINGS_MODULE": "config.settings",
            "ATTUNE_DATA_DIR": str(folder),
            "ATTUNE_PRELABEL_CHUNK": "100",
            "ATTUNE_JOB_LEASE_SECONDS": "3",
            "ATTUNE_WORKER_PROCESSES": "1",
            "ATTUNE_VISIBILITY_TIMEOUT": "20",
            "ATTUNE_REDIS_URL": broker,
            "ATTUNE_CLASSIFIER_THREADS": "1",
        }
        database = folder / "attune.sqlite3"
        if "migrated" in TEMPLATES:
            shutil.copy(TEMPLATES["migrated"], database)
        else:
            self.run("manage.py", "migrate", "-v0")
            TEMPLATES["migrated"] = folder / "migrated.sqlite3"
            with contextlib.closing(sqlite3.connect(database)) as made:
                made.execute("VACUUM INTO ?", [str(TEMPLATES["migrated"])])

    def run(self, *command: str) -> str:
        done = subprocess.run(
            [sys.executable, *command], cwd=ROOT, env=self.env, capture_output=True, text=True, timeout=180, check=False
        )
        assert done.returncode == 0, done.stderr[-3000:]
        return done.stdout.strip()

    def fill(self) -> None:
        """Put in the texts and a job to pre-label them, with two hints at it on their way."""
        self.run("manage.py", "shell", "--no-imports", "-c", FILL.replace("TEXTS", str(TEXTS)))

    def start(self, name: str, *, beat: bool = False) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "celery", "--app", "config", "worker", "--hostname", f"{name}@test"]
        command += ["--loglevel", "ERROR", "--without-mingle", "--without-gossip"]
        if beat:
            command += ["--beat", "--schedule", f"{self.env['ATTUNE_DATA_DIR']}/beat-{name}"]
        worker = subprocess.Popen(command, cwd=ROOT, env=self.env, start_new_session=True)
        self.workers.append(worker)
        return worker

    def empty_the_broker(self) -> None:
        if url := self.env["ATTUNE_REDIS_URL"]:
            redis.Redis.from_url(url).flushdb()
        else:
            for message in (Path(self.env["ATTUNE_DATA_DIR"]) / "broker" / "queue").glob("*.msg"):
                message.unlink(missing_ok=True)

    def kill(self, worker: subprocess.Popen[bytes]) -> None:
        os.killpg(worker.pid, signal.SIGKILL)
        worker.wait()

    def stop(self) -> None:
        for worker in self.workers:
            if worker.poll() is None:
                self.kill(worker)

    def ask(self, query: str) -> tuple[object, ...]:
        """One row, read past Django: starting it anew for every look would take longer than the job."""
        path = Path(self.env["ATTUNE_DATA_DIR"]) / "attune.sqlite3"
        with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=20)) as database:
            return tuple(database.execute(query).fetchone())

    def cancel(self) -> None:
        """What `request_cancel` writes; starting Django for it would take longer than the job."""
        path = Path(self.env["ATTUNE_DATA_DIR"]) / "attune.sqlite3"
        with contextlib.closing(sqlite3.connect(path, timeout=20)) as database, database:
            database.execute("UPDATE annotation_job SET cancel_requested = 1 WHERE state = 'running'")

    def wait(self, query: str, until: Callable[[tuple[object, ...]], bool], *, seconds: float = 120) -> None:
        end = time.monotonic() + seconds
        while not until(row := self.ask(query)):
            assert time.monotonic() < end, f"{query}: still {row} after {seconds:.0f} s"
            time.sleep(0.05)


@pytest.fixture(params=["embedded", pytest.param("redis", marks=pytest.mark.redis)])
def installation(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Installation]:
    address = ""
    if request.param == "redis":
        address = os.environ.get("ATTUNE_TEST_REDIS_URL", "")
        if not address:
            pytest.skip("No Redis server: install the package redis-server, or set ATTUNE_TEST_REDIS_URL.")
    # Tests run side by side: each process of the runner has a database of the broker to itself.
    own = 5 + int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % 8
    made = Installation(tmp_path, address.replace("/0", f"/{own}") if address else "")
    made.empty_the_broker()
    yield made
    made.stop()


PREDICTIONS = "SELECT count(*) FROM annotation_prediction"
JOB = "SELECT state, done, total, error FROM annotation_job"


def test_a_pre_labelling_job_survives_kill_9_of_every_worker(installation: Installation) -> None:
    installation.fill()
    first, second = installation.start("one"), installation.start("two")
    installation.wait(PREDICTIONS, lambda row: int(str(row[0])) >= 200)
    installation.kill(first)
    installation.kill(second)
    assert int(str(installation.ask(PREDICTIONS)[0])) < TEXTS, "the kill came too late to show anything"
    installation.start("three", beat=True)  # its reconciler finds what the dead ones held
    installation.wait(JOB, lambda row: row[0] in ("done", "failed"))
    assert installation.ask(JOB) == ("done", TEXTS, TEXTS, "")
    assert installation.ask(PREDICTIONS) == (TEXTS,)
    assert installation.ask("SELECT count(DISTINCT text_id) FROM annotation_prediction") == (TEXTS,)


def test_a_running_job_can_be_cancelled_and_keeps_what_it_did(installation: Installation) -> None:
    installation.fill()
    installation.start("one")
    installation.wait(PREDICTIONS, lambda row: int(str(row[0])) >= 100)
    installation.cancel()
    installation.wait(JOB, lambda row: row[0] != "running")
    state, done, total, error = installation.ask(JOB)
    assert (state, total, error) == ("cancelled", TEXTS, "")
    assert 100 <= int(str(done)) < TEXTS
    kept = int(str(installation.ask(PREDICTIONS)[0]))
    assert kept >= int(str(done))
    time.sleep(1)  # nobody goes on
    assert installation.ask(PREDICTIONS) == (kept,)


def test_a_broker_that_comes_back_empty_costs_nothing(installation: Installation) -> None:
    """Redis restarted without its memory, or the folder of messages deleted: the row says what is to be done."""
    installation.fill()
    installation.empty_the_broker()
    installation.start("one", beat=True)
    installation.wait(PREDICTIONS, lambda row: int(str(row[0])) >= 200)
    installation.empty_the_broker()
    installation.wait(JOB, lambda row: row[0] in ("done", "failed"))
    assert installation.ask(JOB) == ("done", TEXTS, TEXTS, "")
    assert installation.ask(PREDICTIONS) == (TEXTS,)
