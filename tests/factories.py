"""What tests build their worlds from: one small cast, a small corpus, a classifier that counts words.

Every label made here is made by a program.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import Any

import factory
import numpy as np
from factory.django import DjangoModelFactory

from annotation.corpora.dialogue import text_digest
from annotation.models import (
    Campaign,
    Classifier,
    Dataset,
    Dialogue,
    GoldQuestion,
    Guideline,
    Membership,
    Prediction,
    Response,
    Role,
    Slot,
    System,
    Task,
    Text,
    Turn,
    User,
    Utterance,
)
from annotation.workflow.presentation import response_veil, slot_veil
from evaluation.emotions import GO_EMOTIONS

PASSWORD = "a long enough password"

WORDS = {
    "love": "joy",
    "great": "joy",
    "happy": "joy",
    "sad": "sadness",
    "cried": "sadness",
    "hate": "anger",
    "annoying": "anger",
    "scared": "fear",
    "wow": "surprise",
    "gross": "disgust",
}


class UserFactory(DjangoModelFactory[User]):
    class Meta:
        model = User
        skip_postgeneration_save = True

    username = factory.Sequence(lambda n: f"person{n}")
    password = factory.django.Password(PASSWORD)


class DatasetFactory(DjangoModelFactory[Dataset]):
    class Meta:
        model = Dataset
        django_get_or_create = ("name",)

    name = "redial"


class DialogueFactory(DjangoModelFactory[Dialogue]):
    class Meta:
        model = Dialogue

    dataset = factory.SubFactory(DatasetFactory)
    source_id = factory.Sequence(str)


class SystemFactory(DjangoModelFactory[System]):
    class Meta:
        model = System
        django_get_or_create = ("name",)

    name = factory.Sequence(lambda n: f"system-{n}")


class ClassifierFactory(DjangoModelFactory[Classifier]):
    class Meta:
        model = Classifier
        django_get_or_create = ("name", "revision")

    name = "lexicon"
    revision = "1"
    labels = list(GO_EMOTIONS)


class CampaignFactory(DjangoModelFactory[Campaign]):
    class Meta:
        model = Campaign

    name = factory.Sequence(lambda n: f"campaign-{n}")
    title = factory.LazyAttribute(lambda campaign: campaign.name.capitalize())
    separate_raters = False


class MembershipFactory(DjangoModelFactory[Membership]):
    class Meta:
        model = Membership

    user = factory.SubFactory(UserFactory)
    campaign = factory.SubFactory(CampaignFactory)
    role = Role.ANNOTATOR


class GuidelineFactory(DjangoModelFactory[Guideline]):
    class Meta:
        model = Guideline

    campaign = factory.SubFactory(CampaignFactory)
    version = 1
    markdown = "# What to label\n\nWhat the speaker *expresses*."


class GoldQuestionFactory(DjangoModelFactory[GoldQuestion]):
    class Meta:
        model = GoldQuestion

    campaign = factory.SubFactory(CampaignFactory)
    use = "gold"
    text = factory.Sequence(lambda n: f"I was so happy about it, really {n}")
    label = "joy"
    explanation = "Evident enthusiasm is joy."


def text_of(content: str) -> Text:
    """The row of a text, made once."""
    return Text.objects.get_or_create(digest=text_digest(content), defaults={"content": content})[0]


def probabilities_of(content: str) -> bytes:
    """28 probabilities by a lexicon of ten words: 0.8 for the emotion of the first known word, else for neutral."""
    known = [WORDS[word] for word in content.lower().replace(",", " ").split() if word in WORDS]
    values = np.full(len(GO_EMOTIONS), 0.2 / (len(GO_EMOTIONS) - 1))
    values[GO_EMOTIONS.index(known[0] if known else "neutral")] = 0.8
    return values.astype(np.float16).tobytes()


def predict_all(classifier: Classifier) -> None:
    """Give every text its prediction by the lexicon."""
    Prediction.objects.bulk_create(
        [
            Prediction(classifier=classifier, text=text, probabilities=probabilities_of(text.content))
            for text in Text.objects.exclude(predictions__classifier=classifier)
        ]
    )


def converse(dataset: Dataset, said: Sequence[str], answers: dict[System, Sequence[str]]) -> Dialogue:
    """Make a dialogue in which user and recommender take turns, the user first.

    The recommender's utterances are the responses of the reference system; `answers` gives those of each other system,
    one per turn. A last user utterance without an answer makes no turn.
    """
    dialogue = DialogueFactory.create(dataset=dataset)
    utterances = [
        Utterance.objects.create(
            dialogue=dialogue,
            position=place,
            role="user" if place % 2 == 0 else "recommender",
            text=text_of(words),
            shown=words,
            raw=words,
        )
        for place, words in enumerate(said)
    ]
    reference = SystemFactory.create(name="reference", kind="human", is_reference=True)
    for number, place in enumerate(range(0, len(said) - 1, 2)):
        turn = Turn.objects.create(dialogue=dialogue, user_utterance=utterances[place], position=place + 1)
        spoken = {reference: said[place + 1]} | {
            system: given[number] for system, given in answers.items() if number < len(given)
        }
        for system, words in spoken.items():
            Response.objects.create(turn=turn, system=system, text=text_of(words), shown=words, raw=words)
    return dialogue


def make_corpus(dialogues: int = 8, *, dataset: str = "redial", systems: Sequence[str] = ("alpha", "beta")) -> Dataset:
    """A corpus of `dialogues` short dialogues with two turns each; every system answers every turn."""
    found = DatasetFactory.create(name=dataset)
    answering = [SystemFactory.create(name=name) for name in systems]
    feelings = ["I love comedies", "I was so sad", "I hate sequels", "Wow, really", "something please", "I was scared"]
    for number in range(dialogues):
        feeling = feelings[number % len(feelings)]
        said = [
            f"{feeling}, said user {number} of {dataset}",
            f"Have you seen film {number} of {dataset}?",
            f"Not yet, is film {number} great?",
            f"It is, enjoy film {number} of {dataset}.",
            f"thanks, bye from dialogue {number}",
        ]
        answers = {
            system: [f"Proposal {place}.{number}: a great pick", f"Proposal {place}.{number}: a sad one"]
            for place, system in enumerate(answering)
        }
        converse(found, said, answers)
    return found


def make_campaign(
    name: str = "emotions", *, corpus: Dataset, systems: Sequence[str] = ("alpha", "beta"), **kwargs: Any
) -> Campaign:
    """A draft campaign over the corpus, with a guideline and the lexicon's predictions."""
    classifier = ClassifierFactory.create()
    predict_all(classifier)
    campaign = CampaignFactory.create(name=name, classifier=classifier, **kwargs)
    campaign.datasets.add(corpus)
    campaign.systems.set(System.objects.filter(name__in=systems))
    GuidelineFactory.create(campaign=campaign)
    return campaign


def answer_to(campaign: Campaign, user: User, slot: Slot, /, **given: Any) -> dict[str, Any]:
    """An answer as a browser sends it: a label, or full marks on every scale; `given` replaces or adds fields."""
    if slot.task == Task.RATE:
        veil = response_veil(campaign, user, slot.pk)
        scales = {scale["name"]: scale["points"] for scale in campaign.scales}
        said: dict[str, Any] = {
            "action": "rate",
            "ratings": {str(veil.veil(pk)): dict(scales) for pk in slot.response_order},
        }
    else:
        said = {"action": "label", "label": "joy"}
    said |= {"id": str(uuid.uuid4()), "slot": slot_veil(campaign, user).veil(slot.pk)}
    return said | {"active_ms": 1500, "device": "desktop", "guideline_version": 1} | given
