"""What a researcher does to a running campaign, and that the audit log knows it."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from annotation.models import AuditEvent, Campaign, Judgment, Membership, Slot, User
from annotation.workflow import steering
from annotation.workflow.accounts import withdraw
from annotation.workflow.opening import close, pause, reopen
from annotation.workflow.overview import campaign_state
from annotation.workflow.queue import lease_batch, return_lapsed
from annotation.workflow.verification import judged_aside, set_aside, submit
from tests.factories import MembershipFactory, answer_to

Find = Callable[..., Membership]


def acts() -> list[tuple[str, dict[str, Any]]]:
    return list(AuditEvent.objects.order_by("at").values_list("action", "details"))


def answer_while_paused(campaign: Campaign, user: User, **given: Any) -> Judgment:
    """An answer that is set aside because the campaign stands still."""
    slot = lease_batch(campaign, user, "verify", want=1).slots[0]
    pause(campaign)
    sent = answer_to(campaign, user, slot, **given)
    assert submit(campaign, user, sent).status == "set_aside"
    reopen(campaign)
    return Judgment.objects.get(pk=sent["id"])


# --- the campaign -----------------------------------------------------------------------------------------------------


def test_a_campaign_is_paused_reopened_and_closed_by_its_researcher(campaign: Campaign, rhea: User) -> None:
    for to in (Campaign.PAUSED, Campaign.OPEN, Campaign.CLOSED, Campaign.OPEN):
        assert steering.move(campaign, to, by=rhea)
        assert campaign.state == to
    assert [act for act, _ in acts()] == ["pause campaign", "reopen campaign", "close campaign", "reopen campaign"]


def test_a_move_that_cannot_be_changes_nothing_and_is_not_recorded(campaign: Campaign, rhea: User) -> None:
    assert not steering.move(campaign, Campaign.OPEN, by=rhea)
    close(campaign)
    assert not steering.move(campaign, Campaign.PAUSED, by=rhea)
    assert campaign.state == Campaign.CLOSED
    assert acts() == []


def test_a_draft_is_not_opened_by_a_move(draft: Campaign, rhea: User) -> None:
    assert not any(steering.move(draft, to, by=rhea) for to in steering.MOVES)


# --- its people -------------------------------------------------------------------------------------------------------


def test_what_someone_holds_goes_to_others_and_her_answers_stay(
    campaign: Campaign, ada: User, rhea: User, member_of: Find
) -> None:
    slots = lease_batch(campaign, ada, "verify", want=5).slots
    submit(campaign, ada, answer_to(campaign, ada, slots[0]))
    assert steering.reassign(campaign, member_of(ada, campaign), by=rhea) == 4
    assert Slot.objects.filter(annotator=ada).count() == 1
    assert acts() == [("reassign", {"annotator": member_of(ada, campaign).pseudonym, "items": 4})]


def test_who_is_let_out_is_dealt_nothing_and_can_be_let_in_again(
    campaign: Campaign, ada: User, rhea: User, member_of: Find
) -> None:
    lease_batch(campaign, ada, "verify", want=3)
    member = member_of(ada, campaign)
    assert steering.set_active(campaign, member, active=False, by=rhea)
    assert not Slot.objects.filter(annotator=ada).exists()
    with pytest.raises(Membership.DoesNotExist):
        lease_batch(campaign, ada, "verify", want=1)
    assert steering.set_active(campaign, member, active=True, by=rhea)
    assert len(lease_batch(campaign, ada, "verify", want=1).slots) == 1
    assert [act for act, _ in acts()] == ["let out", "let in"]
    # a second time changes nothing
    assert steering.set_active(campaign, member, active=True, by=rhea)
    assert len(acts()) == 2


def test_who_has_withdrawn_is_not_let_in_again(campaign: Campaign, ada: User, rhea: User, member_of: Find) -> None:
    withdraw(user=ada, campaign=campaign)
    member = member_of(ada, campaign)
    assert not steering.set_active(campaign, member, active=True, by=rhea)
    member.refresh_from_db()
    assert not member.active


def test_the_state_follows_people_at_once(campaign: Campaign, ada: User, rhea: User, member_of: Find) -> None:
    lease_batch(campaign, ada, "verify", want=3)
    before = {one.user: one for one in campaign_state(campaign).annotators}
    assert (before[ada].holding, before[ada].active) == (3, True)
    steering.set_active(campaign, member_of(ada, campaign), active=False, by=rhea)
    new = MembershipFactory.create(campaign=campaign).user
    after = {one.user: one for one in campaign_state(campaign).annotators}
    assert (after[ada].holding, after[ada].active) == (0, False)
    assert new in after


# --- answers set aside ------------------------------------------------------------------------------------------------


def test_an_answer_that_fits_is_taken_in_and_counts_for_campaign_and_person(
    assisted: Campaign, ada: User, rhea: User, member_of: Find
) -> None:
    judgment = answer_while_paused(assisted, ada, label="fear")
    assert [(one.fits, one.why) for one in judged_aside(assisted, most=10)] == [(True, "held")]
    outcome = steering.take_in(assisted, str(judgment.pk), by=rhea)
    assert outcome is not None
    assert outcome.fits
    judgment.refresh_from_db()
    assert not judgment.set_aside
    # what an answer says of its pre-label is noted when it begins to count
    assert judgment.slot is not None
    wanted = "corrected" if judgment.slot.arm == "shown" else "not_shown"
    assert judgment.prelabel_outcome == wanted
    assisted.refresh_from_db()
    assert (assisted.verify_done, member_of(ada, assisted).verify_done) == (1, 1)
    assert acts() == [("take in", {"judgment": str(judgment.pk), "why": "held"})]
    assert campaign_state(assisted).set_aside == 0


def test_an_answer_whose_lease_lapsed_takes_a_free_place(campaign: Campaign, ada: User) -> None:
    judgment = answer_while_paused(campaign, ada)
    return_lapsed(now=timezone.now() + timedelta(days=1))
    assert [one.why for one in judged_aside(campaign, most=10)] == ["free"]
    assert steering.take_in_all(campaign, by=ada) == (1, 0)
    judgment.refresh_from_db()
    assert Slot.objects.get(pk=judgment.slot_id).annotator == ada


def test_a_correction_made_while_the_campaign_stood_still_replaces_the_earlier_answer(
    campaign: Campaign, ada: User, rhea: User
) -> None:
    slot = lease_batch(campaign, ada, "verify", want=1).slots[0]
    first = answer_to(campaign, ada, slot, label="joy")
    submit(campaign, ada, first)
    pause(campaign)
    change = answer_to(campaign, ada, slot, label="fear", supersedes=first["id"])
    assert submit(campaign, ada, change).status == "set_aside"
    assert [one.why for one in judged_aside(campaign, most=10)] == ["replaces"]
    assert steering.take_in_all(campaign, by=rhea) == (1, 0)
    standing = Judgment.objects.get(superseded=None, set_aside=False)
    assert (standing.label, str(standing.supersedes_id)) == ("fear", first["id"])
    campaign.refresh_from_db()
    assert campaign.verify_done == 1


def test_what_does_not_fit_stays_aside_and_says_why(campaign: Campaign, ada: User, bo: User, rhea: User) -> None:
    late = answer_while_paused(campaign, ada, label="fear")
    newer = answer_to(campaign, ada, Slot.objects.get(pk=late.slot_id), label="joy")
    submit(campaign, ada, newer)
    skip = answer_while_paused(campaign, bo, action="skip", reason="unclear", label="")
    assert {one.judgment.pk: one.why for one in judged_aside(campaign, most=10)} == {
        late.pk: "answered",
        skip.pk: "skip",
    }
    assert steering.take_in_all(campaign, by=rhea) == (0, 2)
    assert set_aside(campaign).count() == 2
    assert acts() == []


def test_an_answer_of_someone_who_was_let_out_stays_aside(
    campaign: Campaign, ada: User, rhea: User, member_of: Find
) -> None:
    judgment = answer_while_paused(campaign, ada)
    steering.set_active(campaign, member_of(ada, campaign), active=False, by=rhea)
    outcome = steering.take_in(campaign, str(judgment.pk), by=rhea)
    assert outcome is not None
    assert outcome.why == "left"


def test_an_answer_of_another_campaign_is_not_there(
    campaign: Campaign, other_campaign: Campaign, ada: User, rhea: User
) -> None:
    judgment = answer_while_paused(campaign, ada)
    assert steering.take_in(other_campaign, str(judgment.pk), by=rhea) is None
    assert steering.take_in(campaign, str(uuid.uuid4()), by=rhea) is None
