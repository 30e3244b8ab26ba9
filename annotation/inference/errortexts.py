"""Whether a text is an error message that a server passed off as an answer.

Such a text is taken out of every number, so the rules ask for the form of a message, not for its words: a film may be
called Connection Error (2009), and a recommender may say so.
"""

from __future__ import annotations

import json
import re
from typing import Final

_REASONS: Final = r"""(?:
    bad\ request | unauthorized | payment\ required | forbidden | not\ found | method\ not\ allowed
  | request\ time-?\ ?out | conflict | payload\ too\ large | unprocessable\ (?:entity|content)
  | too\ many\ requests | internal\ server\ error | internal\ error | not\ implemented | bad\ gateway
  | service\ (?:temporarily\ )?unavailable | gateway\ time-?\ ?out | server\ error | web\ server\ is\ down | overloaded
)"""

# What a message says and a sentence about films does not. Each must be followed by the end, or by what continues a
# message; "(2009)" or " is a film" do not.
_PHRASES: Final = r"""(?:
    internal\ server\ error | internal\ error | bad\ gateway | gateway\ time-?\ ?out | too\ many\ requests
  | service\ (?:is\ )?(?:temporarily\ )?(?:unavailable|overloaded)
  | (?:the\ )?(?:request|connection|operation)\ timed\ out
  | request\ time-?\ ?out | (?:read|connect|connection|upstream\ request|stream)\ time(?:d\ |-)?out
  | connection\ (?:error|refused|aborted|closed|reset(?:\ by\ peer)?) | (?:upstream|server|api|request|runtime)\ error
  | unexpected\ (?:eof|end\ of\ (?:file|json\ input|input|data))(?:\ while\ reading)?
  | context\ deadline\ exceeded | deadline\ exceeded | broken\ pipe | no\ healthy\ upstream | rate\ limit(?:ed)?
  | cuda\ (?:out\ of\ memory|error) | out\ of\ memory | segmentation\ fault(?:\ \(core\ dumped\))? | request\ failed
  | an?\ (?:internal\ |unexpected\ |unknown\ )?error\ (?:has\ )?occurr?ed | invalid\ api\ key | access\ denied
)"""

_TECHNICAL: Final = re.compile(
    r"""\b(?:rate\ limit | time[d-]?\ ?out | timeout | failed | failure | exceeded | invalid | connection | server
    | request | tokens? | api | key | memory | overloaded | unavailable | upstream | gateway | quota | undefined | null
    | exception | unexpected | unknown | denied | parse | json | internal | code | [45]\d\d)\b""",
    re.IGNORECASE | re.VERBOSE,
)

_START: Final = re.compile(
    rf"""^(?:
      (?:http(?:/\d(?:\.\d)?)?\ )?(?:error|status|error\ code|status\ code|code)?[:\ ]*[45]\d\d(?:\ ?[:\-–—]\ ?|\ )
        {_REASONS}\b(?!\ (?:is|was|are|were|has)\b)(?!\ ?\()
    | http(?:/\d(?:\.\d)?)?\ [45]\d\d\b(?!\ (?:is|was)\b)
    | error\ code:\ ?[45]\d\d\b
    | {_PHRASES}(?=\s*(?:$|[.:;,!/\-–—{{\n]))
    | rate\ limit\ (?:reached|exceeded)\b(?!\ (?:is|was)\b)
    | upstream\ connect\ error\ or\ disconnect
    | (?:the|that|this)\ (?:model|server|engine|api)\ (?:is|had|has)\ (?:currently\ |temporarily\ )?
        (?:overloaded|busy|unavailable|an\ error|been\ overloaded)
    | this\ model's\ maximum\ context\ length
    | (?:oops[,!.]?\ |sorry[,!.]?\ )?something\ went\ wrong\b[^\n]{{0,60}}\btry\ again
    | cuda\ (?:out\ of\ memory|error)
    | (?:[\w.]+\.)?[a-z]\w+(?:error|exception|warning)(?:\ ?:|\ ?\(|$)
    | \{{?\s*"(?:error|errors|detail|exception|traceback)"\s*:
    | (?:<!doctype\ html|<html|<head|<body|<title|<\?xml)
    )""",
    re.IGNORECASE | re.VERBOSE,
)
_BARE: Final = re.compile(
    rf"(?:http\ )?(?:error|status|error\ code|status\ code|code)?[:\ ]*[45]\d\d(?:[:\-–—\ ]*{_REASONS})?\.?",
    re.IGNORECASE | re.VERBOSE,
)
_ERROR_COLON: Final = re.compile(r"^(?:fatal |api |server )?error\s*[:\-–—]\s*(.*)", re.IGNORECASE | re.DOTALL)
_TRACE: Final = re.compile(
    r"""^\ *(?:
      traceback\ \(most\ recent\ call\ last\) | file\ "[^"\n]+",\ line\ \d+
    | at\ [\w.$<>/]+\ ?\([\w.$/:\\-]*(?:\.\w+:\d+|native\ method|unknown\ source)
    | exception\ in\ thread\ " | goroutine\ \d+\ \[ | panic:\ | caused\ by:\ [\w.]+(?:exception|error)
    )""",
    re.IGNORECASE | re.VERBOSE | re.MULTILINE,
)
_LITERALS: Final = {"null", "undefined", "nan", "nil", "[object object]", "{}", "[]"}
_MESSAGE_KEYS: Final = frozenset(
    {"error", "errors", "message", "msg", "detail", "details", "code", "status", "status_code", "statuscode", "type"}
    | {"param", "object", "path", "timestamp", "success", "ok", "trace", "traceback", "exception", "reason"}
    | {"request_id", "requestid"}
)


def is_error_text(text: str) -> bool:
    """Say whether a text is an error message, a page or a stack trace, or nothing but JSON that tells of an error."""
    plain = text.strip().lstrip("\ufeff").replace("’", "'").strip("`\"' \n\t")
    if not plain:
        return False
    if plain.casefold() in _LITERALS or _BARE.fullmatch(plain) or _TRACE.search(plain[:600]):
        return True
    if plain[0] == "{" and _is_message_object(plain):
        return True
    named = _ERROR_COLON.match(plain)
    if named is not None and (not named.group(1).strip() or _TECHNICAL.search(named.group(1)[:160])):
        return True
    return bool(_START.match(plain))


def _is_message_object(text: str) -> bool:
    try:
        known = json.loads(text[:20_000])
    except (ValueError, RecursionError):
        return False
    if not isinstance(known, dict):
        return False
    names = {str(name).casefold() for name in known}
    if names == {"message"}:
        # A system that was tuned to wrap its answer may do so in a "message"; an error's is short.
        return not isinstance(known.get("message"), str) or len(known["message"].split()) <= 4
    return names <= _MESSAGE_KEYS
