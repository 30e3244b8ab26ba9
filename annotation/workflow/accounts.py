"""Invitations, tokens, one's own data, and withdrawal."""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from datetime import timedelta
from typing import Any

from django.db import transaction
from django.db.models import F, Q, QuerySet
from django.utils import timezone

from annotation.models import (
    GOLD,
    Adjudication,
    ApiToken,
    AuditEvent,
    Campaign,
    Invitation,
    Item,
    Judgment,
    Membership,
    ReportRun,
    Slot,
    Task,
    User,
    make_pseudonym,
    token_digest,
)
from annotation.workflow.queue import to_the_end
from annotation.workflow.verification import weigh


def record(actor: User | None, action: str, target: object, **details: Any) -> None:
    """Write an administrative act into the audit log."""
    AuditEvent.objects.create(actor=actor, action=action, target=str(target)[:200], details=details)


def invite(*, campaign: Campaign, role: str, uses: int, days: int, by: User) -> str:
    """Make an invitation and return its token, which is shown once and kept nowhere."""
    token = secrets.token_urlsafe(32)
    Invitation.objects.create(
        campaign=campaign,
        role=role,
        token_digest=token_digest(token),
        uses_left=uses,
        expires_at=timezone.now() + timedelta(days=days),
        created_by=by,
    )
    record(by, "invite", campaign, role=role, uses=uses, days=days)
    return token


def open_invitation(token: str) -> Invitation | None:
    return (
        Invitation.objects.select_related("campaign")
        .filter(token_digest=token_digest(token), uses_left__gt=0, expires_at__gt=timezone.now())
        .first()
    )


@transaction.atomic
def accept(*, token: str, user: User) -> Membership | None:
    """Use the invitation once; None when it has ended meanwhile. Accepting twice uses it once."""
    invitation = open_invitation(token)
    if invitation is None:
        return None
    existing = Membership.objects.filter(user=user, campaign=invitation.campaign, role=invitation.role).first()
    if existing is not None:
        return existing
    if not Invitation.objects.filter(pk=invitation.pk, uses_left__gt=0).update(uses_left=F("uses_left") - 1):
        return None
    record(user, "join", invitation.campaign, role=invitation.role)
    return Membership.objects.create(user=user, campaign=invitation.campaign, role=invitation.role)


def make_token(*, user: User, name: str, scope: str, days: int) -> str:
    """Make an API token; the secret is shown once."""
    secret = f"attune_{secrets.token_urlsafe(32)}"
    ApiToken.objects.create(
        user=user,
        name=name,
        scope=scope,
        digest=token_digest(secret),
        expires_at=timezone.now() + timedelta(days=days),
    )
    record(user, "make token", name, scope=scope, days=days)
    return secret


def revoke_token(*, user: User, token_id: int) -> bool:
    """Delete one of the person's own tokens; False when it is not hers or not there, which look the same."""
    if not ApiToken.objects.filter(pk=token_id, user=user).delete()[0]:
        return False
    record(user, "revoke token", token_id)
    return True


def memberships(user: User) -> list[Membership]:
    return list(Membership.objects.filter(user=user).select_related("campaign").order_by("campaign__title", "role"))


def own_data(user: User) -> dict[str, Any]:
    """Everything held about a person: account, memberships, consents, judgments, decisions, own acts."""
    return {
        "account": {
            "username": user.username,
            "email": user.email,
            "name": user.get_full_name(),
            "joined": user.date_joined,
            "preferences": user.preferences,
        },
        "memberships": list(
            Membership.objects.filter(user=user).values(
                "campaign__name", "role", "pseudonym", "consented_at", "consent_version", "withdrawn_at", "created_at"
            )
        ),
        "judgments": list(
            Judgment.objects.filter(annotator=user)
            .order_by("received_at")
            .values(
                *("id", "item", "action", "label", "ratings", "reason", "comment", "flagged", "supersedes"),
                *("answered_at", "received_at", "active_ms", "device"),
            )
        ),
        "adjudications": list(
            Adjudication.objects.filter(adjudicator=user).values("id", "item", "label", "comment", "received_at")
        ),
        "acts": list(AuditEvent.objects.filter(actor=user).values("at", "action", "target", "details")),
    }


@transaction.atomic
def withdraw(*, user: User, campaign: Campaign) -> None:
    """Take a person out of a campaign, as the campaign has laid down: her judgments are removed, or lose her name.

    Removed judgments free their slots, so that others answer. Decisions on disputes are the campaign's: they stay in
    either way, without her name. Reports that used her answers are marked, never changed. A second call does nothing.
    """
    held = Membership.objects.filter(user=user, campaign=campaign)
    # Her requests queue up behind her memberships, so no answer slips in between.
    if not any(membership.active for membership in held.select_for_update()):
        return
    own = Judgment.objects.filter(annotator=user, item__campaign=campaign)
    first = own.order_by("received_at").first()
    if first is not None:
        ReportRun.objects.filter(campaign=campaign, as_of__gte=first.received_at).update(affected_by_withdrawal=True)
    decisions = Adjudication.objects.filter(adjudicator=user, item__campaign=campaign)
    if campaign.withdrawal == "remove":
        _remove_judgments(user, campaign)
        if decisions.exists():
            decisions.update(adjudicator=_ghost(held), comment="")
    else:
        _put_back(Slot.objects.filter(annotator=user, campaign=campaign, state=Slot.LEASED), campaign)
        ghost = _ghost(held)
        own.update(annotator=ghost, comment="")
        decisions.update(adjudicator=ghost, comment="")
        Slot.objects.filter(annotator=user, campaign=campaign).update(annotator=ghost)
    for membership in held:
        membership.arm_assignments.all().delete()
        membership.arm_counters.all().delete()
        # Earlier exports know the old pseudonym; it must not lead back to her.
        membership.pseudonym, membership.practice_answers, membership.pace = make_pseudonym(), {}, {}
        membership.active, membership.withdrawn_at = False, timezone.now()
        membership.save()
    record(user, "withdraw", campaign, way=campaign.withdrawal)


def _ghost(held: Iterable[Membership]) -> User:
    """An empty account from which nothing leads back to a person, with a pseudonym for each of her roles."""
    ghost = User.objects.create(username=f"withdrawn-{secrets.token_hex(6)}", is_active=False)
    for membership in held:
        Membership.objects.create(
            user=ghost,
            campaign=membership.campaign,
            role=membership.role,
            pseudonym=f"w-{secrets.token_hex(4)}",
            active=False,
            verify_done=membership.verify_done,
            rate_done=membership.rate_done,
        )
    return ghost


def _remove_judgments(user: User, campaign: Campaign) -> None:
    """Delete a person's judgments and everything that counted them; her slots are asked of others."""
    own = Judgment.objects.filter(annotator=user, item__campaign=campaign)
    contested = list(own.filter(item__dispute__isnull=False).values_list("item_id", flat=True).distinct())
    while own.exists():  # a correction protects what it supersedes, so the newest go first
        own.filter(superseded__isnull=True).delete()
    slots = Slot.objects.filter(annotator=user, campaign=campaign)
    gold = slots.filter(task=GOLD)
    done = {task: slots.filter(task=task, state=Slot.DONE).count() for task in Task.values}
    Campaign.objects.filter(pk=campaign.pk).update(
        verify_done=F("verify_done") - done[Task.VERIFY],
        rate_done=F("rate_done") - done[Task.RATE],
        gold_done=F("gold_done") - gold.exclude(state=Slot.LEASED).count(),
    )
    # Gold slots are one per person, and a skipped slot has been replaced: neither goes to anyone else.
    slots.filter(Q(task=GOLD) | Q(state=Slot.SKIPPED)).delete()
    _put_back(slots, campaign)
    for item in contested:
        Item.objects.filter(pk=item).update(dispute=weigh(campaign, item))


def _put_back(slots: QuerySet[Slot], campaign: Campaign) -> None:
    """Free slots and put them at the end of their tapes, where everybody will come by."""
    slots.filter(task=GOLD).delete()
    for task in Task.values:
        free = list(slots.filter(task=task).order_by("pk").values_list("pk", flat=True))
        for place, pk in enumerate(free, start=to_the_end(campaign.pk, task, len(free)) if free else 0):
            Slot.objects.filter(pk=pk).update(
                **{"state": Slot.FREE, "annotator": None, "leased_at": None, "leased_until": None, "client": ""},
                **{"arm": "", "prelabel": "", "response_order": [], "position": place},
            )
