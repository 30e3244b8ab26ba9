from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils.dateparse import parse_datetime

from annotation.models import Campaign
from annotation.workflow import agreement_export


class Command(BaseCommand):
    help = "Export a campaign's agreement statistics: overall, per data set, role, system, label, pair, annotator."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("campaign", help="The campaign's name.")
        parser.add_argument("--format", choices=agreement_export.AGREEMENT_FORMATS, default="csv")
        parser.add_argument("--output", type=Path, metavar="FILE", help="Default: standard output.")
        parser.add_argument("--replicates", type=int, default=2000)
        parser.add_argument("--seed", type=int, default=1)
        parser.add_argument("--arms", choices=["independent", "all"], default="independent")
        parser.add_argument("--as-of", metavar="TIME", help="Judgments received until then, such as 2026-05-01T12:00Z.")

    def handle(self, *args: Any, **options: Any) -> None:
        campaign = Campaign.objects.filter(name=options["campaign"]).first()
        if campaign is None:
            raise CommandError(f"There is no campaign called {options['campaign']!r}.")
        moment = parse_datetime(options["as_of"]) if options["as_of"] else None
        if options["as_of"] and (moment is None or moment.tzinfo is None):
            raise CommandError("--as-of needs a moment with its time zone, such as 2026-05-01T12:00:00Z.")
        report = agreement_export.agreement_report(
            campaign, as_of=moment, replicates=options["replicates"], seed=options["seed"], arms=options["arms"]
        )
        content = agreement_export.agreement_file(report, options["format"])
        if options["output"]:
            options["output"].write_bytes(content)
        else:
            sys.stdout.buffer.write(content)
