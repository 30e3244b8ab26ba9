"""The practice round: questions of the codebook, answered with feedback. Its answers are no judgments."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django.db import transaction
from django.utils import timezone

from annotation.models import Campaign, GoldQuestion, Membership, User
from annotation.workflow.presentation import present_question
from annotation.workflow.queue import lock_membership
from annotation.workflow.submission import Refused, read_label
from annotation.workflow.veil import Veil, is_veiled


@dataclass(frozen=True, slots=True)
class Feedback:
    """What the codebook says, and whether the round is through."""

    correct: bool
    label: str
    explanation: str
    done: bool


def _veil(campaign: Campaign) -> Veil:
    return Veil(campaign.secret, "practice")


def questions_of(campaign: Campaign) -> list[GoldQuestion]:
    return list(GoldQuestion.objects.filter(campaign=campaign, use="practice").order_by("pk"))


def is_available(campaign: Campaign) -> bool:
    return GoldQuestion.objects.filter(campaign=campaign, use="practice").exists()


def practice_items(campaign: Campaign, member: Membership) -> list[dict[str, Any]]:
    """The questions she has not answered yet; all of them once the round is through, to practise again."""
    questions = questions_of(campaign)
    left = [question for question in questions if str(question.pk) not in member.practice_answers]
    veil = _veil(campaign)
    return [
        {
            "slot": f"p{veil.veil(question.pk)}",
            "task": "verify",
            **present_question(question.context, question.role, question.text),
        }
        for question in left or questions
    ]


def answer_practice(campaign: Campaign, user: User, item: Any, label: Any) -> Feedback:
    """Compare an answer with the codebook's. The round is through when every question has been answered once."""
    number = int(item[1:]) if isinstance(item, str) and item[:1] == "p" and item[1:].isdecimal() else -1
    own = GoldQuestion.objects.filter(campaign=campaign, use="practice")
    question = own.filter(pk=_veil(campaign).unveil(number)).first() if is_veiled(number) else None
    if question is None:
        raise Refused("unknown_item", "This is no practice question of the campaign.")
    given = read_label(label)
    with transaction.atomic():
        member = lock_membership(campaign, user)
        member.practice_answers = {**member.practice_answers, str(question.pk): given}
        done = all(str(known.pk) in member.practice_answers for known in questions_of(campaign))
        if done and member.practised_at is None:
            member.practised_at = timezone.now()
        member.save(update_fields=["practice_answers", "practised_at"])
    return Feedback(given == question.label, question.label, question.explanation, done)
