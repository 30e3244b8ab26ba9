"""Take labels and ratings that people gave elsewhere into a campaign.

They become judgments of raters that exist only here: pseudonym `i-…`, no password, no way in, device `imported`. So an
imported answer is never credited to a person of the house, and every export tells the two apart. A row finds its
question by the keys our own exports write, else by its words where only one question of the campaign has them. The same
file twice changes nothing, and no question gets more answers than the campaign asks for: a further one is set aside.
"""

from __future__ import annotations

import hashlib
import re
import uuid
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, TypeVar

from django.db import transaction
from django.db.models import F
from django.utils import timezone

from annotation.corpora.dialogue import BadRow
from annotation.corpora.labels import Given, LabelColumns, LabelFile, LabelFormat, open_labels
from annotation.models import Campaign, Item, Judgment, Membership, Response, Role, Slot, Task, User
from annotation.workflow.import_report import ImportReport
from annotation.workflow.intake import OnBadRow, Progress, run_import
from annotation.workflow.verification import settle
from annotation.workflow.writers import writers_turn
from evaluation.emotions import EMOTIONS

IMPORTED: Final = "imported"
"""The device of a judgment that was given elsewhere."""

_BATCH: Final = 500
_OURS: Final = re.compile(r"^[ri]-([0-9a-f]{4,16})$")


def import_labels(
    path: Path | str,
    *,
    campaign: Campaign,
    format: LabelFormat = "auto",
    columns: LabelColumns | None = None,
    on_bad_row: OnBadRow = "skip",
    progress: Progress | None = None,
) -> ImportReport:
    """Import the labels and ratings of a file into a campaign that has been opened.

    Raises
    ------
    CorpusError
        The file cannot be used at all; nothing was imported.
    """

    def run(file: LabelFile, report: ImportReport, write: bool) -> None:
        taking = _Taking(campaign, report, write)
        for row in file.rows:
            report.rows += 1
            if isinstance(row, BadRow):
                report.problem(row.file, row.line, row.reason)
            else:
                taking.take(row)
            if progress is not None and report.rows % _BATCH == 0:
                progress(report.rows)
        taking.take_ratings()

    return run_import("labels", lambda: open_labels(path, format, columns=columns), run, on_bad_row=on_bad_row)


@dataclass(slots=True)
class _Rated:
    """The ratings one rater gave to the responses of one turn: one answer, however many rows tell it."""

    first: Given
    ratings: dict[str, dict[str, int]] = field(default_factory=dict)
    rows: int = 0


class _Taking:
    """One pass over a file. A rehearsal (`write` off) checks every row and stores none."""

    def __init__(self, campaign: Campaign, report: ImportReport, write: bool) -> None:
        self.campaign, self.report, self.write = campaign, report, write
        self.places = _Places(campaign)
        self.raters = _Raters(campaign)
        self.points = {str(scale["name"]): int(str(scale["points"])) for scale in campaign.scales}
        self.rated: dict[tuple[int, str], _Rated] = {}

    def take(self, row: Given) -> None:
        problem = self._label(row) if row.label else self._collect(row)
        if problem:
            self.report.problem(row.file, row.line, problem)

    def _label(self, row: Given) -> str:
        if row.label not in EMOTIONS:
            return f"{row.label[:40]!r} is not one of the labels ({', '.join(EMOTIONS)})"
        item = self.places.verified(row)
        if isinstance(item, str):
            return item
        own = f"{self.campaign.pk}:{item}:{row.annotator}:{row.label}:{row.given_at}"
        self._store(item, row, self._key(row, own), label=row.label)
        return ""

    def _collect(self, row: Given) -> str:
        for scale, value in row.ratings.items():
            if scale not in self.points:
                return f"the campaign has no scale {scale[:40]!r} (it has {', '.join(self.points) or 'none'})"
            if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= self.points[scale]:
                return f"{scale} is {str(value)[:40]!r}, expected a whole number from 1 to {self.points[scale]}"
        place = self.places.rated(row)
        if isinstance(place, str):
            return place
        item, response = place
        answer = self.rated.setdefault((item, row.annotator), _Rated(row))
        scales = answer.ratings.setdefault(str(response), {})
        for scale, value in row.ratings.items():
            if scales.setdefault(scale, value) != value:
                return f"{row.annotator[:40]} has rated this response on {scale} before, with another value"
        answer.rows += 1
        return ""

    def take_ratings(self) -> None:
        """Store what the rows told of each rater and turn as one answer."""
        for (item, _), answer in self.rated.items():
            row = answer.first
            own = f"{self.campaign.pk}:{item}:{row.annotator}:rate"
            self._store(item, row, self._key(row, own), ratings=answer.ratings, rows=answer.rows)

    def _key(self, row: Given, own: str) -> uuid.UUID:
        """The answer's own key where it has one that no other campaign uses, else one made of its content."""
        try:
            given = uuid.UUID(row.judgment)
        except ValueError:
            return uuid.uuid5(uuid.NAMESPACE_OID, own)
        elsewhere = Judgment.objects.filter(pk=given).exclude(item__campaign=self.campaign).exists()
        return uuid.uuid5(uuid.NAMESPACE_OID, own) if elsewhere else given

    def _store(
        self,
        item: int,
        row: Given,
        key: uuid.UUID,
        *,
        label: str = "",
        ratings: Mapping[str, Mapping[str, int]] | None = None,
        rows: int = 1,
    ) -> None:
        known = Judgment.objects.filter(pk=key).first()
        if known is not None:
            if (known.item_id, known.label, known.ratings) == (item, label, ratings or {}):
                self.report.unchanged += rows
            else:
                reason = "this answer is known with another content; corrections are made here, not by import"
                self.report.problem(row.file, row.line, reason, conflict=True)
            return
        self.report.kept += rows
        if not self.write:
            return
        with writers_turn(), transaction.atomic():
            person = self.raters.get(row.annotator)
            slot = self._claim(item, person, row, Task.RATE if ratings else Task.VERIFY)
            Judgment.objects.create(
                id=key,
                item_id=item,
                slot=slot,
                annotator=person,
                action=Judgment.RATE if ratings else Judgment.LABEL,
                label=label,
                ratings=ratings or {},
                comment=row.comment,
                active_ms=row.active_ms,
                received_at=_moment(row.given_at),
                set_aside=slot is None,
                prelabel_outcome=_outcome(slot, label),
                device=IMPORTED,
            )
            if slot is not None:
                settle(self.campaign, slot)
        self.report.created["set aside" if slot is None else "ratings" if ratings else "labels"] += 1

    def _claim(self, item: int, person: User, row: Given, task: Task) -> Slot | None:
        """Take a free slot of the item; `None` when it has its answers, or has one of this rater already."""
        if Slot.objects.filter(item=item, annotator=person).exists():
            return None
        for slot in Slot.objects.filter(item=item, state=Slot.FREE).order_by("number"):
            taken = Slot.objects.filter(pk=slot.pk, state=Slot.FREE).update(
                state=Slot.DONE,
                annotator=person,
                arm=row.arm,
                prelabel=row.prelabel if row.prelabel in EMOTIONS else "",
                leased_until=None,
            )
            if taken:
                done = {f"{task}_done": F(f"{task}_done") + 1}
                Campaign.objects.filter(pk=self.campaign.pk).update(**done)
                Membership.objects.filter(campaign=self.campaign, user=person, role=Role.ANNOTATOR).update(**done)
                return Slot.objects.get(pk=slot.pk)
        return None


class _Places:
    """Finds the question of a row: by its place in the corpus, by key if it is this campaign's, else by its words."""

    def __init__(self, campaign: Campaign) -> None:
        self.campaign = campaign
        self.by_key: set[int] = set()
        self.by_place: dict[tuple[Any, ...], list[int]] = defaultdict(list)
        self.by_text: dict[str, list[int]] = defaultdict(list)
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
        for key, kind, dataset, dialogue, turn, system, said, answered in rows.iterator(chunk_size=_BATCH):
            self.by_key.add(key)
            for home in (dataset, None):
                self.by_place[kind, home, dialogue, turn, system].append(key)
            self.by_text[(answered if kind == "response" else said).strip()].append(key)
        self.to_rate: dict[tuple[Any, ...], list[tuple[int, int]]] = defaultdict(list)
        self.rated_text: dict[str, list[tuple[int, int]]] = defaultdict(list)
        turns = dict(
            Item.objects.filter(campaign=campaign, kind="rate").values_list("sampled_turn__turn_id", "id").iterator()
        )
        answers = Response.objects.filter(turn__in=Item.objects.filter(campaign=campaign, kind="rate").values(
            "sampled_turn__turn_id"
        )).values_list("id", "turn_id", "turn__dialogue__dataset__name", "turn__dialogue__source_id",
                       "turn__position", "system__name", "shown")  # fmt: skip
        for response, turn_id, dataset, dialogue, turn, system, shown in answers.iterator(chunk_size=_BATCH):
            for home in (dataset, None):
                self.to_rate[home, dialogue, turn, system].append((turns[turn_id], response))
            self.rated_text[shown.strip()].append((turns[turn_id], response))

    def verified(self, row: Given) -> int | str:
        """The item whose words were labelled, or why there is none."""
        keys = _plain(row.keys)
        kind, system = keys.get("kind"), keys.get("system")
        # Our tables call the human reply's words a reference; the item is one of kind response.
        kind = "response" if kind == "reference" or (kind is None and system) else kind or "user"
        place = (kind, keys.get("dataset"), keys.get("dialogue"), keys.get("turn"), system)
        found = self.by_place.get(place, [])
        if not found and keys.get("campaign") == self.campaign.pk and keys.get("item") in self.by_key:
            return int(keys["item"])
        return _only(found or self.by_text.get(row.text.strip(), []), "question")

    def rated(self, row: Given) -> tuple[int, int] | str:
        """The item and the response that were rated, or why there is none."""
        keys = _plain(row.keys)
        place = (keys.get("dataset"), keys.get("dialogue"), keys.get("turn"), keys.get("system"))
        found = self.to_rate.get(place, [])
        return _only(found or self.rated_text.get(row.text.strip(), []), "rated response")


def _plain(keys: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in keys.items() if isinstance(value, str | int)}


Place = TypeVar("Place")


def _only(found: list[Place], what: str) -> Place | str:
    if len(found) == 1:
        return found[0]
    if not found:
        return f"no {what} of this campaign has these keys or these words"
    return f"{len(found)} places of this campaign fit, and nothing in the row tells them apart"


class _Raters:
    """The raters that imported answers are credited to. The digest makes them findable again, and nobody else's."""

    def __init__(self, campaign: Campaign) -> None:
        self.campaign = campaign
        self.known: dict[str, User] = {}

    def get(self, name: str) -> User:
        if name not in self.known:
            self.known[name] = self._member(name)
        return self.known[name]

    def _member(self, name: str) -> User:
        digest = hashlib.sha256(f"{self.campaign.secret}:{name}".encode()).hexdigest()
        user, created = User.objects.get_or_create(username=f"imported-{digest[:24]}", defaults={"is_active": False})
        if created:
            user.set_unusable_password()
            user.save(update_fields=["password"])
        # A pseudonym stays recognisable; any other name may be a person's, so only its digest is kept.
        ours = _OURS.match(name)
        pseudonym = f"i-{ours[1]}" if ours else f"i-{digest[:8]}"
        others = Membership.objects.filter(campaign=self.campaign, role=Role.ANNOTATOR).exclude(user=user)
        if others.filter(pseudonym=pseudonym).exists():
            pseudonym = f"i-{digest[:16]}"
        Membership.objects.get_or_create(
            user=user,
            campaign=self.campaign,
            role=Role.ANNOTATOR,
            defaults={"pseudonym": pseudonym, "active": False},
        )
        return user


def _outcome(slot: Slot | None, label: str) -> str:
    if slot is None or not label:
        return ""
    if slot.arm != "shown" or not slot.prelabel:
        return "not_shown"
    return "agreed" if label == slot.prelabel else "corrected"


def _moment(text: str) -> datetime:
    """When the answer was given, never later than now: a report looks back from a moment."""
    now = timezone.now()
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return now
    return min(moment if moment.tzinfo else moment.replace(tzinfo=UTC), now)
