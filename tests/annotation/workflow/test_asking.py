"""One run and one job: caps over every worker, one run at a time, nothing lost however it ends."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.utils import timezone

from annotation import tasks
from annotation.inference.answers import Completion, Outcome
from annotation.inference.generator import GenerationError, Generator
from annotation.inference.pace import Pace
from annotation.inference.parameters import GenerationParameters, Operator
from annotation.models import AskingLease, Dataset, Generation, Job, Response, System
from annotation.workflow import asking, generate, jobs
from annotation.workflow.generate import generate_responses
from annotation.workflow.leases import HeldError, Lease, held_by
from annotation.workflow.ledger import Ledger, Meter
from annotation.workflow.totals import GenerationSummary, Totals
from tests.annotation.faulty_server import Faulty, serving
from tests.factories import SystemFactory

pytestmark = pytest.mark.django_db

ROOT = Path(__file__).resolve().parents[3]
PRIVATE = Operator(allow_private=True, at_the_console=True)
SENT = "what the server sent"
QUICK = {"attempts": 2, "first_wait": 0.01, "seconds": 3.0, "model": "tiny"}


@pytest.fixture(autouse=True)
def private(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    settings.ATTUNE_ALLOW_PRIVATE_ENDPOINTS = True
    monkeypatch.setattr(tasks, "hint", lambda job_id: None)


def job_for(faulty: Faulty, **given: Any) -> Job:
    parameters = {"system": "mine", "base_url": faulty.url, **QUICK, **given}
    return Job.objects.create(kind="generate", parameters=parameters)


def worked(job: Job) -> Job:
    tasks.run_job(str(job.pk))
    job.refresh_from_db()
    return job


def balanced(result: dict[str, Any]) -> bool:
    return result["turns"] == sum(result[name] for name in ("known", "answered", "empty", "failed", "left"))


# Totals and caps belong to the job --------------------------------------------------------------------------------


def test_caps_and_totals_go_on_over_every_worker_of_a_job(
    corpus: Dataset, serve: Callable[..., Faulty], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each worker gives way after a moment; the third finds what the first two have spent."""
    faulty = serve(seconds=0.05)
    monkeypatch.setattr(tasks, "ASKING_SECONDS", 0.12)
    job = job_for(faulty, cap_requests=11, concurrency=2, price_in=1.0, price_out=1.0)
    turns_of_work = 0
    while not worked(job).finished:
        turns_of_work += 1
        assert job.attempts == 0, "a worker that got on was no try in vain"
        assert str(job.pk) in held_by(System.objects.get(name="mine")), "nobody comes between"
        assert job.result["requests"] == sum(faulty.requests.values())
        assert turns_of_work < 12
    assert turns_of_work >= 2
    assert held_by(System.objects.get(name="mine")) == ""
    assert sum(faulty.requests.values()) == job.result["requests"] == 11
    assert (job.state, job.message, jobs.note(job)) == (Job.DONE, "stopped at the cap", "stopped at the cap")
    assert (job.result["answered"], job.result["left"]) == (11, 5)
    assert (job.done, job.total) == (11, 16), "the bar says answered of asked"
    assert balanced(job.result)
    rows = Generation.objects.filter(system__name="mine")
    assert job.result["tokens_in"] == sum(row.tokens_in or 0 for row in rows)
    assert job.result["cost"] == pytest.approx(sum(row.cost or 0 for row in rows))


def test_a_worker_that_goes_on_does_not_ask_again_what_failed_for_the_one_before(
    corpus: Dataset, serve: Callable[..., Faulty], monkeypatch: pytest.MonkeyPatch
) -> None:
    faulty = serve(lambda words, number: "500" if "user 1 " in words else "ok", seconds=0.05)
    monkeypatch.setattr(tasks, "ASKING_SECONDS", 0.2)
    job = job_for(faulty, concurrency=1)
    while not worked(job).finished:
        pass
    assert (job.result["answered"], job.result["failed"], job.result["failures"]) == (15, 1, {"server_error": 1})
    assert job.message == "done, 1 turns failed"
    assert max(faulty.requests.values()) == 2, "two attempts, by one worker"
    assert balanced(job.result)
    assert worked(job_for(serve(), mixed=True)).result["answered"] == 1, "another job asks it again"


def test_what_was_under_way_when_a_worker_died_counts_towards_the_caps() -> None:
    job = Job.objects.create(kind="generate")
    first = Ledger(job, 10)
    first.begin()
    assert first.reserve(4) == 4
    first.book(Totals(answered=1, tokens_in=10, tokens_out=5))
    first.book(Totals(), tokens=300, cost=0.5)  # it dies here
    second = Ledger(job, 10)
    found = second.begin()
    assert (found.requests, found.answered, found.tokens_assumed, found.cost_assumed) == (4, 1, 300, 0.5)
    assert (second.reserve(4), second.reserve(4), second.reserve(4)) == (4, 2, 0)
    assert Ledger(job, 10).begin().tokens_assumed == 300, "counted once"


def test_two_workers_that_overlap_for_a_moment_both_count() -> None:
    job = Job.objects.create(kind="generate")
    one, other = Ledger(job, None), Ledger(job, None)
    one.begin()
    other.begin()
    one.book(Totals(answered=1, tokens_in=3))
    other.book(Totals(answered=1, tokens_in=4))
    job.refresh_from_db()
    assert (job.result["answered"], job.result["tokens_in"]) == (2, 7)


def test_threads_wait_for_leave_to_send_and_go_without_it_at_the_cap() -> None:
    meter = Meter(Ledger(None, 2))
    taken: list[int] = []

    def send() -> None:
        meter.take(threading.Event())
        taken.append(1)

    thread = threading.Thread(target=send)
    thread.start()
    deadline = time.monotonic() + 5
    while not meter.starving and time.monotonic() < deadline:
        time.sleep(0.01)
    assert meter.starving
    meter.top_up(1)
    thread.join(5)
    meter.top_up(3)
    meter.take(threading.Event())
    assert (taken, meter.used_up, meter.reserved) == ([1], True, 2)


KILLED = """
import os, sys
sys.path.insert(0, os.environ["ATTUNE_ROOT"])
import django
django.setup()
from django.core.management import call_command
call_command("migrate", verbosity=0, skip_checks=True)
from annotation import tasks
from annotation.models import Dataset, Job
if not Dataset.objects.exists():
    from tests.factories import make_corpus
    make_corpus(30)
    given = {"system": "mine", "base_url": sys.argv[1], "model": "tiny", "concurrency": 3, "cap_requests": 40,
             "first_wait": 0.01}
    Job.objects.create(kind="generate", parameters=given)
job = Job.objects.get()
while not job.finished:
    tasks.run_job(str(job.pk))
    job.refresh_from_db()
"""


def killed_child(data: Path, url: str) -> subprocess.Popen[str]:
    environment = {
        **os.environ,
        "ATTUNE_ROOT": str(ROOT),
        "ATTUNE_DATA_DIR": str(data),
        "ATTUNE_DATABASE_URL": f"sqlite:///{data / 'attune.sqlite3'}",
        "ATTUNE_ALLOW_PRIVATE_ENDPOINTS": "1",
        "ATTUNE_JOB_LEASE_SECONDS": "3",
        "DJANGO_SETTINGS_MODULE": "config.settings",
        "OMP_NUM_THREADS": "1",
    }
    return subprocess.Popen([sys.executable, "-c", KILLED, url], env=environment, cwd=ROOT, text=True)


def result_in(data: Path) -> tuple[str, dict[str, Any]]:
    path = data / "attune.sqlite3"
    if path.exists():
        with closing(sqlite3.connect(path, timeout=30)) as database:
            try:
                row = database.execute("select state, result from annotation_job").fetchone()
            except sqlite3.OperationalError:  # the tables are being made
                row = None
        if row is not None:
            return str(row[0]), json.loads(row[1])
    return "", {}


def test_the_cap_on_requests_holds_over_two_kills(tmp_path: Path) -> None:
    """What the server counts is never more than what the row had written down before it was sent."""
    with serving(Faulty(lambda words, number: "ok", seconds=0.1)) as faulty:
        for answered in (8, 18):
            child = killed_child(tmp_path, faulty.url)
            deadline = time.monotonic() + 240
            while result_in(tmp_path)[1].get("answered", 0) < answered and time.monotonic() < deadline:
                time.sleep(0.05)
                assert child.poll() is None
            os.kill(child.pid, signal.SIGKILL)
            child.communicate()
            assert sum(faulty.requests.values()) <= result_in(tmp_path)[1]["requests"] <= 40
        last = killed_child(tmp_path, faulty.url)
        last.communicate(timeout=240)
    state, result = result_in(tmp_path)
    assert (state, result["outcome"], result["requests"]) == ("done", "stopped at the cap", 40)
    # Written down before they went out: of each kill at most one for each thread, and one ready for its repeat.
    assert 40 - 2 * 6 <= sum(faulty.requests.values()) <= 40
    assert 40 - 4 * 6 <= result["answered"] <= 40
    assert balanced(result)


# One run of a system at a time ------------------------------------------------------------------------------------


def test_a_second_run_of_a_system_is_refused_with_the_name_of_the_first(
    corpus: Dataset, serve: Callable[..., Faulty]
) -> None:
    faulty = serve()
    first = Job.objects.create(kind="generate")
    lease = Lease(SystemFactory.create(name="mine"), f"the job {first.pk}")
    job = worked(job_for(faulty))
    assert job.state == Job.FAILED
    assert f"is being asked by the job {first.pk}" in job.error
    with pytest.raises(GenerationError, match=f"the job {first.pk}"):
        generate_responses(
            system="mine", parameters=GenerationParameters(base_url=faulty.url, model="tiny"), operator=PRIVATE
        )
    assert not faulty.requests
    lease.release()
    assert worked(job_for(faulty)).result["answered"] == 16
    assert held_by(System.objects.get(name="mine")) == ""


def test_two_commands_of_one_process_do_not_ask_at_once(corpus: Dataset, serve: Callable[..., Faulty]) -> None:
    faulty = serve()
    given = GenerationParameters(base_url=faulty.url, model="tiny", concurrency=1)
    refused: list[str] = []

    def progress(done: int, total: int, message: str) -> None:
        if not refused:
            with pytest.raises(GenerationError) as error:
                generate_responses(system="mine", parameters=given, operator=PRIVATE)
            refused.append(str(error.value))

    assert generate_responses(system="mine", parameters=given, operator=PRIVATE, progress=progress).answered == 16
    assert f"process {os.getpid()}" in refused[0]
    assert sum(faulty.requests.values()) == 16


def test_a_lease_lapses_goes_to_the_jobs_own_retry_at_once_and_from_a_dead_command_too(corpus: Dataset) -> None:
    system = SystemFactory.create(name="mine")
    first = Lease(system, "the job 1")
    with pytest.raises(HeldError):
        Lease(system, "the job 2")
    again = Lease(system, "the job 1")
    first._renewed = again._renewed = -1e9
    assert not first.renew(), "the worker before must not go on"
    assert again.renew()
    AskingLease.objects.update(until=timezone.now() - timedelta(seconds=1))
    Lease(system, "the job 2")
    dead = subprocess.Popen(["true"])
    dead.wait()
    AskingLease.objects.update(holder=f"the command on {os.uname().nodename}, process {dead.pid}")
    assert held_by(system) == ""
    Lease(system, "the job 3")


def test_a_run_whose_lease_went_to_another_stops_and_keeps_what_came(
    corpus: Dataset, serve: Callable[..., Faulty], settings: Any
) -> None:
    settings.ATTUNE_JOB_LEASE_SECONDS = 0
    faulty = serve(seconds=0.05)

    def progress(done: int, total: int, message: str) -> None:
        if done >= 3:
            AskingLease.objects.update(token="another")

    with pytest.raises(jobs.LeaseLost):
        generate_responses(
            system="mine",
            parameters=GenerationParameters(base_url=faulty.url, model="tiny", concurrency=2),
            operator=PRIVATE,
            progress=progress,
        )
    assert sum(faulty.answered.values()) == Response.objects.filter(system__name="mine").count() < 16


# Errors of ours ---------------------------------------------------------------------------------------------------


class Answering:
    """A back end whose answers all come at once, one call after another has been submitted."""

    concurrency = 4

    def __init__(self, batch_size: int, broken: Callable[[int], bool] = lambda number: False) -> None:
        self.batch_size, self.broken = batch_size, broken
        self.pace = Pace()
        self.calls = 0

    asked: Any = {"backend": "fake", "model": "fake"}

    @property
    def requests(self) -> int:
        return int(self.pace.requests)

    def prepare(self) -> None: ...

    def stop(self) -> None:
        self.pace.stopped.set()

    def complete(self, prompts: Any) -> list[Outcome]:
        self.calls += 1
        number = self.calls
        for _ in prompts:
            self.pace.take()
        time.sleep(0.05)
        if self.broken(number):
            raise RecursionError(SENT)
        return [Outcome(Completion(f"Answer {number}", "stop", 5, 5), 1) for _ in prompts]


@pytest.mark.parametrize("batch_size", [1, 3])
def test_an_answer_that_cannot_be_stored_costs_no_other(
    corpus: Dataset, monkeypatch: pytest.MonkeyPatch, batch_size: int
) -> None:
    """Two of the first answers meet an error in the storing; whatever else was asked is stored and counted."""
    fake = Answering(batch_size)
    monkeypatch.setattr(generate, "build_generator", lambda asking, operator: fake)
    really, count = asking.store, iter(range(1000))

    def store(*args: Any, **given: Any) -> bool:
        if next(count) in (0, 2):
            raise ValueError("no such thing")
        return really(*args, **given)

    monkeypatch.setattr(asking, "store", store)
    summary = generate_responses(
        system="mine", parameters=GenerationParameters(base_url="https://example.org/v1", model="m"), operator=PRIVATE
    )
    assert summary.ended == "stopped"
    assert "unexpected error (ValueError, storing an answer)" in summary.sentence()
    stored = Response.objects.filter(system__name="mine").count()
    assert stored == summary.answered == fake.requests - 2
    assert summary.requests == fake.requests
    assert balanced(summary.as_dict())


def test_an_error_in_a_back_end_costs_its_own_call_only_and_quotes_nothing(
    corpus: Dataset, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    fake = Answering(1, broken=lambda number: number in (1, 2, 3))
    monkeypatch.setattr(generate, "build_generator", lambda asking, operator: fake)
    job = Job.objects.create(
        kind="generate", parameters={"system": "mine", "base_url": "https://example.org/v1", "model": "m"}
    )
    worked(job)
    assert job.state == Job.FAILED
    assert "unexpected error (RecursionError, asking)" in job.error
    assert job.result["answered"] == Response.objects.filter(system__name="mine").count() == fake.requests - 3
    assert (job.result["outcome"], job.result["requests"]) == ("stopped early", fake.requests)
    assert balanced(job.result)
    assert SENT not in job.error + caplog.text
    assert "generation_broke" in caplog.text


def test_a_cancelled_job_keeps_its_totals_and_what_was_under_way(
    corpus: Dataset, serve: Callable[..., Faulty], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs, "WRITE_EVERY", 0.0)
    faulty = serve(lambda words, number: "refusal", seconds=0.05)
    job = job_for(faulty, concurrency=2)
    really = jobs.progress_of

    def progress_of(*args: Any) -> Any:
        report = really(*args)

        def told(done: int, total: int, message: str = "") -> None:
            if done >= 3:
                jobs.request_cancel(job)
            report(done, total, message)

        return told

    monkeypatch.setattr(jobs, "progress_of", progress_of)
    worked(job)
    assert (job.state, job.message) == (Job.CANCELLED, "cancelled")
    assert job.result["outcome"] == "cancelled"
    assert job.result["answered"] == job.result["requests"] == sum(faulty.requests.values()) < 16
    assert job.result["flags"] == {"refusal": job.result["answered"]}
    assert job.done < job.total
    assert balanced(job.result)


def test_a_job_that_got_no_answer_has_failed_and_says_so(corpus: Dataset, serve: Callable[..., Faulty]) -> None:
    job = worked(job_for(serve("500"), limit=10))
    assert (job.state, job.result["outcome"]) == (Job.FAILED, "nothing answered")
    assert "0 answered, 10 failed" in job.error
    assert (job.result["failures"], job.done) == ({"server_error": 10}, 0)


def test_a_job_in_progress_is_not_given_up_after_five_turns_of_work(
    corpus: Dataset, serve: Callable[..., Faulty], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tasks, "ASKING_SECONDS", 0.0)
    faulty = serve()
    job = job_for(faulty, concurrency=1, limit=1)
    for _ in range(jobs.MAX_ATTEMPTS + 2):
        worked(job)
        assert not job.finished
        assert jobs.give_up() == 0
        assert list(jobs.stranded()) == [job], "the reconciler hints at it"
    monkeypatch.setattr(tasks, "ASKING_SECONDS", 60.0)
    assert worked(job).message == "done"


def test_an_answer_makes_the_tries_before_it_no_tries_in_vain() -> None:
    job = Job.objects.create(kind="generate", state=Job.RUNNING, attempts=4)
    ledger = Ledger(job, None)
    ledger.book(Totals(failed=1))
    assert Job.objects.get().attempts == 4
    ledger.book(Totals(answered=1))
    assert Job.objects.get().attempts == 1


def test_a_summary_names_how_it_ended_in_words() -> None:
    def said(**given: Any) -> str:
        return GenerationSummary("mine", "t", **given).outcome()

    assert said() == "done"
    assert said(failed=2, answered=1) == "done, 2 turns failed"
    assert said(failed=2) == said(failed=2, ended="capped") == "nothing answered"
    assert said(ended="capped", answered=1) == "stopped at the cap"
    assert said(ended="stopped", answered=1) == "stopped early"
    assert said(ended="interrupted") == "cancelled"


def test_a_fake_back_end_is_one() -> None:
    fake: Generator = Answering(1)
    assert fake.requests == 0
