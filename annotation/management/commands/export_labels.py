from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from annotation.models import Campaign
from annotation.workflow import exports, interchange

TABLES = (*exports.TABLES, "codebook")


class Command(BaseCommand):
    help = "Export a campaign's judgments, ratings or verified labels, one row each, or in another program's form."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("campaign", help="The campaign's name.")
        parser.add_argument("--table", choices=TABLES, default="judgments")
        parser.add_argument("--format", choices=["csv", "jsonl", "label-studio", "doccano"], default="csv")
        parser.add_argument("--output", type=Path, metavar="FILE", help="Default: standard output.")

    def handle(self, *args: Any, **options: Any) -> None:
        campaign = Campaign.objects.filter(name=options["campaign"]).first()
        if campaign is None:
            raise CommandError(f"There is no campaign called {options['campaign']!r}.")
        lines = self._lines(campaign, options["table"], options["format"])
        if options["output"]:
            with options["output"].open("wb") as stream:
                stream.writelines(exports.gathered(lines))
        else:
            sys.stdout.buffer.writelines(exports.gathered(lines))

    def _lines(self, campaign: Campaign, table: str, format: str) -> Iterable[str]:
        if format == "label-studio":
            return interchange.label_studio_json(campaign)
        if format == "doccano":
            return interchange.doccano_lines(campaign)
        if table == "codebook":
            return [exports.codebook(), interchange.codebook()]
        return exports.export_lines(campaign, table, "jsonl" if format == "jsonl" else "csv")
