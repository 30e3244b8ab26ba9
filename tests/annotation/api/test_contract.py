"""The example payloads in tests/contract, which the workbench's own tests read: made here, and compared each time.

After a wanted change of the contract: ATTUNE_WRITE_CONTRACT=1 pytest tests/annotation/api/test_contract.py
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.core.cache import cache
from django.test import Client

from annotation.models import Campaign, Membership, User
from annotation.workflow import queue
from annotation.workflow.arms import HIDDEN, SHOWN
from annotation.workflow.opening import open_campaign
from tests.factories import GoldQuestionFactory

FOLDER = Path(__file__).parents[2] / "contract"
ROOT = "/api/campaigns/emotions"
WHEN = re.compile(r"^\d{4}-\d\d-\d\dT")


class Settled:
    """Gives every number and time that differs from run to run a fixed one, in order of appearance."""

    def __init__(self) -> None:
        self.numbers: dict[int, int] = {}

    def __call__(self, value: Any, key: str = "") -> Any:
        if isinstance(value, dict):
            if key == "ratings":
                return {str(self.number(int(name))): scales for name, scales in value.items()}
            return {name: self(inner, name) for name, inner in value.items()}
        if isinstance(value, list):
            return [self(inner, key) for inner in value]
        if isinstance(value, str):
            if WHEN.match(value):
                return "2026-01-05T09:00:00Z" if key != "next" else "2026-01-05T09:00:00+00:00~0"
            if re.fullmatch(r"p?\d{10,}", value):
                return value[: value.startswith("p")] + str(self.number(int(value.lstrip("p"))))
        if isinstance(value, int) and value > 2**33:
            return self.number(value)
        return 1 if key == "id" and isinstance(value, int) else value

    def number(self, value: int) -> int:
        return self.numbers.setdefault(value, 4503599627000001 + len(self.numbers))


def check(name: str, request: Any, response: Any) -> None:
    settled = Settled()
    example = settled({"request": request, "response": response})
    path = FOLDER / f"{name}.json"
    text = json.dumps(example, indent=1, ensure_ascii=False, sort_keys=True) + "\n"
    if os.environ.get("ATTUNE_WRITE_CONTRACT"):
        FOLDER.mkdir(exist_ok=True)
        path.write_text(text)
    assert path.read_text() == text, f"{path.name} is not what the server says any more; see this file's first lines."


@pytest.fixture(autouse=True)
def _whole_corpus(draft: Campaign) -> None:
    """A sample depends on the turns' ids, which a database counts on from test to test."""
    draft.design = {"kind": "all"}
    draft.save()


@pytest.fixture(autouse=True)
def _same_every_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Walks begin at the start and responses keep their order: who got which row number must not show."""
    cache.clear()

    def unshuffled(campaign: Campaign, member: Membership, items: Any) -> dict[int, list[int]]:
        return {item.pk: sorted(order) for item, order in ((i, orders(campaign, member, [i])[i.pk]) for i in items)}

    orders = queue.response_orders
    monkeypatch.setattr(queue, "offset", lambda *_: 0)
    monkeypatch.setattr(queue, "response_orders", unshuffled)


@pytest.fixture
def adas(draft: Campaign, ada: User, sign_in: Callable[[User], Client]) -> Client:
    draft.consent_text = "Your answers are kept under a pseudonym."
    draft.save()
    GoldQuestionFactory.create(campaign=draft, use="practice", text="I was so happy about it!")
    open_campaign(draft)
    return sign_in(ada)


def ask(client: Client, path: str, body: Any = None) -> Any:
    address = path if path.startswith("/") else f"{ROOT}/{path}"
    if body is None:
        return client.get(address).json()
    answer = client.post(address, json.dumps(body), content_type="application/json")
    return answer.json() if answer.content else None


def agree(client: Client) -> None:
    ask(client, "consent/", {"version": "1"})


def identity(number: int) -> str:
    return f"00000000-0000-4000-8000-{number:012d}"


def test_what_a_page_reads_first(adas: Client) -> None:
    check("queues", None, ask(adas, "/api/queues/"))
    check("workbench", None, ask(adas, "workbench/?task=verify"))
    check("preferences", None, ask(adas, "/api/me/preferences/"))


def test_what_practice_says(adas: Client) -> None:
    items = ask(adas, "practice/")
    check("practice", None, items)
    body = {"item": items["items"][0]["slot"], "label": "surprise"}
    check("practice_answer", body, ask(adas, "practice/", body))


def test_what_verifying_says(adas: Client) -> None:
    agree(adas)
    lease = {"task": "verify", "want": 2, "holding": [], "client": identity(0)}
    dealt = ask(adas, "lease/", lease)
    check("lease_verify", lease, dealt)
    first, second = dealt["items"]
    body = {
        "task": "verify",
        "judgments": [
            {
                "id": identity(1),
                "slot": first["slot"],
                "action": "label",
                "label": "joy",
                "comment": "Evident enthusiasm.",
                "flagged": False,
                "answered_at": "2026-01-05T09:00:00Z",
                "active_ms": 2300,
                "device": "desktop",
                "guideline_version": 1,
            },
            {"id": identity(2), "slot": second["slot"], "action": "skip", "reason": "garbled"},
            {"id": identity(3), "slot": second["slot"], "action": "label", "label": "glee"},
        ],
        "want": 1,
        "holding": [],
        "client": identity(0),
    }
    check("judgments", body, ask(adas, "judgments/", body))
    check("history", None, ask(adas, "history/?task=verify"))


def test_what_rating_says(adas: Client) -> None:
    agree(adas)
    body = {"task": "rate", "want": 1, "holding": [], "client": identity(0)}
    check("lease_rate", body, ask(adas, "lease/", body))


def test_what_an_assisted_campaign_says(
    draft: Campaign, ada: User, sign_in: Callable[[User], Client], monkeypatch: pytest.MonkeyPatch
) -> None:
    from annotation.workflow import arms

    monkeypatch.setattr(arms, "block_of", lambda *_: [SHOWN, HIDDEN] * 5)
    draft.mode = Campaign.ASSISTED
    draft.save()
    open_campaign(draft)
    body = {"task": "verify", "want": 4, "holding": [], "client": identity(0)}
    dealt = ask(sign_in(ada), "lease/", body)
    assert {"prelabel" in item for item in dealt["items"]} == {True, False}
    check("lease_assisted", body, dealt)


def test_what_adjudication_says(adas: Client, bo: User, cleo: User, sign_in: Callable[[User], Client]) -> None:
    for number, (client, label) in enumerate(((adas, "joy"), (sign_in(bo), "neutral"))):
        agree(client)
        item = ask(client, "lease/", {"task": "verify", "want": 1})["items"][0]
        said = {"id": identity(number), "slot": item["slot"], "action": "label", "label": label, "comment": "Doubtful."}
        ask(client, "judgments/", {"task": "verify", "want": 0, "judgments": [said]})
    adjudicator = sign_in(cleo)
    page = ask(adjudicator, "adjudication/")
    check("adjudication", None, page)
    body = {"id": identity(9), "item": page["items"][0]["item"], "label": "joy", "comment": ""}
    check("decision", body, ask(adjudicator, "adjudication/", body))
