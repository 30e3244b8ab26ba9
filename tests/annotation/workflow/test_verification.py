from __future__ import annotations

import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.utils import timezone

from annotation.models import Campaign, Item, Judgment, Membership, Slot, Task, User
from annotation.workflow.opening import close, open_campaign, pause, reopen
from annotation.workflow.presentation import slot_veil
from annotation.workflow.progress import progress_of
from annotation.workflow.queue import lease_batch, return_lapsed
from annotation.workflow.verification import SKIPS_BEFORE_ATTENTION, TIE, submit, take_in
from tests.factories import GoldQuestionFactory, MembershipFactory, answer_to

Find = Callable[..., Membership]


def lease(campaign: Campaign, user: User, task: str = "verify", **kwargs: Any) -> Slot:
    return lease_batch(campaign, user, task, want=1, **kwargs).slots[0]


def same_item(campaign: Campaign, slot: Slot, user: User) -> Slot:
    """Deal the person the same item, whatever her walk says."""
    free = Slot.objects.filter(item=slot.item_id, state=Slot.FREE).first()
    assert free is not None
    Slot.objects.filter(pk=free.pk).update(
        state=Slot.LEASED, annotator=user, leased_at=timezone.now(), leased_until=timezone.now() + timedelta(hours=1)
    )
    return Slot.objects.select_related("item").get(pk=free.pk)


def counters(campaign: Campaign) -> tuple[int, int]:
    campaign.refresh_from_db()
    return campaign.verify_done, campaign.verify_total


def test_an_answer_is_stored_once_with_everything_the_browser_said(campaign: Campaign, ada: User) -> None:
    slot = lease(campaign, ada)
    given = answer_to(
        campaign, ada, slot, label="fear", comment="is it?", flagged=True, answered_at="2026-05-01T10:00:00Z"
    )
    outcome = submit(campaign, ada, given)

    assert (outcome.status, outcome.id) == ("stored", given["id"])
    stored = Judgment.objects.get()
    assert (stored.item_id, stored.slot_id, stored.annotator) == (slot.item_id, slot.pk, ada)
    assert (stored.action, stored.label, stored.comment, stored.flagged) == ("label", "fear", "is it?", True)
    assert (stored.active_ms, stored.device, stored.guideline.version) == (1500, "desktop", 1)  # type: ignore[union-attr]
    assert (stored.answered_at, stored.prelabel_outcome) == (datetime(2026, 5, 1, 10, tzinfo=UTC), "not_shown")
    assert timezone.now() - stored.received_at < timedelta(minutes=1)
    slot.refresh_from_db()
    assert (slot.state, slot.leased_until) == (Slot.DONE, None)
    assert Item.objects.get(pk=slot.item_id).needs_attention


def test_sending_an_answer_again_stores_nothing_and_says_so(campaign: Campaign, ada: User) -> None:
    given = answer_to(campaign, ada, lease(campaign, ada))
    statuses = [submit(campaign, ada, given).status for _ in range(3)]
    assert statuses == ["stored", "duplicate", "duplicate"]
    assert Judgment.objects.count() == 1
    assert counters(campaign) == (1, 48)


def test_an_id_cannot_be_used_for_another_answer(campaign: Campaign, ada: User, bo: User) -> None:
    given = answer_to(campaign, ada, lease(campaign, ada))
    submit(campaign, ada, given)
    other = submit(campaign, ada, {**given, "label": "anger"})
    assert (other.status, other.reason) == ("refused", "conflict")
    foreign = submit(campaign, bo, answer_to(campaign, bo, lease(campaign, bo), id=given["id"]))
    assert (foreign.status, foreign.reason) == ("refused", "conflict")
    assert Judgment.objects.get().label == "joy"


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ({"label": "happiness"}, "unknown_label"),
        ({"label": None}, "unknown_label"),
        ({"label": ["joy"]}, "unknown_label"),
        ({"action": "approve"}, "unknown_action"),
        ({"action": "rate", "ratings": {}}, "wrong_action"),
        ({"action": "skip", "reason": "bored"}, "unknown_reason"),
        ({"id": "7"}, "malformed"),
        ({"id": None}, "malformed"),
        ({"slot": 12}, "unknown_slot"),
        ({"slot": "12"}, "unknown_slot"),
        ({"slot": True}, "unknown_slot"),
        ({"slot": 2**60}, "unknown_slot"),
        ({"guideline_version": 9}, "unknown_guideline"),
        ({"guideline_version": "1"}, "unknown_guideline"),
        ({"guideline_version": 2**40}, "unknown_guideline"),
        ({"comment": 5}, "malformed"),
        ({"comment": "x" * 4001}, "too_long"),
        ({"supersedes": "nothing"}, "malformed"),
        ({"supersedes": str(uuid.uuid4())}, "unknown_judgment"),
    ],
)
def test_what_cannot_be_meant_is_refused_with_a_reason_and_costs_nothing(
    campaign: Campaign, ada: User, wrong: dict[str, Any], reason: str
) -> None:
    slot = lease(campaign, ada)
    outcome = submit(campaign, ada, answer_to(campaign, ada, slot, **wrong))
    assert (outcome.status, outcome.reason) == ("refused", reason)
    assert outcome.detail
    assert not Judgment.objects.exists()
    assert submit(campaign, ada, answer_to(campaign, ada, slot)).status == "stored"


@pytest.mark.parametrize("nothing", [None, 5, "joy", []])
def test_what_is_no_object_is_refused(campaign: Campaign, ada: User, nothing: Any) -> None:
    assert submit(campaign, ada, nothing).reason == "malformed"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("active_ms", -1),
        ("active_ms", 10**12),
        ("active_ms", "soon"),
        ("active_ms", float("nan")),
        ("active_ms", True),
        ("answered_at", "yesterday"),
        ("answered_at", "2026-05-01T10:00:00"),
        ("answered_at", "9999-99-99T00:00:00Z"),
        ("answered_at", 5),
    ],
)
def test_an_unusable_time_is_stored_as_unknown_and_costs_no_answer(
    campaign: Campaign, ada: User, field: str, value: Any
) -> None:
    assert submit(campaign, ada, answer_to(campaign, ada, lease(campaign, ada), **{field: value})).status == "stored"
    assert getattr(Judgment.objects.get(), field) is None


def test_hostile_text_in_a_comment_stays_text(campaign: Campaign, ada: User) -> None:
    comment = "a\x00b\ud800<script>alert(1)</script>"
    assert submit(campaign, ada, answer_to(campaign, ada, lease(campaign, ada), comment=comment)).status == "stored"
    assert Judgment.objects.get().comment == "ab?<script>alert(1)</script>"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda ratings: ratings.pop(next(iter(ratings))), "rating_missing"),
        (lambda ratings: next(iter(ratings.values())).pop("satisfaction"), "rating_missing"),
        (lambda ratings: next(iter(ratings.values())).update(satisfaction=6), "off_scale"),
        (lambda ratings: next(iter(ratings.values())).update(satisfaction=0), "off_scale"),
        (lambda ratings: next(iter(ratings.values())).update(satisfaction=2.5), "off_scale"),
        (lambda ratings: next(iter(ratings.values())).update(satisfaction="3"), "off_scale"),
        (lambda ratings: next(iter(ratings.values())).update(beauty=3), "unknown_scale"),
        (lambda ratings: ratings.update({"123": {}}), "unknown_response"),
        (lambda ratings: ratings.clear(), "rating_missing"),
    ],
)
def test_ratings_must_be_complete_and_on_the_scale(
    campaign: Campaign, ada: User, change: Callable[[Any], Any], reason: str
) -> None:
    slot = lease(campaign, ada, "rate")
    given = answer_to(campaign, ada, slot)
    change(given["ratings"])
    assert submit(campaign, ada, given).reason == reason
    assert not Judgment.objects.exists()


def test_ratings_are_stored_under_the_responses_own_ids(campaign: Campaign, ada: User) -> None:
    slot = lease(campaign, ada, "rate")
    assert submit(campaign, ada, answer_to(campaign, ada, slot)).status == "stored"
    stored = Judgment.objects.get().ratings
    assert set(stored) == {str(pk) for pk in slot.response_order}
    assert all(scales == {"personalization": 5, "justification": 5, "satisfaction": 5} for scales in stored.values())
    campaign.refresh_from_db()
    assert (campaign.rate_done, campaign.verify_done) == (1, 0)


def test_a_slot_number_of_someone_else_resolves_to_nothing(campaign: Campaign, ada: User, bo: User) -> None:
    slot = lease(campaign, ada)
    stolen = {**answer_to(campaign, bo, slot), "slot": slot_veil(campaign, ada).veil(slot.pk)}
    assert submit(campaign, bo, stolen).reason == "unknown_slot"


# --- corrections ------------------------------------------------------------------------------------------------------


def test_a_correction_supersedes_and_the_old_row_stays(campaign: Campaign, ada: User) -> None:
    slot = lease(campaign, ada)
    first = answer_to(campaign, ada, slot)
    submit(campaign, ada, first)
    second = answer_to(campaign, ada, slot, label="fear", supersedes=first["id"])
    assert submit(campaign, ada, second).status == "stored"
    assert submit(campaign, ada, second).status == "duplicate"
    assert Judgment.objects.count() == 2
    assert Judgment.objects.get(superseded=None).label == "fear"
    assert counters(campaign) == (1, 48)


def test_only_the_latest_of_ones_own_answers_can_be_corrected(campaign: Campaign, ada: User, bo: User) -> None:
    slot = lease(campaign, ada)
    first = answer_to(campaign, ada, slot)
    submit(campaign, ada, first)
    submit(campaign, ada, answer_to(campaign, ada, slot, label="fear", supersedes=first["id"]))
    late = answer_to(campaign, ada, slot, label="anger", supersedes=first["id"])
    assert submit(campaign, ada, late).reason == "not_latest"
    foreign = answer_to(campaign, bo, same_item(campaign, slot, bo), supersedes=first["id"])
    assert submit(campaign, bo, foreign).reason == "unknown_judgment"
    other = answer_to(campaign, ada, lease(campaign, ada), supersedes=first["id"])
    assert submit(campaign, ada, other).reason == "unknown_judgment"


def test_a_second_answer_that_corrects_nothing_is_set_aside(campaign: Campaign, ada: User) -> None:
    slot = lease(campaign, ada)
    submit(campaign, ada, answer_to(campaign, ada, slot))
    twice = submit(campaign, ada, answer_to(campaign, ada, slot, label="anger"))
    assert (twice.status, twice.reason) == ("set_aside", "already_answered")
    assert Judgment.objects.get(set_aside=False).label == "joy"
    assert counters(campaign) == (1, 48)


# --- skips ------------------------------------------------------------------------------------------------------------


def test_a_skip_asks_someone_else_and_never_her_again(campaign: Campaign, ada: User, bo: User) -> None:
    slot = lease(campaign, ada)
    given = answer_to(campaign, ada, slot, action="skip", reason="garbled")
    assert submit(campaign, ada, given).status == "stored"
    assert (Judgment.objects.get().label, Judgment.objects.get().reason) == ("", "garbled")
    slots = Slot.objects.filter(item=slot.item_id)
    assert sorted(slots.values_list("state", flat=True)) == [Slot.FREE, Slot.FREE, Slot.SKIPPED]
    assert counters(campaign) == (0, 48)
    dealt = [s.item_id for _ in range(30) for s in lease_batch(campaign, ada, Task.VERIFY, want=5).slots]
    assert slot.item_id not in dealt


def test_an_item_that_many_skip_comes_before_the_researcher(campaign: Campaign, ada: User) -> None:
    slot = lease(campaign, ada)
    submit(campaign, ada, answer_to(campaign, ada, slot, action="skip"))
    for _ in range(SKIPS_BEFORE_ATTENTION - 1):
        eve = MembershipFactory.create(campaign=campaign).user
        submit(campaign, eve, answer_to(campaign, eve, same_item(campaign, slot, eve), action="skip"))
    item = Item.objects.get(pk=slot.item_id)
    states = list(item.slots.values_list("state", flat=True))
    assert item.needs_attention
    assert (states.count(Slot.SKIPPED), states.count(Slot.FREE)) == (3, 1)
    assert counters(campaign) == (0, 47)


def test_a_skip_taken_back_takes_its_place_back(campaign: Campaign, ada: User) -> None:
    slot = lease(campaign, ada)
    skip = answer_to(campaign, ada, slot, action="skip")
    submit(campaign, ada, skip)
    assert submit(campaign, ada, answer_to(campaign, ada, slot, supersedes=skip["id"])).status == "stored"
    assert sorted(Slot.objects.filter(item=slot.item_id).values_list("state", flat=True)) == [Slot.DONE, Slot.FREE]
    assert counters(campaign) == (1, 48)


def test_a_skip_taken_back_too_late_is_set_aside_rather_than_one_too_many(
    campaign: Campaign, ada: User, bo: User
) -> None:
    slot = lease(campaign, ada)
    skip = answer_to(campaign, ada, slot, action="skip")
    submit(campaign, ada, skip)
    for user in (bo, MembershipFactory.create(campaign=campaign).user):
        submit(campaign, user, answer_to(campaign, user, same_item(campaign, slot, user)))
    late = submit(campaign, ada, answer_to(campaign, ada, slot, supersedes=skip["id"]))
    assert (late.status, late.reason) == ("set_aside", "replaced")
    assert Slot.objects.filter(item=slot.item_id, state=Slot.DONE).count() == 2


def test_an_answer_corrected_to_a_skip_frees_a_place(campaign: Campaign, ada: User) -> None:
    slot = lease(campaign, ada)
    first = answer_to(campaign, ada, slot)
    submit(campaign, ada, first)
    assert (
        submit(campaign, ada, answer_to(campaign, ada, slot, action="skip", supersedes=first["id"])).status == "stored"
    )
    states = sorted(Slot.objects.filter(item=slot.item_id).values_list("state", flat=True))
    assert states == [Slot.FREE, Slot.FREE, Slot.SKIPPED]
    assert counters(campaign) == (0, 48)


# --- leases and states ------------------------------------------------------------------------------------------------


def test_a_late_answer_counts_while_nobody_else_has_the_slot(campaign: Campaign, ada: User) -> None:
    long_ago = timezone.now() - timedelta(hours=3)
    kept, freed = lease_batch(campaign, ada, Task.VERIFY, want=2, now=long_ago).slots
    assert submit(campaign, ada, answer_to(campaign, ada, kept)).status == "stored"
    return_lapsed()
    assert submit(campaign, ada, answer_to(campaign, ada, freed)).status == "stored"
    assert set(Slot.objects.filter(pk__in=[kept.pk, freed.pk]).values_list("state", "annotator")) == {("done", ada.pk)}


def test_a_late_answer_whose_slot_went_to_someone_else_is_set_aside(campaign: Campaign, ada: User, bo: User) -> None:
    slot = lease(campaign, ada, now=timezone.now() - timedelta(hours=3))
    return_lapsed()
    Slot.objects.filter(item=slot.item_id).exclude(pk=slot.pk).delete()
    same_item(campaign, slot, bo)
    late = submit(campaign, ada, answer_to(campaign, ada, slot, label="sadness"))
    assert (late.status, late.reason) == ("set_aside", "lease_lost")
    assert Judgment.objects.get().set_aside
    assert submit(campaign, bo, answer_to(campaign, bo, slot)).status == "stored"
    assert counters(campaign) == (1, 48)


def test_only_the_servers_clock_decides_about_leases(campaign: Campaign, ada: User) -> None:
    slot = lease(campaign, ada)
    for moment in ("1970-01-01T00:00:00Z", "2999-01-01T00:00:00Z"):
        before = slot.leased_until
        lease_batch(campaign, ada, Task.VERIFY, want=0, holding=[slot.pk])
        slot.refresh_from_db()
        assert slot.leased_until == before
        given = answer_to(campaign, ada, slot, answered_at=moment)
        assert submit(campaign, ada, given).status == "stored"
        assert abs(Judgment.objects.latest("received_at").received_at - timezone.now()) < timedelta(minutes=1)
        slot = lease(campaign, ada)


@pytest.mark.parametrize("move", [pause, close])
def test_answers_to_a_campaign_that_is_not_open_are_set_aside(
    campaign: Campaign, ada: User, move: Callable[[Campaign], bool]
) -> None:
    first, second = lease_batch(campaign, ada, Task.VERIFY, want=2).slots
    given = answer_to(campaign, ada, first)
    submit(campaign, ada, given)
    move(campaign)
    outcome = submit(campaign, ada, answer_to(campaign, ada, second))
    assert (outcome.status, outcome.reason) == ("set_aside", f"campaign_{campaign.state}")
    change = submit(campaign, ada, answer_to(campaign, ada, first, label="fear", supersedes=given["id"]))
    assert change.status == "set_aside"
    # What stood still stands.
    assert Judgment.objects.get(superseded=None, set_aside=False).label == "joy"


def test_the_researcher_can_take_in_what_was_set_aside(campaign: Campaign, ada: User) -> None:
    slot = lease(campaign, ada)
    pause(campaign)
    given = answer_to(campaign, ada, slot, label="fear")
    submit(campaign, ada, given)
    reopen(campaign)
    judgment = Judgment.objects.get()
    assert take_in(judgment).fits
    assert not take_in(judgment).fits
    assert not Judgment.objects.get().set_aside
    assert Slot.objects.get(pk=slot.pk).state == Slot.DONE
    assert counters(campaign) == (1, 48)


def test_nothing_is_taken_in_above_k(campaign: Campaign, ada: User, bo: User) -> None:
    slot = lease(campaign, ada, now=timezone.now() - timedelta(hours=3))
    return_lapsed()
    for user in (bo, MembershipFactory.create(campaign=campaign).user):
        submit(campaign, user, answer_to(campaign, user, same_item(campaign, slot, user)))
    submit(campaign, ada, answer_to(campaign, ada, slot))
    assert take_in(Judgment.objects.get(set_aside=True)).why == "full"
    assert Slot.objects.filter(item=slot.item_id, state=Slot.DONE).count() == 2


# --- what is noted ----------------------------------------------------------------------------------------------------


def test_agreeing_with_and_correcting_the_prelabel_are_told_apart(assisted: Campaign, ada: User) -> None:
    seen = set()
    for place, slot in enumerate(lease_batch(assisted, ada, Task.VERIFY, want=20).slots):
        label = slot.prelabel if place % 2 else "disgust"
        given = answer_to(assisted, ada, slot, label=label)
        submit(assisted, ada, given)
        outcome = Judgment.objects.get(pk=given["id"]).prelabel_outcome
        seen.add((slot.arm, label == slot.prelabel, outcome))
    assert seen <= {
        ("shown", True, "agreed"),
        ("shown", False, "corrected"),
        ("hidden", True, "not_shown"),
        ("hidden", False, "not_shown"),
    }
    assert {outcome for _, _, outcome in seen} == {"agreed", "corrected", "not_shown"}


def test_a_tie_between_complete_labels_is_noted_on_the_item_and_forgotten_when_resolved(
    campaign: Campaign, ada: User, bo: User
) -> None:
    slot = lease(campaign, ada)
    submit(campaign, ada, answer_to(campaign, ada, slot))
    assert Item.objects.get(pk=slot.item_id).dispute is None
    other = same_item(campaign, slot, bo)
    given = answer_to(campaign, bo, other, label="fear")
    submit(campaign, bo, given)
    # One vote each: a tie, with one bit of entropy.
    assert Item.objects.get(pk=slot.item_id).dispute == TIE + 1.0
    submit(campaign, bo, answer_to(campaign, bo, other, label="joy", supersedes=given["id"]))
    assert Item.objects.get(pk=slot.item_id).dispute is None


def test_progress_is_read_from_counters(campaign: Campaign, ada: User, member_of: Find) -> None:
    for ms in (1000, 3000, 2000):
        submit(campaign, ada, answer_to(campaign, ada, lease(campaign, ada), active_ms=ms))
    campaign.refresh_from_db()
    progress = progress_of(campaign, member_of(ada, campaign), "verify")
    assert progress == {
        "done": 3,
        "total": 48,
        "mine": 3,
        "mine_today": 3,
        "pace_ms": 2000,
        "left": 21,
        "state": "open",
    }
    tomorrow = timezone.now() + timedelta(days=1)
    assert progress_of(campaign, member_of(ada, campaign), "verify", now=tomorrow)["mine_today"] == 0


def test_a_gold_answer_moves_what_the_browser_sees_like_any_other(draft: Campaign, ada: User, member_of: Find) -> None:
    draft.gold_every = 1
    draft.save()
    GoldQuestionFactory.create(campaign=draft)
    open_campaign(draft)
    slots = lease_batch(draft, ada, Task.VERIFY, want=2).slots
    assert "gold" in {slot.task for slot in slots}
    for done, slot in enumerate(slots, start=1):
        assert submit(draft, ada, answer_to(draft, ada, slot)).status == "stored"
        draft.refresh_from_db()
        progress = progress_of(draft, member_of(ada, draft), "verify")
        assert (progress["done"], progress["mine"], progress["total"]) == (done, done, 48)
    assert (draft.verify_done, draft.gold_done) == (1, 1)
