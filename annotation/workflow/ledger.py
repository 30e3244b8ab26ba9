"""What a job has spent, kept in its row: caps hold over every worker that takes it up, whatever killed the last one.

Requests are written down before they go out, answers in the transaction that stores them. A run from the command line
has no row; its totals live and end with it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, Final

from django.db import transaction

from annotation.inference.generator import CapReachedError, Pace, StoppedError
from annotation.models import Job
from annotation.workflow.totals import Totals

_UNDER_WAY: Final = "under_way"


class Ledger:
    """The running totals of one job, or of one command (`job` is None).

    Parameters
    ----------
    cap
        The greatest number of requests, over all workers of the job.
    """

    def __init__(self, job: Job | None, cap: int | None) -> None:
        self._job = None if job is None else job.pk
        self._cap = cap
        self._requests = 0

    def begin(self) -> Totals:
        """Give what earlier workers of the job came to. What was under way when one died counts as spent in full."""
        found = Totals()

        def change(result: dict[str, Any]) -> dict[str, Any]:
            nonlocal found
            found = Totals.read(result)
            lost = result.pop(_UNDER_WAY, {})
            found.tokens_assumed += lost.get("tokens", 0)
            found.cost_assumed += lost.get("cost", 0.0)
            for name in ("ended", "reason", "outcome", "sentence"):
                result.pop(name, None)
            return {**result, **found.as_totals()}

        self._change(change)
        return found

    def reserve(self, wanted: int) -> int:
        """Count requests that are about to go out; fewer than wanted, or none, when the cap is near."""
        granted = wanted

        def change(result: dict[str, Any]) -> dict[str, Any]:
            nonlocal granted
            known = int(result.get("requests", 0))
            granted = wanted if self._cap is None else max(0, min(wanted, self._cap - known))
            return {**result, "requests": known + granted}

        if self._job is None:
            granted = wanted if self._cap is None else max(0, min(wanted, self._cap - self._requests))
            self._requests += granted
        elif wanted:
            self._change(change)
        return granted

    def book(self, spent: Totals, *, tokens: int = 0, cost: float = 0.0) -> None:
        """Add to the totals; `tokens` and `cost` are the change of what is under way at most. Joins a transaction."""

        def change(result: dict[str, Any]) -> dict[str, Any]:
            known = Totals.read(result)
            known.add(spent)
            under_way = result.get(_UNDER_WAY, {})
            left = {
                "tokens": max(0, under_way.get("tokens", 0) + tokens),
                "cost": max(0.0, under_way.get("cost", 0.0) + cost),
            }
            return {**result, **known.as_totals(), _UNDER_WAY: left}

        self._change(change, progressed=bool(spent.answered or spent.empty))

    def tell(self, told: dict[str, Any]) -> None:
        """Write what is no count (the system, how it ended, the sentence) beside the totals."""
        names = {*Totals().as_totals(), _UNDER_WAY}
        plain = {name: value for name, value in told.items() if name not in names}
        self._change(lambda result: {**result, **plain})

    def close(self, told: dict[str, Any]) -> None:
        """Tell how it ended; nothing is under way any more."""
        self._change(lambda result: {name: value for name, value in result.items() if name != _UNDER_WAY})
        self.tell(told)
        if self._job is None:
            return
        # The bar says answered of asked; its last step may have come too soon after the one before to be written.
        answered, asked = told["answered"] + told["empty"], told["turns"] - told["known"]
        Job.objects.filter(pk=self._job).update(done=answered, total=asked)

    def _change(self, change: Callable[[dict[str, Any]], dict[str, Any]], *, progressed: bool = False) -> None:
        """Read and write the row's result under its lock: two workers that overlap for a moment both add to it."""
        if self._job is None:
            return
        with transaction.atomic():
            row = Job.objects.select_for_update().filter(pk=self._job).values_list("result", flat=True).first()
            if row is None:  # someone deleted the job; what it asked is stored all the same
                return
            # A worker that got an answer was no try in vain, whatever ends it.
            tries = {"attempts": 1} if progressed else {}
            Job.objects.filter(pk=self._job).update(result=change(dict(row)), **tries)


class Meter:
    """Hands out requests that are written down already to the threads that send them.

    Threads must not write: the thread that stores the answers reserves ahead, they take, or wait for it.
    """

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._ready = threading.Condition()
        self._available = 0
        self._waiting = 0
        self.reserved = 0
        self.exhausted = False

    @property
    def used_up(self) -> bool:
        return self.exhausted and not self._available

    @property
    def starving(self) -> bool:
        """Whether a thread waits for what only the writing thread can give."""
        return self._waiting > 0 and not self.exhausted

    def top_up(self, wanted: int) -> None:
        """See to it that so many requests can be taken at once; only the thread that writes calls this."""
        missing = wanted - self._available
        if missing <= 0 or self.exhausted:
            return
        granted = self._ledger.reserve(missing)
        with self._ready:
            self._available += granted
            self.reserved += granted
            self.exhausted = granted < missing
            self._ready.notify_all()

    def take(self, stopped: threading.Event) -> None:
        """Take one request.

        Raises
        ------
        StoppedError
            The run is being stopped.
        CapReachedError
            The cap is used up.
        """
        with self._ready:
            self._waiting += 1
            try:
                while not self._available:
                    if stopped.is_set():
                        raise StoppedError
                    if self.exhausted:
                        raise CapReachedError
                    self._ready.wait(0.1)
                self._available -= 1
            finally:
                self._waiting -= 1

    def put_back(self) -> None:
        """Return a request that was not sent after all."""
        with self._ready:
            self._available += 1
            self._ready.notify()

    def settle(self, sent: int) -> Totals:
        """Give the correction from what was reserved to what was sent, for the ledger."""
        with self._ready:
            correction = Totals(requests=sent - self.reserved)
            self.reserved, self._available = sent, 0
        return correction


class MeteredPace(Pace):
    """A back end's pace whose every request was written down before it goes out."""

    def __init__(self, per_minute: float | None, meter: Meter) -> None:
        super().__init__(per_minute)
        self._meter = meter

    def take(self) -> None:
        self._meter.take(self.stopped)
        try:
            super().take()
        except (StoppedError, CapReachedError):
            self._meter.put_back()
            raise
