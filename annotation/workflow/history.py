"""A person's own answers, newest first, as she saw the items when she gave them."""

from __future__ import annotations

import uuid
from datetime import datetime
from typing import Any, Final

from django.db.models import Q
from django.utils.dateparse import parse_datetime

from annotation.models import GOLD, Campaign, Judgment, Task, User
from annotation.workflow.presentation import present_answer, present_slots
from annotation.workflow.queue import load_slots

PAGE: Final = 20


def history_of(
    campaign: Campaign, user: User, task: str, *, cursor: str = ""
) -> tuple[list[dict[str, Any]], str | None]:
    """A page of standing answers and the cursor of the next page. A cursor that is none starts at the newest."""
    tasks = [Task.VERIFY, GOLD] if task == Task.VERIFY else [task]
    own = Judgment.objects.filter(annotator=user, slot__campaign=campaign, slot__task__in=tasks, superseded=None)
    before = _read(cursor)
    if before is not None:
        moment, identity = before
        own = own.filter(Q(received_at__lt=moment) | Q(received_at=moment, pk__lt=identity))
    found = list(own.select_related("slot").order_by("-received_at", "-pk")[: PAGE + 1])
    page = found[:PAGE]
    slots = load_slots(list(dict.fromkeys(judgment.slot_id for judgment in page if judgment.slot_id)))
    for slot in slots:
        if slot.annotator_id != user.pk:
            # Set aside: the slot went to someone else, and so did what is recorded on it.
            slot.arm = slot.prelabel = ""
    shown = dict(zip([slot.pk for slot in slots], present_slots(campaign, user, slots), strict=True))
    for item in shown.values():
        item.pop("leased_until")
    answers = [present_answer(campaign, user, judgment, shown[judgment.slot_id]) for judgment in page]  # type: ignore[index]
    last = page[-1] if len(found) > PAGE else None
    return answers, f"{last.received_at.isoformat()}~{last.pk}" if last else None


def _read(cursor: str) -> tuple[datetime, uuid.UUID] | None:
    moment, _, identity = cursor.partition("~")
    try:
        parsed = parse_datetime(moment)
        return (parsed, uuid.UUID(identity)) if parsed is not None else None
    except ValueError:
        return None
