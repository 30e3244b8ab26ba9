"""How far a campaign and a person are: read from counters, never counted."""

from __future__ import annotations

from datetime import datetime
from statistics import median
from typing import Any

from django.utils import timezone

from annotation.models import Campaign, Membership, Task


def progress_of(campaign: Campaign, member: Membership, task: str, *, now: datetime | None = None) -> dict[str, Any]:
    """The counts beside the workbench. Gold is mixed into `done`, so that it moves with every answer alike.

    `left` is what this person can still be dealt, at most: it neither knows who holds what nor who labelled which turn.
    """
    total = getattr(campaign, f"{task}_total")
    given = getattr(campaign, f"{task}_done")
    mine = getattr(member, f"{task}_done")
    pace = member.pace.get(task, {})
    times = pace.get("ms", [])
    today = (now or timezone.now()).date().isoformat()
    return {
        "done": min(total, given + (campaign.gold_done if task == Task.VERIFY else 0)),
        "total": total,
        "mine": mine,
        "mine_today": pace.get("today", 0) if pace.get("day") == today else 0,
        "pace_ms": round(median(times)) if times else None,
        "left": max(0, min(total - given, getattr(campaign, f"{task}_items") - mine)),
        "state": campaign.state,
    }
