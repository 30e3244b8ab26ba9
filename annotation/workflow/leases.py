"""One run at a time asks a system: two at once would ask its turns twice, and each keep only its own pace.

The run that asks holds a row, renewed while it lives. A second one is refused with the name of the first. A worker that
was killed leaves a lease that lapses; a retry of the same job takes it over at once.
"""

from __future__ import annotations

import os
import re
import socket
import time
import uuid
from datetime import timedelta
from typing import Final

from django.conf import settings
from django.db.models import Q
from django.utils import timezone

from annotation.models import AskingLease, Job, System

_JOB: Final = "the job "
_COMMAND: Final = re.compile(r"the command on (?P<host>\S+), process (?P<process>\d+)")


class HeldError(Exception):
    """Another run is asking the system; the message names it and says what to do."""


def holder_of(job: Job | None) -> str:
    """Give the name under which a job, or this process, holds a system."""
    if job is not None:
        return f"{_JOB}{job.pk}"
    return f"the command on {socket.gethostname()}, process {os.getpid()}"


def held_by(system: System | None, *, but: str = "") -> str:
    """Say who is asking a system now, or nothing."""
    lease = AskingLease.objects.filter(system=system, until__gt=timezone.now()).first() if system else None
    if lease is None or lease.holder == but or _has_died(lease.holder):
        return ""
    return f"{lease.holder}, since {lease.since:%Y-%m-%d %H:%M} UTC"


class Lease:
    """A system held by this run.

    Raises
    ------
    HeldError
        Another run holds it.
    """

    def __init__(self, system: System, holder: str) -> None:
        self._system = system
        self._token = uuid.uuid4().hex
        self._renewed = time.monotonic()
        now = timezone.now()
        AskingLease.objects.get_or_create(system=system, defaults={"until": now, "since": now})
        mine = {"holder": holder, "token": self._token, "since": now, "until": self._end()}
        row = AskingLease.objects.filter(system=system)
        # A job's own retry need not wait; two commands of one process are two.
        free = Q(until__lte=now) | (Q(holder=holder) if holder.startswith(_JOB) else Q(pk__in=()))
        if row.filter(free).update(**mine):
            return
        lease = row.first()
        # A killed command of this machine is known to be dead before its lease lapses.
        if lease and _has_died(lease.holder) and row.filter(token=lease.token).update(**mine):
            return
        raise HeldError(
            f"{system.name} is being asked by {held_by(system) or 'another run'}. Two runs at once would ask twice and "
            "pass the rate: wait until it has ended, or cancel it. (One that was killed lets go after "
            f"{settings.ATTUNE_JOB_LEASE_SECONDS} s.)"
        )

    def _end(self) -> object:
        return timezone.now() + timedelta(seconds=settings.ATTUNE_JOB_LEASE_SECONDS)

    def renew(self) -> bool:
        """Hold it longer; called often, writes seldom. False: it lapsed and another run took it."""
        if time.monotonic() - self._renewed < settings.ATTUNE_JOB_LEASE_SECONDS / 3:
            return True
        self._renewed = time.monotonic()
        return bool(AskingLease.objects.filter(system=self._system, token=self._token).update(until=self._end()))

    def release(self) -> None:
        AskingLease.objects.filter(system=self._system, token=self._token).update(until=timezone.now())


def _has_died(holder: str) -> bool:
    named = _COMMAND.fullmatch(holder)
    if named is None or named["host"] != socket.gethostname():
        return False
    try:
        os.kill(int(named["process"]), 0)
    except ProcessLookupError:
        return True
    except OSError:
        pass
    return False
