"""Write everything into one archive, while people work."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand

from annotation.workflow.backup import backup


class Command(BaseCommand):
    help = "Back up every row and file into one archive; consistent while running."

    def add_arguments(self, parser: Any) -> None:
        parser.add_argument("path", type=Path, help="the archive to write, such as backup.zip")

    def handle(self, *args: Any, **options: Any) -> None:
        manifest = backup(options["path"])
        rows = sum(table["rows"] for table in manifest["tables"].values())
        self.stdout.write(f"{rows:,} rows and {len(manifest['files']):,} files are in {options['path']}.")
