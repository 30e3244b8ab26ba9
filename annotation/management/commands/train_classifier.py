"""Train the default classifier from its data sets, or continue it on what a campaign has verified."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from annotation.inference.base import ClassifierError, find_base
from annotation.inference.card import publish, scores_table
from annotation.inference.distillation import DEFAULT_PROGRAMME, DISTILLED_PROGRAMME, Corpora, run_programme
from annotation.inference.training import Progress
from annotation.models import Campaign
from annotation.workflow.learning import learn_from

STORED = 1000


class Command(BaseCommand):
    help = (
        "Train the classifier: on GoEmotions (and EmpatheticDialogues), or, with --verified, further on a campaign's "
        "verified labels. A stopped run goes on where it was. Nothing is switched: ATTUNE_CLASSIFIER and the "
        "campaign's own choice decide which classifier is used."
    )

    def add_arguments(self, parser: Any) -> None:
        parser.add_argument("--goemotions", type=Path, help="folder of the official GoEmotions splits")
        parser.add_argument("--empathetic", type=Path, help="folder of EmpatheticDialogues, to learn from it too")
        parser.add_argument("--empathetic-weight", type=float, default=0.3)
        parser.add_argument("--distil", action="store_true", help="three teachers and a student instead of one run")
        parser.add_argument("--verified", metavar="CAMPAIGN", help="name or number of a campaign to learn from")
        parser.add_argument("--folds", type=int, default=5)
        parser.add_argument("--store", action="store_true", help="with --verified: store cross-fitted predictions")
        parser.add_argument("--output", type=Path, required=True, help="folder for adapter, card and figures")
        parser.add_argument("--name", default="attune-minilm-goemotions")
        parser.add_argument("--threads", type=int)

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            if options["verified"]:
                self._from_campaign(options)
            elif options["goemotions"]:
                self._from_corpora(options)
            else:
                raise CommandError("Say what to learn from: --goemotions FOLDER or --verified CAMPAIGN.")
        except ClassifierError as error:
            raise CommandError(str(error)) from error

    def _show(self, name: str, progress: Progress) -> None:
        if not sys.stderr.isatty():
            return
        filled = round(24 * progress.step / progress.steps)
        best = "" if progress.best is None else f", best dev {progress.best:.4f}"
        self.stderr.write(
            f"\r{name} [{'#' * filled}{'.' * (24 - filled)}] {progress.step}/{progress.steps}, "
            f"loss {progress.loss:.3f}{best}, {progress.seconds_left / 60:.1f} min left   ",
            ending="\n" if progress.step == progress.steps else "",
        )

    # -- from the data sets -----------------------------------------------------------------------------------------

    def _from_corpora(self, options: dict[str, Any]) -> None:
        base = find_base(settings.ATTUNE_BASE_ENCODER or None, allow_hub=settings.ATTUNE_ALLOW_HUB)
        corpora = Corpora.read(options["goemotions"], options["empathetic"], options["empathetic_weight"])
        output: Path = options["output"]
        programme = DISTILLED_PROGRAMME if options["distil"] else DEFAULT_PROGRAMME
        adapter = run_programme(
            programme,
            corpora,
            base=base,
            folder=output / "runs",
            threads=options["threads"],
            display=self._show,
        )
        scores = publish(
            adapter,
            output,
            name=options["name"],
            base=base,
            dev=corpora.dev,
            test=corpora.test,
            recipe=programme.facts(),
            data=corpora.description,
            threads=options["threads"],
        )
        self.stdout.write(scores_table(scores))

    # -- from a campaign --------------------------------------------------------------------------------------------

    def _from_campaign(self, options: dict[str, Any]) -> None:
        found = learn_from(
            _campaign(options["verified"]),
            output=options["output"],
            folds=options["folds"],
            threads=options["threads"],
            store=options["store"],
            display=self._show,
        )
        for name, value in found.summary().items():
            self.stdout.write(f"{name:<28}{value}")
        self.stdout.write(f"The adapters are in {options['output']}. Nothing was switched.")
        if found.classifier:
            self.stdout.write(
                f"Cross-fitted predictions are stored as {found.classifier}; choose it in a campaign or a report."
            )


def _campaign(wanted: str) -> Campaign:
    found = Campaign.objects.filter(name=wanted).first()
    if found is None and wanted.isdecimal():
        found = Campaign.objects.filter(pk=int(wanted)).first()
    if found is None:
        names = ", ".join(Campaign.objects.order_by("name").values_list("name", flat=True)[:20]) or "none"
        raise CommandError(f"There is no campaign {wanted!r}. The campaigns: {names}.")
    return found
