from __future__ import annotations

import threading
from datetime import timedelta

import pytest
from django.utils import timezone

from annotation.models import Chunk, Job, User
from annotation.workflow import jobs

pytestmark = pytest.mark.django_db


def make_job(**fields: object) -> Job:
    return Job.objects.create(kind="report", **fields)


def test_a_job_is_claimed_by_one_worker_only() -> None:
    job = make_job()
    assert jobs.claim(job.pk, worker="one") is not None
    assert jobs.claim(job.pk, worker="two") is None


def test_a_job_whose_lease_has_lapsed_can_be_claimed_again() -> None:
    job = make_job(state=Job.RUNNING, worker="dead", lease_until=timezone.now() - timedelta(seconds=1))
    claimed = jobs.claim(job.pk, worker="two")
    assert claimed is not None
    assert claimed.worker == "two"


def test_a_worker_that_lost_its_lease_cannot_end_the_job() -> None:
    job = make_job()
    jobs.claim(job.pk, worker="one")
    Job.objects.filter(pk=job.pk).update(lease_until=timezone.now() - timedelta(seconds=1))
    jobs.claim(job.pk, worker="two")
    assert not jobs.finish(job, worker="one", state=Job.DONE, result={"from": "one"})
    assert jobs.finish(job, worker="two", state=Job.DONE, result={"from": "two"})
    job.refresh_from_db()
    assert job.result == {"from": "two"}


def test_progress_stops_the_step_when_someone_cancelled() -> None:
    job = make_job()
    claimed = jobs.claim(job.pk, worker="one")
    assert claimed is not None
    report = jobs.progress_of(claimed, "one", threading.Event())
    report(1, 1, "first")
    assert jobs.request_cancel(claimed)
    with pytest.raises(jobs.Cancelled):
        report(1, 1, "second")


def test_progress_stops_the_step_when_the_lease_was_taken_over() -> None:
    job = make_job()
    claimed = jobs.claim(job.pk, worker="one")
    assert claimed is not None
    Job.objects.filter(pk=job.pk).update(worker="two")
    with pytest.raises(jobs.LeaseLost):
        jobs.progress_of(claimed, "one", threading.Event())(1, 1, "")


def test_cancelling_a_waiting_job_ends_it_at_once() -> None:
    job = make_job()
    assert jobs.request_cancel(job)
    job.refresh_from_db()
    assert job.state == Job.CANCELLED
    assert not jobs.request_cancel(job)


def test_a_job_tried_too_often_fails_with_a_reason() -> None:
    job = make_job(state=Job.RUNNING, attempts=jobs.MAX_ATTEMPTS, lease_until=timezone.now() - timedelta(seconds=1))
    assert jobs.give_up() == 1
    job.refresh_from_db()
    assert job.state == Job.FAILED
    assert "stopped without a word" in job.error


def test_chunks_are_dealt_once_and_the_last_one_ends_the_job_once() -> None:
    job = make_job()
    claimed = jobs.claim(job.pk, worker="one")
    assert claimed is not None
    jobs.write_chunks(claimed, [{"count": 2}, {"count": 3}], total=5)
    jobs.release(claimed, worker="one")
    first, second = jobs.claim_chunk(job, worker="one"), jobs.claim_chunk(job, worker="two")
    assert first is not None
    assert second is not None
    assert {first.number, second.number} == {0, 1}
    assert jobs.claim_chunk(job, worker="three") is None
    jobs.finish_chunk(first, worker="one", done=2)
    assert not jobs.finish_if_complete(job, dict)
    jobs.finish_chunk(second, worker="two", done=3)
    assert jobs.finish_if_complete(job, lambda: {"texts": 5})
    assert not jobs.finish_if_complete(job, lambda: {"texts": 6})
    job.refresh_from_db()
    assert (job.state, job.done, job.total, job.result) == (Job.DONE, 5, 5, {"texts": 5})


def test_a_chunk_of_a_dead_worker_is_dealt_again_and_counted_once() -> None:
    job = make_job()
    claimed = jobs.claim(job.pk, worker="one")
    assert claimed is not None
    jobs.write_chunks(claimed, [{"count": 4}], total=4)
    jobs.release(claimed, worker="one")
    chunk = jobs.claim_chunk(job, worker="one")
    assert chunk is not None
    jobs.chunk_progress(chunk, "one", threading.Event())(3)
    Chunk.objects.update(lease_until=timezone.now() - timedelta(seconds=1))
    again = jobs.claim_chunk(job, worker="two")
    assert again is not None
    jobs.finish_chunk(again, worker="two", done=4)
    job.refresh_from_db()
    assert job.done == 4


def test_the_reconciler_finds_what_waits_and_nothing_else() -> None:
    long_ago = timezone.now() - timedelta(minutes=1)
    waiting = make_job()
    Job.objects.filter(pk=waiting.pk).update(created_at=long_ago)
    make_job()  # queued a moment ago: its hint is on its way
    make_job(state=Job.RUNNING, lease_until=timezone.now() + timedelta(minutes=1))
    dead = make_job(state=Job.RUNNING, lease_until=long_ago)
    make_job(state=Job.DONE)
    assert set(jobs.stranded()) == {waiting, dead}


def test_people_see_their_own_jobs_and_superusers_all() -> None:
    ada = User.objects.create(username="ada")
    root = User.objects.create(username="root", is_superuser=True)
    own, other = make_job(created_by=ada), make_job(created_by=root)
    assert list(jobs.visible(ada)) == [own]
    assert set(jobs.visible(root)) == {own, other}
