"""Does another worker shorten a pre-labelling job? The same texts, by one worker process and by two.

    python -m benchmarks.workers                                              SQLite, embedded broker
    python -m benchmarks.workers --database postgres://… --redis redis://…    a database is made there and dropped again

Each worker has one process with one thread. The clock runs from when every worker holds a chunk until less than a chunk
for each is left, so neither the start of Python nor the last odd chunk counts. Runs alternate (one, two, two, one),
because other work on the machine comes and goes. `cores` is the CPU time that the workers got per second: where two
workers got no more of it than one, the machine had no second core to give and there was no more speed to be had. The
CPU time per thousand texts says what the work itself costs.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psycopg

ROOT = Path(__file__).resolve().parents[1]
CHUNK = 1000
FILL = """
from annotation.models import Text
from annotation.corpora.dialogue import text_digest
verbs = ["loved", "watched", "feared", "hated", "forgot"]
said = "I {} film number {}, and then I told my friends about it for {} days"
texts = [said.format(verbs[n %% 5], n, n %% 17) for n in range(%d)]
Text.objects.bulk_create([Text(digest=text_digest(t), content=t) for t in texts], batch_size=1000)
from annotation.workflow import jobs
job = jobs.create_job(kind="prelabel", parameters={})
from annotation.tasks import hint
[hint(str(job.pk)) for _ in range(4)]
"""
PROGRESS = """
SELECT (SELECT count(*) FROM annotation_prediction),
       (SELECT count(DISTINCT worker) FROM annotation_chunk WHERE worker <> '')
"""
TICK = os.sysconf("SC_CLK_TCK")

Look = Callable[[], tuple[int, int]]
"""How many texts have a prediction, and how many workers have held a chunk."""


@dataclass(frozen=True)
class Run:
    """One job, or as much of it as all its workers shared."""

    workers: int
    texts_per_second: float
    cores: float
    cpu_ms_per_thousand: float


def measure(texts: int, workers: int, *, server: str, redis: str) -> Run:
    """Run one job on an installation of its own."""
    with tempfile.TemporaryDirectory() as folder, database(server, Path(folder)) as (url, look):
        environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("ATTUNE_")},
            "DJANGO_SETTINGS_MODULE": "config.settings",
            "ATTUNE_DATA_DIR": folder,
            "ATTUNE_REDIS_URL": redis,
            "ATTUNE_WORKER_PROCESSES": "1",
            "ATTUNE_CLASSIFIER_THREADS": "1",
            "ATTUNE_PRELABEL_CHUNK": str(CHUNK),
            "OMP_NUM_THREADS": "1",
        } | ({"ATTUNE_DATABASE_URL": url} if url else {})
        for command in (["migrate", "-v0"], ["shell", "--no-imports", "-c", FILL % texts]):
            subprocess.run([sys.executable, "manage.py", *command], cwd=ROOT, env=environment, check=True)
        celery = [sys.executable, "-m", "celery", "--app", "config", "worker", "--loglevel", "ERROR"]
        celery += ["--without-mingle", "--without-gossip"]
        running = [
            subprocess.Popen(
                [*celery, "--hostname", f"w{number}@bench"],
                cwd=ROOT,
                env=environment,
                start_new_session=True,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            for number in range(workers)
        ]
        try:
            return watch(look, texts, [worker.pid for worker in running])
        finally:
            for worker in running:
                os.killpg(worker.pid, signal.SIGKILL)
                worker.wait()


@contextlib.contextmanager
def database(server: str, folder: Path) -> Iterator[tuple[str, Look]]:
    """Give the address of an empty database ("" for SQLite in the folder) and a way to look into it past Django."""
    if not server:

        def look() -> tuple[int, int]:
            path = folder / "attune.sqlite3"
            with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=20)) as connection:
                return tuple(connection.execute(PROGRESS).fetchone())

        yield "", look
        return
    name = f"attune_bench_{os.getpid()}_{time.time_ns()}"
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
        url = f"{server.rpartition('/')[0]}/{name}"
        try:
            with psycopg.connect(url, autocommit=True) as inside:

                def ask() -> tuple[int, int]:
                    done, holders = inside.execute(PROGRESS).fetchone() or (0, 0)
                    return done, holders

                yield url, ask
        finally:
            connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


def watch(look: Look, texts: int, groups: list[int]) -> Run:
    """Time the part of the job in which all workers were at it."""
    until = texts - len(groups) * CHUNK
    while look()[1] < len(groups):
        time.sleep(0.1)
    before, cpu, begun = look()[0], cpu_seconds(groups), time.monotonic()
    while (done := look()[0]) < until:
        time.sleep(0.1)
    seconds, used = time.monotonic() - begun, cpu_seconds(groups) - cpu
    if done - before < 2 * len(groups) * CHUNK:
        raise SystemExit("The job was nearly over when the last worker came; give it more texts.")
    return Run(
        workers=len(groups),
        texts_per_second=round((done - before) / seconds, 1),
        cores=round(used / seconds, 2),
        cpu_ms_per_thousand=round(1e6 * used / (done - before)),
    )


def cpu_seconds(groups: list[int]) -> float:
    """Give the CPU time used so far by the processes of these process groups."""
    ticks = 0
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            fields = path.read_text().rpartition(")")[2].split()
            if int(fields[2]) in groups:
                ticks += int(fields[11]) + int(fields[12])
    return ticks / TICK


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--texts", type=int, default=30_000)
    parser.add_argument("--rounds", type=int, default=1, help="how often one worker and two are run")
    parser.add_argument("--database", default="", help="a PostgreSQL server: postgres://user@host:port/postgres")
    parser.add_argument("--redis", default="", help="a Redis that nobody else uses")
    given = parser.parse_args()
    runs: dict[int, list[Run]] = {1: [], 2: []}
    for number in range(given.rounds):
        for workers in (1, 2) if number % 2 == 0 else (2, 1):
            run = measure(given.texts, workers, server=given.database, redis=given.redis)
            runs[workers].append(run)
            print(json.dumps(asdict(run) | {"load": round(os.getloadavg()[0], 1)}), flush=True)

    def median(workers: int, what: str) -> Any:
        return statistics.median(getattr(run, what) for run in runs[workers])

    print(
        json.dumps(
            {
                "texts": given.texts,
                "database": "PostgreSQL" if given.database else "SQLite",
                "broker": "Redis" if given.redis else "embedded",
                "times_faster": round(median(2, "texts_per_second") / median(1, "texts_per_second"), 2),
                "times_the_cpu": round(median(2, "cores") / median(1, "cores"), 2),
                "cpu_per_text": round(median(2, "cpu_ms_per_thousand") / median(1, "cpu_ms_per_thousand"), 2),
            }
        )
    )


if __name__ == "__main__":
    main()
