"""The researcher's campaign page: what it shows and what its buttons do."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from django.test import Client
from django.urls import reverse

from annotation.models import Campaign, Judgment, Membership, Slot, User
from annotation.workflow.opening import pause, reopen
from annotation.workflow.queue import lease_batch
from annotation.workflow.verification import submit
from tests.factories import answer_to


@pytest.fixture
def tab(campaign: Campaign, rhea: User, sign_in: Callable[[User], Client]) -> Client:
    return sign_in(rhea)


def page(tab: Client, campaign: Campaign, query: str = "") -> str:
    return tab.get(f"{reverse('campaign', args=[campaign.name])}{query}").content.decode()


def press(tab: Client, campaign: Campaign, name: str, *more: str, **fields: str) -> str:
    """Press a button of the page; give the page it leads to."""
    response = tab.post(reverse(name, args=[campaign.name, *more]), fields, follow=True)
    assert response.status_code == 200
    return response.content.decode()


def label_everything(campaign: Campaign, *people: User) -> None:
    for person in people:
        while slots := lease_batch(campaign, person, "verify", want=20).slots:
            for slot in slots:
                submit(campaign, person, answer_to(campaign, person, slot, label="joy" if slot.pk % 3 else "fear"))


def test_it_says_how_wide_the_intervals_are_and_how_many_more_it_takes(
    tab: Client, campaign: Campaign, ada: User, bo: User
) -> None:
    assert "Nobody has labelled anything yet" in page(tab, campaign)
    label_everything(campaign, ada, bo)
    shown = page(tab, campaign, "?half_width=0.01")
    assert "more for ± 0.01" in shown
    assert "Planned: 6 turns" in shown
    assert "Looks so far: 1" in shown
    assert "Krippendorff&#x27;s α" in shown
    # nothing but numbers is taken from the address
    assert "more for ± 0.05" in page(tab, campaign, "?half_width=<script>")


def test_its_buttons_pause_reopen_and_close(tab: Client, campaign: Campaign) -> None:
    assert "The campaign is paused now." in press(tab, campaign, "campaign_move", to="paused")
    assert "The campaign is open now." in press(tab, campaign, "campaign_move", to="open")
    assert "The campaign is closed now." in press(tab, campaign, "campaign_move", to="closed")
    assert "Nothing changed: the campaign is closed." in press(tab, campaign, "campaign_move", to="paused")
    assert tab.post(reverse("campaign_move", args=[campaign.name]), {"to": "draft"}).status_code == 404


def test_what_someone_holds_goes_to_others_by_a_button(
    tab: Client, campaign: Campaign, ada: User, member_of: Callable[..., Membership]
) -> None:
    assert "Reassign" not in page(tab, campaign)
    lease_batch(campaign, ada, "verify", want=3)
    assert "Reassign" in page(tab, campaign)
    name = member_of(ada, campaign).pseudonym
    assert "3 items that ada held go to others." in press(tab, campaign, "campaign_reassign", name)
    assert not Slot.objects.filter(annotator=ada).exists()
    assert tab.post(reverse("campaign_reassign", args=[campaign.name, "r-nobody"])).status_code == 404


def test_an_annotator_is_let_out_and_in_by_a_button(
    tab: Client, campaign: Campaign, ada: User, member_of: Callable[..., Membership]
) -> None:
    name = member_of(ada, campaign).pseudonym
    assert "ada is dealt nothing more" in press(tab, campaign, "campaign_active", name, active="0")
    assert not member_of(ada, campaign).active
    assert "ada takes part again." in press(tab, campaign, "campaign_active", name, active="1")
    assert member_of(ada, campaign).active


def test_answers_set_aside_are_shown_with_what_would_happen_and_taken_in(
    tab: Client, campaign: Campaign, ada: User, bo: User
) -> None:
    assert "Answers set aside" not in page(tab, campaign)
    sent = {}
    for person in (ada, bo):
        slot = lease_batch(campaign, person, "verify", want=1).slots[0]
        pause(campaign)
        sent[person] = answer_to(campaign, person, slot, label="fear", comment="<b>late</b>")
        submit(campaign, person, sent[person])
        reopen(campaign)
    shown = page(tab, campaign)
    assert "Answers set aside" in shown
    assert "&lt;b&gt;late&lt;/b&gt;" in shown
    assert shown.count("Fits: the person holds this item at the moment.") == 2
    assert "The answer counts now." in press(tab, campaign, "campaign_take_in", judgment=sent[ada]["id"])
    assert "1 answers were taken in, 0 stay aside." in press(tab, campaign, "campaign_take_in")
    assert not Judgment.objects.filter(set_aside=True).exists()
    again = press(tab, campaign, "campaign_take_in", judgment=sent[ada]["id"])
    assert "The answer stays aside. It has been taken in or corrected already." in again
    for nonsense in ("no-such", "00000000-0000-0000-0000-000000000000"):
        assert tab.post(reverse("campaign_take_in", args=[campaign.name]), {"judgment": nonsense}).status_code == 404
