"""One run: ask a system at the turns it was given, and keep every answer as it comes in.

Requests run on threads (or in batches, for a local model); this thread alone writes, one short transaction per answer,
so a kill loses at most what was under way. However a run ends (a cap, a cancellation, an error of ours), it waits for
what was asked, stores it, and counts it.
"""

from __future__ import annotations

import logging
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Any, Final

from annotation.inference.answers import Completion, Failure, Outcome, flags_of
from annotation.inference.generator import GenerationError, Generator
from annotation.inference.parameters import GenerationParameters
from annotation.inference.prompts import Prompt
from annotation.models import System
from annotation.workflow.answers import store
from annotation.workflow.jobs import LeaseLost
from annotation.workflow.leases import Lease
from annotation.workflow.ledger import Ledger, Meter, MeteredPace
from annotation.workflow.totals import Ended, GenerationSummary, Totals

log = logging.getLogger(__name__)

ProgressCallback = Callable[[int, int, str], None]
Prompts = Iterator[tuple[int, Prompt]]

WINDOW: Final = 256
"""Turns read at a time; a local model's batches are sorted by length within a window."""

LOOK_UP: Final = 0.5
"""Seconds after which the run looks up from waiting, to report and to hear of a cancellation."""

_HURRY: Final = 0.05
"""The same while a thread waits for leave to send its request."""


def tokens_guessed(prompt: Prompt) -> int:
    """Guess a prompt's tokens, rather too many: a token for three characters, and sixteen for the chat's frame."""
    return prompt.characters // 3 + 16


def case_of(prompt: Prompt) -> str:
    return f"case {prompt.case.number}, {prompt.case.recommendation}"


@dataclass
class _Asked:
    """A batch under way, and the tokens and dollars that it may cost at most."""

    keys: list[int]
    prompts: list[Prompt]
    tokens: int
    cost: float


class Run:
    """One run: keeps the back end busy, stores what comes in, minds the caps, and counts truthfully."""

    def __init__(
        self,
        *,
        given: GenerationParameters,
        generator: Generator,
        system: System,
        summary: GenerationSummary,
        ledger: Ledger,
        lease: Lease | None = None,
        progress: ProgressCallback | None = None,
        give_way_at: float | None = None,
        as_is: str = "",
    ) -> None:
        self._given = given
        self._generator = generator
        self._system = system
        self._summary = summary
        self._ledger = ledger
        self._lease = lease
        self._progress = progress
        self._give_way_at = give_way_at
        self._as_is = as_is
        self._meter = Meter(ledger)
        generator.pace = MeteredPace(given.per_minute, self._meter)
        self._running: dict[Future[list[Outcome]], _Asked] = {}
        self._arrived: deque[tuple[int, Prompt, Outcome, _Share]] = deque()
        self._failures_in_a_row = 0
        self._taken_over = False

    def over(self, prompts: Prompts) -> GenerationSummary:
        """Ask until no prompt is left or something ends the run.

        What a progress callback raises (a cancellation, a lost lease) is raised on after everything under way has come
        in and is stored; an interrupt from the keyboard and errors of ours end the run with a summary that says so.
        """
        began = time.monotonic()
        batches = self._batches(prompts)
        pool = ThreadPoolExecutor(max_workers=self._generator.concurrency, thread_name_prefix="generate")
        try:
            self._tell()
            while self._filled(pool, batches) or self._running:
                self._take_in(timeout=_HURRY if self._meter.starving else LOOK_UP)
                self._tell()
        except KeyboardInterrupt:
            self._end("interrupted", "It was interrupted.")
            self._drain()
        except BaseException as error:
            self._end("interrupted", "It was cancelled.")
            self._taken_over = isinstance(error, LeaseLost)
            self._drain()
            raise
        finally:
            pool.shutdown(wait=not self._running, cancel_futures=True)
            self._close(time.monotonic() - began)
        return self._summary

    # Ending -------------------------------------------------------------------------------------------------------

    def _end(self, ended: Ended, reason: str) -> None:
        if self._summary.ended == "complete":
            self._summary.ended, self._summary.reason = ended, reason

    def _drain(self) -> None:
        """Wait for what was asked and keep it: it is paid for. Nothing but a second interrupt ends the waiting."""
        self._generator.stop()
        try:
            self._store_arrived()
            while self._running:
                self._take_in(timeout=LOOK_UP)
                if self._lease is not None:
                    self._keep_trying(self._lease.renew)
        except KeyboardInterrupt:
            under_way = sum(len(asked.keys) for asked in self._running.values())
            self._summary.reason += f" {under_way} requests under way were not waited for."

    def _broke(self, what: str, error: BaseException) -> None:
        """End the run for an error of ours, without a word of the error's: a server's answer may stand in it."""
        trace = "".join(traceback.format_tb(error.__traceback__))
        log.error("generation_broke: %s, %s\n%s", what, type(error).__name__, trace)
        self._end(
            "stopped",
            f"An unexpected error ({type(error).__name__}, {what}) ended the run; the log of the worker has its trace.",
        )
        self._generator.stop()

    def _keep_trying(self, act: Callable[[], Any]) -> None:
        try:
            act()
        except Exception as error:
            self._broke("keeping the totals", error)

    def _close(self, seconds: float) -> None:
        correction = self._meter.settle(self._generator.requests)
        correction.seconds = round(seconds, 3)
        self._summary.add(Totals(seconds=correction.seconds))
        self._keep_trying(lambda: self._ledger.book(correction))
        self._summary.requests += self._generator.requests
        if self._taken_over:  # how it ended is the other worker's to say
            return
        told = self._summary.as_dict()
        if self._summary.ended == "given way":  # it has not ended
            told = {name: value for name, value in told.items() if name not in ("ended", "outcome", "sentence")}
        self._keep_trying(lambda: self._ledger.close(told))

    # Asking -------------------------------------------------------------------------------------------------------

    def _batches(self, prompts: Prompts) -> Iterator[list[tuple[int, Prompt]]]:
        size = self._generator.batch_size
        while window := list(islice(prompts, max(WINDOW, size))):
            if size > 1:  # equal lengths pad little
                window.sort(key=lambda one: one[1].characters)
            for start in range(0, len(window), size):
                yield window[start : start + size]

    def _filled(self, pool: ThreadPoolExecutor, batches: Iterator[list[tuple[int, Prompt]]]) -> bool:
        try:
            return self._fill(pool, batches)
        except GenerationError as error:
            self._end("stopped", str(error))
        except Exception as error:
            self._broke("preparing what to ask", error)
        return False

    def _fill(self, pool: ThreadPoolExecutor, batches: Iterator[list[tuple[int, Prompt]]]) -> bool:
        """Submit until every thread has work. False: nothing more will be submitted."""
        self._meter.top_up(self._spare())
        while self._summary.ended == "complete" and len(self._running) < self._generator.concurrency:
            if self._give_way_at is not None and time.monotonic() > self._give_way_at:
                self._end("given way", "")
                self._generator.stop()
                return False
            batch = next(batches, None)
            if batch is None:
                return False
            asked = _Asked([key for key, _ in batch], [prompt for _, prompt in batch], 0, 0.0)
            asked.tokens = sum(tokens_guessed(one) + self._given.max_new_tokens for one in asked.prompts)
            asked.cost = sum(
                self._given.cost(tokens_guessed(one), self._given.max_new_tokens) or 0.0 for one in asked.prompts
            )
            if not self._affordable(asked):
                return False
            self._ledger.book(Totals(), tokens=asked.tokens, cost=asked.cost)
            self._running[pool.submit(self._generator.complete, asked.prompts)] = asked
        return self._summary.ended == "complete"

    def _spare(self) -> int:
        """Requests kept ready for repeats: one for each prompt that is under way."""
        return sum(len(asked.keys) for asked in self._running.values())

    def _affordable(self, asked: _Asked) -> bool:
        """Whether the caps hold even if everything under way and this batch cost the most they can."""
        given, running, summary = self._given, self._running.values(), self._summary
        spent = summary.tokens_in + summary.tokens_out + summary.tokens_assumed
        tokens = spent + sum(one.tokens for one in running) + asked.tokens
        cost = (summary.cost or 0.0) + summary.cost_assumed + sum(one.cost for one in running) + asked.cost
        if given.cap_tokens is not None and tokens > given.cap_tokens:
            self._end("capped", f"The cap of {given.cap_tokens} tokens would be passed.")
        elif given.cap_cost is not None and cost > given.cap_cost:
            self._end("capped", f"The cap of {given.cap_cost:g} US dollars would be passed.")
        else:
            self._meter.top_up(self._spare() + len(asked.keys))
            if self._meter.used_up:
                self._end_at_requests()
        return self._summary.ended == "complete"

    def _end_at_requests(self) -> None:
        self._end("capped", f"The cap of {self._given.cap_requests} requests is reached.")

    # Taking in ----------------------------------------------------------------------------------------------------

    def _take_in(self, *, timeout: float) -> None:
        """Store what has come in. One that cannot be stored ends the run, and the others are stored all the same."""
        finished, _ = wait(self._running, timeout=timeout, return_when=FIRST_COMPLETED)
        for future in finished:
            asked = self._running[future]
            share = _Share(asked)
            try:
                outcomes = future.result()
            except GenerationError as error:
                self._end("stopped", str(error))
                self._generator.stop()
                outcomes = []
            except Exception as error:
                self._broke("asking", error)
                outcomes = []
            arrived = zip(asked.keys, asked.prompts, outcomes, strict=False)
            self._arrived.extend((*one, share) for one in arrived)
            del self._running[future]
            self._store_arrived()
            self._keep_trying(partial(self._ledger.book, Totals(), **share.rest()))

    def _store_arrived(self) -> None:
        while self._arrived:
            key, prompt, outcome, share = self._arrived[0]
            try:
                self._take(key, prompt, outcome, share)
            except Exception as error:
                self._broke("storing an answer", error)
            self._arrived.popleft()

    def _take(self, key: int, prompt: Prompt, outcome: Outcome, share: _Share) -> None:
        repeats = max(0, outcome.attempts - 1)
        if outcome.result is None:
            if self._meter.used_up:
                self._end_at_requests()
            self._ledger.book(Totals(repeats=repeats))
            self._summary.repeats += repeats
            return
        flags = self._flags(outcome.result)
        spent = self._spent(prompt, outcome.result)
        spent.repeats = repeats
        came_to = self._came_to(prompt, outcome.result, flags)
        freed = share.one()

        def book(stored: bool) -> None:
            whole = Totals()
            whole.add(spent)
            if stored:
                whole.add(came_to)
            self._ledger.book(whole, **freed)

        stored = store(self._system, key, prompt, outcome, flags, self._record(prompt, outcome), book=book)
        self._summary.add(spent)
        self._summary.left -= 1
        if stored:
            self._summary.add(came_to)
            self._mind(outcome)
        else:
            self._summary.known += 1

    def _flags(self, result: Completion | Failure) -> tuple[str, ...]:
        if isinstance(result, Failure):
            return ()
        return flags_of(result, limit=self._given.max_new_tokens, language=self._given.language)

    def _record(self, prompt: Prompt, outcome: Outcome) -> dict[str, Any]:
        """What was asked beside what came back: servers accept more than they do."""
        asked = {**self._generator.asked, "history": self._given.history, "case": prompt.case.number}
        if self._as_is:
            asked["as_is"] = self._as_is
        came_back: dict[str, Any] = {}
        if isinstance(outcome.result, Completion):
            came_back = {
                "finish_reason": outcome.result.finish_reason,
                "model": outcome.result.model,
                "fingerprint": outcome.result.fingerprint,
                "not_accepted": list(outcome.adapted),
                **outcome.result.facts,
            }
            cost = self._given.cost(outcome.result.tokens_in, outcome.result.tokens_out)
            return {"asked": asked, "came_back": came_back, "cost": cost}
        return {"asked": asked, "came_back": came_back, "cost": None}

    def _spent(self, prompt: Prompt, result: Completion | Failure) -> Totals:
        """What was spent, also on an answer that someone else's had made superfluous."""
        if isinstance(result, Failure):
            return Totals()
        spent = Totals(tokens_in=result.tokens_in or 0, tokens_out=result.tokens_out or 0)
        spent.cost = self._given.cost(result.tokens_in, result.tokens_out)
        if result.tokens_in is None or result.tokens_out is None:
            guessed_in, guessed_out = tokens_guessed(prompt), len(result.text) // 3
            spent.answers_without_token_counts = 1
            spent.tokens_assumed = guessed_in + guessed_out
            spent.cost_assumed = self._given.cost(guessed_in, guessed_out) or 0.0
        return spent

    def _came_to(self, prompt: Prompt, result: Completion | Failure, flags: Sequence[str]) -> Totals:
        came_to = Totals()
        came_to.cases[case_of(prompt)] += 1
        if isinstance(result, Failure):
            came_to.failed = 1
            came_to.failures[result.kind] += 1
        else:
            came_to.answered = int("empty" not in flags)
            came_to.empty = int("empty" in flags)
            came_to.flags.update(flags)
        return came_to

    def _mind(self, outcome: Outcome) -> None:
        """Give up when nothing works any more, and remember what the endpoint does not take."""
        if isinstance(outcome.result, Failure):
            self._failures_in_a_row += 1
            if self._failures_in_a_row >= self._given.give_up_after:
                kind = outcome.result.kind
                self._end("stopped", f"{self._failures_in_a_row} turns in a row failed, the last with {kind}.")
            return
        self._failures_in_a_row = 0
        self._summary.adapted = sorted({*self._summary.adapted, *outcome.adapted})

    def _tell(self) -> None:
        if self._lease is not None and not self._lease.renew():
            raise LeaseLost
        if self._progress is not None:
            summary = self._summary
            message = f"{summary.answered} answered"
            message += f", {summary.empty} empty" if summary.empty else ""
            message += f", {summary.failed} failed" if summary.failed else ""
            message += f", {summary.repeats} repeats" if summary.repeats else ""
            self._progress(summary.answered + summary.empty, summary.turns - summary.known, message)


class _Share:
    """What a batch under way may cost at most, given free answer by answer."""

    def __init__(self, asked: _Asked) -> None:
        self._tokens, self._cost = asked.tokens, asked.cost
        self._answers = len(asked.keys)

    def one(self) -> dict[str, Any]:
        tokens, cost = self._tokens // max(1, self._answers), self._cost / max(1, self._answers)
        self._answers -= 1
        self._tokens -= tokens
        self._cost -= cost
        return {"tokens": -tokens, "cost": -cost}

    def rest(self) -> dict[str, Any]:
        return {"tokens": -self._tokens, "cost": -self._cost}
