"""Fill an empty installation from an archive of `backup`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from annotation.workflow.backup import BackupError, restore


class Command(BaseCommand):
    help = "Restore a backup into an empty, migrated database; all or nothing, verified by digests."

    def add_arguments(self, parser: Any) -> None:
        parser.add_argument("path", type=Path)

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            manifest = restore(options["path"])
        except BackupError as error:
            raise CommandError(str(error)) from error
        rows = sum(table["rows"] for table in manifest["tables"].values())
        self.stdout.write(f"{rows:,} rows and {len(manifest['files']):,} files restored and verified.")
