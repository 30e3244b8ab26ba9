"""The column contract of the tables the statistics take, checked at the door.

Three tables: `turns` (one row per turn and system), `judgments` (one row per item and annotator) and `ratings` (one row
per item, annotator and outcome). Every check that fails is a `TableError` that names the row and the column; data rows
count from 1. An empty cell is missing. Columns that a contract does not name are left alone.

A label is the same label however its file writes it: text is composed (Unicode NFC) and stripped, and a number is
written in one way, so that 1, 1.0 and "1.0" are `1`. Keys (item, annotator, dialogue, …) are text as it stands.
"""

from __future__ import annotations

import difflib
import re
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from evaluation.emotions import EMOTIONS

Kind = Literal["key", "label", "text", "number", "probability", "flag"]

ARMS: Final = ("shown", "hidden")
ITEM_KINDS: Final = ("user", "response", "reference", "rate")
NOT_AVAILABLE: Final = frozenset(
    {"NA", "<NA>", "#N/A", "N/A", "n/a", "NaN", "nan", "NAN", "None", "null", "NULL", "Null"}
)
"""How programs write a missing value as text; R writes `NA`."""


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
    *_DRAW,
)

_TRUE: Final = frozenset({"true", "1", "1.0", "yes"})
_FALSE: Final = frozenset({"false", "0", "0.0", "no"})
_NUMBER: Final = re.compile(r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?")
_NESTED: Final = frozenset({list, dict, tuple, set, bytes, np.ndarray})
_EMPTY_CELL: Final = "leave the cell empty where there is no label, or declare the labels (--labels) if it is one"


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
    declared = declared_labels(labels)
    series = values.reset_index(drop=True) if isinstance(values, pd.Series) else pd.Series(values, dtype=object)
    if isinstance(series.dtype, pd.CategoricalDtype) and list(series.cat.categories) == declared:
        return series
    codes, texts = _factorised(series, column, label_text)
    position = {label: code for code, label in enumerate(declared)}
    lookup = np.array([-1 if text is None else position.get(text, -2) for text in texts] + [-1], dtype=np.int64)
    final = lookup[codes]
    if (final == -2).any():
        row = int(np.argmax(final == -2))
        text = texts[codes[row]]
        assert text is not None
        raise _fault(
            f"the label {text!r} is not in the declared set ({', '.join(declared)}); {_advice(text, declared)}",
            row,
            column,
        )
    return pd.Series(pd.Categorical.from_codes(final, categories=pd.Index(declared)))


def label_codes(values: Any, labels: Sequence[str], column: str = "label") -> NDArray[np.int64]:
    """Give the position of each label in `labels`, -1 where missing; raises `TableError` as `label_series` does."""
    return label_series(values, labels, column).cat.codes.to_numpy().astype(np.int64)


def declared_labels(labels: Sequence[str]) -> list[str]:
    """Give a label set as the tables write it; a `TableError` where it is empty or names a label twice."""
    texts = [label_text(label) for label in labels]
    named = [text for text in texts if text is not None]
    if not named or len(set(named)) != len(texts):
        raise TableError(
            f"The declared label set must name each label once, got: {', '.join(map(str, labels)) or '-'}."
        )
    return named


def observed_labels(values: Any, column: str = "label") -> list[str]:
    """Give the labels that occur, numbers in numerical order, else in alphabetical order.

    Raises
    ------
    TableError
        For the first cell that is how a program writes a missing value (`NA`, `nan`, `null`, …), with its row: as a
        label of an undeclared set it would count as one more category.
    """
    codes, texts = _factorised(pd.Series(values).reset_index(drop=True), column, label_text)
    missing = np.array([text in NOT_AVAILABLE for text in texts] + [False], dtype=bool)[codes]
    if missing.any():
        row = int(np.argmax(missing))
        raise _fault(f"{texts[codes[row]]!r} looks like a missing value; {_EMPTY_CELL}", row, column)
    found = {text for text in texts if text is not None}
    if all(_NUMBER.fullmatch(text) for text in found):
        return sorted(found, key=lambda text: (Decimal(text), text))
    return sorted(found)


def with_plain_names(frame: pd.DataFrame, table: str) -> pd.DataFrame:
    """Give the table with stripped column names and its rows numbered from 0; a `TableError` for a name given twice."""
    named = [str(column).strip() for column in frame.columns]
    if repeated := sorted({name for name in named if named.count(name) > 1}):
        raise TableError(f"The {table} table names these columns twice: {', '.join(repeated)}.", column=repeated[0])
    return frame.reset_index(drop=True).set_axis(named, axis=1)


def key_text(value: Any) -> str | None:
    """Give a key (item, annotator, …) as stripped text; the number 3.0 is `3`, and empty is missing."""
    if (
        value is None
        or value is pd.NA
        or value is pd.NaT
        or (isinstance(value, float | np.floating) and value != value)
    ):
        return None
    if isinstance(value, bool | np.bool_):
        return "true" if value else "false"
    if isinstance(value, float | np.floating) and float(value).is_integer():
        return str(int(value))
    return str(value).strip() or None


def label_text(value: Any) -> str | None:
    """Give a label as text: composed (NFC), stripped, a finite number written in one way (`1.0` is `1`)."""
    text = key_text(value)
    if text is None:
        return None
    text = unicodedata.normalize("NFC", text)
    if not _NUMBER.fullmatch(text):
        return text
    number = Decimal(text)
    # 1e999 written out would be a thousand digits; so far out the text stays as it is
    if number.is_zero() or abs(number.adjusted()) > 40:
        return "0" if number.is_zero() else text
    plain = f"{number:f}"
    return plain.rstrip("0").rstrip(".") if "." in plain else plain


# --- the checks ------------------------------------------------------------------------------------------------------


def _check(frame: pd.DataFrame, contract: Sequence[Column], labels: Sequence[str], table: str) -> pd.DataFrame:
    checked = with_plain_names(frame, table)
    named = list(checked.columns)
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


def _factorised(
    series: pd.Series[Any], column: str, as_text: Callable[[Any], str | None]
) -> tuple[NDArray[np.int64], list[str | None]]:
    """Give each cell's number, -1 where missing, and the text of each number; a list or an object is no cell."""
    if series.dtype == object:
        kinds = set(map(type, series))
        if kinds & _NESTED:
            row = next(row for row, value in enumerate(series) if type(value) in _NESTED)
            what = "bytes" if isinstance(series.iloc[row], bytes) else "a list or an object"
            raise _fault(f"there is {what} where one value belongs", row, column)
        if kinds & {bool, np.bool_}:
            # as values, true and 1 are the same
            series = pd.Series([as_text(value) for value in series], dtype=object)
    codes, uniques = pd.factorize(series)
    return codes.astype(np.int64), [as_text(value) for value in uniques]


def _advice(text: str, declared: Sequence[str]) -> str:
    if text in NOT_AVAILABLE:
        return _EMPTY_CELL
    folded = {label.casefold(): label for label in declared}
    near = folded.get(text.casefold()) or next(iter(difflib.get_close_matches(text, declared, 1, 0.75)), None)
    return f"is it {near}? Correct the label or declare it" if near else "correct the label or declare it"


def _texts(series: pd.Series[Any], column: Column) -> pd.Series[Any]:
    codes, texts = _factorised(series, column.name, key_text)
    if column.choices:
        wrong = [text is not None and text not in column.choices for text in texts]
        if any(wrong):
            row = int(np.argmax(np.array([*wrong, False])[codes]))
            raise _fault(f"{texts[codes[row]]!r} is none of: {', '.join(column.choices)}", row, column.name)
    return pd.Series(np.array([*texts, None], dtype=object)[codes], dtype=object)


def _numbers(series: pd.Series[Any], column: Column) -> pd.Series[Any]:
    if series.dtype == object:
        odd = np.array([isinstance(value, bool | np.bool_) or type(value) in _NESTED for value in series], dtype=bool)
        if odd.any():
            row = int(np.argmax(odd))
            raise _fault(f"{series.iloc[row]!r} is not a number", row, column.name)
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
    codes, texts = _factorised(series, column.name, key_text)
    meanings: list[bool | None] = []
    for position, text in enumerate(texts):
        said = (text or "").lower()
        if said and said not in _TRUE | _FALSE:
            raise _fault(f"{text!r} is neither true nor false", int(np.argmax(codes == position)), column.name)
        meanings.append(None if not said else said in _TRUE)
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


def _fault(what: str, row: int, column: str) -> TableError:
    return TableError(f"Row {row + 1}, column {column}: {what}.", row=row + 1, column=column)
