"""Files in an S3-compatible bucket: hosts that share nothing but the database and the bucket see the same files."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from moto.server import ThreadedMotoServer

from tests.operations.installation import ROOT, free_port

WORLD = """
from django.core.files.base import ContentFile
from django.core.files.storage import default_storage
from annotation.workflow import jobs
from tests.annotation.workflow.report_corpus import make_corpus
world = make_corpus()
default_storage.save("uploads/dialogues", ContentFile(b"uploaded"))
report = {"campaign": world.campaign.name, "replicates": 20, "pdf": False}
jobs.create_job(kind="report", parameters=report)
"""
WORK = """
import evaluation.figures
from annotation.models import Job
from annotation.tasks import run_job
evaluation.figures.write_figures = lambda *given: {}  # what this is about is not how a report looks
run_job(str(Job.objects.get().pk))
"""
READ = """
from annotation.models import ReportRun
from annotation.workflow import reporting
run = ReportRun.objects.get()
names = [file.name for file in reporting.files(run)]
assert "report.json" in names, names
assert all(reporting.open_file(run, name).read() for name in names)
assert reporting.load_report(run)
assert reporting.open_file(run, "report.html.missing") is None
assert sum(len(part) for part in reporting.bundle_stream(run)) > 1000
print("READ", len(names))
"""


class Host:
    """A machine of a lab: a data folder of its own, the common database, a bucket."""

    def __init__(self, folder: Path, database: Path, endpoint: str, bucket: str) -> None:
        folder.mkdir()
        self.folder = folder
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("ATTUNE_", "AWS_"))}
        self.env = kept | {
            "DJANGO_SETTINGS_MODULE": "config.settings",
            "ATTUNE_DATA_DIR": str(folder),
            "ATTUNE_DATABASE_URL": f"sqlite:///{database}",
            "ATTUNE_S3_BUCKET": bucket,
            "ATTUNE_S3_ENDPOINT": endpoint,
            "AWS_ACCESS_KEY_ID": "attune",
            "AWS_SECRET_ACCESS_KEY": "attune",
            "AWS_DEFAULT_REGION": "eu-central-1",
        }

    def manage(self, *command: str) -> str:
        whole = [sys.executable, "manage.py", *command]
        done = subprocess.run(whole, cwd=ROOT, env=self.env, capture_output=True, text=True, timeout=280, check=False)
        assert done.returncode == 0, done.stderr[-3000:]
        return done.stdout

    def shell(self, code: str) -> str:
        return self.manage("shell", "--no-imports", "-c", code)

    def files(self) -> list[Path]:
        return [path for path in (self.folder / "files").rglob("*") if path.is_file()]


@pytest.fixture
def endpoint(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=free_port(), verbose=False)
    server.start()
    yield f"http://127.0.0.1:{server._port}"
    server.stop()


def stored(endpoint: str, bucket: str) -> dict[str, str]:
    client = bucket_client(endpoint)
    return {one["Key"]: one["ETag"] for one in client.list_objects_v2(Bucket=bucket).get("Contents", [])}


def bucket_client(endpoint: str) -> Any:
    keys = {"aws_access_key_id": "attune", "aws_secret_access_key": "attune", "region_name": "eu-central-1"}
    return boto3.client("s3", endpoint_url=endpoint, **keys)


def test_hosts_share_bundles_and_uploads_through_the_bucket_and_a_backup_holds_them(
    endpoint: str, tmp_path: Path
) -> None:
    for bucket in ("lab", "second"):
        bucket_client(endpoint).create_bucket(
            Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": "eu-central-1"}
        )
    database = tmp_path / "common.sqlite3"
    web, worker = (Host(tmp_path / name, database, endpoint, "lab") for name in ("web", "worker"))
    web.manage("migrate", "-v0")
    web.shell(WORLD)
    worker.shell(WORK)
    assert "READ" in web.shell(READ)
    assert web.files() == worker.files() == []
    assert {name.split("/")[0] for name in stored(endpoint, "lab")} == {"reports", "uploads"}

    web.manage("backup", str(tmp_path / "backup.zip"))
    other = Host(tmp_path / "other", tmp_path / "other.sqlite3", endpoint, "second")
    other.manage("migrate", "-v0")
    other.manage("restore", str(tmp_path / "backup.zip"))
    assert stored(endpoint, "second") == stored(endpoint, "lab")
    assert "READ" in other.shell(READ)
    other.shell("from annotation.workflow import bundles; bundles.remove('reports')")
    assert {name.split("/")[0] for name in stored(endpoint, "second")} == {"uploads"}
