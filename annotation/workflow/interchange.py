"""Labels to and from Label Studio (JSON) and doccano (JSON lines), with annotator, pre-label and result.

Out: one Label Studio task per labelled item with all its annotations; one doccano line per item and annotator. In: a
row finds its item by the keys our own export writes, else by its text where that is unambiguous in the campaign. What
neither program can hold is listed in `LOST` and printed in the codebook.
"""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from django.db import transaction
from django.db.models import F
from django.utils import timezone

from annotation.models import Campaign, Item, Judgment, Membership, Response, Role, Slot, Task, User
from annotation.workflow import frames
from annotation.workflow.exports import stamp
from evaluation.emotions import EMOTIONS

BATCH = 500
DOMAIN = "pseudonym.invalid"
LOST = (
    "Label Studio: inclusion probability, stratum, arm and guideline version are kept in the task's data under "
    "`attune`, where Label Studio carries but does not use them; corrected (superseded) answers and answers set aside "
    "are not exported; active time is `lead_time` in seconds.",
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


class InterchangeError(ValueError):
    """A file cannot be read as what it should be; the message says where and what to do."""


@dataclass(frozen=True, slots=True)
class Foreign:
    """One label, as another program or our own export has it."""

    where: str
    annotator: str
    label: str
    text: str = ""
    item: int | None = None
    judgment: str = ""
    prelabel: str = ""
    comment: str = ""
    active_ms: int | None = None
    given_at: str = ""
    keys: Mapping[str, Any] = field(default_factory=dict)


@dataclass(slots=True)
class Outcome:
    """What became of an import's rows: every row is counted once, and what was not taken says why."""

    stored: int = 0
    duplicates: int = 0
    set_aside: int = 0
    problems: list[str] = field(default_factory=list)


# --- out -------------------------------------------------------------------------------------------------------------


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
                    "completed_by": {"email": f"adjudicator@{DOMAIN}"},
                    "ground_truth": True,
                    "was_cancelled": False,
                    "result": [_choice(decided[item.pk])],
                }
            )
        yield {
            "id": item.pk,
            "data": {"text": _text_of(item), "attune": _keys(item)},
            "annotations": annotations,
            "predictions": [
                {"model_version": str(campaign.classifier or ""), "result": [_choice(label)]}
                for label in sorted(prelabels)
            ],
        }
    yield from _rating_tasks(campaign)


def _annotation(answer: Mapping[str, Any]) -> dict[str, Any]:
    annotation: dict[str, Any] = {
        "unique_id": str(answer["id"]),
        "completed_by": {"email": f"{answer['annotator']}@{DOMAIN}"},
        "created_at": stamp(answer["received_at"]),
        "was_cancelled": answer["action"] == Judgment.SKIP,
        "lead_time": None if answer["active_ms"] is None else answer["active_ms"] / 1000,
        "result": [_choice(answer["label"])] if answer["action"] == Judgment.LABEL else [],
        "meta": {"arm": answer["arm"], "guideline": answer["guideline"], "reason": answer["reason"]},
    }
    if answer["comment"]:
        annotation["result"].append(
            {"from_name": "comment", "to_name": "text", "type": "textarea", "value": {"text": [answer["comment"]]}}
        )
    return annotation


def _choice(label: str) -> dict[str, Any]:
    return {"from_name": "emotion", "to_name": "text", "type": "choices", "value": {"choices": [label]}}


def _rating_tasks(campaign: Campaign) -> Iterator[dict[str, Any]]:
    for item, answers in _items_with_answers(campaign, ("rate",)):
        rated = sorted({int(key) for answer in answers for key in answer["ratings"]})
        responses = Response.objects.filter(pk__in=rated).select_related("system").order_by("pk")
        for response in responses:
            yield {
                "id": f"{item.pk}-{response.pk}",
                "data": {"text": response.shown, "attune": {**_keys(item), "system": response.system.name}},
                "annotations": [
                    {**_annotation(answer), "result": _stars(answer["ratings"].get(str(response.pk), {}))}
                    for answer in answers
                    if str(response.pk) in answer["ratings"]
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


# --- in --------------------------------------------------------------------------------------------------------------


def read_label_studio(text: str) -> Iterator[Foreign]:
    """Read a Label Studio export (JSON). One record per annotation that holds an emotion; skipped ones are left out.

    Raises
    ------
    InterchangeError
        When it is no JSON list of tasks; names the task.
    """
    try:
        tasks = json.loads(text)
    except json.JSONDecodeError as error:
        raise InterchangeError(f"This is not JSON (line {error.lineno}, column {error.colno}): {error.msg}.") from error
    if not isinstance(tasks, list):
        raise InterchangeError("A Label Studio export is a list of tasks; export as JSON, not as JSON-MIN.")
    for number, task in enumerate(tasks, start=1):
        where = f"task {number}"
        if not isinstance(task, dict) or not isinstance(task.get("data"), dict):
            raise InterchangeError(f"{where}: a task needs data and annotations.")
        data = task["data"]
        keys = data.get("attune") if isinstance(data.get("attune"), dict) else {}
        guesses = [_chosen(guess.get("result")) for guess in task.get("predictions") or [] if isinstance(guess, dict)]
        for given in task.get("annotations") or []:
            label = _chosen(given.get("result"))
            if given.get("was_cancelled") or given.get("ground_truth") or not label:
                continue
            seconds = given.get("lead_time")
            yield Foreign(
                where=where,
                annotator=_person(given.get("completed_by")),
                label=label,
                text=str(data.get("text", "")),
                item=_whole(keys.get("item")),
                judgment=str(given.get("unique_id") or ""),
                prelabel=next((guess for guess in guesses if guess), ""),
                comment=_written(given.get("result")),
                active_ms=round(seconds * 1000) if isinstance(seconds, int | float) else None,
                given_at=str(given.get("created_at") or ""),
                keys=keys,
            )


def _chosen(result: Any) -> str:
    for part in result or []:
        if isinstance(part, dict) and part.get("type") == "choices":
            choices = part.get("value", {}).get("choices") or [""]
            return str(choices[0]).strip().lower()
    return ""


def _written(result: Any) -> str:
    for part in result or []:
        if isinstance(part, dict) and part.get("type") == "textarea":
            text = part.get("value", {}).get("text") or ""
            return str(text[0] if isinstance(text, list) and text else text)
    return ""


def _person(completed_by: Any) -> str:
    if isinstance(completed_by, dict):
        completed_by = completed_by.get("email") or completed_by.get("id")
    return str(completed_by or "unknown").removesuffix(f"@{DOMAIN}")


def _whole(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def read_doccano(lines: Iterable[str]) -> Iterator[Foreign]:
    """Read a doccano export (JSONL), one record per label.

    Raises
    ------
    InterchangeError
        Naming the line that is no JSON object with text and label.
    """
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        where = f"line {number}"
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise InterchangeError(f"{where}: this is not JSON: {error.msg}.") from error
        if not isinstance(row, dict) or "text" not in row:
            raise InterchangeError(f"{where}: a doccano row needs text and label; export as JSONL.")
        labels = row.get("label", row.get("labels")) or []
        comments = row.get("Comments") or row.get("comments") or []
        for label in [labels] if isinstance(labels, str) else labels:
            yield Foreign(
                where=where,
                annotator=str(row.get("annotator") or row.get("username") or row.get("user") or "unknown"),
                label=str(label).strip().lower(),
                text=str(row["text"]),
                item=_whole(row.get("item")),
                judgment=str(row.get("judgment") or ""),
                prelabel=str(row.get("prelabel") or ""),
                comment=str(comments[0]) if comments and isinstance(comments[0], str) else "",
                active_ms=_whole(row.get("active_ms")),
                given_at=str(row.get("received_at") or ""),
                keys=row,
            )


def import_labels(campaign: Campaign, records: Iterable[Foreign]) -> Outcome:
    """Take labels into a campaign. The same file twice changes nothing; each row is stored, set aside or reported.

    An annotator the campaign does not know becomes a member without a password. Where an item already has its k
    answers, a further one is kept and set aside, as with a lapsed lease.
    """
    outcome = Outcome()
    places = _Places(campaign)
    people = _People(campaign)
    for record in records:
        if record.label not in EMOTIONS:
            outcome.problems.append(
                f"{record.where}: {record.label!r} is not one of the labels ({', '.join(EMOTIONS)})."
            )
            continue
        item = places.find(record)
        if isinstance(item, str):
            outcome.problems.append(f"{record.where}: {item}")
            continue
        _take(campaign, item, people.get(record.annotator), record, outcome)
    return outcome


class _Places:
    """Finds the item of a record: by key if it is this campaign's, by position, else by its text."""

    def __init__(self, campaign: Campaign) -> None:
        self.campaign = campaign
        self.by_key: dict[int, int] = {}
        self.by_place: dict[tuple[Any, ...], int] = {}
        self.by_text: dict[str, list[int]] = {}
        rows = Item.objects.filter(campaign=campaign, kind__in=["user", "response"]).values_list(
            "id",
            "kind",
            "sampled_turn__turn__dialogue__dataset__name",
            "sampled_turn__turn__dialogue__source_id",
            "sampled_turn__turn__position",
            "response__system__name",
            "sampled_turn__turn__user_utterance__shown",
            "response__shown",
        )
        for key, kind, dataset, dialogue, turn, system, said, answered in rows.iterator(chunk_size=BATCH):
            self.by_key[key] = key
            self.by_place[kind, dataset, dialogue, turn, system] = key
            self.by_text.setdefault((answered if kind == "response" else said).strip(), []).append(key)

    def find(self, record: Foreign) -> int | str:
        keys = record.keys
        place = (keys.get("kind"), keys.get("dataset"), keys.get("dialogue"), keys.get("turn"), keys.get("system"))
        try:
            if place in self.by_place:
                return self.by_place[place]
        except TypeError:
            return "its keys are no plain values."
        if record.item is not None and keys.get("campaign") == self.campaign.pk and record.item in self.by_key:
            return record.item
        found = self.by_text.get(record.text.strip(), [])
        if len(found) == 1:
            return found[0]
        if not found:
            return "no item of this campaign has these keys or this text."
        return f"{len(found)} items of this campaign have this text, and the row has no keys to tell them apart."


class _People:
    """The members that labels are credited to, by pseudonym; unknown ones are made."""

    def __init__(self, campaign: Campaign) -> None:
        self.campaign = campaign
        members = Membership.objects.filter(campaign=campaign, role=Role.ANNOTATOR).select_related("user")
        self.known = {member.pseudonym: member.user for member in members}

    def get(self, name: str) -> User:
        if name not in self.known:
            pseudonym = name if len(name) <= 24 and name.isprintable() else _short(name)
            user, created = User.objects.get_or_create(username=f"imported-{_short(f'{self.campaign.pk}:{name}')}")
            if created:
                user.is_active = False
                user.set_unusable_password()
                user.save()
            Membership.objects.get_or_create(
                user=user,
                campaign=self.campaign,
                role=Role.ANNOTATOR,
                defaults={"pseudonym": pseudonym, "active": False},
            )
            self.known[name] = user
        return self.known[name]


def _short(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()[:16]


def _take(campaign: Campaign, item: int, person: User, record: Foreign, outcome: Outcome) -> None:
    own = uuid.uuid5(uuid.NAMESPACE_OID, f"{campaign.pk}:{item}:{person.pk}:{record.label}:{record.given_at}")
    if _is_uuid(record.judgment):
        given = uuid.UUID(record.judgment)
        elsewhere = Judgment.objects.filter(pk=given).exclude(item__campaign=campaign).exists()
        key = own if elsewhere else given
    else:
        key = own
    with transaction.atomic():
        if Judgment.objects.filter(pk=key).exists():
            outcome.duplicates += 1
            return
        slot = _claim(campaign, item, person, record)
        Judgment.objects.create(
            id=key,
            item_id=item,
            slot=slot,
            annotator=person,
            action=Judgment.LABEL,
            label=record.label,
            comment=record.comment,
            active_ms=record.active_ms,
            received_at=_moment(record.given_at),
            set_aside=slot is None,
            device="imported",
        )
    if slot is None:
        outcome.set_aside += 1
    else:
        outcome.stored += 1


def _claim(campaign: Campaign, item: int, person: User, record: Foreign) -> Slot | None:
    """Take a free slot of the item for the person; `None` when it has its k answers or she has answered already."""
    if Slot.objects.filter(item=item, annotator=person).exists():
        return None
    arm = str(record.keys.get("arm") or "")
    for slot in Slot.objects.filter(item=item, state=Slot.FREE).order_by("number"):
        taken = Slot.objects.filter(pk=slot.pk, state=Slot.FREE).update(
            state=Slot.DONE,
            annotator=person,
            arm=arm if arm in ("shown", "hidden") else "",
            prelabel=record.prelabel if record.prelabel in EMOTIONS else "",
            leased_until=None,
        )
        if taken:
            Campaign.objects.filter(pk=campaign.pk).update(verify_done=F("verify_done") + 1)
            Membership.objects.filter(campaign=campaign, user=person, role=Role.ANNOTATOR).update(
                verify_done=F("verify_done") + 1
            )
            return Slot.objects.get(pk=slot.pk, task=Task.VERIFY)
    return None


def _is_uuid(text: str) -> bool:
    try:
        return bool(uuid.UUID(text))
    except ValueError:
        return False


def _moment(text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return timezone.now()
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def codebook() -> str:
    """What the two formats cannot say, in Markdown."""
    return "\n".join(["# Interchange with Label Studio and doccano", "", *(f"- {line}" for line in LOST), ""])
