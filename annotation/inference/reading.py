"""Reading what an OpenAI-compatible endpoint sends, whole or in pieces, believing nothing about its form."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping
from typing import Any, Final

from annotation.inference.answers import Completion, ends_in_error, storable, wordless
from annotation.inference.reasoning import without_reasoning

_PLAIN: Final = re.compile(r"[\w .:/@+-]{0,120}")
_REMOVED: Final = "[key removed]"
_LONGEST_NUMBER: Final = 18

# What may follow the name that was asked for: a date, a version, a revision or a tag.
_SUFFIX: Final = re.compile(
    r"[-@:_](?:latest|stable|main|v?\d{1,2}\.\d{1,2}(?:\.\d{1,2})?|v\d{1,2}|0\d{2}|\d{4}|\d{6}|\d{8}|\d{4}-\d{2}-\d{2}|\d{2}-\d{2}"
    r"|\d{2}-\d{4})|@[\w.-]{1,60}|:[\w.-]{1,40}"
)


class UnreadableError(Exception):
    """An answer that is not what the interface promises."""


class SaidErrorError(Exception):
    """The server says, in a body that looks like an answer's, that it failed; `code` as it gives it, or empty."""

    def __init__(self, code: str = "") -> None:
        super().__init__()
        self.code = code


def read_json(content: bytes) -> object:
    """Read a body.

    Raises
    ------
    UnreadableError
        It is no JSON.
    """
    try:
        # A count of thousands of digits must not cost the answer beside it: Python refuses to read such a number.
        return json.loads(content, parse_int=lambda digits: int(digits) if len(digits) <= _LONGEST_NUMBER else -1)
    except ValueError:
        raise UnreadableError from None


class Answer:
    """An answer as it is gathered from one body or from the pieces of a stream."""

    def __init__(self) -> None:
        self.finish: object = None
        self._text: list[str] = []
        self._refusal: list[str] = []
        self._reasoning = 0
        self._tool_call = False
        self._told = False
        self._usage: Mapping[str, Any] = {}
        self._model: object = ""
        self._fingerprint: object = ""

    def add(self, body: object, *, part: str) -> None:
        """Add a whole body (`part` is `message`) or one piece of a stream (`delta`).

        Raises
        ------
        UnreadableError
            It has not the form of an answer.
        SaidErrorError
            It tells of an error.
        """
        if not isinstance(body, dict):
            raise UnreadableError
        if body.get("error") and not body.get("choices"):
            raise SaidErrorError(_code(body["error"]))
        if isinstance(body.get("usage"), dict):
            self._usage = body["usage"]
        self._model = body.get("model") or self._model
        self._fingerprint = body.get("system_fingerprint") or self._fingerprint
        choices = body.get("choices")
        if part == "delta" and not choices:
            return  # a piece that only counts tokens
        choice = _first(choices, part)
        if choice is None:
            if part == "delta" and isinstance(choices, list) and all(isinstance(one, dict) for one in choices):
                return  # another choice's piece
            raise UnreadableError
        self._add_choice(choice, part)

    def _add_choice(self, choice: Mapping[str, Any], part: str) -> None:
        if choice.get("error") or ends_in_error(choice.get("finish_reason")):
            raise SaidErrorError(_code(choice.get("error")))
        message = choice.get(part)
        if message is None and part == "delta":
            message = {}
        if not isinstance(message, dict):
            raise UnreadableError
        self.finish = choice.get("finish_reason") or self.finish
        text, thought = _content(message.get("content"))
        self._told = self._told or message.get("content") is not None
        self._text.append(text)
        apart = next(
            (value for name in ("reasoning_content", "reasoning") if isinstance(value := message.get(name), str)), ""
        )
        self._reasoning += thought + len(apart)
        if isinstance(message.get("refusal"), str):
            self._refusal.append(message["refusal"])
        self._tool_call = self._tool_call or bool(message.get("tool_calls") or message.get("function_call"))

    def completion(self, *, asked_model: str, key: str) -> Completion:
        """Give the answer, without its reasoning and without the key, should the server have sent that back."""

        def clean(text: str) -> str:
            return text.replace(key, _REMOVED) if key else text

        refusal = "".join(self._refusal)
        raw = clean("".join(self._text) or refusal)
        apart = without_reasoning(raw)
        model = clean(self._model) if isinstance(self._model, str) else ""
        return Completion(
            text=apart.answer,
            finish_reason="content_filter" if refusal else _plain(self.finish, clean),
            tokens_in=_count(self._usage.get("prompt_tokens")),
            tokens_out=_count(self._usage.get("completion_tokens")),
            model=_plain(self._model, clean),
            fingerprint=_plain(self._fingerprint, clean),
            reasoning=self._reasoning + apart.reasoning,
            unfinished_reasoning=apart.unclosed,
            raw_digest=digest_of(raw),
            empty_because=self._why_empty(self._reasoning + apart.reasoning) if wordless(apart.answer) else "",
            other_model=is_other_model(asked_model, model),
        )

    def _why_empty(self, reasoning: int) -> str:
        if self._tool_call:
            return "a tool call instead of words"
        if reasoning:
            return "reasoning and no answer"
        return "nothing but blanks, invisible characters or quotation marks" if self._told else "no content"


def digest_of(text: str) -> str:
    """Give the SHA-256 of a text as it came, in the form in which it can be encoded at all."""
    return hashlib.sha256(storable(text).encode()).hexdigest()


def is_other_model(asked: str, reported: str) -> bool:
    """Say whether an endpoint names another model than the one that was asked for.

    The same are: equal names, letter case and folders before the name aside; and the asked name with a version, a date,
    a revision or a tag behind it, or without the one it was asked with.
    """
    if not reported.strip():
        return False
    one, other = (name.strip().casefold().rstrip("/").rpartition("/")[2] for name in (asked, reported))
    if one == other:
        return False
    shorter, longer = sorted((one.removesuffix("-latest"), other.removesuffix("-latest")), key=len)
    return not (
        shorter and longer.startswith(shorter) and (longer == shorter or _SUFFIX.fullmatch(longer[len(shorter) :]))
    )


def _first(choices: object, part: str) -> Mapping[str, Any] | None:
    """Give the choice of index 0: one was asked for, and what else a server sends is not mixed into it."""
    if not isinstance(choices, list):
        return None
    found = [one for one in choices if isinstance(one, dict)]
    alone = found if part == "message" and len(found) == 1 else []
    return next((one for one in found if one.get("index") in (0, None)), alone[0] if alone else None)


def _content(content: object) -> tuple[str, int]:
    """Give the text of a message and the length of reasoning in it: a string, nothing, or a list of parts."""
    if content is None:
        return "", 0
    if isinstance(content, str):
        return content, 0
    if not isinstance(content, list):
        raise UnreadableError
    text, thought = "", 0
    for part in content:
        kind = part.get("type") if isinstance(part, dict) else None
        if kind in ("text", "output_text") and isinstance(part.get("text"), str):
            text += part["text"]
        elif kind in ("thinking", "reasoning"):
            thought += max(1, len(str(part.get(kind) or "")))
        else:
            raise UnreadableError
    return text, thought


def _code(error: object) -> str:
    code = error.get("code") if isinstance(error, dict) else ""
    return str(code) if isinstance(code, (str, int)) else ""


def _plain(value: object, clean: Callable[[str], str]) -> str:
    text = clean(value) if isinstance(value, str) else ""
    return text if _PLAIN.fullmatch(text) else ""


def _count(value: object) -> int | None:
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 10**9 else None
