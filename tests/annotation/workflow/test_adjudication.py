from __future__ import annotations

import uuid
from typing import Any

import pytest
from django.core.cache import cache

from annotation.models import Adjudication, Campaign, Item, Judgment, Role, Slot, User
from annotation.workflow.adjudication import decide, disputed, next_disputes, rank_disputes
from annotation.workflow.opening import close, open_campaign
from annotation.workflow.presentation import item_veil
from annotation.workflow.verification import TIE, submit
from tests.factories import MembershipFactory, answer_to


@pytest.fixture(autouse=True)
def _forget_ranks() -> None:
    cache.clear()


def give(campaign: Campaign, item: Item, user: User, label: str, **given: Any) -> None:
    """Let a person answer an item, whatever her walk says."""
    slot = Slot.objects.filter(item=item, state=Slot.FREE).order_by("number").first()
    assert slot is not None
    Slot.objects.filter(pk=slot.pk).update(state=Slot.LEASED, annotator=user)
    slot.refresh_from_db()
    outcome = submit(campaign, user, answer_to(campaign, user, slot, label=label, **given))
    assert outcome.status == "stored"


def items_of(campaign: Campaign) -> list[Item]:
    return list(Item.objects.filter(campaign=campaign, kind__in=["user", "response"]).order_by("position"))


def decision(campaign: Campaign, user: User, item: Item, label: str = "fear", /, **given: Any) -> dict[str, Any]:
    return {
        "id": str(uuid.uuid4()),
        "item": item_veil(campaign, user).veil(item.pk),
        "label": label,
        "comment": "",
    } | given


def test_only_complete_disagreements_wait(campaign: Campaign, ada: User, bo: User, cleo: User) -> None:
    agreed, tied, single, skipped = items_of(campaign)[:4]
    for user, label in ((ada, "joy"), (bo, "joy")):
        give(campaign, agreed, user, label)
    for user, label in ((ada, "joy"), (bo, "fear")):
        give(campaign, tied, user, label)
    give(campaign, single, ada, "joy")
    give(campaign, skipped, ada, "joy")
    give(campaign, skipped, bo, "", action="skip")
    assert list(disputed(campaign, cleo)) == [tied]


def test_ties_come_first_then_the_greater_entropy(draft: Campaign, ada: User, bo: User, cleo: User) -> None:
    draft.verify_overlap = 4
    draft.save()
    open_campaign(draft)
    people = [ada, bo, *(MembershipFactory.create(campaign=draft).user for _ in range(2))]
    clear, doubtful, tied = items_of(draft)[:3]
    for item, labels in (
        (clear, ["joy", "joy", "joy", "fear"]),
        (doubtful, ["joy", "joy", "fear", "anger"]),
        (tied, ["joy", "joy", "fear", "fear"]),
    ):
        for user, label in zip(people, labels, strict=True):
            give(draft, item, user, label)
    # In bits: 2/4, 2/4 -> 1 and a tie; 2/4, 1/4, 1/4 -> 1.5; 3/4, 1/4 -> 0.8113
    disputes = {item.pk: item.dispute for item in disputed(draft, cleo)}
    assert list(disputes) == [tied.pk, doubtful.pk, clear.pk]
    assert list(disputes.values()) == pytest.approx([TIE + 1.0, 1.5, 0.8113], abs=1e-4)


def test_the_annotator_models_posterior_takes_the_place_of_the_votes(
    campaign: Campaign, ada: User, bo: User, cleo: User
) -> None:
    items = items_of(campaign)
    for item in items[:6]:
        give(campaign, item, ada, "joy")
        give(campaign, item, bo, "joy")
    for item in items[6:9]:
        give(campaign, item, ada, "joy")
        give(campaign, item, bo, "sadness")
    before = set(disputed(campaign, cleo).values_list("dispute", flat=True))
    assert rank_disputes(campaign, force=True) == 3
    after = set(disputed(campaign, cleo).values_list("dispute", flat=True))
    assert before == {TIE + 1.0}
    assert after != before
    assert all(TIE <= dispute <= TIE + 2.81 for dispute in after)


def test_a_closed_campaign_gives_its_unfinished_disagreements_to_the_adjudicator(
    draft: Campaign, ada: User, bo: User, cleo: User
) -> None:
    draft.verify_overlap = 3
    draft.save()
    open_campaign(draft)
    item = items_of(draft)[0]
    give(draft, item, ada, "joy")
    give(draft, item, bo, "fear")
    assert next_disputes(draft, cleo) == ([], None)
    close(draft)
    shown, _ = next_disputes(draft, cleo)
    assert len(shown) == 1


def test_nobody_adjudicates_what_she_labelled(campaign: Campaign, ada: User, bo: User, cleo: User) -> None:
    MembershipFactory.create(campaign=campaign, user=ada, role=Role.ADJUDICATOR)
    item = items_of(campaign)[0]
    give(campaign, item, ada, "joy")
    give(campaign, item, bo, "fear")
    assert list(disputed(campaign, ada)) == []
    refused = decide(campaign, ada, decision(campaign, ada, item))
    assert (refused.outcome.status, refused.outcome.reason) == ("refused", "unknown_item")
    assert not Adjudication.objects.exists()
    assert decide(campaign, cleo, decision(campaign, cleo, item)).outcome.status == "stored"


def test_a_decision_shows_texts_and_votes_and_then_the_comments(
    campaign: Campaign, ada: User, bo: User, cleo: User
) -> None:
    item = next(item for item in items_of(campaign) if item.kind == "response")
    give(campaign, item, ada, "joy", comment="warm words")
    give(campaign, item, bo, "fear")
    (shown,), following = next_disputes(campaign, cleo)
    assert following is None
    assert set(shown) == {"item", "kind", "context", "target", "labels", "comments_hidden"}
    assert shown["labels"] == [{"label": "fear", "count": 1}, {"label": "joy", "count": 1}]
    assert "warm words" not in str(shown)

    decided = decide(campaign, cleo, decision(campaign, cleo, item))

    assert decided.comments == ("warm words",)
    assert list(disputed(campaign, cleo)) == []
    # The first pass is untouched.
    assert sorted(Judgment.objects.filter(superseded=None).values_list("label", flat=True)) == ["fear", "joy"]


def test_a_decision_is_stored_once_and_corrected_by_its_maker_only(
    campaign: Campaign, ada: User, bo: User, cleo: User
) -> None:
    eve = MembershipFactory.create(campaign=campaign, role=Role.ADJUDICATOR).user
    item = items_of(campaign)[0]
    give(campaign, item, ada, "joy")
    give(campaign, item, bo, "fear")
    first = decision(campaign, cleo, item)
    statuses = [decide(campaign, cleo, first).outcome.status for _ in range(2)]
    assert statuses == ["stored", "duplicate"]
    assert decide(campaign, cleo, {**first, "label": "joy"}).outcome.reason == "conflict"
    assert decide(campaign, eve, decision(campaign, eve, item)).outcome.reason == "already_decided"
    assert (
        decide(campaign, eve, decision(campaign, eve, item, supersedes=first["id"])).outcome.reason == "already_decided"
    )
    assert decide(campaign, cleo, decision(campaign, cleo, item)).outcome.reason == "already_decided"
    second = decision(campaign, cleo, item, "joy", supersedes=first["id"])
    assert decide(campaign, cleo, second).outcome.status == "stored"
    assert [str(row.pk) for row in Adjudication.objects.filter(standing=True)] == [second["id"]]
    assert Adjudication.objects.count() == 2


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ({"label": "happiness"}, "unknown_label"),
        ({"item": 5}, "unknown_item"),
        ({"item": "5"}, "unknown_item"),
        ({"id": "5"}, "malformed"),
        ({"comment": ["x"]}, "malformed"),
        ({"supersedes": str(uuid.uuid4())}, "unknown_decision"),
    ],
)
def test_a_decision_that_cannot_be_meant_is_refused(
    campaign: Campaign, ada: User, bo: User, cleo: User, wrong: dict[str, Any], reason: str
) -> None:
    item = items_of(campaign)[0]
    give(campaign, item, ada, "joy")
    give(campaign, item, bo, "fear")
    refused = decide(campaign, cleo, decision(campaign, cleo, item, **wrong))
    assert (refused.outcome.status, refused.outcome.reason, refused.comments) == ("refused", reason, ())
    assert not Adjudication.objects.exists()


def test_an_item_nobody_disagrees_about_is_not_decided(campaign: Campaign, ada: User, cleo: User) -> None:
    item = items_of(campaign)[0]
    give(campaign, item, ada, "joy")
    assert decide(campaign, cleo, decision(campaign, cleo, item)).outcome.reason == "unknown_item"


def test_pages_follow_one_another(campaign: Campaign, ada: User, bo: User, cleo: User) -> None:
    for item in items_of(campaign)[:5]:
        give(campaign, item, ada, "joy")
        give(campaign, item, bo, "fear")
    first, cursor = next_disputes(campaign, cleo, limit=3)
    second, end = next_disputes(campaign, cleo, cursor=cursor or "", limit=3)
    assert (len(first), len(second), end) == (3, 2, None)
    assert len({shown["item"] for shown in [*first, *second]}) == 5
    assert len(next_disputes(campaign, cleo, cursor="nonsense", limit=9)[0]) == 5
