"""Does another worker shorten a pre-labelling job? One job of the same texts, with one worker process and with two.

    python -m benchmarks.workers [--texts 30000]

Each worker has one process with one thread, on the embedded broker; the time runs from the first prediction to the
last, so that starting Python does not count. On a machine with two free cores two workers should halve it.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
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


def measure(texts: int, workers: int) -> float:
    """Seconds from the first prediction to the last."""
    with tempfile.TemporaryDirectory() as folder:
        environment = {
            **os.environ,
            "DJANGO_SETTINGS_MODULE": "config.settings",
            "ATTUNE_DATA_DIR": folder,
            "ATTUNE_WORKER_PROCESSES": "1",
            "ATTUNE_CLASSIFIER_THREADS": "1",
            "ATTUNE_PRELABEL_CHUNK": "1000",
            "OMP_NUM_THREADS": "1",
        }
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
            return watch(Path(folder) / "attune.sqlite3", texts)
        finally:
            for worker in running:
                os.killpg(worker.pid, signal.SIGKILL)
                worker.wait()


def watch(path: Path, texts: int) -> float:
    begun = 0.0
    while True:
        with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=20)) as database:
            (count,) = database.execute("SELECT count(*) FROM annotation_prediction").fetchone()
        if count and not begun:
            begun = time.monotonic()
        if count >= texts:
            return time.monotonic() - begun
        time.sleep(0.1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--texts", type=int, default=30_000)
    texts = parser.parse_args().texts
    one, two = measure(texts, 1), measure(texts, 2)
    print(
        json.dumps(
            {
                "texts": texts,
                "seconds_one_worker": round(one, 1),
                "seconds_two_workers": round(two, 1),
                "times_faster": round(one / two, 2),
                "load": os.getloadavg()[0],
            }
        )
    )


if __name__ == "__main__":
    main()
