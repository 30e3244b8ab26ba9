"""What reaches an annotator's browser: every answer of the server is read, headers included."""

from __future__ import annotations

import itertools
import json
import re
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.http import HttpResponse
from django.test import Client

from annotation.models import Campaign, Classifier, Item, Role, SampledTurn, Slot, System, User
from annotation.workflow.opening import open_campaign
from annotation.workflow.presentation import slot_veil
from tests.factories import GoldQuestionFactory, MembershipFactory

ROOT = "/api/campaigns/emotions"
SYSTEMS = ("alpha", "beta", "reference")
FORBIDDEN = re.compile(
    r"prediction|classifier|lexicon|stratum|strata|inclusion|probab|system|arm\b|hidden\"|assigned|is_reference|"
    r"dispute|pseudonym|cursor|seed|overlap|gold|secret",
    re.IGNORECASE,
)


def said(response: HttpResponse) -> str:
    """Everything a browser can read of an answer: headers, cookies, body."""
    return f"{response.headers}{response.cookies.output()}{response.content.decode()}"


def post(client: Client, path: str, body: Any) -> HttpResponse:
    return client.post(f"{ROOT}/{path}/", json.dumps(body), content_type="application/json")  # type: ignore[return-value]


def whole_session(
    client: Client, tasks: tuple[str, ...] = ("verify", "rate")
) -> Iterator[tuple[HttpResponse, list[Any]]]:
    """Work everything off as a browser does; yield each answer of the server with the items in it."""
    for path in ("/api/queues/", "/api/me/preferences/", f"{ROOT}/practice/"):
        yield client.get(path), []  # type: ignore[misc]
    for task in tasks:
        yield client.get(f"{ROOT}/workbench/?task={task}"), []  # type: ignore[misc]
        answer = post(client, "lease", {"task": task, "want": 4, "client": "tab"})
        while items := json.loads(answer.content)["items"]:
            yield answer, items
            answer = post(
                client,
                "judgments",
                {"task": task, "want": 4, "client": "tab", "judgments": [judgment(item) for item in items]},
            )
            assert {result["status"] for result in json.loads(answer.content)["results"]} == {"stored"}
        yield answer, []
        history = client.get(f"{ROOT}/history/?task={task}")
        yield history, [past["item"] for past in history.json()["results"]]  # type: ignore[misc]


def judgment(item: Any) -> dict[str, Any]:
    given: dict[str, Any] = {"id": str(uuid.uuid4()), "slot": item["slot"]}
    if item["kind"] == "rate":
        marks = {"personalization": 1, "justification": 2, "satisfaction": 3}
        return given | {"action": "rate", "ratings": {said["id"]: marks for said in item["responses"]}}
    return given | {"action": "label", "label": "disgust"}


@pytest.fixture
def telling(draft: Campaign) -> Campaign:
    """An assisted campaign with gold, in which what must not be seen has names that cannot occur by chance."""
    System.objects.filter(name="alpha").update(title="Zaphod-70B")
    System.objects.filter(name="beta").update(title="Trillian-7B")
    Classifier.objects.update(source="marvin")
    draft.mode = Campaign.ASSISTED
    draft.gold_every = 5
    draft.design = {"kind": "stratified", "strata": ["dataset", "user_label"], "size": 8}
    draft.save()
    for _ in range(3):
        GoldQuestionFactory.create(campaign=draft)
    open_campaign(draft)
    draft.refresh_from_db()
    return draft


def test_no_answer_names_a_system_a_prediction_or_the_design(
    telling: Campaign, ada: User, sign_in: Callable[[User], Client]
) -> None:
    seen = 0
    for response, _ in whole_session(sign_in(ada)):
        text = said(response)
        for name in ("Zaphod", "Trillian", "marvin", "redial ·", telling.secret):
            assert name not in text
        assert not FORBIDDEN.search(text.replace('"next"', "")), FORBIDDEN.search(text)
        for name in SYSTEMS:
            assert not re.search(rf"\b{name}\b", text)
        seen += 1
    assert seen > 12


def test_the_prelabel_reaches_the_browser_in_the_shown_arm_only(
    telling: Campaign, ada: User, sign_in: Callable[[User], Client]
) -> None:
    """Every slot's recorded arm is held against every answer in which the item occurred."""
    veil = slot_veil(telling, ada)
    arms = {"shown": 0, "hidden": 0}
    for _, items in whole_session(sign_in(ada), ("verify",)):
        for item in items:
            slot = Slot.objects.get(pk=veil.unveil(item["slot"]))
            arms[slot.arm] += 1
            if slot.arm == "shown":
                assert item["prelabel"] == slot.prelabel
            else:
                assert set(item) - {"leased_until"} == {"slot", "task", "kind", "context", "target"}
                # Not even the bare word, outside what was said in the dialogue.
                rest = json.dumps({key: item[key] for key in item if key not in ("context", "target")})
                assert not slot.prelabel or slot.prelabel not in rest
    assert min(arms.values()) > 5


def test_in_a_blind_campaign_nobody_is_sent_a_prelabel(
    campaign: Campaign, ada: User, sign_in: Callable[[User], Client]
) -> None:
    for response, _ in whole_session(sign_in(ada)):
        assert "prelabel" not in said(response)


def test_a_gold_item_cannot_be_told_from_the_others(
    telling: Campaign, ada: User, sign_in: Callable[[User], Client]
) -> None:
    veil = slot_veil(telling, ada)
    gold, ordinary = [], []
    for _, items in whole_session(sign_in(ada), ("verify",)):
        for item in items:
            slot = Slot.objects.get(pk=veil.unveil(item["slot"]))
            (gold if slot.task == "gold" else ordinary).append((set(item), item["task"]))
            assert item["kind"] in ("user", "response")
    assert gold
    assert all(entry in ordinary for entry in gold)


def test_numbers_that_reach_the_browser_tell_no_order(
    campaign: Campaign, ada: User, sign_in: Callable[[User], Client]
) -> None:
    """Neither slots nor responses come in the order of their rows, nor near one another."""
    rows = {pk for model in (Slot, Item, SampledTurn) for pk in model.objects.values_list("pk", flat=True)}  # type: ignore[attr-defined]
    slots, responses = [], []
    for _, items in whole_session(sign_in(ada)):
        slots += [item["slot"] for item in items]
        responses += [int(said["id"]) for item in items for said in item.get("responses", [])]
    assert not rows & {*slots, *responses}
    veil = slot_veil(campaign, ada)
    in_order = sorted(set(slots), key=veil.unveil)
    rising = sum(one < other for one, other in itertools.pairwise(in_order))
    # Of 29 neighbours about half rise, as in a random order; in the order of the rows all would.
    assert len(in_order) == 30
    assert 6 <= rising <= 23


def test_one_person_never_sees_what_another_said(
    campaign: Campaign, ada: User, bo: User, sign_in: Callable[[User], Client]
) -> None:
    client = sign_in(bo)
    while items := json.loads(post(client, "lease", {"task": "verify", "want": 20}).content)["items"]:
        marked = [{**judgment(item), "label": "fear", "comment": "bo was here"} for item in items]
        post(client, "judgments", {"task": "verify", "want": 0, "judgments": marked})
    for response, _ in whole_session(sign_in(ada)):
        text = response.content.decode()
        assert "bo was here" not in text
        # The workbench names all seven emotions; nothing else may.
        assert '"fear"' not in re.sub(r'"(name|title)":"fear"', "", text)


def test_the_adjudicator_sees_votes_without_names_systems_or_predictions(
    telling: Campaign, ada: User, bo: User, cleo: User, sign_in: Callable[[User], Client]
) -> None:
    for user, label in ((ada, "joy"), (bo, "sadness")):
        client = sign_in(user)
        while items := json.loads(post(client, "lease", {"task": "verify", "want": 20}).content)["items"]:
            marked = [{**judgment(item), "label": label, "comment": f"{user.username} said so"} for item in items]
            post(client, "judgments", {"task": "verify", "want": 0, "judgments": marked})
    client = sign_in(cleo)
    page = client.get(f"{ROOT}/adjudication/")
    assert page.json()["items"]
    for item in page.json()["items"]:
        assert set(item) == {"item", "kind", "context", "target", "labels", "comments_hidden"}
    text = said(page)  # type: ignore[arg-type]
    for name in ("ada", "bo", "said so", "Zaphod", "Trillian", "marvin", "prelabel", "alpha", "beta"):
        assert not re.search(rf"\b{name}\b", text)


def test_another_projects_member_meets_nothing_of_this_one(
    campaign: Campaign, other_campaign: Campaign, dan: User, ada: User, sign_in: Callable[[User], Client]
) -> None:
    client = sign_in(dan)
    for path in ("workbench/", "history/", "practice/", "adjudication/"):
        answer = client.get(f"{ROOT}/{path}")
        nowhere = client.get(f"/api/campaigns/nowhere/{path}")
        assert answer.status_code == nowhere.status_code == 404
        assert answer.content == nowhere.content
    assert "motions" not in client.get("/api/queues/").content.decode()
    MembershipFactory.create(user=ada, campaign=other_campaign, role=Role.ANNOTATOR)
    own = set(Slot.objects.filter(campaign=other_campaign).values_list("item", flat=True))
    answer = sign_in(ada).post(
        "/api/campaigns/other/lease/", json.dumps({"task": "verify", "want": 20}), content_type="application/json"
    )
    assert len(answer.json()["items"]) > 10
    assert set(Slot.objects.filter(annotator=ada).values_list("item", flat=True)) <= own
