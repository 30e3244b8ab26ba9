"""Pre-labelling: every text once, only what was asked for, and stopped in the middle it goes on where it was."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from annotation.inference.classifier import LexiconClassifier
from annotation.models import Classifier, Prediction, Text
from annotation.workflow import jobs, prelabel
from tests.factories import make_corpus

pytestmark = pytest.mark.django_db


class Watched(LexiconClassifier):
    """The word list, noting which texts it was shown."""

    def __init__(self) -> None:
        super().__init__()
        self.shown: list[str] = []

    def probabilities(self, texts: Sequence[str]) -> Any:
        self.shown += texts
        return super().probabilities(texts)


@pytest.fixture
def row() -> Classifier:
    return Classifier.objects.create(name="words", revision="1", source="words", labels=list(Watched.labels))


@pytest.fixture
def texts(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Ten texts of different lengths, classified three at a time."""
    monkeypatch.setattr(prelabel, "BATCH", 3)
    made = [f"{number:02}" + " love" * (9 - number) for number in range(10)]
    Text.objects.bulk_create([Text(digest=f"d{text[:2]}", content=text) for text in made])
    return made


def all_of(row: Classifier, instance: LexiconClassifier, **given: Any) -> int:
    return prelabel.prelabel_range(row, instance, first="", last="z", **given)


def test_every_text_gets_the_probabilities_of_its_own_words(row: Classifier, texts: list[str]) -> None:
    instance = Watched()
    assert all_of(row, instance) == 10
    stored = {found.text.content: bytes(found.probabilities) for found in Prediction.objects.select_related("text")}
    expected = instance.probabilities(texts).astype(np.float16)
    assert stored == {text: expected[index].tobytes() for index, text in enumerate(texts)}
    assert set(Prediction.objects.values_list("classifier", "fold")) == {(row.pk, -1)}


def test_a_text_that_has_a_prediction_is_not_classified_again(row: Classifier, texts: list[str]) -> None:
    Prediction.objects.create(classifier=row, text_id="d04", probabilities=b"kept")
    instance = Watched()
    assert all_of(row, instance) == 9
    assert texts[4] not in instance.shown
    assert bytes(Prediction.objects.get(text_id="d04").probabilities) == b"kept"
    assert all_of(row, instance) == 0


def test_a_prediction_that_another_worker_wrote_meanwhile_stays(row: Classifier, texts: list[str]) -> None:
    class Late(Watched):
        def probabilities(self, texts: Sequence[str]) -> Any:
            return super().probabilities(texts)

    instance = Late()
    written: list[int] = []

    def other_worker(done: int) -> None:
        if not written:
            written.append(done)
            Prediction.objects.create(classifier=row, text_id="d00", probabilities=b"theirs")

    assert all_of(row, instance, progress=other_worker) == 10
    assert bytes(Prediction.objects.get(text_id="d00").probabilities) == b"theirs"
    assert Prediction.objects.count() == 10


def test_a_job_that_is_stopped_keeps_what_it_wrote_and_goes_on_from_there(row: Classifier, texts: list[str]) -> None:
    def stop(done: int) -> None:
        if done >= 6:
            raise jobs.Cancelled

    with pytest.raises(jobs.Cancelled):
        all_of(row, Watched(), progress=stop)
    assert Prediction.objects.count() == 6
    again = Watched()
    assert all_of(row, again) == 4
    assert len(again.shown) == 4
    assert Prediction.objects.values("text").distinct().count() == 10


def test_a_classifier_that_fails_fails_the_chunk_with_its_own_error(row: Classifier, texts: list[str]) -> None:
    class Broken(Watched):
        def probabilities(self, texts: Sequence[str]) -> Any:
            raise MemoryError("too long a text")

    with pytest.raises(MemoryError, match="too long a text"):
        all_of(row, Broken())
    assert not Prediction.objects.exists()


def test_chunks_cover_every_waiting_text_once(row: Classifier, texts: list[str]) -> None:
    Prediction.objects.create(classifier=row, text_id="d04", probabilities=b"")
    parts = list(prelabel.plan_chunks(row, size=4))
    assert [part["count"] for part in parts] == [4, 4, 1]
    instance = Watched()
    for part in parts:
        prelabel.prelabel_range(row, instance, first=part["first"], last=part["last"])
    assert sorted(instance.shown) == sorted(text for text in texts if text != texts[4])


def test_a_named_data_set_is_pre_labelled_without_the_others_and_a_system_without_its_peers(row: Classifier) -> None:
    one, two = make_corpus(2, dataset="one", systems=["alpha"]), make_corpus(2, dataset="two", systems=["beta"])

    def found(**given: Any) -> set[str]:
        return set(prelabel.waiting(row, **given).values_list("digest", flat=True))

    def said_in(dataset: Any) -> set[str]:
        spoken = Text.objects.filter(utterances__dialogue__dataset=dataset)
        answered = Text.objects.filter(responses__turn__dialogue__dataset=dataset)
        return {text.digest for text in spoken | answered}

    assert found(datasets=["one"]) == said_in(one)
    assert found(datasets=["one", "two"]) == found() == said_in(one) | said_in(two)
    systems = list(Text.objects.filter(responses__isnull=False).values_list("responses__system__name", flat=True))
    chosen = systems[0]
    assert found(systems=[chosen]) == set(
        Text.objects.filter(responses__system__name=chosen).values_list("digest", flat=True)
    )


def test_a_text_that_was_said_often_waits_once(row: Classifier) -> None:
    corpus = make_corpus(2, dataset="often")
    repeated = Text.objects.filter(utterances__isnull=False).first()
    assert repeated is not None
    for dialogue in corpus.dialogues.all():
        dialogue.utterances.update(text=repeated)
    waiting = list(prelabel.waiting(row, datasets=["often"]).values_list("digest", flat=True))
    assert waiting.count(repeated.digest) == 1
