"""What a browser gets to see of an item: built from an allow-list, never from what a row happens to hold.

No system, no prediction unless the arm shows it, no later turn, no other person's answer, no row number, no stratum, no
inclusion probability. Gold questions look like any other item.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import nh3
from markdown_it import MarkdownIt

from annotation.models import GOLD, Campaign, Item, Judgment, Response, Slot, Task, User, Utterance
from annotation.workflow.arms import SHOWN
from annotation.workflow.veil import Veil, is_veiled

_MARKDOWN: Final = MarkdownIt("commonmark", {"html": False}).enable("table")
_TAGS: Final = {
    *("h1", "h2", "h3", "h4", "p", "ul", "ol", "li", "strong", "em", "code", "pre", "blockquote", "hr", "br", "a"),
    *("table", "thead", "tbody", "tr", "th", "td"),
}


def rendered(markdown: str) -> str:
    """Markdown as HTML that is safe to put into a page: no raw HTML, no script, no image, links marked as foreign."""
    return nh3.clean(_MARKDOWN.render(markdown), tags=_TAGS, attributes={"a": {"href", "title"}}, link_rel="noopener")


def slot_veil(campaign: Campaign, user: User) -> Veil:
    return Veil(campaign.secret, f"slot|{user.pk}")


def item_veil(campaign: Campaign, user: User) -> Veil:
    return Veil(campaign.secret, f"item|{user.pk}")


def response_veil(campaign: Campaign, user: User, slot: int) -> Veil:
    return Veil(campaign.secret, f"response|{user.pk}|{slot}")


def unveil_slots(campaign: Campaign, user: User, numbers: Iterable[Any]) -> dict[int, int]:
    """Row numbers of veiled slots; what is no veiled number is left out."""
    veil = slot_veil(campaign, user)
    return {veil.unveil(number): number for number in numbers if is_veiled(number)}


def present_slots(campaign: Campaign, user: User, slots: Sequence[Slot]) -> list[dict[str, Any]]:
    """The slots as a browser gets them. They must come from `queue.load_slots`."""
    contexts = contexts_of([slot.item for slot in slots])
    texts = _texts_of([pk for slot in slots if slot.task == Task.RATE for pk in slot.response_order])
    veil = slot_veil(campaign, user)
    return [
        {
            "slot": veil.veil(slot.pk),
            "task": Task.RATE.value if slot.task == Task.RATE else Task.VERIFY.value,
            **present_item(slot.item, contexts),
            **({"prelabel": slot.prelabel} if slot.arm == SHOWN and slot.prelabel else {}),
            **({"responses": _present_responses(campaign, user, slot, texts)} if slot.task == Task.RATE else {}),
            "leased_until": slot.leased_until,
        }
        for slot in slots
    ]


def present_item(item: Item, contexts: Mapping[int, list[dict[str, str]]]) -> dict[str, Any]:
    """The dialogue up to the item and, unless responses are to be rated, the utterance to label."""
    if item.kind == GOLD and item.gold is not None:
        return present_question(item.gold.context, item.gold.role, item.gold.text)
    context = contexts[item.pk]
    if item.kind == "user":
        return {"kind": "user", "context": context[:-1], "target": context[-1]}
    if item.kind == "response" and item.response is not None:
        return {"kind": "response", "context": context, "target": _said("recommender", item.response.shown)}
    return {"kind": "rate", "context": context}


def present_question(context: Sequence[Mapping[str, str]], role: str, text: str) -> dict[str, Any]:
    """A question of the codebook, in the form of an ordinary item."""
    return {
        "kind": "user" if role == "user" else "response",
        "context": [_said(turn.get("role", "user"), turn.get("text", "")) for turn in context],
        "target": _said(role, text),
    }


def contexts_of(items: Sequence[Item]) -> dict[int, list[dict[str, str]]]:
    """Per item, what was said up to and with the user's utterance of its turn: nothing later."""
    turns = {item.pk: item.sampled_turn.turn for item in items if item.sampled_turn is not None}
    last = {pk: (turn.dialogue_id, turn.position - 1) for pk, turn in turns.items()}
    if not last:
        return {}
    rows = Utterance.objects.filter(
        dialogue__in={dialogue for dialogue, _ in last.values()}, position__lte=max(place for _, place in last.values())
    )
    said: dict[int, list[tuple[int, dict[str, str]]]] = {}
    for dialogue, position, role, shown in rows.order_by("dialogue_id", "position").values_list(
        "dialogue_id", "position", "role", "shown"
    ):
        said.setdefault(dialogue, []).append((position, _said(role, shown)))
    return {
        pk: [turn for position, turn in said.get(dialogue, []) if position <= until]
        for pk, (dialogue, until) in last.items()
    }


def present_answer(campaign: Campaign, user: User, judgment: Judgment, shown: Mapping[str, Any]) -> dict[str, Any]:
    """One of the person's own answers, beside the item as she saw it."""
    ratings = {}
    if judgment.slot is not None and judgment.ratings:
        veil = response_veil(campaign, user, judgment.slot.pk)
        ratings = {str(veil.veil(int(pk))): scales for pk, scales in judgment.ratings.items()}
    return {
        "id": str(judgment.pk),
        "slot": shown["slot"],
        "item": shown,
        "action": judgment.action,
        "label": judgment.label,
        "ratings": ratings,
        "reason": judgment.reason,
        "comment": judgment.comment,
        "flagged": judgment.flagged,
        "set_aside": judgment.set_aside,
        "received_at": judgment.received_at,
    }


def _said(role: str, text: str) -> dict[str, str]:
    return {"role": "user" if role == "user" else "recommender", "text": text}


def _texts_of(responses: Sequence[int]) -> dict[int, str]:
    if not responses:
        return {}
    return dict(Response.objects.filter(pk__in=set(responses)).values_list("pk", "shown"))


def _present_responses(campaign: Campaign, user: User, slot: Slot, texts: Mapping[int, str]) -> list[dict[str, str]]:
    veil = response_veil(campaign, user, slot.pk)
    return [
        {"key": _letters(place), "id": str(veil.veil(pk)), "text": texts.get(pk, "")}
        for place, pk in enumerate(slot.response_order)
    ]


def _letters(place: int) -> str:
    """A, B, … Z, AA, AB, …"""
    letters = ""
    place += 1
    while place:
        place, rest = divmod(place - 1, 26)
        letters = chr(65 + rest) + letters
    return letters
