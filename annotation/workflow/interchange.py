"""Labels for Label Studio (JSON) and doccano (JSON lines), with annotator, pre-label and result.

One Label Studio task per labelled item and per rated response, with all its annotations; one doccano line per item and
annotator. `label_intake` takes them back. What neither program can hold is listed in `LOST`, which the codebook prints.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

from django.utils import timezone

from annotation.corpora.labels import PSEUDONYM_DOMAIN
from annotation.models import Campaign, Item, Judgment, Response
from annotation.workflow import frames
from annotation.workflow.exports import stamp
from evaluation.emotions import EMOTIONS

BATCH = 500
LOST = (
    "Label Studio: inclusion probability and stratum, and of each annotation its arm and guideline version, are kept "
    "in the task's data under `attune`, where it carries but does not use them; skips leave as cancelled ones and "
    "are not taken in; corrected (superseded) answers and answers set aside are not exported; active time is "
    "`lead_time` in seconds.",
    "doccano: a line is one annotator's label of one text; times, pre-label, arm and keys travel as metadata columns; "
    "doccano itself drops the annotator when several people work in one project, so the metadata column `annotator` is "
    "the one that comes back. Ratings, skips, corrections and answers set aside have no place there.",
    "Both: adjudications are exported with the annotator `adjudicator` in Label Studio's `ground_truth` field only.",
)

_ANSWER_COLUMNS = {
    "id": "id",
    "item": "item_id",
    "annotator": "annotator_id",
    "slot": "slot_id",
    "action": "action",
    "label": "label",
    "ratings": "ratings",
    "reason": "reason",
    "comment": "comment",
    "flagged": "flagged",
    "prelabel": "slot__prelabel",
    "arm": "slot__arm",
    "received_at": "received_at",
    "active_ms": "active_ms",
    "guideline": "guideline__version",
}


def _items_with_answers(campaign: Campaign, kinds: tuple[str, ...]) -> Iterator[tuple[Item, list[dict[str, Any]]]]:
    """Items that have a standing answer, with those answers; a few hundred at a time."""
    standing = Judgment.objects.filter(item__campaign=campaign, set_aside=False, superseded__isnull=True)
    wanted = standing.filter(item__kind__in=kinds).order_by("item_id").values_list("item_id", flat=True).distinct()
    names = frames.pseudonyms(campaign)
    part: list[int] = []

    def load(keys: list[int]) -> Iterator[tuple[Item, list[dict[str, Any]]]]:
        answers: dict[int, list[dict[str, Any]]] = {}
        rows = standing.filter(item__in=keys).order_by("received_at", "id").values(*_ANSWER_COLUMNS.values())
        back = {orm: name for name, orm in _ANSWER_COLUMNS.items()}
        for row in rows:
            answer = {back[orm]: value for orm, value in row.items()}
            person = answer["annotator"]
            answer["annotator"] = (
                f"withdrawn-{answer['slot']}"
                if person is None
                else names.get(person) or frames.stand_in(campaign, person)
            )
            answers.setdefault(answer["item"], []).append(answer)
        items = (
            Item.objects.filter(pk__in=keys)
            .order_by("pk")
            .select_related(
                "sampled_turn__turn__dialogue__dataset", "sampled_turn__turn__user_utterance", "response__system"
            )
        )
        for item in items:
            yield item, answers.get(item.pk, [])

    for key in wanted.iterator(chunk_size=BATCH):
        part.append(key)
        if len(part) == BATCH:
            yield from load(part)
            part = []
    if part:
        yield from load(part)


def _keys(item: Item) -> dict[str, Any]:
    assert item.sampled_turn is not None
    turn = item.sampled_turn.turn
    return {
        "campaign": item.campaign_id,
        "item": item.pk,
        "kind": item.kind,
        "dataset": turn.dialogue.dataset.name,
        "dialogue": turn.dialogue.source_id,
        "turn": turn.position,
        "system": item.response.system.name if item.response else None,
        "inclusion_probability": item.sampled_turn.inclusion_probability,
        "stratum": item.sampled_turn.stratum,
    }


def _text_of(item: Item) -> str:
    assert item.sampled_turn is not None
    return item.response.shown if item.response else item.sampled_turn.turn.user_utterance.shown


def label_studio_tasks(campaign: Campaign, *, as_of: datetime | None = None) -> Iterator[dict[str, Any]]:
    """One Label Studio task per verified text, and per rated response, with every standing annotation."""
    decided = frames.standing_adjudications(campaign, as_of or timezone.now())
    for item, answers in _items_with_answers(campaign, ("user", "response")):
        prelabels = {answer["prelabel"] for answer in answers if answer["prelabel"]}
        annotations = [_annotation(answer) for answer in answers]
        if item.pk in decided:
            annotations.append(
                {
                    "completed_by": {"email": f"adjudicator@{PSEUDONYM_DOMAIN}"},
                    "ground_truth": True,
                    "was_cancelled": False,
                    "result": [_choice(decided[item.pk])],
                }
            )
        yield {
            "id": item.pk,
            "data": {
                "text": _text_of(item),
                "attune": {**_keys(item), "answers": _about({str(answer["id"]): answer for answer in answers})},
            },
            "annotations": annotations,
            "predictions": [
                {"model_version": str(campaign.classifier or ""), "result": [_choice(label)]}
                for label in sorted(prelabels)
            ],
        }
    yield from _rating_tasks(campaign)


def _about(answers: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """What Label Studio's annotations have no place for, by the annotation's key; it carries a task's data as it is."""
    return {
        key: {
            "judgment": str(answer["id"]),
            "arm": answer["arm"],
            "guideline": answer["guideline"],
            "skip_reason": answer["reason"],
        }
        for key, answer in answers.items()
    }


def _annotation(answer: Mapping[str, Any]) -> dict[str, Any]:
    annotation: dict[str, Any] = {
        "unique_id": str(answer["id"]),
        "completed_by": {"email": f"{answer['annotator']}@{PSEUDONYM_DOMAIN}"},
        "created_at": stamp(answer["received_at"]),
        "was_cancelled": answer["action"] == Judgment.SKIP,
        "lead_time": None if answer["active_ms"] is None else answer["active_ms"] / 1000,
        "result": [_choice(answer["label"])] if answer["action"] == Judgment.LABEL else [],
    }
    if answer["comment"]:
        annotation["result"].append(
            {"from_name": "comment", "to_name": "text", "type": "textarea", "value": {"text": [answer["comment"]]}}
        )
    return annotation


def _choice(label: str) -> dict[str, Any]:
    return {"from_name": "emotion", "to_name": "text", "type": "choices", "value": {"choices": [label]}}


def _rating_tasks(campaign: Campaign) -> Iterator[dict[str, Any]]:
    """One task per rated response. An answer rates several, but no two annotations may share a key."""
    for item, answers in _items_with_answers(campaign, ("rate",)):
        rated = sorted({int(key) for answer in answers for key in answer["ratings"]})
        responses = Response.objects.filter(pk__in=rated).select_related("system").order_by("pk")
        for response in responses:
            own = {
                str(uuid.uuid5(answer["id"], str(response.pk))): answer
                for answer in answers
                if str(response.pk) in answer["ratings"]
            }
            yield {
                "id": f"{item.pk}-{response.pk}",
                "data": {
                    "text": response.shown,
                    "attune": {**_keys(item), "system": response.system.name, "answers": _about(own)},
                },
                "annotations": [
                    {
                        **_annotation(answer),
                        "unique_id": key,
                        "result": _stars(answer["ratings"][str(response.pk)]),
                    }
                    for key, answer in own.items()
                ],
                "predictions": [],
            }


def _stars(given: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [
        {"from_name": scale, "to_name": "text", "type": "rating", "value": {"rating": value}}
        for scale, value in sorted(given.items())
    ]


def label_studio_json(campaign: Campaign) -> Iterator[str]:
    """A Label Studio import file, streamed: a JSON list of tasks."""
    yield "[\n"
    for number, task in enumerate(label_studio_tasks(campaign)):
        yield (",\n" if number else "") + json.dumps(task, ensure_ascii=False)
    yield "\n]\n"


def label_studio_config(campaign: Campaign) -> str:
    """The labelling interface that shows these tasks in Label Studio."""
    choices = "".join(f'<Choice value="{emotion}"/>' for emotion in EMOTIONS)
    scales = "".join(
        f'<Rating name="{scale["name"]}" toName="text" maxRating="{scale.get("points", 5)}"/>'
        for scale in campaign.scales
        if str(scale.get("name", "")).replace("_", "").isalnum()
    )
    return (
        f'<View><Text name="text" value="$text"/><Choices name="emotion" toName="text" choice="single">{choices}'
        f'</Choices>{scales}<TextArea name="comment" toName="text"/></View>\n'
    )


def doccano_lines(campaign: Campaign) -> Iterator[str]:
    """A doccano import file (text classification, JSONL), streamed: one line per item and annotator."""
    for item, answers in _items_with_answers(campaign, ("user", "response")):
        for answer in answers:
            if answer["action"] != Judgment.LABEL:
                continue
            line = {
                "text": _text_of(item),
                "label": [answer["label"]],
                "annotator": answer["annotator"],
                "prelabel": answer["prelabel"],
                "arm": answer["arm"],
                "judgment": str(answer["id"]),
                "received_at": stamp(answer["received_at"]),
                "active_ms": answer["active_ms"],
                "Comments": [answer["comment"]] if answer["comment"] else [],
                **_keys(item),
            }
            yield json.dumps(line, ensure_ascii=False) + "\n"


def codebook() -> str:
    """What the two formats cannot say, in Markdown."""
    return "\n".join(["# Interchange with Label Studio and doccano", "", *(f"- {line}" for line in LOST), ""])
