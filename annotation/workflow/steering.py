"""What a researcher does to a campaign while it runs. Every act goes into the audit log, by page and API alike."""

from __future__ import annotations

from typing import Final

from django.db import transaction

from annotation.models import Campaign, Judgment, Membership, Role, User
from annotation.workflow import opening, queue, verification
from annotation.workflow.accounts import record
from annotation.workflow.verification import Aside

MOVES: Final = {
    Campaign.OPEN: ("reopen campaign", opening.reopen),
    Campaign.PAUSED: ("pause campaign", opening.pause),
    Campaign.CLOSED: ("close campaign", opening.close),
}


def move(campaign: Campaign, to: str, *, by: User) -> bool:
    """Pause, close or reopen; False where the campaign cannot go there from its state. A draft is opened by a job."""
    act, step = MOVES[to]
    if not step(campaign):
        return False
    record(by, act, campaign)
    return True


def annotator_of(campaign: Campaign, pseudonym: str) -> Membership | None:
    """An annotator's membership, active or not, by the name exports know her under."""
    members = Membership.objects.filter(campaign=campaign, role=Role.ANNOTATOR, pseudonym=pseudonym)
    return members.select_related("user").first()


def reassign(campaign: Campaign, member: Membership, *, by: User) -> int:
    """Let what a person holds go to others now; return how many items that were. What she has answered stays hers."""
    freed = queue.reassign(campaign, member.user)
    record(by, "reassign", campaign, annotator=member.pseudonym, items=freed)
    return freed


def set_active(campaign: Campaign, member: Membership, *, active: bool, by: User) -> bool:
    """Let an annotator out of a campaign, or in again; False for one who has withdrawn.

    Who is let out is dealt nothing more and what she holds goes to others; her answers stay.
    """
    if member.withdrawn_at is not None:
        return False
    with transaction.atomic():
        changed = Membership.objects.filter(pk=member.pk, active=not active).update(active=active)
        freed = queue.reassign(campaign, member.user) if changed and not active else 0
    if changed:
        record(by, "let in" if active else "let out", campaign, annotator=member.pseudonym, items=freed)
    return True


def take_in(campaign: Campaign, judgment: str, *, by: User) -> Aside | None:
    """Let one answer count that was set aside, if it fits; `None` where the campaign has no such answer."""
    found = Judgment.objects.select_related("item__campaign").filter(pk=judgment, item__campaign=campaign).first()
    if found is None:
        return None
    outcome = verification.take_in(found)
    if outcome.fits:
        record(by, "take in", campaign, judgment=str(found.pk), why=outcome.why)
    return outcome


def take_in_all(campaign: Campaign, *, by: User) -> tuple[int, int]:
    """Let every answer count that was set aside and fits; return how many were taken in, and how many stay aside."""
    taken, left = verification.take_in_all(campaign)
    if taken:
        record(by, "take in", campaign, judgments=taken)
    return taken, left
