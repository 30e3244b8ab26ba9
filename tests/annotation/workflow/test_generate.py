"""Generation end to end against servers that really answer, and really fail. No text here was written by a person to a
corpus: dialogues come from the factory, answers from the servers."""

from __future__ import annotations

import logging
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from django.core import serializers
from django.core.management import CommandError, call_command
from django.test import Client

from annotation import tasks
from annotation.inference.answers import Completion, storable
from annotation.inference.generator import Decoding, GenerationError, LocalModel
from annotation.inference.parameters import GenerationParameters, Operator
from annotation.inference.prompts import load_template, render
from annotation.models import Dataset, Generation, Job, Response, System, Text, Turn, User, Utterance
from annotation.workflow import answers
from annotation.workflow.generate import generate_responses, job_parameters, job_step, turn_data
from annotation.workflow.totals import GenerationSummary
from tests.annotation.faulty_server import SECRET_IN_BODY, Faulty, answer_to, serving
from tests.annotation.inference.tiny_llama import save_tiny_llama, transformers_serve
from tests.factories import SystemFactory, converse, make_corpus, text_of

pytestmark = pytest.mark.django_db

ROOT = Path(__file__).resolve().parents[3]
KEY = "sk-very-secret-4711"
PRIVATE = Operator(allow_private=True, at_the_console=True)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_llama(tmp_path_factory.mktemp("tiny"))


def parameters(faulty: Faulty, **given: Any) -> GenerationParameters:
    # mixed: a second server of one test has another port, which is another way of asking
    quick = {
        "attempts": 4,
        "first_wait": 0.01,
        "longest_wait": 2.0,
        "seconds": 3.0,
        "give_up_after": 1000,
        "mixed": True,
    }
    return GenerationParameters(base_url=faulty.url, model="tiny", **{**quick, **given})


def run(faulty: Faulty, system: str = "mine", **given: Any) -> GenerationSummary:
    progress = given.pop("progress", None)
    return generate_responses(
        system=system, parameters=parameters(faulty, **given), operator=PRIVATE, progress=progress
    )


def responses(system: str = "mine") -> list[Response]:
    return list(Response.objects.filter(system__name=system).order_by("turn_id"))


def balanced(summary: GenerationSummary) -> bool:
    parts = summary.known + summary.answered + summary.empty + summary.failed + summary.left
    return parts == summary.turns


# The whole way ----------------------------------------------------------------------------------------------------


def test_every_turn_is_asked_once_and_its_answer_stored_with_its_story(
    corpus: Dataset, serve: Callable[..., Faulty]
) -> None:
    faulty = serve()
    summary = run(faulty, datasets=("redial",))
    assert (summary.turns, summary.answered, summary.requests, summary.ended) == (16, 16, 16, "complete")
    assert set(faulty.requests.values()) == {1}
    stored = responses()
    assert len(stored) == Turn.objects.count() == 16
    asked = {body["messages"][-1]["content"] for body in faulty.bodies}
    assert {response.raw for response in stored} == {answer_to(words) for words in asked}
    first = stored[0]
    assert first.source["generated"] is True
    assert first.source["template"].startswith("appendix-a-1@")
    assert len(first.source["prompt_digest"]) == 64
    assert first.source["case"] == 1
    assert first.source["asked"]["temperature"] == 0.0
    assert first.source["asked"]["max_new_tokens"] == 128
    assert first.source["asked"]["history"] == 0
    assert first.source["came_back"]["finish_reason"] == "stop"
    assert first.text.content == first.shown
    record = Generation.objects.get(turn=first.turn, system=first.system)
    assert (record.state, record.attempts, record.error) == ("answered", 1, "")
    assert record.prompt_digest == first.source["prompt_digest"]


def test_the_turns_data_becomes_the_prompt(corpus: Dataset) -> None:
    dialogue = corpus.dialogues.order_by("pk").first()
    assert dialogue is not None
    user, reference, again, last, _ = Utterance.objects.filter(dialogue=dialogue).order_by("position")
    user.items, reference.items, last.items = ["Alien (1979)"], ["Brazil (1985)"], ["Alien (1979)", "Contact (1997)"]
    for utterance in (user, reference, last):
        utterance.save()
    first, second = Turn.objects.filter(dialogue=dialogue).order_by("position")
    data = dict(turn_data([second.pk, first.pk]))
    assert list(data) == [second.pk, first.pk]
    assert [said.text for said in data[first.pk].said] == [user.shown]
    assert data[first.pk].reference_items == ("Brazil (1985)",)
    assert [said.text for said in data[second.pk].said] == [user.shown, reference.shown, again.shown]
    assert data[second.pk].reference_items == ("Alien (1979)", "Contact (1997)")


def test_a_turn_without_a_human_reference_is_left_out_unless_asked_for(
    corpus: Dataset, serve: Callable[..., Faulty]
) -> None:
    turn = Turn.objects.order_by("pk").first()
    assert turn is not None
    Response.objects.filter(turn=turn, system__is_reference=True).delete()
    assert run(serve(), "narrow").turns == 15
    assert run(serve(), "wide", without_reference=True).turns == 16
    ((_, data),) = turn_data([turn.pk])
    assert data.reference_items is None


def test_a_local_model_answers_in_batches_what_it_answers_alone(corpus: Dataset, tiny: Path) -> None:
    given = GenerationParameters(backend="local", model_folder=str(tiny), max_new_tokens=24, batch_size=4)
    summary = generate_responses(system="tiny", parameters=given, operator=PRIVATE)
    stored = {response.turn_id: response for response in responses("tiny")}
    assert (len(stored), summary.failed, summary.requests) == (summary.answered, 0, 16)
    alone = LocalModel(str(tiny), decoding=given.decoding)
    for turn, data in turn_data(list(stored)[:3]):
        result = alone.complete([render(load_template(), data)])[0].result
        assert isinstance(result, Completion)
        assert stored[turn].raw == storable(result.text)
        assert stored[turn].source["tokens_in"] == result.tokens_in
        assert ("truncated" in stored[turn].flags) == (result.finish_reason == "length")


# Faults -----------------------------------------------------------------------------------------------------------

FAULTS = ["429", "500", "503", "wrong_json", "other_json", "html", "cut", "ok", "ok", "ok"]


@pytest.mark.parametrize("stream", [False, True])
def test_over_a_server_full_of_faults_no_response_is_lost_none_doubled_and_the_summary_is_true(
    corpus: Dataset, serve: Callable[..., Faulty], stream: bool
) -> None:
    """Every prompt meets two faults before its answer; the faults differ between prompts."""

    def script(words: str, number: int) -> str:
        place = len(words) + 3 * number
        return FAULTS[place % len(FAULTS)] if number <= 2 else "ok"

    faulty = serve(script)
    summary = run(faulty, stream=stream, concurrency=8)
    assert summary.answered == 16 == len(responses())
    assert set(faulty.answered.values()) == {1}, "an answer was thrown away, or asked for twice"
    assert summary.requests == sum(faulty.requests.values()) == 16 + summary.repeats
    assert summary.repeats > 0
    assert balanced(summary)
    assert sum(record.attempts for record in Generation.objects.all()) == summary.requests


def test_what_does_not_come_is_recorded_with_its_kind_and_asked_again_by_the_next_run(
    corpus: Dataset, serve: Callable[..., Faulty]
) -> None:
    bad = serve(lambda words, number: "500" if "user 1 " in words else "wrong_json" if "user 2 " in words else "ok")
    summary = run(bad, attempts=2)
    assert (summary.answered, summary.failed, dict(summary.failures)) == (
        14,
        2,
        {"server_error": 1, "unreadable": 1},
    )
    assert balanced(summary)
    failed = Generation.objects.filter(state="failed")
    assert {(record.error, record.attempts) for record in failed} == {("server_error", 2), ("unreadable", 2)}
    assert not Response.objects.filter(turn__in=failed.values("turn"), system__name="mine").exists()
    good = serve()
    again = run(good)
    assert (again.known, again.answered, again.requests) == (14, 2, 2)
    assert len(responses()) == 16
    assert set(Generation.objects.values_list("state", flat=True)) == {"answered"}
    assert sorted(Generation.objects.values_list("attempts", flat=True))[-2:] == [3, 3]


def test_what_is_conspicuous_is_kept_and_flagged_never_dropped(corpus: Dataset, serve: Callable[..., Faulty]) -> None:
    odd = {"0": "long", "1": "refusal", "2": "error_text", "3": "spanish", "4": "nul", "5": "empty"}

    def script(words: str, number: int) -> str:
        return next((fault for user, fault in odd.items() if f"user {user} " in words), "ok")

    summary = run(serve(script))
    assert (summary.answered, summary.empty, summary.failed) == (15, 1, 0)
    assert summary.flags == Counter(
        truncated=1, refusal=1, error_text=1, wrong_language=1, repaired_characters=1, empty=1
    )
    flagged = {flag for response in responses() for flag in response.flags}
    assert flagged == {"truncated", "refusal", "error_text", "wrong_language", "repaired_characters"}
    empty = Generation.objects.get(state="empty")
    assert empty.flags == ["empty"]
    assert empty.tokens_in
    assert not Text.objects.filter(content="").exists()
    assert run(serve()).known == 16, "an empty answer is an answer: it is not asked for again"


def test_the_run_ends_when_nothing_works_any_more(corpus: Dataset, serve: Callable[..., Faulty]) -> None:
    faulty = serve("500")
    summary = run(faulty, attempts=1, give_up_after=3, concurrency=1)
    assert (summary.ended, summary.failed, summary.left) == ("stopped", 3, 13)
    assert "3 turns in a row failed" in summary.reason
    assert balanced(summary)
    assert sum(faulty.requests.values()) == 3


def test_a_key_that_is_refused_ends_the_run_and_keeps_what_was_answered(
    corpus: Dataset, serve: Callable[..., Faulty], settings: Any
) -> None:
    settings.ATTUNE_ALLOW_PRIVATE_ENDPOINTS = True
    counted = iter(range(100))
    faulty = serve(lambda words, number: "ok" if next(counted) < 5 else "401")
    summary = run(faulty, concurrency=1)
    assert (summary.ended, summary.answered, summary.left) == ("stopped", 5, 11)
    assert "refuses the key" in summary.sentence()
    assert len(responses()) == 5
    with pytest.raises(GenerationError, match="refuses the key"):
        job_step({"system": "mine", **parameters(faulty, concurrency=1).as_mapping()})


# Caps, cost, dry run ----------------------------------------------------------------------------------------------


def test_a_cap_on_requests_holds_to_the_request_with_many_threads_and_repeats(
    corpus: Dataset, serve: Callable[..., Faulty]
) -> None:
    faulty = serve(lambda words, number: "500" if number == 1 else "ok")
    summary = run(faulty, cap_requests=7, concurrency=4)
    assert sum(faulty.requests.values()) == summary.requests == 7
    assert (summary.ended, summary.failed) == ("capped", 0)
    assert "cap of 7 requests" in summary.reason
    assert summary.answered == len(responses())
    assert balanced(summary)
    assert run(serve()).answered == 16 - summary.answered


def test_a_cap_on_tokens_is_not_passed(corpus: Dataset, serve: Callable[..., Faulty]) -> None:
    summary = run(serve(), cap_tokens=1500)
    assert (summary.ended, summary.answered < 16) == ("capped", True)
    assert 0 < summary.tokens_in + summary.tokens_out <= 1500


def test_a_cap_on_the_cost_is_not_passed_and_the_cost_is_tokens_times_prices(
    corpus: Dataset, serve: Callable[..., Faulty]
) -> None:
    summary = run(serve(), cap_cost=0.01, price_in=10.0, price_out=20.0)
    assert summary.ended == "capped"
    assert summary.cost is not None
    assert 0 < summary.cost <= 0.01
    # 10 dollars for a million tokens in, 20 for a million out
    assert summary.cost == pytest.approx((10 * summary.tokens_in + 20 * summary.tokens_out) / 1e6)
    records = Generation.objects.all()
    assert sum(record.cost or 0 for record in records) == pytest.approx(summary.cost)


def test_without_prices_the_cost_is_not_known_rather_than_nothing(
    corpus: Dataset, serve: Callable[..., Faulty]
) -> None:
    assert run(serve(), limit=2).cost is None


def test_a_dry_run_shows_prompts_and_counts_and_asks_nothing(corpus: Dataset, serve: Callable[..., Faulty]) -> None:
    faulty = serve()
    summary = run(faulty, dry_run=True, price_in=1.0, price_out=1.0, examples=2)
    assert (summary.ended, summary.left, summary.requests) == ("dry run", 16, 0)
    assert summary.cases == Counter({"case 1, none": 16})
    assert len(summary.examples) == 2
    assert "User Input:" in summary.examples[0]["messages"][0]["content"]
    assert summary.tokens_out == 16 * 128
    assert summary.cost == pytest.approx((summary.tokens_in + summary.tokens_out) / 1e6)
    assert not faulty.requests
    assert not System.objects.filter(name="mine").exists()


def test_the_guess_of_a_dry_run_is_no_less_than_what_is_then_counted(
    corpus: Dataset, serve: Callable[..., Faulty]
) -> None:
    guess = run(serve(), dry_run=True)
    counted = run(serve())
    assert guess.tokens_in >= counted.tokens_in > 0


def test_a_limit_means_the_same_turns_whenever_it_is_run(corpus: Dataset, serve: Callable[..., Faulty]) -> None:
    assert run(serve(), limit=5).answered == 5
    again = run(serve(), limit=5)
    assert (again.known, again.answered, again.turns) == (5, 0, 5)


def test_the_rate_is_kept_over_all_threads(corpus: Dataset, serve: Callable[..., Faulty]) -> None:
    faulty = serve()
    run(faulty, limit=6, per_minute=600.0, concurrency=6)
    assert faulty.times[-1] - faulty.times[0] >= 5 * 0.1 - 0.05


def test_so_many_requests_run_at_once_and_no_more(corpus: Dataset, serve: Callable[..., Faulty]) -> None:
    faulty = serve(seconds=0.1)
    run(faulty, concurrency=3)
    assert faulty.most_at_once == 3


# Going on ---------------------------------------------------------------------------------------------------------


class CancelledError(Exception):
    pass


def test_a_cancelled_run_keeps_what_was_under_way_and_asks_nothing_more(
    corpus: Dataset, serve: Callable[..., Faulty]
) -> None:
    faulty = serve(seconds=0.05)

    def progress(done: int, total: int, message: str) -> None:
        assert total == 16
        if done >= 4:
            raise CancelledError

    with pytest.raises(CancelledError):
        run(faulty, concurrency=2, progress=progress)
    assert sum(faulty.answered.values()) == len(responses()) < 16
    again = run(serve())
    assert again.known + again.answered == 16
    assert len(responses()) == 16


def test_a_cancellation_is_heard_while_the_endpoint_says_nothing(corpus: Dataset, serve: Callable[..., Faulty]) -> None:
    faulty = serve("stall")
    calls: list[int] = []

    def progress(done: int, total: int, message: str) -> None:
        calls.append(done)
        if len(calls) > 2:
            raise CancelledError

    with pytest.raises(CancelledError):
        run(faulty, limit=1, progress=progress, seconds=2.0, first_wait=30.0)
    assert sum(faulty.requests.values()) == 1


def test_a_response_that_came_meanwhile_stays_and_is_counted_as_known(
    corpus: Dataset, serve: Callable[..., Faulty]
) -> None:
    system = SystemFactory.create(name="mine")
    turn = Turn.objects.order_by("dialogue_id", "position").first()
    assert turn is not None

    def progress(done: int, total: int, message: str) -> None:
        Response.objects.get_or_create(
            turn=turn, system=system, defaults={"text": text_of("imported"), "shown": "imported", "raw": "imported"}
        )

    summary = run(serve(), progress=progress)
    assert (summary.known, summary.answered) == (1, 15)
    assert balanced(summary)
    assert Response.objects.get(turn=turn, system=system).raw == "imported"


def test_an_answer_that_another_run_was_faster_to_store_is_not_doubled_and_its_tokens_still_count(
    corpus: Dataset, serve: Callable[..., Faulty], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The look before the writing misses the other's row once, as it does when both look at the same moment."""
    system = SystemFactory.create(name="mine")
    looked: Counter[int] = Counter()

    def theirs(done: int, total: int, message: str) -> None:
        for turn in Turn.objects.order_by("dialogue_id", "position")[:3]:
            values = {"text": text_of("theirs"), "shown": "theirs", "raw": "theirs"}
            Response.objects.get_or_create(turn=turn, system=system, defaults=values)

    def late(system: System, turn: int) -> bool:
        looked[turn] += 1
        return looked[turn] > 1 and Response.objects.filter(turn_id=turn, system=system).exists()

    monkeypatch.setattr(answers, "has_response", late)
    summary = run(serve(), limit=3, progress=theirs, mixed=True)
    assert (summary.known, summary.answered) == (3, 0)
    assert summary.tokens_in > 0
    assert [response.raw for response in responses()] == ["theirs"] * 3
    assert set(looked.values()) == {2}
    assert not Generation.objects.filter(system=system).exists()


def test_generated_and_imported_responses_are_not_mixed_under_one_name_unawares(
    corpus: Dataset, serve: Callable[..., Faulty]
) -> None:
    converse(corpus, ["New here", "Welcome!"], {})
    with pytest.raises(GenerationError, match="imported responses"):
        run(serve(), "alpha", mixed=False)
    assert run(serve(), "alpha", mixed=True).answered == 1


def test_a_jobs_parameters_may_lie_flat_or_in_a_part_of_their_own() -> None:
    flat = {"system": "mine", "datasets": ["redial"], "limit": 3, "model": "tiny"}
    nested = {"system": "mine", "datasets": ["redial"], "parameters": {"limit": 3, "model": "tiny"}}
    assert job_parameters(flat) == job_parameters(nested)
    for wrong in ({}, {"system": ""}, {"system": "mine", "parameters": "x"}, {"system": "mine", "key": KEY}):
        with pytest.raises(GenerationError) as refused:
            job_parameters(wrong)
        assert KEY not in str(refused.value)


def test_imported_responses_are_not_asked_for(corpus: Dataset, serve: Callable[..., Faulty]) -> None:
    summary = run(serve(), "alpha")
    assert (summary.known, summary.answered, summary.requests) == (16, 0, 0)


def test_two_ways_of_asking_are_not_mixed_under_one_name_unawares(
    corpus: Dataset, serve: Callable[..., Faulty]
) -> None:
    faulty = serve()
    run(faulty, limit=3)
    with pytest.raises(GenerationError, match=r"different: history, max_new_tokens\)"):
        run(faulty, history=2, max_new_tokens=64, mixed=False)
    with pytest.raises(GenerationError, match=r"different: address\)"):
        run(serve(), mixed=False)
    assert run(serve(), history=2, max_new_tokens=64, mixed=True).answered == 13


def test_the_human_reference_is_not_generated(corpus: Dataset, serve: Callable[..., Faulty]) -> None:
    with pytest.raises(GenerationError, match="human reference"):
        run(serve(), "reference")


def test_turns_that_are_not_there_are_told_before_anything_is_asked(
    corpus: Dataset, serve: Callable[..., Faulty]
) -> None:
    with pytest.raises(GenerationError, match="no data set inspired"):
        run(serve(), datasets=("inspired",))
    with pytest.raises(GenerationError, match="No turn fits"):
        run(serve(), split="test")


CHILD = """
import os, sys
sys.path.insert(0, os.environ["ATTUNE_ROOT"])
import django
django.setup()
from django.core.management import call_command
call_command("migrate", verbosity=0, skip_checks=True)
from annotation.inference.parameters import GenerationParameters, Operator
from annotation.models import Dataset
from annotation.workflow.generate import generate_responses
if not Dataset.objects.exists():
    from tests.factories import make_corpus
    make_corpus(20)
given = GenerationParameters(base_url=sys.argv[1], model="tiny", concurrency=3, first_wait=0.01)
summary = generate_responses(system="mine", parameters=given, operator=Operator(allow_private=True))
print(summary.sentence())
"""


def child(data: Path, url: str) -> subprocess.Popen[str]:
    environment = {
        **os.environ,
        "ATTUNE_ROOT": str(ROOT),
        "ATTUNE_DATA_DIR": str(data),
        "ATTUNE_DATABASE_URL": f"sqlite:///{data / 'attune.sqlite3'}",
        "DJANGO_SETTINGS_MODULE": "config.settings",
        "OMP_NUM_THREADS": "1",
    }
    return subprocess.Popen(
        [sys.executable, "-c", CHILD, url], env=environment, cwd=ROOT, stdout=subprocess.PIPE, text=True
    )


def stored_in(data: Path) -> int:
    """How many responses of the system a reader from outside finds in the database."""
    path = data / "attune.sqlite3"
    if not path.exists():
        return 0
    query = "select count(*) from annotation_response r join annotation_system s on s.id = r.system_id where s.name = ?"
    with closing(sqlite3.connect(path, timeout=30)) as database:
        try:
            return int(database.execute(query, ("mine",)).fetchone()[0])
        except sqlite3.OperationalError:  # the tables are being made
            return 0


def test_after_kill_minus_nine_the_rest_is_asked_and_nothing_answered_is_asked_twice(tmp_path: Path) -> None:
    """Forty turns, three at once; the process is killed as soon as ten answers are stored, then started again.

    Three requests may be under way when it dies: nobody can know whether those were answered, so only they may be
    asked twice.
    """
    with serving(Faulty(lambda words, number: "ok", seconds=0.1)) as faulty:
        first = child(tmp_path, faulty.url)
        deadline = time.monotonic() + 240
        while stored_in(tmp_path) < 10 and first.poll() is None and time.monotonic() < deadline:
            time.sleep(0.05)
        os.kill(first.pid, signal.SIGKILL)
        first.communicate()
        before = stored_in(tmp_path)
        assert 10 <= before < 40
        second = child(tmp_path, faulty.url)
        said, _ = second.communicate(timeout=240)
        assert second.returncode == 0
        assert f"{40 - before} answered, {before} known before, of 40 turns" in said
        assert stored_in(tmp_path) == 40
        assert len(faulty.requests) == 40
        twice = [words for words, count in faulty.requests.items() if count > 1]
        assert len(twice) <= 3
        assert sum(faulty.requests.values()) == 40 + len(twice)


# Keys -------------------------------------------------------------------------------------------------------------


def test_the_key_is_in_no_row_no_job_no_log_and_no_summary(
    corpus: Dataset,
    serve: Callable[..., Faulty],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
    settings: Any,
) -> None:
    caplog.set_level(logging.DEBUG)
    monkeypatch.setenv("HOUSE_API_KEY", KEY)
    monkeypatch.setenv("HOUSE_API_KEY_HOST", "127.0.0.1")
    settings.ATTUNE_ALLOW_PRIVATE_ENDPOINTS = True
    faults = ["echo_key", "429", "500", "cut", "wrong_json", "400", "ok"]
    faulty = serve(lambda words, number: faults[(len(words) + number) % len(faults)])
    given = parameters(faulty, key_env="HOUSE_API_KEY").as_mapping()
    job = Job.objects.create(kind="generate", parameters={"system": "mine", **given})
    job.result = job_step(job.parameters)
    job.save()
    assert all(headers["authorization"] == f"Bearer {KEY}" for headers in faulty.headers)
    assert any("[key removed]" in response.raw for response in responses())
    rows = [serializers.serialize("json", model.objects.all()) for model in (Response, Generation, System, Job, Text)]
    told = "".join(rows) + caplog.text + "".join(capsys.readouterr())
    assert KEY not in told
    assert SECRET_IN_BODY not in "".join(rows)


def test_a_job_may_not_send_a_key_where_the_operator_did_not_say(
    corpus: Dataset, serve: Callable[..., Faulty], monkeypatch: pytest.MonkeyPatch, settings: Any
) -> None:
    monkeypatch.setenv("HOUSE_API_KEY", KEY)
    settings.ATTUNE_ALLOW_PRIVATE_ENDPOINTS = True
    faulty = serve()
    with pytest.raises(GenerationError, match=r"not meant for 127\.0\.0\.1"):
        job_step({"system": "mine", **parameters(faulty, key_env="HOUSE_API_KEY").as_mapping()})
    assert not faulty.requests


def test_a_job_may_not_reach_into_the_house_unless_the_operator_allows_it(
    corpus: Dataset, serve: Callable[..., Faulty], settings: Any
) -> None:
    settings.ATTUNE_ALLOW_PRIVATE_ENDPOINTS = False
    faulty = serve()
    with pytest.raises(GenerationError, match="ATTUNE_ALLOW_PRIVATE_ENDPOINTS"):
        job_step({"system": "mine", **parameters(faulty).as_mapping()})
    assert not faulty.requests
    with pytest.raises(GenerationError, match="Unknown parameters: allow_private"):
        job_step({"system": "mine", **parameters(faulty).as_mapping(), "allow_private": True})


# The command ------------------------------------------------------------------------------------------------------


def test_one_command_asks_and_says_what_happened(
    corpus: Dataset,
    serve: Callable[..., Faulty],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    settings: Any,
) -> None:
    settings.ATTUNE_ALLOW_PRIVATE_ENDPOINTS = True
    monkeypatch.setenv("HOUSE_API_KEY", KEY)
    faulty = serve()
    options = {"system": "mine", "base_url": faulty.url, "model": "tiny", "key_env": "HOUSE_API_KEY"}
    call_command("generate_responses", **options, datasets=["redial"], limit=4, dry_run=True)
    assert "User Input:" in capsys.readouterr().out
    call_command("generate_responses", **options, datasets=["redial"], limit=4)
    said = capsys.readouterr().out
    assert "4 answered, of 4 turns, with 4 requests." in said
    assert KEY not in said
    assert faulty.headers[0]["authorization"] == f"Bearer {KEY}"


def test_the_command_lists_the_papers_systems_and_says_what_is_retired(capsys: pytest.CaptureFixture[str]) -> None:
    call_command("generate_responses", list=True)
    said = capsys.readouterr().out
    assert "groq: llama-3.2-3b-preview [retired 2025-04-14]" in said
    assert "gemini-1-5-flash-8b" in said
    assert "cannot be run again" in said


def test_the_command_refuses_with_advice(corpus: Dataset) -> None:
    with pytest.raises(CommandError, match="--list"):
        call_command("generate_responses")
    with pytest.raises(CommandError, match="withdrawn by google"):
        call_command("generate_responses", system="gemini-1.5-flash-8b")
    with pytest.raises(CommandError, match="The registry has"):
        call_command("generate_responses", system="nobody-knows")


def test_fifty_turns_end_to_end_from_the_admin_by_a_real_server(
    tiny: Path,
    tmp_path: Path,
    admin: User,
    sign_in: Callable[[User], Client],
    settings: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The form makes the job, the worker's task does it, `transformers serve` answers."""
    settings.ATTUNE_ALLOW_PRIVATE_ENDPOINTS = True
    monkeypatch.setattr(tasks, "start", lambda job: None)  # no broker: the task is called below, as a worker would
    corpus = make_corpus(25)
    with transformers_serve(tiny, tmp_path) as url:
        form = {"system": "tiny", "datasets": [corpus.name], "backend": "endpoint", "base_url": url, "model": str(tiny)}
        form |= {"template": "appendix-a-1", "max_new_tokens": 24, "language": "en"}
        looked = sign_in(admin).post("/admin/annotation/job/launch/generate/", {**form, "act": "look"})
        assert "50 of 50 turns would be asked" in looked.content.decode()
        answer = sign_in(admin).post("/admin/annotation/job/launch/generate/", {**form, "act": "start"})
        job = Job.objects.get(kind="generate")
        assert answer.status_code == 302
        assert str(job.pk) in answer["Location"]
        tasks.run_job(str(job.pk))
    job.refresh_from_db()
    assert (job.state, job.error, job.done, job.total) == ("done", "", 50, 50)
    assert job.result["answered"] + job.result["empty"] == 50 == job.result["requests"]
    assert Generation.objects.filter(system__name="tiny", state__in=["answered", "empty"]).count() == 50
    # The same model through the local back end says the same, greedily.
    alone = LocalModel(str(tiny), decoding=Decoding(max_new_tokens=24))
    stored = {response.turn_id: response.raw for response in responses("tiny")}
    asked = [(turn, render(load_template(), data)) for turn, data in turn_data(list(stored)[:8])]
    for (turn, _), outcome in zip(asked, alone.complete([prompt for _, prompt in asked]), strict=True):
        assert isinstance(outcome.result, Completion)
        assert stored[turn] == storable(outcome.result.text)


def test_history_is_shown_when_asked_for(serve: Callable[..., Faulty]) -> None:
    corpus = make_corpus(0)
    converse(corpus, ["Hi there", "Hello, what do you like?", "Comedies", "Try Airplane!"], {})
    faulty = serve()
    run(faulty, history=-1)
    shown = [body["messages"][0]["content"] for body in faulty.bodies]
    assert sum("User: Hi there\nRecommender: Hello, what do you like?" in words for words in shown) == 1
