from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta

import pytest
from django.core.cache import cache
from django.test import Client
from django.utils import timezone

from annotation.models import (
    GOLD,
    Adjudication,
    ApiToken,
    ArmAssignment,
    AuditEvent,
    Campaign,
    Invitation,
    Item,
    Judgment,
    Membership,
    ReportRun,
    Role,
    Slot,
    Task,
    User,
)
from annotation.workflow import accounts
from annotation.workflow.queue import lease_batch
from annotation.workflow.verification import submit
from tests.factories import GoldQuestionFactory, MembershipFactory, UserFactory, answer_to

SignIn = Callable[[User], Client]
NEW_PERSON = {"username": "nia", "password1": "a long enough password", "password2": "a long enough password"}

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _fresh_cache() -> None:
    cache.clear()


# Invitations ------------------------------------------------------------


def invite(campaign: Campaign, by: User, *, uses: int = 1, days: int = 7, role: str = Role.ANNOTATOR) -> str:
    return accounts.invite(campaign=campaign, role=role, uses=uses, days=days, by=by)


def test_a_newcomer_follows_the_link_and_may_annotate_at_once(campaign: Campaign, rhea: User, client: Client) -> None:
    token = invite(campaign, rhea)
    assert campaign.title in client.get(f"/join/{token}/").content.decode()
    assert client.post(f"/join/{token}/", NEW_PERSON).status_code == 302
    nia = User.objects.get(username="nia")
    assert not nia.is_staff
    assert nia.memberships.get().role == Role.ANNOTATOR
    assert client.get(f"/campaigns/{campaign.name}/verify/").status_code == 200


def test_an_invitation_for_one_is_used_once(campaign: Campaign, rhea: User) -> None:
    token = invite(campaign, rhea)
    assert Client().post(f"/join/{token}/", NEW_PERSON).status_code == 302
    late = Client().post(f"/join/{token}/", {**NEW_PERSON, "username": "late"})
    assert late.status_code == 404
    assert not User.objects.filter(username="late").exists()


def test_following_a_link_twice_uses_it_once(campaign: Campaign, rhea: User, dan: User) -> None:
    token = invite(campaign, rhea, uses=2)
    assert accounts.accept(token=token, user=dan) == accounts.accept(token=token, user=dan)
    assert Invitation.objects.get().uses_left == 1


def test_an_expired_or_invented_invitation_says_so_and_makes_nobody(campaign: Campaign, rhea: User) -> None:
    token = invite(campaign, rhea)
    Invitation.objects.update(expires_at=timezone.now() - timedelta(seconds=1))
    for wrong in (token, "invented"):
        reply = Client().post(f"/join/{wrong}/", NEW_PERSON)
        assert reply.status_code == 404
    assert not User.objects.filter(username="nia").exists()


def test_a_weak_password_is_refused_and_the_invitation_stays_open(campaign: Campaign, rhea: User) -> None:
    token = invite(campaign, rhea)
    for weak in ("short", "password12", "nianianianianiania"[:3]):
        Client().post(f"/join/{token}/", {"username": "nia", "password1": weak, "password2": weak})
    assert not User.objects.filter(username="nia").exists()
    assert accounts.open_invitation(token) is not None


def test_the_database_holds_only_the_digest_of_an_invitation_and_of_a_token(campaign: Campaign, rhea: User) -> None:
    secret = accounts.make_token(user=rhea, name="x", scope="read", days=1)
    token = invite(campaign, rhea)
    stored = json.dumps(
        [*Invitation.objects.values(), *ApiToken.objects.values(), *AuditEvent.objects.values()], default=str
    )
    assert token not in stored
    assert secret not in stored


def test_people_who_all_saw_a_single_invitation_open_do_not_all_get_in(
    campaign: Campaign, rhea: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The race at its worst: everybody has read the row before anybody wrote. The conditional update decides."""
    token = invite(campaign, rhea)
    seen = accounts.open_invitation(token)
    monkeypatch.setattr(accounts, "open_invitation", lambda given: seen)
    people = [UserFactory.create() for _ in range(6)]
    entered = [accounts.accept(token=token, user=user) is not None for user in people]
    assert entered == [True] + [False] * 5
    assert Membership.objects.filter(user__in=people).count() == 1
    assert Invitation.objects.get().uses_left == 0


def test_a_researcher_invites_and_odd_numbers_are_put_right(campaign: Campaign, rhea: User, sign_in: SignIn) -> None:
    reply = sign_in(rhea).post("/campaigns/emotions/invite/", {"role": "annotator", "uses": "many", "days": "-3"})
    assert reply.status_code == 200
    invitation = Invitation.objects.get()
    assert invitation.uses_left == 1
    assert invitation.expires_at > timezone.now()
    assert AuditEvent.objects.filter(action="invite", actor=rhea).exists()
    assert sign_in(rhea).post("/campaigns/emotions/invite/", {"role": "superuser"}).status_code == 404


# Tokens ------------------------------------------------------------


def bearer(secret: str) -> Client:
    return Client(headers={"Authorization": f"Bearer {secret}"})


def test_a_token_works_until_it_expires_is_revoked_or_its_owner_is_switched_off(campaign: Campaign, rhea: User) -> None:
    def make() -> str:
        return accounts.make_token(user=rhea, name="x", scope="read", days=1)

    def status(secret: str) -> int:
        return bearer(secret).get("/api/campaigns/").status_code

    secret = make()
    assert status(secret) == 200
    assert ApiToken.objects.get().last_used_at is not None
    ApiToken.objects.update(expires_at=timezone.now() - timedelta(seconds=1))
    assert status(secret) == 401
    secret = make()
    accounts.revoke_token(user=rhea, token_id=ApiToken.objects.latest("pk").pk)
    assert status(secret) == 401
    secret = make()
    User.objects.filter(pk=rhea.pk).update(is_active=False)
    assert status(secret) == 401
    assert status("attune_invented") == 401


def test_a_write_token_writes_and_a_read_token_says_why_not(campaign: Campaign, ada: User) -> None:
    write = accounts.make_token(user=ada, name="w", scope="write", days=1)
    read = accounts.make_token(user=ada, name="r", scope="read", days=1)
    body, address = {"theme": "dark"}, "/api/me/preferences/"
    assert bearer(write).put(address, body, content_type="application/json").status_code == 200
    refused = bearer(read).put(address, body, content_type="application/json")
    assert refused.status_code == 403
    assert "only read" in refused.json()["detail"]


def test_a_token_opens_no_page_only_the_interface(campaign: Campaign, rhea: User) -> None:
    secret = accounts.make_token(user=rhea, name="x", scope="write", days=1)
    for place in ("/", "/me/", "/campaigns/emotions/", "/me/data.json", "/admin/"):
        assert bearer(secret).get(place).status_code == 302


# One's own data ------------------------------------------------------------


def answer_some(campaign: Campaign, user: User, count: int, *, task: str = Task.VERIFY, **given: object) -> list[Slot]:
    slots = lease_batch(campaign, user, task, want=count).slots
    for slot in slots:
        assert submit(campaign, user, answer_to(campaign, user, slot, **given)).status == "stored"
    return slots


def test_own_data_holds_ones_own_answers_and_nobody_elses(
    campaign: Campaign, ada: User, bo: User, sign_in: SignIn
) -> None:
    answer_some(campaign, ada, 3, comment="mine alone")
    answer_some(campaign, bo, 2, comment="of another")
    reply = sign_in(ada).get("/me/data.json")
    data = reply.json()
    assert reply["Content-Disposition"].startswith("attachment")
    assert data["account"]["username"] == "ada"
    assert len(data["judgments"]) == 3
    assert {one["comment"] for one in data["judgments"]} == {"mine alone"}
    assert data["memberships"][0]["campaign__name"] == "emotions"


def test_consent_is_recorded_with_version_and_time_and_asked_anew_when_the_text_changes(
    campaign: Campaign, ada: User, sign_in: SignIn
) -> None:
    Campaign.objects.update(consent_text="Your answers are kept.", consent_version="2")
    browser, address = sign_in(ada), "/api/campaigns/emotions/consent/"
    lease = {"task": "verify", "want": 1, "holding": [], "client": "a"}
    assert browser.post("/api/campaigns/emotions/lease/", lease, content_type="application/json").status_code == 403
    assert browser.post(address, {"version": "1"}, content_type="application/json").status_code == 400
    assert browser.post(address, {"version": "2"}, content_type="application/json").status_code == 204
    member = Membership.objects.get(user=ada)
    assert member.consent_version == "2"
    assert member.consented_at is not None
    assert browser.post("/api/campaigns/emotions/lease/", lease, content_type="application/json").status_code == 200
    Campaign.objects.update(consent_version="3")
    assert browser.post("/api/campaigns/emotions/lease/", lease, content_type="application/json").status_code == 403


# Withdrawal ------------------------------------------------------------


def counters_hold(campaign: Campaign) -> None:
    """The campaign's counters are what its slots say, and the tape holds every free slot."""
    campaign.refresh_from_db()
    for task in Task.values:
        slots = Slot.objects.filter(campaign=campaign, task=task)
        assert getattr(campaign, f"{task}_done") == slots.filter(state=Slot.DONE).count(), task
        assert not slots.filter(position__gte=getattr(campaign, f"{task}_tail")).exists()
    answered = Slot.objects.filter(campaign=campaign, task=GOLD, state__in=[Slot.DONE, Slot.SKIPPED])
    assert campaign.gold_done == answered.count()


@pytest.fixture
def busy(draft: Campaign, ada: User, bo: User) -> Campaign:
    """Ada has labelled, skipped, corrected, answered gold and rated; Bo has disagreed; Ada holds a lease."""
    from annotation.workflow.opening import open_campaign

    draft.gold_every, draft.mode = 2, Campaign.ASSISTED
    draft.save()
    for _ in range(3):
        GoldQuestionFactory.create(campaign=draft)
    open_campaign(draft)
    draft.refresh_from_db()
    slots = answer_some(draft, ada, 18, label="joy", comment="hers")
    first = Judgment.objects.get(slot=slots[0])
    corrected = answer_to(draft, ada, slots[0], label="fear", supersedes=str(first.pk))
    assert submit(draft, ada, corrected).status == "stored"
    skipped = lease_batch(draft, ada, "verify", want=1).slots[0]
    skip = answer_to(draft, ada, skipped, action="skip", reason="unclear")
    skip.pop("label")
    assert submit(draft, ada, skip).status == "stored"
    answer_some(draft, bo, 18, label="sadness")
    answer_some(draft, ada, 2, task=Task.RATE)
    assert lease_batch(draft, ada, "verify", want=1).slots
    assert Slot.objects.filter(campaign=draft, task=GOLD, annotator=ada).exists()
    assert Item.objects.filter(campaign=draft, dispute__isnull=False).exists()
    counters_hold(draft)
    return draft


def test_withdrawal_that_removes_frees_every_slot_and_counts_right(busy: Campaign, ada: User, bo: User) -> None:
    Campaign.objects.update(withdrawal="remove")
    busy.refresh_from_db()
    before = busy.verify_total
    of_bo = Judgment.objects.filter(annotator=bo).count()
    accounts.withdraw(user=ada, campaign=busy)
    assert not Judgment.objects.filter(annotator=ada).exists()
    assert not Slot.objects.filter(annotator=ada).exists()
    assert not ArmAssignment.objects.filter(membership__user=ada).exists()
    assert Judgment.objects.filter(annotator=bo).count() == of_bo
    assert not Item.objects.filter(campaign=busy, dispute__isnull=False).exists()
    counters_hold(busy)
    assert busy.verify_total == before
    # Each item still wants exactly its overlap, and a newcomer can give all of it.
    for item in Item.objects.filter(campaign=busy).exclude(kind=GOLD):
        wanted = busy.rate_overlap if item.kind == "rate" else busy.verify_overlap
        assert Slot.objects.filter(item=item).exclude(state=Slot.SKIPPED).count() == wanted
    newcomer = MembershipFactory.create(campaign=busy).user
    free = Slot.objects.filter(campaign=busy, task="verify", state=Slot.FREE).values("item").distinct().count()
    dealt = 0
    while got := answer_some(busy, newcomer, 20):
        dealt += sum(slot.task == "verify" for slot in got)
    assert dealt == free


def test_withdrawal_that_anonymises_keeps_the_answers_without_a_way_back(busy: Campaign, ada: User) -> None:
    Campaign.objects.update(withdrawal="anonymise")
    busy.refresh_from_db()
    count = Judgment.objects.count()
    pseudonym = Membership.objects.get(user=ada, campaign=busy).pseudonym
    accounts.withdraw(user=ada, campaign=busy)
    assert Judgment.objects.count() == count
    assert not Judgment.objects.filter(annotator=ada).exists()
    assert not Slot.objects.filter(annotator=ada).exists()
    assert not Judgment.objects.exclude(annotator__username="bo").exclude(comment="").exists()
    ghost = User.objects.get(username__startswith="withdrawn-")
    assert not ghost.is_active
    assert not ghost.has_usable_password() or ghost.password == ""
    assert not Membership.objects.filter(pseudonym=pseudonym).exists()
    counters_hold(busy)
    own = accounts.own_data(ada)
    assert own["judgments"] == []


def test_withdrawal_marks_the_reports_that_used_the_answers_and_no_others(busy: Campaign, ada: User) -> None:
    first = Judgment.objects.filter(annotator=ada).earliest("received_at").received_at
    earlier = ReportRun.objects.create(campaign=busy, as_of=first - timedelta(hours=1))
    later = ReportRun.objects.create(campaign=busy, as_of=timezone.now())
    unverified = ReportRun.objects.create(as_of=timezone.now())
    accounts.withdraw(user=ada, campaign=busy)
    marked = set(ReportRun.objects.filter(affected_by_withdrawal=True))
    assert marked == {later}
    assert {earlier, unverified}.isdisjoint(marked)


@pytest.mark.parametrize("way", ["remove", "anonymise"])
def test_withdrawal_is_recorded_final_and_done_once(way: str, busy: Campaign, ada: User, sign_in: SignIn) -> None:
    Campaign.objects.update(withdrawal=way)
    browser = sign_in(ada)
    assert browser.post("/me/withdraw/emotions/").status_code == 302
    assert browser.post("/me/withdraw/emotions/").status_code == 404
    busy.refresh_from_db()
    accounts.withdraw(user=ada, campaign=busy)
    assert AuditEvent.objects.filter(action="withdraw", actor=ada, details__way=way).count() == 1
    assert User.objects.filter(username__startswith="withdrawn-").count() == (way == "anonymise")
    assert browser.get("/campaigns/emotions/verify/").status_code == 404
    assert Membership.objects.get(user=ada).withdrawn_at is not None


@pytest.mark.parametrize("way", ["remove", "anonymise"])
def test_decisions_of_an_adjudicator_who_withdraws_stand_without_her_name(way: str, busy: Campaign, cleo: User) -> None:
    Campaign.objects.update(withdrawal=way)
    busy.refresh_from_db()
    item = Item.objects.filter(campaign=busy, dispute__isnull=False).first()
    assert item is not None
    Adjudication.objects.create(item=item, adjudicator=cleo, label="joy", comment="I, Cleo")
    accounts.withdraw(user=cleo, campaign=busy)
    decision = Adjudication.objects.get()
    assert decision.standing
    assert decision.label == "joy"
    assert decision.comment == ""
    assert decision.adjudicator is not None
    assert decision.adjudicator.username.startswith("withdrawn-")


# Pages and lock-out ------------------------------------------------------------


def test_the_account_pages_of_the_library_are_there_and_in_our_dress(ada: User, client: Client) -> None:
    from tests.factories import PASSWORD

    signed = client.post("/account/login/", {"login": "ada", "password": PASSWORD})
    assert signed.status_code == 302
    for place in ("/account/sessions/", "/account/2fa/", "/account/2fa/totp/activate/", "/account/password/change/"):
        reply = client.get(place)
        if reply.status_code == 302:  # what touches the second factor asks for the password again
            assert reply["Location"].startswith("/account/reauthenticate/"), place
            assert client.get(reply["Location"]).status_code == 200
            client.post(reply["Location"], {"password": PASSWORD})
            reply = client.get(place)
        assert reply.status_code == 200, place
        assert "Attune" in reply.content.decode(), place
        assert "unsafe" not in reply["Content-Security-Policy"]


def test_a_session_can_be_ended_from_another_one(ada: User) -> None:
    from tests.factories import PASSWORD

    here, there = Client(), Client()
    for browser in (here, there):
        browser.post("/account/login/", {"login": "ada", "password": PASSWORD})
        browser.get("/")
    assert there.get("/").status_code == 200
    assert here.post("/account/sessions/", {}).status_code in (200, 302)
    assert there.get("/").status_code == 302
    assert here.get("/").status_code == 200


def test_a_locked_account_opens_again_for_another_person_from_elsewhere(ada: User, bo: User, settings: object) -> None:
    from tests.factories import PASSWORD

    client = Client()
    for _ in range(9):
        client.post("/account/login/", {"login": "ada", "password": "wrong password"})
        cache.clear()  # allauth's own rate limit counts apart
    client.post("/account/login/", {"login": "ada", "password": PASSWORD})
    assert "_auth_user_id" not in client.session
    other = Client()
    other.post("/account/login/", {"login": "bo", "password": PASSWORD})
    assert "_auth_user_id" in other.session
