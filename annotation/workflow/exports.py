"""What leaves the product: tidy judgments and ratings, verified labels, agreement statistics, each with its codebook.

Everything streams: generators of lines, a few thousand rows of the database at a time, so an export of any size starts
at once and needs no more memory than a small one. People appear under their campaign pseudonym. Text stays text: what a
spreadsheet would take for a formula gets an apostrophe, and the names of files never come from data.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from django.db.models import QuerySet
from django.utils import timezone

from annotation.models import Campaign, Item, Judgment, Response
from annotation.workflow import frames
from evaluation.rendering.sheets import csv_lines

Format = Literal["csv", "jsonl"]
BATCH = 2000


@dataclass(frozen=True, slots=True)
class Field:
    """A column of an export: its name and what it means."""

    name: str
    meaning: str


JUDGMENTS = (
    Field("judgment", "Key of the answer (UUID)."),
    Field("item", "Key of the question; answers to one question share it."),
    Field("kind", "user, response or reference: whose words were labelled; rate: responses rated; gold: known answer."),
    Field("dataset", "Name of the data set."),
    Field("dialogue", "Key of the dialogue in its source."),
    Field("turn", "Position of the response in the dialogue, merged turns counted from 0."),
    Field("system", "Source of the response; empty where the user's words were labelled."),
    Field("annotator", "Pseudonym, the same throughout the campaign; i-…: a rater who is known from a file only."),
    Field("action", "label, rate or skip."),
    Field("label", "The emotion given; empty unless action is label."),
    Field("ratings", "JSON: system, then scale, then points; empty unless action is rate."),
    Field("arm", "shown or hidden: whether the classifier's label could be seen; empty in a blind campaign."),
    Field("prelabel", "The classifier's label kept with the assignment."),
    Field("prelabel_outcome", "agreed, corrected or not_shown."),
    Field("gold_label", "The known answer of a gold question."),
    Field("inclusion_probability", "Of the turn in the campaign's sample."),
    Field("stratum", "Of the turn in the campaign's sample."),
    Field("skip_reason", "Why it was skipped."),
    Field("flagged", "Marked for the researcher."),
    Field("comment", "The annotator's words."),
    Field("standing", "true for the answer that counts: not corrected later and not set aside."),
    Field("supersedes", "Key of the earlier answer this one corrects."),
    Field("set_aside", "Came after its lease had gone to someone else; kept, used by no estimate."),
    Field("answered_at", "By the clock of the annotator's device, UTC."),
    Field("received_at", "By the server's clock, UTC."),
    Field("active_ms", "Milliseconds on the item without idle time."),
    Field("device", "desktop, tablet or phone; imported: given elsewhere and taken in from a file."),
    Field("guideline", "Version of the guidelines followed."),
)
RATINGS = (
    Field("judgment", "Key of the answer (UUID)."),
    Field("item", "Key of the question."),
    Field("dataset", "Name of the data set."),
    Field("dialogue", "Key of the dialogue in its source."),
    Field("turn", "Position of the response in the dialogue."),
    Field("system", "Source of the rated response."),
    Field("annotator", "Pseudonym, the same throughout the campaign."),
    Field("outcome", "The scale, such as personalization."),
    Field("value", "Points on that scale."),
    Field("position", "Place of the response among those shown together, from 1."),
    Field("received_at", "By the server's clock, UTC."),
    Field("active_ms", "Milliseconds on the item without idle time."),
)
LABELS = (
    Field("item", "Key of the question."),
    Field("kind", "user, response or reference: whose words were labelled."),
    Field("dataset", "Name of the data set."),
    Field("dialogue", "Key of the dialogue in its source."),
    Field("turn", "Position of the response in the dialogue."),
    Field("system", "Source of the response; empty for the user's words."),
    Field("text", "The words, as people read them."),
    Field(
        "verified_label", "Adjudicated, else the majority of at least two, else single where the campaign allows it."
    ),
    Field("decided_by", "adjudication, majority, single, or unresolved."),
    Field("labels", "How many labels were given."),
    Field("given", "The labels with their numbers."),
    Field("inclusion_probability", "Of the turn in the campaign's sample."),
    Field("stratum", "Of the turn in the campaign's sample."),
)

_COLUMNS = (
    "id",
    "item_id",
    "item__kind",
    "item__sampled_turn__turn__dialogue__dataset__name",
    "item__sampled_turn__turn__dialogue__source_id",
    "item__sampled_turn__turn__position",
    "item__response__system__name",
    "item__response__system__is_reference",
    "annotator_id",
    "slot_id",
    "action",
    "label",
    "ratings",
    "slot__arm",
    "slot__prelabel",
    "prelabel_outcome",
    "item__gold__label",
    "item__sampled_turn__inclusion_probability",
    "item__sampled_turn__stratum",
    "reason",
    "flagged",
    "comment",
    "superseded__received_at",
    "supersedes_id",
    "set_aside",
    "answered_at",
    "received_at",
    "active_ms",
    "device",
    "guideline__version",
    "slot__response_order",
)


def stamp(moment: datetime | None) -> str | None:
    """A moment in UTC, to the microsecond."""
    return moment.astimezone(UTC).strftime(frames.TIME) if moment else None


# --- tidy judgments and ratings --------------------------------------------------------------------------------------


def judgment_records(campaign: Campaign, *, as_of: datetime | None = None) -> Iterator[dict[str, Any]]:
    """Every answer of a campaign, one record each, as `JUDGMENTS` names them; corrected ones too, marked."""
    for row, systems, name in _answers(campaign, as_of=as_of):
        (key, item, kind, dataset, dialogue, turn, system, is_reference, _, _, action, label, ratings) = row[:13]
        by_system = {systems.get(response, response): given for response, given in ratings.items()}
        yield {
            "judgment": str(key),
            "item": item,
            "kind": "reference" if kind == "response" and is_reference else kind,
            "dataset": dataset,
            "dialogue": dialogue,
            "turn": turn,
            "system": system,
            "annotator": name,
            "action": action,
            "label": label or None,
            "ratings": json.dumps(by_system, sort_keys=True) if by_system else None,
            "arm": row[13] or None,
            "prelabel": row[14] or None,
            "prelabel_outcome": row[15] or None,
            "gold_label": row[16],
            "inclusion_probability": row[17],
            "stratum": row[18] or None,
            "skip_reason": row[19] or None,
            "flagged": row[20],
            "comment": row[21] or None,
            "standing": not row[24] and (row[22] is None or (as_of is not None and row[22] > as_of)),
            "supersedes": str(row[23]) if row[23] else None,
            "set_aside": row[24],
            "answered_at": stamp(row[25]),
            "received_at": stamp(row[26]),
            "active_ms": row[27],
            "device": row[28] or None,
            "guideline": row[29],
        }


def rating_records(campaign: Campaign, *, as_of: datetime | None = None) -> Iterator[dict[str, Any]]:
    """Every standing rating, one record per answer, response and scale, as `RATINGS` names them."""
    moment = as_of or timezone.now()
    only = Judgment.objects.filter(action=Judgment.RATE, set_aside=False).exclude(superseded__received_at__lte=moment)
    for row, systems, name in _answers(campaign, as_of=as_of, within=only):
        shown = {str(response): place for place, response in enumerate(row[30] or [], start=1)}
        for response, given in row[12].items():
            for outcome, value in given.items():
                yield {
                    "judgment": str(row[0]),
                    "item": row[1],
                    "dataset": row[3],
                    "dialogue": row[4],
                    "turn": row[5],
                    "system": systems.get(response),
                    "annotator": name,
                    "outcome": outcome,
                    "value": value,
                    "position": shown.get(str(response)),
                    "received_at": stamp(row[26]),
                    "active_ms": row[27],
                }


def _answers(
    campaign: Campaign, *, as_of: datetime | None, within: QuerySet[Judgment] | None = None
) -> Iterator[tuple[tuple[Any, ...], dict[str, str], str]]:
    """Each answer's columns, the systems of the responses it rates, and the annotator's pseudonym."""
    query = (Judgment.objects.all() if within is None else within).filter(item__campaign=campaign)
    if as_of is not None:
        query = query.filter(received_at__lte=as_of)
    names = frames.pseudonyms(campaign)
    rows = query.order_by("received_at", "id").values_list(*_COLUMNS).iterator(chunk_size=BATCH)
    for part in _parts(rows, BATCH):
        rated = {int(response) for row in part for response in row[12]}
        found = Response.objects.filter(pk__in=rated).values_list("id", "system__name") if rated else ()
        systems = {str(pk): system for pk, system in found}
        for row in part:
            person = row[8]
            name = f"withdrawn-{row[9]}" if person is None else names.get(person) or frames.stand_in(campaign, person)
            yield row, systems, name


def _parts(rows: Iterable[Any], size: int) -> Iterator[list[Any]]:
    part: list[Any] = []
    for row in rows:
        part.append(row)
        if len(part) == size:
            yield part
            part = []
    if part:
        yield part


# --- verified labels -------------------------------------------------------------------------------------------------


def label_records(campaign: Campaign, *, as_of: datetime | None = None) -> Iterator[dict[str, Any]]:
    """Every item with at least one label or a decision, as `LABELS` names them."""
    moment = as_of or timezone.now()
    answers = frames.judgment_rows(campaign, as_of=moment)
    given = answers[(answers["action"] == Judgment.LABEL) & (answers["kind"] != "gold")]
    selection = frames.Selection(datasets=(), systems=(), campaign=campaign, as_of=moment)
    verified = frames.verified_items(campaign, answers, selection).set_index("item")
    decided = frames.standing_adjudications(campaign, moment)
    counts: dict[int, dict[str, int]] = {}
    for item, label in zip(given["item"], given["label"], strict=True):
        named = counts.setdefault(int(item), {})
        named[label] = named.get(label, 0) + 1
    wanted = sorted({*counts, *decided})
    for part in _parts(wanted, 500):
        items = Item.objects.filter(pk__in=part).select_related(
            "sampled_turn__turn__dialogue__dataset", "sampled_turn__turn__user_utterance", "response__system"
        )
        for item in items.order_by("pk"):
            named = counts.get(item.pk, {})
            label = verified["label"].get(item.pk)
            yield _label_record(item, named, None if label is None else str(label), item.pk in decided)


def _label_record(item: Item, named: Mapping[str, int], label: str | None, decided: bool) -> dict[str, Any]:
    assert item.sampled_turn is not None
    turn = item.sampled_turn.turn
    response = item.response
    how = "adjudication" if decided else "unresolved" if label is None else "majority"
    if how == "majority" and sum(named.values()) == 1:
        how = "single"
    return {
        "item": item.pk,
        "kind": "reference" if response and response.system.is_reference else item.kind,
        "dataset": turn.dialogue.dataset.name,
        "dialogue": turn.dialogue.source_id,
        "turn": turn.position,
        "system": response.system.name if response else None,
        "text": response.shown if response else turn.user_utterance.shown,
        "verified_label": label,
        "decided_by": how,
        "labels": sum(named.values()),
        "given": "; ".join(f"{name}: {count}" for name, count in sorted(named.items())),
        "inclusion_probability": item.sampled_turn.inclusion_probability,
        "stratum": item.sampled_turn.stratum or None,
    }


# --- lines -----------------------------------------------------------------------------------------------------------

Records = Callable[..., Iterator[dict[str, Any]]]
TABLES: Mapping[str, tuple[Records, tuple[Field, ...]]] = {
    "judgments": (judgment_records, JUDGMENTS),
    "ratings": (rating_records, RATINGS),
    "labels": (label_records, LABELS),
}
"""What can be exported of a campaign, by name."""


def export_lines(
    campaign: Campaign, table: str, format: Format = "csv", *, as_of: datetime | None = None
) -> Iterator[str]:
    """Stream one of `TABLES` as CSV or JSON lines, ready for a streaming response.

    Raises `ValueError` for a table or format that does not exist, before the first line.
    """
    if table not in TABLES:
        raise ValueError(f"There is no export called {table!r}; the exports are: {', '.join(TABLES)}.")
    if format not in ("csv", "jsonl"):
        raise ValueError(f"There is no format called {format!r}; the formats are: csv, jsonl.")
    make, fields = TABLES[table]
    names = [field.name for field in fields]
    records = make(campaign, as_of=as_of)
    if format == "jsonl":
        return (json.dumps(record, ensure_ascii=False) + "\n" for record in records)
    return csv_lines(names, ([record[name] for name in names] for record in records))


def gathered(lines: Iterable[str], size: int = 64 * 1024) -> Iterator[bytes]:
    """Lines in pieces worth sending: a response of a hundred thousand tiny pieces is slow."""
    waiting: list[str] = []
    length = 0
    for line in lines:
        waiting.append(line)
        length += len(line)
        if length >= size:
            yield "".join(waiting).encode()
            waiting, length = [], 0
    if waiting:
        yield "".join(waiting).encode()


def codebook(tables: Sequence[str] = tuple(TABLES)) -> str:
    """What each column of each export means, in Markdown."""
    parts = ["# Codebook", "", CONVENTIONS, ""]
    for table in tables:
        _, fields = TABLES[table]
        parts += [f"## {table}.csv", "", "| column | meaning |", "| --- | --- |"]
        parts += [f"| `{field.name}` | {field.meaning} |" for field in fields] + [""]
    return "\n".join(parts)


CONVENTIONS = (
    "UTF-8, comma-separated, the first row names the columns, an empty cell is missing. Moments are UTC in ISO 8601. "
    "A text that begins with =, +, -, @, a tab or a line break has an apostrophe before it, so that no spreadsheet "
    "runs it. Annotators are pseudonyms that hold within one campaign."
)
