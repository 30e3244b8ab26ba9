"""Import responses of systems to dialogues that are there already."""

from __future__ import annotations

from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from annotation.corpora import CorpusError
from annotation.management.commands.import_dialogues import describe
from annotation.workflow.intake import import_responses


class Command(BaseCommand):
    help = "Import responses (JSONL, CSV or TSV; .gz) with dialogue_id, turn_id, response, and system or --system."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("files", type=Path, nargs="+", metavar="FILE")
        parser.add_argument("--system", help="name of the system, over what the rows say")
        parser.add_argument("--dataset", help="where the dialogues are; default: what the rows say")
        parser.add_argument("--strict", action="store_true", help="import nothing of a file if any row of it is bad")
        parser.add_argument("--pause", type=float, default=0.0, help="seconds between transactions (0.05 in live use)")

    def handle(self, *args: Any, **options: Any) -> None:
        failed = []
        for path in options["files"]:
            try:
                report = import_responses(
                    path,
                    system=options["system"],
                    dataset=options["dataset"],
                    on_bad_row="abort" if options["strict"] else "skip",
                    pause=options["pause"],
                )
            except CorpusError as error:
                failed.append(str(error))
                continue
            self.stdout.write(describe(report))
            if report.aborted:
                failed.append(f"{path.name}: nothing was imported (--strict).")
        if failed:
            raise CommandError("\n".join(failed))
