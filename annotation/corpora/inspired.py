"""INSPIRED: the official TSV (19 columns, no quoting) and the rebuilt JSONL of merged turns.

A double quote is written `QUOTATION_MARK` in the source, and apostrophes of some rows are lost as runs of U+FFFD; both
are mended in `shown` and `plain`, never in `raw`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from annotation.corpora.dialogue import (
    MASK,
    BadRow,
    CorpusError,
    Dialogue,
    Message,
    Role,
    Titles,
    clean_title,
    merge_turns,
    repair_apostrophes,
    repair_quotes,
    unusable_characters,
)
from annotation.corpora.reading import DEFAULT_LIMITS, Limits, Part, json_lines, parts, raw_lines
from annotation.corpora.redial import split_of

REQUIRED = ("dialog_id", "utt_id", "speaker", "text")
_ROLES: dict[str, Role] = {"SEEKER": "user", "RECOMMENDER": "recommender"}
_FIRST = ("0", "1")  # utt_id counts from 1 in the official files, merged turns from 0
_YEAR = re.compile(r"\s*\(\d{4}\)\s*$")


@dataclass(slots=True)
class _Block:
    """The rows of one dialogue while they are read."""

    source_id: str
    line: int
    messages: list[Message] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    strategies: list[str] = field(default_factory=list)
    broken: str = ""


def read_inspired(
    path: Path, *, split: str = "", titles: Titles = "keep", limits: Limits = DEFAULT_LIMITS
) -> Iterator[Dialogue | BadRow]:
    """Stream the dialogues of an INSPIRED file, official TSV or rebuilt JSONL.

    A dialogue with an unreadable row is reported as a whole beside that row: a conversation with a hole in it would put
    every later turn in a wrong context.
    """
    for part in parts(path, wanted=(".tsv", ".jsonl")):
        yield from _blocks(part, split or split_of(part.member or path.name), titles, limits)


def _blocks(part: Part, split: str, titles: Titles, limits: Limits) -> Iterator[Dialogue | BadRow]:
    seen: dict[str, int] = {}
    block: _Block | None = None
    lost: list[int] = []  # unreadable lines since the last readable one; whose they were shows with the next row
    for row in _rows(part, limits):
        if isinstance(row, BadRow):
            yield row
            lost.append(row.line)
            continue
        line, record = row
        source_id = str(record["dialog_id"])
        if block is None or block.source_id != source_id:
            whole = str(record["utt_id"]) in _FIRST
            if block is not None:
                if lost and (whole or len(lost) > 1):
                    block.broken = block.broken or f"line {lost[0]} could not be read"
                yield _closed(block, split, part.name)
            block = _Block(source_id, line)
            if lost and not whole:
                block.broken = f"line {lost[-1]} could not be read"
            if source_id in seen:
                block.broken = f"the dialogue was already on line {seen[source_id]}; its rows must stand together"
            seen.setdefault(source_id, line)
        elif lost:
            block.broken = block.broken or f"line {lost[0]} could not be read"
        lost = []
        _add(block, record, line, titles)
    if block is not None:
        if lost:
            block.broken = block.broken or f"line {lost[0]} could not be read"
        yield _closed(block, split, part.name)


def _closed(block: _Block, split: str, file: str) -> Dialogue | BadRow:
    if block.broken:
        return BadRow(file, block.line, f"dialogue {block.source_id} left out: {block.broken}")
    utterances, empty = merge_turns(block.messages)
    if not utterances:
        return BadRow(file, block.line, f"dialogue {block.source_id} has no text")
    if empty:
        block.notes.append(f"{empty} empty message{'s' if empty > 1 else ''} left out")
    meta: dict[str, Any] = {"messages": len(block.messages) - empty, "empty_messages": empty}
    if any(block.strategies):
        meta["strategies"] = block.strategies
    return Dialogue(block.source_id, split, utterances, meta, "", file, block.line, tuple(block.notes))


def _add(block: _Block, record: dict[str, Any], line: int, titles: Titles) -> None:
    raw = record["text"]
    role = _ROLES.get(record["speaker"])
    cells = (raw, block.source_id, str(record["utt_id"]), record["strategy"], *record["movies"])
    reason = next(filter(None, map(unusable_characters, cells)), "")
    if role is None:
        reason = f"speaker is {record['speaker'][:40]!r}, expected RECOMMENDER or SEEKER"
    if reason:
        block.broken = block.broken or f"line {line}: {reason}"
        return
    assert role is not None
    shown = repair_apostrophes(repair_quotes(raw))
    items = tuple(clean_title(title) for title in record["movies"] if title.strip())
    plain = _masked(shown, items) if titles == "mask" else shown
    block.messages.append(Message(role, raw, shown, plain, str(record["utt_id"]), items))
    block.strategies.append(record["strategy"])
    if record["short"]:
        block.notes.append(f"line {line}: the last {record['short']} cells are missing")


def _masked(shown: str, items: tuple[str, ...]) -> str:
    """Put `[NAME]` where a title stands; the text has titles without the year that the `movies` column adds."""
    for title in sorted({_YEAR.sub("", item) for item in items}, key=len, reverse=True):
        if title:
            shown = re.sub(rf"(?<!\w){re.escape(title)}(?!\w)(\s*\(\d{{4}}\))?", MASK, shown, flags=re.IGNORECASE)
    return shown


def _rows(part: Part, limits: Limits) -> Iterator[tuple[int, dict[str, Any]] | BadRow]:
    if part.name.removesuffix(".gz").endswith((".jsonl", ".json")) or _starts_with_brace(part, limits):
        yield from _json_rows(part, limits)
    else:
        yield from _tsv_rows(part, limits)


def _starts_with_brace(part: Part, limits: Limits) -> bool:
    first = next(raw_lines(part, limits=limits), None)
    return isinstance(first, tuple) and first[1].lstrip().startswith("{")


def _tsv_rows(part: Part, limits: Limits) -> Iterator[tuple[int, dict[str, Any]] | BadRow]:
    header: list[str] = []
    for row in raw_lines(part, limits=limits):
        if isinstance(row, BadRow):
            if not header:
                raise CorpusError(f"{part.name}: the header line cannot be read ({row.reason}).")
            yield row
            continue
        line, text = row
        cells = text.split("\t")
        if not header:
            header = cells
            missing = [name for name in REQUIRED if name not in header]
            if missing:
                raise CorpusError(
                    f"{part.name} is not the official INSPIRED TSV: column {', '.join(missing)} missing "
                    f"(found: {', '.join(header)[:300]})."
                )
            continue
        if not text.strip():
            continue
        if len(cells) > len(header):
            yield BadRow(part.name, line, f"{len(cells)} cells where the header has {len(header)}")
            continue
        values = dict(zip(header, cells, strict=False))
        absent = [name for name in REQUIRED if name not in values or (name != "text" and not values[name])]
        if absent:
            yield BadRow(part.name, line, f"no value for {', '.join(absent)}")
            continue
        yield (
            line,
            {
                "dialog_id": values["dialog_id"],
                "utt_id": values["utt_id"],
                "speaker": values["speaker"],
                "text": values["text"],
                "movies": values.get("movies", "").split(";"),
                "strategy": values.get("expert_label", ""),
                "short": len(header) - len(cells),
            },
        )


def _json_rows(part: Part, limits: Limits) -> Iterator[tuple[int, dict[str, Any]] | BadRow]:
    for row in json_lines(part, limits=limits):
        if isinstance(row, BadRow):
            yield row
            continue
        line, record = row
        wrong = [key for key in ("dialog_id", "speaker", "text") if not isinstance(record.get(key), str)]
        index = record.get("merged_turn_idx")
        if wrong or not isinstance(index, int):
            yield BadRow(part.name, line, f"{', '.join(wrong) or 'merged_turn_idx'} missing or of a wrong type")
            continue
        movies, labels = record.get("movies"), record.get("expert_labels")
        yield (
            line,
            {
                "dialog_id": record["dialog_id"],
                "utt_id": index,
                "speaker": record["speaker"],
                "text": record["text"],
                "movies": [title for title in movies if isinstance(title, str)] if isinstance(movies, list) else [],
                "strategy": " ".join(str(label) for label in labels) if isinstance(labels, list) else "",
                "short": 0,
            },
        )
