"""Chats in the plain shape `{"dialogue_id": …, "utterances": [{"speaker": …, "text": …}, …]}`, one per line.

An utterance may list the titles it mentions (`"items": ["Alien (1979)"]`); else those with a year are looked for.

Two published sets come in it: the 70 ReDial dialogues of the Manzoor / Jannach studies, whose recommender is human, and
CRSArena-Dial, whose recommender is the system named in `system`.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from annotation.corpora.dialogue import (
    BadRow,
    Dialogue,
    Message,
    Role,
    decode_entities,
    merge_turns,
    unusable_characters,
)
from annotation.corpora.mentions import listed_titles, titles_in
from annotation.corpora.reading import DEFAULT_LIMITS, Limits, Part, json_lines, parts
from annotation.corpora.redial import split_of

_ROLES: dict[str, Role] = {
    "seeker": "user",
    "user": "user",
    "recommender": "recommender",
    "agent": "recommender",
    "system": "recommender",
    "assistant": "recommender",
}
_META = ("environment", "sentiment", "redial_conversation_id")


def read_chats(path: Path, *, split: str = "", limits: Limits = DEFAULT_LIMITS) -> Iterator[Dialogue | BadRow]:
    """Stream plain chats. `source_ids` are the 0-based indices of the lines before merging."""
    for part in parts(path, wanted=(".jsonl",)):
        yield from _read_part(part, split or split_of(part.member or path.name), limits)


def _read_part(part: Part, split: str, limits: Limits) -> Iterator[Dialogue | BadRow]:
    first_line: dict[str, int] = {}
    for row in json_lines(part, limits=limits):
        if isinstance(row, BadRow):
            yield row
            continue
        line, record = row
        dialogue = _dialogue(record, split, part.name, line)
        if isinstance(dialogue, str):
            yield BadRow(part.name, line, dialogue)
        elif dialogue.source_id in first_line:
            earlier = first_line[dialogue.source_id]
            yield BadRow(part.name, line, f"dialogue_id {dialogue.source_id} was already on line {earlier}")
        else:
            first_line[dialogue.source_id] = line
            yield dialogue


def _dialogue(record: dict[str, Any], split: str, file: str, line: int) -> Dialogue | str:
    source_id, utterances = record.get("dialogue_id"), record.get("utterances")
    if not isinstance(source_id, str) or not source_id:
        return "dialogue_id missing"
    system = record["system"] if isinstance(record.get("system"), str) else ""
    meta: dict[str, Any] = {key: record[key] for key in _META if isinstance(record.get(key), str)}
    for text in (source_id, system, *meta.values()):
        if reason := unusable_characters(text):
            return reason
    if not isinstance(utterances, list):
        return "utterances is not a list"
    messages: list[Message] = []
    for index, utterance in enumerate(utterances):
        text = utterance.get("text") if isinstance(utterance, dict) else None
        if not isinstance(text, str):
            return f"utterance {index + 1}: no text"
        speaker = str(utterance.get("speaker", utterance.get("role", "")))
        role = _ROLES.get(speaker.lower())
        if role is None:
            return f"utterance {index + 1}: speaker is {speaker[:40]!r}, expected one of {', '.join(_ROLES)}"
        if reason := unusable_characters(text):
            return f"utterance {index + 1}: {reason}"
        shown = decode_entities(text)
        line_id = utterance.get("turn_id", index)
        items = utterance.get("items")
        found = listed_titles(items) if isinstance(items, (list, str)) else titles_in(shown)
        if reason := next(filter(None, map(unusable_characters, found)), ""):
            return f"utterance {index + 1}: {reason}"
        place = str(line_id if isinstance(line_id, int) else index)
        messages.append(Message(role, text, shown, shown, place, found))
    turns, empty = merge_turns(messages)
    if not turns:
        return "the dialogue has no utterance with text"
    meta |= {"messages": len(messages) - empty, "empty_messages": empty}
    notes = (f"{empty} empty message{'s' if empty > 1 else ''} left out",) if empty else ()
    return Dialogue(source_id, split, turns, meta, system, file, line, notes)
