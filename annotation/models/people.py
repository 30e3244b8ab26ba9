from __future__ import annotations

import hashlib
import secrets
import uuid

from django.contrib.auth.models import AbstractUser
from django.db import models
from django.utils import timezone


class User(AbstractUser):
    """A person. Roles are held per campaign (`Membership`); staff see the admin."""

    preferences = models.JSONField(default=dict, blank=True, help_text="Own key map, theme and language; validated.")

    class Meta(AbstractUser.Meta):
        swappable = "AUTH_USER_MODEL"


class Role(models.TextChoices):
    ANNOTATOR = "annotator", "annotator"
    ADJUDICATOR = "adjudicator", "adjudicator"
    RESEARCHER = "researcher", "researcher"


def make_pseudonym() -> str:
    return f"r-{secrets.token_hex(4)}"


class Membership(models.Model):
    """One role of one person in one campaign, the pseudonym exports know her by, and her place in the queues."""

    user = models.ForeignKey("annotation.User", on_delete=models.PROTECT, related_name="memberships")
    campaign = models.ForeignKey("annotation.Campaign", on_delete=models.CASCADE, related_name="memberships")
    role = models.CharField(max_length=16, choices=Role.choices)
    pseudonym = models.CharField(max_length=24, default=make_pseudonym)
    active = models.BooleanField(default=True)
    consented_at = models.DateTimeField(null=True, blank=True)
    consent_version = models.CharField(max_length=16, blank=True, default="")
    practised_at = models.DateTimeField(null=True, blank=True)
    withdrawn_at = models.DateTimeField(null=True, blank=True)
    practice_answers = models.JSONField(default=dict, blank=True, help_text='{"<gold question>": "<label>"}')
    # How far this person has walked along each queue's tape, when she last looked it through, and what she has done.
    verify_cursor = models.PositiveIntegerField(default=0)
    rate_cursor = models.PositiveIntegerField(default=0)
    verify_swept_at = models.DateTimeField(null=True, blank=True)
    rate_swept_at = models.DateTimeField(null=True, blank=True)
    verify_dealt = models.PositiveIntegerField(default=0, help_text="Gold included: it decides where gold comes.")
    verify_done = models.PositiveIntegerField(default=0)
    rate_done = models.PositiveIntegerField(default=0)
    pace = models.JSONField(
        default=dict, blank=True, help_text='{"<task>": {"ms": [the last twenty], "day": "…", "today": n}}'
    )
    created_at = models.DateTimeField(default=timezone.now)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["user", "campaign", "role"], name="one_membership_per_role"),
            models.UniqueConstraint(fields=["campaign", "pseudonym", "role"], name="pseudonym_unique_in_campaign"),
        ]

    def __str__(self) -> str:
        return f"{self.user} · {self.role} · {self.campaign}"


class ArmCounter(models.Model):
    """How many assignments of one predicted label an annotator has had: the index into her blocked random arms."""

    membership = models.ForeignKey(Membership, on_delete=models.CASCADE, related_name="arm_counters")
    label = models.CharField(max_length=16)
    assigned = models.PositiveIntegerField(default=0)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["membership", "label"], name="one_arm_counter_per_label")]

    def __str__(self) -> str:
        return f"{self.membership_id} {self.label}: {self.assigned}"


class ArmAssignment(models.Model):
    """The arm a person was given for an item, for ever: she may get the item again after a lapsed lease."""

    membership = models.ForeignKey(Membership, on_delete=models.CASCADE, related_name="arm_assignments", db_index=False)
    item = models.ForeignKey("annotation.Item", on_delete=models.CASCADE, related_name="arm_assignments")
    arm = models.CharField(max_length=8, choices=[("shown", "shown"), ("hidden", "hidden")])
    prelabel = models.CharField(max_length=16, blank=True, default="")

    class Meta:
        constraints = [models.UniqueConstraint(fields=["membership", "item"], name="one_arm_per_person_and_item")]

    def __str__(self) -> str:
        return f"{self.membership_id} item {self.item_id}: {self.arm}"


class Invitation(models.Model):
    """A link that makes whoever follows it a member. The link holds the token; the database only its digest."""

    campaign = models.ForeignKey("annotation.Campaign", on_delete=models.CASCADE, related_name="invitations")
    role = models.CharField(max_length=16, choices=Role.choices, default=Role.ANNOTATOR)
    token_digest = models.CharField(max_length=64, unique=True)
    note = models.CharField(max_length=120, blank=True, default="")
    created_by = models.ForeignKey("annotation.User", on_delete=models.PROTECT, related_name="invitations_made")
    created_at = models.DateTimeField(default=timezone.now)
    expires_at = models.DateTimeField()
    uses_left = models.PositiveIntegerField(default=1)

    def __str__(self) -> str:
        return f"{self.role} of {self.campaign}, until {self.expires_at:%Y-%m-%d}"


class ApiToken(models.Model):
    """A bearer token with a scope and an end. Only its digest is kept."""

    user = models.ForeignKey("annotation.User", on_delete=models.CASCADE, related_name="api_tokens")
    name = models.CharField(max_length=80)
    digest = models.CharField(max_length=64, unique=True)
    scope = models.CharField(max_length=8, choices=[("read", "read"), ("write", "read and write")], default="read")
    created_at = models.DateTimeField(default=timezone.now)
    expires_at = models.DateTimeField()
    last_used_at = models.DateTimeField(null=True, blank=True)

    def __str__(self) -> str:
        return f"{self.name} ({self.scope}) of {self.user}"


def token_digest(token: str) -> str:
    """What the database keeps of a secret link or token: they have 256 random bits, so a plain digest is enough."""
    return hashlib.sha256(token.encode()).hexdigest()


class AuditEvent(models.Model):
    """Who did which administrative act to what, when. Rows are only ever added."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    at = models.DateTimeField(default=timezone.now, db_index=True)
    actor = models.ForeignKey("annotation.User", null=True, on_delete=models.SET_NULL, related_name="+")
    action = models.CharField(max_length=64)
    target = models.CharField(max_length=200, blank=True, default="")
    details = models.JSONField(default=dict, blank=True)

    class Meta:
        ordering = ["-at"]

    def __str__(self) -> str:
        return f"{self.at:%Y-%m-%d %H:%M} {self.actor} {self.action} {self.target}"
