"""What every corpus becomes: dialogues of merged turns, responses of systems, and rows that could not be read.

The readers of this package are generators over these records. They save nothing, import no framework and hold one
dialogue at a time. A row that cannot be used is yielded as a `BadRow` in its place, never dropped; a file that cannot
be used at all raises `CorpusError` with a sentence that says what to do.
"""

from __future__ import annotations

import hashlib
import html
import json
import re
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal
from urllib.parse import unquote

Role = Literal["user", "recommender"]
Titles = Literal["keep", "mask"]

MASK = "[NAME]"  # the token GoEmotions itself uses for masked names, so the classifier knows it

_SPACE = re.compile(r"\s+")
_REPLACEMENT_RUN = re.compile("\ufffd+")
_SURROGATE = re.compile("[\ud800-\udfff]")
_AT_ID = re.compile(r"@(\d+)")


class CorpusError(Exception):
    """A file that cannot be read as a corpus; the message names the file and says what to do."""


@dataclass(frozen=True, slots=True)
class BadRow:
    """One row (for ReDial: one dialogue) that was not taken, and why. `line` counts from 1; 0 means the whole file."""

    file: str
    line: int
    reason: str

    def __str__(self) -> str:
        return f"{self.file}, line {self.line}: {self.reason}"


@dataclass(frozen=True, slots=True)
class Message:
    """One message as the source has it, before consecutive messages of one speaker are merged."""

    role: Role
    raw: str
    shown: str
    plain: str
    source_id: str
    items: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Utterance:
    """One turn of one speaker. `position` counts merged turns of the dialogue from 0.

    `raw` is the source text, messages joined by a newline; `shown` is for people (titles, decoded entities); `plain` is
    what a classifier reads, on one line; `source_ids` are the message ids of the source; `items` the titles mentioned.
    """

    position: int
    role: Role
    raw: str
    shown: str
    plain: str
    source_ids: tuple[str, ...]
    items: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Dialogue:
    """One dialogue. `recommender` is empty for a human recommender, else the name of the system that spoke there."""

    source_id: str
    split: str
    utterances: tuple[Utterance, ...]
    meta: Mapping[str, Any] = field(default_factory=dict)
    recommender: str = ""
    file: str = ""
    line: int = 0
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Response:
    """What one system said at one place. `position` is the merged position of the *response* (0-based), where known.

    `keys` holds what else the file offers for the join: `reference` (what the human said there), `user` (the last user
    turn), `reference_ids`, `user_ids`, `inspired_dialog_id`, `join` (the group's way of joining).
    """

    dialogue_id: str
    position: int | None
    system: str
    raw: str
    shown: str
    plain: str
    keys: Mapping[str, Any] = field(default_factory=dict)
    extra: Mapping[str, Any] = field(default_factory=dict)
    file: str = ""
    line: int = 0


def fold(text: str) -> str:
    """Put a text on one line: every run of white space becomes one blank."""
    return _SPACE.sub(" ", text).strip()


def normalise(plain: str) -> str:
    """Return the form under which two texts count as the same: NFC, white space folded, case folded."""
    return fold(unicodedata.normalize("NFC", unicodedata.normalize("NFC", plain).casefold()))


def text_digest(plain: str) -> str:
    """Digest of a text for the one-text-is-classified-once key: BLAKE2b-128 of `normalise(plain)`, 32 hex digits."""
    return hashlib.blake2b(normalise(plain).encode(), digest_size=16).hexdigest()


def dialogue_digest(dialogue: Dialogue) -> str:
    """Digest of what the source says (roles, texts, ids), by which a second import knows an unchanged dialogue."""
    parts = [(u.role, u.raw, u.source_ids) for u in dialogue.utterances]
    body = json.dumps([dialogue.recommender, parts], ensure_ascii=False)
    return hashlib.blake2b(body.encode(), digest_size=16).hexdigest()


def unusable_characters(text: str) -> str:
    """Reason why a text cannot be stored (a NUL, half of a surrogate pair), or the empty string."""
    if "\x00" in text:
        return "the text holds a NUL character, which a database cannot store"
    if _SURROGATE.search(text):
        return "the text holds half of a surrogate pair (a broken \\u escape), which is no character"
    return ""


def clean_title(title: str) -> str:
    """Tidy a film title: percent escapes and HTML entities decoded, double blanks folded."""
    return fold(html.unescape(unquote(title)).replace("\x00", "\ufffd"))


def decode_entities(text: str) -> str:
    """Decode HTML entities (`&quot;`, `&amp;`) for display; the result is text, never markup."""
    return html.unescape(text).replace("\x00", "\ufffd") if "&" in text else text


def repair_quotes(text: str) -> str:
    """Put `"` where INSPIRED writes QUOTATION_MARK, with a blank where the mark is glued to the outside word."""
    pieces = text.split("QUOTATION_MARK")
    built = [pieces[0]]
    last = pieces[0][-1:]
    for count, piece in enumerate(pieces[1:]):
        # Marks come in pairs; a last one without a partner opens only if it is not glued to the word before it.
        opens = count % 2 == 0 and (count + 2 < len(pieces) or not last.isalnum())
        before = " " if opens and last.isalnum() else ""
        after = " " if not opens and piece[:1].isalnum() else ""
        built.append(f'{before}"{after}{piece}')
        last = piece[-1:] or '"'
    return "".join(built)


def repair_apostrophes(text: str) -> str:
    """Mend runs of U+FFFD: an apostrophe between word characters, a dash between blanks, else left out."""
    if "\ufffd" not in text:
        return text

    def mend(match: re.Match[str]) -> str:
        before, after = _around(match)
        if before.isalnum() and after.isalnum():
            return "'"
        return "-" if before.isspace() and after.isspace() else ""

    return _REPLACEMENT_RUN.sub(mend, text)


def _around(match: re.Match[str]) -> tuple[str, str]:
    """The characters before and after a match, empty at the ends of the text."""
    start, end = match.span()
    return match.string[max(start - 1, 0) : start], match.string[end : end + 1]


def fill_titles(
    text: str, titles: Mapping[str, str], *, mask: bool = False
) -> tuple[str, tuple[str, ...], tuple[str, ...]]:
    """Replace `@id` by its title (or by `[NAME]`); return the text, the titles found and the ids without a title.

    An id glued to a word on either side is set apart by a blank. An unknown id stays as it is, except when masking.
    """
    if "@" not in text:
        return text, (), ()
    found: list[str] = []
    unknown: list[str] = []

    def put(match: re.Match[str]) -> str:
        title = titles.get(match[1])
        if title:
            found.append(title)
        else:
            unknown.append(match[1])
        word = MASK if mask else title or match[0]
        before, after = _around(match)
        return f"{' ' if before.isalnum() else ''}{word}{' ' if after.isalnum() else ''}"

    return _AT_ID.sub(put, text), tuple(dict.fromkeys(found)), tuple(unknown)


def merge_turns(messages: Iterable[Message]) -> tuple[tuple[Utterance, ...], int]:
    """Merge consecutive messages of one speaker; return the turns and the number of empty messages left out.

    Empty messages are left out before merging, so they part no turn.
    """
    turns: list[list[Message]] = []
    empty = 0
    for message in messages:
        if not message.raw.strip():
            empty += 1
        elif turns and turns[-1][0].role == message.role:
            turns[-1].append(message)
        else:
            turns.append([message])
    return tuple(_joined(position, turn) for position, turn in enumerate(turns)), empty


def _joined(position: int, turn: list[Message]) -> Utterance:
    return Utterance(
        position=position,
        role=turn[0].role,
        raw="\n".join(message.raw for message in turn),
        shown="\n".join(message.shown.strip() for message in turn),
        plain=fold(" ".join(message.plain for message in turn)),
        source_ids=tuple(message.source_id for message in turn if message.source_id),
        items=tuple(dict.fromkeys(item for message in turn for item in message.items)),
    )
