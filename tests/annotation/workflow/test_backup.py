"""Backups: consistent while people write, restored whole or not at all, from any database into any."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sqlite3
import subprocess
import sys
import threading
import uuid
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

ROOT = Path(__file__).resolve().parents[3]

SEED = """
import uuid
from django.core.files.base import ContentFile
from django.core.files.storage import default_storage
from annotation.models import *
from annotation.corpora.dialogue import text_digest
from annotation.workflow.opening import open_campaign
from tests.factories import make_corpus, make_campaign, MembershipFactory, UserFactory, ClassifierFactory, predict_all
from tests.factories import answer_to
from annotation.workflow.queue import lease_batch
from annotation.workflow.verification import submit
corpus = make_corpus()
campaign = make_campaign(corpus=corpus, design={"kind": "simple", "size": 6}, seed=7)
ada = UserFactory.create(username="ada")
MembershipFactory.create(user=ada, campaign=campaign)
open_campaign(campaign)
campaign.refresh_from_db()
slots = lease_batch(campaign, ada, "verify", want=8).slots
for slot in slots:
    answer = answer_to(campaign, ada, slot, comment="näïve \\U0001f3ac \\u2028 'quoted'")
    assert submit(campaign, ada, answer).status == "stored"
first = Judgment.objects.order_by("received_at").first()
again = answer_to(campaign, ada, first.slot, label="fear", supersedes=str(first.pk))
assert submit(campaign, ada, again).status == "stored"
default_storage.save("reports/x/report.csv", ContentFile(b"a,b\\n1,2\\n"))
"""
MORE = """
from annotation.models import Item, Judgment, User
ada, items = User.objects.get(username="ada"), list(Item.objects.values_list("pk", flat=True))
import uuid
Judgment.objects.bulk_create([
    Judgment(id=uuid.uuid5(uuid.NAMESPACE_OID, str(n)), item_id=items[n % len(items)], annotator=ada, action="label",
             label="joy", set_aside=True) for n in range(COUNT)], batch_size=2000)
"""
# Digests of every table, in the order of keys: equal means equal rows, whatever the database.
CONTENT = """
import hashlib, json
from annotation.workflow.backup import kept_models, _values
for model in kept_models():
    rows = [json.dumps(_values(row), sort_keys=True) for row in model._base_manager.order_by("pk")]
    print("TABLE", model._meta.label_lower, len(rows), hashlib.sha256("\\n".join(rows).encode()).hexdigest())
"""


TEMPLATES: dict[str, Path] = {}


class Place:
    """An installation of its own: a data folder and a database."""

    def __init__(self, folder: Path, database: str = "") -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        kept = {name: value for name, value in os.environ.items() if not name.startswith("ATTUNE_")}
        self.env = {**kept, "ATTUNE_DATA_DIR": str(folder), "DJANGO_SETTINGS_MODULE": "config.settings"}
        if database:
            self.env["ATTUNE_DATABASE_URL"] = database

    def manage(self, *command: str, fails: bool = False) -> str:
        done = subprocess.run(
            [sys.executable, "manage.py", *command],
            cwd=ROOT,
            env=self.env,
            capture_output=True,
            text=True,
            timeout=280,
            check=False,
        )
        assert (done.returncode != 0) == fails, done.stderr[-3000:]
        return done.stderr if fails else done.stdout

    def shell(self, code: str) -> str:
        return self.manage("shell", "--no-imports", "-c", code)

    def migrated(self) -> Place:
        """Bring the tables in; for SQLite once for all, then by copying the file, which is much faster."""
        empty = TEMPLATES.get("sqlite")
        if "ATTUNE_DATABASE_URL" in self.env or (self.folder / "attune.sqlite3").exists():
            self.manage("migrate", "-v0")
        elif empty is not None:
            shutil.copy(empty, self.folder / "attune.sqlite3")
        else:
            self.manage("migrate", "-v0")
            TEMPLATES["sqlite"] = self.folder / "empty.sqlite3"
            with contextlib.closing(sqlite3.connect(self.folder / "attune.sqlite3")) as made:
                made.execute("VACUUM INTO ?", [str(TEMPLATES["sqlite"])])
        return self

    def content(self) -> list[str]:
        return [line for line in self.shell(CONTENT).splitlines() if line.startswith("TABLE")]


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Place:
    place = Place(tmp_path_factory.mktemp("source")).migrated()
    place.shell(SEED)
    return place


@pytest.fixture(scope="module")
def archive(source: Place) -> Path:
    path = source.folder / "backup.zip"
    assert "rows" in source.manage("backup", str(path))
    return path


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Place:
    """A migrated, empty installation that no test may fill."""
    return Place(tmp_path_factory.mktemp("empty")).migrated()


@pytest.fixture
def postgres() -> Iterator[Callable[[], str]]:
    """Databases of the test server, dropped afterwards."""
    server = os.environ.get("ATTUNE_TEST_POSTGRES_URL", "")
    if not server:
        pytest.skip("No PostgreSQL server: install the package postgresql, or set ATTUNE_TEST_POSTGRES_URL.")
    made: list[str] = []

    def create() -> str:
        name = f"attune_{uuid.uuid4().hex[:12]}"
        with psycopg.connect(server, autocommit=True) as connection:
            connection.execute(f'CREATE DATABASE "{name}"')
        made.append(name)
        return f"{server.rsplit('/', 1)[0]}/{name}"

    yield create
    with psycopg.connect(server, autocommit=True) as connection:
        for name in made:
            connection.execute(f'DROP DATABASE "{name}" WITH (FORCE)')


def test_a_restored_installation_is_the_one_that_was_backed_up(source: Place, archive: Path, tmp_path: Path) -> None:
    place = Place(tmp_path / "restored").migrated()
    assert "verified" in place.manage("restore", str(archive))
    assert place.content() == source.content()
    assert (place.folder / "files" / "reports" / "x" / "report.csv").read_bytes() == b"a,b\n1,2\n"
    # The next row of each table gets a number that is free, and a second restore is refused.
    place.shell("from annotation.models import Campaign; Campaign.objects.create(name='new', title='New')")
    refused = place.manage("restore", str(archive), fails=True)
    assert "not empty" in refused
    assert "ATTUNE_DATABASE_URL" in refused


@pytest.mark.postgres
def test_a_backup_goes_from_sqlite_to_postgresql_and_back(
    source: Place, archive: Path, tmp_path: Path, postgres: Callable[[], str]
) -> None:
    large = Place(tmp_path / "large", postgres()).migrated()
    large.manage("restore", str(archive))
    assert large.content() == source.content()
    large.shell("from annotation.models import Campaign; Campaign.objects.create(name='new', title='New')")
    second = tmp_path / "second.zip"
    large.manage("backup", str(second))
    small = Place(tmp_path / "small").migrated()
    small.manage("restore", str(second))
    assert small.content() == large.content()


def damaged(archive: Path, target: Path, change: Callable[[dict[str, bytes]], None]) -> Path:
    with zipfile.ZipFile(archive) as whole:
        members = {name: whole.read(name) for name in whole.namelist()}
    change(members)
    with zipfile.ZipFile(target, "w") as broken:
        for name, content in members.items():
            broken.writestr(name, content)
    return target


def test_what_is_damaged_or_of_another_version_is_refused_before_anything_is_written(
    archive: Path, tmp_path: Path, empty: Place
) -> None:
    def flip(members: dict[str, bytes]) -> None:
        table = "tables/annotation.judgment.jsonl"
        members[table] = members[table].replace(b"fear", b"rage")

    def drop(members: dict[str, bytes]) -> None:
        del members["tables/annotation.user.jsonl"]

    def older(members: dict[str, bytes]) -> None:
        manifest = json.loads(members["manifest.json"])
        manifest["schema"] = manifest["schema"][:-1]
        members["manifest.json"] = json.dumps(manifest).encode()

    def newer(members: dict[str, bytes]) -> None:
        manifest = json.loads(members["manifest.json"])
        members["manifest.json"] = json.dumps({**manifest, "format": 99}).encode()

    for change, said in ((flip, "damaged"), (drop, "damaged"), (older, "another schema"), (newer, "format 99")):
        wrong = damaged(archive, tmp_path / f"{change.__name__}.zip", change)
        assert said in empty.manage("restore", str(wrong), fails=True), change.__name__
    cut = tmp_path / "cut.zip"
    cut.write_bytes(archive.read_bytes()[:-200])
    assert "no backup" in empty.manage("restore", str(cut), fails=True)
    assert all(line.split()[2] == "0" for line in empty.content())


def backup_while_writing(source: Place, target: Path) -> None:
    """Judgments keep coming while the archive is written: it holds a state that existed, and restores."""
    writing = threading.Event()
    code = """
import time, uuid
from annotation.models import Campaign, Item, Judgment, User
from django.db import transaction
from django.db.models import F
ada, item = User.objects.get(username="ada"), Item.objects.first()
end = time.monotonic() + 6
while time.monotonic() < end:
    with transaction.atomic():  # both or neither: a torn backup would show a difference
        Judgment.objects.create(id=uuid.uuid4(), item=item, annotator=ada, action="label", label="joy", set_aside=True)
        Campaign.objects.update(gold_done=F("gold_done") + 1)
"""
    source.shell(
        "from annotation.models import Campaign, Judgment;"
        "Campaign.objects.update(gold_done=Judgment.objects.filter(set_aside=True).count())"
    )
    writer = threading.Thread(target=lambda: (writing.set(), source.shell(code)))
    writer.start()
    writing.wait()
    source.manage("backup", str(target))
    writer.join()


def test_a_backup_made_while_people_write_is_consistent(tmp_path: Path, archive: Path) -> None:
    source = Place(tmp_path / "busy").migrated()
    source.manage("restore", str(archive))
    target = tmp_path / "busy.zip"
    backup_while_writing(source, target)
    place = Place(tmp_path / "restored").migrated()
    place.manage("restore", str(target))
    counted = place.shell(
        "from annotation.models import Campaign, Judgment;"
        "print(Campaign.objects.get().gold_done, Judgment.objects.filter(set_aside=True).count())"
    ).split()
    assert counted[0] == counted[1]


@pytest.mark.parametrize("count", [2_000, pytest.param(100_000, marks=pytest.mark.slow)])
def test_many_judgments_are_backed_up_and_restored(count: int, tmp_path: Path, archive: Path) -> None:
    source = Place(tmp_path / "many").migrated()
    source.manage("restore", str(archive))
    source.shell(MORE.replace("COUNT", str(count)))
    target = tmp_path / "many.zip"
    source.manage("backup", str(target))
    place = Place(tmp_path / "restored").migrated()
    place.manage("restore", str(target))
    assert place.content() == source.content()
    line = next(line for line in place.content() if " annotation.judgment " in line)
    assert int(line.split()[2]) == count + 9


def test_a_backup_that_cannot_be_written_leaves_nothing_behind(source: Place, tmp_path: Path) -> None:
    source.manage("backup", str(tmp_path / "no-such-folder" / "backup.zip"), fails=True)
    assert list(tmp_path.iterdir()) == []


# Upgrades ----------------------------------------------------------------


FIRST = """
from django.db import connection
from django.db.migrations.executor import MigrationExecutor
from django.utils import timezone
import uuid
nodes = MigrationExecutor(connection).loader.graph.nodes
[leaf] = [key for key in nodes if key[0] == "annotation" and key[1].startswith(%r)]
old = MigrationExecutor(connection).loader.project_state(leaf).apps
def make(model, /, **fields):
    return old.get_model("annotation", model).objects.create(**fields)
vera = make("User", username="vera", password="!")
campaign = make("Campaign", name="kept", title="Kept")
make("Membership", user=vera, campaign=campaign, role="annotator", pseudonym="r-1")
gold = make("GoldQuestion", campaign=campaign, use="gold", text="so happy", label="joy")
item = make("Item", campaign=campaign, kind="gold", gold=gold, position=0)
slot = make("Slot", item=item, campaign=campaign, task="verify", position=0, number=1, state="done", annotator=vera)
make("Judgment", id=uuid.uuid4(), item=item, slot=slot, annotator=vera, action="label", label="joy")
make("Job", kind="report", state="done")
Judgment = old.get_model("annotation", "Judgment")
for start in range(0, %d, 2000):
    Judgment.objects.bulk_create([
        Judgment(id=uuid.uuid5(uuid.NAMESPACE_OID, str(start + n)), item=item, annotator=vera, action="label",
                 label="anger", comment=f"{start + n}", set_aside=True) for n in range(2000)])
"""


@pytest.mark.parametrize("database", ["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
@pytest.mark.parametrize("count", [2_000, pytest.param(100_000, marks=pytest.mark.slow)])
@pytest.mark.parametrize("first", ["0001"])
def test_data_of_an_old_schema_survives_every_migration_a_backup_and_a_restore(
    first: str, count: int, database: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """The rehearsal of an upgrade: rows are written under an old migration and read under the last.

    Nothing has been released yet, so the only old schema is the first; each release adds its last migration above.
    """
    address = request.getfixturevalue("postgres")() if database == "postgresql" else ""
    place = Place(tmp_path / "old", address)
    place.manage("migrate", "-v0", "annotation", first)
    place.shell(FIRST % (first, count))
    place.migrated()
    found = place.shell(
        "from annotation.models import Campaign, Judgment, Membership, User;"
        "print(User.objects.get().username, Campaign.objects.get().title, Membership.objects.get().role,"
        " Judgment.objects.get(set_aside=False).label, Judgment.objects.filter(label='anger').count())"
    ).split()
    assert found == ["vera", "Kept", "annotator", "joy", str(count)]
    assert "No migrations to apply" in place.manage("migrate")
    place.manage("backup", str(tmp_path / "upgraded.zip"))
    again = Place(tmp_path / "new").migrated()
    again.manage("restore", str(tmp_path / "upgraded.zip"))
    assert again.content() == place.content()
