"""The lists of the admin: all of them can be searched and filtered."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from django.contrib import admin
from django.test import Client

from annotation.models import Campaign, User

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
