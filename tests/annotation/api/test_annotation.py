from __future__ import annotations

import json
import uuid
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from annotation.models import ApiToken, Campaign, Judgment, Membership, Role, Slot, User, token_digest
from annotation.workflow.opening import open_campaign, pause
from tests.factories import GoldQuestionFactory, GuidelineFactory, MembershipFactory

SignIn = Callable[[User], Client]
Json = dict[str, Any]
ROOT = "/api/campaigns/emotions"


def post(client: Client, path: str, body: Any, **headers: Any) -> Any:
    return client.post(f"{ROOT}/{path}/", json.dumps(body), content_type="application/json", **headers)


def lease(browser: Client, /, want: int = 5, task: str = "verify", **asked: Any) -> Json:
    answer = post(browser, "lease", {"task": task, "want": want, "client": "tab"} | asked)
    assert answer.status_code == 200, answer.content
    return answer.json()  # type: ignore[no-any-return]


def judgment(item: Json, **given: Any) -> Json:
    said: Json = {"id": str(uuid.uuid4()), "slot": item["slot"], "guideline_version": 1, "active_ms": 900}
    if item["kind"] == "rate":
        marks = {"personalization": 4, "justification": 2, "satisfaction": 5}
        said |= {"action": "rate", "ratings": {response["id"]: marks for response in item["responses"]}}
    else:
        said |= {"action": "label", "label": "joy"}
    return said | given


def test_one_request_stores_the_answer_and_brings_the_next_item(campaign: Campaign, ada: User, sign_in: SignIn) -> None:
    client = sign_in(ada)
    first = lease(client)
    done, *rest = first["items"]
    given = judgment(done)
    holding = [item["slot"] for item in rest]
    receipt = post(
        client, "judgments", {"task": "verify", "judgments": [given], "want": 1, "holding": holding, "client": "tab"}
    )
    assert receipt.status_code == 200
    answer = receipt.json()
    assert answer["results"] == [{"id": given["id"], "status": "stored"}]
    assert len(answer["items"]) == 1
    assert answer["items"][0]["slot"] not in [item["slot"] for item in first["items"]]
    assert answer["lost"] == []
    assert (answer["progress"]["done"], answer["progress"]["mine"], answer["progress"]["pace_ms"]) == (1, 1, 900)


def test_items_show_earlier_turns_only(campaign: Campaign, ada: User, sign_in: SignIn) -> None:
    for item in lease(sign_in(ada), want=20)["items"]:
        roles = [turn["role"] for turn in item["context"]]
        if item["kind"] == "user":
            assert item["target"]["role"] == "user"
            assert len(roles) % 2 == 0
        else:
            assert item["target"]["role"] == "recommender"
            assert len(roles) % 2 == 1
        assert set(item) == {"slot", "task", "kind", "context", "target", "leased_until"}


def test_rating_items_hold_all_responses_under_letters(campaign: Campaign, ada: User, sign_in: SignIn) -> None:
    client = sign_in(ada)
    items = lease(client, task="rate", want=2)["items"]
    assert [[response["key"] for response in item["responses"]] for item in items] == [["A", "B", "C"]] * 2
    receipt = post(client, "judgments", {"task": "rate", "want": 0, "judgments": [judgment(item) for item in items]})
    assert [result["status"] for result in receipt.json()["results"]] == ["stored", "stored"]


def test_every_answer_of_a_request_is_judged_for_itself(campaign: Campaign, ada: User, sign_in: SignIn) -> None:
    client = sign_in(ada)
    good, bad, again = lease(client, want=3)["items"]
    first = judgment(good)
    sent = [first, judgment(bad, label="glee"), first, "nonsense", judgment(again)]
    results = post(client, "judgments", {"task": "verify", "judgments": sent, "want": 0}).json()["results"]
    assert [result["status"] for result in results] == ["stored", "refused", "duplicate", "refused", "stored"]
    assert results[1]["reason"] == "unknown_label"
    assert results[1]["detail"]
    assert Judgment.objects.count() == 2


def test_every_request_sent_twice_changes_nothing_the_second_time(
    campaign: Campaign, ada: User, sign_in: SignIn
) -> None:
    """A whole session in which each request is answered, lost on the way back, and sent again."""
    client = sign_in(ada)
    items = lease(client, want=4)["items"]
    held = lease(client, want=4)["items"]  # the same ones; a walk that wrapped round deals them in another order
    assert sorted(held, key=lambda item: item["slot"]) == sorted(items, key=lambda item: item["slot"])
    if connection.vendor == "sqlite":  # keys count from one in every test there, so this walk does not wrap
        assert held == items
    answered = 0
    while items:
        body = {
            "task": "verify",
            "judgments": [judgment(items[0])],
            "want": 1,
            "holding": [item["slot"] for item in items[1:]],
            "client": "tab",
        }
        first = post(client, "judgments", body).json()
        second = post(client, "judgments", body).json()
        assert [result["status"] for result in first["results"]] == ["stored"]
        assert [result["status"] for result in second["results"]] == ["duplicate"]
        assert [item["slot"] for item in second["items"]] == [item["slot"] for item in first["items"]]
        items = [*items[1:], *first["items"]]
        answered += 1
    assert answered == 24
    assert Judgment.objects.count() == 24
    campaign.refresh_from_db()
    assert campaign.verify_done == 24


@pytest.mark.parametrize(
    ("path", "body", "field"),
    [
        ("lease", {"want": 5}, "task"),
        ("lease", {"task": "verify", "want": 21}, "want"),
        ("lease", {"task": "verify", "want": -1}, "want"),
        ("lease", {"task": "gold", "want": 1}, "task"),
        ("lease", {"task": "verify", "want": 1, "holding": ["a"]}, "holding"),
        ("lease", {"task": "verify", "want": 1, "client": "x" * 37}, "client"),
        ("judgments", {"task": "verify", "want": 1}, "judgments"),
        ("judgments", {"task": "verify", "want": 1, "judgments": "all"}, "judgments"),
        ("judgments", {"task": "verify", "want": 1, "judgments": [{}] * 101}, "judgments"),
        ("return", {}, "slots"),
        ("consent", {"version": "9"}, "version"),
    ],
)
def test_a_request_that_does_not_fit_is_refused_by_field(
    campaign: Campaign, ada: User, sign_in: SignIn, path: str, body: Json, field: str
) -> None:
    answer = post(sign_in(ada), path, body)
    assert answer.status_code == 400
    assert field in answer.json()["detail"]


def test_broken_json_is_a_clear_error(campaign: Campaign, ada: User, sign_in: SignIn) -> None:
    answer = sign_in(ada).post(f"{ROOT}/judgments/", "{", content_type="application/json")
    assert answer.status_code == 400
    assert answer.json()["error"] == "parse_error"


def test_slots_are_given_back_with_a_token_in_the_body(campaign: Campaign, ada: User) -> None:
    client = Client(enforce_csrf_checks=True)
    client.force_login(ada, backend="django.contrib.auth.backends.ModelBackend")
    token = "a" * 32
    client.cookies["csrftoken"] = token
    header = {"HTTP_X_CSRFTOKEN": token}
    items = post(client, "lease", {"task": "verify", "want": 3}, **header).json()["items"]
    slots = [item["slot"] for item in items]
    refused = client.post(f"{ROOT}/return/", json.dumps({"slots": slots}), content_type="text/plain")
    assert refused.status_code == 403
    beacon = json.dumps({"slots": [*slots, 5], "csrf": token})
    assert client.post(f"{ROOT}/return/", beacon, content_type="text/plain").status_code == 204
    assert not Slot.objects.filter(annotator=ada).exists()


def test_the_workbench_knows_emotions_scales_guideline_and_keys(campaign: Campaign, ada: User, sign_in: SignIn) -> None:
    GuidelineFactory.create(
        campaign=campaign, version=2, change_note="Thanks are neutral.", markdown="# New\n\n<script>alert(1)</script>"
    )
    ada.preferences = {"keymap": {"flag": "x"}}
    ada.save()
    bench = sign_in(ada).get(f"{ROOT}/workbench/?task=verify").json()
    names = [(emotion["name"], emotion["key"]) for emotion in bench["emotions"]]
    assert names == [
        *(("joy", "1"), ("sadness", "2"), ("anger", "3"), ("fear", "4")),
        *(("surprise", "5"), ("disgust", "6"), ("neutral", "7")),
    ]
    assert [scale["name"] for scale in bench["scales"]] == ["personalization", "justification", "satisfaction"]
    assert bench["guideline"]["version"] == 2
    assert "<h1>New</h1>" in bench["guideline"]["html"]
    assert "<script" not in bench["guideline"]["html"]
    assert (bench["keymap"], bench["lease_seconds"], bench["consent"]) == ({"flag": "x"}, 1800, None)


def test_titles_come_in_the_language_of_the_browser(campaign: Campaign, ada: User, sign_in: SignIn) -> None:
    bench = sign_in(ada).get(f"{ROOT}/workbench/?task=verify", headers={"Accept-Language": "de"}).json()
    assert bench["language"] == "de"


def test_consent_comes_first_and_is_recorded_with_version_and_time(
    campaign: Campaign, ada: User, sign_in: SignIn
) -> None:
    Campaign.objects.update(consent_text="We keep *nothing*.", consent_version="2")
    client = sign_in(ada)
    refused = post(client, "lease", {"task": "verify", "want": 1})
    assert (refused.status_code, refused.json()["error"]) == (403, "consent_needed")
    assert client.get(f"{ROOT}/workbench/?task=verify").json()["consent"]["needed"]
    assert post(client, "consent", {"version": "1"}).status_code == 400
    assert post(client, "consent", {"version": "2"}).status_code == 204
    member = Membership.objects.get(user=ada)
    assert member.consent_version == "2"
    assert member.consented_at is not None
    assert post(client, "consent", {"version": "2"}).status_code == 204
    assert Membership.objects.get(user=ada).consented_at == member.consented_at
    assert len(lease(client)["items"]) == 5
    Campaign.objects.update(consent_version="3")
    assert post(client, "lease", {"task": "verify", "want": 1}).status_code == 403


def test_practice_gives_feedback_and_opens_the_queue(draft: Campaign, ada: User, sign_in: SignIn) -> None:
    draft.require_practice = True
    draft.save()
    question = GoldQuestionFactory.create(campaign=draft, use="practice", explanation="So happy is joy.")
    GoldQuestionFactory.create(campaign=draft, use="practice", label="neutral")
    open_campaign(draft)
    client = sign_in(ada)
    assert post(client, "lease", {"task": "verify", "want": 1}).json()["error"] == "practice_needed"
    items = client.get(f"{ROOT}/practice/").json()["items"]
    assert len(items) == 2
    assert "label" not in items[0]
    assert str(question.pk) != items[0]["slot"][1:]
    first = post(client, "practice", {"item": items[0]["slot"], "label": "fear"}).json()
    assert first == {"correct": False, "label": "joy", "explanation": "So happy is joy.", "done": False}
    assert len(client.get(f"{ROOT}/practice/").json()["items"]) == 1
    second = post(client, "practice", {"item": items[1]["slot"], "label": "neutral"}).json()
    assert (second["correct"], second["done"]) == (True, True)
    assert len(lease(client)["items"]) == 5
    assert not Judgment.objects.exists()
    wrong = post(client, "practice", {"item": "p12", "label": "joy"})
    assert (wrong.status_code, wrong.json()["error"]) == (400, "unknown_item")


def test_history_shows_ones_own_standing_answers_newest_first(
    campaign: Campaign, ada: User, bo: User, sign_in: SignIn
) -> None:
    client = sign_in(ada)
    items = lease(client, want=20)["items"] + lease(client, want=4, client="second")["items"]
    given = [judgment(item, comment=f"no {place}") for place, item in enumerate(items)]
    post(client, "judgments", {"task": "verify", "judgments": given, "want": 0})
    change = judgment(items[0], label="fear", supersedes=given[0]["id"])
    post(client, "judgments", {"task": "verify", "judgments": [change], "want": 0})
    other = sign_in(bo)
    theirs = lease(other, want=1)["items"]
    post(other, "judgments", {"task": "verify", "judgments": [judgment(theirs[0])], "want": 0})

    first = client.get(f"{ROOT}/history/?task=verify").json()
    second = client.get(f"{ROOT}/history/", {"task": "verify", "cursor": first["next"]}).json()

    answers = [*first["results"], *second["results"]]
    assert second["next"] is None
    assert [answer["id"] for answer in answers] == [change["id"], *(said["id"] for said in reversed(given[1:]))]
    assert answers[0]["label"] == "fear"
    assert answers[0]["slot"] == answers[0]["item"]["slot"] == items[0]["slot"]
    assert answers[-1]["item"]["target"] == items[1]["target"]
    assert client.get(f"{ROOT}/history/?task=verify&cursor=nonsense").json()["results"] == first["results"]


def test_ratings_in_the_history_go_by_the_ids_the_browser_knows(campaign: Campaign, ada: User, sign_in: SignIn) -> None:
    client = sign_in(ada)
    item = lease(client, task="rate", want=1)["items"][0]
    given = judgment(item)
    post(client, "judgments", {"task": "rate", "judgments": [given], "want": 0})
    (answer,) = client.get(f"{ROOT}/history/?task=rate").json()["results"]
    assert answer["ratings"] == given["ratings"]
    assert answer["item"]["responses"] == item["responses"]


def test_preferences_have_a_closed_schema(campaign: Campaign, ada: User, sign_in: SignIn) -> None:
    client = sign_in(ada)

    def put(body: Any) -> Any:
        return client.put("/api/me/preferences/", json.dumps(body), content_type="application/json")

    assert client.get("/api/me/preferences/").json() == {
        "keymap": {},
        "theme": "auto",
        "language": "",
        "text_size": "medium",
    }
    assert put({"theme": "dark"}).status_code == 200
    assert put({"keymap": {"flag": "x", "next": " "}}).json()["theme"] == "dark"
    assert client.get("/api/me/preferences/").json()["keymap"] == {"flag": "x", "next": " "}
    for wrong in (
        {"theme": "pink"},
        {"is_superuser": True},
        {"keymap": {"<script>": "x"}},
        {"keymap": {"flag": "x", "skip": "x"}},
        {"keymap": {f"c{n}": str(n) for n in range(65)}},
        {"keymap": {"flag": {"a": 1}}},
        {"language": "xx"},
        ["theme"],
    ):
        assert put(wrong).status_code == 400, wrong
    assert client.get("/api/me/preferences/").json()["theme"] == "dark"


def test_a_read_token_reads_and_does_not_write(campaign: Campaign, ada: User) -> None:
    for scope, writing in (("read", 403), ("write", 200)):
        secret = f"secret-{scope}"
        ApiToken.objects.create(
            user=ada,
            name=scope,
            scope=scope,
            digest=token_digest(secret),
            expires_at=timezone.now() + timedelta(days=1),
        )
        header = {"HTTP_AUTHORIZATION": f"Bearer {secret}"}
        assert Client().get("/api/queues/", **header).status_code == 200
        assert post(Client(), "lease", {"task": "verify", "want": 1}, **header).status_code == writing


def test_a_paused_campaign_keeps_answers_and_deals_nothing(campaign: Campaign, ada: User, sign_in: SignIn) -> None:
    client = sign_in(ada)
    item = lease(client, want=1)["items"][0]
    pause(campaign)
    answer = post(client, "judgments", {"task": "verify", "judgments": [judgment(item)], "want": 5}).json()
    assert (answer["results"][0]["status"], answer["results"][0]["reason"]) == ("set_aside", "campaign_paused")
    assert (answer["items"], answer["progress"]["state"]) == ([], "paused")
    assert client.get(f"{ROOT}/history/?task=verify").json()["results"][0]["set_aside"]


def test_the_queues_page_lists_ones_own_queues_only(
    campaign: Campaign, other_campaign: Campaign, ada: User, cleo: User, dan: User, rhea: User, sign_in: SignIn
) -> None:
    def tasks(user: User) -> list[tuple[str, str]]:
        return [(queue["campaign"], queue["task"]) for queue in sign_in(user).get("/api/queues/").json()["queues"]]

    assert tasks(ada) == [("emotions", "verify"), ("emotions", "rate")]
    assert tasks(cleo) == [("emotions", "adjudicate")]
    assert sorted(tasks(dan)) == [("other", "adjudicate"), ("other", "rate"), ("other", "verify")]
    assert tasks(rhea) == []


def test_adjudication_goes_through_the_door(
    campaign: Campaign, ada: User, bo: User, cleo: User, sign_in: SignIn
) -> None:
    for user, label in ((ada, "joy"), (bo, "fear")):
        client = sign_in(user)
        items = lease(client, want=20)["items"] + lease(client, want=4, client="second")["items"]
        said = [judgment(item, label=label, comment=f"{user.username} says") for item in items]
        post(client, "judgments", {"task": "verify", "judgments": said, "want": 0})
    client = sign_in(cleo)
    page = client.get(f"{ROOT}/adjudication/").json()
    assert (page["left"], len(page["items"])) == (24, 10)
    bench = client.get(f"{ROOT}/workbench/?task=adjudicate").json()
    assert (bench["task"], bench["progress"]["left"], bench["mode"]) == ("adjudicate", 24, "blind")
    body = {"id": str(uuid.uuid4()), "item": page["items"][0]["item"], "label": "joy", "comment": ""}
    decided = post(client, "adjudication", body)
    assert decided.json() == {"status": "stored", "comments": ["bo says", "ada says"]}
    assert client.get(f"{ROOT}/adjudication/").json()["left"] == 23
    bad = post(client, "adjudication", {**body, "id": str(uuid.uuid4()), "label": "glee"}).json()
    assert (bad["status"], bad["reason"], bad["comments"]) == ("refused", "unknown_label", [])


# --- who may what -----------------------------------------------------------------------------------------------------

ENDPOINTS = [
    ("GET", "workbench/?task=verify", Role.ANNOTATOR),
    ("GET", "workbench/?task=adjudicate", Role.ADJUDICATOR),
    ("POST", "lease/", Role.ANNOTATOR),
    ("POST", "judgments/", Role.ANNOTATOR),
    ("POST", "return/", Role.ANNOTATOR),
    ("GET", "history/", Role.ANNOTATOR),
    ("GET", "practice/", Role.ANNOTATOR),
    ("POST", "practice/", Role.ANNOTATOR),
    ("POST", "consent/", Role.ANNOTATOR),
    ("GET", "adjudication/", Role.ADJUDICATOR),
    ("POST", "adjudication/", Role.ADJUDICATOR),
]
BODY = {"task": "verify", "want": 1, "judgments": [], "slots": [], "item": "p1", "label": "joy", "version": "1"}


@pytest.mark.parametrize(("method", "path", "role"), ENDPOINTS)
def test_strangers_see_nothing_and_the_wrong_role_is_turned_away(
    campaign: Campaign,
    other_campaign: Campaign,
    ada: User,
    cleo: User,
    dan: User,
    rhea: User,
    sign_in: SignIn,
    method: str,
    path: str,
    role: str,
) -> None:
    def ask(client: Client, name: str = "emotions") -> int:
        body = json.dumps(BODY) if method == "POST" else None
        return client.generic(
            method, f"/api/campaigns/{name}/{path}", body or "", content_type="application/json"
        ).status_code

    assert ask(Client()) in (401, 403)
    assert ask(sign_in(dan)) == 404
    assert ask(sign_in(dan), "nowhere") == 404
    right, wrong = (ada, cleo) if role == Role.ANNOTATOR else (cleo, ada)
    assert ask(sign_in(wrong)) in (403, 404)
    assert ask(sign_in(rhea)) in (403, 404)
    assert ask(sign_in(right)) in (200, 204, 400)
    Membership.objects.filter(user=right).update(active=False)
    assert ask(sign_in(right)) == 404
    assert not Judgment.objects.exists()


def test_a_slot_of_one_campaign_means_nothing_in_another(
    campaign: Campaign, other_campaign: Campaign, ada: User, dan: User, sign_in: SignIn
) -> None:
    MembershipFactory.create(user=dan, campaign=campaign)
    client = sign_in(dan)
    there = client.post(
        "/api/campaigns/other/lease/", json.dumps({"task": "verify", "want": 1}), content_type="application/json"
    ).json()["items"][0]
    results = post(client, "judgments", {"task": "verify", "want": 0, "judgments": [judgment(there)]}).json()["results"]
    assert (results[0]["status"], results[0]["reason"]) == ("refused", "unknown_slot")
    stolen = lease(sign_in(ada), want=1)["items"][0]
    answer = post(
        client, "judgments", {"task": "verify", "want": 0, "holding": [stolen["slot"]], "judgments": [judgment(stolen)]}
    )
    assert answer.json()["results"][0]["reason"] == "unknown_slot"
    assert answer.json()["lost"] == [stolen["slot"]]


def test_a_draft_is_not_there_for_those_who_work_in_queues(
    draft: Campaign, ada: User, cleo: User, sign_in: SignIn
) -> None:
    assert post(sign_in(ada), "lease", {"task": "verify", "want": 1}).status_code == 404
    assert sign_in(cleo).get(f"{ROOT}/adjudication/").status_code == 404
    assert sign_in(ada).get("/api/queues/").json() == {"queues": []}


# --- what it costs ----------------------------------------------------------------------------------------------------


def queries(ask: Callable[[], Any]) -> int:
    with CaptureQueriesContext(connection) as captured:
        ask()
    return len([query for query in captured.captured_queries if "SAVEPOINT" not in query["sql"]])


def test_the_number_of_queries_does_not_grow_with_the_number_of_items(
    campaign: Campaign, ada: User, sign_in: SignIn
) -> None:
    client = sign_in(ada)
    # PostgreSQL locks what it claims, and is told not to wait for the disk.
    more = 3 if connection.vendor == "postgresql" else 0
    # The end of the tape may lie within the longer stretch: one more look.
    assert queries(lambda: lease(client, want=1, client="a")) <= 12 + more
    assert queries(lambda: lease(client, want=15, client="b")) <= 14 + 2 * more
    page = client.get(f"{ROOT}/history/?task=verify")
    assert page.status_code == 200
    items = lease(client, want=3, client="c")["items"]
    one = queries(lambda: post(client, "judgments", {"task": "verify", "want": 1, "judgments": [judgment(items[0])]}))
    assert one <= 25 + 2 * more
    empty = queries(lambda: client.get(f"{ROOT}/history/?task=verify"))
    post(client, "judgments", {"task": "verify", "want": 0, "judgments": [judgment(item) for item in items[1:]]})
    assert queries(lambda: client.get(f"{ROOT}/history/?task=verify")) == empty <= 8
    assert queries(lambda: client.get(f"{ROOT}/workbench/?task=verify")) <= 7
    assert queries(lambda: client.get("/api/queues/")) <= 4


def test_no_query_of_the_hot_path_counts_or_sorts_at_random(campaign: Campaign, ada: User, sign_in: SignIn) -> None:
    client = sign_in(ada)
    with CaptureQueriesContext(connection) as captured:
        item = lease(client, want=1)["items"][0]
        post(client, "judgments", {"task": "verify", "want": 1, "judgments": [judgment(item)]})
    said = " ".join(query["sql"].upper() for query in captured.captured_queries)
    assert "COUNT(" not in said
    assert "RANDOM" not in said
