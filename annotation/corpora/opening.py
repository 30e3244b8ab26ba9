"""Find out what a file is and open the right reader for it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Final, Literal

from annotation.corpora.chats import read_chats
from annotation.corpora.dialogue import BadRow, CorpusError, Dialogue, Response, Titles
from annotation.corpora.inspired import read_inspired
from annotation.corpora.reading import DEFAULT_LIMITS, Limits, check_file, container, parse_object, parts, raw_lines
from annotation.corpora.redial import read_redial
from annotation.corpora.responses import read_responses
from annotation.corpora.table import Columns, read_table

Format = Literal["auto", "redial", "inspired", "chats", "responses", "table"]
FORMATS: Final = ("redial", "inspired", "chats", "responses", "table")
_LOOK_AT = 20  # lines; a broken first line must not hide what the rest of the file is


@dataclass(frozen=True, slots=True)
class Corpus:
    """An opened file: what it is, its SHA-256, and its rows, to be read once."""

    path: Path
    format: str
    sha256: str
    rows: Iterator[Dialogue | Response | BadRow]


def open_corpus(
    path: Path | str,
    format: Format = "auto",
    *,
    columns: Columns | None = None,
    split: str = "",
    system: str = "",
    titles: Titles = "keep",
    limits: Limits = DEFAULT_LIMITS,
) -> Corpus:
    """Check a file, recognise it and return its rows.

    The whole file is run through once before the first row is given, so a truncated or hostile file is refused before
    anything of it was used.

    Raises
    ------
    CorpusError
        The file is missing, empty, damaged, in no known format, or a table without a column mapping.
    """
    path = Path(path)
    sha256 = check_file(path, limits=limits)
    known = format if format != "auto" else "table" if columns is not None else sniff(path, limits=limits)
    rows: Iterator[Dialogue | Response | BadRow]
    if known == "redial":
        rows = read_redial(path, split=split, titles=titles, limits=limits)
    elif known == "inspired":
        rows = read_inspired(path, split=split, titles=titles, limits=limits)
    elif known == "chats":
        rows = read_chats(path, split=split, limits=limits)
    elif known == "responses":
        rows = read_responses(path, system=system, titles=titles, limits=limits)
    elif known == "table":
        if columns is None:
            raise CorpusError(f"{path.name} is a table: say which column holds the user utterance, the reference, …")
        rows = read_table(path, columns, split=split, limits=limits)
    else:
        raise CorpusError(f"{known!r} is no known format; choose one of {', '.join(FORMATS)}.")
    return Corpus(path, known, sha256, rows)


def sniff(path: Path, *, limits: Limits = DEFAULT_LIMITS) -> str:
    """Recognise a file by its content: redial, inspired, chats, responses or table."""
    if container(path) in ("xlsx", "parquet"):
        return "table"
    trouble = ""
    for row in islice(raw_lines(parts(path)[0], limits=limits), _LOOK_AT):
        if isinstance(row, BadRow):
            trouble = trouble or f" (line {row.line}: {row.reason})"
            continue
        if not row[1].strip():
            continue
        found = _format_of(row[1])
        if found:
            return found
    raise CorpusError(
        f"{path.name} is not recognised: its first lines are neither ReDial or response JSONL nor a table with "
        f"a header{trouble}. Name the format ({', '.join(FORMATS)})."
    )


def _format_of(text: str) -> str:
    if text.lstrip().startswith("{"):
        record = parse_object(text)
        if isinstance(record, str):
            return ""
        if "messages" in record and "conversationId" in record:
            return "redial"
        if "merged_turn_idx" in record:
            return "inspired"
        if "utterances" in record and "dialogue_id" in record:
            return "chats"
        return "responses" if "response" in record and "dialogue_id" in record else "table"
    tabbed = text.count("\t") > text.count(",")
    header = {cell.strip().strip('"') for cell in text.split("\t" if tabbed else ",")}
    if tabbed and {"dialog_id", "utt_id", "speaker"} <= header:
        return "inspired"
    if {"dialogue_id", "response"} <= header:
        return "responses"
    return "table" if len(header) > 1 else ""
