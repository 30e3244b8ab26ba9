"""Systems behind an OpenAI-compatible endpoint, hosted or on a server of one's own.

Such servers accept more than they do (they ignore a seed, call a cut answer finished, send an error page with status
200), so each answer is read with our own eyes, and what was asked is kept beside what came back. Nothing a server sends
is ever repeated in an error message.
"""

from __future__ import annotations

import email.utils
import json
import re
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import httpx2
import openai

from annotation.inference.addresses import AddressRefusedError, Resolver, checked_addresses, parse_address
from annotation.inference.answers import Completion, Failure, FailureKind, Outcome
from annotation.inference.generator import CapReachedError, Decoding, GenerationError, Pace, Patience, StoppedError
from annotation.inference.prompts import Prompt
from annotation.inference.transport import GuardedTransport

_FATAL_CODES: Final = {"model_not_found", "model_decommissioned", "insufficient_quota", "invalid_api_key"}
_PLAIN: Final = re.compile(r"[\w .:/@+-]{0,120}")
_REMOVED: Final = "[key removed]"


class _UnreadableError(Exception):
    """An answer that is not what the interface promises."""


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
        self._pace = pace or Pace()
        self._stream = stream
        self._lock = threading.Lock()
        self._adapted: set[str] = set()
        self._guessed: list[str] = []
        self._answered = 0
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
        return self._pace.requests

    def stop(self) -> None:
        self._pace.stopped.set()

    def close(self) -> None:
        self._client.close()

    def complete(self, prompts: Sequence[Prompt]) -> list[Outcome]:
        return [self._ask(prompt) for prompt in prompts]

    def _ask(self, prompt: Prompt) -> Outcome:
        attempt, failure = 0, Failure("unreachable", "It was not asked.")
        try:
            while attempt < self._patience.attempts:
                self._pace.take()
                attempt += 1
                outcome = self._try(prompt, frozenset(self._adapted))
                if isinstance(outcome, Completion):
                    with self._lock:
                        self._answered += 1
                    return Outcome(outcome, attempt, tuple(sorted(self._adapted)))
                if outcome is None:  # the request was changed to what the server accepts
                    continue
                failure, retry, wait = outcome
                if not retry:
                    break
                if attempt < self._patience.attempts:
                    self._wait(attempt, failure, wait)
        except (StoppedError, CapReachedError):
            return Outcome(None, attempt)
        return Outcome(failure, attempt)

    def _wait(self, attempt: int, failure: Failure, asked: float | None) -> None:
        if asked is not None and asked > self._patience.longest_wait:
            raise GenerationError(
                f"The endpoint asks to wait {asked:.0f} s, more than the {self._patience.longest_wait:.0f} s allowed. "
                "Run again later: what was answered is kept."
            )
        seconds = self._patience.wait(attempt, asked=asked)
        if failure.kind == "rate_limited":
            self._pace.pause(seconds)
        self._pace.sleep(seconds)

    def _try(self, prompt: Prompt, sent_with: frozenset[str]) -> Completion | tuple[Failure, bool, float | None] | None:
        """Ask once: an answer, or a failure with whether and when to try again, or None after adapting the request."""
        refused: openai.APIStatusError | None = None
        broken: BaseException | None = None
        try:
            return self._streamed(prompt) if self._stream else self._whole(prompt)
        except openai.APIStatusError as error:
            refused = error
        except (openai.APITimeoutError, httpx2.TimeoutException):
            return Failure("timeout", "No whole answer within the time for a request."), True, None
        except openai.APIConnectionError as error:
            broken = error.__cause__
        except httpx2.TransportError as error:
            broken = error
        except (_UnreadableError, openai.APIError):
            return Failure("unreadable", "The answer was not what the interface promises."), True, None
        # Outside the except blocks: an error raised in them would carry the library's, which quotes the server.
        return self._status(refused, sent_with) if refused is not None else self._connection(broken)

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
        try:
            body = json.loads(raw.http_response.content)
        except ValueError:
            raise _UnreadableError from None
        return self._read(body)

    def _read(self, body: object) -> Completion:
        choices = body.get("choices") if isinstance(body, dict) else None
        choice = choices[0] if isinstance(choices, list) and choices else None
        message = choice.get("message") if isinstance(choice, dict) else None
        if not isinstance(body, dict) or not isinstance(choice, dict) or not isinstance(message, dict):
            raise _UnreadableError
        content = message.get("content")
        refusal = message.get("refusal")
        if content is None:
            content = refusal if isinstance(refusal, str) else ""
        if not isinstance(content, str):
            raise _UnreadableError
        usage = body.get("usage")
        return self._completion(
            content,
            "content_filter" if refusal else choice.get("finish_reason"),
            usage if isinstance(usage, dict) else {},
            body.get("model"),
            body.get("system_fingerprint"),
        )

    def _streamed(self, prompt: Prompt) -> Completion:
        pieces: list[str] = []
        finish: object = None
        usage: dict[str, Any] = {}
        model: object = ""
        options: dict[str, Any] = (
            {} if "stream_options" in self._adapted else {"stream_options": {"include_usage": True}}
        )
        with self._client.chat.completions.create(**self._request(prompt), **options, stream=True) as chunks:
            try:
                for chunk in chunks:
                    model = chunk.model or model
                    if chunk.usage is not None:
                        usage = chunk.usage.model_dump()
                    for choice in chunk.choices or []:
                        pieces.append(choice.delta.content or "" if choice.delta else "")
                        finish = choice.finish_reason or finish
            except (ValueError, AttributeError, TypeError):
                # The library builds chunks without checking them, so a wrong one fails wherever it is first used.
                raise _UnreadableError from None
        if finish is None:
            raise httpx2.RemoteProtocolError("The stream ended without an end.")
        return self._completion("".join(pieces), finish, usage, model, None)

    def _completion(
        self, text: str, finish: object, usage: Mapping[str, Any], model: object, fingerprint: object
    ) -> Completion:
        return Completion(
            text=self._without_key(text),
            finish_reason=self._plain(finish),
            tokens_in=_count(usage.get("prompt_tokens")),
            tokens_out=_count(usage.get("completion_tokens")),
            model=self._plain(model),
            fingerprint=self._plain(fingerprint),
        )

    def _without_key(self, text: str) -> str:
        # A server that sends our own key back as its answer must not get it into the database.
        return text.replace(self._key, _REMOVED) if self._key else text

    def _plain(self, value: object) -> str:
        text = self._without_key(value) if isinstance(value, str) else ""
        return text if _PLAIN.fullmatch(text) else ""

    def _connection(self, cause: BaseException | None) -> tuple[Failure, bool, float | None]:
        if isinstance(cause, AddressRefusedError):
            raise GenerationError(str(cause))
        kind: FailureKind = "unreachable" if isinstance(cause, httpx2.ConnectError) else "cut_off"
        detail = "No connection." if kind == "unreachable" else "The connection ended before the answer did."
        return Failure(kind, detail), True, None

    def _status(
        self, error: openai.APIStatusError, sent_with: frozenset[str]
    ) -> tuple[Failure, bool, float | None] | None:
        status = error.status_code
        code = error.code if isinstance(error.code, str) else ""
        self._stop_if_hopeless(status, code)
        if status == 429:
            return Failure("rate_limited", "HTTP 429"), True, retry_after(error.response.headers)
        if status in (408, 409, 425) or status >= 500:
            return Failure("server_error", f"HTTP {status}"), True, retry_after(error.response.headers)
        if status in (400, 422) and self._adapt(error.param if isinstance(error.param, str) else "", sent_with):
            return None
        return Failure("rejected", f"HTTP {status}"), False, None

    def _stop_if_hopeless(self, status: int, code: str) -> None:
        reason = ""
        if 300 <= status < 400:
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
    """Read how long a server asks to wait: `retry-after-ms`, or `retry-after` in seconds or as a date."""
    for name, scale in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        text = headers.get(name, "").strip()
        if re.fullmatch(r"\d{1,9}(\.\d{1,6})?", text):
            return float(text) * scale
    try:
        date = email.utils.parsedate_to_datetime(headers.get("retry-after", ""))
    except (TypeError, ValueError):
        return None
    return max(0.0, date.timestamp() - now())


def _count(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 10**9 else None
