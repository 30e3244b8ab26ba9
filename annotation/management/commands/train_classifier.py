"""Train the default classifier from its data sets, or continue it on what a campaign has verified."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from django.db.models import QuerySet

from annotation.inference.base import ClassifierError, find_base, sha256_of
from annotation.inference.card import publish, scores_table
from annotation.inference.classifier import LabelScheme, digest_of, load_default, pack
from annotation.inference.default_classifier import DEFAULT_FOLDER
from annotation.inference.distillation import DEFAULT_PROGRAMME, DISTILLED_PROGRAMME, Corpora, run_programme
from annotation.inference.encoder import Adapter
from annotation.inference.training import Progress
from annotation.inference.verified import VerifiedTraining, finetune_on_verified
from annotation.models import Campaign, Classifier, Prediction, Response, Text, Turn, Utterance
from annotation.workflow.frames import Selection, judgment_rows, verified_items

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
        campaign = _campaign(options["verified"])
        selection = Selection(
            datasets=tuple(campaign.datasets.all()), systems=tuple(campaign.systems.all()), campaign=campaign
        )
        items = verified_items(campaign, judgment_rows(campaign, as_of=selection.as_of), selection)
        items = items[items["label"].notna()]
        texts, dialogues = _texts_and_dialogues(items)
        base = find_base(settings.ATTUNE_BASE_ENCODER or None, allow_hub=settings.ATTUNE_ALLOW_HUB)
        output: Path = options["output"]
        found = finetune_on_verified(
            texts,
            [str(label) for label in items["label"]],
            dialogues,
            start=Adapter.load(DEFAULT_FOLDER / "adapter.safetensors"),
            base=base,
            folder=output / "runs",
            folds=options["folds"],
            grouping=campaign.grouping,
            threads=options["threads"],
            display=self._show,
        )
        _save(found, output, campaign, dialogues)
        self.stdout.write(
            f"{len(texts)} verified labels from {len(set(dialogues))} dialogues, grouping {campaign.grouping}"
        )
        self.stdout.write(f"held-out agreement before  {found.agreement_before}")
        self.stdout.write(f"held-out agreement after   {found.agreement_after}")
        self.stdout.write(f"gain                       {found.gain}")
        self.stdout.write(f"The adapters are in {output}. Nothing was switched.")
        if options["store"]:
            row = _store(found, output, campaign, dialogues, options["threads"])
            self.stdout.write(
                f"Cross-fitted predictions are stored as {row}; choose it in a campaign or report to use it."
            )


def _campaign(wanted: str) -> Campaign:
    found = Campaign.objects.filter(name=wanted).first()
    if found is None and wanted.isdecimal():
        found = Campaign.objects.filter(pk=int(wanted)).first()
    if found is None:
        names = ", ".join(Campaign.objects.order_by("name").values_list("name", flat=True)[:20]) or "none"
        raise CommandError(f"There is no campaign {wanted!r}. The campaigns: {names}.")
    return found


def _texts_and_dialogues(items: Any) -> tuple[list[str], list[str]]:
    """The text and the dialogue (its key in the database) of each verified item."""
    turns = Turn.objects.in_bulk([int(pk) for pk in items["turn_pk"].dropna().unique()])
    users = dict(Utterance.objects.filter(turn__in=turns).values_list("turn__id", "text__content"))
    wanted = [int(pk) for pk in items["response_pk"].dropna().unique()]
    responses = dict(Response.objects.filter(pk__in=wanted).values_list("id", "text__content"))
    texts, dialogues = [], []
    for turn, response in zip(items["turn_pk"], items["response_pk"], strict=True):
        texts.append(users[int(turn)] if np.isnan(float(response or np.nan)) else responses[int(response)])
        dialogues.append(str(turns[int(turn)].dialogue_id))
    return texts, dialogues


def _save(found: VerifiedTraining, output: Path, campaign: Campaign, dialogues: list[str]) -> None:
    for fold, adapter in enumerate(found.adapters):
        adapter.save(output / f"fold-{fold}" / "adapter.safetensors")
    found.final.save(output / "adapter.safetensors")
    card = {
        "name": f"attune-campaign-{campaign.pk}",
        "temperature": dict(found.temperature),
        "campaign": campaign.name,
        "verified_labels": len(dialogues),
        "dialogues": len(set(dialogues)),
        "held_out_agreement_before": str(found.agreement_before),
        "held_out_agreement_after": str(found.agreement_after),
        "gain": str(found.gain),
    }
    (output / "card.json").write_text(json.dumps(card, indent=1) + "\n", encoding="utf-8")


def _store(
    found: VerifiedTraining, output: Path, campaign: Campaign, dialogues: list[str], threads: int | None
) -> Classifier:
    """Store each dialogue's predictions by the classifier of its fold; a dialogue without labels takes fold 0."""
    scheme = LabelScheme(found.final.labels, temperature=dict(found.temperature))
    paths = [output / f"fold-{fold}" / "adapter.safetensors" for fold in range(len(found.adapters))]
    fold_of = {int(name): int(fold) for name, fold in zip(dialogues, found.folds, strict=True)}
    classifiers = [load_default(adapter=path, cache=settings.ATTUNE_CACHE_DIR, threads=threads) for path in paths]
    row, _ = Classifier.objects.get_or_create(
        name=f"attune-campaign-{campaign.pk}",
        revision=digest_of(*[one.revision for one in classifiers], *[sha256_of(path) for path in paths]),
        defaults={
            "source": str(output),
            "labels": list(scheme.labels),
            "settings": scheme.to_json() | {"folds": {"dialogues": {str(k): v for k, v in fold_of.items()}}},
        },
    )
    for fold, classifier in enumerate(classifiers):
        mine = {dialogue for dialogue, its in fold_of.items() if its == fold}
        others = set(fold_of) - mine
        for batch in _batches(_texts_of(campaign, mine, others, with_unlabelled=fold == 0)):
            stored = pack(classifier.probabilities([content for _, content in batch]))
            Prediction.objects.bulk_create(
                [
                    Prediction(classifier=row, text_id=digest, fold=fold, probabilities=data)
                    for (digest, _), data in zip(batch, stored, strict=True)
                ],
                ignore_conflicts=True,
            )
    return row


def _texts_of(campaign: Campaign, mine: set[int], others: set[int], *, with_unlabelled: bool) -> QuerySet[Text]:
    """The texts of a fold's dialogues (for fold 0 also of dialogues without any label)."""
    utterances = Utterance.objects.filter(dialogue__dataset__in=campaign.datasets.all())
    responses = Response.objects.filter(turn__dialogue__dataset__in=campaign.datasets.all())
    if with_unlabelled:
        utterances = utterances.exclude(dialogue__in=others)
        responses = responses.exclude(turn__dialogue__in=others)
    else:
        utterances = utterances.filter(dialogue__in=mine)
        responses = responses.filter(turn__dialogue__in=mine)
    return Text.objects.filter(digest__in=utterances.values("text")) | Text.objects.filter(
        digest__in=responses.values("text")
    )


def _batches(texts: QuerySet[Text]) -> Iterator[list[tuple[str, str]]]:
    batch: list[tuple[str, str]] = []
    for row in texts.values_list("digest", "content").iterator(chunk_size=STORED):
        batch.append(row)
        if len(batch) == STORED:
            yield batch
            batch = []
    if batch:
        yield batch
