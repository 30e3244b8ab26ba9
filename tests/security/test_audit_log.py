"""Every administrative act is in the audit log: who, what, to whom."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from allauth.mfa.models import Authenticator
from django.contrib.admin import site
from django.test import Client

from annotation.admin.base import AuditedAdmin, RecordAdmin
from annotation.models import AuditEvent, Campaign, Membership, User
from tests.factories import PASSWORD

SignIn = Callable[[User], Client]
pytestmark = pytest.mark.django_db


def logged() -> list[tuple[str, str]]:
    return list(AuditEvent.objects.order_by("at").values_list("action", "target"))


def test_no_page_of_the_admin_writes_past_the_audit_log() -> None:
    """A model registered without a look at the log, by us or by a library, fails here."""
    silent = [str(model) for model, page in site._registry.items() if not isinstance(page, AuditedAdmin | RecordAdmin)]
    assert silent == []


def filled(page: Any) -> Iterator[tuple[str, Any]]:
    """What a browser would send back from a form of the admin, the rows inside it too."""
    forms = [page.context["adminform"].form]
    for rows in page.context["inline_admin_formsets"]:
        forms += [rows.formset.management_form, *rows.formset.forms]
    for form in forms:
        for field in form:
            value = field.value()
            if value is not None and value is not False:
                yield field.html_name, value


def test_a_row_changed_inside_a_form_is_an_act_too(draft: Campaign, admin: User, sign_in: SignIn) -> None:
    browser = sign_in(admin)
    place = f"/admin/annotation/campaign/{draft.pk}/change/"
    form = dict(filled(browser.get(place)))
    [row] = [name for name, value in form.items() if name.startswith("guidelines") and name.endswith("-markdown")]
    reply = browser.post(place, form | {row: "# Other rules"})
    assert reply.status_code == 302, reply.context["errors"]
    event = AuditEvent.objects.get(action="change")
    assert event.actor == admin
    assert event.target.startswith("campaign ")
    assert "guideline" in str(event.details["what"]).lower()


def test_a_password_a_role_and_a_deletion_are_acts(campaign: Campaign, ada: User, admin: User, sign_in: SignIn) -> None:
    browser = sign_in(admin)
    new = "quite another passphrase"
    given = {"password1": new, "password2": new, "usable_password": "true"}
    assert browser.post(f"/admin/annotation/user/{ada.pk}/password/", given).status_code == 302
    membership = Membership.objects.get(user=ada)
    role = {"user": ada.pk, "campaign": campaign.pk, "role": "researcher", "active": "on"}
    place = f"/admin/annotation/membership/{membership.pk}"
    assert browser.post(f"{place}/change/", role).status_code == 302
    assert browser.post(f"{place}/delete/", {"post": "yes"}).status_code == 302
    assert [action for action, _ in logged()] == ["change", "change", "delete"]
    assert logged()[0][1] == "user ada"
    assert new not in str(list(AuditEvent.objects.values()))


def test_an_administrator_ends_a_session_and_takes_a_lost_factor_away(ada: User, admin: User, sign_in: SignIn) -> None:
    hers = Client()
    hers.post("/account/login/", {"login": "ada", "password": PASSWORD})
    assert hers.get("/").status_code == 200
    factor = Authenticator.objects.create(user=ada, type="totp", data={"secret": "never-to-be-shown"})
    browser = sign_in(admin)
    browser.get("/admin/")
    page = browser.get(f"/admin/mfa/authenticator/{factor.pk}/change/")
    assert page.status_code == 200
    assert "never-to-be-shown" not in page.content.decode()
    session = ada.usersession_set.get()
    for place in (f"mfa/authenticator/{factor.pk}", f"usersessions/usersession/{session.pk}"):
        assert browser.post(f"/admin/{place}/delete/", {"post": "yes"}).status_code == 302, place
    assert hers.get("/").status_code == 302
    assert not Authenticator.objects.exists()
    assert [action for action, _ in logged()] == ["delete", "delete"]
