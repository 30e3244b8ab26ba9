"""Celery's doors: fetch the row, call the step, nothing else."""

from __future__ import annotations

import dataclasses
import time
import traceback
from collections.abc import Callable
from typing import Any, cast

import structlog
from celery import shared_task
from django.conf import settings
from django.db import transaction

from annotation.models import Campaign, Chunk, Job
from annotation.workflow import generate, jobs, learning, opening, prelabel, queue, reporting, uploads

log = structlog.get_logger("annotation.tasks")

HINTS = 8
"""How many workers are told that a chunked job has work; each takes chunks until none is left."""

TURN_SECONDS = 60.0
"""After so long a worker lets other jobs in between the chunks of one: a report must not wait for a million texts."""

ASKING_SECONDS = 600.0
"""The same for a job that asks a system; longer, because a local model is loaded anew for every turn of work."""

HEAVY = frozenset({"prelabel", "generate", "train"})
"""Kinds of work that take hours and much memory; they have a queue of their own, all else is quick."""

Step = Callable[[Job, jobs.ProgressCallback], dict[str, Any]]


def start(job: Job) -> None:
    """Hint at the job once its row is committed. If the broker is away the reconciler hints again."""
    transaction.on_commit(lambda: hint(str(job.pk)))


def queue_of(kind: str | None) -> str:
    return "heavy" if kind in HEAVY else "quick"


def hint(job_id: str) -> None:
    kind = Job.objects.filter(pk=job_id).values_list("kind", flat=True).first()
    try:
        run_job.apply_async(args=(job_id,), retry=False, queue=queue_of(kind))
    except Exception as error:  # the broker is only a hint; the row is written
        log.warning("broker_unreachable", job=job_id, error=type(error).__name__)


@shared_task(name="annotation.tasks.run_job")
def run_job(job_id: str) -> None:
    """Work on a job, or on the chunks of one, or find that there is nothing to do."""
    job = Job.objects.filter(pk=job_id).first()
    if job is None or job.finished:
        return
    worker = jobs.worker_name()
    with structlog.contextvars.bound_contextvars(job=job_id, kind=job.kind):
        if job.kind in CHUNKED:
            _run_chunked(job, worker)
        else:
            _run_whole(job_id, worker)


def _run_whole(job_id: str, worker: str) -> None:
    job = jobs.claim(job_id, worker=worker)
    if job is None:
        return
    with jobs.kept_alive(jobs.renew_job(job, worker)) as lost, Ending(job, worker):
        result = STEPS[job.kind](job, jobs.progress_of(job, worker, lost))
        outcome = str(result.get("outcome") or "done")
        jobs.finish(job, worker=worker, state=Job.DONE, result=result, message=outcome, whole=outcome == "done")


class Ending:
    """Turn the end of a step into the end of its row: cancelled, taken over, or failed with a sentence.

    One that gives way goes on later. When the database went away under the step its row stays as it is, for whoever
    takes it over.
    """

    def __init__(self, job: Job, worker: str) -> None:
        self.job, self.worker = job, worker

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: Any) -> bool:
        if error is None:
            return False
        if isinstance(error, jobs.Cancelled):
            jobs.finish(self.job, worker=self.worker, state=Job.CANCELLED, message="cancelled")
        elif isinstance(error, jobs.LeaseLost):
            log.warning("lease_lost")
        elif isinstance(error, jobs.GivesWay):
            if jobs.give_way(self.job, worker=self.worker):
                hint(str(self.job.pk))
        elif isinstance(error, Exception) and jobs.database_away(error):
            log.warning("database_away", error=str(error))
        elif isinstance(error, Exception):
            log.error("job_failed", error=str(error), trace="".join(traceback.format_exception(error)))
            sentence = str(error) or type(error).__name__
            jobs.finish(self.job, worker=self.worker, state=Job.FAILED, error=sentence)
        else:
            return False
        return True


# Chunked jobs -------------------------------------------------------------------------------------------------------


def _run_chunked(job: Job, worker: str) -> None:
    plan, work, summary = CHUNKED[job.kind]
    if not job.result.get("planned"):
        claimed = jobs.claim(job.pk, worker=worker)
        if claimed is None:
            return
        with jobs.kept_alive(jobs.renew_job(claimed, worker)), Ending(claimed, worker):
            parts = plan(claimed)
            jobs.write_chunks(claimed, parts, total=sum(part["count"] for part in parts))
            jobs.release(claimed, worker=worker)
            for _ in range(min(HINTS, len(parts) - 1)):
                hint(str(job.pk))
    job.refresh_from_db()
    began = time.monotonic()
    while job.state == Job.RUNNING and (chunk := jobs.claim_chunk(job, worker=worker)):
        if not _work_on(job, chunk, worker, work):
            return
        job.refresh_from_db()
        if time.monotonic() - began > TURN_SECONDS and Chunk.objects.filter(job=job, state=Job.QUEUED).exists():
            hint(str(job.pk))
            return
    jobs.finish_if_complete(job, lambda: summary(job))


def _work_on(job: Job, chunk: Chunk, worker: str, work: Callable[..., int]) -> bool:
    with jobs.kept_alive(jobs.renew_chunk(chunk, worker)) as lost:
        try:
            done = work(job, chunk, jobs.chunk_progress(chunk, worker, lost))
        except jobs.Cancelled:
            jobs.give_chunk_back(chunk, worker=worker)
            jobs.end(job, state=Job.CANCELLED, message="cancelled")
            return False
        except jobs.LeaseLost:
            return False
        except Exception as error:
            if jobs.database_away(error):
                log.warning("database_away", chunk=chunk.number, error=str(error))
                return False
            log.error("chunk_failed", chunk=chunk.number, trace="".join(traceback.format_exception(error)))
            jobs.give_chunk_back(chunk, worker=worker)
            if chunk.attempts >= jobs.MAX_ATTEMPTS:
                jobs.end(job, state=Job.FAILED, error=str(error))
            return False
    jobs.finish_chunk(chunk, worker=worker, done=done)
    return True


def _plan_prelabel(job: Job) -> list[dict[str, Any]]:
    classifier, _ = prelabel.current_classifier()
    Job.objects.filter(pk=job.pk).update(parameters={**job.parameters, "classifier": classifier.pk})
    return list(
        prelabel.plan_chunks(
            classifier,
            datasets=job.parameters.get("datasets", []),
            systems=job.parameters.get("systems", []),
            size=settings.ATTUNE_PRELABEL_CHUNK,
        )
    )


def _work_prelabel(job: Job, chunk: Chunk, progress: Callable[[int], None]) -> int:
    classifier, instance = prelabel.current_classifier()
    prelabel.prelabel_range(
        classifier,
        instance,
        first=chunk.parameters["first"],
        last=chunk.parameters["last"],
        datasets=job.parameters.get("datasets", []),
        systems=job.parameters.get("systems", []),
        progress=progress,
    )
    return cast(int, chunk.parameters["count"])


def _sum_up_prelabel(job: Job) -> dict[str, Any]:
    return {"planned": True, "texts": job.total, "classifier": job.parameters.get("classifier")}


CHUNKED: dict[str, tuple[Callable[..., Any], Callable[..., int], Callable[..., dict[str, Any]]]] = {
    "prelabel": (_plan_prelabel, _work_prelabel, _sum_up_prelabel),
}

# Whole jobs ---------------------------------------------------------------------------------------------------------


def _open(job: Job, progress: jobs.ProgressCallback) -> dict[str, Any]:
    campaign = Campaign.objects.get(name=job.parameters["campaign"])
    opened = opening.open_campaign(campaign, progress=lambda done, total: progress(done, total, "drawing"))
    return dataclasses.asdict(opened)


def _train(job: Job, progress: jobs.ProgressCallback) -> dict[str, Any]:
    campaign = Campaign.objects.get(name=job.parameters["campaign"])
    learned = learning.learn_from(
        campaign,
        output=settings.DATA_DIR / "classifiers" / str(job.pk),
        folds=int(job.parameters.get("folds") or 5),
        store=True,
        display=lambda part, state: progress(state.step, state.steps, part),
    )
    return learned.summary()


def _generate(job: Job, progress: jobs.ProgressCallback) -> dict[str, Any]:
    # Requests under way when it gives way may take as long again, and the worker's time must not end before them.
    seconds = min(ASKING_SECONDS, settings.CELERY_TASK_TIME_LIMIT / 2)
    result = generate.job_step(job.parameters, progress, job=job, seconds=seconds)
    if result["ended"] == "given way":
        raise jobs.GivesWay
    if result["ended"] == "dry run":
        return result
    job.refresh_from_db(fields=["result"])  # the totals of all its workers
    return dict(job.result)


STEPS: dict[str, Step] = {
    "import": lambda job, progress: uploads.import_upload(job.parameters, progress),
    "open": _open,
    "generate": _generate,
    "report": reporting.report_for_job,
    "train": _train,
}


@shared_task(name="annotation.tasks.reconcile")
def reconcile() -> int:
    """Hint again at what waits although nobody works on it; give up on what was tried too often; free lapsed leases."""
    jobs.give_up()
    queue.return_lapsed()
    waiting = [str(job.pk) for job in jobs.stranded()]
    for job_id in waiting:
        hint(job_id)
    return len(waiting)
