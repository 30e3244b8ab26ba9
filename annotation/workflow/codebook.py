"""The codebook that ships with Attune: what a new campaign begins with, until its researcher writes her own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final

from django.db import transaction

from annotation.models import Campaign, GoldQuestion, Guideline

CODEBOOK: Final = Path(__file__).resolve().parents[1] / "codebook"


@transaction.atomic
def give_codebook(campaign: Campaign) -> None:
    """Write the guidelines and practice questions a campaign has none of; what it has stays untouched."""
    if not campaign.guidelines.exists():
        markdown = (CODEBOOK / "guidelines.md").read_text(encoding="utf-8")
        Guideline.objects.create(campaign=campaign, version=1, markdown=markdown)
    if not campaign.gold_questions.exists():
        lines = (CODEBOOK / "practice.jsonl").read_text(encoding="utf-8").splitlines()
        GoldQuestion.objects.bulk_create(
            GoldQuestion(campaign=campaign, use="practice", **json.loads(line)) for line in lines
        )
