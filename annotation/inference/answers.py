"""What came back from a system, and what is conspicuous about it. Nothing is dropped here: flags only say.

The checks are rules of thumb over words, made for English answers of a recommender; docs/generation.md says what each
one catches and misses. A flag is a reason to look, not a judgment.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from typing import Final, Literal

Flag = Literal["truncated", "empty", "refusal", "error_text", "wrong_language", "repaired_characters"]
FLAGS: Final[tuple[Flag, ...]] = (
    "truncated",
    "empty",
    "refusal",
    "error_text",
    "wrong_language",
    "repaired_characters",
)

FailureKind = Literal[
    "rate_limited", "server_error", "timeout", "cut_off", "unreadable", "rejected", "unreachable", "out_of_memory"
]


@dataclass(frozen=True)
class Completion:
    """An answer as it came: its text, why it ended, and the tokens as the back end counts them (None: not told)."""

    text: str
    finish_reason: str = ""
    tokens_in: int | None = None
    tokens_out: int | None = None
    model: str = ""
    fingerprint: str = ""


@dataclass(frozen=True)
class Failure:
    """No answer after every attempt: what kind of failure the last one was. `detail` never quotes a server."""

    kind: FailureKind
    detail: str


@dataclass(frozen=True)
class Outcome:
    """What asking once came to, with the number of requests it took (0: never sent, because the run was stopped)."""

    result: Completion | Failure | None
    attempts: int
    adapted: tuple[str, ...] = ()


_REFUSAL: Final = re.compile(
    r"""^\W*(?:i\ ?(?:'?m|\ am)\ (?:really\ |very\ |so\ )?sorry|sorry|i\ apologi[sz]e|unfortunately|as\ an\ ai)?
    [^.!?\n]{0,60}?
    \b(?:i\ (?:can(?:'|no)t|can\ not|am\ (?:not\ able|unable)|won'?t\ be\ able)|i'm\ (?:not\ able|unable))
    \ (?:to\ )?
    (?:help|assist|provide|answer|fulfil+|comply|generate|create|engage|respond|do\ that|continue|discuss)""",
    re.IGNORECASE | re.VERBOSE,
)
_AS_AN_AI: Final = re.compile(
    r"\bas an? (?:ai|(?:large |ai )?language model)\b[^.!?\n]{0,40}\b(?:can(?:'|no)t|can not|unable|not able)\b",
    re.IGNORECASE,
)
_ERROR_START: Final = re.compile(
    r"""^\W*(?:
      (?:http(?:/\d(?:\.\d)?)?\ )?(?:error\ )?(?:4\d\d|5\d\d)\b[:\s-]*
        (?:error|bad|unauthori|forbidden|not\ found|too\ many|internal|service|gateway)
    | (?:internal|upstream)?\ ?(?:server|connection|connect|api|request|runtime|value|timeout)\ ?error\b
    | error\ ?(?:code|:|\d)
    | (?:bad\ gateway|gateway\ time-?out|service\ (?:temporarily\ )?unavailable|too\ many\ requests|rate\ limit)
    | traceback\ \(most\ recent\ call\ last\)
    | (?:<!doctype\ html|<html)
    | \{?\s*"?(?:error|detail)"?\s*:\s*["{]
    | cuda\ (?:out\ of\ memory|error)
    )""",
    re.IGNORECASE | re.VERBOSE,
)


def _set(words: str) -> frozenset[str]:
    return frozenset(words.split())


_WORDS: Final = re.compile(r"[^\W\d_]+(?:'[^\W\d_]+)?")
_COMMON: Final[dict[str, frozenset[str]]] = {
    "en": _set(
        "the a an and or but of to in is are was were it this that i you we they he she my your have has do does did "
        "not for with on at from about what which who how if can could would will like so just any some me no as there "
        "be been"
    ),
    "es": _set(
        "el la los las un una y o pero de del que en es son muy por para con no se te le lo su una como qué más "
        "esta este también película películas gusta"
    ),
    "fr": _set(
        "le la les un une des et ou mais de du que qui en est sont très pour avec ne pas vous je il elle ce cette "
        "dans sur plus aussi c'est j'ai film"
    ),
    "de": _set(
        "der die das ein eine und oder aber von zu im ist sind sehr für mit nicht sie ich du wir es auf auch den dem "
        "wie was wenn haben kann"
    ),
    "it": _set(
        "il lo la gli le un una e o ma di del che in è sono molto per con non si ti come questo questa anche più"
    ),
    "pt": _set(
        "o a os as um uma e ou mas de do da que em é são muito por para com não se você como este esta também mais"
    ),
    "nl": _set("de het een en of maar van te in is zijn heel voor met niet je ik wij op ook deze dit wat als heb kan"),
}


def flags_of(completion: Completion, *, limit: int, language: str = "en") -> tuple[Flag, ...]:
    """Say what is conspicuous about an answer.

    Parameters
    ----------
    limit
        The greatest number of new tokens that was asked for.
    language
        The language expected (`en`), or empty for no check.

    Returns
    -------
    tuple
        `truncated`: it ended at the limit. `empty`: nothing but blanks. `refusal`: it declines, or the endpoint's
        filter ended it. `error_text`: it reads like an error message, not an answer. `wrong_language`: see
        `other_language`. `repaired_characters`: it held characters no database keeps, which were replaced.
    """
    text = completion.text.strip()
    found: list[Flag] = []
    at_limit = completion.tokens_out is not None and completion.tokens_out >= limit
    if completion.finish_reason == "length" or at_limit:
        found.append("truncated")
    if not text:
        found.append("empty")
    if completion.finish_reason == "content_filter" or _REFUSAL.search(text[:240]) or _AS_AN_AI.search(text[:240]):
        found.append("refusal")
    if _ERROR_START.search(text[:120]):
        found.append("error_text")
    if text and language and other_language(text, expected=language):
        found.append("wrong_language")
    if storable(completion.text) != completion.text:
        found.append("repaired_characters")
    return tuple(found)


def other_language(text: str, *, expected: str = "en") -> bool:
    """Say whether a text looks like another language than the expected one.

    It does when more than 30 % of its letters are of another script than Latin, or when, among at least eight words,
    the commonest words of some other known language are more than twice as many as those of the expected one, and at
    least a fifth of all words. Short answers and languages that share few common words stay unflagged.
    """
    letters = [char for char in text if char.isalpha()]
    if not letters:
        return False
    foreign = sum("LATIN" not in unicodedata.name(char, "") for char in letters)
    if foreign > 0.3 * len(letters):
        return True
    words = [word.casefold().replace("’", "'") for word in _WORDS.findall(text)]
    if len(words) < 8 or expected not in _COMMON:
        return False
    own = sum(word in _COMMON[expected] for word in words)
    others = {name: common - _COMMON[expected] for name, common in _COMMON.items() if name != expected}
    counts = {name: sum(word in common for word in words) for name, common in others.items()}
    best = max(counts.values())
    return best > 2 * own and best >= 0.2 * len(words)


def storable(text: str) -> str:
    """Replace what databases and files refuse: NUL and lone surrogates become U+FFFD."""
    if text.isascii() and "\x00" not in text:
        return text
    return "".join("\ufffd" if char == "\x00" or "\ud800" <= char <= "\udfff" else char for char in text)
