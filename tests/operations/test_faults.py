"""The fault matrix: each part killed while people answer and a job runs, by the processes of the containers.

What was acknowledged is there, what was running resumes, and what failed says why. The table is in docs/operations.md.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import shutil
import socket
import subprocess
import sys
import threading
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.operations.installation import (
    ROOT,
    Browser,
    Link,
    Postgres,
    Redis,
    Server,
    free_port,
    health_check,
    kill_group,
    wait_until,
)

TEXTS = 2400
FILL = f"""
from annotation.corpora.dialogue import text_digest
from annotation.models import Text
from annotation.tasks import hint
from annotation.workflow import jobs
texts = [f"MARK {{n}}: I {{['love', 'watched', 'feared', 'hated'][n % 4]}} film {{n}}" for n in range({TEXTS})]
Text.objects.bulk_create([Text(digest=text_digest(text), content=text) for text in texts], batch_size=1000)
hint(str(jobs.create_job(kind="prelabel", parameters={{}}).pk))
"""
NO_DATA = "job = jobs.create_job(kind='report', parameters={'datasets': ['none']})"
ASKED = f"from annotation.tasks import hint; from annotation.workflow import jobs; {NO_DATA}; hint(str(job.pk))"
JOB = "SELECT state || ' ' || error FROM annotation_job WHERE kind = '{kind}' ORDER BY created_at DESC LIMIT 1"
COUNTED = "SELECT bool_and(done = total) FROM annotation_job WHERE kind = 'prelabel'"
PREDICTED = """
SELECT count(*) FROM annotation_prediction p JOIN annotation_classifier c ON c.id = p.classifier_id
WHERE c.name <> 'lexicon'"""
TWICE = """
SELECT count(*) FROM (
  SELECT 1 FROM annotation_prediction GROUP BY classifier_id, text_id, fold HAVING count(*) > 1) AS doubled"""


pytestmark = [pytest.mark.postgres, pytest.mark.redis]


class Lab:
    """What a lab runs: PostgreSQL, Redis, a web server, a worker, beat. What a test killed runs again for the next."""

    def __init__(self, folder: Path, postgres: Postgres, broker: Redis) -> None:
        self.postgres, self.broker = postgres, broker
        self.server = Server(
            folder,
            ATTUNE_DATABASE_URL=postgres.url(),
            ATTUNE_REDIS_URL=broker.url,
            ATTUNE_PRELABEL_CHUNK="100",
            ATTUNE_JOB_LEASE_SECONDS="6",
            ATTUNE_VISIBILITY_TIMEOUT="20",
        )
        self.server.start()
        self.server.launch("worker")
        self.beat = self.server.launch("beat")

    def begin(self) -> None:
        """Put a job of many chunks in its midst."""
        self.before = self.predicted()
        self.server.shell(FILL.replace("MARK", uuid.uuid4().hex))
        wait_until(lambda: self.predicted() >= self.before + 200, "the job does not begin", seconds=200)

    def unfinished(self) -> bool:
        return self.predicted() < self.before + TEXTS

    def predicted(self) -> int:
        return int(self.postgres.one(PREDICTED))

    def finish(self) -> None:
        """The job ends as if nothing had happened: every text predicted, none twice."""
        wait_until(lambda: self.state("prelabel").startswith(("done", "failed")), "the job does not end", seconds=240)
        assert self.state("prelabel") == "done "
        assert self.predicted() == self.postgres.one("SELECT count(*) FROM annotation_text")
        assert self.postgres.one(COUNTED) is True
        assert self.postgres.one(TWICE) == 0

    def state(self, kind: str) -> str:
        return str(self.postgres.one(JOB.format(kind=kind)))


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with contextlib.ExitStack() as ends:
        postgres = Postgres()
        ends.callback(postgres.stop)
        broker = Redis()
        ends.callback(broker.kill)
        made = Lab(tmp_path_factory.mktemp("lab"), postgres, broker)
        ends.callback(made.server.stop)
        yield made


def test_the_health_checks_of_the_containers_tell_well_from_dead(lab: Lab) -> None:
    def well(service: str, *changes: tuple[str, str]) -> bool:
        command = health_check(service)
        for old, new in changes:
            assert old in command[-1]
            command[-1] = command[-1].replace(old, new)
        here = {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "HOSTNAME": socket.gethostname()}
        done = subprocess.run(
            command, cwd=ROOT, env=lab.server.env | here, capture_output=True, timeout=120, check=False
        )
        return done.returncode == 0

    wait_until(lambda: well("web", ("8000", str(lab.server.port))), "the web server is not well")
    assert not well("web", ("8000", str(free_port())))
    wait_until(lambda: well("worker", ("--timeout 5", "--timeout 30")), "the worker does not answer")
    assert not well("quick", ("--timeout 5", "--timeout 2"))  # none was started
    wait_until(lambda: well("beat", ("/tmp/beat", str(lab.server.folder / "beat"))), "beat shows no sign")


def test_postgresql_restarts_under_people_and_a_job(lab: Lab) -> None:
    """The pool's connections are dead afterwards: no process is started anew, and nobody meets one of them."""
    ada, bo = Browser(lab.server).sign_in(), Browser(lab.server).sign_in("bo")
    before, after = ada.lease(4), bo.lease(3)
    assert ada.outbox(before[:2]) == ["stored"] * 2
    crowd = [threading.Thread(target=bo.get, args=("/me/",)) for _ in range(16)]  # fills the pools
    for one in crowd:
        one.start()
    for one in crowd:
        one.join(timeout=120)
    lab.begin()
    assert lab.unfinished(), "the restart came too late to show anything"
    lab.postgres.crash()
    assert Browser(lab.server).get("/health/live").status == 200
    assert Browser(lab.server).get("/health/ready").status == 503
    assert ada.submit(before).status >= 500
    lab.postgres.start()

    wait_until(lambda: Browser(lab.server).get("/health/ready").status == 200, "not ready again")
    # From now on every request works: no dead connection is handed out.
    assert [ada.get("/me/").status for _ in range(20)] == [200] * 20
    assert sorted(ada.outbox(before)) == ["duplicate", "duplicate", "stored", "stored"]
    assert bo.outbox(after) == ["stored"] * 3
    assert ada.outbox(before) == ["duplicate"] * 4
    assert lab.server.process is not None
    assert lab.server.process.poll() is None
    assert all(process.poll() is None for process in lab.server.others)
    lab.finish()


DEAD_POOL = """
from django.db import connection
from psycopg import connect
connection.close()
pool = connection.pool
pool.open()
idle = [pool.getconn() for _ in range(8)]
for one in idle: pool.putconn(one)
with connect(URL, autocommit=True) as other:
    other.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid = ANY(%s)",
                  [[one.info.backend_pid for one in idle]])
with connection.cursor() as cursor:
    cursor.execute("SELECT 42")
    print(cursor.fetchone()[0])
"""


def test_whoever_asks_first_after_a_restart_is_not_kept_waiting_by_dead_connections(lab: Lab) -> None:
    url = lab.postgres.url().replace("postgres://", "postgresql://", 1)
    assert lab.server.shell(DEAD_POOL.replace("URL", repr(url))).splitlines()[-1] == "42"


def test_redis_is_killed_and_comes_back_empty(lab: Lab) -> None:
    """People do not notice; what was asked for meanwhile waits in its row."""
    ada = Browser(lab.server).sign_in()
    answers = ada.lease(2)
    lab.begin()
    lab.broker.kill()
    assert lab.unfinished(), "the kill came too late to show anything"
    assert ada.outbox(answers) == ["stored"] * 2
    lab.server.shell(ASKED)
    lab.broker.start()
    lab.finish()
    wait_until(lambda: lab.state("report").startswith("failed"), "the job asked for meanwhile is not begun")
    assert ada.outbox(answers) == ["duplicate"] * 2


def test_without_beat_what_was_hinted_at_is_done_and_the_rest_waits_for_it(lab: Lab) -> None:
    kill_group(lab.beat)
    silent = lab.server.shell("from annotation.workflow import jobs; " + NO_DATA + "; print(job.pk)").splitlines()[-1]
    ada = Browser(lab.server).sign_in()
    assert ada.outbox(ada.lease(1)) == ["stored"]
    lab.server.shell(ASKED)
    wait_until(lambda: lab.state("report").startswith("failed"), "a job that was hinted at is not begun")
    state = f"SELECT state FROM annotation_job WHERE id = '{silent}'"
    assert lab.postgres.one(state) == "queued"
    lab.beat = lab.server.launch("beat")
    wait_until(lambda: lab.postgres.one(state) == "failed", "beat does not take up its work")


def test_a_link_that_stalls_holds_up_nobody_else(lab: Lab) -> None:
    """Six requests stand still in their midst, as over a bad radio link; the others go on, and at last these too."""
    ada, bo = Browser(lab.server).sign_in(), Browser(lab.server).sign_in("bo")
    answers = ada.lease(1)
    link = Link(lab.server.port, rate=4000, hold_after=700)
    ada.port = link.port
    receipts: list[list[str]] = []
    waiting = [threading.Thread(target=lambda: receipts.append(ada.outbox(answers)), daemon=True) for _ in range(6)]
    for one in waiting:
        one.start()
    assert link.held.wait(timeout=120)
    given = bo.lease(2)
    assert bo.outbox(given) == ["stored"] * 2
    assert receipts == []
    link.released.set()
    for one in waiting:
        one.join(timeout=200)
    link.close()
    assert sorted(receipts) == [["duplicate"]] * 5 + [["stored"]]


def test_half_an_answer_is_none_and_a_lost_receipt_doubles_nothing(lab: Lab) -> None:
    ada = Browser(lab.server).sign_in()
    answers, stored = ada.lease(1), lab.postgres.one("SELECT count(*) FROM annotation_judgment")
    far = Browser(lab.server)
    far.cookies = ada.cookies
    cut = Link(lab.server.port, hold_after=900, cut=True)
    far.port = cut.port
    with pytest.raises((OSError, http.client.HTTPException)):
        far.submit([{**answers[0], "comment": "x" * 1500}])
    cut.close()
    assert ada.get("/me/").status == 200
    assert lab.postgres.one("SELECT count(*) FROM annotation_judgment") == stored
    deaf = Link(lab.server.port, lose_reply=True)
    far.port = deaf.port
    with pytest.raises((OSError, http.client.HTTPException)):
        far.submit(answers)
    deaf.close()
    assert ada.outbox(answers) == ["duplicate"]
    assert lab.postgres.one("SELECT count(*) FROM annotation_judgment") == stored + 1


def fill_up(disk: Path) -> None:
    with (disk / "filler").open("wb", buffering=0) as filler, contextlib.suppress(OSError):
        while True:
            filler.write(b"x" * 4096)
    assert shutil.disk_usage(disk).free == 0


def test_a_full_disk_under_the_database_refuses_answers_until_there_is_room(
    tmp_path: Path, small_disk: Callable[[int], Path]
) -> None:
    disk = small_disk(48)
    server = Server(tmp_path, ATTUNE_DATA_DIR=str(disk))
    try:
        server.start()
        ada = Browser(server).sign_in()
        answers = ada.lease(3)
        assert ada.outbox(answers[:1]) == ["stored"]
        fill_up(disk)
        refused = ada.submit([{**answer, "comment": "c" * 1900} for answer in answers[1:]])
        assert refused.status >= 500
        assert Browser(server).get("/health/live").status == 200
        (disk / "filler").unlink()
        assert ada.outbox(answers) == ["duplicate", "stored", "stored"]
        assert ada.stored() == 3
    finally:
        server.stop()
