"""Responses of systems to turns of dialogues that are imported already: JSONL or CSV / TSV with a join key.

Every row names a dialogue and a place in it. How the place is found differs between the published groups, so a row
carries `keys["join"]`:

- `position`: `turn_id` is the 0-based merged position of the response (ReDial; INSPIRED by He 2023 and LLMKB; own);
- `line`: `turn_id` counts the unmerged lines of a chat (CRSArena, the 70 ReDial dialogues);
- `reference`: only the texts tell (INSPIRED by Manzoor 2022, whose `turn_id` is the study's own): the reference text,
  or where a row lacks it (the last turn of a dialogue) the user's.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from annotation.corpora.dialogue import (
    MASK,
    BadRow,
    CorpusError,
    Response,
    Titles,
    decode_entities,
    fill_titles,
    fold,
    repair_apostrophes,
    repair_quotes,
    unusable_characters,
)
from annotation.corpora.reading import DEFAULT_LIMITS, Limits, Part, json_lines, parts, raw_lines

REQUIRED = ("dialogue_id", "response")
_PLACES = ("turn_id", "position")
_CHAT_IDS = re.compile(r"^(m21|infact)-\d+$")
_SLOT = re.compile(r"<movie>|\[MOVIE_TITLE_\d+\]")
_EXTRA = ("style", "prompt", "model_reported", "prompt_input", "quality_ratings", "context_message_count")


def read_responses(
    path: Path, *, system: str = "", titles: Titles = "keep", limits: Limits = DEFAULT_LIMITS
) -> Iterator[Response | BadRow]:
    """Stream the responses of one file. `system` stands where a row names none, and overrides where it does.

    `shown` takes `response_readable` where the file has it (ids replaced by titles). With `titles="mask"`, ids and
    movie slots become `[NAME]` in `plain`; a title that a system wrote out in words is not recognised and stays.
    """
    for part in parts(path):
        for row in _records(part, limits):
            if isinstance(row, BadRow):
                yield row
                continue
            line, record = row
            read = _response(record, system, titles, part.name, line)
            yield BadRow(part.name, line, read) if isinstance(read, str) else read


def _response(record: dict[str, Any], system: str, titles: Titles, file: str, line: int) -> Response | str:
    missing = [key for key in REQUIRED if record.get(key) in (None, "")]
    if missing:
        empty = "the response is empty" if missing == ["response"] and "response" in record else ""
        return empty or f"{', '.join(missing)} missing"
    raw = record["response"]
    if not isinstance(raw, str):
        return "response is not a text"
    if not raw.strip():
        return "the response is empty"
    name = system or record.get("system")
    if not isinstance(name, str) or not name.strip():
        return "no system named: the row has none and none was given for the file"
    readable = record.get("response_readable")
    shown = readable if isinstance(readable, str) and readable.strip() else raw
    asked = (str(record["dialogue_id"]), str(record.get("inspired_dialog_id", "")), str(record.get("dataset", "")))
    if reason := next(filter(None, map(unusable_characters, (raw, shown, name, *asked))), ""):
        return reason
    keys = _keys(record)
    if isinstance(keys, str):
        return keys
    position = keys.pop("position")
    shown = repair_apostrophes(repair_quotes(decode_entities(shown)))
    plain = shown
    if titles == "mask":
        masked = fill_titles(repair_apostrophes(repair_quotes(decode_entities(raw))), {}, mask=True)[0]
        plain = _SLOT.sub(MASK, masked)
    extra = {key: record[key] for key in _EXTRA if _plain_value(record.get(key))}
    return Response(
        str(record["dialogue_id"]), position, name.strip(), raw, shown, fold(plain), keys, extra, file, line
    )


def _keys(record: dict[str, Any]) -> dict[str, Any] | str:
    """Gather what the row offers for the join, or say why it offers nothing."""
    place = next((record[key] for key in _PLACES if record.get(key) not in (None, "")), None)
    position = _whole_number(place)
    if place is not None and position is None:
        return f"turn_id is {str(place)[:40]!r}, expected a whole number from 0"
    dialogue_id = str(record["dialogue_id"])
    keys: dict[str, Any] = {
        "position": position,
        "reference": _text(record, "reference_response"),
        "user": _text(record, "user_utterance"),
        "reference_ids": _ids(record, "reference_message_ids", "reference_utt_ids"),
        "user_ids": _ids(record, "user_message_ids", "user_utt_ids"),
        "dataset": _text(record, "dataset"),
        "split": _text(record, "split"),
        "join": "position",
    }
    if _text(record, "inspired_dialog_id"):
        keys["inspired_dialog_id"] = _text(record, "inspired_dialog_id")
        keys["join"] = "reference"
    elif _CHAT_IDS.match(dialogue_id) or keys["dataset"] == "crsarena":
        keys["join"] = "line"
        keys["dataset"] = "crsarena" if keys["dataset"] == "crsarena" else "redial70"
    if position is None and not keys["reference"] and not keys["user"]:
        return "no place named: turn_id (or position, reference_response, user_utterance) is missing"
    if position is None and keys["join"] == "position":
        keys["join"] = "reference"
    return keys


def _plain_value(value: Any) -> bool:
    if isinstance(value, list):
        return all(isinstance(item, (int, float)) for item in value)
    return isinstance(value, (int, float)) or (isinstance(value, str) and not unusable_characters(value))


def _whole_number(value: Any) -> int | None:
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return value if value >= 0 else None
    text = str(value).strip() if isinstance(value, (str, float)) else ""
    text = text.removesuffix(".0")
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else None


def _text(record: dict[str, Any], key: str) -> str:
    value = record.get(key)
    return value if isinstance(value, str) else ""


def _ids(record: dict[str, Any], *names: str) -> tuple[str, ...]:
    for name in names:
        value = record.get(name)
        if isinstance(value, list):
            return tuple(str(item) for item in value)
    return ()


def _records(part: Part, limits: Limits) -> Iterator[tuple[int, dict[str, Any]] | BadRow]:
    first = next((row for row in raw_lines(part, limits=limits) if isinstance(row, tuple) and row[1].strip()), None)
    if first is None:
        raise CorpusError(f"{part.name} has no readable line.")
    if first[1].lstrip().startswith("{"):
        yield from json_lines(part, limits=limits)
    else:
        yield from delimited_rows(part, limits=limits, required=REQUIRED)


def delimited_rows(
    part: Part, *, limits: Limits = DEFAULT_LIMITS, required: tuple[str, ...] = ()
) -> Iterator[tuple[int, dict[str, Any]] | BadRow]:
    """Yield `(line number, row by column name)` of a CSV or TSV with a header; quotes as RFC 4180 has them.

    Raises
    ------
    CorpusError
        A required column is missing, a column name is doubled, or a quoted cell never ends.
    """
    bad: list[BadRow] = []

    def readable() -> Iterator[str]:
        for row in raw_lines(part, limits=limits):
            if isinstance(row, BadRow):
                bad.append(row)
                yield "\n"  # keeps the line count of the csv reader in step with the file
            else:
                yield row[1] + "\n"

    first = next((row[1] for row in raw_lines(part, limits=limits) if isinstance(row, tuple)), "")
    reader = csv.reader(readable(), delimiter="\t" if first.count("\t") > first.count(",") else ",")
    header: list[str] = []
    try:
        for cells in reader:
            yield from bad
            bad.clear()
            if not any(cell.strip() for cell in cells):
                continue
            if not header:
                header = checked_header(part.name, cells, required)
            elif len(cells) != len(header):
                yield BadRow(part.name, reader.line_num, f"{len(cells)} cells where the header has {len(header)}")
            else:
                yield reader.line_num, dict(zip(header, cells, strict=True))
    except csv.Error as error:
        raise CorpusError(
            f"{part.name}: the table cannot be read at line {reader.line_num} ({error}); is a quote left open?"
        ) from error
    yield from bad


def checked_header(name: str, cells: list[str], required: tuple[str, ...]) -> list[str]:
    """Tidy the header cells and refuse a table without the columns it needs."""
    header = [cell.strip() for cell in cells]
    missing = [column for column in required if column not in header]
    if missing:
        raise CorpusError(f"{name}: column {', '.join(missing)} missing (found: {', '.join(header)[:300]}).")
    doubled = sorted({column for column in header if header.count(column) > 1 and column})
    if doubled:
        raise CorpusError(f"{name}: column {', '.join(doubled)} stands twice in the header; rename one.")
    return header
