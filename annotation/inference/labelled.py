"""Texts with known emotions, read from whatever table they come in."""

from __future__ import annotations

import csv
import gzip
import io
import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from annotation.inference.base import ClassifierError
from evaluation.emotions import EMOTIONS, GO_EMOTIONS, Grouping, grouping_named

_SEPARATORS: Final = re.compile(r"[,;|]")


@dataclass(frozen=True)
class Labelled:
    """The usable rows of a table.

    Attributes
    ----------
    texts
        One per row.
    targets
        Which of the seven emotions each row was given, shape (n, 7); at least one per row.
    left_out
        One sentence for every row that was left out, and why.
    """

    texts: list[str]
    targets: NDArray[np.bool_]
    left_out: list[str]

    @property
    def single(self) -> NDArray[np.int64]:
        """Give the positions of the rows whose labels come to one emotion."""
        return np.flatnonzero(self.targets.sum(-1) == 1)


def read_labelled(
    path: Path,
    *,
    text_column: str,
    label_column: str,
    grouping: str | Grouping = "ekman",
    mapping: Mapping[str, str] | None = None,
) -> Labelled:
    """Read texts and their emotions from a CSV, TSV or JSONL file, which may be gzipped.

    A label is one of the seven emotions, one of the 28 GoEmotions labels, a GoEmotions id (0 to 27), or a key of
    `mapping`. A cell may hold several, separated by commas, semicolons or bars, or as a JSON list.

    Parameters
    ----------
    text_column, label_column
        Names from the first row of the table; numbers (1 is the first column) when the table has no such row.

    Raises
    ------
    ClassifierError
        When the file cannot be read, lacks a column, or has no row that can be used; says what is there.
    """
    known = _known(grouping_named(grouping), mapping or {})
    texts: list[str] = []
    targets: list[NDArray[np.bool_]] = []
    left_out: list[str] = []
    unknown: Counter[str] = Counter()
    for number, text, cell in _rows(path, text_column, label_column):
        labels = _labels(cell)
        strange = [label for label in labels if label not in known]
        if not text.strip():
            left_out.append(f"row {number}: no text")
        elif not labels:
            left_out.append(f"row {number}: no label")
        elif strange:
            unknown.update(strange)
            left_out.append(f"row {number}: {', '.join(map(repr, strange))} is no known label")
        else:
            texts.append(text)
            targets.append(np.isin(EMOTIONS, [known[label] for label in labels]))
    if not texts:
        seen = ", ".join(f"{label!r} ({count})" for label, count in unknown.most_common(12))
        raise ClassifierError(
            f"{path} has no row that can be used"
            + (f"; its labels are {seen}. " if seen else ". ")
            + "Known labels are "
            f"the seven emotions ({', '.join(EMOTIONS)}) and the 28 of GoEmotions or their ids; say what others mean "
            "with --map LABEL=EMOTION."
        )
    return Labelled(texts, np.array(targets, dtype=bool), left_out)


def _known(grouping: Grouping, mapping: Mapping[str, str]) -> dict[str, str]:
    known: dict[str, str] = {fine: grouping.emotion_of[fine] for fine in GO_EMOTIONS}
    known |= {emotion: emotion for emotion in EMOTIONS}
    known |= {str(index): grouping.emotion_of[fine] for index, fine in enumerate(GO_EMOTIONS)}
    for label, meant in mapping.items():
        if meant not in known:
            raise ClassifierError(
                f"The label {label!r} cannot be read as {meant!r}: that is none of the seven emotions "
                f"({', '.join(EMOTIONS)}) and none of the 28 labels of GoEmotions."
            )
    return known | {label.strip().casefold(): known[meant] for label, meant in mapping.items()}


def _labels(cell: Any) -> list[str]:
    if isinstance(cell, str) and cell.lstrip().startswith("["):
        try:
            cell = json.loads(cell)
        except ValueError:
            cell = cell.strip().strip("[]").replace("'", "")
    parts = cell if isinstance(cell, list) else _SEPARATORS.split(str(cell if cell is not None else ""))
    return [label for part in parts if (label := str(part).strip().casefold())]


def _rows(path: Path, text_column: str, label_column: str) -> Iterator[tuple[int, str, Any]]:
    content = _content(path)
    kind = (path.with_suffix("") if path.suffix == ".gz" else path).suffix.lower()
    wanted = (text_column, label_column)
    if kind in (".jsonl", ".ndjson"):
        yield from _objects(path, content, wanted)
        return
    if kind in (".tsv", ".tab"):
        # Tab-separated files of this field do not quote: a quotation mark is a quotation mark.
        table = csv.reader(content.split("\n"), delimiter="\t", quoting=csv.QUOTE_NONE)
    else:
        head = content.partition("\n")[0]
        separator = ";" if head.count(";") > head.count(",") else ","
        table = csv.reader(io.StringIO(content, newline=""), delimiter=separator)
    rows = ((table.line_num, [cell.rstrip("\r") for cell in row]) for row in table if any(row))
    if all(column.isdigit() for column in wanted):
        places = [int(column) - 1 for column in wanted]
        if min(places) < 0:
            raise ClassifierError("Columns are counted from 1.")
    else:
        header = [name.strip() for name in next(rows, (0, []))[1]]
        _check_columns(path, wanted, header)
        places = [header.index(column) for column in wanted]
    for number, row in rows:
        text, label = (row[place] if place < len(row) else "" for place in places)
        yield number, text, label


def _objects(path: Path, content: str, wanted: tuple[str, str]) -> Iterator[tuple[int, str, Any]]:
    first = True
    for number, line in enumerate(content.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            raise ClassifierError(f"{path}, line {number}, is not JSON: {error}") from error
        if not isinstance(row, dict):
            raise ClassifierError(f"{path}, line {number}, is not a JSON object.")
        if first:
            _check_columns(path, wanted, list(row))
            first = False
        text = row.get(wanted[0])
        yield number, "" if text is None else str(text), row.get(wanted[1])


def _content(path: Path) -> str:
    try:
        data = path.read_bytes()
        return (gzip.decompress(data) if path.suffix == ".gz" else data).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ClassifierError(f"{path} is not UTF-8 text (byte {error.start}). Save it as UTF-8.") from error
    except (OSError, EOFError) as error:
        raise ClassifierError(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}.") from error


def _check_columns(path: Path, wanted: tuple[str, str], columns: list[str]) -> None:
    if missing := [column for column in wanted if column not in columns]:
        there = ", ".join(sorted(columns)) or "none"
        raise ClassifierError(
            f"{path} has no column {' and no column '.join(missing)}; it has: {there}. Name its columns with "
            "--text-column and --label-column, or count them (1, 2, …) if its first row holds no names."
        )
