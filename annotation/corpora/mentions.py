"""Titles in plain words: `Title (year)`, for corpora that do not mark what they mention.

A rule of thumb. A title is the run of capitalised words (with the small ones between them) before a year in brackets;
words that begin a sentence rather than a title (`Try`, `And`, `Sure`) are left out at its front. Titles without a year,
and such as begin with a small letter, are not seen.
"""

from __future__ import annotations

import re
from typing import Any, Final

_SMALL: Final = "of|the|and|a|an|in|on|to|for|from|with|at|by|de|la|le|el|der|die|das|vs\\.?|&|-|–"
_WORD: Final = r"[A-Z0-9À-ÖØ-Þ][\w'’.,:!&/-]*"
_TITLE: Final = re.compile(rf"({_WORD}(?:[ ](?:{_WORD}|{_SMALL})){{0,12}})[ ]?\(((?:18|19|20)\d\d)\)")
_QUOTED: Final = re.compile(r"[\"“«']([^\"“”«»\n]{1,80})[\"”»'][ ]?\(((?:18|19|20)\d\d)\)")
_OPENING: Final = frozenset(
    (
        *("also", "and", "but", "check", "definitely", "enjoy", "great", "hello", "hey", "hi", "loved", "maybe", "oh"),
        *(
            "ok",
            "okay",
            "or",
            "perhaps",
            "please",
            "recommend",
            "saw",
            "see",
            "seen",
            "so",
            "suggest",
            "sure",
            "thanks",
        ),
        *("then", "try", "watch", "watched", "well", "yeah", "yep", "yes"),
    )
)
_SENTENCE: Final = re.compile(r"(?<=[a-z]{3}[.!?;])\s+")


def titles_in(text: str) -> tuple[str, ...]:
    """Give the titles with a year that a text mentions, in its order, each once."""
    if "(" not in text:
        return ()
    found = {match.start(): (match[1].strip(), match[2]) for match in _QUOTED.finditer(text)}
    for match in _TITLE.finditer(text):
        if title := _without_opening(match[1]):
            found.setdefault(match.start(), (title, match[2]))
    return tuple(dict.fromkeys(f"{title} ({year})" for _, (title, year) in sorted(found.items())))


def _without_opening(words: str) -> str:
    """Leave out the sentence before, and what begins a sentence rather than a title."""
    pieces = _SENTENCE.split(words)[-1].split()
    while len(pieces) > 1 and pieces[0].casefold().rstrip(",.!:") in _OPENING:
        pieces.pop(0)
    return " ".join(pieces).strip(" ,-–")


def listed_titles(cell: Any) -> tuple[str, ...]:
    """Read the titles of a cell (`Alien (1979) | Brazil (1985)`) or of a list of texts."""
    given = cell if isinstance(cell, list) else str(cell).split("|")
    return tuple(dict.fromkeys(title for one in given if isinstance(one, str) and (title := " ".join(one.split()))))
