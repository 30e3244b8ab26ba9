"""Who gets what: every address × every method × everybody. An address that the table does not know fails the test.

Ada annotates, Cleo adjudicates and Rhea researches the campaign `emotions`; Dan has every role in another one; Nell is
signed in and belongs nowhere; the administrator is a superuser without a membership.
"""

from __future__ import annotations

import io
import json
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.core.cache import cache
from django.db import transaction
from django.http import HttpResponse
from django.test import Client
from django.urls import URLPattern, URLResolver, get_resolver
from django.utils import timezone

from annotation.models import ApiToken, Campaign, Job, Membership, ReportRun, Role, Slot, User
from annotation.workflow import accounts, reporting
from annotation.workflow.presentation import slot_veil
from annotation.workflow.queue import lease_batch
from tests.factories import MembershipFactory, UserFactory

pytestmark = pytest.mark.django_db

ACTORS = ("anonymous", "nell", "dan", "ada", "cleo", "rhea", "admin")
METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")

# One status per actor, in the order of ACTORS.
EVERYBODY = (200,) * 7
LOGIN_ELSE_OK = (302, *(200,) * 6)
TOKEN_ELSE_OK = (401, *(200,) * 6)
PAGE_OF_RESEARCHERS = (302, 404, 404, 403, 403, 200, 200)
API_OF_RESEARCHERS = (401, 404, 404, 403, 403, 200, 200)
API_OF_ANNOTATORS = (401, 404, 404, 200, 403, 403, 403)
REPORT_PAGE = (302, 404, 404, 404, 404, 200, 200)
JOB_API = (401, 404, 404, 404, 404, 200, 200)

EXPECTED: dict[str, dict[str, tuple[int, ...]]] = {
    "/": {"GET": LOGIN_ELSE_OK},
    "/health/live": {"GET": EVERYBODY},
    "/health/ready": {"GET": EVERYBODY},
    # Without the operator's token nobody reads the figures, superusers included.
    "/metrics": dict.fromkeys(METHODS, (403,) * 7),
    "/join/<str:token>/": {"GET": EVERYBODY, "POST": (200, *(302,) * 6)},
    "/me/": {"GET": LOGIN_ELSE_OK},
    "/me/tokens/": {"POST": LOGIN_ELSE_OK},
    "/me/tokens/<int:token_id>/revoke/": {"POST": (302, 404, 404, 302, 404, 404, 404)},
    "/me/data.json": {"GET": LOGIN_ELSE_OK},
    "/me/withdraw/<slug:campaign>/": {"POST": (302, 404, 404, 302, 302, 302, 404)},
    "/campaigns/<slug:campaign>/": {"GET": PAGE_OF_RESEARCHERS},
    "/campaigns/<slug:campaign>/invite/": {"POST": PAGE_OF_RESEARCHERS},
    "/campaigns/<slug:campaign>/move/": {"POST": (302, 404, 404, 403, 403, 302, 302)},
    "/campaigns/<slug:campaign>/take-in/": {"POST": (302, 404, 404, 403, 403, 302, 302)},
    "/campaigns/<slug:campaign>/annotators/<slug:pseudonym>/reassign/": {"POST": (302, 404, 404, 403, 403, 302, 302)},
    "/campaigns/<slug:campaign>/annotators/<slug:pseudonym>/active/": {"POST": (302, 404, 404, 403, 403, 302, 302)},
    "/campaigns/<slug:campaign>/<slug:task>/": {"GET": (302, 404, 404, 200, 404, 403, 403)},
    "/reports/<uuid:report_id>/": {"GET": REPORT_PAGE},
    "/reports/<uuid:report_id>/bundle.zip": {"GET": REPORT_PAGE},
    "/reports/<uuid:report_id>/files/<path:name>": {"GET": REPORT_PAGE},
    "/reports/<uuid:report_id>/against/<uuid:other_id>/": {"GET": REPORT_PAGE},
    "/jobs/<uuid:job_id>/cancel/": {"POST": (302, 404, 404, 404, 404, 302, 302)},
    "/api/queues/": {"GET": TOKEN_ELSE_OK},
    "/api/campaigns/<slug:campaign>/workbench/": {"GET": (401, 404, 404, 200, 404, 404, 404)},
    "/api/campaigns/<slug:campaign>/lease/": {"POST": API_OF_ANNOTATORS},
    "/api/campaigns/<slug:campaign>/judgments/": {"POST": API_OF_ANNOTATORS},
    "/api/campaigns/<slug:campaign>/return/": {"POST": (401, 404, 404, 204, 403, 403, 403)},
    "/api/campaigns/<slug:campaign>/history/": {"GET": API_OF_ANNOTATORS},
    "/api/campaigns/<slug:campaign>/practice/": {"GET": API_OF_ANNOTATORS, "POST": (401, 404, 404, 400, 403, 403, 403)},
    "/api/campaigns/<slug:campaign>/consent/": {"POST": (401, 404, 404, 204, 403, 403, 403)},
    "/api/campaigns/<slug:campaign>/adjudication/": {
        "GET": (401, 404, 404, 403, 200, 403, 403),
        "POST": (401, 404, 404, 403, 200, 403, 403),
    },
    "/api/imports/": {"POST": (401, 403, 403, 403, 403, 403, 415)},
    "/api/jobs/": {"GET": TOKEN_ELSE_OK, "POST": (401, 403, 403, 403, 403, 403, 201)},
    "/api/jobs/<uuid:job_id>/": {"GET": JOB_API},
    "/api/jobs/<uuid:job_id>/cancel/": {"POST": JOB_API},
    "/api/campaigns/": {"GET": TOKEN_ELSE_OK},
    "/api/campaigns/<slug:campaign>/": {"GET": API_OF_RESEARCHERS, "PATCH": API_OF_RESEARCHERS},
    "/api/campaigns/<slug:campaign>/plan/": {"GET": API_OF_RESEARCHERS},
    "/api/campaigns/<slug:campaign>/precision/": {"GET": API_OF_RESEARCHERS},
    "/api/campaigns/<slug:campaign>/invitations/": {"POST": (401, 404, 404, 403, 403, 201, 201)},
    "/api/campaigns/<slug:campaign>/set-aside/": {"GET": API_OF_RESEARCHERS, "POST": API_OF_RESEARCHERS},
    "/api/campaigns/<slug:campaign>/annotators/<slug:pseudonym>/": {"PATCH": API_OF_RESEARCHERS},
    "/api/campaigns/<slug:campaign>/annotators/<slug:pseudonym>/reassign/": {"POST": API_OF_RESEARCHERS},
    "/api/campaigns/<slug:campaign>/state/": {"GET": API_OF_RESEARCHERS},
    "/api/campaigns/<slug:campaign>/agreement/": {"GET": API_OF_RESEARCHERS},
    "/api/campaigns/<slug:campaign>/export/<slug:table>/": {"GET": API_OF_RESEARCHERS},
    "/api/campaigns/<slug:campaign>/interchange/<slug:tool>/": {"GET": API_OF_RESEARCHERS},
    "/api/codebook/": {"GET": TOKEN_ELSE_OK},
    "/api/corpus/": {"GET": (401, 403, 403, 403, 403, 403, 200)},
    "/api/reports/": {"GET": TOKEN_ELSE_OK},
    "/api/reports/<uuid:report_id>/": {"GET": (401, 404, 404, 404, 404, 200, 200)},
    "/api/schema/": {"GET": TOKEN_ELSE_OK},
    "/api/me/preferences/": {"GET": TOKEN_ELSE_OK, "PUT": TOKEN_ELSE_OK},
}
# Not named above: nothing but a refusal.
REFUSALS = {302, 401, 403, 404, 405}


def routes(resolver: URLResolver, prefix: str = "/") -> Iterator[str]:
    for pattern in resolver.url_patterns:
        route = prefix + str(pattern.pattern).lstrip("^").rstrip("$")
        if isinstance(pattern, URLResolver):
            yield from routes(pattern, route)
        elif isinstance(pattern, URLPattern):
            yield route


def own_routes() -> set[str]:
    """All addresses but those of the admin and of allauth, which have tests of their own below."""
    return {route for route in routes(get_resolver()) if not route.startswith(("/admin/", "/account/"))}


def test_every_address_of_the_url_map_has_a_row_in_the_table() -> None:
    assert own_routes() == set(EXPECTED)


@pytest.fixture
def world(
    campaign: Campaign,
    other_campaign: Campaign,
    ada: User,
    cleo: User,
    rhea: User,
    admin: User,
    dan: User,
    monkeypatch: pytest.MonkeyPatch,
) -> dict[str, Any]:
    """The objects that the addresses name, all of the campaign `emotions`."""
    cache.clear()
    UserFactory.create(username="nell")
    campaign.consent_text, campaign.consent_version = "", "1"
    campaign.save()
    report = ReportRun.objects.create(campaign=campaign, finished_at=timezone.now())
    accounts.make_token(user=ada, name="hers", scope="read", days=1)
    # What a report holds is of no interest here, only who gets it.
    monkeypatch.setattr(reporting, "page_body", lambda run: "numbers")
    monkeypatch.setattr(reporting, "files", lambda run: [])
    monkeypatch.setattr(reporting, "open_file", lambda run, name: io.BytesIO(b"a file"))
    monkeypatch.setattr(reporting, "bundle_response", lambda run: HttpResponse(b"a bundle"))
    monkeypatch.setattr(reporting, "compare", lambda first, second: [])
    return {
        "campaign": campaign.name,
        "task": "verify",
        "pseudonym": Membership.objects.get(campaign=campaign, user=ada).pseudonym,
        "table": "judgments",
        "tool": "doccano",
        "name": "report.pdf",
        "token": accounts.invite(campaign=campaign, role=Role.ANNOTATOR, uses=5, days=1, by=rhea),
        "token_id": ApiToken.objects.get(user=ada).pk,
        "report_id": report.pk,
        "other_id": report.pk,
        "job_id": Job.objects.create(kind="report", created_by=rhea).pk,
    }


BODIES: dict[str, dict[str, Any]] = {
    "/api/campaigns/<slug:campaign>/lease/": {"task": "verify", "want": 1, "holding": [], "client": str(uuid.uuid4())},
    "/api/campaigns/<slug:campaign>/judgments/": {
        **{"task": "verify", "want": 0, "holding": [], "client": str(uuid.uuid4())},
        "judgments": [],
    },
    "/api/campaigns/<slug:campaign>/return/": {"slots": []},
    "/api/campaigns/<slug:campaign>/consent/": {"version": "1"},
    "/api/jobs/": {"kind": "prelabel", "parameters": {}},
    "/api/campaigns/<slug:campaign>/": {"state": "paused"},
    "/api/campaigns/<slug:campaign>/annotators/<slug:pseudonym>/": {"active": False},
    "/campaigns/<slug:campaign>/move/": {"to": "paused"},
    "/campaigns/<slug:campaign>/annotators/<slug:pseudonym>/active/": {"active": "0"},
}


def address(route: str, world: dict[str, Any]) -> str:
    parts = []
    for part in route.split("<"):
        head, close, tail = part.partition(">")
        parts.append(f"{world[head.split(':')[-1]]}{tail}" if close else part)
    return "".join(parts)


def ask(client: Client, method: str, route: str, world: dict[str, Any]) -> int:
    """Send the request and undo what it did, so that the next one finds the same world."""
    path = address(route, world)
    if route.endswith("agreement/"):
        path += "?replicates=100"
    with transaction.atomic():
        if route.startswith("/api/") or method not in ("GET", "POST"):
            body = None if method == "GET" else json.dumps(BODIES.get(route, {}))
            response = client.generic(method, path, body or "", content_type="application/json")
        else:
            response = client.get(path) if method == "GET" else client.post(path, BODIES.get(route, {}))
        if getattr(response, "streaming", False):
            b"".join(response.streaming_content)  # type: ignore[attr-defined]
        transaction.set_rollback(True)
    return int(response.status_code)


@pytest.fixture
def browser_of(sign_in: Callable[[User], Client]) -> Callable[[str], Client]:
    return lambda name: Client() if name == "anonymous" else sign_in(User.objects.get(username=name))


@pytest.mark.parametrize("actor", ACTORS)
def test_everybody_gets_what_the_table_says_and_nothing_else(
    actor: str, world: dict[str, Any], browser_of: Callable[[str], Client]
) -> None:
    browser, wrong = browser_of(actor), []
    for route, methods in EXPECTED.items():
        for method in METHODS:
            got = ask(browser, method, route, world)
            if method in methods:
                wanted = methods[method][ACTORS.index(actor)]
                if got != wanted:
                    wrong.append(f"{method} {route}: {got} instead of {wanted}")
            elif got not in REFUSALS:
                wrong.append(f"{method} {route}: {got}, but the table knows no such method")
    assert wrong == []


def test_an_inactive_or_withdrawn_member_is_a_stranger(
    world: dict[str, Any], campaign: Campaign, browser_of: Callable[[str], Client]
) -> None:
    campaign.memberships.update(active=False)
    for name in ("ada", "cleo", "rhea"):
        browser, column = browser_of(name), ACTORS.index("nell")
        for route in EXPECTED:
            if "<slug:campaign>" in route and "withdraw" not in route:
                for method, row in EXPECTED[route].items():
                    assert ask(browser, method, route, world) == row[column], f"{name}: {method} {route}"


def test_a_member_of_two_campaigns_has_in_each_only_the_role_she_holds_there(
    world: dict[str, Any], other_campaign: Campaign, ada: User, browser_of: Callable[[str], Client]
) -> None:
    MembershipFactory.create(user=ada, campaign=other_campaign, role=Role.RESEARCHER)
    browser = browser_of("ada")
    assert browser.get("/campaigns/other/").status_code == 200
    assert browser.get("/campaigns/emotions/").status_code == 403
    assert browser.get("/api/campaigns/emotions/export/judgments/").status_code == 403
    assert [row["name"] for row in browser.get("/api/campaigns/").json()["results"]] == ["other"]
    assert browser.get("/api/reports/").json()["results"] == []


# Objects addressed by id, from another campaign ----------------------------------------------------------------


def test_what_is_addressed_by_id_answers_only_within_its_campaign(
    world: dict[str, Any],
    campaign: Campaign,
    other_campaign: Campaign,
    ada: User,
    dan: User,
    browser_of: Callable[[str], Client],
) -> None:
    browser = browser_of("dan")
    theirs = ReportRun.objects.create(campaign=other_campaign, finished_at=timezone.now())
    assert browser.get(f"/reports/{theirs.pk}/").status_code == 200
    assert browser.get(f"/reports/{theirs.pk}/against/{world['report_id']}/").status_code == 404
    assert browser.get(f"/reports/{world['report_id']}/against/{theirs.pk}/").status_code == 404
    assert [row["id"] for row in browser.get("/api/reports/").json()["results"]] == [str(theirs.pk)]
    assert browser.get("/api/jobs/").json()["results"] == []
    assert browser.post(f"/me/tokens/{world['token_id']}/revoke/").status_code == 404
    assert ApiToken.objects.filter(pk=world["token_id"]).exists()
    # A slot of Ada's, sent under every number that could mean it, through Dan's own campaign.
    slot = lease_batch(campaign, ada, "verify", want=1).slots[0]
    for number in (slot.pk, slot_veil(campaign, ada).veil(slot.pk), slot_veil(other_campaign, dan).veil(slot.pk)):
        body = {
            **{"task": "verify", "want": 0, "holding": [number], "client": "dan"},
            "judgments": [{"id": str(uuid.uuid4()), "slot": number, "action": "label", "label": "joy"}],
        }
        answer = browser.post("/api/campaigns/other/judgments/", body, content_type="application/json").json()
        assert answer["results"][0]["status"] == "refused"
        assert answer["results"][0]["reason"] == "unknown_slot"
        browser.post("/api/campaigns/other/return/", {"slots": [number]}, content_type="application/json")
    slot.refresh_from_db()
    assert (slot.state, slot.annotator_id) == (Slot.LEASED, ada.pk)


def test_a_judgment_of_another_person_can_be_neither_corrected_nor_seen(
    campaign: Campaign, ada: User, bo: User, browser_of: Callable[[str], Client]
) -> None:
    cache.clear()
    slot = lease_batch(campaign, ada, "verify", want=1).slots[0]
    own = str(uuid.uuid4())
    answer = {"id": own, "slot": slot_veil(campaign, ada).veil(slot.pk), "action": "label", "label": "fear"}
    frame = {"task": "verify", "want": 0, "holding": [], "client": "a"}
    address = f"/api/campaigns/{campaign.name}/judgments/"
    sent = browser_of("ada").post(address, {**frame, "judgments": [answer]}, content_type="application/json")
    assert sent.json()["results"][0]["status"] == "stored"
    browser = browser_of("bo")
    forged = {**answer, "id": str(uuid.uuid4()), "supersedes": own, "slot": slot_veil(campaign, bo).veil(slot.pk)}
    refused = browser.post(address, {**frame, "judgments": [forged]}, content_type="application/json").json()
    assert refused["results"][0]["status"] == "refused"
    assert browser.get(f"/api/campaigns/{campaign.name}/history/").json()["results"] == []


def test_an_unknown_campaign_and_a_forbidden_one_look_the_same_to_a_stranger(
    world: dict[str, Any], browser_of: Callable[[str], Client]
) -> None:
    """Existence is no side channel: status and body are those of a name that nobody ever used."""
    browser, missing = browser_of("dan"), {**world, "campaign": "no-such-campaign"}
    for route in EXPECTED:
        if "<slug:campaign>" in route and route.startswith("/api/"):
            for method in EXPECTED[route]:
                there, nowhere = (
                    browser.generic(method, address(route, place), "{}", content_type="application/json")
                    for place in (world, missing)
                )
                assert (there.status_code, there.content) == (nowhere.status_code, nowhere.content), route


# Tokens ----------------------------------------------------------------


def test_a_read_token_reads_and_never_writes(world: dict[str, Any], rhea: User, ada: User) -> None:
    secret = accounts.make_token(user=ada, name="script", scope="read", days=1)
    client = Client(headers={"Authorization": f"Bearer {secret}"})
    for route, methods in EXPECTED.items():
        if not route.startswith("/api/"):
            continue
        for method, row in methods.items():
            got = ask(client, method, route, world)
            assert got == (row[ACTORS.index("ada")] if method == "GET" else 403), f"{method} {route}: {got}"


# The admin and the account pages ----------------------------------------------------------------


def admin_routes() -> list[str]:
    return sorted(route for route in routes(get_resolver()) if route.startswith("/admin/"))


ADMIN_WORLD = {"object_id": "1", "app_label": "annotation", "content_type_id": "1", "url": "x", "kind": "report"}
OPEN_ADMIN = {"/admin/login/", "/admin/jsi18n/", "/admin/logout/"}


@pytest.mark.parametrize("actor", ["anonymous", "rhea", "sten"])
def test_no_page_of_the_admin_opens_for_anybody_but_superusers(
    actor: str, world: dict[str, Any], browser_of: Callable[[str], Client]
) -> None:
    UserFactory.create(username="sten", is_staff=True)  # staff, but no superuser
    browser, opened = browser_of(actor), []
    places = admin_routes()
    assert len(places) > 60
    for route in places:
        if route in OPEN_ADMIN or "(" in route:
            continue
        for method in ("GET", "POST"):
            try:
                got = ask(browser, method, route, {**world, **ADMIN_WORLD, "id": "1", "pk": "1"})
            except KeyError as error:
                pytest.fail(f"{route} has a part the test does not know: {error}")
            if got not in REFUSALS:
                opened.append(f"{method} {route}: {got}")
    assert opened == []


def test_nobody_signs_herself_up(client: Client, db: None) -> None:
    form = {"username": "eve", "password1": "a long enough password", "password2": "a long enough password"}
    client.get("/account/signup/")
    client.post("/account/signup/", form)
    assert not User.objects.filter(username="eve").exists()
