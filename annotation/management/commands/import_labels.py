"""Import labels and ratings that people gave elsewhere."""

from __future__ import annotations

from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from annotation.corpora import CorpusError
from annotation.corpora.labels import LABEL_FORMATS, LABEL_PARTS, LabelColumns
from annotation.management.commands.import_dialogues import describe
from annotation.models import Campaign
from annotation.workflow.label_intake import import_labels


class Command(BaseCommand):
    help = "Import labels and ratings into an opened campaign: Label Studio JSON, doccano JSONL, or any table."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("campaign", help="the campaign's name")
        parser.add_argument("files", type=Path, nargs="+", metavar="FILE")
        parser.add_argument("--format", default="auto", choices=["auto", *LABEL_FORMATS])
        parser.add_argument("--strict", action="store_true", help="import nothing of a file if any row of it is bad")
        parser.add_argument(
            "--columns",
            nargs="+",
            metavar="PART=COLUMN",
            help=f"for a table; parts: {', '.join(LABEL_PARTS)}; rating:SCALE=COLUMN for a column of one scale",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        campaign = Campaign.objects.filter(name=options["campaign"]).first()
        if campaign is None:
            raise CommandError(f"There is no campaign called {options['campaign']!r}.")
        failed = []
        for path in options["files"]:
            try:
                report = import_labels(
                    path,
                    campaign=campaign,
                    format=options["format"],
                    columns=LabelColumns.parse(options["columns"] or []),
                    on_bad_row="abort" if options["strict"] else "skip",
                )
            except CorpusError as error:
                failed.append(str(error))
                continue
            self.stdout.write(describe(report))
            if report.aborted:
                failed.append(f"{path.name}: nothing was imported (--strict).")
        if failed:
            raise CommandError("\n".join(failed))
