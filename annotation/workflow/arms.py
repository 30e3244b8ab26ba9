"""Who is shown the pre-label: chance decides, once, when an item is dealt to a person.

Within each annotator and predicted label the arms come in shuffled blocks with a fixed share of hidden ones, so both
arms hold the same mix of labels for everyone. The assignment is remembered apart from the slot: whoever gets an item
again after a lapsed lease is in the arm she was in.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Final

import numpy as np

from annotation.models import ArmAssignment, ArmCounter, Campaign, Item, Membership, Prediction
from annotation.workflow.predictions import fold_of_dialogues, seven
from evaluation.emotions import EMOTIONS

SHOWN: Final = "shown"
HIDDEN: Final = "hidden"
BLOCK: Final = 10
LONG_BLOCK: Final = 20

Assignment = tuple[str, str]
"""Arm and pre-label."""


def block_of(share: float, seed: int, membership: int, label: str, number: int) -> list[str]:
    """One block of arms in random order, the same for the same arguments; at least one of each arm."""
    size = BLOCK if abs(share * BLOCK - round(share * BLOCK)) < 1e-9 else LONG_BLOCK
    hidden = min(max(round(share * size), 1), size - 1)
    arms = [HIDDEN] * hidden + [SHOWN] * (size - hidden)
    Random(f"{seed}|{membership}|{label}|{number}").shuffle(arms)
    return arms


def assign_arms(campaign: Campaign, membership: Membership, items: Sequence[Item]) -> dict[int, Assignment]:
    """Give the arm and the pre-label of each item for this person; call it with her membership locked.

    Items must have `sampled_turn.turn.user_utterance` and `response` loaded. An item without a prediction, such as a
    gold question, has nothing to show: it is hidden and counts for no block.
    """
    known = {
        row.item_id: (row.arm, row.prelabel)
        for row in ArmAssignment.objects.filter(membership=membership, item__in=[item.pk for item in items])
    }
    fresh = [item for item in items if item.pk not in known]
    if not fresh:
        return known
    labels = predicted_labels(campaign, fresh)
    counters = {row.label: row for row in ArmCounter.objects.filter(membership=membership)}
    changed: set[str] = set()
    for item in fresh:
        label = labels.get(item.pk, "")
        if not label:
            known[item.pk] = (HIDDEN, "")
            continue
        counter = counters.setdefault(label, ArmCounter(membership=membership, label=label))
        arms = block_of(campaign.hidden_share, campaign.seed, membership.pk, label, 0)
        number, place = divmod(counter.assigned, len(arms))
        arms = block_of(campaign.hidden_share, campaign.seed, membership.pk, label, number)
        known[item.pk] = (arms[place], label)
        counter.assigned += 1
        changed.add(label)
    for label in sorted(changed):
        counters[label].save()
    ArmAssignment.objects.bulk_create(
        ArmAssignment(membership=membership, item=item, arm=known[item.pk][0], prelabel=known[item.pk][1])
        for item in fresh
    )
    return known


def predicted_labels(campaign: Campaign, items: Sequence[Item]) -> dict[int, str]:
    """What the campaign's classifier says of each item's text, by the fold that did not see its dialogue."""
    classifier = campaign.classifier
    texts: dict[int, tuple[str, int]] = {}
    for item in items:
        turn = item.sampled_turn.turn if item.sampled_turn else None
        if turn is not None and item.kind in ("user", "response"):
            text = item.response.text_id if item.response else turn.user_utterance.text_id
            texts[item.pk] = (text, turn.dialogue_id)
    if classifier is None or not texts:
        return {}
    folds = fold_of_dialogues(classifier, np.array([dialogue for _, dialogue in texts.values()]))
    wanted = {
        pk: (text, -1 if folds is None else int(folds[place])) for place, (pk, (text, _)) in enumerate(texts.items())
    }
    rows = Prediction.objects.filter(classifier=classifier, text__in={text for text, _ in wanted.values()})
    stored = {(text, fold): blob for text, fold, blob in rows.values_list("text_id", "fold", "probabilities")}
    found = {pk: bytes(stored[key]) for pk, key in wanted.items() if key in stored}
    if not found:
        return {}
    values = np.frombuffer(b"".join(found.values()), dtype=np.float16).reshape(len(found), -1)
    codes = seven(classifier, values, campaign.grouping).argmax(axis=1)
    return {pk: EMOTIONS[int(code)] for pk, code in zip(found, codes, strict=True)}
