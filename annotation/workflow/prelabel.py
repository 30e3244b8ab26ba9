"""Pre-label: give every text that has no prediction of the classifier its probabilities. One text once."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import Any

from django.conf import settings
from django.db import connection, transaction
from django.db.models import Exists, OuterRef, Q, QuerySet

from annotation.inference import classifier as inference
from annotation.models import Classifier, Prediction, Response, Text, Utterance
from annotation.workflow.writers import writers_turn

BATCH = 1000
"""Rows per transaction. With a pause between them annotators' answers slip in between (docs/decisions/0007)."""

WRITER_PAUSE = 0.02

INSERT = (
    f"INSERT INTO {Prediction._meta.db_table} (classifier_id, text_id, fold, probabilities) "
    "VALUES (%s, %s, -1, %s) ON CONFLICT DO NOTHING"
)
"""A prediction that is there already stays. Written out: making a model object of each row costs ten times as much."""


@lru_cache(maxsize=2)
def loaded(source: str, revision: str) -> inference.Classifier:
    """The classifier that the settings name, loaded once per process: the committed one, an adapter, or any other."""
    if source == "default":
        return inference.load_default(
            base=settings.ATTUNE_BASE_ENCODER or None,
            cache=settings.ATTUNE_CACHE_DIR,
            threads=settings.ATTUNE_CLASSIFIER_THREADS or None,
            allow_hub=settings.ATTUNE_ALLOW_HUB,
        )
    return inference.load_transformer(
        source,
        revision=revision or None,
        mapping=settings.ATTUNE_CLASSIFIER_MAPPING or None,
        activation=settings.ATTUNE_CLASSIFIER_ACTIVATION,
        threads=settings.ATTUNE_CLASSIFIER_THREADS or None,
        allow_hub=settings.ATTUNE_ALLOW_HUB,
    )


def configured() -> inference.Classifier:
    """The classifier of the settings; the database is left alone."""
    return loaded(settings.ATTUNE_CLASSIFIER, settings.ATTUNE_CLASSIFIER_REVISION)


def current_classifier() -> tuple[Classifier, inference.Classifier]:
    """The classifier of the settings and its row, made on first use. A changed revision is a new row."""
    instance = configured()
    row, created = Classifier.objects.get_or_create(
        name=instance.name,
        revision=instance.revision,
        defaults={
            "source": settings.ATTUNE_CLASSIFIER,
            "labels": list(instance.labels),
            "settings": instance.scheme.to_json(),
        },
    )
    if created or not Classifier.objects.filter(is_default=True).exists():
        make_default(row)
        row.refresh_from_db()
    return row, instance


def make_default(row: Classifier) -> None:
    """Let new campaigns and reports use this classifier. Old ones keep the one they name."""
    Classifier.objects.filter(is_default=True).exclude(pk=row.pk).update(is_default=False)
    Classifier.objects.filter(pk=row.pk).update(is_default=True)


def waiting(classifier: Classifier, *, datasets: Sequence[str] = (), systems: Sequence[str] = ()) -> QuerySet[Text]:
    """The texts without a prediction: everywhere, or in the named data sets (and of the named systems' responses)."""
    texts = Text.objects.filter(~Exists(Prediction.objects.filter(classifier=classifier, text=OuterRef("pk"), fold=-1)))
    if not datasets and not systems:
        return texts
    # Asked of each text, not joined: a "yes" that was said ten thousand times would be as many rows.
    responses = Response.objects.filter(text=OuterRef("pk"))
    if systems:
        responses = responses.filter(system__name__in=systems)
    if not datasets:
        return texts.filter(Exists(responses))
    utterances = Utterance.objects.filter(text=OuterRef("pk"), dialogue__dataset__name__in=datasets)
    return texts.filter(Q(Exists(utterances)) | Q(Exists(responses.filter(turn__dialogue__dataset__name__in=datasets))))


def plan_chunks(
    classifier: Classifier, *, datasets: Sequence[str] = (), systems: Sequence[str] = (), size: int
) -> Iterator[dict[str, Any]]:
    """Cut the waiting texts into ranges of digests, `size` texts each. Digests are random, so lengths mix evenly."""
    first, last, count = "", "", 0
    digests = (
        waiting(classifier, datasets=datasets, systems=systems).order_by("digest").values_list("digest", flat=True)
    )
    for digest in digests.iterator(chunk_size=10_000):
        first = first or digest
        last = digest
        count += 1
        if count == size:
            yield {"first": first, "last": last, "count": count}
            first, count = "", 0
    if count:
        yield {"first": first, "last": last, "count": count}


def prelabel_range(
    classifier: Classifier,
    instance: inference.Classifier,
    *,
    first: str,
    last: str,
    datasets: Sequence[str] = (),
    systems: Sequence[str] = (),
    progress: Callable[[int], None] | None = None,
) -> int:
    """Classify the waiting texts of one range of digests; run again after a kill it does what is left.

    Texts are sorted by length over the whole range, so that a batch pads little. While the predictions of one batch
    are written (and annotators' answers let in between) the next is classified, in a thread that knows no database.
    """
    rows = list(
        waiting(classifier, datasets=datasets, systems=systems)
        .filter(digest__gte=first, digest__lte=last)
        .values_list("digest", "content")
    )
    rows.sort(key=lambda row: len(row[1]))
    batches = [rows[start : start + BATCH] for start in range(0, len(rows), BATCH)]
    done = 0
    with ThreadPoolExecutor(1, thread_name_prefix="classify") as ahead:
        classified = [ahead.submit(instance.probabilities, [content for _, content in batch]) for batch in batches]
        try:
            for batch, probabilities in zip(batches, classified, strict=True):
                _write(classifier, [digest for digest, _ in batch], inference.pack(probabilities.result()))
                done += len(batch)
                if progress:
                    progress(done)
        except BaseException:
            ahead.shutdown(wait=False, cancel_futures=True)
            raise
    return done


def _write(classifier: Classifier, digests: Sequence[str], stored: Sequence[bytes]) -> None:
    """Write predictions in one short transaction and leave the database to others for a moment."""
    rows = [(classifier.pk, digest, row) for digest, row in zip(digests, stored, strict=True)]
    with writers_turn(), transaction.atomic(), connection.cursor() as cursor:
        cursor.executemany(INSERT, rows)
    if connection.vendor == "sqlite":
        time.sleep(WRITER_PAUSE)


def prelabel(
    *,
    datasets: Sequence[str] = (),
    systems: Sequence[str] = (),
    progress: Callable[[int, int, str], None] | None = None,
) -> int:
    """Pre-label in this process: what the command and the demo do."""
    classifier, instance = current_classifier()
    parts = list(plan_chunks(classifier, datasets=datasets, systems=systems, size=settings.ATTUNE_PRELABEL_CHUNK))
    total, before = sum(part["count"] for part in parts), 0
    for part in parts:

        def report(done: int, before: int = before) -> None:
            if progress:
                progress(before + done, total, "classifying")

        before += prelabel_range(
            classifier,
            instance,
            first=part["first"],
            last=part["last"],
            datasets=datasets,
            systems=systems,
            progress=report,
        )
    return before
