"""A small fixed corpus for reports and exports. Its labels are made by this program; no person gave any of them."""

from __future__ import annotations

import hashlib
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import numpy as np

from annotation.models import (
    Adjudication,
    Campaign,
    Classifier,
    Dataset,
    Dialogue,
    Item,
    Judgment,
    Membership,
    Prediction,
    Response,
    SampledTurn,
    Slot,
    System,
    Text,
    Turn,
    User,
    Utterance,
)
from evaluation.emotions import EMOTIONS, GO_EMOTIONS

START = datetime(2026, 1, 5, 9, 0, tzinfo=UTC)
FINE = {**{emotion: emotion for emotion in EMOTIONS}}

# dataset, dialogue, turn, classifier's labels: user, reference, alpha, beta ("" = the system gave no response)
LABELLED = [
    ("redial", "d1", 1, "joy", "joy", "joy", "neutral"),
    ("redial", "d1", 3, "neutral", "neutral", "joy", "neutral"),
    ("redial", "d2", 1, "sadness", "neutral", "joy", "sadness"),
    ("redial", "d2", 3, "joy", "surprise", "neutral", "joy"),
    ("redial", "d3", 1, "surprise", "joy", "fear", "joy"),
    ("redial", "d3", 3, "neutral", "neutral", "neutral", ""),
    ("inspired", "e1", 1, "anger", "neutral", "neutral", "anger"),
    ("inspired", "e1", 3, "joy", "joy", "joy", "joy"),
    ("inspired", "e2", 1, "fear", "fear", "disgust", "neutral"),
    ("inspired", "e2", 3, "neutral", "joy", "neutral", "joy"),
]

# turn -> the labels of annotators Ada and Bo for: user, reference, alpha, beta; None = not labelled
GIVEN = {
    ("d1", 1): (("joy", "joy"), ("joy", "joy"), ("joy", "joy"), ("neutral", "neutral")),
    ("d1", 3): (("neutral", "neutral"), ("neutral", "joy"), ("joy", "joy"), ("neutral", "neutral")),
    ("d2", 1): (("sadness", "sadness"), ("neutral", "neutral"), ("joy", "joy"), ("neutral", "neutral")),
    ("d3", 1): (("joy", "joy"), ("joy", "joy"), ("fear", "fear"), ("joy", None)),
    ("e1", 1): (("anger", "anger"), ("neutral", "neutral"), ("neutral", "neutral"), ("anger", "anger")),
    ("e2", 1): (("fear", "sadness"), ("fear", "fear"), ("neutral", "neutral"), ("neutral", "neutral")),
}
ADJUDICATED = {("e2", 1, "user"): "fear"}
RATED = {("d1", 1): {"alpha": 4, "beta": 2}, ("d2", 1): {"alpha": 1, "beta": 3}, ("e1", 1): {"alpha": 2, "beta": 5}}


@dataclass
class Corpus:
    datasets: tuple[Dataset, ...]
    systems: tuple[System, ...]
    classifier: Classifier
    campaign: Campaign
    people: dict[str, User]


def text(content: str) -> Text:
    digest = hashlib.sha256(content.encode()).hexdigest()[:32]
    return Text.objects.get_or_create(digest=digest, defaults={"content": content})[0]


def predict(classifier: Classifier, said: Text, emotion: str, confidence: float = 0.9) -> None:
    row = np.full(len(GO_EMOTIONS), (1 - confidence) / (len(GO_EMOTIONS) - 1))
    row[GO_EMOTIONS.index(emotion)] = confidence
    Prediction.objects.get_or_create(
        classifier=classifier, text=said, fold=-1, defaults={"probabilities": row.astype(np.float16).tobytes()}
    )


def make_corpus(*, words: str = "") -> Corpus:
    """Write the corpus of `LABELLED`, and the campaign of `GIVEN`; `words` is mixed into every text."""
    datasets = {name: Dataset.objects.create(name=name, title=name.title()) for name in ("redial", "inspired")}
    reference = System.objects.create(name="reference", kind="human", is_reference=True)
    alpha = System.objects.create(name="alpha", title="Alpha", kind="llm")
    beta = System.objects.create(name="beta", title="Beta", kind="llm")
    classifier = Classifier.objects.create(
        name="program", revision="golden-1", labels=list(GO_EMOTIONS), settings={"temperature": {}}, is_default=True
    )
    systems = {"reference": reference, "alpha": alpha, "beta": beta}
    for dataset, dialogue, position, *labels in LABELLED:
        home, _ = Dialogue.objects.get_or_create(dataset=datasets[dataset], source_id=dialogue, split="test")
        turn = _turn(home, position, words)
        predict(classifier, turn.user_utterance.text, labels[0])
        for name, label in zip(systems, labels[1:], strict=True):
            if label:
                said = text(f"{name} says {dialogue}/{position} {words}")
                Response.objects.create(
                    turn=turn, system=systems[name], text=said, shown=said.content, raw=said.content
                )
                predict(classifier, said, label)
    campaign, people = _campaign(datasets, systems, classifier)
    return Corpus(tuple(datasets.values()), (alpha, beta), classifier, campaign, people)


def _turn(dialogue: Dialogue, position: int, words: str) -> Turn:
    said = text(f"user says {dialogue.source_id}/{position} {words}")
    user = Utterance.objects.create(
        dialogue=dialogue, position=position - 1, role="user", text=said, shown=said.content, raw=said.content
    )
    answer = text(f"reference says {dialogue.source_id}/{position} {words}")
    Utterance.objects.create(
        dialogue=dialogue, position=position, role="recommender", text=answer, shown=answer.content, raw=answer.content
    )
    return Turn.objects.create(dialogue=dialogue, user_utterance=user, position=position)


def _campaign(
    datasets: dict[str, Dataset], systems: dict[str, System], classifier: Classifier
) -> tuple[Campaign, dict[str, User]]:
    campaign = Campaign.objects.create(
        name="pilot", title="Pilot", state="open", classifier=classifier, design={"kind": "simple", "size": 6}
    )
    campaign.datasets.set(datasets.values())
    campaign.systems.set([systems["alpha"], systems["beta"]])
    people = {name: User.objects.create(username=name) for name in ("ada", "bo", "cleo")}
    for name, person in people.items():
        role = "adjudicator" if name == "cleo" else "annotator"
        Membership.objects.create(user=person, campaign=campaign, role=role, pseudonym=f"r-{name[0]}000")
    for order, ((dialogue, position), given) in enumerate(GIVEN.items()):
        turn = Turn.objects.get(dialogue__source_id=dialogue, position=position)
        drawn = SampledTurn.objects.create(campaign=campaign, turn=turn, inclusion_probability=0.6, draw_order=order)
        for place, (who, labels) in enumerate(zip(["user", *systems], given, strict=True)):
            response = None if who == "user" else Response.objects.get(turn=turn, system=systems[who])
            kind = "user" if who == "user" else "response"
            item = Item.objects.create(
                campaign=campaign, kind=kind, sampled_turn=drawn, response=response, position=order * 10 + place
            )
            for number, (name, label) in enumerate(zip(("ada", "bo"), labels, strict=True)):
                if label:
                    answer(item, people[name], number, label=label)
            decision = ADJUDICATED.get((dialogue, position, who))
            if decision:
                Adjudication.objects.create(
                    item=item, adjudicator=people["cleo"], label=decision, received_at=START + timedelta(hours=2)
                )
        scores = RATED.get((dialogue, position))
        if scores:
            item = Item.objects.create(campaign=campaign, kind="rate", sampled_turn=drawn, position=order)
            responses = {name: Response.objects.get(turn=turn, system=systems[name]).pk for name in scores}
            ratings = {str(responses[name]): {"satisfaction": value} for name, value in scores.items()}
            answer(item, people["ada"], 0, ratings=ratings, order=[responses["beta"], responses["alpha"]])
    return campaign, people


def answer(
    item: Item,
    person: User,
    number: int,
    *,
    label: str = "",
    ratings: dict[str, dict[str, int]] | None = None,
    order: list[int] | None = None,
    arm: str = "",
    received_at: datetime | None = None,
    **more: object,
) -> Judgment:
    slot, _ = Slot.objects.get_or_create(
        item=item,
        number=number,
        defaults={
            "campaign": item.campaign,
            "task": "rate" if item.kind == "rate" else "verify",
            "position": item.position,
            "state": "done",
            "annotator": person,
            "arm": arm,
            "response_order": order or [],
        },
    )
    moment = received_at or START + timedelta(minutes=item.position, seconds=number)
    return Judgment.objects.create(
        id=uuid.uuid5(uuid.NAMESPACE_OID, f"{item.pk}-{number}-{label}-{moment}"),
        item=item,
        slot=slot,
        annotator=person,
        action="rate" if ratings else "label",
        label=label,
        ratings=ratings or {},
        received_at=moment,
        answered_at=moment,
        active_ms=3000,
        device="desktop",
        **more,
    )
