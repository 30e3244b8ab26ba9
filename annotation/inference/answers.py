"""What came back from a system, and what is conspicuous about it. Nothing is dropped here: flags only say.

The checks of words are rules of thumb, made for English answers of a recommender; docs/generation.md says what each one
catches and misses. A flag is a reason to look, not a judgment.
"""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from typing import Any, Final, Literal

from annotation.inference.errortexts import is_error_text
from annotation.inference.languages import other_language
from annotation.inference.refusals import declines

__all__ = [
    "FAILURE_KINDS",
    "FLAGS",
    "Completion",
    "Failure",
    "FailureKind",
    "Flag",
    "Outcome",
    "ends_in_error",
    "flags_of",
    "other_language",
    "storable",
    "wordless",
]

Flag = Literal[
    "truncated",
    "empty",
    "refusal",
    "error_text",
    "wrong_language",
    "repaired_characters",
    "reasoning_removed",
    "unusual_end",
    "limit_not_kept",
    "other_model",
]
FLAGS: Final[dict[Flag, str]] = {
    "truncated": "cut at the limit of new tokens, or before the reasoning had ended",
    "empty": "no words to label or rate",
    "refusal": "declines to answer, or the endpoint's filter ended it",
    "error_text": "an error message instead of an answer",
    "wrong_language": "looks like another language than the expected one",
    "repaired_characters": "held characters that databases refuse; they were replaced",
    "reasoning_removed": "came with reasoning, which is not part of the response",
    "unusual_end": "ended for a reason that is none of the usual ones, or for none that was told",
    "limit_not_kept": "longer than the limit of new tokens that was asked for",
    "other_model": "the endpoint names another model than the one that was asked",
}
"""Every flag, in the order in which a response carries them, and what it says."""

FailureKind = Literal[
    "rate_limited",
    "server_error",
    "timeout",
    "cut_off",
    "unreadable",
    "rejected",
    "unreachable",
    "out_of_memory",
    "compressed",
    "too_long",
    "model_error",
]
FAILURE_KINDS: Final[dict[FailureKind, str]] = {
    "rate_limited": "the endpoint says that it is asked too much",
    "server_error": "the endpoint says that it failed",
    "timeout": "no whole answer within the time for a request",
    "cut_off": "the connection ended before the answer did",
    "unreadable": "the answer was not what the interface promises",
    "rejected": "the endpoint does not accept the request",
    "unreachable": "no connection",
    "out_of_memory": "the prompt does not fit into the GPU's memory",
    "compressed": "the answer was compressed, which was not asked for",
    "too_long": "the prompt is longer than the model takes, or the answer longer than one can be",
    "model_error": "the local model failed at this prompt",
}
"""Every kind of failure, and what it says."""

# How back ends call the same ends, folded: lower case, with underscores.
_NATURAL: Final = frozenset(
    {"stop", "eos", "eos_token", "end_turn", "stop_sequence", "end_of_text", "complete", "completed"}
)
_CUT: Final = frozenset({"length", "max_tokens", "model_length", "max_output_tokens", "max_length", "max_new_tokens"})
_FILTERED: Final = frozenset(
    {"content_filter", "content_filtered", "safety", "prohibited_content", "blocklist", "spii", "recitation", "refusal"}
)
_FAILED: Final = frozenset({"error", "failed", "network_error"})

_QUOTES: Final = frozenset("\"'`´‘’“”„‚«»‹›")
# Letters and symbols by their category, blank to the eye.
_BLANK: Final = frozenset("\u115f\u1160\u2800\u3164\uffa0")


@dataclass(frozen=True)
class Completion:
    """An answer without its reasoning, why it ended, and the tokens as the back end counts them (None: not told).

    Attributes
    ----------
    reasoning
        Characters of reasoning that came with the answer and are no part of it.
    unfinished_reasoning
        The reasoning had not ended when the answer was cut.
    raw_digest
        SHA-256 of the text as it came, reasoning included.
    empty_because
        Why there are no words, where there are none: in ours, for the record.
    other_model
        The endpoint names another model than the one that was asked.
    """

    text: str
    finish_reason: str = ""
    tokens_in: int | None = None
    tokens_out: int | None = None
    model: str = ""
    fingerprint: str = ""
    reasoning: int = 0
    unfinished_reasoning: bool = False
    raw_digest: str = ""
    empty_because: str = ""
    other_model: bool = False

    @property
    def facts(self) -> dict[str, Any]:
        """What the record of asking keeps beside the end, the model and the fingerprint; only what there is to say."""
        known = {
            "reasoning_characters": self.reasoning,
            "raw_digest": self.raw_digest,
            "empty_because": self.empty_because,
        }
        return {name: value for name, value in known.items() if value}


@dataclass(frozen=True)
class Failure:
    """No answer after every attempt: what kind of failure the last one was. `detail` never quotes a server."""

    kind: FailureKind
    detail: str


@dataclass(frozen=True)
class Outcome:
    """What asking once came to, with the number of requests it took (0: never sent, because the run was stopped).

    `adapted` names what the request had to go without, or to say otherwise: `seed`, `max_tokens` (sent under its newer
    name), `stream_options`, `system_message` (put before the user's words, because the model's template takes none).
    """

    result: Completion | Failure | None
    attempts: int
    adapted: tuple[str, ...] = ()


def flags_of(completion: Completion, *, limit: int, language: str = "en") -> tuple[Flag, ...]:
    """Say what is conspicuous about an answer: see `FLAGS`.

    Parameters
    ----------
    limit
        The greatest number of new tokens that was asked for.
    language
        The language expected (`en`), or empty for no check.
    """
    text, end = completion.text.strip(), _folded(completion.finish_reason)
    tokens = completion.tokens_out
    at_limit = tokens is not None and tokens >= limit
    empty = wordless(text)
    found: dict[Flag, bool] = {
        # An end that is told to be natural is believed: an answer may end just where the limit is.
        "truncated": end in _CUT or completion.unfinished_reasoning or (at_limit and not end),
        "empty": empty,
        "refusal": end in _FILTERED or declines(text),
        "error_text": not empty and is_error_text(text),
        "wrong_language": not empty and bool(language) and other_language(text, expected=language),
        "repaired_characters": storable(completion.text) != completion.text,
        "reasoning_removed": completion.reasoning > 0,
        "unusual_end": end not in _NATURAL | _CUT | _FILTERED,
        "limit_not_kept": tokens is not None and tokens > limit,
        "other_model": completion.other_model,
    }
    return tuple(flag for flag in FLAGS if found[flag])


def ends_in_error(finish_reason: object) -> bool:
    """Say whether a back end calls the end of an answer an error, so that there is no whole answer."""
    return isinstance(finish_reason, str) and _folded(finish_reason) in _FAILED


def _folded(finish_reason: str) -> str:
    return finish_reason.strip().casefold().replace("-", "_").replace(" ", "_")


def wordless(text: str) -> bool:
    """Say whether nothing of a text is left without blanks, control and invisible characters, and quotation marks."""
    return all(unicodedata.category(char)[0] in "CZM" or char in _QUOTES or char in _BLANK for char in text)


def storable(text: str) -> str:
    """Replace what databases and files refuse: NUL and lone surrogates become U+FFFD."""
    if text.isascii() and "\x00" not in text:
        return text
    return "".join("\ufffd" if char == "\x00" or "\ud800" <= char <= "\udfff" else char for char in text)
