"""The doors of Celery, called as functions: whose turn it is, which queue, what ends a row."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.utils import timezone

from annotation import tasks
from annotation.models import Chunk, Job
from annotation.workflow import jobs
from config.celery import BEHIND

pytestmark = pytest.mark.django_db
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def hinted(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    told: list[str] = []
    monkeypatch.setattr(tasks, "hint", told.append)
    return told


@pytest.fixture
def done(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """A chunked kind of work that only notes which chunk it did."""
    worked: list[int] = []

    def work(job: Job, chunk: Chunk, progress: Any) -> int:
        worked.append(chunk.number)
        return 1

    parts = [{"count": 1} for _ in range(4)]
    monkeypatch.setitem(tasks.CHUNKED, "prelabel", (lambda job: parts, work, lambda job: {"planned": True}))
    return worked


def test_hours_of_work_and_quick_work_have_queues_of_their_own() -> None:
    assert {tasks.queue_of(kind) for kind in ("prelabel", "generate", "train")} == {"heavy"}
    assert {tasks.queue_of(kind) for kind in ("import", "open", "report", "export", None)} == {"quick"}
    from config.celery import app

    # Each by a key of its own: with the default one every message would go to both.
    assert {(queue.name, queue.exchange.name, queue.routing_key) for queue in app.amqp.queues.values()} == {
        ("quick", "quick", "quick"),
        ("heavy", "heavy", "heavy"),
    }


def test_a_chunked_job_is_planned_worked_and_ended_by_one_worker_alone(done: list[int], hinted: list[str]) -> None:
    job = jobs.create_job(kind="prelabel", parameters={})
    tasks.run_job(str(job.pk))
    job.refresh_from_db()
    assert done == [0, 1, 2, 3]
    assert (job.state, job.done, job.total) == (Job.DONE, 4, 4)


def test_a_long_job_lets_others_in_between_its_chunks(
    done: list[int], hinted: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tasks, "TURN_SECONDS", 0.0)
    job = jobs.create_job(kind="prelabel", parameters={})
    for turn in range(1, 4):
        hinted.clear()
        tasks.run_job(str(job.pk))
        assert done == list(range(turn))
        assert str(job.pk) in hinted
    tasks.run_job(str(job.pk))
    job.refresh_from_db()
    assert job.state == Job.DONE


def test_two_workers_share_the_chunks_of_one_job(done: list[int], hinted: list[str]) -> None:
    job = jobs.create_job(kind="prelabel", parameters={})
    claimed = jobs.claim(job.pk, worker="planner")
    assert claimed is not None
    jobs.write_chunks(claimed, [{"count": 1} for _ in range(4)], total=4)
    jobs.release(claimed, worker="planner")
    held = jobs.claim_chunk(job, worker="other host")
    assert held is not None
    tasks.run_job(str(job.pk))
    job.refresh_from_db()
    assert done == [1, 2, 3]
    assert job.state == Job.RUNNING  # the other host still has its chunk
    jobs.finish_chunk(held, worker="other host", done=1)
    tasks.run_job(str(job.pk))
    job.refresh_from_db()
    assert (job.state, job.done) == (Job.DONE, 4)


def test_a_chunk_that_always_fails_ends_the_job_with_its_error(
    hinted: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def work(job: Job, chunk: Chunk, progress: Any) -> int:
        raise OSError("No space left on device")

    monkeypatch.setitem(tasks.CHUNKED, "prelabel", (lambda job: [{"count": 1}], work, lambda job: {}))
    job = jobs.create_job(kind="prelabel", parameters={})
    for _ in range(jobs.MAX_ATTEMPTS):
        tasks.run_job(str(job.pk))
    job.refresh_from_db()
    assert job.state == Job.FAILED
    assert "No space left on device" in job.error


def test_a_disk_that_is_full_fails_the_job_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(job: Job, progress: Any) -> dict[str, Any]:
        raise OSError(28, "No space left on device")

    monkeypatch.setitem(tasks.STEPS, "report", full)
    job = jobs.create_job(kind="report", parameters={})
    tasks.run_job(str(job.pk))
    job.refresh_from_db()
    assert job.state == Job.FAILED
    assert "No space left on device" in job.error
    assert job.finished_at is not None


def test_a_database_that_was_restarted_under_a_job_lets_it_be_taken_over(
    hinted: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The worker cannot even write down that it failed: the lease lapses and the reconciler hands the job on."""
    from django.db import OperationalError

    calls: list[int] = []

    def step(job: Job, progress: Any) -> dict[str, Any]:
        calls.append(1)
        if len(calls) == 1:
            raise KeyboardInterrupt  # stands for the death of the process: no handler of ours sees it
        return {"answer": 42}

    monkeypatch.setitem(tasks.STEPS, "report", step)
    job = jobs.create_job(kind="report", parameters={})
    with pytest.raises((KeyboardInterrupt, OperationalError)):
        tasks.run_job(str(job.pk))
    job.refresh_from_db()
    assert job.state == Job.RUNNING
    Job.objects.update(lease_until=timezone.now() - timedelta(seconds=1))
    assert tasks.reconcile() == 1
    assert hinted == [str(job.pk)]
    tasks.run_job(str(job.pk))
    job.refresh_from_db()
    assert (job.state, job.result) == (Job.DONE, {"answer": 42})


def test_a_broker_that_is_away_does_not_stop_anybody(monkeypatch: pytest.MonkeyPatch) -> None:
    def away(**given: Any) -> None:
        raise ConnectionError("no broker")

    monkeypatch.setattr(tasks.run_job, "apply_async", away)
    job = jobs.create_job(kind="report", parameters={})
    tasks.hint(str(job.pk))
    job.refresh_from_db()
    assert job.state == Job.QUEUED


def test_a_worker_stands_behind_whoever_answers_people_and_shares_the_cores() -> None:
    program = (
        "import os; from django.conf import settings; from config.celery import stand_back; stand_back(); "
        "print(os.nice(0), settings.ATTUNE_CLASSIFIER_THREADS)"
    )
    before = os.nice(0)
    said = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=120, check=True
    )
    niceness, threads = map(int, said.stdout.split())
    assert niceness == min(before + BEHIND, 19)
    assert threads == max(1, len(os.sched_getaffinity(0)) // 2)
