"""What happens to a text before a classifier reads it.

Three steps, each a function of its own: `normalise` decides which texts are the same text, `plain_redial` and
`plain_inspired` take the marks of the corpora out of an utterance, `spell_out` makes emoji readable for a word-piece
vocabulary that has none. Whatever changes a label here must raise `PREPROCESSING_VERSION`.
"""

from __future__ import annotations

import html
import re
import unicodedata
from collections.abc import Mapping
from functools import lru_cache
from typing import Final

PREPROCESSING_VERSION: Final = 1
"""Part of every classifier's revision."""

TITLE_MASK: Final = "[NAME]"
"""What stands for a title when titles are masked: the token that GoEmotions itself uses for names."""

_WHITESPACE: Final = re.compile(r"\s+")
_APOSTROPHES: Final = str.maketrans({"\u2018": "'", "\u2019": "'", "\u02bc": "'", "\u201c": '"', "\u201d": '"'})
_MOVIE: Final = re.compile(r"@(\d+)")
_QUOTATION_MARK: Final = re.compile(r"QUOTATION_MARK")
_BROKEN_APOSTROPHE: Final = re.compile(
    r"(?<=[a-z])(?:\ufffd|\u00e2\u20ac\u2122|\?)(?=(?:s|t|m|d|re|ve|ll)\b)", re.IGNORECASE
)
_DETACHED_CLITIC: Final = re.compile(r"(?<=[a-z]) ?' ?(?=(?:s|t|m|d|re|ve|ll)\b)", re.IGNORECASE)


def whole_characters(text: str) -> str:
    """Give the text with halves of surrogate pairs, which no encoder can write, as replacement characters."""
    if text.isascii():
        return text
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def normalise(text: str) -> str:
    """Give the form in which equal texts are equal: Unicode NFC, white space folded, case folded.

    A text's digest is computed over this form. The default encoder is uncased, so nothing that it can see is lost.
    """
    folded = unicodedata.normalize("NFC", unicodedata.normalize("NFC", whole_characters(text)).casefold())
    return _WHITESPACE.sub(" ", folded).strip()


@lru_cache(maxsize=4096)
def _spelt(character: str) -> str:
    """Give the words for one character: an emoji's Unicode name, nothing for joiners and skin tones, else itself."""
    code = ord(character)
    if code < 0x200D:
        return character
    if code in (0x200D, 0xFE0E, 0xFE0F, 0x2640, 0x2642) or 0x1F3FB <= code <= 0x1F3FF:
        return ""
    if unicodedata.category(character) != "So" or code < 0x2190:
        return character
    name = unicodedata.name(character, "")
    return f" {name.lower()} " if name else character


def spell_out(text: str) -> str:
    """Write emoji as their Unicode names, typographic quotes as plain ones; a repeated emoji is written once."""
    text = text.translate(_APOSTROPHES)
    if text.isascii():
        return text
    spelt = []
    previous = ""
    for character in text:
        words = _spelt(character)
        if words != character and words and words == previous:
            continue
        spelt.append(words)
        if words:
            previous = words
    return _WHITESPACE.sub(" ", "".join(spelt)).strip()


def prepare(text: str) -> str:
    """Give what the default classifier's tokeniser reads: `normalise`, then `spell_out`."""
    return spell_out(normalise(text))


def repair_apostrophes(text: str) -> str:
    """Join what transcription tore apart: `don?t`, `I ' m` and replacement characters become `don't`, `I'm`."""
    return _DETACHED_CLITIC.sub("'", _BROKEN_APOSTROPHE.sub("'", text))


def plain_redial(text: str, titles: Mapping[str, str] | None = None, *, mask_titles: bool = False) -> str:
    """Give a ReDial message as a classifier should read it.

    Parameters
    ----------
    text
        The message as published, movies written `@<movieId>`, HTML entities left in.
    titles
        Movie id to title (`movieMentions` of the dialogue). An id without a title is masked.
    mask_titles
        Write `TITLE_MASK` for every movie instead of its title.
    """
    known = titles or {}

    def name(match: re.Match[str]) -> str:
        title = None if mask_titles else known.get(match.group(1))
        return f" {title.strip()} " if title else f" {TITLE_MASK} "

    return _WHITESPACE.sub(" ", _MOVIE.sub(name, html.unescape(text))).strip()


def plain_inspired(text: str) -> str:
    """Give an INSPIRED utterance as a classifier should read it: no `QUOTATION_MARK`, apostrophes repaired.

    To mask titles, hand in the column `text_with_placeholder`: its `[MOVIE_TITLE_0]`-like tokens become `TITLE_MASK`.
    """
    text = re.sub(r"\[MOVIE_(?:TITLE|GENRE|P)_?[A-Z_]*\d*\]", TITLE_MASK, text)
    text = _QUOTATION_MARK.sub(' " ', text)
    return _WHITESPACE.sub(" ", repair_apostrophes(html.unescape(text))).strip()
