"""Generation in the admin: the form refuses what a worker could not do, the pages say what happened."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.test import Client

from annotation import tasks
from annotation.models import Dataset, Generation, Job, Response, System, Turn, User, Utterance
from annotation.workflow.leases import Lease
from tests.annotation.faulty_server import Faulty
from tests.factories import SystemFactory

pytestmark = pytest.mark.django_db

FORM = "/admin/annotation/job/launch/generate/"
SignIn = Callable[[User], Client]
Serve = Callable[..., Faulty]


@pytest.fixture
def tab(admin: User, corpus: Dataset, sign_in: SignIn, settings: Any, monkeypatch: pytest.MonkeyPatch) -> Client:
    settings.ATTUNE_ALLOW_PRIVATE_ENDPOINTS = True
    monkeypatch.setattr(tasks, "start", lambda job: None)  # no broker: tests call the task as a worker would
    return sign_in(admin)


def asking(**given: Any) -> dict[str, Any]:
    known = {"system": "mine", "datasets": ["redial"], "backend": "endpoint", "model": "tiny", "language": "en"}
    return {**known, "base_url": "http://127.0.0.1:1/v1", "template": "appendix-a-1", **given}


def done(tab: Client, **given: Any) -> Job:
    assert tab.post(FORM, asking(attempts=1, **given)).status_code == 302
    job = Job.objects.latest("created_at")
    tasks.run_job(str(job.pk))
    job.refresh_from_db()
    return job


def test_the_form_shows_every_choice_as_a_field_and_what_is_withdrawn(
    tab: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOUSE_API_KEY", "sk-not-to-be-shown")
    page = tab.get(FORM).content.decode()
    assert "LLaMA 3.1: llama-3.1-8b-instant (withdrawn by groq 2026-08-16; meta-llama/Llama-3.1-8B-Instruct at" in page
    assert '<option value="HOUSE_API_KEY">' in page
    assert "sk-not-to-be-shown" not in page
    for name in ("base_url", "split", "limit", "cap_cost", "seconds", "history", "per_minute", "price_in"):
        assert f'name="{name}"' in page
    assert 'value="look"' in page
    assert 'value="start"' in page
    assert 'name="registered"' in tab.get(f"{FORM}?system=gemma2-9b-it").content.decode()


@pytest.mark.parametrize(
    ("given", "trouble"),
    [
        ({"system": ""}, "give the name of your own"),
        ({"system": "a name"}, "letters, digits"),
        ({"system": "llama-3.1-8b-instant"}, "a name of its own"),
        ({"registered": "gemini-1-5-flash-8b", "system": "", "base_url": "", "model": ""}, "was withdrawn by google"),
        ({"registered": "qwen-2-5-32b", "system": "mine"}, "leave this empty"),
        ({"base_url": "", "model": ""}, "not in the registry"),
        ({"model": ""}, "Name the model"),
        ({"model": "a\x01b"}, "cannot be printed"),
        ({"template": "nope"}, "There is no template nope"),
        ({"limit": "9" * 5000}, "whole number"),
        ({"limit": "1" + "0" * 400}, "less than or equal"),
        ({"history": "-2"}, "greater than or equal"),
        ({"cap_cost": "1"}, "needs the prices"),
        ({"split": "nowhere"}, "No turn fits"),
        ({"key_env": "sk-real-secret"}, "never entered here"),
        ({"datasets": ["nowhere"]}, "not one of the available"),
        ({"backend": "local", "model_folder": ""}, "Name the folder"),
    ],
)
def test_the_form_refuses_what_no_worker_could_do(tab: Client, given: dict[str, Any], trouble: str) -> None:
    page = tab.post(FORM, asking(**given))
    assert page.status_code == 200
    assert trouble in page.content.decode()
    assert not Job.objects.exists()


def test_published_names_with_dots_are_taken(tab: Client) -> None:
    given = asking(system="llama-3.1-8b-instant", model="meta-llama/Llama-3.1-8B-Instruct")
    assert tab.post(FORM, given).status_code == 302
    assert Job.objects.get().parameters == {
        "system": "llama-3.1-8b-instant",
        "datasets": ["redial"],
        "base_url": "http://127.0.0.1:1/v1",
        "model": "meta-llama/Llama-3.1-8B-Instruct",
    }


@pytest.mark.parametrize(
    ("given", "trouble"),
    [
        ({"limit": 10**400}, "too large"),
        ({"limit": 1e400}, "no number"),
        ({"model": "a\ud800b"}, "cannot be printed"),
        ({"template": "nope"}, "There is no template"),
        ({"parameters": {"datasets": ["redial"]}, "datasets": ["other"]}, "Given twice"),
        ({"datasets": ["nowhere"]}, "no data set nowhere"),
        ({"system": "LLaMA 3.1"}, "a name of its own"),
    ],
)
def test_the_api_refuses_the_same(tab: Client, given: dict[str, Any], trouble: str) -> None:
    parameters = {"system": "mine", "base_url": "http://127.0.0.1:1/v1", "model": "tiny", **given}
    answer = tab.post("/api/jobs/", {"kind": "generate", "parameters": parameters}, content_type="application/json")
    assert answer.status_code == 400
    assert trouble in answer.content.decode() or "Infinity" in answer.content.decode()
    assert not Job.objects.exists()


@pytest.mark.parametrize(
    "body",
    ["[" * 100_000, '{"kind": "generate", "parameters": {"limit": ' + "9" * 6000 + "}}"],
    ids=["deep", "digits"],
)
def test_the_api_refuses_json_that_is_too_much(tab: Client, body: str) -> None:
    assert tab.post("/api/jobs/", body, content_type="application/json").status_code == 400


def test_what_would_be_asked_can_be_read_before(tab: Client) -> None:
    utterance = Utterance.objects.filter(role="recommender").order_by("pk").first()
    assert utterance is not None
    Utterance.objects.filter(pk=utterance.pk).update(items=["Brazil (1985)"])
    Lease(SystemFactory.create(name="mine"), "the job of another")
    page = tab.post(FORM, asking(act="look", price_in="1", price_out="2")).content.decode()
    assert "16 of 16 turns would be asked" in page
    assert "case 1, none" in page
    assert "case 2, given" in page
    assert page.count("<details") == 3 + 1, "the first prompts of each case"
    assert "Recommendation" in page or "Brazil (1985)" in page
    assert "is being asked now by the job of another" in page
    assert "US dollars" in page
    assert "No titles were recognised" not in page
    assert not Job.objects.exists()
    assert '<input type="hidden" name="price_in" value="1">' in page


def test_a_data_set_without_titles_is_warned_of(tab: Client) -> None:
    page = tab.post(FORM, asking(act="look")).content.decode()
    assert "No titles were recognised in redial" in page


def test_changing_something_goes_back_to_the_form(tab: Client) -> None:
    page = tab.post(FORM, asking(act="change", limit="7")).content.decode()
    assert 'name="limit" value="7"' in page
    assert not Job.objects.exists()


def test_a_jobs_page_names_system_outcome_totals_and_leads_on(tab: Client, serve: Serve) -> None:
    faulty = serve(lambda words, number: "refusal" if "user 0 " in words else "500" if "user 1 " in words else "ok")
    job = done(tab, base_url=faulty.url, cap_requests="9")
    address = f"/admin/annotation/job/{job.pk}/change/"
    page = tab.get(address).content.decode()
    system = System.objects.get(name="mine")
    assert "generate responses of mine: stopped at the cap" in page.lower()
    assert "Stopped at the cap" in page
    assert "The cap of 9 requests is reached" in page
    assert f'max="16" value="{job.result["answered"]}"' in page
    assert "flag refusal" in page
    assert "failed: server error" in page
    assert "the endpoint says that it failed" in page
    for link in (f"system/{system.pk}/change/", f"response/?system__id__exact={system.pk}", "state__exact=failed"):
        assert link in page
    assert f"{job.pk}/again" in page
    again = tab.get(f"{address.removesuffix('change/')}again", follow=True)
    if again.status_code == 404:
        again = tab.get(f"{FORM}?again={job.pk}")
    form = again.content.decode()
    assert f'value="{faulty.url}"' in form
    assert 'name="cap_requests" value="9"' in form
    assert "stopped at the cap" in tab.get("/admin/annotation/job/").content.decode()
    assert tab.get(f"{FORM}?again=nonsense").status_code == 404


def test_a_response_shows_what_was_asked_until_its_words_change(
    tab: Client, serve: Serve, settings: Any, tmp_path: Path
) -> None:
    done(tab, base_url=serve().url, limit="1")
    response = Response.objects.get(system__name="mine")
    address = f"/admin/annotation/response/{response.pk}/change/"
    page = tab.get(address).content.decode()
    assert "User Input:" in page
    assert response.turn.user_utterance.shown in page
    assert "case 1, none" in page
    generation = Generation.objects.get(system__name="mine")
    record = f"/admin/annotation/generation/{generation.pk}/change/"
    assert "User Input:" in tab.get(record).content.decode()
    Utterance.objects.filter(turn=response.turn_id).update(shown="other words")
    assert "the dialogue or its titles changed" in tab.get(address).content.decode()
    for part in ("case1", "case2"):
        folder = tmp_path / "appendix-a-1"
        folder.mkdir(exist_ok=True)
        (folder / f"{part}.txt").write_text("{user_input}" if part == "case1" else "{user_input} {recommendation}")
    settings.ATTUNE_PROMPTS = str(tmp_path)
    assert "are no longer those of" in tab.get(record).content.decode()
    imported = Response.objects.filter(system__name="alpha").first()
    assert imported is not None
    assert "not known: imported" in tab.get(f"/admin/annotation/response/{imported.pk}/change/").content.decode()


def test_lists_can_be_narrowed_to_a_flag_and_a_template(tab: Client, serve: Serve) -> None:
    faulty = serve(lambda words, number: "refusal" if "user 0 " in words else "500" if "user 1 " in words else "ok")
    done(tab, base_url=faulty.url)
    system = System.objects.get(name="mine")

    def found(model: str, **query: str) -> int:
        reply = tab.get(f"/admin/annotation/{model}/", query)
        assert reply.status_code == 200
        return int(reply.context["cl"].result_count)

    assert found("response", flag="refusal") == 1
    assert found("response", flag="any") == 1
    assert found("response", template="imported") == 16 * 3
    template = Generation.objects.values_list("template", flat=True)[0]
    assert found("response", template=template) == 15
    assert found("generation", state__exact="failed", system__id__exact=str(system.pk)) == 1
    assert found("generation", flag="refusal") == 1
    page = tab.get("/admin/annotation/response/", {"flag": "refusal"}).content.decode()
    turn = Turn.objects.get(responses__system=system, responses__flags=["refusal"])
    assert f"{turn.dialogue}, turn {turn.position}" in page
    assert turn.user_utterance.shown in page


def test_a_systems_page_sums_up_all_its_runs(tab: Client, serve: Serve) -> None:
    faulty = serve(lambda words, number: "500" if "user 1 " in words else "ok")
    done(tab, base_url=faulty.url, limit="4", price_in="1", price_out="1")
    done(tab, base_url=faulty.url, limit="6", price_in="1", price_out="1")
    system = System.objects.get(name="mine")
    page = tab.get(f"/admin/annotation/system/{system.pk}/change/").content.decode()
    rows = Generation.objects.filter(system=system)
    tokens, cost = sum(row.tokens_in or 0 for row in rows), sum(row.cost or 0 for row in rows)
    assert f'tokens in</th><td class="num">{tokens:,}</td>' in page
    assert f"{cost:.4f} US dollars" in page
    assert "no system of the paper" in page
    assert "generate-this" in page
    assert "nobody" in page


def test_the_registry_says_what_is_withdrawn_and_which_key_is_missing(
    tab: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MISTRAL_API_KEY", "sk-not-to-be-shown")
    monkeypatch.delenv("HF_API_KEY", raising=False)
    page = tab.get("/admin/annotation/system/registry/").content.decode()
    assert page.count("withdrawn 20") == 6
    assert "MISTRAL_API_KEY is set here" in page
    assert "HF_API_KEY is missing here" in page
    assert "sk-not-to-be-shown" not in page
    assert "cannot be run again" in page


@pytest.mark.parametrize("address", ["system/registry/", "generation/", "job/launch/generate/"])
def test_only_superusers_see_these_pages(ada: User, corpus: Dataset, sign_in: SignIn, address: str) -> None:
    assert sign_in(ada).get(f"/admin/annotation/{address}").status_code in (302, 403)
