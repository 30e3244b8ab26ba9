"""When a system may be asked: how often a prompt is tried, how requests are spaced, and what ends a run."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass


class GenerationError(Exception):
    """A back end that cannot be used at all: the whole run stops. The message says why, and quotes no server."""


class NotReadyError(GenerationError):
    """A back end that could not be made ready (a model that cannot be loaded): nothing was asked, no request counts."""


class StoppedError(Exception):
    """The run is being stopped: nothing more is asked."""


class CapReachedError(Exception):
    """The number of requests that the run may make is used up."""


@dataclass(frozen=True)
class Patience:
    """How often and how long one prompt is tried.

    The wait before attempt k + 1 is `first_wait * 2^(k-1)`, at most `longest_wait`, times a random factor in [0.5, 1];
    a server that says Retry-After is given at least that long. One that asks for more than `longest_wait` ends the run.
    """

    attempts: int = 6
    first_wait: float = 1.0
    longest_wait: float = 120.0

    def wait(self, attempt: int, *, asked: float | None = None) -> float:
        """Give the seconds to wait after the attempt with this number (from 1)."""
        backoff = min(self.longest_wait, self.first_wait * 2.0 ** (attempt - 1)) * random.uniform(0.5, 1.0)
        return max(backoff, asked or 0.0)


class Pace:
    """Spaces the requests of one system over all its threads, counts them, and stops them at a cap.

    Parameters
    ----------
    per_minute
        The greatest rate, or None. Requests are evenly spaced, so no burst trips a limit counted in seconds.
    cap
        The greatest number of requests, repeats included, or None.
    """

    def __init__(
        self, per_minute: float | None = None, cap: int | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._gap = 60.0 / per_minute if per_minute else 0.0
        self._cap = cap
        self._clock = clock
        self._next = 0.0
        self._lock = threading.Lock()
        self.stopped = threading.Event()
        self.requests = 0

    def take(self) -> None:
        """Wait until a request may be made, and count it.

        No moment is promised ahead: whoever waits looks again when it has come, so that a pause which another thread's
        answer brought meanwhile holds for those too who were waiting already.

        Raises
        ------
        StoppedError
            The run is being stopped.
        CapReachedError
            The cap is used up.
        """
        while True:
            if self.stopped.is_set():
                raise StoppedError
            with self._lock:
                if self._cap is not None and self.requests >= self._cap:
                    raise CapReachedError
                now = self._clock()
                wait = self._next - now
                if wait <= 0:
                    self._next = now + self._gap
                    self.requests += 1
                    return
            self.stopped.wait(wait)

    def pause(self, seconds: float) -> None:
        """Let nobody ask for so long: the server said that it is too much."""
        with self._lock:
            self._next = max(self._next, self._clock() + seconds)

    def sleep(self, seconds: float) -> None:
        """Wait, unless the run is stopped meanwhile.

        Raises
        ------
        StoppedError
            The run is being stopped.
        """
        if self.stopped.wait(seconds):
            raise StoppedError
