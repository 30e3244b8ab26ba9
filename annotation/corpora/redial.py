"""ReDial: the official JSONL (plain, `.gz`, or inside the official zip), and the variant without message ids.

The initiator is the seeker (user), the respondent the recommender. Films stand as `@id` in the text and are resolved
through `movieMentions` of the same dialogue.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from annotation.corpora.dialogue import (
    BadRow,
    Dialogue,
    Message,
    Role,
    Titles,
    clean_title,
    decode_entities,
    fill_titles,
    merge_turns,
    unusable_characters,
)
from annotation.corpora.reading import DEFAULT_LIMITS, Limits, Part, json_lines, parts

REQUIRED = ("conversationId", "initiatorWorkerId", "respondentWorkerId", "messages")
_ANSWERS = ("suggested", "seen", "liked")


def read_redial(
    path: Path, *, split: str = "", titles: Titles = "keep", limits: Limits = DEFAULT_LIMITS
) -> Iterator[Dialogue | BadRow]:
    """Stream the dialogues of a ReDial file.

    `split` defaults to what the file's (or zip member's) name says: `test_data.jsonl` is `test`. `titles` says whether
    `plain` keeps the titles or has `[NAME]` in their place.
    """
    for part in parts(path, wanted=(".jsonl",)):
        yield from _read_part(part, split or split_of(part.member or part.path.name), titles, limits)


def split_of(name: str) -> str:
    """Guess the split from a file name: train, valid or test, else the empty string."""
    lowered = name.rsplit("/", 1)[-1].lower()
    for word, split in (("train", "train"), ("valid", "valid"), ("dev", "valid"), ("test", "test")):
        if word in lowered:
            return split
    return ""


def _read_part(part: Part, split: str, titles: Titles, limits: Limits) -> Iterator[Dialogue | BadRow]:
    first_line: dict[str, int] = {}
    for row in json_lines(part, limits=limits):
        if isinstance(row, BadRow):
            yield row
            continue
        line, record = row
        dialogue = _dialogue(record, split, titles, part.name, line)
        if isinstance(dialogue, str):
            yield BadRow(part.name, line, dialogue)
        elif dialogue.source_id in first_line:
            earlier = first_line[dialogue.source_id]
            yield BadRow(part.name, line, f"conversationId {dialogue.source_id} was already on line {earlier}")
        else:
            first_line[dialogue.source_id] = line
            yield dialogue


def _dialogue(record: dict[str, Any], split: str, titles: Titles, file: str, line: int) -> Dialogue | str:
    missing = [key for key in REQUIRED if record.get(key) in (None, "")]
    if missing:
        return f"not a ReDial dialogue: {', '.join(missing)} missing"
    if not isinstance(record["messages"], list):
        return "messages is not a list"
    if reason := unusable_characters(str(record["conversationId"])):
        return reason
    seeker, recommender = record["initiatorWorkerId"], record["respondentWorkerId"]
    if seeker == recommender:
        return f"initiatorWorkerId and respondentWorkerId are the same ({seeker}), so the roles are unknown"
    speakers: dict[Any, Role] = {seeker: "user", recommender: "recommender"}
    names = _titles(record.get("movieMentions"))
    messages: list[Message] = []
    notes: list[str] = []
    for index, message in enumerate(record["messages"]):
        read = _message(message, index, speakers, names, titles)
        if isinstance(read, str):
            return f"message {index + 1}: {read}"
        made, unknown = read
        messages.append(made)
        notes += [f"message {index + 1}: movie id @{movie} has no title in movieMentions" for movie in unknown]
    utterances, empty = merge_turns(messages)
    if not utterances:
        return "the dialogue has no message with text"
    if empty:
        notes.append(f"{empty} empty message{'s' if empty > 1 else ''} left out")
    meta: dict[str, Any] = {"messages": len(messages) - empty, "empty_messages": empty}
    for key in ("initiatorQuestions", "respondentQuestions"):
        meta[key] = _questions(record.get(key))
    return Dialogue(str(record["conversationId"]), split, utterances, meta, "", file, line, tuple(notes))


def _message(
    message: Any, index: int, speakers: Mapping[Any, Role], names: Mapping[str, str], titles: Titles
) -> tuple[Message, tuple[str, ...]] | str:
    if not isinstance(message, dict) or not isinstance(message.get("text"), str):
        return "no text"
    sender = message.get("senderWorkerId")
    role = speakers.get(sender) if isinstance(sender, (int, str)) else None
    if role is None:
        return f"sent by worker {sender}, who is neither the initiator nor the respondent"
    raw: str = message["text"]
    if reason := unusable_characters(raw):
        return reason
    decoded = decode_entities(raw)
    shown, items, unknown = fill_titles(decoded, names)
    plain = fill_titles(decoded, names, mask=True)[0] if titles == "mask" else shown
    source_id = str(message.get("messageId", message.get("turn_id", index)))
    if reason := unusable_characters(source_id):
        return reason
    return Message(role, raw, shown, plain, source_id, items), unknown


def _titles(mentions: Any) -> dict[str, str]:
    if not isinstance(mentions, dict):  # an empty list stands for an empty object in the published files
        return {}
    return {
        str(movie): clean_title(title)
        for movie, title in mentions.items()
        if isinstance(title, str) and title.strip() and not unusable_characters(title)
    }


def _questions(answers: Any) -> dict[str, dict[str, int]]:
    if not isinstance(answers, dict):
        return {}
    return {
        str(movie): {key: given[key] for key in _ANSWERS if given.get(key) in (0, 1, 2)}
        for movie, given in answers.items()
        if isinstance(given, dict) and not unusable_characters(str(movie))
    }
