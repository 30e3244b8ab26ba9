"""Deal items: exactly k answers each, no item twice to one person, nothing dealt and forgotten.

A task's queue is a tape: its items in random order, then whatever came back (a lapsed or returned lease, the fresh slot
after a skip), each at the end. Every annotator walks the tape once, from a place of her own, so the next free slot is a
short range scan at any size, and what comes back is met by everyone who had passed it. A slot is claimed by an update
that holds only while it is free. One person's requests queue up behind her membership row; between people nothing
waits.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from random import Random
from typing import Final

from django.db import connection, transaction
from django.db.models import Exists, F, OuterRef, Q, QuerySet
from django.utils import timezone

from annotation.models import GOLD, Campaign, Item, Membership, Response, Role, Slot, Task, User
from annotation.workflow.arms import assign_arms
from annotation.workflow.predictions import UNUSABLE_FLAGS
from annotation.workflow.writers import writers_turn

MOST_PER_REQUEST: Final = 20
SWEEP_EVERY: Final = timedelta(seconds=60)
"""How often someone who has walked the whole tape may look it through again for what she could not have met."""
LEFT_ALONE: Final = timedelta(seconds=60)
"""A lease of another device of the same person stays there at least so long."""
LAPSED_PER_STEP: Final = 500
FIRST_LOOK: Final = 4
LONGEST_LOOK: Final = 500
MOST_LOOKS: Final = 200
"""Looks along the tape in one request; whoever has more to pass goes on with her next request."""


@dataclass(slots=True)
class Dealt:
    """The slots to work on, oldest lease first, and those of the browser's that are no longer this person's."""

    member: Membership
    slots: list[Slot] = field(default_factory=list)
    lost: list[int] = field(default_factory=list)


def lease_batch(
    campaign: Campaign,
    user: User,
    task: str,
    *,
    want: int,
    holding: Sequence[int] = (),
    client: str = "",
    now: datetime | None = None,
) -> Dealt:
    """Deal up to `want` items and renew what the browser holds, in one transaction.

    `holding` are slots in the browser; whichever lapsed and is still free is taken back. Slots that this very tab
    (`client`) was dealt but does not hold, because an answer got lost or the page was loaded anew, come again first.
    """
    now = now or timezone.now()
    holding = list(dict.fromkeys(holding))
    with writers_turn(), hasty_transaction():
        member = lock_membership(campaign, user)
        held = list(_held(campaign, user, task).values_list("pk", "client", "leased_until"))
        mine = {pk for pk, _, _ in held}
        lost = [pk for pk in holding if pk not in mine and reclaim(campaign, member, pk, now) is None]
        again = [pk for pk, owner, _ in held if client and owner == client and pk not in set(holding)][:want]
        _renew(campaign, [(pk, until) for pk, _, until in held if pk in {*holding, *again}], now)
        fresh: list[int] = []
        if min(want, MOST_PER_REQUEST) > len(again) and campaign.state == Campaign.OPEN:
            fresh = _deal(campaign, member, task, min(want, MOST_PER_REQUEST) - len(again), client, now)
            if not again and not fresh:
                again = _from_elsewhere(campaign, user, task, want, set(holding), client, now)
    # What is shown is read after the writers' turn: on SQLite everybody else waits meanwhile.
    return Dealt(member, load_slots([*again, *fresh]), lost)


@contextmanager
def hasty_transaction() -> Iterator[None]:
    """A transaction whose commit does not wait for the disk: a lease that a power cut takes away is only dealt again.

    A judgment's own commit does wait, and carries everything before it to the disk: both databases write one log.
    """
    if connection.vendor == "postgresql":
        with transaction.atomic():
            with connection.cursor() as cursor:
                cursor.execute("SET LOCAL synchronous_commit TO OFF")
            yield
        return
    outermost = connection.vendor == "sqlite" and not connection.in_atomic_block
    if outermost:
        with connection.cursor() as cursor:
            cursor.execute("PRAGMA synchronous=NORMAL")
    try:
        with transaction.atomic():
            yield
    finally:
        if outermost:
            with connection.cursor() as cursor:
                cursor.execute("PRAGMA synchronous=FULL")


def _from_elsewhere(
    campaign: Campaign, user: User, task: str, want: int, holding: set[int], client: str, now: datetime
) -> list[int]:
    """When nothing else is left: what the person holds on another device and has not begun just now comes to this one.

    She may have closed the other for good; without this she would see an empty queue until those leases lapse. Should
    she answer there all the same, that answer counts, and the one given here is set aside.
    """
    held = _held(campaign, user, task).exclude(pk__in=holding).filter(leased_at__lt=now - LEFT_ALONE)
    found = list(held.values_list("pk", flat=True)[: min(want, MOST_PER_REQUEST)])
    Slot.objects.filter(pk__in=found).update(client=client, leased_at=now, leased_until=_until(campaign, now))
    return found


def return_slots(campaign: Campaign, user: User, slots: Sequence[int]) -> int:
    """Give leases back, when the page is left. Foreign and answered slots are passed over."""
    with writers_turn(), hasty_transaction():
        lock_membership(campaign, user)
        own = Slot.objects.filter(campaign=campaign, annotator=user, state=Slot.LEASED, pk__in=list(slots))
        return _release(own)


def reassign(campaign: Campaign, user: User) -> int:
    """Give everything a person holds but has not answered to others, before its time is over."""
    with transaction.atomic():
        return _release(Slot.objects.filter(campaign=campaign, annotator=user, state=Slot.LEASED))


def return_lapsed(*, campaign: Campaign | None = None, now: datetime | None = None) -> int:
    """Free every lease whose time is over; call it as often as you like. Only the server's clock counts."""
    lapsed = Slot.objects.filter(leased_until__lt=now or timezone.now(), state=Slot.LEASED)
    if campaign is not None:
        lapsed = lapsed.filter(campaign=campaign)
    freed = 0
    while True:
        with transaction.atomic():
            step = _release(lapsed.order_by("leased_until")[:LAPSED_PER_STEP])
        freed += step
        if step < LAPSED_PER_STEP:
            return freed


def lock_membership(campaign: Campaign, user: User) -> Membership:
    """The person's annotator membership, locked until the end of the transaction."""
    query = Membership.objects.filter(campaign=campaign, user=user, role=Role.ANNOTATOR, active=True)
    if connection.features.has_select_for_no_key_update:
        query = query.select_for_update(no_key=True)
    return query.get()


def reclaim(campaign: Campaign, member: Membership, slot_id: int, now: datetime) -> Slot | None:
    """Take back a slot whose lease lapsed, if nobody has it now and the person has no other slot of that item."""
    slot = _unlocked(Slot.objects.filter(pk=slot_id, campaign=campaign, state=Slot.FREE)).first()
    if slot is None or Slot.objects.filter(item=slot.item_id, annotator=member.user_id).exists():
        return None
    claimed = _claim(campaign, member, [slot.pk], "", now)
    if not claimed:
        return None
    _prepare(campaign, member, claimed, rating=slot.task == Task.RATE)
    return Slot.objects.get(pk=slot.pk)


def to_the_end(campaign_id: int, task: str, count: int) -> int:
    """Reserve `count` places at the end of a queue's tape; return the first."""
    if task == GOLD:
        return 0
    Campaign.objects.filter(pk=campaign_id).update(**{f"{task}_tail": F(f"{task}_tail") + count})
    tail: int = Campaign.objects.values_list(f"{task}_tail", flat=True).get(pk=campaign_id)
    return tail - count


# --- leases -----------------------------------------------------------------------------------------------------------


def _tasks(task: str) -> list[str]:
    return [Task.VERIFY.value, GOLD] if task == Task.VERIFY else [task]


def _held(campaign: Campaign, user: User, task: str) -> QuerySet[Slot]:
    own = Slot.objects.filter(annotator=user, campaign=campaign, task__in=_tasks(task), state=Slot.LEASED)
    return own.order_by("leased_at", "position", "pk")


def _until(campaign: Campaign, now: datetime) -> datetime:
    return now + timedelta(minutes=campaign.lease_minutes)


def _renew(campaign: Campaign, leases: Sequence[tuple[int, datetime | None]], now: datetime) -> None:
    """Lengthen leases of which more than a quarter is over; younger ones can wait, and spare a write."""
    due = now + timedelta(minutes=campaign.lease_minutes) * 0.75
    old = [pk for pk, until in leases if until is None or until < due]
    if old:
        Slot.objects.filter(pk__in=old, state=Slot.LEASED).update(leased_until=_until(campaign, now))


def _unlocked(query: QuerySet[Slot]) -> QuerySet[Slot]:
    """Pass over rows that another transaction is working on, where the database can."""
    if connection.features.has_select_for_update_skip_locked:
        return query.select_for_update(skip_locked=True)
    return query


def _release(leased: QuerySet[Slot]) -> int:
    """Free leased slots and put them at the end of their tapes, where everybody will come by."""
    places: dict[tuple[int, str], list[int]] = {}
    for pk, campaign, task in _unlocked(leased).values_list("pk", "campaign_id", "task"):
        places.setdefault((campaign, task), []).append(pk)
    for (campaign, task), slots in sorted(places.items()):
        first = to_the_end(campaign, task, len(slots))
        for place, pk in enumerate(slots, start=first):
            Slot.objects.filter(pk=pk, state=Slot.LEASED).update(
                state=Slot.FREE, annotator=None, leased_until=None, client="", arm="", prelabel="", position=place
            )
    return sum(map(len, places.values()))


def _claim(campaign: Campaign, member: Membership, slots: Sequence[int], client: str, now: datetime) -> list[int]:
    """Claim those of the slots that are free at this moment: one conditional update."""
    if not slots:
        return []
    if connection.features.has_select_for_update_skip_locked:
        slots = list(_unlocked(Slot.objects.filter(pk__in=slots, state=Slot.FREE)).values_list("pk", flat=True))
    claimed = Slot.objects.filter(pk__in=slots, state=Slot.FREE, annotator=None).update(
        state=Slot.LEASED,
        annotator=member.user_id,
        leased_at=now,
        leased_until=_until(campaign, now),
        client=client,
    )
    if claimed == len(slots):
        return list(slots)
    return list(Slot.objects.filter(pk__in=slots, annotator=member.user_id).values_list("pk", flat=True))


def _prepare(campaign: Campaign, member: Membership, claimed: Sequence[int], *, rating: bool) -> None:
    """Fix what chance decides when an item is dealt: the arm, and the order in which responses are shown."""
    assisted = campaign.mode == Campaign.ASSISTED
    drawn = load_slots(claimed) if assisted or rating else []
    verify = [slot for slot in drawn if slot.task != Task.RATE]
    if assisted and verify:
        arms = assign_arms(campaign, member, [slot.item for slot in verify])
        for slot in verify:
            slot.arm, slot.prelabel = arms[slot.item_id]
        Slot.objects.bulk_update(verify, ["arm", "prelabel"])
    rate = [slot for slot in drawn if slot.task == Task.RATE]
    if rate:
        orders = response_orders(campaign, member, [slot.item for slot in rate])
        for slot in rate:
            slot.response_order = orders[slot.item_id]
        Slot.objects.bulk_update(rate, ["response_order"])


def load_slots(slots: Sequence[int]) -> list[Slot]:
    """The slots in the given order, with everything that is shown of them but context and responses to rate."""
    if not slots:
        return []
    loaded = Slot.objects.select_related("item__sampled_turn__turn__user_utterance", "item__response", "item__gold")
    found = loaded.in_bulk(list(slots))
    return [found[pk] for pk in slots if pk in found]


def response_orders(campaign: Campaign, member: Membership, items: Sequence[Item]) -> dict[int, list[int]]:
    """The responses of each rating item in an order of this person's own, fixed by the seed."""
    turns = {item.sampled_turn.turn_id for item in items if item.sampled_turn and item.response_id is None}
    given: dict[int, list[int]] = {}
    if turns:
        asked = Q(system__in=campaign.systems.values("pk"))
        if (campaign.design or {}).get("rate_reference", True):
            asked |= Q(system__is_reference=True)
        else:
            asked &= Q(system__is_reference=False)
        responses = Response.objects.filter(asked, turn__in=turns).order_by("pk")
        for pk, turn, flags in responses.values_list("pk", "turn_id", "flags"):
            if not UNUSABLE_FLAGS.intersection(flags):
                given.setdefault(turn, []).append(pk)
    orders = {}
    for item in items:
        own = [item.response_id] if item.response_id else list(given.get(item.sampled_turn.turn_id, []))  # type: ignore[union-attr]
        Random(f"{campaign.seed}|{item.pk}|{member.pk}").shuffle(own)
        orders[item.pk] = own
    return orders


# --- the walk ---------------------------------------------------------------------------------------------------------


def _deal(campaign: Campaign, member: Membership, task: str, want: int, client: str, now: datetime) -> list[int]:
    """Claim new items along the tape, gold mixed in at its places."""
    gold_places = _gold_places(campaign, member, want) if task == Task.VERIFY else []
    gold = _claim_gold(campaign, member, len(gold_places), client, now) if gold_places else []
    walk = _Walk(campaign, member, task, client, now)
    ordinary = walk.claim(want - len(gold))
    if len(ordinary) < want - len(gold) and return_lapsed_inside(campaign, now):
        ordinary += walk.claim(want - len(gold) - len(ordinary))
    if not ordinary:
        ordinary = walk.sweep(want - len(gold))
    order: list[int] = []
    waiting, own = iter(gold), iter(ordinary)
    for place in range(want):
        pk = next(waiting, None) if place in gold_places else None
        pk = pk if pk is not None else next(own, None)
        if pk is not None:
            order.append(pk)
    order += list(waiting)
    walk.save(dealt=len(order))
    if order:
        _prepare(campaign, member, order, rating=task == Task.RATE)
    return order


def return_lapsed_inside(campaign: Campaign, now: datetime) -> int:
    """Free the campaign's lapsed leases within the transaction of a lease that found too little."""
    return _release(
        Slot.objects.filter(leased_until__lt=now, state=Slot.LEASED, campaign=campaign).order_by("leased_until")[
            :LAPSED_PER_STEP
        ]
    )


class _Walk:
    """One person's way along the tape of one task.

    `cursor` counts the places she has passed. The first `items` of them are the items in their random order, beginning
    at a place of her own and wrapping round; all later ones are the returned slots in the order of their return.
    """

    def __init__(self, campaign: Campaign, member: Membership, task: str, client: str, now: datetime) -> None:
        self.campaign, self.member, self.task, self.client, self.now = campaign, member, task, client, now
        self.cursor: int = getattr(member, f"{task}_cursor")
        self.items: int = getattr(campaign, f"{task}_items")
        self.start = offset(campaign, member, task) % self.items if self.items else 0
        self.separate = task == Task.RATE and campaign.separate_raters
        self.taken: set[int] = set()
        self.looks = 0

    def claim(self, want: int) -> list[int]:
        """Claim up to `want` slots from the cursor on and move it past everything looked at."""
        claimed: list[int] = []
        for low, high in self._stretches():
            place = low
            while len(claimed) < want and place < high and self.looks < MOST_LOOKS:
                place, got = self._step(place, high, want - len(claimed))
                claimed += got
                self.cursor += place - low
                low = place
            if len(claimed) >= want or self.looks >= MOST_LOOKS:
                break
        return claimed

    def sweep(self, want: int) -> list[int]:
        """Look the whole tape through, once in a while: for what was not hers to have when she passed, but is now."""
        swept_at: datetime | None = getattr(self.member, f"{self.task}_swept_at")
        if want < 1 or (swept_at is not None and self.now - swept_at < SWEEP_EVERY):
            return []
        setattr(self.member, f"{self.task}_swept_at", self.now)
        claimed: list[int] = []
        place, end = 0, self._tail()
        while len(claimed) < want and place < end and self.looks < MOST_LOOKS:
            place, got = self._step(place, end, want - len(claimed))
            claimed += got
        return claimed

    def save(self, *, dealt: int) -> None:
        fields = []
        for name, value in (
            (f"{self.task}_cursor", self.cursor),
            (f"{self.task}_swept_at", getattr(self.member, f"{self.task}_swept_at")),
            ("verify_dealt", self.member.verify_dealt + (dealt if self.task == Task.VERIFY else 0)),
        ):
            if dealt or getattr(self.member, name) != value or name.endswith("swept_at"):
                setattr(self.member, name, value)
                fields.append(name)
        self.member.save(update_fields=fields)

    def _stretches(self) -> Iterator[tuple[int, int]]:
        """The parts of the tape that lie ahead, as ranges of positions."""
        if self.cursor < self.items - self.start:
            yield self.start + self.cursor, self.items
        if self.items - self.start <= self.cursor < self.items:
            yield self.cursor - (self.items - self.start), self.start
        tail = self._tail()
        if self.items <= self.cursor < tail:
            yield self.cursor, tail

    def _tail(self) -> int:
        tail: int = Campaign.objects.values_list(f"{self.task}_tail", flat=True).get(pk=self.campaign.pk)
        return tail

    def _step(self, low: int, high: int, want: int) -> tuple[int, list[int]]:
        """Look at the next free slots in the range and claim what may be; return where to go on, and the claimed."""
        overlap = self.campaign.verify_overlap if self.task == Task.VERIFY else self.campaign.rate_overlap
        # Where the last look met only what she may not have, the next one is wider.
        limit = min(FIRST_LOOK << min(self.looks, 10), LONGEST_LOOK) + want * overlap
        self.looks += 1
        rows = self._candidates(low, high, limit)
        claimed: list[int] = []
        by_item: dict[int, list[tuple[int, int]]] = {}
        for pk, item, position in rows:
            by_item.setdefault(item, []).append((pk, position))
        allowed = self._allowed(list(by_item))
        waiting = [item for item in by_item if item in allowed]
        while waiting and len(claimed) < want:
            now = waiting[: want - len(claimed)]
            chosen = {by_item[item].pop(0)[0]: item for item in now}
            got = _claim(self.campaign, self.member, list(chosen), self.client, self.now)
            claimed += [pk for pk in chosen if pk in set(got)]
            self.taken.update(chosen[pk] for pk in got)
            waiting = [item for item in waiting if item not in self.taken and by_item[item]]
        if len(claimed) >= want:
            return max(position for pk, _, position in rows if pk in set(claimed)) + 1, claimed
        return (rows[-1][2] + 1 if len(rows) == limit else high), claimed

    def _candidates(self, low: int, high: int, limit: int) -> list[tuple[int, int, int]]:
        own = Slot.objects.filter(item=OuterRef("item_id"), annotator=self.member.user_id)
        free = Slot.objects.filter(
            campaign=self.campaign, task=self.task, state=Slot.FREE, position__gte=low, position__lt=high
        )
        return list(
            free.filter(~Exists(own)).order_by("position", "number").values_list("pk", "item_id", "position")[:limit]
        )

    def _allowed(self, items: list[int]) -> set[int]:
        """Leave out items taken in this request and, where raters are kept apart, turns that she labelled herself."""
        free = {item for item in items if item not in self.taken}
        if not self.separate or not free:
            return free
        turns = dict(Item.objects.filter(pk__in=free).values_list("pk", "sampled_turn_id"))
        siblings = dict(
            Item.objects.filter(sampled_turn__in=set(turns.values()), kind__in=["user", "response"]).values_list(
                "pk", "sampled_turn_id"
            )
        )
        labelled = Slot.objects.filter(item__in=list(siblings), annotator=self.member.user_id)
        barred = {siblings[item] for item in labelled.values_list("item_id", flat=True)}
        return {item for item in free if turns[item] not in barred}


def offset(campaign: Campaign, member: Membership, task: str) -> int:
    """Where on the tape a person begins."""
    digest = hashlib.blake2b(f"{campaign.seed}|{task}|{member.pk}".encode(), digest_size=6).digest()
    return int.from_bytes(digest, "big")


# --- gold -------------------------------------------------------------------------------------------------------------


def _gold_places(campaign: Campaign, member: Membership, want: int) -> list[int]:
    """Where in the next `want` items gold is due: once in each block, at a random place that the seed fixes."""
    if campaign.gold_every < 1:
        return []
    block = campaign.gold_every + 1
    places = []
    for ahead in range(want):
        number, place = divmod(member.verify_dealt + ahead, block)
        if place == Random(f"{campaign.seed}|gold|{member.pk}|{number}").randrange(block):
            places.append(ahead)
    return places


def _claim_gold(campaign: Campaign, member: Membership, want: int, client: str, now: datetime) -> list[int]:
    """Claim gold questions the person has not had; each person has a slot of her own in each."""
    had = Slot.objects.filter(item=OuterRef("pk"), annotator=member.user_id)
    left = list(Item.objects.filter(campaign=campaign, kind=GOLD).filter(~Exists(had)).values_list("pk", flat=True))
    Random(f"{campaign.seed}|gold order|{member.pk}").shuffle(left)
    slots = []
    for item in left[:want]:
        slot, _ = Slot.objects.get_or_create(
            item_id=item, number=member.pk, defaults={"campaign": campaign, "task": GOLD, "position": 0}
        )
        slots += _claim(campaign, member, [slot.pk], client, now)
    return slots
