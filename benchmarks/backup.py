"""How long a backup, a restore and an upgrade take with many judgments.

python -m benchmarks.backup                                     100,000 judgments, SQLite
python -m benchmarks.backup --database postgres://…/one --into postgres://…/two      empty databases

The judgments are made by a program and thrown away with the data folder.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FILL = """
import uuid
from django.db import connection
from django.db.migrations.executor import MigrationExecutor
old = MigrationExecutor(connection).loader.project_state(("annotation", "0001_initial")).apps
def make(model, /, **fields):
    return old.get_model("annotation", model).objects.create(**fields)
person, campaign = make("User", username="person"), make("Campaign", name="many", title="Many")
gold = make("GoldQuestion", campaign=campaign, use="gold", text="so happy", label="joy")
items = [make("Item", campaign=campaign, kind="gold", gold=gold, position=0)]
Judgment = old.get_model("annotation", "Judgment")
for start in range(0, {judgments}, 2000):
    Judgment.objects.bulk_create([
        Judgment(id=uuid.uuid4(), item=items[0], annotator=person, action="label", label="joy", set_aside=True,
                 comment="a comment of some length, as people write them now and then")
        for _ in range(min(2000, {judgments} - start))])
"""
COUNT = "from annotation.models import Judgment; print(Judgment.objects.count())"


class Place:
    """An installation in a folder of its own."""

    def __init__(self, folder: Path, database: str) -> None:
        folder.mkdir()
        kept = {name: value for name, value in os.environ.items() if not name.startswith("ATTUNE_")}
        self.env = {**kept, "ATTUNE_DATA_DIR": str(folder), "ATTUNE_DATABASE_URL": database or f"sqlite:///{folder}/db"}

    def manage(self, *command: str) -> str:
        whole = [sys.executable, "manage.py", *command]
        return subprocess.run(whole, cwd=ROOT, env=self.env, stdout=subprocess.PIPE, text=True, check=True).stdout

    def timed(self, *command: str) -> float:
        started = time.perf_counter()
        self.manage(*command)
        return round(time.perf_counter() - started, 1)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--judgments", type=int, default=100_000)
    parser.add_argument("--database", default="", help="an empty database to fill")
    parser.add_argument("--into", default="", help="an empty database to restore into")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        archive = folder / "backup.zip"
        first, second = Place(folder / "first", given.database), Place(folder / "second", given.into)
        first.manage("migrate", "-v0", "annotation", "0001")
        first.manage("shell", "--no-imports", "-c", FILL.format(judgments=given.judgments))
        seconds = {"upgrade": first.timed("migrate", "-v0"), "backup": first.timed("backup", str(archive))}
        second.manage("migrate", "-v0")
        seconds["restore"] = second.timed("restore", str(archive))
        count = int(second.manage("shell", "--no-imports", "-c", COUNT))
        size = round(archive.stat().st_size / 2**20, 1)
    print(json.dumps({"judgments": count, "seconds": seconds, "archive_mib": size, "load": os.getloadavg()[0]}))
    return count != given.judgments


if __name__ == "__main__":
    sys.exit(main())
