"""What an annotator lives through, in a real browser: keys only, offline, two tabs, second thoughts, small screens.

Every answer given here is given by a program.
"""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from allauth.mfa.totp.internal.auth import format_hotp_value, hotp_value, yield_hotp_counters_from_time
from axe_playwright_python.sync_playwright import Axe
from django.conf import settings
from django.core.cache import cache
from django.test import Client
from django.utils import timezone
from playwright.sync_api import Error, Page, Route, expect

from annotation.models import Adjudication, Campaign, Guideline, Judgment, Membership, Response, Role, User, Utterance
from annotation.workflow.opening import pause, reopen
from annotation.workflow.queue import lease_batch
from annotation.workflow.verification import submit
from evaluation.emotions import EMOTIONS, PALETTE
from tests.factories import PASSWORD, GoldQuestionFactory, MembershipFactory, answer_to

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("built")]

Visit = Callable[..., Page]
WIDE = {"width": 1280, "height": 800}
PHONE = {"width": 390, "height": 844}


def slot(page: Page) -> str:
    """The item on screen."""
    return str(page.locator("[data-slot]").get_attribute("data-slot"))


def press(page: Page, key: str) -> None:
    """Press a key that answers, and wait for another item, or for the end of the queue."""
    before = slot(page)
    # An answer counts once its item is on the glass.
    page.evaluate("() => new Promise((painted) => requestAnimationFrame(() => requestAnimationFrame(painted)))")
    page.keyboard.press(key)
    expect(page.locator(f"[data-slot='{before}']")).to_have_count(0)


def saved(page: Page) -> None:
    expect(page.locator("[data-status='idle'][data-pending='0']")).to_be_attached()
    expect(page.get_by_role("status").first).to_have_text("saved")


def pending(page: Page, count: int) -> None:
    expect(page.locator(f"[data-pending='{count}']")).to_be_attached()


def axe(page: Page) -> list[tuple[str, list[str]]]:
    found = Axe().run(page).response["violations"]
    return [(one["id"], [node["html"][:160] for node in one["nodes"]]) for one in found]


def cut(route: Route) -> None:
    route.abort("internetdisconnected")


def offline(page: Page) -> None:
    """The server is out of reach, as in a tunnel; the page itself can still be loaded again."""
    page.context.route("**/api/**", cut)


def online(page: Page) -> None:
    page.context.unroute("**/api/**", cut)


def labels_of(user: User) -> list[str]:
    return list(Judgment.objects.filter(annotator=user).order_by("received_at").values_list("label", flat=True))


def test_verifying_needs_nothing_but_keys(visit: Visit, campaign: Campaign, ada: User) -> None:
    page = visit(ada, f"/campaigns/{campaign.name}/verify/", viewport=WIDE)
    expect(page.locator("[data-slot]")).to_be_visible()
    assert [name.strip() for name in page.locator("[data-label] .name").all_text_contents()] == list(EMOTIONS)
    for key in "1234567":
        press(page, key)
    saved(page)
    assert labels_of(ada) == list(EMOTIONS)
    given = Judgment.objects.filter(annotator=ada).order_by("received_at").last()
    assert given is not None
    assert given.device == "desktop"
    assert given.active_ms is not None
    assert given.prelabel_outcome == "not_shown"
    expect(page.locator(".progress .count")).to_contain_text("7 of")


def test_flag_comment_and_skip_go_with_the_answer(visit: Visit, campaign: Campaign, ada: User) -> None:
    page = visit(ada, f"/campaigns/{campaign.name}/verify/", viewport=WIDE)
    page.wait_for_selector("[data-slot]")
    page.keyboard.press("f")
    page.keyboard.press("c")
    page.get_by_role("textbox").fill("sounds ironic: 1 2 3")
    page.keyboard.press("Control+Enter")
    expect(page.get_by_role("dialog")).to_have_count(0)
    press(page, "7")
    page.keyboard.press("s")
    expect(page.get_by_role("dialog")).to_be_visible()
    press(page, "2")
    saved(page)
    first, second = Judgment.objects.filter(annotator=ada).order_by("received_at")
    assert (first.label, first.flagged, first.comment) == ("neutral", True, "sounds ironic: 1 2 3")
    assert (second.action, second.flagged, second.comment) == ("skip", False, "")
    assert second.reason


def test_rating_needs_nothing_but_keys(visit: Visit, campaign: Campaign, ada: User) -> None:
    page = visit(ada, f"/campaigns/{campaign.name}/rate/", viewport=WIDE)
    expect(page.locator("[data-response]")).to_have_count(3)
    assert page.locator("[data-response] h3").all_text_contents() == ["Response A", "Response B", "Response C"]
    submit = page.get_by_role("button", name="Submit")
    expect(submit).to_be_disabled()
    for key in "543215432":
        page.keyboard.press(key)
    expect(submit).to_be_enabled()
    page.keyboard.press("ArrowUp")  # from the last scale to the one before it
    page.keyboard.press("5")
    press(page, "Enter")
    saved(page)
    rating = Judgment.objects.get(annotator=ada)
    assert rating.slot is not None
    given = [rating.ratings[str(pk)] for pk in rating.slot.response_order]
    scales = [scale["name"] for scale in campaign.scales]
    assert [[one[name] for name in scales] for one in given] == [[5, 4, 3], [2, 1, 5], [4, 5, 2]]


@pytest.mark.parametrize("size", [WIDE, PHONE], ids=["wide", "phone"])
def test_a_long_response_stands_whole_above_its_scales(
    visit: Visit, campaign: Campaign, ada: User, size: dict[str, int]
) -> None:
    Response.objects.filter(system__name="beta").update(shown="A long answer of very many words. " * 16)
    page = visit(ada, f"/campaigns/{campaign.name}/rate/", viewport=size)
    expect(page.locator("[data-response]")).to_have_count(3)
    for card in page.locator("[data-response]").all():
        words, scale = card.locator(".said").bounding_box(), card.locator("[data-scale]").first.bounding_box()
        assert words is not None
        assert scale is not None
        assert card.locator(".said").evaluate("said => said.scrollHeight - said.clientHeight") <= 1
        assert words["y"] + words["height"] <= scale["y"]


def test_a_shown_prelabel_is_outlined_never_given(visit: Visit, assisted: Campaign, ada: User) -> None:
    page = visit(ada, f"/campaigns/{assisted.name}/verify/", viewport=WIDE)
    page.wait_for_selector("[data-slot]")
    accepted = 0
    for _ in range(12):
        outline = page.locator(".label.suggested")
        if outline.count() == 1:
            assert "suggested" in (outline.text_content() or "")
            press(page, "Enter")
            accepted += 1
        else:
            here = slot(page)
            page.keyboard.press("Enter")
            page.wait_for_timeout(150)
            assert slot(page) == here, "Enter must do nothing where no label is suggested"
            press(page, "7")
    saved(page)
    outcomes = list(Judgment.objects.filter(annotator=ada).values_list("prelabel_outcome", flat=True))
    assert accepted > 0
    assert outcomes.count("agreed") == accepted
    assert outcomes.count("not_shown") == 12 - accepted


def test_undo_across_submit_reopens_and_supersedes(visit: Visit, campaign: Campaign, ada: User) -> None:
    page = visit(ada, f"/campaigns/{campaign.name}/verify/", viewport=WIDE)
    page.wait_for_selector("[data-slot]")
    first = slot(page)
    press(page, "1")
    press(page, "2")
    third = slot(page)
    saved(page)
    page.keyboard.press("u")
    page.keyboard.press("Backspace")
    expect(page.locator(f"[data-slot='{first}']")).to_be_visible()
    expect(page.locator("[data-label=joy]")).to_have_attribute("aria-pressed", "true")
    press(page, "5")
    expect(page.locator(f"[data-slot='{third}']")).to_be_visible()
    saved(page)
    changed = Judgment.objects.get(annotator=ada, label="surprise")
    assert changed.supersedes is not None
    assert changed.supersedes.label == "joy"
    page.keyboard.press("u")
    press(page, "Enter")
    saved(page)
    assert Judgment.objects.filter(annotator=ada).count() == 3


def test_an_answer_of_long_ago_is_found_and_changed(visit: Visit, campaign: Campaign, ada: User) -> None:
    page = visit(ada, f"/campaigns/{campaign.name}/verify/", viewport=WIDE)
    page.wait_for_selector("[data-slot]")
    for key in "123":
        press(page, key)
    saved(page)
    page.keyboard.press("h")
    expect(page.locator(".past li")).to_have_count(3)
    page.locator(".past li").last.get_by_role("button").click()
    expect(page.locator("[data-label=joy]")).to_have_attribute("aria-pressed", "true")
    press(page, "6")
    saved(page)
    assert Judgment.objects.get(annotator=ada, label="disgust").supersedes is not None


def test_offline_for_several_items_then_a_reload_then_online(visit: Visit, campaign: Campaign, ada: User) -> None:
    page = visit(ada, f"/campaigns/{campaign.name}/verify/", viewport=WIDE)
    page.wait_for_selector("[data-slot]")
    press(page, "1")
    saved(page)
    offline(page)
    for key in "234":
        press(page, key)
    expect(page.get_by_role("status").first).to_have_text("offline, 3 kept here")
    here = slot(page)
    page.reload()
    expect(page.locator(f"[data-slot='{here}']")).to_be_visible()
    pending(page, 3)
    press(page, "5")
    pending(page, 4)
    assert labels_of(ada) == ["joy"]
    online(page)
    page.keyboard.press("r")
    saved(page)
    assert labels_of(ada) == ["joy", "sadness", "anger", "fear", "surprise"]
    assert Judgment.objects.filter(annotator=ada).values("slot").distinct().count() == 5


def test_an_answer_whose_receipt_was_lost_is_stored_once(visit: Visit, campaign: Campaign, ada: User) -> None:
    page = visit(ada, f"/campaigns/{campaign.name}/verify/", viewport=WIDE)
    page.wait_for_selector("[data-slot]")

    def lose(route: Route) -> None:
        route.fetch()
        route.abort("connectionreset")

    page.context.route("**/judgments/", lose)
    press(page, "1")
    expect(page.get_by_role("status").first).to_have_text("offline, 1 kept here")
    page.context.unroute("**/judgments/", lose)
    page.keyboard.press("r")
    saved(page)
    assert labels_of(ada) == ["joy"]


def test_over_a_slow_network_the_outbox_drains_once(visit: Visit, campaign: Campaign, ada: User) -> None:
    """Three seconds to the server and back, a few kilobytes a second: answering goes on, and each answer goes once."""
    page = visit(ada, f"/campaigns/{campaign.name}/verify/", viewport=WIDE)
    page.wait_for_selector("[data-slot]")
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url) if request.url.endswith("/judgments/") else None)
    network = page.context.new_cdp_session(page)
    slow = {"offline": False, "latency": 3000, "downloadThroughput": 8000, "uploadThroughput": 2000}
    network.send("Network.enable")
    network.send("Network.emulateNetworkConditions", slow)
    for key in "123":
        press(page, key)
    expect(page.locator("[data-status='idle'][data-pending='0']")).to_be_attached(timeout=60_000)
    fast = {"offline": False, "latency": 0, "downloadThroughput": -1, "uploadThroughput": -1}
    network.send("Network.emulateNetworkConditions", fast)
    saved(page)
    assert labels_of(ada) == ["joy", "sadness", "anger"]
    assert 1 <= len(asked) <= 3


def test_two_tabs_hold_different_items_and_lose_none(visit: Visit, campaign: Campaign, ada: User) -> None:
    one = visit(ada, f"/campaigns/{campaign.name}/verify/", viewport=WIDE)
    one.wait_for_selector("[data-slot]")
    two = one.context.new_page()
    two.goto(f"/campaigns/{campaign.name}/verify/")
    two.wait_for_selector("[data-slot]")
    seen = set()
    for key in "123":
        for page in (one, two):
            page.bring_to_front()
            seen.add(slot(page))
            press(page, key)
    assert len(seen) == 6
    saved(one)
    saved(two)
    given = Judgment.objects.filter(annotator=ada)
    assert given.count() == 6
    assert given.values("slot").distinct().count() == 6


def test_a_closed_tab_leaves_its_items_to_the_next(visit: Visit, campaign: Campaign, ada: User) -> None:
    one = visit(ada, f"/campaigns/{campaign.name}/verify/", viewport=WIDE)
    one.wait_for_selector("[data-slot]")
    here = slot(one)
    two = one.context.new_page()
    one.close()
    two.goto(f"/campaigns/{campaign.name}/verify/")
    expect(two.locator(f"[data-slot='{here}']")).to_be_visible()


def test_a_crashed_tab_loses_nothing(visit: Visit, campaign: Campaign, ada: User) -> None:
    page = visit(ada, f"/campaigns/{campaign.name}/verify/", viewport=WIDE)
    page.wait_for_selector("[data-slot]")
    offline(page)
    press(page, "3")
    press(page, "4")
    here = slot(page)
    with page.expect_event("crash"), contextlib.suppress(Error):
        page.goto("chrome://crash", timeout=3_000)
    context = page.context
    page.close()
    again = context.new_page()
    online(again)
    again.goto(f"/campaigns/{campaign.name}/verify/")
    expect(again.locator(f"[data-slot='{here}']")).to_be_visible()
    saved(again)
    assert labels_of(ada) == ["anger", "fear"]


def test_an_hour_offline_is_taken_in_where_the_items_are_still_free(
    visit: Visit, campaign: Campaign, ada: User, bo: User
) -> None:
    page = visit(ada, f"/campaigns/{campaign.name}/verify/", viewport=WIDE)
    page.wait_for_selector("[data-slot]")
    offline(page)
    for key in "123":
        press(page, key)
    hour_ago = timezone.now() - timedelta(hours=1)
    campaign.slots.filter(annotator=ada, state="leased").update(leased_until=hour_ago)
    label_all(campaign, bo, "neutral")  # one of the two answers each item wants; the other is still Ada's to give
    online(page)
    page.keyboard.press("r")
    saved(page)
    assert labels_of(ada) == ["joy", "sadness", "anger"]
    assert not Judgment.objects.filter(annotator=ada, set_aside=True).exists()


def test_answers_that_came_too_late_are_kept_and_listed_in_words(
    visit: Visit, campaign: Campaign, ada: User, bo: User, dan: User
) -> None:
    MembershipFactory.create(user=dan, campaign=campaign)
    page = visit(ada, f"/campaigns/{campaign.name}/verify/", viewport=WIDE)
    page.wait_for_selector("[data-slot]")
    offline(page)
    press(page, "1")
    press(page, "2")
    hour_ago = timezone.now() - timedelta(hours=1)
    campaign.slots.filter(annotator=ada, state="leased").update(leased_until=hour_ago)
    label_all(campaign, bo, "neutral")
    label_all(campaign, dan, "neutral")
    online(page)
    page.keyboard.press("r")
    page.get_by_role("button", name="2 not taken").click()
    listed = page.locator("[data-problems] li")
    expect(listed).to_have_count(2)
    expect(listed.first).to_contain_text("Kept for the researcher")
    assert axe(page) == []
    assert Judgment.objects.filter(annotator=ada, set_aside=True).count() == 2
    listed.first.get_by_role("button").click()
    expect(listed).to_have_count(1)
    page.reload()
    expect(page.get_by_role("button", name="1 not taken")).to_be_visible()


def test_signed_out_answers_are_kept_until_signed_in_again(visit: Visit, campaign: Campaign, ada: User) -> None:
    page = visit(ada, f"/campaigns/{campaign.name}/verify/", viewport=WIDE)
    page.wait_for_selector("[data-slot]")
    cookies = page.context.cookies()
    page.context.clear_cookies(name=settings.SESSION_COOKIE_NAME)
    press(page, "1")
    expect(page.locator(".banner.bad")).to_contain_text("You have been signed out")
    pending(page, 1)
    page.context.add_cookies(cookies)
    page.keyboard.press("r")
    saved(page)
    assert labels_of(ada) == ["joy"]


def test_a_paused_campaign_says_so_and_takes_what_was_begun(visit: Visit, campaign: Campaign, ada: User) -> None:
    page = visit(ada, f"/campaigns/{campaign.name}/verify/", viewport=WIDE)
    page.wait_for_selector("[data-slot]")
    Campaign.objects.filter(pk=campaign.pk).update(state=Campaign.PAUSED)
    press(page, "1")
    expect(page.locator(".banner")).to_contain_text("paused")
    saved(page)
    assert labels_of(ada) == ["joy"]


def test_a_half_made_rating_survives_a_reload(visit: Visit, campaign: Campaign, ada: User) -> None:
    page = visit(ada, f"/campaigns/{campaign.name}/rate/", viewport=WIDE)
    page.wait_for_selector("[data-slot]")
    page.keyboard.press("4")
    page.keyboard.press("2")
    page.wait_for_timeout(400)
    page.reload()
    expect(page.locator(".point.chosen")).to_have_count(2)


def test_the_end_of_the_queue_says_thanks(visit: Visit, campaign: Campaign, ada: User) -> None:
    page = visit(ada, f"/campaigns/{campaign.name}/rate/", viewport=WIDE)
    for _ in range(6):
        page.wait_for_selector("[data-slot]")
        for key in "333333333":
            page.keyboard.press(key)
        press(page, "Enter")
    expect(page.locator("[data-done]")).to_contain_text("Thank you")
    saved(page)
    assert Judgment.objects.filter(annotator=ada, action="rate").count() == 6


def test_consent_comes_first_and_practice_next(visit: Visit, campaign: Campaign, ada: User) -> None:
    campaign.consent_text = "You may **stop** at any time. <script>document.title = 'stolen'</script>"
    campaign.require_practice = True
    campaign.save()
    GoldQuestionFactory.create(campaign=campaign, use="practice")
    page = visit(ada, f"/campaigns/{campaign.name}/verify/", viewport=WIDE)
    expect(page.locator("[data-consent]")).to_contain_text("stop at any time")
    assert page.title() != "stolen"
    assert axe(page) == []
    page.get_by_role("button", name="agree").click()
    expect(page.locator("[data-practice]")).to_be_visible()
    member = Membership.objects.get(user=ada, campaign=campaign)
    assert member.consented_at is not None
    page.wait_for_timeout(100)
    page.keyboard.press("3")
    expect(page.locator("[data-practice]")).to_contain_text("expected was joy")
    assert axe(page) == []
    page.keyboard.press("Enter")
    expect(page.locator("[data-practice]")).to_have_count(0)
    expect(page.locator("[data-slot]")).to_be_visible()
    assert Judgment.objects.count() == 0
    member.refresh_from_db()
    assert member.practised_at is not None


def test_changed_guidelines_are_announced_once_read_they_are_quiet(visit: Visit, campaign: Campaign, ada: User) -> None:
    page = visit(ada, f"/campaigns/{campaign.name}/verify/", viewport=WIDE)
    page.wait_for_selector("[data-slot]")
    expect(page.locator(".banner")).to_have_count(0)
    Guideline.objects.create(campaign=campaign, version=2, markdown="New *rule*", change_note="curiosity is neutral")
    page.reload()
    expect(page.locator(".banner")).to_contain_text("curiosity is neutral")
    page.keyboard.press("g")
    expect(page.locator(".guide")).to_contain_text("New rule")
    press(page, "1")  # the panel is beside the work, not in its way
    page.keyboard.press("Escape")
    page.reload()
    page.wait_for_selector("[data-slot]")
    expect(page.locator(".banner")).to_have_count(0)
    saved(page)
    assert Judgment.objects.get(annotator=ada).guideline == Guideline.objects.get(version=2)


def test_a_key_is_changed_for_good(visit: Visit, campaign: Campaign, ada: User) -> None:
    page = visit(ada, f"/campaigns/{campaign.name}/verify/", viewport=WIDE)
    page.wait_for_selector("[data-slot]")
    page.keyboard.press("?")
    page.get_by_role("button", name="Change the key for Flag").click()
    page.keyboard.press("s")
    expect(page.get_by_role("dialog")).to_contain_text("already does")
    page.get_by_role("button", name="Change the key for Flag").click()
    with page.expect_response("**/preferences/"):
        page.keyboard.press("x")
    page.reload()
    page.wait_for_selector("[data-slot]")
    page.keyboard.press("x")
    expect(page.locator("[data-command=flag]")).to_have_attribute("aria-pressed", "true")
    ada.refresh_from_db()
    assert ada.preferences["keymap"] == {"flag": "x"}


def label_all(campaign: Campaign, user: User, label: str) -> None:
    """Give one label to everything there is, as the workbench would."""
    client = Client()
    client.force_login(user, backend="django.contrib.auth.backends.ModelBackend")
    base = f"/api/campaigns/{campaign.name}"
    ask = {"task": "verify", "want": 20, "holding": []}
    items = client.post(f"{base}/lease/", ask, "application/json").json()["items"]
    while items:
        given = [{"id": str(uuid4()), "slot": item["slot"], "action": "label", "label": label} for item in items]
        receipt = client.post(f"{base}/judgments/", {**ask, "judgments": given}, "application/json").json()
        assert {result["status"] for result in receipt["results"]} == {"stored"}
        items = receipt["items"]


def test_adjudicating_hides_comments_until_decided(
    visit: Visit, campaign: Campaign, ada: User, bo: User, cleo: User
) -> None:
    label_all(campaign, ada, "joy")
    label_all(campaign, bo, "neutral")
    Judgment.objects.filter(annotator=bo).update(comment="a plain thank-you")
    page = visit(cleo, f"/campaigns/{campaign.name}/adjudicate/", viewport=WIDE)
    expect(page.locator("[data-adjudicate]")).to_contain_text("1 ×")
    assert "plain thank-you" not in page.content()
    assert axe(page) == []
    page.wait_for_timeout(100)
    page.keyboard.press("1")
    expect(page.locator("[data-adjudicate]")).to_contain_text("a plain thank-you")
    assert axe(page) == []
    press(page, "Enter")
    assert Adjudication.objects.get(item__campaign=campaign).label == "joy"


def test_hostile_words_stay_words(visit: Visit, campaign: Campaign, ada: User) -> None:
    hostile = "<img src=x onerror=\"document.title='stolen'\"> {{ 7*7 }} </script><b>bold</b>"

    Utterance.objects.update(shown=hostile)
    page = visit(ada, f"/campaigns/{campaign.name}/verify/", viewport=WIDE)
    page.wait_for_selector("[data-slot]")
    expect(page.locator(".turns, .target").first).to_contain_text("<b>bold</b>")
    assert page.locator(".talk img, .talk b").count() == 0
    assert page.title() != "stolen"


@pytest.mark.parametrize(("size", "scheme"), [(WIDE, "light"), (PHONE, "dark")], ids=["wide-light", "phone-dark"])
def test_every_page_of_the_workbench_is_accessible(
    visit: Visit, campaign: Campaign, ada: User, size: dict[str, int], scheme: str
) -> None:
    page = visit(
        ada, f"/campaigns/{campaign.name}/verify/", viewport=size, color_scheme=scheme, reduced_motion="reduce"
    )
    page.wait_for_selector("[data-slot]")
    assert axe(page) == []
    press(page, "1")
    for key in ["u", "g", "s", "c", "?", "h", ","]:
        page.keyboard.press(key)
        page.wait_for_timeout(250)
        assert axe(page) == [], key
        page.keyboard.press("Escape")
    page.goto(f"/campaigns/{campaign.name}/rate/")
    page.wait_for_selector("[data-slot]")
    assert axe(page) == []


def test_everything_fits_a_phone_and_can_be_touched(visit: Visit, campaign: Campaign, ada: User) -> None:
    page = visit(ada, f"/campaigns/{campaign.name}/verify/", viewport=PHONE, has_touch=True, is_mobile=True)
    page.wait_for_selector("[data-slot]")
    assert page.evaluate("() => document.documentElement.scrollWidth <= innerWidth")
    sizes = page.locator("button:visible, a:visible").evaluate_all(
        "(all) => all.map((one) => { const box = one.getBoundingClientRect(); return [box.width, box.height] })"
    )
    assert min(min(size) for size in sizes) >= 44
    before = slot(page)
    page.locator("[data-label=fear]").tap()
    expect(page.locator(f"[data-slot='{before}']")).to_have_count(0)
    saved(page)
    given = Judgment.objects.get(annotator=ada)
    assert (given.label, given.device) == ("fear", "phone")
    page.goto(f"/campaigns/{campaign.name}/rate/")
    page.wait_for_selector("[data-slot]")
    assert page.evaluate("() => document.documentElement.scrollWidth <= innerWidth")


def test_everything_speaks_german_to_who_wants_it(visit: Visit, campaign: Campaign, ada: User) -> None:
    ada.preferences = {"theme": "dark"}
    ada.save()
    page = visit(ada, f"/campaigns/{campaign.name}/verify/", viewport=WIDE)
    page.wait_for_selector("[data-slot]")
    page.keyboard.press(",")
    page.get_by_label("Deutsch").click()  # the page is loaded again: `check` would look for the mark in the new one
    expect(page.locator("[data-label] .name").nth(1)).to_have_text("Trauer")
    expect(page.locator("[data-label] .name").first).to_have_text("Freude")
    expect(page.get_by_role("status").first).to_have_text("gespeichert")
    assert page.locator("html").get_attribute("lang") == "de"
    assert page.locator("html").get_attribute("data-theme") == "dark"
    page.goto("/")
    expect(page.get_by_role("heading", name="Meine Aufgaben")).to_be_visible()


def test_leaving_gives_the_items_back(visit: Visit, campaign: Campaign, ada: User) -> None:
    page = visit(ada, f"/campaigns/{campaign.name}/verify/", viewport=WIDE)
    page.wait_for_selector("[data-slot]")
    saved(page)
    assert campaign.slots.filter(annotator=ada, state="leased").exists()
    with page.expect_response("**/return/"):
        page.get_by_role("link", name="My queues").click()
    page.wait_for_url(re.compile(r"/$"))
    assert not campaign.slots.filter(annotator=ada, state="leased").exists()


@pytest.mark.parametrize(("size", "scheme"), [(WIDE, "dark"), (PHONE, "light")], ids=["wide-dark", "phone-light"])
def test_the_pages_around_the_workbench_are_accessible(
    visit: Visit, campaign: Campaign, ada: User, size: dict[str, int], scheme: str
) -> None:
    MembershipFactory.create(user=ada, campaign=campaign, role=Role.RESEARCHER)
    work = lease_batch(campaign, ada, "verify", want=8).slots
    for slot in work[:6]:
        submit(campaign, ada, answer_to(campaign, ada, slot))
    pause(campaign)
    submit(campaign, ada, answer_to(campaign, ada, work[6]))
    reopen(campaign)
    own = f"/campaigns/{campaign.name}/"
    page = visit(None, "/account/login/", viewport=size, color_scheme=scheme)
    assert axe(page) == []
    page = visit(ada, "/", viewport=size, color_scheme=scheme)
    for path in [
        "/",
        "/account/logout/",
        "/account/password/change/",
        "/account/2fa/",
        "/account/sessions/",
        "/me/",
        own,
    ]:
        page.goto(path)
        expect(page.locator("main")).to_be_visible()
        assert (path, axe(page)) == (path, [])
        assert page.evaluate("() => document.documentElement.scrollWidth <= innerWidth"), path


def test_signing_in_leads_to_the_queues_and_from_there_to_work(visit: Visit, campaign: Campaign, ada: User) -> None:
    page = visit(None, "/", viewport=WIDE)
    page.get_by_label("Username").fill(ada.username)
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Sign In").click()
    page.locator("[data-task=verify]").get_by_role("link").click()
    expect(page.locator("[data-slot]")).to_be_visible()


def test_a_second_factor_is_set_up_and_asked_for(visit: Visit, campaign: Campaign, ada: User) -> None:
    """The library's pages work under the strict policy: no inline script, the code to scan is drawn."""
    page = visit(None, "/account/login/", viewport=PHONE, color_scheme="dark")
    refused: list[str] = []
    home = re.compile(r"^http://[^/]+/$")
    page.on("console", lambda line: refused.append(line.text) if "Content Security Policy" in line.text else None)

    def sign_in() -> None:
        page.locator("input[name=login]").fill("ada")
        page.locator("input[name=password]").fill(PASSWORD)
        page.keyboard.press("Enter")

    def give_code() -> None:
        cache.clear()  # a code works once; the next one would be half a minute away
        while time.time() % 30 > 20:  # nor may this one end on its way
            time.sleep(0.2)
        code = format_hotp_value(hotp_value(secret, next(iter(yield_hotp_counters_from_time()))))
        page.locator("input[name=code]").fill(code)
        page.keyboard.press("Enter")

    sign_in()
    page.wait_for_url(home)
    page.goto("/account/2fa/totp/activate/")
    page.locator("input[name=password]").fill(PASSWORD)  # what touches the second factor asks for the first again
    page.keyboard.press("Enter")
    drawn = page.locator("img[src^='data:image/svg']")
    assert drawn.evaluate("(image) => image.naturalWidth") > 0
    # Black squares need something light under them, in the dark too.
    assert drawn.evaluate("(image) => getComputedStyle(image).backgroundColor") == "rgb(255, 255, 255)"
    secret = page.locator("#authenticator_secret").input_value()
    give_code()
    page.wait_for_url("**/account/2fa/recovery-codes/**")
    page.context.clear_cookies()
    page.goto("/account/login/")
    sign_in()
    page.wait_for_url("**/account/2fa/authenticate/**")
    page.goto("/")
    page.wait_for_url("**/account/2fa/authenticate/**")  # the password alone opens nothing
    give_code()
    page.wait_for_url(home)
    assert refused == []


def test_the_stylesheet_has_the_palette_of_the_figures() -> None:
    sheet = (Path(settings.ROOT) / "annotation" / "static" / "annotation" / "site.css").read_text(encoding="utf-8")
    found: dict[str, Any] = dict(re.findall(r"--(\w+): (#[0-9a-f]{6});", sheet))
    assert {name: found.get(name) for name in EMOTIONS} == dict(PALETTE)
