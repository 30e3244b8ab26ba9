"""Long work, kept true by its row: claimed by conditional update, leased while alive, safe to run again.

The broker carries hints ("look at this job"); it may lose or repeat them. Whoever gets a hint claims the row or a chunk
of it, renews the lease from a thread while working, and stops when the row says that it was cancelled or taken over.
A reconciler sends the hint again for whatever is queued or whose lease has lapsed.
"""

from __future__ import annotations

import os
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

from django.conf import settings
from django.db import InterfaceError, OperationalError, connection, transaction
from django.db.models import F, Q, QuerySet, Sum
from django.db.models.functions import Greatest
from django.utils import timezone

from annotation.models import Chunk, Job, User

MAX_ATTEMPTS = 5
WRITE_EVERY = 0.5

ProgressCallback = Callable[[int, int, str], None]


class Cancelled(Exception):  # noqa: N818 - a request, no error
    """The job's row asks for a stop."""


class LeaseLost(Exception):  # noqa: N818 - a fact, no error
    """Someone else holds the job now; whatever this worker still does must not be recorded."""


class GivesWay(Exception):  # noqa: N818 - a courtesy, no error
    """The step has done its turn and goes on later, from where its row says, so that other work comes between."""


def database_away(error: Exception) -> bool:
    """Whether an error means that the connection is gone, and not that the work cannot be done.

    The row cannot be written then, and need not be: its lease lapses, and the work is taken over.
    """
    if not isinstance(error, OperationalError | InterfaceError) or connection.is_usable():
        return False
    connection.close()
    return True


def worker_name() -> str:
    return f"{socket.gethostname()}:{os.getpid()}:{threading.get_ident() % 100_000}"


def create_job(*, kind: str, parameters: dict[str, Any], user: User | None = None) -> Job:
    """Write the row. Starting it is the door's business, after the commit."""
    return Job.objects.create(kind=kind, parameters=parameters, created_by=user)


def visible(user: User) -> QuerySet[Job]:
    """All jobs for a superuser, one's own for everyone else."""
    return Job.objects.all() if user.is_superuser else Job.objects.filter(created_by=user)


def note(job: Job) -> str:
    """The state of a job in one line of words."""
    if job.state == Job.FAILED:
        return f"failed: {job.error[:160]}"
    if job.state == Job.RUNNING:
        share = f"{100 * job.done / job.total:.0f} % " if job.total else ""
        return f"{share}{job.message}".strip() or "running"
    return job.message if job.state == Job.DONE and job.message else job.state


def request_cancel(job: Job) -> bool:
    """Ask a job to stop: at once when nobody works on it, else at the worker's next word of progress."""
    now = timezone.now()
    idle = Job.objects.filter(pk=job.pk).filter(Q(state=Job.QUEUED) | Q(state=Job.RUNNING, lease_until__lt=now))
    if idle.update(state=Job.CANCELLED, finished_at=now, cancel_requested=True, message="cancelled"):
        return True
    return bool(Job.objects.filter(pk=job.pk, state=Job.RUNNING).update(cancel_requested=True))


def _lease() -> Any:
    return timezone.now() + timedelta(seconds=settings.ATTUNE_JOB_LEASE_SECONDS)


def _claimable() -> Q:
    return Q(state=Job.QUEUED) | Q(state=Job.RUNNING) & (
        Q(lease_until__isnull=True) | Q(lease_until__lt=timezone.now())
    )


def claim(job_id: uuid.UUID | str, *, worker: str) -> Job | None:
    """Take a job that nobody holds, or return None: someone was faster, or it is finished."""
    now = timezone.now()
    taken = (
        Job.objects.filter(pk=job_id, attempts__lt=MAX_ATTEMPTS)
        .filter(_claimable())
        .update(state=Job.RUNNING, worker=worker, lease_until=_lease(), attempts=F("attempts") + 1, error="")
    )
    if not taken:
        return None
    Job.objects.filter(pk=job_id, started_at__isnull=True).update(started_at=now)
    return Job.objects.get(pk=job_id)


def release(job: Job, *, worker: str) -> None:
    """Keep the job running but let others in: what a planner does once the chunks are written."""
    Job.objects.filter(pk=job.pk, worker=worker).update(worker="", lease_until=_lease())


def finish(
    job: Job,
    *,
    worker: str,
    state: str,
    result: dict[str, Any] | None = None,
    error: str = "",
    message: str = "",
    whole: bool = True,
) -> bool:
    """End a job, if this worker still holds it. Without a result, what its row holds already stays.

    `whole=False`: done, though not all that was begun; the bar stays where it is.
    """
    return bool(
        Job.objects.filter(pk=job.pk, worker=worker, state=Job.RUNNING).update(
            state=state,
            error=error[:4000],
            message=message[:200],
            finished_at=timezone.now(),
            lease_until=None,
            **({} if result is None else {"result": result}),
            # A step tells what it begins: at the end all of it is done.
            **({"done": Greatest("done", "total")} if state == Job.DONE and whole else {}),
        )
    )


def give_way(job: Job, *, worker: str) -> bool:
    """Let go of a running job: whoever looks at it next may go on. It was no try in vain, so tries count anew."""
    mine = Job.objects.filter(pk=job.pk, worker=worker, state=Job.RUNNING)
    return bool(mine.update(worker="", lease_until=timezone.now(), attempts=0))


@contextmanager
def kept_alive(renew: Callable[[], bool]) -> Iterator[threading.Event]:
    """Renew a lease from a thread until the block ends; the event is set when the lease turned out to be lost.

    While the database is away the lease is not lost: the thread asks again until someone else has taken the work over.
    """
    stop, lost = threading.Event(), threading.Event()

    def beat() -> None:
        try:
            while not stop.wait(settings.ATTUNE_JOB_LEASE_SECONDS / 3):
                try:
                    if not renew():
                        lost.set()
                        return
                except (OperationalError, InterfaceError):
                    connection.close()
        finally:
            connection.close()

    thread = threading.Thread(target=beat, daemon=True, name="lease")
    thread.start()
    try:
        yield lost
    finally:
        stop.set()
        thread.join(timeout=5)


def renew_job(job: Job, worker: str) -> Callable[[], bool]:
    return lambda: bool(Job.objects.filter(pk=job.pk, worker=worker, state=Job.RUNNING).update(lease_until=_lease()))


def progress_of(job: Job, worker: str, lost: threading.Event) -> ProgressCallback:
    """The callback a step reports to. Raises `Cancelled` or `LeaseLost`; writes at most twice a second."""
    last = 0.0

    def report(done: int, total: int, message: str = "") -> None:
        nonlocal last
        if lost.is_set():
            raise LeaseLost
        now = time.monotonic()
        if now - last < WRITE_EVERY and not 0 < total <= done:
            return
        last = now
        mine = Job.objects.filter(pk=job.pk, worker=worker, state=Job.RUNNING)
        if not mine.update(done=done, total=total, message=message[:200], lease_until=_lease()):
            raise LeaseLost
        if mine.filter(cancel_requested=True).exists():
            raise Cancelled

    return report


# Jobs in chunks -----------------------------------------------------------------------------------------------------


def write_chunks(job: Job, parameters: list[dict[str, Any]], *, total: int) -> None:
    """Replace the job's plan. Called by the planner alone, before any chunk is worked on."""
    with transaction.atomic():
        Chunk.objects.filter(job=job).delete()
        Chunk.objects.bulk_create(
            [Chunk(job=job, number=number, parameters=part) for number, part in enumerate(parameters)], batch_size=500
        )
        Job.objects.filter(pk=job.pk).update(total=total, done=0, result={"planned": True})


def claim_chunk(job: Job, *, worker: str) -> Chunk | None:
    """Take the next chunk that nobody holds."""
    free = Chunk.objects.filter(job=job).filter(_claimable()).order_by("number")
    for chunk in free[:20]:
        taken = (
            Chunk.objects.filter(pk=chunk.pk)
            .filter(_claimable())
            .update(state=Job.RUNNING, worker=worker, lease_until=_lease(), attempts=F("attempts") + 1)
        )
        if taken:
            chunk.refresh_from_db()
            return chunk
    return None


def renew_chunk(chunk: Chunk, worker: str) -> Callable[[], bool]:
    def renew() -> bool:
        Job.objects.filter(pk=chunk.job_id, state=Job.RUNNING).update(lease_until=_lease())
        return bool(Chunk.objects.filter(pk=chunk.pk, worker=worker, state=Job.RUNNING).update(lease_until=_lease()))

    return renew


def chunk_progress(chunk: Chunk, worker: str, lost: threading.Event) -> Callable[[int], None]:
    """Like `progress_of`, for the items done of one chunk; the job's count is the sum over its chunks."""
    last = -WRITE_EVERY

    def report(done: int) -> None:
        nonlocal last
        if lost.is_set():
            raise LeaseLost
        if time.monotonic() - last < WRITE_EVERY:
            return
        last = time.monotonic()
        if not Chunk.objects.filter(pk=chunk.pk, worker=worker, state=Job.RUNNING).update(
            done=done, lease_until=_lease()
        ):
            raise LeaseLost
        count_chunks(chunk.job_id)
        if Job.objects.filter(pk=chunk.job_id).filter(Q(cancel_requested=True) | ~Q(state=Job.RUNNING)).exists():
            raise Cancelled

    return report


def finish_chunk(chunk: Chunk, *, worker: str, done: int) -> None:
    Chunk.objects.filter(pk=chunk.pk, worker=worker, state=Job.RUNNING).update(
        state=Job.DONE, done=done, lease_until=None
    )
    count_chunks(chunk.job_id)


def give_chunk_back(chunk: Chunk, *, worker: str) -> None:
    Chunk.objects.filter(pk=chunk.pk, worker=worker, state=Job.RUNNING).update(state=Job.QUEUED, lease_until=None)


def count_chunks(job_id: uuid.UUID) -> None:
    done = Chunk.objects.filter(job_id=job_id).aggregate(done=Sum("done"))["done"] or 0
    Job.objects.filter(pk=job_id, state=Job.RUNNING).update(done=done, lease_until=_lease())


def finish_if_complete(job: Job, result: Callable[[], dict[str, Any]]) -> bool:
    """End a chunked job when no chunk is left; exactly one worker does it."""
    if Chunk.objects.filter(job=job).exclude(state=Job.DONE).exists():
        return False
    return bool(
        Job.objects.filter(pk=job.pk, state=Job.RUNNING).update(
            state=Job.DONE,
            done=F("total"),  # two workers that counted at the same moment may each have missed the other's last chunk
            result=result(),
            finished_at=timezone.now(),
            lease_until=None,
            worker="",
            message="done",
        )
    )


def end(job: Job, *, state: str, error: str = "", message: str = "") -> None:
    """End a chunked job early, whoever holds its chunks: they find out at their next word of progress."""
    Job.objects.filter(pk=job.pk, state=Job.RUNNING).update(
        state=state, error=error[:4000], message=message, finished_at=timezone.now(), lease_until=None
    )


# The reconciler -----------------------------------------------------------------------------------------------------


def stranded() -> QuerySet[Job]:
    """Jobs that wait although nobody works on them: hints were lost, or the worker died."""
    waited = timezone.now() - timedelta(seconds=5)
    return Job.objects.filter(
        Q(state=Job.QUEUED, created_at__lt=waited, attempts__lt=MAX_ATTEMPTS)
        | Q(state=Job.RUNNING, attempts__lt=MAX_ATTEMPTS, lease_until__lt=timezone.now())
        | Q(state=Job.RUNNING, chunks__state=Job.QUEUED)
        | Q(state=Job.RUNNING, chunks__state=Job.RUNNING, chunks__lease_until__lt=timezone.now())
    ).distinct()


def give_up() -> int:
    """Fail what was tried too often, saying so, instead of trying for ever."""
    now = timezone.now()
    worn = Job.objects.filter(
        attempts__gte=MAX_ATTEMPTS, state__in=[Job.QUEUED, Job.RUNNING], chunks__isnull=True
    ).filter(Q(lease_until__isnull=True) | Q(lease_until__lt=now))
    error = (
        f"Tried {MAX_ATTEMPTS} times; each time the worker stopped without a word (out of memory, killed, or longer at "
        "work than ATTUNE_TASK_TIME_LIMIT allows?)."
    )
    count = worn.update(state=Job.FAILED, error=error, finished_at=now)
    broken = Job.objects.filter(
        state=Job.RUNNING,
        chunks__attempts__gte=MAX_ATTEMPTS,
        chunks__state__in=[Job.QUEUED, Job.RUNNING],
        lease_until__lt=now,
    )
    return count + Job.objects.filter(pk__in=list(broken.values_list("pk", flat=True))).update(
        state=Job.FAILED, error=error, finished_at=now
    )
