"""Flag imported responses: refusals, error messages, other languages."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand

from annotation.management.commands.import_dialogues import LEFT_OUT
from annotation.workflow.flagging import check_imported
from annotation.workflow.predictions import UNUSABLE_FLAGS


class Command(BaseCommand):
    help = "Flag the imported responses of systems as generated ones are flagged. May be run again at any time."

    def handle(self, *args: Any, **options: Any) -> None:
        checked, found = check_imported()
        said = ", ".join(f"{count:,} {flag}" for flag, count in found.most_common()) or "nothing conspicuous"
        self.stdout.write(f"{checked:,} imported responses: {said}.")
        if UNUSABLE_FLAGS & {*found}:
            self.stdout.write(LEFT_OUT)
