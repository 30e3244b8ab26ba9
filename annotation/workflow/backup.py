"""Back up and restore: every row and file in one archive, consistent while people work, verified by digests.

The archive does not depend on the database: a table is a file of JSON lines, so a backup of SQLite restores into
PostgreSQL and the other way round. All tables are read in one snapshot. Restoring writes into an empty, migrated
database of the same schema, in one transaction, and only after every digest was found right.
"""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any, Final

from django.apps import apps
from django.core.files.storage import default_storage
from django.core.management.color import no_style
from django.db import connection, models, transaction
from django.db.migrations.recorder import MigrationRecorder
from django.utils import timezone

FORMAT: Final = 1
BATCH: Final = 2000
# Rows that belong to this installation's running processes, not to its data.
LEFT_OUT: Final = {"sessions.session", "admin.logentry", "usersessions.usersession", "axes.accessattempt"}
APPS: Final = ("annotation", "account", "mfa", "socialaccount", "axes")

Progress = Callable[[str, int], None]


class BackupError(Exception):
    """A backup that cannot be made or used; the message says why and what to do."""


def kept_models() -> list[type[models.Model]]:
    """The tables of a backup, each after the tables that it points to."""
    chosen = [
        model
        for label in APPS
        for model in apps.get_app_config(label).get_models(include_auto_created=True)
        if model._meta.label_lower not in LEFT_OUT and model._meta.managed and not model._meta.proxy
    ]
    ordered: list[type[models.Model]] = []

    def place(model: type[models.Model]) -> None:
        if model in ordered or model not in chosen:
            return
        for field in model._meta.fields:
            target = field.related_model
            if isinstance(target, type) and target is not model:
                place(target)
        if model not in ordered:
            ordered.append(model)

    for model in chosen:
        place(model)
    return ordered


def schema() -> list[str]:
    """The migrations of the kept tables that this database has seen."""
    applied = MigrationRecorder(connection).applied_migrations()
    return sorted(f"{app}.{name}" for app, name in applied if app in APPS)


def backup(path: Path, *, progress: Progress | None = None) -> dict[str, Any]:
    """Write the archive and return its manifest. A backup that was cut off leaves nothing under `path`."""
    unfinished = path.with_suffix(path.suffix + ".part")
    manifest: dict[str, Any] = {
        "format": FORMAT,
        "made": timezone.now().isoformat(),
        "schema": schema(),
        "tables": {},
        "files": {},
    }
    try:
        with zipfile.ZipFile(unfinished, "w", zipfile.ZIP_DEFLATED, compresslevel=4, allowZip64=True) as archive:
            with _snapshot():
                for model in kept_models():
                    name = model._meta.label_lower
                    manifest["tables"][name] = _write_table(archive, model)
                    if progress:
                        progress(name, manifest["tables"][name]["rows"])
            for name in sorted(_stored_files()):
                manifest["files"][name] = _write_file(archive, name)
            archive.writestr("manifest.json", json.dumps(manifest, indent=1))
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)
    return manifest


@contextmanager
def _snapshot() -> Iterator[None]:
    """One view of the data for all tables, which holds up nobody who writes meanwhile."""
    if connection.in_atomic_block:
        yield
    elif connection.vendor == "sqlite":
        # Django's transactions take the write lock at once (IMMEDIATE); a reader in WAL mode needs none.
        with connection.cursor() as cursor:
            cursor.execute("BEGIN DEFERRED")
            try:
                yield
            finally:
                cursor.execute("ROLLBACK")
    else:
        with transaction.atomic():
            with connection.cursor() as cursor:
                cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
            yield


def _write_table(archive: zipfile.ZipFile, model: type[models.Model]) -> dict[str, Any]:
    digest, rows = hashlib.sha256(), 0
    columns = [field.attname for field in model._meta.concrete_fields]
    with archive.open(f"tables/{model._meta.label_lower}.jsonl", "w", force_zip64=True) as target:
        for row in model._base_manager.order_by("pk").only(*columns).iterator(chunk_size=BATCH):
            line = (json.dumps(_values(row), ensure_ascii=False) + "\n").encode()
            digest.update(line)
            target.write(line)
            rows += 1
    return {"rows": rows, "sha256": digest.hexdigest()}


def _values(row: models.Model) -> list[Any]:
    """A row as plain values in the order of its columns; what JSON cannot hold, as the field itself writes it."""
    found = []
    for field in row._meta.concrete_fields:
        value = getattr(row, field.attname)
        if value is not None and not isinstance(value, str | int | float | bool | list | dict):
            value = field.value_to_string(row)
        found.append(value)
    return found


def _stored_files(folder: str = "") -> Iterator[str]:
    try:
        folders, names = default_storage.listdir(folder)
    except FileNotFoundError:  # nothing has been stored yet; a bucket says so by an empty list
        return
    yield from (f"{folder}/{name}" if folder else name for name in names)
    for inner in folders:
        yield from _stored_files(f"{folder}/{inner}" if folder else inner)


def _write_file(archive: zipfile.ZipFile, name: str) -> dict[str, Any]:
    digest, size = hashlib.sha256(), 0
    with default_storage.open(name) as source, archive.open(f"files/{name}", "w", force_zip64=True) as target:
        while piece := source.read(1 << 20):
            digest.update(piece)
            target.write(piece)
            size += len(piece)
    return {"bytes": size, "sha256": digest.hexdigest()}


def restore(path: Path, *, progress: Progress | None = None) -> dict[str, Any]:
    """Fill an empty, migrated installation from an archive; all or nothing. Returns the manifest.

    Raises `BackupError` when the archive is damaged, of another schema, or the installation is not empty.
    """
    try:
        archive = zipfile.ZipFile(path)
    except (OSError, zipfile.BadZipFile) as error:
        raise BackupError(f"{path} is no backup: {error}.") from error
    with archive:
        manifest = verify(archive, path)
        filled = [model._meta.label_lower for model in kept_models() if model._base_manager.exists()]
        if filled:
            raise BackupError(
                f"This installation is not empty ({', '.join(filled[:4])} …). Restore into a fresh database: "
                "set ATTUNE_DATABASE_URL or ATTUNE_DATA_DIR to a new one and run manage.py migrate."
            )
        with transaction.atomic(), connection.constraint_checks_disabled():
            for model in kept_models():
                rows = _read_table(archive, model)
                if progress:
                    progress(model._meta.label_lower, rows)
            connection.check_constraints()
            _reset_sequences()
        for name in manifest["files"]:
            with archive.open(f"files/{name}") as source:
                if default_storage.exists(name):
                    default_storage.delete(name)
                default_storage.save(name, io.BytesIO(source.read()))
    return manifest


def verify(archive: zipfile.ZipFile, path: Path) -> dict[str, Any]:
    """Check format, schema and every digest before anything is written."""
    try:
        manifest: dict[str, Any] = json.loads(archive.read("manifest.json"))
    except (KeyError, json.JSONDecodeError) as error:
        raise BackupError(f"{path} has no manifest: it is no backup of Attune, or was cut off.") from error
    if manifest.get("format") != FORMAT:
        raise BackupError(f"{path} has format {manifest.get('format')}; this version reads {FORMAT}.")
    if manifest["schema"] != schema():
        missing = sorted(set(manifest["schema"]) ^ set(schema()))
        raise BackupError(
            f"The backup was made with another schema ({', '.join(missing[:4])}). Restore it with the version that "
            "made it, then migrate."
        )
    for kind, suffix in (("tables", ".jsonl"), ("files", "")):
        for name, facts in manifest[kind].items():
            if _digest(archive, f"{kind}/{name}{suffix}", path) != facts["sha256"]:
                raise BackupError(f"{path} is damaged: {kind}/{name} does not have the digest of its manifest.")
    return manifest


def _digest(archive: zipfile.ZipFile, member: str, path: Path) -> str:
    digest = hashlib.sha256()
    try:
        with archive.open(member) as source:
            while piece := source.read(1 << 20):
                digest.update(piece)
    except (KeyError, zipfile.BadZipFile) as error:
        raise BackupError(f"{path} is damaged: {member}: {error}.") from error
    return digest.hexdigest()


def _read_table(archive: zipfile.ZipFile, model: type[models.Model]) -> int:
    count = 0
    fields = model._meta.concrete_fields
    with archive.open(f"tables/{model._meta.label_lower}.jsonl") as source:
        lines: Iterable[bytes] = source
        while part := list(islice(lines, BATCH)):
            rows = [
                model(
                    **{
                        field.attname: field.to_python(value)
                        for field, value in zip(fields, json.loads(line), strict=True)
                    }
                )
                for line in part
            ]
            model._base_manager.bulk_create(rows, batch_size=500)
            count += len(rows)
    return count


def _row(model: type[models.Model], fields: Sequence[Any], values: list[Any]) -> models.Model:
    return model(**{field.attname: field.to_python(value) for field, value in zip(fields, values, strict=True)})


def _reset_sequences() -> None:
    """Let the next row of each table get a number that is free."""
    with connection.cursor() as cursor:
        for statement in connection.ops.sequence_reset_sql(no_style(), kept_models()):
            cursor.execute(statement)


__all__ = ["BackupError", "backup", "restore", "verify"]
