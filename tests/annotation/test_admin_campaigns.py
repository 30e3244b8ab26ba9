"""The campaign's form in the admin: planning, lists of turns, guidelines."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client

from annotation.admin.forms import CampaignForm
from annotation.models import Campaign, Dataset, Guideline, Item, Turn, User
from annotation.workflow.queue import lease_batch
from annotation.workflow.verification import submit
from evaluation.emotions import EMOTIONS
from tests.factories import answer_to


@pytest.fixture
def tab(admin: User, sign_in: Callable[[User], Client]) -> Client:
    return sign_in(admin)


def form_of(campaign: Campaign, listed: str | None = None, **changed: Any) -> CampaignForm:
    """The campaign's form, sent with some fields changed."""
    form = CampaignForm(instance=campaign)
    data = {name: form.get_initial_for_field(field, name) for name, field in form.fields.items() if name != "listed"}
    data |= {
        "datasets": [row.pk for row in campaign.datasets.all()],
        "systems": [row.pk for row in campaign.systems.all()],
        "scales": "[]",
        **changed,
    }
    files = {"listed": SimpleUploadedFile("list.csv", listed.encode())} if listed is not None else None
    return CampaignForm(data={key: value for key, value in data.items() if value is not None}, files=files,
                        instance=campaign)  # fmt: skip


# --- the planner ------------------------------------------------------------------------------------------------------


def test_the_plan_stands_beside_the_open_button_and_only_reads(tab: Client, draft: Campaign) -> None:
    change = tab.get(f"/admin/annotation/campaign/{draft.pk}/change/").content.decode()
    assert f"/admin/annotation/campaign/{draft.pk}/plan" in change
    page = tab.get(f"/admin/annotation/campaign/{draft.pk}/plan/").content.decode()
    for words in (
        "16 turns can be drawn",
        "turns for ± 0.05",
        "Exact alignment",
        "Macro-F1 of the classifier",
        "Kappa",
    ):
        assert words in page, words
    draft.refresh_from_db()
    assert draft.state == Campaign.DRAFT
    assert not Item.objects.filter(campaign=draft).exists()


def test_assumptions_travel_in_the_address_and_are_checked(tab: Client, draft: Campaign) -> None:
    address = f"/admin/annotation/campaign/{draft.pk}/plan/"
    given = {"half_widths": "0.2 0.15", "size": "9", "rho": "0", "rho_range": "0", "accuracy": "0.9", "kappa": "0.6"}
    page = tab.get(address, given).content.decode()
    assert "turns for ± 0.15" in page
    assert "9 turns make 36 items" in page
    wrong = tab.get(address, {**given, "half_widths": "wide", "rho": "2"}).content.decode()
    assert "Numbers separated by spaces are wanted" in wrong
    assert "turns can be drawn" not in wrong


def test_a_campaign_that_could_not_open_says_what_to_change_instead(tab: Client, draft: Campaign) -> None:
    draft.classifier, draft.design = None, {"kind": "half", "size": 6, "strata": ["user_label"]}
    draft.save()
    page = tab.get(f"/admin/annotation/campaign/{draft.pk}/plan/").content.decode()
    assert "choose the campaign&#x27;s classifier" in page


# --- a list of turns --------------------------------------------------------------------------------------------------


def test_an_uploaded_list_becomes_the_design_and_keeps_what_a_script_had_set(draft: Campaign) -> None:
    draft.design = {**draft.design, "rate_reference": False}
    turns = list(Turn.objects.select_related("dialogue")[:3])
    rows = "".join(f"{turn.dialogue.source_id},{turn.position},0.5\n" for turn in turns)
    form = form_of(draft, f"dialogue,turn,inclusion_probability\n{rows}", sampling="list", size="")
    assert form.is_valid(), form.errors
    form.save()
    draft.refresh_from_db()
    assert draft.design == {
        **{"kind": "list", "strata": ["dataset", "user_label"], "balanced": False, "rate_reference": False},
        **{"turns": [turn.pk for turn in turns], "probabilities": [0.5] * 3},
    }
    # saved again without a file, the list stays
    again = form_of(draft, sampling="list", size="")
    assert again.is_valid(), again.errors
    again.save()
    assert Campaign.objects.get(pk=draft.pk).design["turns"] == [turn.pk for turn in turns]


def test_a_list_with_a_row_that_matches_nothing_is_refused_naming_the_row(draft: Campaign) -> None:
    form = form_of(draft, "dialogue,turn\nno-such,1\n", sampling="list")
    assert form.errors["listed"] == ["line 2: there is no turn 1 in dialogue no-such of redial."]


@pytest.mark.parametrize(
    ("changed", "field"),
    [
        ({"sampling": "list"}, "listed"),
        ({"sampling": "half", "strata": []}, "strata"),
        ({"sampling": "simple", "size": ""}, "size"),
    ],
)
def test_a_design_without_what_it_needs_is_refused(draft: Campaign, changed: dict[str, Any], field: str) -> None:
    assert field in form_of(draft, **changed).errors


# --- guidelines -------------------------------------------------------------------------------------------------------


def save_page(campaign: Campaign, tab: Client, **changed: str) -> Any:
    """Save the campaign's page with some fields changed."""
    page = tab.get(f"/admin/annotation/campaign/{campaign.pk}/change/")
    data: dict[str, Any] = {}
    for form in [
        page.context["adminform"].form,
        *[f for s in page.context["inline_admin_formsets"] for f in s.formset],
    ]:
        for bound in form:
            value = bound.value()
            if value is not None and not bound.field.disabled and bound.field.__class__.__name__ != "FileField":
                data[bound.html_name] = "" if value is False else value
    for formset in (s.formset for s in page.context["inline_admin_formsets"]):
        for bound in formset.management_form:
            data[bound.html_name] = bound.value()
    return tab.post(f"/admin/annotation/campaign/{campaign.pk}/change/", {**data, **changed})


def test_a_guideline_that_no_answer_names_can_still_be_changed(tab: Client, campaign: Campaign) -> None:
    response = save_page(campaign, tab, **{"guidelines-0-markdown": "A better text."})
    assert response.status_code == 302, response.context["errors"]
    assert Guideline.objects.get(campaign=campaign).markdown == "A better text."


def test_a_guideline_that_an_answer_names_stays_as_it_was(tab: Client, campaign: Campaign, ada: User) -> None:
    slot = lease_batch(campaign, ada, "verify", want=1).slots[0]
    submit(campaign, ada, answer_to(campaign, ada, slot))
    before = Guideline.objects.get(campaign=campaign)
    fields = {"guidelines-0-markdown": "Another text.", "guidelines-0-version": "7", "guidelines-0-change_note": "x"}
    response = save_page(campaign, tab, **fields)
    assert response.status_code == 302, response.context["errors"]
    after = Guideline.objects.get(campaign=campaign)
    assert (after.version, after.markdown, after.change_note) == (before.version, before.markdown, before.change_note)
    # nor can it be deleted
    refused = save_page(campaign, tab, **{"guidelines-0-DELETE": "on"})
    assert refused.status_code == 200
    assert Guideline.objects.filter(pk=before.pk).exists()


def test_a_new_campaign_begins_with_the_codebook_and_its_practice(tab: Client, corpus: Dataset) -> None:
    page = tab.get("/admin/annotation/campaign/add/")
    data: dict[str, Any] = {}
    for bound in page.context["adminform"].form:
        value = bound.value()
        if value is not None and value is not False and bound.field.__class__.__name__ != "FileField":
            data[bound.html_name] = value
    for formset in (s.formset for s in page.context["inline_admin_formsets"]):
        for bound in formset.management_form:
            data[bound.html_name] = bound.value()
    assert data["grouping"] == "dialogue"
    named = {"name": "fresh", "title": "Fresh", "datasets": [corpus.pk], "sampling": "simple"}
    response = tab.post("/admin/annotation/campaign/add/", {**data, **named})
    assert response.status_code == 302, response.context["errors"]
    campaign = Campaign.objects.get(name="fresh")
    guideline = campaign.guidelines.get()
    assert guideline.version == 1
    assert "Label what the speaker expresses" in guideline.markdown
    assert set(campaign.gold_questions.values_list("use", flat=True)) == {"practice"}
    assert {question.label for question in campaign.gold_questions.all()} <= set(EMOTIONS)


# --- gold -------------------------------------------------------------------------------------------------------------


def test_a_gold_question_added_while_the_campaign_runs_is_mixed_in(tab: Client, campaign: Campaign, ada: User) -> None:
    Campaign.objects.filter(pk=campaign.pk).update(gold_every=1)
    new = {"use": "gold", "role": "user", "text": "I was so happy about it", "label": "joy", "explanation": ""}
    fields = {f"gold_questions-0-{name}": value for name, value in new.items()}
    response = save_page(campaign, tab, **{"gold_questions-TOTAL_FORMS": "1"}, **fields)
    assert response.status_code == 302, response.context["errors"]
    campaign.refresh_from_db()
    assert "gold" in {slot.task for slot in lease_batch(campaign, ada, "verify", want=2).slots}
