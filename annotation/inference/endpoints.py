"""Systems behind an OpenAI-compatible endpoint, hosted or on a server of one's own.

Such servers accept more than they do (they ignore a seed, call a cut answer finished, send an error page with status
200), so each answer is read with our own eyes, and what was asked is kept beside what came back. Nothing a server sends
is ever repeated in an error message.
"""

from __future__ import annotations

import calendar
import email.utils
import math
import re
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple

import httpx2
import openai

from annotation.inference.addresses import AddressRefusedError, Resolver, checked_addresses, parse_address
from annotation.inference.answers import Completion, Failure, FailureKind, Outcome
from annotation.inference.generator import CapReachedError, Decoding, GenerationError, Pace, Patience, StoppedError
from annotation.inference.prompts import Prompt
from annotation.inference.reading import Answer, SaidErrorError, UnreadableError, read_json
from annotation.inference.transport import CompressedError, GuardedTransport, TooLongError, quiet_libraries

_FATAL_CODES: Final = {"model_not_found", "model_decommissioned", "insufficient_quota", "invalid_api_key"}
_TOO_LONG_CODES: Final = {"context_length_exceeded", "string_above_max_length"}
_REDIRECTS: Final = {301, 302, 303, 307, 308}

_MOST_CHANGES: Final = 8
"""Requests by which one prompt may find out what the server does not take; they use up no attempt."""


class _Trouble(NamedTuple):
    """Why there is no answer, whether and when to try again, and whether the request was changed for that."""

    failure: Failure
    again: bool = True
    wait: float | None = None
    changed: bool = False


class Endpoint:
    """One system at one OpenAI-compatible endpoint.

    Parameters
    ----------
    base_url, model
        Where, and under which name. The address is checked here and again whenever a connection is made.
    key
        The key itself, from the environment; it stays in this object.
    stream
        Ask for the answer piece by piece. An answer that does not end properly counts as cut off, never as an answer.
    seconds
        For one request as a whole.
    allow_private
        Whether private addresses may be called: the operator's choice.
    """

    batch_size = 1

    def __init__(
        self,
        *,
        base_url: str,
        model: str,
        key: str = "",
        decoding: Decoding = Decoding(),  # noqa: B008 - frozen
        patience: Patience = Patience(),  # noqa: B008 - frozen
        pace: Pace | None = None,
        concurrency: int = 4,
        seconds: float = 120.0,
        stream: bool = False,
        allow_private: bool = False,
        resolver: Resolver | None = None,
    ) -> None:
        try:
            self._address = parse_address(base_url)
            checked_addresses(self._address, allow_private=allow_private, resolver=resolver)
        except AddressRefusedError as refused:
            raise GenerationError(str(refused)) from None
        if not model or len(model) > 200 or any(ord(char) < 0x20 for char in model):
            raise GenerationError("Name the model as the endpoint knows it.")
        self.concurrency = concurrency
        self._model = model
        self._key = key
        self._decoding = decoding
        self._patience = patience
        self.pace = pace or Pace()
        self._stream = stream
        self._lock = threading.Lock()
        self._adapted: set[str] = set()
        self._guessed: list[str] = []
        self._answered = 0
        quiet_libraries()
        self._client = self._make_client(seconds, allow_private, resolver)

    def _make_client(self, seconds: float, allow_private: bool, resolver: Resolver | None) -> openai.OpenAI:
        transport = GuardedTransport(
            origin=self._address,
            credentials=f"Bearer {self._key}" if self._key else "",
            allow_private=allow_private,
            seconds=seconds,
            resolver=resolver,
        )
        timeout = httpx2.Timeout(seconds, connect=min(seconds, 15.0))
        return openai.OpenAI(
            base_url=self._address.url,
            api_key="set-by-the-transport",
            admin_api_key="",
            max_retries=0,
            timeout=timeout,
            http_client=httpx2.Client(
                transport=transport, timeout=timeout, follow_redirects=False, trust_env=False, headers={}
            ),
        )

    @property
    def asked(self) -> dict[str, Any]:
        return {
            "backend": "endpoint",
            "host": self._address.host,
            "model": self._model,
            "temperature": self._decoding.temperature,
            "max_new_tokens": self._decoding.max_new_tokens,
            "seed": self._decoding.seed,
            "stream": self._stream,
        }

    @property
    def requests(self) -> int:
        return self.pace.requests

    def prepare(self) -> None:
        """Nothing to make ready: the address was checked when this was made."""

    def stop(self) -> None:
        self.pace.stopped.set()

    def close(self) -> None:
        self._client.close()

    def complete(self, prompts: Sequence[Prompt]) -> list[Outcome]:
        return [self._ask(prompt) for prompt in prompts]

    def _ask(self, prompt: Prompt) -> Outcome:
        sent = failed = 0
        trouble = _Trouble(Failure("unreachable", "It was not asked."))
        try:
            while failed < self._patience.attempts and sent - failed < _MOST_CHANGES:
                self.pace.take()
                sent += 1
                result = self._try_safely(prompt)
                if isinstance(result, Completion):
                    with self._lock:
                        self._answered += 1
                    return Outcome(result, sent, tuple(sorted(self._adapted)))
                trouble = result
                if trouble.changed:
                    continue
                failed += 1
                if not trouble.again:
                    break
                if failed < self._patience.attempts:
                    self._wait(failed, trouble)
        except (StoppedError, CapReachedError):
            return Outcome(None, sent)
        return Outcome(trouble.failure, sent)

    def _wait(self, attempt: int, trouble: _Trouble) -> None:
        asked, longest = trouble.wait, self._patience.longest_wait
        if asked is not None and asked > longest:
            raise GenerationError(
                f"The endpoint asks to wait {asked:.0f} s, more than the {longest:.0f} s allowed. "
                "Run again later: what was answered is kept."
            )
        seconds = self._patience.wait(attempt, asked=asked)
        # Whatever the status: a server that says when to come back says it to all.
        if asked is not None or trouble.failure.kind == "rate_limited":
            self.pace.pause(seconds)
        self.pace.sleep(seconds)

    def _try_safely(self, prompt: Prompt) -> Completion | _Trouble:
        """Ask once; whatever one odd answer brings about costs that answer, not the run."""
        try:
            return self._try(prompt, frozenset(self._adapted))
        except (GenerationError, StoppedError, CapReachedError):
            raise
        except Exception as error:
            name = type(error).__name__
        return _Trouble(Failure("unreadable", f"The answer was not what the interface promises ({name})."))

    def _try(self, prompt: Prompt, sent_with: frozenset[str]) -> Completion | _Trouble:
        refused: openai.APIStatusError | None = None
        broken: BaseException | None = None
        said = ""
        try:
            return self._streamed(prompt) if self._stream else self._whole(prompt)
        except openai.APIStatusError as error:
            refused = error
        except (openai.APITimeoutError, httpx2.TimeoutException):
            return _Trouble(Failure("timeout", "No whole answer within the time for a request."))
        except openai.APIConnectionError as error:
            broken = error.__cause__
        except httpx2.TransportError as error:
            broken = error
        except SaidErrorError as error:
            said = error.code
        except (UnreadableError, openai.APIResponseValidationError):
            return _Trouble(Failure("unreadable", "The answer was not what the interface promises."))
        except openai.APIError as error:  # in the middle of a stream
            said = error.code if isinstance(error.code, str) else ""
        # Outside the except blocks: an error raised in them would carry the library's, which quotes the server.
        if refused is not None:
            return self._status(refused, sent_with)
        return self._connection(broken) if broken is not None else self._said(said)

    def _said(self, code: str) -> _Trouble:
        """The server failed in what should have been an answer, with status 200."""
        self._stop_if_hopeless(200, code)
        if code == "429":
            return _Trouble(Failure("rate_limited", "HTTP 200, with an error 429 instead of an answer."))
        return _Trouble(Failure("server_error", "HTTP 200, with an error instead of an answer."))

    def _request(self, prompt: Prompt) -> dict[str, Any]:
        limit = "max_completion_tokens" if "max_tokens" in self._adapted else "max_tokens"
        request: dict[str, Any] = {
            "model": self._model,
            "messages": [dict(message) for message in prompt.messages],
            "temperature": self._decoding.temperature,
            limit: self._decoding.max_new_tokens,
        }
        if self._decoding.seed is not None and "seed" not in self._adapted:
            request["seed"] = self._decoding.seed
        return request

    def _whole(self, prompt: Prompt) -> Completion:
        raw = self._client.chat.completions.with_raw_response.create(**self._request(prompt))
        answer = Answer()
        answer.add(read_json(raw.http_response.content), part="message")
        return answer.completion(asked_model=self._model, key=self._key)

    def _streamed(self, prompt: Prompt) -> Completion:
        answer = Answer()
        options: dict[str, Any] = (
            {} if "stream_options" in self._adapted else {"stream_options": {"include_usage": True}}
        )
        with self._client.chat.completions.create(**self._request(prompt), **options, stream=True) as chunks:
            for chunk in chunks:
                # The library builds pieces without checking them; as plain data they are read like a whole answer.
                answer.add(chunk.to_dict(warnings=False), part="delta")
        if answer.finish is None:
            raise httpx2.RemoteProtocolError("The stream ended without an end.")
        return answer.completion(asked_model=self._model, key=self._key)

    def _connection(self, cause: BaseException) -> _Trouble:
        if isinstance(cause, AddressRefusedError):
            raise GenerationError(str(cause))
        if isinstance(cause, CompressedError):
            return _Trouble(Failure("compressed", "The answer is compressed, which was not asked for."), again=False)
        if isinstance(cause, TooLongError):
            return _Trouble(Failure("too_long", "The answer is longer than 2 MB."), again=False)
        kind: FailureKind = "unreachable" if isinstance(cause, httpx2.ConnectError) else "cut_off"
        detail = "No connection." if kind == "unreachable" else "The connection ended before the answer did."
        return _Trouble(Failure(kind, detail))

    def _status(self, error: openai.APIStatusError, sent_with: frozenset[str]) -> _Trouble:
        status = error.status_code
        code = error.code if isinstance(error.code, str) else ""
        self._stop_if_hopeless(status, code)
        wait = retry_after(error.response.headers)
        if status == 429:
            return _Trouble(Failure("rate_limited", "HTTP 429"), wait=wait)
        if status in (408, 409, 425) or status >= 500:
            return _Trouble(Failure("server_error", f"HTTP {status}"), wait=wait)
        if status < 400:
            return _Trouble(Failure("unreadable", f"HTTP {status}, which is no answer."))
        if status == 413 or code in _TOO_LONG_CODES:
            return _Trouble(
                Failure("too_long", f"HTTP {status}: the prompt is longer than the model takes."), again=False
            )
        rejected = Failure("rejected", f"HTTP {status}")
        if status in (400, 422) and self._adapt(error.param if isinstance(error.param, str) else "", sent_with):
            return _Trouble(rejected, changed=True)
        return _Trouble(rejected, again=False)

    def _stop_if_hopeless(self, status: int, code: str) -> None:
        reason = ""
        if status in _REDIRECTS:
            reason = "answers with a redirect, which is not followed: set the base URL to the address it should go to"
        elif code in _FATAL_CODES:
            reason = f"answers with the code {code}"
        elif status == 401 or (status == 403 and not self._answered):
            reason = "refuses the key, or asks for one"
        elif status == 402:
            reason = "asks for payment"
        elif status in (404, 405, 410):
            reason = "does not know the model or the path; check the base URL and the model's name"
        if reason:
            raise GenerationError(f"{self._address.host} {reason} (HTTP {status}).")

    def _adapt(self, parameter: str, sent_with: frozenset[str]) -> bool:
        """Leave out, or rename, what the server does not take; without its word only before the first answer."""
        with self._lock:
            if self._adapted != sent_with:  # another thread met the same objection while this one waited
                return True
            if parameter == "temperature":
                raise GenerationError(f"{self._address.host} does not accept temperature {self._decoding.temperature}.")
            named = parameter.split(".")[0]
            chosen = named if named in self._adaptable() else ""
            if not (parameter or self._answered):
                chosen = self._next_guess()
            if chosen:
                self._adapted.add(chosen)
            return bool(chosen)

    def _adaptable(self) -> list[str]:
        """What the request could go without, or call otherwise, and does not yet."""
        sent = {"seed": self._decoding.seed is not None, "stream_options": self._stream, "max_tokens": True}
        return [name for name, is_sent in sent.items() if is_sent and name not in self._adapted]

    def _next_guess(self) -> str:
        """The server does not say what it objects to: try one thing after another, each alone, and none for good."""
        untried = [name for name in self._adaptable() if name not in self._guessed]
        self._adapted.difference_update(self._guessed)
        if not untried:
            self._guessed.clear()
            return ""
        self._guessed.append(untried[0])
        return untried[0]


def retry_after(headers: Mapping[str, str], now: Callable[[], float] = time.time) -> float | None:
    """Read how long a server asks to wait: `retry-after-ms`, or `retry-after` in seconds or as a date.

    None where it does not ask, or where what it says is neither. A number too large to be a wait is infinite.
    """
    for name, scale in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        text = headers.get(name, "").strip()
        if re.fullmatch(r"\d+(\.\d*)?", text, re.ASCII):
            return float(text) * scale if len(text) < 20 else math.inf
    date = email.utils.parsedate_tz(headers.get("retry-after", "")[:60])
    if date is None:
        return None
    try:
        # Reckoned by hand: for the year 1, or a zone of a million hours, the library's own way fails.
        return max(0.0, calendar.timegm((*date[:6], 0, 1, 0)) - (date[9] or 0) - now())
    except (ValueError, OverflowError):
        return None
