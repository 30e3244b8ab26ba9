"""The column contract of the tables the statistics take, checked at the door.

Three tables: `turns` (one row per turn and system), `judgments` (one row per item and annotator) and `ratings` (one row
per item, annotator and outcome). Every check that fails is a `TableError` that names the row and the column; data rows
count from 1. An empty cell is missing. Columns that a contract does not name are left alone.
"""

from __future__ import annotations

import csv
import gzip
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from evaluation.emotions import EMOTIONS

Kind = Literal["key", "label", "text", "number", "probability", "flag"]

ARMS: Final = ("shown", "hidden")
ITEM_KINDS: Final = ("user", "response", "reference", "rate")
READABLE: Final = (".csv", ".tsv", ".parquet", ".jsonl")


class TableError(ValueError):
    """A table breaks its contract; `row` (from 1, or `None`) and `column` say where."""

    def __init__(self, message: str, *, row: int | None = None, column: str | None = None):
        super().__init__(message)
        self.row = row
        self.column = column


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a contract: what it holds, and whether it must be there and filled."""

    name: str
    kind: Kind
    required: bool = True
    filled: bool = True
    choices: tuple[str, ...] = ()


_DRAW = (
    Column("inclusion_probability", "probability", required=False, filled=False),
    Column("stratum", "text", required=False, filled=False),
)

TURNS: Final = (
    Column("dialogue", "key"),
    Column("turn", "key"),
    Column("dataset", "text", required=False, filled=False),
    Column("system", "key"),
    Column("user_label", "label", filled=False),
    Column("response_label", "label", filled=False),
    Column("reference_label", "label", required=False, filled=False),
    Column("user_verified", "label", required=False, filled=False),
    Column("response_verified", "label", required=False, filled=False),
    Column("reference_verified", "label", required=False, filled=False),
    *_DRAW,
    Column("is_reference", "flag", required=False, filled=False),
)
JUDGMENTS: Final = (
    Column("item", "key"),
    Column("annotator", "key"),
    Column("label", "label", filled=False),
    Column("dialogue", "key", required=False),
    Column("kind", "text", required=False, filled=False, choices=ITEM_KINDS),
    Column("dataset", "text", required=False, filled=False),
    Column("system", "text", required=False, filled=False),
    Column("turn", "text", required=False, filled=False),
    Column("arm", "text", required=False, filled=False, choices=ARMS),
    Column("prelabel", "label", required=False, filled=False),
    Column("gold_label", "label", required=False, filled=False),
    Column("received_at", "text", required=False, filled=False),
    Column("active_ms", "number", required=False, filled=False),
    *_DRAW,
)
RATINGS: Final = (
    Column("item", "key"),
    Column("annotator", "key"),
    Column("dialogue", "key"),
    Column("turn", "text", required=False, filled=False),
    Column("dataset", "text", required=False, filled=False),
    Column("system", "text", required=False, filled=False),
    Column("outcome", "key"),
    Column("value", "number", filled=False),
    Column("position", "number", required=False, filled=False),
    Column("aligned_exact", "flag", required=False, filled=False),
    Column("aligned_coarse", "flag", required=False, filled=False),
    Column("user_emotion", "label", required=False, filled=False),
)

_TRUE: Final = frozenset({"true", "1", "1.0", "yes"})
_FALSE: Final = frozenset({"false", "0", "0.0", "no"})


# --- the three doors -------------------------------------------------------------------------------------------------


def check_turns(frame: pd.DataFrame, labels: Sequence[str] = EMOTIONS) -> pd.DataFrame:
    """Check a `turns` table and give it in its standard form.

    Parameters
    ----------
    frame
        One row per turn and system. The reference responses are a system too. `dataset` and `reference_label` may be
        absent; they are then added, empty.
    labels
        The declared label set.

    Returns
    -------
    DataFrame
        A new frame, index 0..n-1, with every label column a categorical over `labels`, text stripped, empty cells
        missing and probabilities in (0, 1].

    Raises
    ------
    TableError
        Naming the row and the column: a column absent, a cell empty that must be filled, a label outside the set, a
        number out of range, or a turn given twice for one system.
    """
    checked = _check(frame, TURNS, labels, "turns")
    for name in ("dataset", "reference_label"):
        if name not in checked:
            checked[name] = label_series([None] * len(checked), labels, name) if name == "reference_label" else None
    _refuse_repeats(checked, ["dataset", "dialogue", "turn", "system"])
    return checked


def check_judgments(
    frame: pd.DataFrame, labels: Sequence[str] = EMOTIONS, *, repeats: Literal["refuse", "keep"] = "refuse"
) -> pd.DataFrame:
    """Check a `judgments` table (columns item, annotator, label and the optional ones) and give its standard form.

    Rows with an empty label stay, as missing: a skip is no label. An annotator who labels one item twice is refused
    unless `repeats` is `keep`; superseded judgments are to be left out before.

    Raises
    ------
    TableError
        As for `check_turns`.
    """
    checked = _check(frame, JUDGMENTS, labels, "judgments")
    if repeats == "refuse":
        _refuse_repeats(checked, ["item", "annotator"])
    return checked


def check_ratings(
    frame: pd.DataFrame, scale: tuple[float, float] = (1, 5), labels: Sequence[str] = EMOTIONS
) -> pd.DataFrame:
    """Check a `ratings` table and give it in its standard form; values lie on the declared `scale` (lowest, highest).

    Raises
    ------
    TableError
        As for `check_turns`; also for a value off the scale.
    """
    checked = _check(frame, RATINGS, labels, "ratings")
    values = checked["value"].to_numpy(dtype=float)
    off = (values < scale[0]) | (values > scale[1])
    if off.any():
        row = int(np.argmax(off))
        raise _fault(f"the value {values[row]:g} is not on the scale {scale[0]:g} to {scale[1]:g}", row, "value")
    _refuse_repeats(checked, ["item", "annotator", "outcome"])
    return checked


def label_series(values: Any, labels: Sequence[str], column: str = "label") -> pd.Series[Any]:
    """Give labels as a categorical series over the declared set, in its order; its codes are -1 where missing.

    Raises
    ------
    TableError
        For the first value outside the set, with its row, and for a set that is empty or repeats itself.
    """
    declared = [str(label) for label in labels]
    if not declared or len(set(declared)) != len(declared):
        raise TableError(f"The declared label set must name each label once, got: {', '.join(declared) or 'nothing'}.")
    series = values.reset_index(drop=True) if isinstance(values, pd.Series) else pd.Series(values, dtype=object)
    if isinstance(series.dtype, pd.CategoricalDtype) and list(series.cat.categories) == declared:
        return series
    codes, uniques = pd.factorize(series)
    texts = [_as_text(value) for value in uniques]
    position = {label: code for code, label in enumerate(declared)}
    lookup = np.array([-1 if text is None else position.get(text, -2) for text in texts] + [-1], dtype=np.int64)
    final = lookup[codes]
    if (final == -2).any():
        row = int(np.argmax(final == -2))
        raise _fault(
            f"the label {texts[codes[row]]!r} is not in the declared set ({', '.join(declared)}); "
            "correct the label or declare it",
            row,
            column,
        )
    return pd.Series(pd.Categorical.from_codes(final, categories=pd.Index(declared)))


def label_codes(values: Any, labels: Sequence[str], column: str = "label") -> NDArray[np.int64]:
    """Give the position of each label in `labels`, -1 where missing; raises `TableError` as `label_series` does."""
    return label_series(values, labels, column).cat.codes.to_numpy().astype(np.int64)


def observed_labels(values: Any) -> list[str]:
    """Give the labels that occur, numbers in numerical order, else in alphabetical order."""
    found = {text for value in pd.unique(pd.Series(values)) if (text := _as_text(value)) is not None}
    try:
        return sorted(found, key=float)
    except ValueError:
        return sorted(found)


# --- the checks ------------------------------------------------------------------------------------------------------


def _check(frame: pd.DataFrame, contract: Sequence[Column], labels: Sequence[str], table: str) -> pd.DataFrame:
    named = [str(column).strip() for column in frame.columns]
    if repeated := sorted({name for name in named if named.count(name) > 1}):
        raise TableError(f"The {table} table names these columns twice: {', '.join(repeated)}.", column=repeated[0])
    checked = frame.reset_index(drop=True).set_axis(named, axis=1)
    if absent := [column.name for column in contract if column.required and column.name not in named]:
        raise TableError(
            f"The {table} table lacks the column {', '.join(absent)}; it has: {', '.join(named) or 'none'}.",
            column=absent[0],
        )
    replaced = {
        column.name: _check_column(checked[column.name], column, labels)
        for column in contract
        if column.name in checked
    }
    return checked.assign(**replaced)


def _check_column(series: pd.Series[Any], column: Column, labels: Sequence[str]) -> pd.Series[Any]:
    if column.kind == "label":
        result = label_series(series, labels, column.name)
    elif column.kind in ("number", "probability"):
        result = _numbers(series, column)
    elif column.kind == "flag":
        result = _flags(series, column)
    else:
        result = _texts(series, column)
    if column.filled and result.isna().any():
        row = int(np.argmax(result.isna().to_numpy()))
        raise _fault("the cell is empty and must be filled", row, column.name)
    return result


def _texts(series: pd.Series[Any], column: Column) -> pd.Series[Any]:
    codes, uniques = pd.factorize(series)
    texts = [_as_text(value) for value in uniques]
    if column.choices:
        wrong = [text is not None and text not in column.choices for text in texts]
        if any(wrong):
            row = int(np.argmax(np.array([*wrong, False])[codes]))
            raise _fault(f"{texts[codes[row]]!r} is none of: {', '.join(column.choices)}", row, column.name)
    return pd.Series(np.array([*texts, None], dtype=object)[codes], dtype=object)


def _numbers(series: pd.Series[Any], column: Column) -> pd.Series[Any]:
    blank = series.isna().to_numpy() | (series.astype(object) == "").to_numpy()
    numbers = pd.to_numeric(series.astype(object).where(~blank, None), errors="coerce").astype(float)
    values = numbers.to_numpy()
    wrong = (np.isnan(values) & ~blank) | np.isinf(values)
    if wrong.any():
        row = int(np.argmax(wrong))
        raise _fault(f"{series.iloc[row]!r} is not a number", row, column.name)
    outside = (values <= 0) | (values > 1)
    if column.kind == "probability" and outside.any():
        row = int(np.argmax(outside))
        raise _fault(f"{values[row]:g} is no inclusion probability: it must be above 0 and at most 1", row, column.name)
    return numbers


def _flags(series: pd.Series[Any], column: Column) -> pd.Series[Any]:
    codes, uniques = pd.factorize(series)
    meanings: list[bool | None] = []
    for position, value in enumerate(uniques):
        text = (_as_text(value) or "").lower()
        if text and text not in _TRUE | _FALSE:
            raise _fault(f"{value!r} is neither true nor false", int(np.argmax(codes == position)), column.name)
        meanings.append(None if not text else text in _TRUE)
    return pd.Series(np.array([*meanings, None], dtype=object)[codes], dtype="boolean")


def _refuse_repeats(frame: pd.DataFrame, key: list[str]) -> None:
    columns = [name for name in key if name in frame]
    repeated = frame.duplicated(columns).to_numpy()
    if repeated.any():
        row = int(np.argmax(repeated))
        same = np.ones(row, dtype=bool)
        for name in columns:
            cell = frame[name].iloc[row]
            column = frame[name].iloc[:row]
            same &= (column.isna() if pd.isna(cell) else column == cell).to_numpy()
        raise _fault(f"the same {', '.join(columns)} as in row {int(np.argmax(same)) + 1}", row, columns[0])


def _as_text(value: Any) -> str | None:
    """Give a cell as stripped text; 3.0 and 3 are the same label, and empty is missing."""
    if value is None or value is pd.NA or (isinstance(value, float | np.floating) and np.isnan(value)):
        return None
    if isinstance(value, float | np.floating) and float(value).is_integer():
        return str(int(value))
    return str(value).strip() or None


def _fault(what: str, row: int, column: str) -> TableError:
    return TableError(f"Row {row + 1}, column {column}: {what}.", row=row + 1, column=column)


# --- files -----------------------------------------------------------------------------------------------------------


def read_table(path: str | Path) -> pd.DataFrame:
    """Read a CSV, TSV, Parquet or JSONL file (by its suffix; `.gz` too for the text forms), cells of text as text.

    Only the empty cell is missing: `NA` or `None` are read as they stand.

    Raises
    ------
    TableError
        When the file is absent, of another kind, not UTF-8, or not well formed.
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
                # dtype=False keeps "01" and 1 as they were written
                return pd.read_json(file, lines=True, dtype=False, compression="infer")
    except UnicodeDecodeError as error:
        raise TableError(f"{file.name} is not UTF-8 text: {error}. Save it as UTF-8.") from error
    except (ValueError, OSError, csv.Error, pd.errors.ParserWarning) as error:
        if isinstance(error, TableError):
            raise
        raise TableError(f"{file.name} cannot be read as {suffix.lstrip('.')}: {str(error).strip()}") from error
    raise TableError(f"{file.name} is of no kind that can be read; the kinds are: {', '.join(READABLE)}.")


def _read_delimited(file: Path, separator: str) -> pd.DataFrame:
    opener = gzip.open if file.suffix.lower() == ".gz" else open
    with opener(file, "rt", encoding="utf-8-sig", newline="") as stream:
        header = next(csv.reader(stream, delimiter=separator), [])
    if not header:
        raise TableError(f"{file.name} is empty: it needs a first line with the column names.")
    if repeated := sorted({name for name in header if header.count(name) > 1}):
        raise TableError(f"{file.name} names these columns twice: {', '.join(repeated)}.", column=repeated[0])
    with warnings.catch_warnings():
        warnings.simplefilter("error", pd.errors.ParserWarning)
        return pd.read_csv(
            file,
            sep=separator,
            dtype=str,
            keep_default_na=False,
            na_values=[""],
            encoding="utf-8-sig",
            index_col=False,
            skip_blank_lines=True,
        )
