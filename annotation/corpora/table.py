"""Any table of triplets (user utterance, reference, system response) with a column mapping.

CSV, TSV, JSONL, Parquet and XLSX. One row is one turn; rows of one dialogue stand together. Without a dialogue column
every row is a dialogue of its own, without a turn column the rows of a dialogue count from 0. Row `t` becomes the user
utterance at merged position 2t and the reference at 2t + 1; a system's responses take the reference's place.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from annotation.corpora.dialogue import (
    BadRow,
    CorpusError,
    Dialogue,
    Response,
    Role,
    Utterance,
    decode_entities,
    fold,
    unusable_characters,
)
from annotation.corpora.mentions import listed_titles, titles_in
from annotation.corpora.reading import DEFAULT_LIMITS, Limits, Part, container, json_lines, parts, raw_lines
from annotation.corpora.responses import checked_header, delimited_rows

_BATCH = 1024


@dataclass(frozen=True, slots=True)
class Columns:
    """Which column holds what; an empty name means there is none.

    `items` and `user_items` hold the titles that the reference and the user's words mention, separated by `|`; without
    such a column titles with a year are looked for in the words. Responses come either long (`response` and `system`,
    one row per system) or wide (`systems`: column -> system name).
    """

    user: str
    dialogue: str = ""
    turn: str = ""
    reference: str = ""
    response: str = ""
    system: str = ""
    split: str = ""
    items: str = ""
    user_items: str = ""
    systems: Mapping[str, str] = field(default_factory=dict)

    def names(self) -> tuple[str, ...]:
        """Every column that the mapping needs."""
        single = [getattr(self, part) for part in COLUMN_PARTS]
        return tuple(dict.fromkeys(name for name in (*single, *self.systems) if name))

    @classmethod
    def parse(cls, pairs: Iterable[str]) -> Columns | None:
        """Read `user=text_user system:GPT=gpt_answer …`; nothing said is no mapping.

        Raises
        ------
        CorpusError
            A pair is none, a part is unknown, or no column holds the user utterance.
        """
        single, systems = read_mapping(pairs, COLUMN_PARTS, "system")
        if not single and not systems:
            return None
        if "user" not in single:
            raise CorpusError("The columns must say at least which one holds the user utterance (user=…).")
        return cls(**single, systems=systems)


COLUMN_PARTS: Final = (
    *("user", "dialogue", "turn", "reference", "response", "system", "split"),
    *("items", "user_items"),
)


def read_mapping(pairs: Iterable[str], parts: Sequence[str], many: str) -> tuple[dict[str, str], dict[str, str]]:
    """Read `part=column` pairs: one column per part, and column -> name of each `many:name=column`.

    Raises
    ------
    CorpusError
        A pair is none, or its part is unknown.
    """
    single: dict[str, str] = {}
    named: dict[str, str] = {}
    for pair in pairs:
        part, equals, column = (piece.strip() for piece in pair.partition("="))
        if not equals or not column:
            raise CorpusError(f"Columns are given as PART=COLUMN, not {pair[:80]!r}.")
        if part.startswith(f"{many}:") and len(part) > len(many) + 1:
            named[column] = part.removeprefix(f"{many}:")
        elif part in parts:
            single[part] = column
        else:
            raise CorpusError(f"There is no part {part[:40]!r}; there are {', '.join(parts)} and {many}:NAME.")
    return single, named


Items = tuple[str, ...] | None
"""The titles that a cell lists; None where there is no such column, so they are looked for in the words."""


@dataclass(slots=True)
class _Group:
    source_id: str
    split: str
    line: int
    turns: dict[int, tuple[str, str, int]] = field(default_factory=dict)
    items: dict[int, tuple[Items, Items]] = field(default_factory=dict)
    responses: list[Response] = field(default_factory=list)


def read_table(
    path: Path, columns: Columns, *, split: str = "", limits: Limits = DEFAULT_LIMITS
) -> Iterator[Dialogue | Response | BadRow]:
    """Stream the dialogues of a table, each followed by its systems' responses."""
    if columns.response and not columns.system:
        raise CorpusError("The mapping names a response column but no system column.")
    closed: dict[str, int] = {}
    group: _Group | None = None
    name = path.name
    for row in table_rows(path, columns.names(), limits=limits):
        if isinstance(row, BadRow):
            yield row
            continue
        line, record = row
        values = {key: "" if value is None else str(value) for key, value in record.items()}
        source_id = values[columns.dialogue].strip() if columns.dialogue else f"row-{line}"
        reason = next(filter(None, (unusable_characters(values[key]) for key in columns.names())), "")
        if not source_id or not values[columns.user].strip():
            reason = f"no value for {columns.dialogue if not source_id else columns.user}"
        if reason:
            yield BadRow(name, line, reason)
            continue
        if group is None or group.source_id != source_id:
            if group is not None:
                yield from _closed(group, name)
                closed[group.source_id] = group.line
                group = None
            if source_id in closed:
                first = closed[source_id]
                yield BadRow(
                    name, line, f"rows of dialogue {source_id} (line {first}) do not stand together; sort them"
                )
                continue
            group = _Group(source_id, values[columns.split] if columns.split else split, line)
        if problem := _add(group, values, columns, name, line):
            yield BadRow(name, line, problem)
    if group is not None:
        yield from _closed(group, name)


def _add(group: _Group, values: dict[str, str], columns: Columns, name: str, line: int) -> str:
    user, reference = values[columns.user], values[columns.reference] if columns.reference else ""
    if columns.turn:
        given = values[columns.turn].strip().removesuffix(".0")
        if not (given.isascii() and given.isdigit() and len(given) < 10):
            return f"{columns.turn} is {given[:40]!r}, expected a whole number"
        turn = int(given)
    else:
        last = max(group.turns, default=-1)
        turn = last if columns.response and group.turns.get(last, ("", "", 0))[:2] == (user, reference) else last + 1
    earlier = group.turns.get(turn)
    if earlier is None:
        group.turns[turn] = (user, reference, line)
        group.items[turn] = (_items(values, columns.user_items), _items(values, columns.items))
    elif earlier[:2] != (user, reference):
        return f"turn {turn} of dialogue {group.source_id} has other texts on line {earlier[2]}"
    given_responses = [(name, values[column]) for column, name in columns.systems.items()]
    if columns.response:
        given_responses.append((values[columns.system].strip(), values[columns.response]))
    for system, text in given_responses:
        if text.strip() and system:
            shown = decode_entities(text)
            group.responses.append(
                Response(group.source_id, turn, system, text, shown, fold(shown), {"join": "line"}, {}, name, line)
            )
        elif text.strip():
            return f"no value for {columns.system}"
    return ""


def _items(values: dict[str, str], column: str) -> Items:
    return listed_titles(values[column]) if column else None


def _closed(group: _Group, file: str) -> Iterator[Dialogue | Response]:
    utterances: list[Utterance] = []
    place: dict[int, int] = {}
    for index, turn in enumerate(sorted(group.turns)):
        user, reference, _ = group.turns[turn]
        place[turn] = 2 * index + 1
        of_user, of_reference = group.items[turn]
        utterances.append(_utterance(2 * index, "user", user, turn, of_user))
        if reference.strip():
            utterances.append(_utterance(2 * index + 1, "recommender", reference, turn, of_reference))
    meta = {"messages": len(utterances), "empty_messages": 0}
    yield Dialogue(group.source_id, group.split, tuple(utterances), meta, "", file, group.line)
    for response in group.responses:
        assert response.position is not None
        yield Response(
            response.dialogue_id,
            place[response.position],
            response.system,
            response.raw,
            response.shown,
            response.plain,
            {"join": "position"},
            {},
            file,
            response.line,
        )


def _utterance(position: int, role: Role, raw: str, turn: int, items: Items) -> Utterance:
    shown = decode_entities(raw)
    found = titles_in(shown) if items is None else items
    return Utterance(position, role, raw, shown, fold(shown), (f"{turn}:{role}",), found)


def table_rows(
    path: Path, required: tuple[str, ...] = (), *, limits: Limits = DEFAULT_LIMITS
) -> Iterator[tuple[int, dict[str, Any]] | BadRow]:
    """Yield `(line, row by column name)` of any supported table; the line of a Parquet row counts rows from 1."""
    kind = container(path)
    if kind == "parquet":
        yield from _parquet_rows(path, required)
    elif kind == "xlsx":
        yield from _workbook_rows(path, required)
    else:
        for part in parts(path):
            yield from _text_rows(part, required, limits)


def _text_rows(part: Part, required: tuple[str, ...], limits: Limits) -> Iterator[tuple[int, dict[str, Any]] | BadRow]:
    first = next((row for row in raw_lines(part, limits=limits) if isinstance(row, tuple) and row[1].strip()), None)
    if first is None:
        raise CorpusError(f"{part.name} has no readable line.")
    if not first[1].lstrip().startswith("{"):
        yield from delimited_rows(part, limits=limits, required=required)
        return
    for row in json_lines(part, limits=limits):
        if not isinstance(row, BadRow) and (missing := [name for name in required if name not in row[1]]):
            yield BadRow(part.name, row[0], f"{', '.join(missing)} missing")
        else:
            yield row


def _parquet_rows(path: Path, required: tuple[str, ...]) -> Iterator[tuple[int, dict[str, Any]]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as table:
            checked_header(path.name, list(table.schema_arrow.names), required)
            line = 0
            for batch in table.iter_batches(batch_size=_BATCH, columns=list(required) or None):
                for record in batch.to_pylist():
                    line += 1
                    yield line, record
    except (pa.ArrowException, OSError) as error:
        raise CorpusError(f"{path.name} is a damaged or truncated Parquet file ({error}).") from error


def _workbook_rows(path: Path, required: tuple[str, ...]) -> Iterator[tuple[int, dict[str, Any]] | BadRow]:
    import openpyxl

    try:
        book = openpyxl.load_workbook(path, read_only=True, data_only=True)
    except Exception as error:  # openpyxl raises whatever the broken part of the zip raises
        raise CorpusError(f"{path.name} is a damaged or unreadable workbook ({error}).") from error
    try:
        header: list[str] = []
        for line, cells in enumerate(book.worksheets[0].iter_rows(values_only=True), start=1):
            if not header:
                header = checked_header(path.name, ["" if cell is None else str(cell) for cell in cells], required)
            elif any(cell is not None for cell in cells):
                yield line, dict(zip(header, cells, strict=False))
    finally:
        book.close()
