"""Programs that the stress tests start: `prepare` makes a campaign, `annotate` works in it until nothing is left.

python -m tests.annotation.stress.annotators prepare ANNOTATORS OVERLAP TURNS
python -m tests.annotation.stress.annotators annotate NUMBER SEED
"""

from __future__ import annotations

import json
import multiprocessing
import random
import sys
import time
import uuid
from datetime import timedelta
from typing import Any

import django

django.setup()

from django.db import connection, connections  # noqa: E402
from django.utils import timezone  # noqa: E402

from annotation.models import Campaign, Judgment, Slot, User  # noqa: E402
from annotation.workflow.accounts import make_token  # noqa: E402
from annotation.workflow.opening import open_campaign  # noqa: E402
from annotation.workflow.queue import lease_batch, return_lapsed, return_slots  # noqa: E402
from annotation.workflow.verification import submit  # noqa: E402
from tests.factories import MembershipFactory, UserFactory, answer_to, make_campaign, make_corpus  # noqa: E402


def prepare(annotators: int, overlap: int, turns: int) -> None:
    corpus = make_corpus((turns + 1) // 2, systems=())
    campaign = make_campaign(
        "stress",
        corpus=corpus,
        systems=(),
        design={"kind": "simple", "size": turns},
        verify_overlap=overlap,
        rate_responses=False,
    )
    for number in range(annotators):
        MembershipFactory.create(campaign=campaign, user=UserFactory.create(username=f"annotator{number}"))
    open_campaign(campaign)


def annotate(number: int, seed: int) -> dict[str, int]:
    """Work like someone careless: leases lapse on purpose, slots are given back, every answer is sent twice."""
    chance = random.Random(f"{seed}|{number}")
    user = User.objects.get(username=f"annotator{number}")
    done = {"stored": 0, "set_aside": 0, "lapsed": 0, "returned": 0, "errors": 0}
    empty = 0
    while empty < 4:
        campaign = Campaign.objects.get(name="stress")
        abandon = chance.random() < 0.12
        # A lease taken an hour ago by the server's clock is over the moment it is made.
        now = timezone.now() - timedelta(hours=1) if abandon else timezone.now()
        slots = lease_batch(campaign, user, "verify", want=chance.randint(1, 4), now=now).slots
        if not slots:
            empty += 1
            return_lapsed()
            time.sleep(0.05 + 0.1 * chance.random())
            continue
        empty = 0
        if abandon:
            done["lapsed"] += len(slots)
            if chance.random() < 0.5:
                return_lapsed()
            continue
        if chance.random() < 0.1:
            done["returned"] += return_slots(campaign, user, [slot.pk for slot in slots])
            continue
        for slot in slots:
            given: dict[str, Any] = answer_to(campaign, user, slot, id=str(uuid.uuid4()))
            first, second = (submit(campaign, user, given).status for _ in range(2))
            done["errors"] += second != "duplicate"
            done[first] = done.get(first, 0) + 1
    return done


def facts() -> dict[str, Any]:
    """What must hold afterwards, read from the database."""
    campaign = Campaign.objects.get(name="stress")
    slots = list(Slot.objects.values_list("item", "annotator", "state"))
    standing = list(Judgment.objects.filter(set_aside=False).values_list("item", "annotator"))
    per_item: dict[int, int] = {}
    for item, _ in standing:
        per_item[item] = per_item.get(item, 0) + 1
    return {
        "states": sorted({state for _, _, state in slots}),
        "slots_per_item": sorted({sum(1 for other, _, _ in slots if other == item) for item in {s[0] for s in slots}}),
        "answers_per_item": sorted(set(per_item.values())),
        "items_answered": len(per_item),
        "items": campaign.verify_items,
        "twice": len(standing) - len(set(standing)),
        "standing": len(standing),
        "judgments": Judgment.objects.count(),
        "counted": campaign.verify_done,
        "wanted": campaign.verify_total,
        "idle": User.objects.filter(username__startswith="annotator", judgments=None).count(),
    }


def work(number: int, seed: int, results: Any) -> None:
    results.put(annotate(number, seed))


def everyone(annotators: int, overlap: int, turns: int, seed: int) -> dict[str, Any]:
    prepare(annotators, overlap, turns)
    connections.close_all()
    if connection.vendor == "postgresql":
        connection.close_pool()  # type: ignore[attr-defined]  # a pool's threads do not survive a fork
    context = multiprocessing.get_context("fork")
    results = context.Queue()
    people = [context.Process(target=work, args=(number, seed, results)) for number in range(annotators)]
    for person in people:
        person.start()
    told = [results.get(timeout=580) for _ in people]
    for person in people:
        person.join()
    return {"told": told, "facts": facts()}


def tokens(annotators: int, overlap: int, turns: int) -> list[str]:
    """Prepare a campaign whose people work through the web server; return their API tokens."""
    prepare(annotators, overlap, turns)
    people = User.objects.filter(username__startswith="annotator").order_by("pk")
    return [make_token(user=user, name="stress", scope="write", days=1) for user in people]


def judgments() -> list[tuple[str, str, bool]]:
    return [(str(pk), label, aside) for pk, label, aside in Judgment.objects.values_list("pk", "label", "set_aside")]


def main(program: str, *numbers: str) -> None:
    programs = {"everyone": everyone, "tokens": tokens, "judgments": judgments, "facts": facts}
    print(json.dumps(programs[program](*map(int, numbers))))


if __name__ == "__main__":
    main(*sys.argv[1:])
