"""Pre-label what has no prediction yet, in this process."""

from __future__ import annotations

import sys
import time
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from annotation.inference.base import ClassifierError
from annotation.workflow import prelabel


class Command(BaseCommand):
    help = "Give every text without a prediction its emotion probabilities. Stopped, it goes on where it was."

    def add_arguments(self, parser: Any) -> None:
        parser.add_argument("--dataset", action="append", default=[], help="only this data set (may be repeated)")
        parser.add_argument("--system", action="append", default=[], help="only this system's responses")

    def handle(self, *args: Any, **options: Any) -> None:
        started = time.monotonic()

        def show(done: int, total: int, message: str) -> None:
            if sys.stderr.isatty():
                rate = done / max(time.monotonic() - started, 0.001)
                left = (total - done) / max(rate, 0.001)
                self.stderr.write(f"\r{done:,} of {total:,}, {rate:,.0f}/s, {left:,.0f} s left   ", ending="")

        try:
            classifier, _ = prelabel.current_classifier()
            started = time.monotonic()
            count = prelabel.prelabel(datasets=options["dataset"], systems=options["system"], progress=show)
        except ClassifierError as error:
            raise CommandError(str(error)) from error
        seconds = time.monotonic() - started
        self.stdout.write(
            f"{count:,} texts pre-labelled in {seconds:.1f} s ({count / max(seconds, 0.001):,.0f}/s) by {classifier}."
        )
