from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from annotation.models import Campaign, Dataset, System
from annotation.workflow import reporting


class Command(BaseCommand):
    help = "Make the full metric report: page, PDF, workbook, CSV, JSON, LaTeX, figures, codebook, manifest."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--campaign", help="Whose human labels correct the numbers; without it: unverified.")
        parser.add_argument("--dataset", action="append", default=[], help="Repeat for several; default: all.")
        parser.add_argument("--system", action="append", default=[], help="Repeat for several; default: all.")
        parser.add_argument("--split", action="append", default=[], help="Such as test; default: all.")
        parser.add_argument("--grouping", default="", help="How 28 fine labels become seven: dialogue or ekman.")
        parser.add_argument("--arms", default="independent", choices=["independent", "all"])
        parser.add_argument("--title", default="")
        parser.add_argument("--seed", type=int, default=1)
        parser.add_argument("--replicates", type=int, default=2000)
        parser.add_argument("--no-pdf", action="store_true")
        parser.add_argument("--output", type=Path, metavar="DIR", help="Also leave the bundle in this folder.")

    def handle(self, *args: Any, **options: Any) -> None:
        campaign = None
        if options["campaign"]:
            campaign = Campaign.objects.filter(name=options["campaign"]).first()
            if campaign is None:
                raise CommandError(f"There is no campaign called {options['campaign']!r}.")
        output: Path | None = options["output"]
        if output is not None and output.exists() and any(output.iterdir()):
            raise CommandError(f"{output} is not empty. Name a folder that is, or that does not exist yet.")
        try:
            run = reporting.build_report(
                campaign=campaign,
                datasets=reporting.named(Dataset, options["dataset"]),
                systems=reporting.named(System, options["system"]),
                parameters={
                    "grouping": options["grouping"],
                    "splits": options["split"],
                    "arms": options["arms"],
                    "replicates": options["replicates"],
                    "pdf": not options["no_pdf"],
                },
                seed=options["seed"],
                title=options["title"],
                progress=self._progress if options["verbosity"] else None,
                folder=output,
            )
        except (reporting.ReportError, ValueError) as error:
            raise CommandError(str(error)) from error
        self.stdout.write(self.style.SUCCESS(f"{run.title}: /reports/{run.pk}/"))
        if output is not None:
            self.stdout.write(f"The bundle is in {output}; recompute it with: python -m evaluation report {output}")

    def _progress(self, done: int, total: int, message: str) -> None:
        self.stderr.write(f"[{done + 1}/{total}] {message}")
        sys.stderr.flush()
