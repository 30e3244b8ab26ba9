"""Store answers: each once, for ever, in a transaction of its own.

The client makes an answer's id, so sending it again stores nothing new. A correction is a new row that supersedes the
old one. What can no longer count (the slot went to someone else, the campaign is paused or closed) is kept and set
aside for the researcher; only what cannot be meant is refused, and says why.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from django.db import IntegrityError, connection, transaction
from django.db.models import F, Max, QuerySet
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from annotation.models import GOLD, Campaign, Guideline, Item, Judgment, Membership, Role, Slot, Task, User
from annotation.workflow.arms import SHOWN
from annotation.workflow.presentation import response_veil, slot_veil
from annotation.workflow.queue import lock_membership, reclaim, to_the_end
from annotation.workflow.submission import Answer, Ratings, Refused, read_answer
from annotation.workflow.writers import writers_turn
from evaluation.aggregation import verified_label

SKIPS_BEFORE_ATTENTION: Final = 3
"""So many people skip an item before it is taken out of the queue and put before the researcher."""
PACE_OF_LAST: Final = 20
TIE: Final = 10.0

STORED, DUPLICATE, SET_ASIDE, REFUSED = "stored", "duplicate", "set_aside", "refused"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of an answer. `reason` and `detail` are set for what was set aside or refused."""

    id: str
    status: str
    reason: str = ""
    detail: str = ""


DETAILS: Final = {
    "lease_lost": "The time for this item was over and someone else has it. Your answer is kept for the researcher.",
    "already_answered": "You have answered this item already. This answer is kept for the researcher.",
    "campaign_paused": "The campaign is paused. Your answer is kept for the researcher.",
    "campaign_closed": "The campaign is closed. Your answer is kept for the researcher.",
    "replaced": "After your skip someone else was asked. Your answer is kept for the researcher.",
}


def submit(campaign: Campaign, user: User, given: Any, *, now: datetime | None = None) -> Outcome:
    """Store one answer as the browser sent it; the outcome is true once this returns.

    Only the server's clock decides about leases. Raises nothing for bad answers: they are refused in the outcome.
    """
    name = given.get("id") if isinstance(given, dict) else None
    try:
        return _submit(campaign, user, read_answer(given), now or timezone.now())
    except Refused as refusal:
        return Outcome(str(name), REFUSED, refusal.reason, refusal.detail)


def _submit(campaign: Campaign, user: User, answer: Answer, now: datetime) -> Outcome:
    # Read before the transaction, which is the writers' turn; whatever may have changed since is decided again in it.
    slot = (
        Slot.objects.select_related("item")
        .filter(pk=slot_veil(campaign, user).unveil(answer.slot), campaign=campaign)
        .first()
    )
    if slot is None:
        raise Refused("unknown_slot", "This slot was not dealt to you.")
    judgment = _judgment(campaign, user, slot, answer, now)
    known = Judgment.objects.filter(pk=answer.id).first()
    if known is not None:
        return _compared(known, judgment)
    try:
        with writers_turn(), transaction.atomic():
            member = lock_membership(campaign, user)
            if answer.supersedes is not None:
                return _correct(campaign, member, slot, judgment, answer)
            return _answer(campaign, member, slot, judgment, now)
    except IntegrityError:
        # The same answer arrived twice at once, or the id was taken meanwhile.
        known = Judgment.objects.filter(pk=answer.id).first()
        if known is None:
            raise
        return _compared(known, judgment)


def _judgment(campaign: Campaign, user: User, slot: Slot, answer: Answer, now: datetime) -> Judgment:
    """The row an answer becomes, with its ratings under the responses' own ids; not yet stored."""
    if (answer.action == Judgment.RATE) != (slot.task == Task.RATE) and answer.action != Judgment.SKIP:
        raise Refused("wrong_action", "Responses are rated, utterances are labelled: this answer is of the other kind.")
    ratings = _own_ratings(campaign, user, slot, answer.ratings) if answer.action == Judgment.RATE else {}
    guideline = None
    if answer.guideline_version is not None:
        guideline = Guideline.objects.filter(campaign=campaign, version=answer.guideline_version).only("pk").first()
        if guideline is None:
            raise Refused("unknown_guideline", f"The campaign has no guideline version {answer.guideline_version}.")
    return Judgment(
        id=answer.id,
        item=slot.item,
        slot=slot,
        annotator=user,
        action=answer.action,
        label=answer.label,
        ratings=ratings,
        reason=answer.reason,
        comment=answer.comment,
        flagged=answer.flagged,
        answered_at=answer.answered_at,
        received_at=now,
        active_ms=answer.active_ms,
        device=answer.device,
        guideline=guideline,
    )


def _own_ratings(campaign: Campaign, user: User, slot: Slot, given: Ratings) -> Ratings:
    """Check that every response of the slot is rated on every scale, and put the responses' own ids in."""
    veil = response_veil(campaign, user, slot.pk)
    own = {str(veil.veil(pk)): str(pk) for pk in slot.response_order}
    if set(given) - set(own):
        raise Refused("unknown_response", "A rated response does not belong to this item.")
    if set(own) - set(given):
        raise Refused("rating_missing", f"{len(set(own) - set(given))} responses of this item are not rated.")
    points = {str(scale["name"]): int(scale["points"]) for scale in campaign.scales}
    for scales in given.values():
        if unknown := set(scales) - set(points):
            raise Refused("unknown_scale", f"There is no scale called {sorted(map(str, unknown))[0]}.")
        if missing := set(points) - set(scales):
            raise Refused("rating_missing", f"A response is not rated on: {', '.join(sorted(missing))}.")
        for scale, value in scales.items():
            if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= points[scale]:
                raise Refused("off_scale", f"{scale} goes from 1 to {points[scale]} in whole numbers.")
    return {own[response]: scales for response, scales in given.items()}


_CONTENT: Final = ("annotator_id", "item_id", "action", "label", "ratings", "reason", "comment", "flagged")


def _compared(known: Judgment, sent: Judgment) -> Outcome:
    """The same answer again is a duplicate; another answer under its id is refused."""
    if all(getattr(known, name) == getattr(sent, name) for name in _CONTENT):
        return Outcome(str(known.pk), DUPLICATE)
    raise Refused("conflict", "This id belongs to another answer.")


def _answer(campaign: Campaign, member: Membership, slot: Slot, judgment: Judgment, now: datetime) -> Outcome:
    """A first answer: it takes its slot, or is set aside."""
    if campaign.state != Campaign.OPEN:
        return _set_aside(judgment, f"campaign_{campaign.state}")
    state = Slot.SKIPPED if judgment.action == Judgment.SKIP else Slot.DONE
    if not _take(slot, member, state):
        slot.refresh_from_db()
        # The lease lapsed. While nobody was faster the slot can be had again.
        if slot.state == Slot.FREE and (regained := reclaim(campaign, member, slot.pk, now)) is not None:
            slot = judgment.slot = regained
        if slot.annotator_id != member.user_id:
            return _set_aside(judgment, "lease_lost")
        if not _take(slot, member, state):
            return _set_aside(judgment, "already_answered")
    _insert(slot, judgment)
    _count_own(member, slot, judgment)
    if slot.task == GOLD:
        Campaign.objects.filter(pk=campaign.pk).update(gold_done=F("gold_done") + 1)
    elif state == Slot.SKIPPED:
        _ask_another(campaign, slot)
    else:
        settle(campaign, slot)
        Campaign.objects.filter(pk=campaign.pk).update(**{f"{slot.task}_done": F(f"{slot.task}_done") + 1})
    return Outcome(str(judgment.pk), STORED)


def _take(slot: Slot, member: Membership, state: str) -> bool:
    """Turn one's lease into an answer; False when it is not, or no longer, one's own."""
    own = Slot.objects.filter(pk=slot.pk, state=Slot.LEASED, annotator=member.user_id)
    return bool(own.update(state=state, leased_until=None))


def _correct(campaign: Campaign, member: Membership, slot: Slot, judgment: Judgment, answer: Answer) -> Outcome:
    """A correction of one's own latest answer to the same item."""
    slot.refresh_from_db()
    own = Judgment.objects.filter(annotator=member.user_id, item=slot.item_id)
    before = own.filter(pk=str(answer.supersedes)).first()
    if before is None:
        raise Refused("unknown_judgment", "The answer to be corrected is not one of yours to this item.")
    if Judgment.objects.filter(supersedes=before).exists():
        raise Refused("not_latest", "That answer has been corrected already; correct the latest one.")
    if campaign.state != Campaign.OPEN:
        return _set_aside(judgment, f"campaign_{campaign.state}")
    if before.set_aside or slot.annotator_id != member.user_id or slot.state not in (Slot.DONE, Slot.SKIPPED):
        if before.set_aside:
            judgment.supersedes = before
        return _set_aside(judgment, "lease_lost")
    skipped = judgment.action == Judgment.SKIP
    if skipped and slot.state == Slot.DONE:
        Slot.objects.filter(pk=slot.pk).update(state=Slot.SKIPPED)
        if slot.task != GOLD:
            Campaign.objects.filter(pk=campaign.pk).update(**{f"{slot.task}_done": F(f"{slot.task}_done") - 1})
    elif not skipped and slot.state == Slot.SKIPPED and not _take_back_skip(campaign, slot):
        return _set_aside(judgment, "replaced")
    judgment.supersedes = before
    _insert(slot, judgment)
    if slot.task != GOLD:
        if skipped and slot.state == Slot.DONE:
            _ask_another(campaign, slot)
        settle(campaign, slot)
    return Outcome(str(judgment.pk), STORED)


def _insert(slot: Slot, judgment: Judgment) -> None:
    judgment.prelabel_outcome = _prelabel_outcome(slot, judgment)
    judgment.save(force_insert=True)
    if judgment.flagged:
        Item.objects.filter(pk=slot.item_id).update(needs_attention=True)


def _prelabel_outcome(slot: Slot, judgment: Judgment) -> str:
    if judgment.action != Judgment.LABEL:
        return ""
    if slot.arm != SHOWN or not slot.prelabel:
        return "not_shown"
    return "agreed" if judgment.label == slot.prelabel else "corrected"


def _set_aside(judgment: Judgment, reason: str) -> Outcome:
    judgment.set_aside = True
    judgment.save(force_insert=True)
    return Outcome(str(judgment.pk), SET_ASIDE, reason, DETAILS.get(reason, ""))


# --- skips ------------------------------------------------------------------------------------------------------------


def _locked_item(item: int) -> Item:
    """The item, locked where slots are made or its labels are weighed: only then two could do so at once."""
    query = Item.objects.filter(pk=item)
    if connection.features.has_select_for_no_key_update:
        query = query.select_for_update(no_key=True)
    return query.get()


def _overlap(campaign: Campaign, task: str) -> int:
    return campaign.rate_overlap if task == Task.RATE else campaign.verify_overlap


def _ask_another(campaign: Campaign, slot: Slot) -> None:
    """After a skip: a fresh slot for someone else, unless so many skipped that the researcher should look."""
    item = _locked_item(slot.item_id)
    slots = Slot.objects.filter(item=item)
    if slots.filter(state=Slot.SKIPPED).count() < SKIPS_BEFORE_ATTENTION:
        number = (slots.aggregate(last=Max("number"))["last"] or 0) + 1
        position = to_the_end(campaign.pk, slot.task, 1)
        Slot.objects.create(item=item, campaign=campaign, task=slot.task, position=position, number=number)
        return
    Item.objects.filter(pk=item.pk).update(needs_attention=True)
    Campaign.objects.filter(pk=campaign.pk).update(**{f"{slot.task}_total": F(f"{slot.task}_total") - 1})


def _take_back_skip(campaign: Campaign, slot: Slot) -> bool:
    """A skip turned into an answer: the slot counts again, and the fresh one that replaced it goes, if still free."""
    if slot.task == GOLD:
        return bool(Slot.objects.filter(pk=slot.pk).update(state=Slot.DONE))
    item = _locked_item(slot.item_id)
    others = Slot.objects.filter(item=item).exclude(state=Slot.SKIPPED)
    counts: dict[str, Any] = {f"{slot.task}_done": F(f"{slot.task}_done") + 1}
    if others.count() < _overlap(campaign, slot.task):
        counts[f"{slot.task}_total"] = F(f"{slot.task}_total") + 1
    else:
        spare = others.filter(state=Slot.FREE).order_by("-number").values_list("pk", flat=True).first()
        if spare is None or not Slot.objects.filter(pk=spare, state=Slot.FREE, judgments=None).delete()[0]:
            return False
    Slot.objects.filter(pk=slot.pk).update(state=Slot.DONE)
    Campaign.objects.filter(pk=campaign.pk).update(**counts)
    return True


# --- counting and weighing --------------------------------------------------------------------------------------------


def _count_own(member: Membership, slot: Slot, judgment: Judgment) -> None:
    """Keep the person's own counts. Gold counts like any other item: otherwise the count would give it away."""
    task = Task.RATE.value if slot.task == Task.RATE else Task.VERIFY.value
    pace = dict(member.pace.get(task, {}))
    day = judgment.received_at.date().isoformat()
    pace["today"] = pace.get("today", 0) + 1 if pace.get("day") == day else 1
    pace["day"] = day
    if judgment.active_ms is not None:
        pace["ms"] = [*pace.get("ms", []), judgment.active_ms][-PACE_OF_LAST:]
    done = {f"{task}_done": F(f"{task}_done") + 1}
    Membership.objects.filter(pk=member.pk).update(pace={**member.pace, task: pace}, **done)


def settle(campaign: Campaign, slot: Slot) -> None:
    """Note on the item whether its labels, now complete, disagree.

    Where two people can be at it at once, the item is locked first, or neither would see the other's label.
    """
    if slot.task == Task.VERIFY and campaign.verify_overlap > 1:
        if connection.features.has_select_for_update:
            _locked_item(slot.item_id)
        dispute = weigh(campaign, slot.item_id)
        item = Item.objects.filter(pk=slot.item_id)
        (item.filter(dispute__isnull=False) if dispute is None else item).update(dispute=dispute)


def weigh(campaign: Campaign, item: int, *, complete_only: bool = True) -> float | None:
    """How much an item's labels disagree: the entropy of the votes in bits, ties a step above all else.

    None while answers are missing (unless `complete_only` is off), and when all agree. `adjudication.rank_disputes`
    puts the entropy of the model's posterior in its place.
    """
    labels = list(
        Judgment.objects.filter(item=item, action=Judgment.LABEL, set_aside=False, superseded=None).values_list(
            "label", flat=True
        )
    )
    if len(labels) < (campaign.verify_overlap if complete_only else 2) or len(set(labels)) < 2:
        return None
    votes = Counter(labels)
    entropy = -sum(n / len(labels) * math.log2(n / len(labels)) for n in votes.values())
    return entropy + (TIE if verified_label(labels).reason == "tie" else 0.0)


# --- what was set aside -----------------------------------------------------------------------------------------------


FITS: Final = {
    "free": _("Fits: an answer is still wanted."),
    "held": _("Fits: the person holds this item at the moment."),
    "replaces": _("Fits: replaces the earlier answer of the same person."),
}
FITS_NOT: Final = {
    "skip": _("A skip: there is nothing to take in."),
    "left": _("The person has left the campaign."),
    "answered": _("The person has answered this item since."),
    "full": _("All answers to this item are given or being given."),
    "gone": _("It has been taken in or corrected already."),
}


@dataclass(frozen=True, slots=True)
class Aside:
    """An answer that was set aside, whether it can still count, and why (a key of `FITS` or `FITS_NOT`)."""

    judgment: Judgment
    why: str

    @property
    def fits(self) -> bool:
        return self.why in FITS

    @property
    def sentence(self) -> Any:
        return {**FITS, **FITS_NOT}[self.why]


def set_aside(campaign: Campaign) -> QuerySet[Judgment]:
    """The answers of a campaign that wait for the researcher's decision, oldest first; corrected ones only once."""
    waiting = Judgment.objects.filter(item__campaign=campaign, set_aside=True, superseded=None)
    return waiting.order_by("received_at", "pk")


def judged_aside(campaign: Campaign, *, most: int) -> list[Aside]:
    """The first of them, each with what would become of it."""
    rows = set_aside(campaign).select_related(
        "item__campaign", "item__sampled_turn__turn__user_utterance", "item__response", "item__gold", "annotator"
    )
    return [Aside(judgment, _fit(judgment)[0]) for judgment in rows[:most]]


def _fit(judgment: Judgment) -> tuple[str, Slot | None]:
    """Say whether an answer can count (a key of `FITS` or `FITS_NOT`), and the slot its giver has in the item."""
    if judgment.action == Judgment.SKIP:
        return "skip", None
    person = judgment.annotator_id
    member = Membership.objects.filter(
        campaign=judgment.item.campaign_id, user=person, role=Role.ANNOTATOR, active=True
    )
    if not member.exists():
        return "left", None
    own = Slot.objects.filter(item=judgment.item_id, annotator=person).first()
    if own is None:
        free = Slot.objects.filter(item=judgment.item_id, state=Slot.FREE).exists()
        return "free" if free else "full", None
    if own.state == Slot.LEASED:
        return "held", own
    standing = _standing(judgment)
    replaces = own.state == Slot.DONE and judgment.supersedes_id is None and standing is not None
    newer = replaces and standing.received_at < judgment.received_at  # type: ignore[union-attr]
    return "replaces" if newer else "answered", own


def _standing(judgment: Judgment) -> Judgment | None:
    own = Judgment.objects.filter(item=judgment.item_id, annotator=judgment.annotator_id, set_aside=False)
    return own.filter(superseded=None).first()


def take_in(judgment: Judgment) -> Aside:
    """Let an answer count that had been set aside, if it fits: the researcher's decision.

    It takes a free slot of its item, the one its giver holds, or the place of her earlier answer. Where it does not
    fit, nothing changes; what is returned says which of it happened.
    """
    with writers_turn(), transaction.atomic():
        campaign = judgment.item.campaign
        found = set_aside(campaign).filter(pk=judgment.pk).first()
        if found is None:
            return Aside(judgment, "gone")
        try:
            member = lock_membership(campaign, found.annotator)  # type: ignore[arg-type]
        except Membership.DoesNotExist:
            return Aside(found, "left")
        why, own = _fit(found)
        if why not in FITS:
            return Aside(found, why)
        if why == "replaces":
            found.supersedes = _standing(found)
        elif own is None:
            own = _reclaim_any(campaign, member, found.item_id)
        if own is None:
            return Aside(found, "full")
        fresh = bool(Slot.objects.filter(pk=own.pk, state=Slot.LEASED).update(state=Slot.DONE, leased_until=None))
        found.slot, found.set_aside = own, False
        found.prelabel_outcome = _prelabel_outcome(own, found)
        found.save(update_fields=["slot", "set_aside", "supersedes", "prelabel_outcome"])
        if own.task != GOLD:
            settle(campaign, own)
        if fresh:
            mine = f"{Task.RATE if own.task == Task.RATE else Task.VERIFY}_done"
            Campaign.objects.filter(pk=campaign.pk).update(**{f"{own.task}_done": F(f"{own.task}_done") + 1})
            Membership.objects.filter(pk=member.pk).update(**{mine: F(mine) + 1})
        return Aside(found, why)


def take_in_all(campaign: Campaign) -> tuple[int, int]:
    """Take in every answer that fits, oldest first; return how many were taken in, and how many stay aside."""
    outcomes = [take_in(judgment) for judgment in list(set_aside(campaign).select_related("item__campaign"))]
    taken = sum(outcome.fits for outcome in outcomes)
    return taken, len(outcomes) - taken


def _reclaim_any(campaign: Campaign, member: Membership, item: int) -> Slot | None:
    now = timezone.now()
    free = Slot.objects.filter(item=item, state=Slot.FREE).values_list("pk", flat=True)
    return next(filter(None, (reclaim(campaign, member, pk, now) for pk in list(free))), None)
