"""Invitations, tokens, one's own data, and withdrawal."""

from __future__ import annotations

import secrets
from datetime import timedelta
from typing import Any

from django.db import transaction
from django.db.models import F, Q
from django.utils import timezone

from annotation.models import (
    Adjudication,
    ApiToken,
    AuditEvent,
    Campaign,
    Invitation,
    Judgment,
    Membership,
    ReportRun,
    Slot,
    User,
    token_digest,
)


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

    Removed judgments free their slots, so that others answer. Reports that used them are marked, never changed.
    """
    held = Membership.objects.filter(user=user, campaign=campaign)
    now = timezone.now()
    first = Judgment.objects.filter(annotator=user, item__campaign=campaign).order_by("received_at").first()
    if first is not None:
        ReportRun.objects.filter(campaign=campaign, as_of__gte=first.received_at).update(affected_by_withdrawal=True)
    slots = Slot.objects.filter(annotator=user, campaign=campaign)
    if campaign.withdrawal == "remove":
        own = Judgment.objects.filter(annotator=user, item__campaign=campaign)
        while own.exists():  # a correction protects what it supersedes, so the newest go first
            own.filter(superseded__isnull=True).delete()
        done = {
            task: slots.filter(task=task, state=Slot.DONE).exclude(item__kind="gold").count()
            for task in ("verify", "rate")
        }
        Campaign.objects.filter(pk=campaign.pk).update(
            verify_done=F("verify_done") - done["verify"], rate_done=F("rate_done") - done["rate"]
        )
        # Gold slots are one per person, and a skipped slot has been replaced: neither goes to anyone else.
        slots.filter(Q(item__kind="gold") | Q(state=Slot.SKIPPED)).delete()
        slots.update(state=Slot.FREE, annotator=None, leased_at=None, leased_until=None, arm="", prelabel="")
    else:
        # Her rows go to an empty account from which nothing leads back to a person.
        ghost = User.objects.create(username=f"withdrawn-{secrets.token_hex(6)}", is_active=False)
        slots.filter(state=Slot.LEASED).update(
            state=Slot.FREE, annotator=None, leased_at=None, leased_until=None, arm="", prelabel=""
        )
        Judgment.objects.filter(annotator=user, item__campaign=campaign).update(annotator=ghost, comment="")
        Adjudication.objects.filter(adjudicator=user, item__campaign=campaign).update(adjudicator=ghost, comment="")
        slots.update(annotator=ghost)
        for membership in held:
            Membership.objects.create(
                user=ghost, campaign=campaign, role=membership.role, pseudonym=f"w-{secrets.token_hex(4)}", active=False
            )
    held.update(active=False, withdrawn_at=now)
    record(user, "withdraw", campaign, way=campaign.withdrawal)
