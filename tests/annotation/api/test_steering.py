"""Through the API researchers can do what the campaign page does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.test import Client

from annotation.models import Campaign, Invitation, Judgment, Membership, User
from annotation.workflow.accounts import open_invitation, withdraw
from annotation.workflow.opening import pause, reopen
from annotation.workflow.queue import lease_batch
from annotation.workflow.verification import submit
from tests.factories import answer_to


@pytest.fixture
def ask(campaign: Campaign, rhea: User, sign_in: Callable[[User], Client]) -> Callable[..., Any]:
    """Send a request to an address of the campaign; give its JSON, whose status must be as said."""
    browser = sign_in(rhea)

    def send(method: str, path: str, body: object = None, status: int = 200) -> Any:
        address = f"/api/campaigns/{campaign.name}/{path}"
        response = browser.generic(method, address, "" if body is None else _json(body), "application/json")
        assert response.status_code == status, response.content
        return response.json()

    return send


def _json(body: object) -> str:
    import json

    return json.dumps(body)


def test_a_campaign_is_paused_closed_and_reopened(ask: Callable[..., Any]) -> None:
    for state in ("paused", "closed", "open"):
        assert ask("PATCH", "", {"state": state})["state"] == state
    # being there already is no error, going where it cannot is
    assert ask("PATCH", "", {"state": "open"})["state"] == "open"
    ask("PATCH", "", {"state": "closed"})
    assert "cannot be paused" in ask("PATCH", "", {"state": "paused"}, 409)["detail"]
    assert "state" in ask("PATCH", "", {"state": "draft"}, 400)["detail"]


def test_people_are_invited_let_out_and_in_and_relieved(
    ask: Callable[..., Any], campaign: Campaign, ada: User, bo: User, member_of: Callable[..., Membership]
) -> None:
    link = ask("POST", "invitations/", {"role": "annotator", "uses": 3}, 201)["link"]
    assert open_invitation(link.rstrip("/").rsplit("/", 1)[-1]) == Invitation.objects.get()
    lease_batch(campaign, ada, "verify", want=3)
    name = member_of(ada, campaign).pseudonym
    rows = {row["pseudonym"]: row for row in ask("GET", "state/")["annotators"]}
    assert (rows[name]["holding"], rows[name]["active"]) == (3, True)
    assert ask("POST", f"annotators/{name}/reassign/") == {"items": 3}
    assert ask("PATCH", f"annotators/{name}/", {"active": False}) == {"active": False}
    assert not member_of(ada, campaign).active
    assert ask("PATCH", f"annotators/{name}/", {"active": True}) == {"active": True}
    ask("POST", "annotators/r-nobody/reassign/", status=404)
    withdraw(user=bo, campaign=campaign)
    gone = member_of(bo, campaign).pseudonym
    ask("PATCH", f"annotators/{gone}/", {"active": True}, 409)


def test_answers_set_aside_are_listed_and_taken_in(
    ask: Callable[..., Any], campaign: Campaign, ada: User, bo: User, member_of: Callable[..., Membership]
) -> None:
    for person in (ada, bo):
        slot = lease_batch(campaign, person, "verify", want=1).slots[0]
        pause(campaign)
        submit(campaign, person, answer_to(campaign, person, slot, label="fear"))
        reopen(campaign)
    rows = ask("GET", "set-aside/")
    assert [(row["annotator"], row["label"], row["fits"], row["why"]) for row in rows] == [
        (member_of(person, campaign).pseudonym, "fear", True, "held") for person in (ada, bo)
    ]
    assert ask("POST", "set-aside/", {"judgment": rows[0]["judgment"]}) == {"taken": 1, "left": 1}
    assert "already" in ask("POST", "set-aside/", {"judgment": rows[0]["judgment"]}, 409)["detail"]
    assert ask("POST", "set-aside/", {}) == {"taken": 1, "left": 0}
    assert ask("GET", "set-aside/") == []
    assert Judgment.objects.filter(set_aside=False).count() == 2


def test_the_plan_and_the_precision_so_far_can_be_asked_for(
    ask: Callable[..., Any], campaign: Campaign, ada: User, bo: User
) -> None:
    found = ask("GET", "plan/?half_width=0.1&half_width=0.05&size=8&rho=0")
    assert (found["size"], found["population"]) == (8, 16)
    exact = found["measures"][0]
    assert [size["half_width"] for size in exact["sizes"]] == [0.1, 0.05]
    # without correlation nothing is gained
    assert all(size["human"] == size["corrected"] for size in exact["sizes"])
    assert "17" in ask("GET", "plan/?size=17", status=409)["detail"]
    ask("GET", "plan/?half_width=0", status=400)
    assert ask("GET", "precision/") == {"half_width": 0.05, "planned": 6, "looks": 0, "measures": []}
    for person in (ada, bo):
        for slot in lease_batch(campaign, person, "verify", want=20).slots:
            submit(campaign, person, answer_to(campaign, person, slot, label="joy" if slot.pk % 3 else "fear"))
    now = ask("GET", "precision/?half_width=0.2")
    assert (now["half_width"], now["looks"]) == (0.2, 1)
    assert {"measure", "where", "n", "planned", "corrected", "always", "more"} <= set(now["measures"][0])
