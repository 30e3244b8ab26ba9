"""Learn from verified labels: continue the default classifier on a campaign, so that no prediction used in an estimate
comes from a classifier that saw its dialogue. Nothing is switched: a person chooses the new classifier, or does not."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from django.conf import settings
from django.core.files import File
from django.core.files.storage import default_storage
from django.db.models import QuerySet

from annotation.inference.base import find_base, sha256_of
from annotation.inference.classifier import LabelScheme, digest_of, load_default, pack
from annotation.inference.default_classifier import DEFAULT_FOLDER
from annotation.inference.encoder import Adapter
from annotation.inference.training import Progress
from annotation.inference.verified import VerifiedTraining, finetune_on_verified
from annotation.models import Campaign, Classifier, Prediction, Response, Text, Turn, Utterance
from annotation.workflow.frames import Selection, judgment_rows, verified_items

STORED = 1000


@dataclass(frozen=True, slots=True)
class Learned:
    """What came of it: held-out agreement before and after with its interval, and the row if predictions are stored."""

    labels: int
    dialogues: int
    training: VerifiedTraining
    classifier: Classifier | None

    def summary(self) -> dict[str, Any]:
        """For a job's row and the admin."""
        return {
            "verified labels": self.labels,
            "dialogues": self.dialogues,
            "held-out agreement before": str(self.training.agreement_before),
            "held-out agreement after": str(self.training.agreement_after),
            "gain": str(self.training.gain),
            "classifier": str(self.classifier) if self.classifier else "not stored",
        }


def learn_from(
    campaign: Campaign,
    *,
    output: Path,
    folds: int = 5,
    threads: int | None = None,
    store: bool = False,
    display: Callable[[str, Progress], None] | None = None,
) -> Learned:
    """Fine-tune on the campaign's verified labels, cross-fitted by dialogue; a killed run goes on in the same folder.

    `store` also writes each dialogue's predictions by the classifier of its fold, as a new classifier row.
    """
    selection = Selection(
        datasets=tuple(campaign.datasets.all()), systems=tuple(campaign.systems.all()), campaign=campaign
    )
    items = verified_items(campaign, judgment_rows(campaign, as_of=selection.as_of), selection)
    items = items[items["label"].notna()]
    texts, dialogues = _texts_and_dialogues(items)
    found = finetune_on_verified(
        texts,
        [str(label) for label in items["label"]],
        dialogues,
        start=Adapter.load(DEFAULT_FOLDER / "adapter.safetensors"),
        base=find_base(settings.ATTUNE_BASE_ENCODER or None, allow_hub=settings.ATTUNE_ALLOW_HUB),
        folder=output / "runs",
        folds=folds,
        grouping=campaign.grouping,
        threads=threads,
        display=display,
    )
    _save(found, output, campaign, dialogues)
    row = _store(found, output, campaign, dialogues, threads) if store else None
    return Learned(len(texts), len(set(dialogues)), found, row)


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


def _keep(output: Path, folder: str) -> str:
    """Put what was learned where every host finds it and backups look, beside the bundles; return where that is."""
    for path in (output / "card.json", output / "adapter.safetensors", *output.glob("fold-*/adapter.safetensors")):
        name = f"{folder}/{path.relative_to(output).as_posix()}"
        default_storage.delete(name)  # of an attempt that was killed
        with path.open("rb") as stream:
            default_storage.save(name, File(stream))
    return folder


def _store(
    found: VerifiedTraining, output: Path, campaign: Campaign, dialogues: list[str], threads: int | None
) -> Classifier:
    """Store each dialogue's predictions by the classifier of its fold; a dialogue without labels takes fold 0."""
    scheme = LabelScheme(found.final.labels, temperature=dict(found.temperature))
    paths = [output / f"fold-{fold}" / "adapter.safetensors" for fold in range(len(found.adapters))]
    fold_of = {int(name): int(fold) for name, fold in zip(dialogues, found.folds, strict=True)}
    classifiers = [load_default(adapter=path, cache=settings.ATTUNE_CACHE_DIR, threads=threads) for path in paths]
    revision = digest_of(*[one.revision for one in classifiers], *[sha256_of(path) for path in paths])
    row, _ = Classifier.objects.get_or_create(
        name=f"attune-campaign-{campaign.pk}",
        revision=revision,
        defaults={
            "source": _keep(output, f"classifiers/{revision}"),
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
