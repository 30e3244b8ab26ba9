"""Labels and ratings that people gave elsewhere -> plain records: Label Studio JSON, doccano JSON lines, any table.

A record says who gave what to which words; finding the words in the database is `annotation.workflow.label_intake`'s.
What cannot be read is a `BadRow`, never an exception, as long as the rest of the file can be. Of a Label Studio file,
which is one JSON list, the line of a bad row is the number of its task.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Final, Literal

from annotation.corpora.dialogue import BadRow, CorpusError, unusable_characters
from annotation.corpora.reading import (
    DEFAULT_LIMITS,
    Limits,
    check_file,
    container,
    json_lines,
    parse_object,
    parts,
    raw_lines,
)
from annotation.corpora.table import read_mapping, table_rows

LabelFormat = Literal["auto", "label-studio", "doccano", "table"]
LABEL_FORMATS: Final = ("label-studio", "doccano", "table")
PSEUDONYM_DOMAIN: Final = "pseudonym.invalid"
"""Label Studio knows people by e-mail address; a pseudonym becomes one of this domain, which can receive none."""

ARMS: Final = ("shown", "hidden")


@dataclass(frozen=True, slots=True)
class Given:
    """One label, or the ratings of one response, as another program or our own export has it."""

    file: str
    line: int
    annotator: str
    label: str = ""
    ratings: Mapping[str, Any] = field(default_factory=dict)
    text: str = ""
    keys: Mapping[str, Any] = field(default_factory=dict)
    judgment: str = ""
    prelabel: str = ""
    arm: str = ""
    comment: str = ""
    active_ms: int | None = None
    given_at: str = ""


@dataclass(frozen=True, slots=True)
class LabelColumns:
    """Which column of a table holds what; the names are those of our own export. An empty name means there is none.

    Words are found by `dialogue` and `turn` (with `dataset`, `kind`, `system`), or by `text`. Ratings come long
    (`outcome` and `value`, one row per scale) or wide (`ratings`: column -> scale).
    """

    annotator: str = ""
    label: str = ""
    text: str = ""
    dataset: str = ""
    dialogue: str = ""
    turn: str = ""
    kind: str = ""
    system: str = ""
    outcome: str = ""
    value: str = ""
    comment: str = ""
    received_at: str = ""
    ratings: Mapping[str, str] = field(default_factory=dict)

    def names(self) -> tuple[str, ...]:
        """Every column that the mapping needs."""
        single = (getattr(self, one.name) for one in fields(self) if one.name != "ratings")
        return tuple(dict.fromkeys(name for name in (*single, *self.ratings) if name))

    @classmethod
    def parse(cls, pairs: Iterable[str]) -> LabelColumns | None:
        """Read `annotator=coder text=sentence label=emotion rating:satisfaction=sat …`; nothing said is no mapping.

        Raises
        ------
        CorpusError
            A pair is none, or a part is unknown.
        """
        single, ratings = read_mapping(pairs, LABEL_PARTS, "rating")
        return cls(**single, ratings=ratings) if single or ratings else None


LABEL_PARTS: Final = tuple(one.name for one in fields(LabelColumns) if one.name != "ratings")


@dataclass(frozen=True, slots=True)
class LabelFile:
    """An opened file of labels: what it is, its SHA-256, and its rows, to be read once."""

    path: Path
    format: str
    sha256: str
    rows: Iterator[Given | BadRow]


def open_labels(
    path: Path | str,
    format: LabelFormat = "auto",
    *,
    columns: LabelColumns | None = None,
    limits: Limits = DEFAULT_LIMITS,
) -> LabelFile:
    """Check a file of labels or ratings, recognise it and return its rows.

    Raises
    ------
    CorpusError
        The file is missing, empty, damaged, in no known format, or a table without what a label needs.
    """
    path = Path(path)
    sha256 = check_file(path, limits=limits)
    known = format if format != "auto" else "table" if columns is not None else _sniff(path, limits)
    if known == "label-studio":
        rows = read_label_studio(path, limits=limits)
    elif known == "doccano":
        rows = read_doccano(path, limits=limits)
    elif known == "table":
        rows = read_label_table(path, columns or _own_columns(path, limits), limits=limits)
    else:
        raise CorpusError(f"{known!r} is no known format of labels; choose one of {', '.join(LABEL_FORMATS)}.")
    return LabelFile(path, known, sha256, rows)


def _sniff(path: Path, limits: Limits) -> str:
    if container(path) in ("xlsx", "parquet"):
        return "table"
    for row in raw_lines(parts(path)[0], limits=limits):
        if isinstance(row, BadRow) or not row[1].strip():
            continue
        if row[1].lstrip().startswith("["):
            return "label-studio"
        if row[1].lstrip().startswith("{"):
            record = parse_object(row[1])
            return "doccano" if isinstance(record, dict) and "text" in record and not _is_own(record) else "table"
        return "table"
    raise CorpusError(f"{path.name} has no readable line.")


def _is_own(record: Mapping[str, Any]) -> bool:
    return "judgment" in record and isinstance(record.get("label"), str)


def _own_columns(path: Path, limits: Limits) -> LabelColumns:
    """The columns of a table that names them as our own exports do."""
    first = next((row for row in table_rows(path, limits=limits) if not isinstance(row, BadRow)), None)
    present = set(first[1]) if first else set()
    own: dict[str, Any] = {name: name for name in LABEL_PARTS if name in present}
    return LabelColumns(**own)


# --- Label Studio ----------------------------------------------------------------------------------------------------


def read_label_studio(path: Path, *, limits: Limits = DEFAULT_LIMITS) -> Iterator[Given | BadRow]:
    """Read a Label Studio export (JSON): one record per annotation that holds an emotion or ratings.

    Skipped annotations and the ground truth, which is an adjudicator's, are no one's label and are left out.
    """
    part = parts(path)[0]
    with part.open() as stream:
        content = stream.read()
    try:
        tasks = json.loads(content)
    except (ValueError, RecursionError) as error:
        where = f" (line {error.lineno}, column {error.colno})" if isinstance(error, json.JSONDecodeError) else ""
        raise CorpusError(f"{path.name} is no JSON{where}.") from error
    if not isinstance(tasks, list):
        raise CorpusError(f"{path.name} is no list of tasks; export from Label Studio as JSON, not as JSON-MIN.")
    for number, task in enumerate(tasks, start=1):
        if not isinstance(task, dict) or not isinstance(task.get("data"), dict):
            yield BadRow(path.name, number, f"task {number}: a task needs data and annotations")
            continue
        given = task.get("annotations") or []
        if not isinstance(given, list) or not all(isinstance(one, dict) for one in given):
            yield BadRow(path.name, number, f"task {number}: its annotations are no list of objects")
            continue
        for annotation in given:
            yield from _of_annotation(path.name, number, task, annotation)


def _of_annotation(
    file: str, number: int, task: Mapping[str, Any], given: Mapping[str, Any]
) -> Iterator[Given | BadRow]:
    if given.get("was_cancelled") or given.get("ground_truth"):
        return
    data = task["data"]
    keys = data["attune"] if isinstance(data.get("attune"), dict) else {}
    known = _of_answer(keys, given)
    result = [one for one in given.get("result") or [] if isinstance(one, dict)]
    label, ratings = _chosen(result), _rated(result)
    if not label and not ratings:
        yield BadRow(file, number, f"task {number}: an annotation holds neither a choice nor a rating")
        return
    guesses = [_chosen(one.get("result")) for one in task.get("predictions") or [] if isinstance(one, dict)]
    prelabel = next((guess for guess in guesses if guess), "")
    seconds = given.get("lead_time")
    timed = isinstance(seconds, int | float) and not isinstance(seconds, bool) and 0 <= seconds < 1e6
    yield Given(
        file=file,
        line=number,
        annotator=_person(given.get("completed_by")),
        label=label,
        ratings=ratings,
        text=str(data.get("text", "")),
        keys=keys,
        judgment=str(known.get("judgment") or given.get("unique_id") or ""),
        prelabel=prelabel,
        arm=_arm(known.get("arm"), prelabel),
        comment=_written(result),
        active_ms=round(seconds * 1000) if timed and seconds is not None else None,
        given_at=str(given.get("created_at") or ""),
    )


def _of_answer(keys: Mapping[str, Any], given: Mapping[str, Any]) -> Mapping[str, Any]:
    """What our export wrote down about this very annotation, in the part of the task that Label Studio carries."""
    answers = keys.get("answers")
    found = answers.get(str(given.get("unique_id"))) if isinstance(answers, dict) else None
    return found if isinstance(found, dict) else {}


def _arm(said: Any, prelabel: str) -> str:
    """Whether the pre-label could be seen. Where nobody says, a task that carries one has shown it."""
    return said if said in ARMS else "shown" if said is None and prelabel else ""


def _values(result: Any, kind: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for one in result if isinstance(result, list) else []:
        if isinstance(one, dict) and one.get("type") == kind and isinstance(one.get("value"), dict):
            yield str(one.get("from_name", "")), one["value"]


def _chosen(result: Any) -> str:
    for _, value in _values(result, "choices"):
        choices = value.get("choices")
        return str(choices[0]).strip().lower() if isinstance(choices, list) and choices else ""
    return ""


def _rated(result: Any) -> dict[str, Any]:
    return {scale: value.get("rating") for scale, value in _values(result, "rating")}


def _written(result: Any) -> str:
    for _, value in _values(result, "textarea"):
        text = value.get("text") or ""
        return str(text[0] if isinstance(text, list) and text else text)
    return ""


def _person(completed_by: Any) -> str:
    if isinstance(completed_by, dict):
        completed_by = completed_by.get("email") or completed_by.get("id")
    return str(completed_by or "unknown").removesuffix(f"@{PSEUDONYM_DOMAIN}")


# --- doccano ---------------------------------------------------------------------------------------------------------


def read_doccano(path: Path, *, limits: Limits = DEFAULT_LIMITS) -> Iterator[Given | BadRow]:
    """Read a doccano export (text classification, JSONL): one record per label."""
    for part in parts(path):
        for found in json_lines(part, limits=limits):
            if isinstance(found, BadRow):
                yield found
                continue
            line, row = found
            labels = row.get("label", row.get("labels"))
            if "text" not in row or not isinstance(labels, list | str):
                yield BadRow(part.name, line, "a doccano row needs text and label; export as JSONL")
                continue
            comments = row.get("Comments") or row.get("comments") or []
            said = comments[0] if isinstance(comments, list) and comments else ""
            prelabel = str(row.get("prelabel") or "")
            for label in [labels] if isinstance(labels, str) else labels:
                yield Given(
                    file=part.name,
                    line=line,
                    annotator=str(row.get("annotator") or row.get("username") or row.get("user") or "unknown"),
                    label=str(label).strip().lower(),
                    text=str(row["text"]),
                    keys=row,
                    judgment=str(row.get("judgment") or ""),
                    prelabel=prelabel,
                    arm=_arm(row.get("arm"), prelabel),
                    comment=said if isinstance(said, str) else "",
                    active_ms=_whole(row.get("active_ms")),
                    given_at=str(row.get("received_at") or ""),
                )


def _whole(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**31 else None


# --- tables ----------------------------------------------------------------------------------------------------------


def read_label_table(path: Path, columns: LabelColumns, *, limits: Limits = DEFAULT_LIMITS) -> Iterator[Given | BadRow]:
    """Read a table (CSV, TSV, JSONL, Parquet, XLSX) of labels, ratings or both: one row per person and words.

    Raises
    ------
    CorpusError
        The mapping does not say who gave what to which words, or a column it names is missing.
    """
    _check(path.name, columns)
    for row in table_rows(path, columns.names(), limits=limits):
        if isinstance(row, BadRow):
            yield row
            continue
        line, record = row
        cells = {name: "" if value is None else str(value).strip() for name, value in record.items()}
        bad = next(filter(None, (unusable_characters(cells.get(name, "")) for name in columns.names())), "")
        given = bad or _of_row(path.name, line, cells, columns)
        yield BadRow(path.name, line, given) if isinstance(given, str) else given


def _check(name: str, columns: LabelColumns) -> None:
    missing = []
    if not columns.annotator:
        missing.append("annotator")
    if not columns.text and not (columns.dialogue and columns.turn):
        missing.append("dialogue and turn, or text")
    if not columns.label and not columns.ratings and not (columns.outcome and columns.value):
        missing.append("label, or a rating, or outcome and value")
    if missing:
        raise CorpusError(f"{name}: say which column holds {'; '.join(missing)}.")


def _of_row(file: str, line: int, cells: Mapping[str, str], columns: LabelColumns) -> Given | str:
    def cell(column: str) -> str:
        return cells.get(column, "") if column else ""

    if not cell(columns.annotator):
        return f"no value for {columns.annotator}"
    ratings: dict[str, Any] = {
        scale: _number(cells[column]) for column, scale in columns.ratings.items() if cells[column]
    }
    if columns.outcome and columns.value and cell(columns.outcome) and cell(columns.value):
        ratings[cell(columns.outcome)] = _number(cell(columns.value))
    label = cell(columns.label).lower()
    if not label and not ratings:
        return "neither a label nor a rating"
    turn = cell(columns.turn).removesuffix(".0")
    if columns.turn and not (turn.isascii() and turn.isdigit() and len(turn) < 10) and not cell(columns.text):
        return f"{columns.turn} is {turn[:40]!r}, expected a whole number"
    keys = {
        "dataset": cell(columns.dataset) or None,
        "dialogue": cell(columns.dialogue) or None,
        "turn": int(turn) if turn.isascii() and turn.isdigit() and len(turn) < 10 else None,
        "kind": cell(columns.kind) or None,
        "system": cell(columns.system) or None,
    }
    return Given(
        file=file,
        line=line,
        annotator=cell(columns.annotator),
        label=label,
        ratings=ratings,
        text=cell(columns.text),
        keys=keys,
        comment=cell(columns.comment),
        given_at=cell(columns.received_at),
    )


def _number(text: str) -> int | str:
    plain = text.removesuffix(".0")
    return int(plain) if plain.isascii() and plain.isdigit() and len(plain) < 6 else text
