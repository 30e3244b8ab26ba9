"""Tables from files: CSV, TSV, Parquet and JSON lines, whose faults name the line or the row.

A row is a row of data, counted from 1; a line is a line of the file, counted from 1 too. Only the empty cell is
missing: `NA` or `None` are read as they stand, and `evaluation.tables` says what it does not take.
"""

from __future__ import annotations

import csv
import gzip
import json
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from io import TextIOWrapper
from pathlib import Path
from typing import Any, Final, TextIO, cast

import pandas as pd

from evaluation.tables import TableError

READABLE: Final = (".csv", ".tsv", ".parquet", ".jsonl")


def read_table(path: str | Path) -> pd.DataFrame:
    """Read a CSV, TSV, Parquet or JSONL file (by its suffix; `.gz` too for the text forms), cells of text as text.

    Raises
    ------
    TableError
        When the file is absent, of another kind, not UTF-8, damaged, or not well formed: a row that is shorter or
        longer than the header, a line that is no JSON object.
    """
    file = Path(path)
    suffix = Path(file.stem).suffix if file.suffix.lower() == ".gz" else file.suffix
    if not file.is_file():
        raise TableError(f"There is no file {file}.")
    try:
        match suffix.lower():
            case ".csv":
                return _read_delimited(file, ",")
            case ".tsv" | ".tab":
                return _read_delimited(file, "\t")
            case ".parquet" | ".pq":
                return pd.read_parquet(file)
            case ".jsonl" | ".ndjson":
                return _read_json_lines(file)
    except TableError:
        raise
    except UnicodeDecodeError as error:
        raise TableError(f"{file.name} is not UTF-8 text: {error}. Save it as UTF-8.") from error
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise TableError(f"{file.name} is cut off or damaged: {error}. Compress or download it again.") from error
    except (ValueError, OSError, NotImplementedError) as error:
        raise TableError(f"{file.name} cannot be read as {suffix.lstrip('.')}: {str(error).strip()}") from error
    raise TableError(f"{file.name} is of no kind that can be read; the kinds are: {', '.join(READABLE)}.")


@contextmanager
def _long_cells() -> Iterator[None]:
    """Let a cell be longer than 128 kB while a file is read; the limit is the whole process's, so it is put back."""
    before = csv.field_size_limit(2**31 - 1)
    try:
        yield
    finally:
        csv.field_size_limit(before)


@contextmanager
def _opened(file: Path) -> Iterator[TextIO]:
    """Open a text file, packed or not; a byte order mark is no part of it."""
    if file.suffix.lower() == ".gz":
        with gzip.open(file, "rb") as packed:
            yield TextIOWrapper(cast(Any, packed), encoding="utf-8-sig", newline="")
    else:
        with open(file, encoding="utf-8-sig", newline="") as text:
            yield text


def _read_delimited(file: Path, separator: str) -> pd.DataFrame:
    with _long_cells(), _opened(file) as stream:
        # strict: a quotation that is never closed would swallow the rest of the file
        lines = csv.reader(stream, delimiter=separator, strict=True)
        try:
            header = next(lines, [])
            if not header:
                raise TableError(f"{file.name} is empty: it needs a first line with the column names.")
            if repeated := sorted({name for name in header if header.count(name) > 1}):
                raise TableError(f"{file.name} names these columns twice: {', '.join(repeated)}.", column=repeated[0])
            rows: list[list[str]] = []
            for cells in lines:
                if len(cells) != len(header):
                    if not "".join(cells).strip():
                        continue
                    raise _uneven(file, cells, header, len(rows) + 1, lines.line_num)
                rows.append(cells)
        except csv.Error as error:
            raise TableError(f"{file.name}, line {lines.line_num}, cannot be read: {error}.") from error
    columns = zip(*rows, strict=True) if rows else ((),) * len(header)
    return pd.DataFrame(
        {
            name: pd.Series([cell or None for cell in cells], dtype="str")
            for name, cells in zip(header, columns, strict=True)
        }
    )


def _uneven(file: Path, cells: list[str], header: list[str], row: int, line: int) -> TableError:
    if len(cells) < len(header):
        lost = f"there is none for {header[len(cells)].strip()}; an empty cell needs the separator before it"
    else:
        lost = "a cell that holds the separator must stand in quotation marks"
    return TableError(
        f"Row {row} (line {line}) of {file.name} has {len(cells)} cells, but there are {len(header)} columns: {lost}.",
        row=row,
        column=header[len(cells)].strip() if len(cells) < len(header) else None,
    )


def _read_json_lines(file: Path) -> pd.DataFrame:
    rows: list[dict[str, Any]] = []
    with _opened(file) as stream:
        for number, line in enumerate(stream, start=1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except json.JSONDecodeError as error:
                what = f"{error.msg.removesuffix(' at')} at character {error.colno}"
                raise TableError(f"Line {number} of {file.name} cannot be read as jsonl: {what}.") from error
            except (ValueError, RecursionError) as error:
                raise TableError(f"Line {number} of {file.name} cannot be read as jsonl: {error}.") from error
            if not isinstance(row, dict):
                raise TableError(f"Line {number} of {file.name} is no JSON object: each line is one row.")
            rows.append(row)
    names = list(dict.fromkeys(name for row in rows for name in row))
    # as objects, so that 1, 1.0, "1" and true stay what was written
    return pd.DataFrame({name: pd.Series([row.get(name) for row in rows], dtype=object) for name in names})
