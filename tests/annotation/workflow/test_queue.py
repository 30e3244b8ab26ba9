from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from datetime import timedelta

import pytest
from django.utils import timezone

from annotation.models import (
    ArmAssignment,
    Campaign,
    Dataset,
    Item,
    Membership,
    Response,
    Slot,
    Task,
    User,
)
from annotation.workflow import queue
from annotation.workflow.arms import HIDDEN, SHOWN, block_of
from annotation.workflow.opening import open_campaign, pause
from annotation.workflow.queue import lease_batch, return_lapsed, return_slots
from annotation.workflow.verification import submit
from tests.factories import (
    GoldQuestionFactory,
    MembershipFactory,
    UserFactory,
    answer_to,
    make_campaign,
    make_corpus,
)

Find = Callable[..., Membership]


def numbers(slots: list[Slot]) -> list[int]:
    return [slot.pk for slot in slots]


def work_off(campaign: Campaign, user: User, task: str = "verify", *, want: int = 3, most: int = 1000) -> list[Slot]:
    """Lease and answer until nothing comes or `most` are done; return the answered slots."""
    done: list[Slot] = []
    while len(done) < most:
        campaign.refresh_from_db()
        slots = lease_batch(campaign, user, task, want=min(want, most - len(done))).slots
        if not slots:
            return done
        for slot in slots:
            assert submit(campaign, user, answer_to(campaign, user, slot)).status == "stored"
        done += slots
    return done


def test_a_batch_holds_distinct_items_leased_for_the_campaigns_time(campaign: Campaign, ada: User) -> None:
    before = timezone.now()
    dealt = lease_batch(campaign, ada, Task.VERIFY, want=5)
    assert len({slot.item_id for slot in dealt.slots}) == 5
    for slot in dealt.slots:
        assert (slot.state, slot.annotator_id) == (Slot.LEASED, ada.pk)
        assert slot.leased_until is not None
        assert before + timedelta(minutes=30) <= slot.leased_until <= timezone.now() + timedelta(minutes=30)


def test_everyone_gets_every_item_once_and_no_item_more_than_k_answers(campaign: Campaign, ada: User, bo: User) -> None:
    eve = MembershipFactory.create(campaign=campaign).user
    for user in (ada, bo):
        assert len({slot.item_id for slot in work_off(campaign, user)}) == 24
    assert work_off(campaign, eve) == []
    per_item = Counter(
        Slot.objects.filter(campaign=campaign, task="verify", state=Slot.DONE).values_list("item", flat=True)
    )
    assert set(per_item.values()) == {2}
    assert (campaign.verify_done, campaign.verify_total) == (48, 48)


def test_people_begin_at_places_of_their_own_and_wrap_round(
    campaign: Campaign, ada: User, bo: User, member_of: Find
) -> None:
    for user in (ada, bo):
        walked = [slot.item.position for slot in work_off(campaign, user)]
        start = queue.offset(campaign, member_of(user, campaign), "verify") % 24
        assert walked == [*range(start, 24), *range(start)]
    starts = {queue.offset(campaign, Membership(pk=pk), "verify") % 24 for pk in range(50)}
    assert len(starts) > 10


def test_a_slot_that_someone_takes_meanwhile_is_not_dealt(
    campaign: Campaign, ada: User, bo: User, member_of: Find, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between looking and claiming, Bo takes the very slots that Ada saw: she gets the items' other slots."""
    look = queue._Walk._candidates
    taken: list[int] = []

    def look_slowly(walk: queue._Walk, low: int, high: int, limit: int) -> list[tuple[int, int, int]]:
        rows = look(walk, low, high, limit)
        if walk.member.user_id == ada.pk and not taken:
            first = list({item: pk for pk, item, _ in reversed(rows)}.values())
            taken.extend(first)
            Slot.objects.filter(pk__in=first).update(state=Slot.LEASED, annotator=bo, leased_until=timezone.now())
        return rows

    monkeypatch.setattr(queue._Walk, "_candidates", look_slowly)
    slots = lease_batch(campaign, ada, Task.VERIFY, want=3).slots
    assert taken
    assert len(slots) == 3
    assert not set(numbers(slots)) & set(taken)
    assert len({slot.item_id for slot in slots}) == 3


def test_a_lapsed_lease_goes_to_someone_else_and_never_above_k(campaign: Campaign, ada: User, bo: User) -> None:
    eve = MembershipFactory.create(campaign=campaign).user
    work_off(campaign, bo)
    held = lease_batch(campaign, ada, Task.VERIFY, want=4).slots
    later = timezone.now() + timedelta(minutes=31)
    items = {slot.item_id for slot in held}
    eves: set[int] = set()
    while slots := lease_batch(campaign, eve, Task.VERIFY, want=5, now=later).slots:
        for slot in slots:
            submit(campaign, eve, answer_to(campaign, eve, slot), now=later)
            eves.add(slot.item_id)
    assert items <= eves
    assert len(eves) == 24
    assert set(
        Counter(Slot.objects.filter(campaign=campaign, task="verify").values_list("item", flat=True)).values()
    ) == {2}


def test_return_lapsed_frees_only_what_is_over(campaign: Campaign, ada: User, bo: User) -> None:
    old = lease_batch(campaign, ada, Task.VERIFY, want=3, now=timezone.now() - timedelta(hours=1)).slots
    fresh = lease_batch(campaign, bo, Task.VERIFY, want=3).slots
    assert return_lapsed() == 3
    assert return_lapsed() == 0
    assert set(Slot.objects.filter(pk__in=numbers(old)).values_list("state", flat=True)) == {Slot.FREE}
    assert set(Slot.objects.filter(pk__in=numbers(fresh)).values_list("state", flat=True)) == {Slot.LEASED}


def test_what_came_back_is_met_again_by_those_who_had_passed_it(campaign: Campaign, ada: User) -> None:
    first = lease_batch(campaign, ada, Task.VERIFY, want=4).slots
    assert return_slots(campaign, ada, numbers(first)) == 4
    campaign.refresh_from_db()
    assert campaign.verify_tail == 28
    answered = work_off(campaign, ada)
    assert len({slot.item_id for slot in answered}) == 24
    # The last ones met are those given back.
    assert {slot.item_id for slot in answered} >= {slot.item_id for slot in first}


def test_only_ones_own_unanswered_leases_are_given_back(campaign: Campaign, ada: User, bo: User) -> None:
    mine = lease_batch(campaign, ada, Task.VERIFY, want=2).slots
    submit(campaign, ada, answer_to(campaign, ada, mine[0]))
    theirs = lease_batch(campaign, bo, Task.VERIFY, want=2).slots
    assert return_slots(campaign, ada, numbers([*mine, *theirs])) == 1
    assert Slot.objects.get(pk=mine[0].pk).state == Slot.DONE
    assert Slot.objects.filter(pk__in=numbers(theirs), annotator=bo).count() == 2


def test_what_someone_holds_can_be_given_to_others(campaign: Campaign, ada: User) -> None:
    kept, *held = lease_batch(campaign, ada, Task.VERIFY, want=4).slots
    submit(campaign, ada, answer_to(campaign, ada, kept))
    assert queue.reassign(campaign, ada) == 3
    assert set(Slot.objects.filter(pk__in=numbers(held)).values_list("state", flat=True)) == {Slot.FREE}
    assert Slot.objects.get(pk=kept.pk).state == Slot.DONE


def test_holding_renews_old_leases_and_names_the_lost(campaign: Campaign, ada: User, bo: User) -> None:
    then = timezone.now() - timedelta(minutes=25)
    slots = lease_batch(campaign, ada, Task.VERIFY, want=3, now=then).slots
    Slot.objects.filter(pk=slots[0].pk).update(annotator=bo)
    dealt = lease_batch(campaign, ada, Task.VERIFY, want=0, holding=numbers(slots))
    assert dealt.lost == [slots[0].pk]
    assert dealt.slots == []
    for slot in Slot.objects.filter(pk__in=numbers(slots[1:])):
        assert slot.leased_until is not None
        assert slot.leased_until > timezone.now() + timedelta(minutes=29)


def test_a_held_slot_that_lapsed_is_taken_back_while_nobody_has_it(campaign: Campaign, ada: User) -> None:
    slots = lease_batch(campaign, ada, Task.VERIFY, want=2, now=timezone.now() - timedelta(hours=2)).slots
    return_lapsed()
    dealt = lease_batch(campaign, ada, Task.VERIFY, want=1, holding=numbers(slots))
    assert dealt.lost == []
    assert not {slot.item_id for slot in dealt.slots} & {slot.item_id for slot in slots}
    assert Slot.objects.filter(pk__in=numbers(slots), annotator=ada, state=Slot.LEASED).count() == 2


def test_asking_again_from_the_same_tab_deals_the_same_items(campaign: Campaign, ada: User) -> None:
    first = lease_batch(campaign, ada, Task.VERIFY, want=5, client="tab").slots
    again = lease_batch(campaign, ada, Task.VERIFY, want=5, client="tab").slots
    assert numbers(again) == numbers(first)
    part = lease_batch(campaign, ada, Task.VERIFY, want=5, client="tab", holding=numbers(first[:3])).slots
    assert numbers(part)[:2] == numbers(first[3:])
    assert len(part) == 5


def test_two_tabs_of_one_person_get_different_items(campaign: Campaign, ada: User) -> None:
    one = lease_batch(campaign, ada, Task.VERIFY, want=5, client="one").slots
    two = lease_batch(campaign, ada, Task.VERIFY, want=5, client="two").slots
    assert len({slot.item_id for slot in [*one, *two]}) == 10


def test_what_one_holds_on_another_device_comes_once_nothing_else_is_left(campaign: Campaign, ada: User) -> None:
    left = numbers(lease_batch(campaign, ada, Task.VERIFY, want=4, client="laptop").slots)
    own = numbers(lease_batch(campaign, ada, Task.VERIFY, want=20, client="desk").slots)
    assert not set(left) & set(own)
    # She may be at work there this very minute.
    assert lease_batch(campaign, ada, Task.VERIFY, want=4, client="desk", holding=own).slots == []
    soon = timezone.now() + 2 * queue.LEFT_ALONE
    taken = lease_batch(campaign, ada, Task.VERIFY, want=9, client="desk", holding=own, now=soon)
    assert numbers(taken.slots) == left
    # The other device may send its answer all the same: it is hers, and counts once.
    slot = taken.slots[0]
    assert submit(campaign, ada, answer_to(campaign, ada, slot)).status == "stored"
    assert submit(campaign, ada, answer_to(campaign, ada, slot)).reason == "already_answered"


def test_a_paused_campaign_deals_nothing_and_keeps_leases(campaign: Campaign, ada: User) -> None:
    slots = lease_batch(campaign, ada, Task.VERIFY, want=2).slots
    pause(campaign)
    dealt = lease_batch(campaign, ada, Task.VERIFY, want=5, holding=numbers(slots))
    assert (dealt.slots, dealt.lost) == ([], [])


def test_raters_are_kept_apart_from_those_who_labelled_the_turn(campaign: Campaign, ada: User, bo: User) -> None:
    campaign.separate_raters = True
    campaign.save()
    labelled = lease_batch(campaign, ada, Task.VERIFY, want=1).slots[0]
    turn = labelled.item.sampled_turn_id
    rated = {slot.item.sampled_turn_id for slot in work_off(campaign, ada, "rate")}
    assert len(rated) == 5
    assert turn not in rated
    assert turn in {slot.item.sampled_turn_id for slot in work_off(campaign, bo, "rate")}


def test_a_turn_that_was_barred_is_found_again_once_it_is_not(campaign: Campaign, ada: User) -> None:
    """She had a lease on the turn when she passed its rating and gave it back: the next sweep finds it."""
    campaign.separate_raters = True
    campaign.save()
    barred = lease_batch(campaign, ada, Task.VERIFY, want=1).slots
    assert len(work_off(campaign, ada, "rate")) == 5
    return_slots(campaign, ada, numbers(barred))
    later = timezone.now() + timedelta(seconds=61)
    found = lease_batch(campaign, ada, Task.RATE, want=5, now=later).slots
    assert [slot.item.sampled_turn_id for slot in found] == [barred[0].item.sampled_turn_id]


def test_responses_are_shown_in_an_order_of_each_persons_own_and_recorded(
    campaign: Campaign, ada: User, bo: User
) -> None:
    orders = {}
    for user in (ada, bo):
        for slot in work_off(campaign, user, "rate"):
            own = Response.objects.filter(turn=slot.item.sampled_turn.turn).values_list("pk", flat=True)  # type: ignore[union-attr]
            assert sorted(slot.response_order) == sorted(own)
            assert Slot.objects.get(pk=slot.pk).response_order == slot.response_order
            orders[user.username, slot.item_id] = slot.response_order
    assert len(orders) == 12
    assert any(orders["ada", item] != orders["bo", item] for name, item in orders if name == "ada")
    assert any(order != sorted(order) for order in orders.values())


def test_the_hidden_arm_holds_its_share_within_each_annotator_and_label(corpus: Dataset, ada: User, bo: User) -> None:
    make_corpus(32, dataset="inspired", systems=())
    campaign = make_campaign(
        corpus=corpus,
        mode=Campaign.ASSISTED,
        design={"kind": "all"},
        verify_responses=False,
        rate_responses=False,
    )
    campaign.datasets.add(Dataset.objects.get(name="inspired"))
    open_campaign(campaign)
    for user in (ada, bo):
        MembershipFactory.create(user=user, campaign=campaign)
        work_off(campaign, user, want=20)
    for user in (ada, bo):
        by_label: dict[str, list[str]] = {}
        for label, arm in Slot.objects.filter(annotator=user).order_by("pk").values_list("prelabel", "arm"):
            by_label.setdefault(label, []).append(arm)
        assert len(by_label) >= 4
        for arms in by_label.values():
            blocks, rest = divmod(len(arms), 10)
            assert 3 * blocks <= arms.count(HIDDEN) <= 3 * blocks + min(rest, 3)


def test_an_arm_is_fixed_at_the_first_deal_for_ever(assisted: Campaign, ada: User) -> None:
    slots = lease_batch(assisted, ada, Task.VERIFY, want=20).slots
    first = {slot.item_id: (slot.arm, slot.prelabel) for slot in slots}
    return_slots(assisted, ada, numbers(slots))
    Slot.objects.filter(item__in=first).update(arm="", prelabel="")
    for _ in range(4):
        assisted.refresh_from_db()
        for slot in lease_batch(assisted, ada, Task.VERIFY, want=20).slots:
            if slot.item_id in first:
                assert (slot.arm, slot.prelabel) == first.pop(slot.item_id)
    assert first == {}
    assert set(ArmAssignment.objects.values_list("arm", flat=True)) == {SHOWN, HIDDEN}


def test_arms_are_blocks_in_random_order_fixed_by_the_seed() -> None:
    blocks = [block_of(0.3, 7, 1, "joy", number) for number in range(200)]
    assert all(block.count(HIDDEN) == 3 and len(block) == 10 for block in blocks)
    assert len({tuple(block) for block in blocks}) > 50
    assert blocks[0] == block_of(0.3, 7, 1, "joy", 0)
    # 0.05 of ten is no whole number: blocks of twenty, one hidden
    assert Counter(block_of(0.05, 7, 1, "joy", 0)) == {SHOWN: 19, HIDDEN: 1}


def test_a_blind_campaign_assigns_no_arm_and_stores_no_prediction(campaign: Campaign, ada: User) -> None:
    lease_batch(campaign, ada, Task.VERIFY, want=20)
    assert not Slot.objects.filter(campaign=campaign).exclude(arm="", prelabel="").exists()


def test_gold_comes_once_in_each_block_and_each_question_once_per_person(draft: Campaign, ada: User, bo: User) -> None:
    draft.gold_every = 4
    draft.save()
    for _ in range(3):
        GoldQuestionFactory.create(campaign=draft)
    open_campaign(draft)
    for user in (ada, bo):
        kinds = [slot.item.kind for slot in work_off(draft, user, want=3)]
        gold = [place for place, kind in enumerate(kinds) if kind == "gold"]
        assert len(kinds) == 27
        assert [place // 5 for place in gold] == [0, 1, 2]
    assert Slot.objects.filter(campaign=draft, task="gold", state=Slot.DONE).count() == 6
    draft.refresh_from_db()
    assert (draft.verify_done, draft.gold_done) == (48, 6)


def test_a_returned_gold_question_comes_again_to_the_same_person_only(draft: Campaign, ada: User, bo: User) -> None:
    draft.gold_every = 1
    draft.save()
    GoldQuestionFactory.create(campaign=draft)
    open_campaign(draft)
    dealt = lease_batch(draft, ada, Task.VERIFY, want=2).slots
    gold = [slot for slot in dealt if slot.task == "gold"]
    assert len(gold) == 1
    return_slots(draft, ada, numbers(dealt))
    bos = [slot for slot in lease_batch(draft, bo, Task.VERIFY, want=2).slots if slot.task == "gold"]
    again = [slot for slot in lease_batch(draft, ada, Task.VERIFY, want=4).slots if slot.task == "gold"]
    assert numbers(again) == numbers(gold)
    assert numbers(bos) != numbers(gold)


def test_someone_who_joins_later_gets_what_is_left(campaign: Campaign, ada: User) -> None:
    work_off(campaign, ada, most=10)
    eve = MembershipFactory.create(campaign=campaign, user=UserFactory.create()).user
    assert len(work_off(campaign, eve)) == 24


def test_the_walk_finds_everything_whatever_is_returned_on_the_way(campaign: Campaign, ada: User, bo: User) -> None:
    """Ada keeps giving back half of what she gets; in the end both have answered every item."""
    for _ in range(12):
        campaign.refresh_from_db()
        slots = lease_batch(campaign, ada, Task.VERIFY, want=4).slots
        return_slots(campaign, ada, numbers(slots[::2]))
        for slot in slots[1::2]:
            submit(campaign, ada, answer_to(campaign, ada, slot))
    assert len(work_off(campaign, bo)) == 24
    work_off(campaign, ada)
    assert Item.objects.filter(campaign=campaign, kind__in=["user", "response"]).count() == 24
    assert Slot.objects.filter(campaign=campaign, task="verify", annotator=ada, state=Slot.DONE).count() == 24
