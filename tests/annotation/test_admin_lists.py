"""The lists of the admin: all of them can be searched and filtered."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from django.contrib import admin
from django.test import Client

from annotation.models import Campaign, Job, User
from annotation.workflow.jobs import create_job
from annotation.workflow.queue import lease_batch
from annotation.workflow.verification import submit
from tests.factories import answer_to

OURS = sorted(
    (model for model in admin.site._registry if model._meta.app_label == "annotation"), key=lambda one: one.__name__
)


@pytest.mark.django_db
@pytest.mark.parametrize("model", OURS, ids=lambda model: model.__name__)
def test_every_list_can_be_searched_and_filtered(
    admin: User, campaign: Campaign, sign_in: Callable[[User], Client], model: type
) -> None:
    from django.contrib.admin import site

    shown = site._registry[model]
    assert shown.search_fields
    assert shown.list_filter
    address = f"/admin/annotation/{model._meta.model_name}/"  # type: ignore[attr-defined]
    page = sign_in(admin).get(address, {"q": "nothing has this name"})
    assert page.status_code == 200
    assert page.context["cl"].result_count == 0
    assert sign_in(admin).get(address).context["cl"].result_count == model.objects.count()  # type: ignore[attr-defined]


def test_the_report_is_about_the_campaign_with_answers_unless_another_is_chosen(
    admin: User, campaign: Campaign, ada: User, sign_in: Callable[[User], Client]
) -> None:
    address = "/admin/annotation/job/launch/report/"
    chosen = f'<option value="{campaign.pk}" selected>'
    assert chosen not in sign_in(admin).get(address).content.decode()
    (slot,) = lease_batch(campaign, ada, "verify", want=1).slots
    assert submit(campaign, ada, answer_to(campaign, ada, slot)).status == "stored"
    assert chosen in sign_in(admin).get(address).content.decode()


@pytest.mark.parametrize(
    ("state", "offered"), [("queued", True), ("running", True), ("done", False), ("failed", False)]
)
def test_only_a_job_that_has_not_ended_can_be_cancelled(
    admin: User, sign_in: Callable[[User], Client], state: str, offered: bool
) -> None:
    job = create_job(kind="prelabel", parameters={})
    Job.objects.update(state=state)
    page = sign_in(admin).get(f"/admin/annotation/job/{job.pk}/change/").content.decode()
    assert (f"{job.pk}/cancel" in page) is offered
