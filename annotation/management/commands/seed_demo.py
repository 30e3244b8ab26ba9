"""Load the demo: invented corpora, three systems, pre-labels, an open campaign, accounts with random passwords."""

from __future__ import annotations

import secrets
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db import transaction

from annotation import demo
from annotation.models import (
    Campaign,
    Classifier,
    Dataset,
    Membership,
    Role,
    System,
    User,
)
from annotation.workflow import intake, opening, prelabel
from annotation.workflow.codebook import give_codebook
from evaluation.emotions import EMOTIONS

PEOPLE = [
    ("admin", "runs everything: the admin, reports", []),
    ("researcher", "watches the campaign, exports", [Role.RESEARCHER]),
    ("annotator1", "verifies and rates", [Role.ANNOTATOR]),
    ("annotator2", "verifies and rates", [Role.ANNOTATOR]),
    ("adjudicator", "decides where annotators disagree", [Role.ADJUDICATOR]),
]
CONSENT = """Your answers are stored with the time they took and exported under a pseudonym.
You can see everything stored about you, and withdraw, under *My account*.
Nothing here is graded; where you are unsure, say so in a comment."""


def _design(turns: int) -> dict[str, Any]:
    """Half proportional, half equal over the predicted labels, where each of them can have a turn."""
    if turns < len(EMOTIONS):
        return {"kind": "simple", "size": turns}
    return {"kind": "half", "size": turns, "strata": ["user_label"]}


class Command(BaseCommand):
    help = "Load the demo corpus, an open campaign and demo accounts (their passwords are printed once)."

    def add_arguments(self, parser: Any) -> None:
        parser.add_argument("--turns", type=int, default=24, help="turns in the demo campaign")

    def handle(self, *args: Any, **options: Any) -> None:
        if Campaign.objects.filter(name="demo").exists():
            raise CommandError("The demo is already loaded.")
        self.stdout.write("Loading the demo corpus …")
        self.load_corpus()
        classifier, _ = prelabel.current_classifier()
        count = prelabel.prelabel()
        self.stdout.write(f"Pre-labelled {count} texts with {classifier}.")
        campaign = self.make_campaign(classifier, options["turns"])
        opening.open_campaign(campaign)
        campaign.refresh_from_db()
        self.stdout.write(
            f"Opened a campaign: {campaign.verify_total} labels and {campaign.rate_total} ratings are wanted."
        )
        self.make_people(campaign)

    def load_corpus(self) -> None:
        paths = demo.paths()
        for name, title, path in (
            ("demo-redial", "Demo (ReDial format)", paths.redial),
            ("demo-inspired", "Demo (INSPIRED format)", paths.inspired),
        ):
            intake.import_dialogues(path, dataset=name, split="demo", on_bad_row="abort")
            Dataset.objects.filter(name=name).update(title=title, licence="Apache-2.0, invented")
        for path in paths.responses:
            intake.import_responses(path, on_bad_row="abort")
        for system in System.objects.filter(name__startswith="demo-"):
            System.objects.filter(pk=system.pk).update(title=f"{system.name.removeprefix('demo-').title()} (demo)")

    @transaction.atomic
    def make_campaign(self, classifier: Classifier, turns: int) -> Campaign:
        campaign = Campaign.objects.create(
            name="demo",
            title="Demo campaign",
            classifier=classifier,
            mode=Campaign.BLIND,
            design=_design(turns),
            seed=20261,
            verify_overlap=2,
            rate_overlap=2,
            # Two demo annotators do both tasks; a study would keep raters and labellers apart.
            separate_raters=False,
            consent_text=CONSENT,
        )
        campaign.datasets.set(Dataset.objects.filter(name__startswith="demo-"))
        campaign.systems.set(System.objects.filter(is_reference=False, name__startswith="demo-"))
        give_codebook(campaign)
        return campaign

    @transaction.atomic
    def make_people(self, campaign: Campaign) -> None:
        self.stdout.write("\nAccounts (written down nowhere else; `manage.py changepassword NAME` sets a new one):\n")
        for name, purpose, roles in PEOPLE:
            password = secrets.token_urlsafe(9)
            user = User(username=name, is_staff=name == "admin", is_superuser=name == "admin")
            user.set_password(password)
            user.save()
            for role in roles:
                Membership.objects.create(user=user, campaign=campaign, role=role)
            self.stdout.write(f"  {name:<12} {password:<14} {purpose}")
        self.stdout.write("")
