"""Decide what annotators disagree about.

The adjudicator sees texts and labels, no names, no classifier, no system; never an item she labelled. The first pass
stays untouched: a decision is a row of its own, and agreement is computed without it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import pandas as pd
from django.core.cache import cache
from django.db import IntegrityError, connection, transaction
from django.db.models import Count, Exists, F, OuterRef, QuerySet
from django.utils import timezone

from annotation.models import Adjudication, Campaign, Item, Judgment, Slot, User
from annotation.workflow.presentation import contexts_of, item_veil, present_item
from annotation.workflow.submission import Refused, clean_text, read_label, read_uuid
from annotation.workflow.veil import is_veiled
from annotation.workflow.verification import DUPLICATE, REFUSED, STORED, TIE, Outcome
from evaluation.aggregation import adjudication_order

PAGE: Final = 10
RANK_EVERY_SECONDS: Final = 600
MOST_LABELS_TO_RANK: Final = 200_000
"""Fitting the annotator model to more takes too long for a page; the order is then by the entropy of the votes."""


@dataclass(frozen=True, slots=True)
class Decision:
    """What became of a decision, and the annotators' comments, which are shown only now."""

    outcome: Outcome
    comments: tuple[str, ...] = ()


def disputed(campaign: Campaign, user: User) -> QuerySet[Item]:
    """The items this person may decide, the most doubtful first."""
    decided = Adjudication.objects.filter(item=OuterRef("pk"), standing=True)
    return _unseen(campaign, user).filter(~Exists(decided), dispute__isnull=False).order_by(F("dispute").desc(), "pk")


def next_disputes(
    campaign: Campaign, user: User, *, cursor: str = "", limit: int = PAGE
) -> tuple[list[dict[str, Any]], str | None]:
    """A page of disputed items as a browser gets them, and the cursor of the next one."""
    rank_disputes(campaign)
    skipped = int(cursor) if cursor.isdecimal() and len(cursor) < 10 else 0
    related = ("sampled_turn__turn__user_utterance", "response", "gold")
    found = list(disputed(campaign, user).select_related(*related)[skipped : skipped + limit + 1])
    page = found[:limit]
    contexts = contexts_of(page)
    votes = _votes(page)
    veil = item_veil(campaign, user)
    shown = [
        {
            "item": veil.veil(item.pk),
            **present_item(item, contexts),
            "labels": [
                {"label": label, "count": count} for label, count in votes.get(item.pk, Counter()).most_common()
            ],
            "comments_hidden": True,
        }
        for item in page
    ]
    return shown, str(skipped + limit) if len(found) > limit else None


def decide(campaign: Campaign, user: User, given: Any, *, now: datetime | None = None) -> Decision:
    """Store a decision once. A later one of the same person may supersede it; the old row stays."""
    name = str(given.get("id")) if isinstance(given, dict) else "None"
    try:
        with transaction.atomic():
            return _decide(campaign, user, given, now or timezone.now())
    except Refused as refusal:
        return Decision(Outcome(name, REFUSED, refusal.reason, refusal.detail))
    except IntegrityError:
        return Decision(Outcome(name, REFUSED, "already_decided", "Someone else has just decided this item."))


def rank_disputes(campaign: Campaign, *, force: bool = False) -> int:
    """Order the disputed items by the entropy of the annotator model's posterior, ties first; return their number.

    In a closed campaign items that lack some of their answers are disputed too. Done at most every ten minutes.
    """
    if not force and not cache.add(f"disputes-ranked:{campaign.pk}:{campaign.state}", True, RANK_EVERY_SECONDS):
        return 0
    labels = Judgment.objects.filter(
        item__campaign=campaign, item__kind__in=["user", "response"], action=Judgment.LABEL, set_aside=False
    ).filter(superseded=None)
    if campaign.state != Campaign.CLOSED:
        contested = Item.objects.filter(campaign=campaign, dispute__isnull=False)
    else:
        contested = Item.objects.filter(campaign=campaign, kind__in=["user", "response"])
        contested = contested.filter(
            pk__in=labels.values("item").annotate(n=Count("label", distinct=True)).filter(n__gt=1).values("item")
        )
    if not contested.exists() or labels.count() > MOST_LABELS_TO_RANK:
        return 0
    rows = pd.DataFrame.from_records(
        list(labels.values_list("item_id", "annotator_id", "label")), columns=["item", "annotator", "label"]
    )
    # Answers of people who withdrew have no annotator any more; they count as one stranger each.
    strangers = rows["annotator"].isna()
    rows["annotator"] = rows["annotator"].astype(object)
    rows.loc[strangers, "annotator"] = [f"withdrawn-{n}" for n in range(int(strangers.sum()))]
    order = adjudication_order(rows.astype({"item": str, "annotator": str}))
    weight = {
        int(item): float(entropy) + (TIE if tie else 0.0)
        for item, tie, entropy in zip(order["item"], order["tie"], order["entropy"], strict=True)
    }
    changed = []
    for item in contested.only("pk", "dispute").iterator(chunk_size=2000):
        if item.pk in weight and weight[item.pk] != item.dispute:
            item.dispute = weight[item.pk]
            changed.append(item)
    with transaction.atomic():
        Item.objects.bulk_update(changed, ["dispute"], batch_size=500)
    return len(weight)


def _unseen(campaign: Campaign, user: User) -> QuerySet[Item]:
    held = Slot.objects.filter(item=OuterRef("pk"), annotator=user)
    judged = Judgment.objects.filter(item=OuterRef("pk"), annotator=user)
    items = Item.objects.filter(campaign=campaign, kind__in=["user", "response"])
    return items.filter(~Exists(held), ~Exists(judged))


def _votes(items: Sequence[Item]) -> dict[int, Counter[str]]:
    votes: dict[int, Counter[str]] = {}
    rows = _first_pass([item.pk for item in items]).values_list("item_id", "label")
    for item, label in rows:
        votes.setdefault(item, Counter())[label] += 1
    return votes


def _first_pass(items: Sequence[int]) -> QuerySet[Judgment]:
    return Judgment.objects.filter(item__in=items, action=Judgment.LABEL, set_aside=False, superseded=None).order_by(
        "label", "pk"
    )


def _decide(campaign: Campaign, user: User, given: Any, now: datetime) -> Decision:
    if not isinstance(given, dict):
        raise Refused("malformed", "A decision must be an object.")
    identity = read_uuid(given.get("id"), "id")
    label = read_label(given.get("label"))
    comment = clean_text(given.get("comment"), "comment")
    supersedes = read_uuid(given["supersedes"], "supersedes") if given.get("supersedes") else None
    number = item_veil(campaign, user).unveil(given["item"]) if is_veiled(given.get("item")) else -1
    item = _locked(_unseen(campaign, user).filter(pk=number)).first()
    if item is None:
        raise Refused("unknown_item", "This item is not yours to decide.")
    known = Adjudication.objects.filter(pk=identity).first()
    if known is not None:
        if (known.adjudicator_id, known.item_id, known.label, known.comment) != (user.pk, item.pk, label, comment):
            raise Refused("conflict", "This id belongs to another decision.")
        return Decision(Outcome(str(identity), DUPLICATE), _comments(item))
    standing = Adjudication.objects.filter(item=item, standing=True).first()
    if standing is not None and (standing.adjudicator_id != user.pk or standing.pk != supersedes):
        raise Refused("already_decided", "This item has been decided. Only its adjudicator can correct the decision.")
    if standing is None and supersedes is not None:
        raise Refused("unknown_decision", "The decision to be corrected does not stand.")
    if standing is None and item.dispute is None:
        raise Refused("unknown_item", "Nobody disagrees about this item.")
    if standing is not None:
        Adjudication.objects.filter(pk=standing.pk).update(standing=False)
    Adjudication(
        id=identity, item=item, adjudicator=user, label=label, comment=comment, supersedes=standing, received_at=now
    ).save(force_insert=True)
    return Decision(Outcome(str(identity), STORED), _comments(item))


def _locked(items: QuerySet[Item]) -> QuerySet[Item]:
    if connection.features.has_select_for_no_key_update:
        return items.select_for_update(no_key=True)
    return items


def _comments(item: Item) -> tuple[str, ...]:
    return tuple(_first_pass([item.pk]).exclude(comment="").values_list("comment", flat=True))
