"""How far a campaign and a person are: read from counters, never counted."""

from __future__ import annotations

from datetime import datetime
from statistics import median
from typing import Any

from django.db.models import Max
from django.utils import timezone

from annotation.models import Adjudication, Campaign, GoldQuestion, Membership, Role, Task, User
from annotation.workflow.adjudication import disputed


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


def needs_consent(campaign: Campaign, member: Membership) -> bool:
    """Whether this person has still to agree to the consent text as it stands."""
    if not campaign.consent_text:
        return False
    return member.consented_at is None or member.consent_version != campaign.consent_version


def needs_practice(campaign: Campaign, member: Membership) -> bool:
    """Whether the practice round stands before the queue: asked for, not done, and with questions to do."""
    if not campaign.require_practice or member.practised_at is not None:
        return False
    return GoldQuestion.objects.filter(campaign=campaign, use="practice").exists()


def queues_of(user: User) -> list[dict[str, Any]]:
    """The queues of a person: one per campaign and task she has a part in, drafts left out."""
    members = (
        Membership.objects.filter(user=user, active=True, role__in=[Role.ANNOTATOR, Role.ADJUDICATOR])
        .exclude(campaign__state=Campaign.DRAFT)
        .select_related("campaign")
        .annotate(guideline_version=Max("campaign__guidelines__version"))
        .order_by("campaign__title", "campaign_id", "role")
    )
    queues = []
    for member in members:
        campaign = member.campaign
        common = {
            "campaign": campaign.name,
            "title": campaign.title,
            "state": campaign.state,
            "guideline_version": member.guideline_version,
        }
        if member.role == Role.ADJUDICATOR:
            waiting = disputed(campaign, user).count()
            mine = Adjudication.objects.filter(item__campaign=campaign, adjudicator=user, standing=True).count()
            done = Adjudication.objects.filter(item__campaign=campaign, standing=True).count()
            counts = {"mine": mine, "available": waiting, "done": done, "total": done + waiting}
            queues.append({**common, "task": "adjudicate", **counts, "needs_consent": False, "needs_practice": False})
            continue
        for task in Task.values:
            progress = progress_of(campaign, member, task)
            if progress["total"]:
                counts = {
                    "mine": progress["mine"],
                    "available": progress["left"] if campaign.state == Campaign.OPEN else 0,
                    "done": progress["done"],
                    "total": progress["total"],
                }
                needs = {
                    "needs_consent": needs_consent(campaign, member),
                    "needs_practice": needs_practice(campaign, member),
                }
                queues.append({**common, "task": task, **counts, **needs})
    return queues
