"""Read an answer as a browser sent it. Whatever cannot be meant is refused with a reason; nothing is guessed.

What only describes an answer (times, device) never costs the answer: an unusable value is stored as unknown.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

from django.utils.dateparse import parse_datetime
from django.utils.timezone import is_naive
from django.utils.translation import gettext_lazy as _

from annotation.models import Judgment
from annotation.workflow.veil import is_veiled
from evaluation.emotions import EMOTIONS

SKIP_REASONS: Final = {
    "unclear": _("I cannot tell"),
    "garbled": _("The text is garbled"),
    "language": _("I do not know this language"),
    "upsetting": _("I would rather not"),
    "other": _("Another reason"),
}
DEVICES: Final = ("desktop", "phone", "tablet")
LONGEST_COMMENT: Final = 4000
LONGEST_ACTIVE_MS: Final = 24 * 3600 * 1000

Ratings = dict[str, dict[str, int]]


class Refused(Exception):  # noqa: N818 - not an error of the program
    """An answer that cannot be stored. `reason` is for programs, `detail` for people."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason, self.detail = reason, detail


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer: shapes are right, but nothing is known yet of its slot. Response ids are still veiled."""

    id: uuid.UUID
    slot: int
    action: str
    label: str = ""
    ratings: Ratings = field(default_factory=dict)
    reason: str = ""
    comment: str = ""
    flagged: bool = False
    supersedes: uuid.UUID | None = None
    answered_at: datetime | None = None
    active_ms: int | None = None
    device: str = ""
    guideline_version: int | None = None


def read_answer(given: Any) -> Answer:
    """Check the shape of an answer; raise `Refused` when it cannot be meant."""
    if not isinstance(given, Mapping):
        raise Refused("malformed", "A judgment must be an object.")
    identity = read_uuid(given.get("id"), "id")
    action = given.get("action")
    if action not in (Judgment.LABEL, Judgment.RATE, Judgment.SKIP):
        raise Refused("unknown_action", "The action must be label, rate or skip.")
    if not is_veiled(given.get("slot")):
        raise Refused("unknown_slot", "This slot was not dealt to you.")
    return Answer(
        id=identity,
        slot=given["slot"],
        action=action,
        label=read_label(given.get("label")) if action == Judgment.LABEL else "",
        ratings=_ratings(given.get("ratings")) if action == Judgment.RATE else {},
        reason=_reason(given.get("reason")) if action == Judgment.SKIP else "",
        comment=clean_text(given.get("comment"), "comment"),
        flagged=given.get("flagged") is True,
        supersedes=read_uuid(given["supersedes"], "supersedes") if given.get("supersedes") else None,
        answered_at=_moment(given.get("answered_at")),
        active_ms=_duration(given.get("active_ms")),
        device=str(given.get("device")) if given.get("device") in DEVICES else "",
        guideline_version=_version(given.get("guideline_version")),
    )


def read_uuid(value: Any, name: str) -> uuid.UUID:
    try:
        return uuid.UUID(value)
    except (ValueError, AttributeError, TypeError):
        raise Refused("malformed", f"“{name}” must be a UUID.") from None


def read_label(value: Any) -> str:
    if not isinstance(value, str) or value not in EMOTIONS:
        raise Refused("unknown_label", f"The label must be one of: {', '.join(EMOTIONS)}.")
    return value


def clean_text(value: Any, name: str) -> str:
    """Text as a database can hold it: no NUL, no half of a surrogate pair."""
    if value is None:
        return ""
    if not isinstance(value, str):
        raise Refused("malformed", f"“{name}” must be text.")
    if len(value) > LONGEST_COMMENT:
        raise Refused("too_long", f"The {name} has {len(value)} characters; {LONGEST_COMMENT} are kept. Shorten it.")
    return value.replace("\x00", "").encode("utf-8", "replace").decode("utf-8")


def _reason(value: Any) -> str:
    if value is None:
        return "other"
    if not isinstance(value, str) or value not in SKIP_REASONS:
        raise Refused("unknown_reason", f"The reason must be one of: {', '.join(SKIP_REASONS)}.")
    return value


def _ratings(value: Any) -> Ratings:
    if not isinstance(value, Mapping) or not all(isinstance(scales, Mapping) for scales in value.values()):
        raise Refused("malformed", "Ratings must map responses to scales to points.")
    return {str(response): dict(scales) for response, scales in value.items()}


def _moment(value: Any) -> datetime | None:
    try:
        moment = parse_datetime(value) if isinstance(value, str) else None
        return None if moment is None or is_naive(moment) else moment.astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def _duration(value: Any) -> int | None:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= LONGEST_ACTIVE_MS:
        return None
    return int(value)


def _version(value: Any) -> int | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 2**31:
        raise Refused("unknown_guideline", "The guideline version must be a whole number.")
    return value
