"""`sample FILE`: draw which units to verify; the answer is CSV with the inclusion probability of every unit."""

from __future__ import annotations

import argparse
from typing import Any

import pandas as pd

from evaluation.command.arguments import seed_argument, whole
from evaluation.command.output import Answer
from evaluation.files import read_table
from evaluation.sampling import DESIGNS, MIN_PER_STRATUM, STRATIFIED, draw
from evaluation.tables import TableError, key_text, with_plain_names

# a list of one's own needs no draw
OFFERED = tuple(design for design in DESIGNS if design != "list")


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add what can be asked."""
    parser.add_argument(
        "file", metavar="FILE", help="one row per unit, .csv, .tsv, .parquet or .jsonl (also .gz), with a column of ids"
    )
    parser.add_argument("--size", type=whole(1), metavar="N", help="how many units to draw (all but the design all)")
    parser.add_argument(
        "--design",
        choices=OFFERED,
        default="simple",
        help="simple: all alike (default). Within strata: proportional to their size, equal, half of each (for "
        "macro-F1, by predicted label), neyman (size x --spread). uncertainty: proportional to a column. all: no draw",
    )
    parser.add_argument("--id", default="id", metavar="COLUMN", help="the column that names a unit (default id)")
    parser.add_argument(
        "--strata", metavar="COLUMN", help="the column of the strata, such as the predicted label (default stratum)"
    )
    parser.add_argument(
        "--uncertainty", metavar="COLUMN", help="the column of the design uncertainty, above 0 (default uncertainty)"
    )
    parser.add_argument(
        "--minimum",
        type=whole(0),
        default=MIN_PER_STRATUM,
        metavar="N",
        help=f"at least so many per stratum, as far as it has them (default {MIN_PER_STRATUM})",
    )
    parser.add_argument(
        "--spread",
        metavar="STRATUM=S,…",
        help="standard deviation within each stratum for neyman, such as joy=0.3,fear=0.5",
    )
    seed_argument(parser)


def run(parsed: argparse.Namespace) -> Answer:
    """Draw the sample."""
    if parsed.size is None and parsed.design != "all":
        raise ValueError(f"The design {parsed.design} needs --size, the number of units to draw.")
    frame = _frame(with_plain_names(read_table(parsed.file), "sampling"), parsed)
    drawn = draw(frame, parsed.size, parsed.design, parsed.seed, minimum=parsed.minimum, spread=_spread(parsed.spread))
    plain = drawn.assign(stratum=drawn["stratum"].astype(object).where(drawn["stratum"].notna(), None))
    units = plain.to_dict("records")
    body = {"design": parsed.design, "size": len(units), "population": len(frame), "seed": parsed.seed, "units": units}
    return Answer(body, [str(plain.to_csv(index=False, lineterminator="\n")).removesuffix("\n")])


def _frame(table: pd.DataFrame, parsed: argparse.Namespace) -> pd.DataFrame:
    """Give the columns that the draw looks at, by the names it knows."""
    columns = {"id": _column(table, parsed.id, "--id", filled=True)}
    if parsed.design in STRATIFIED or parsed.strata is not None:
        columns["stratum"] = _column(table, parsed.strata or "stratum", "--strata", filled=True)
    elif "stratum" in table:
        columns["stratum"] = _column(table, "stratum", "--strata", filled=False)
    if parsed.design == "uncertainty":
        name = parsed.uncertainty or "uncertainty"
        texts = _column(table, name, "--uncertainty", filled=True)
        numbers = pd.to_numeric(texts, errors="coerce")
        if (wrong := ~(numbers > 0)).any():
            row = int(wrong.to_numpy().argmax())
            raise TableError(f"Row {row + 1}, column {name}: {texts.iloc[row]!r} is no number above 0.")
        columns["uncertainty"] = numbers
    return pd.DataFrame(columns)


def _column(table: pd.DataFrame, name: str, option: str, *, filled: bool) -> pd.Series[Any]:
    if name not in table:
        raise TableError(f"There is no column {name}; name one with {option}: {', '.join(table.columns) or 'none'}.")
    texts = pd.Series([key_text(value) for value in table[name]], dtype=object)
    if filled and texts.isna().any():
        row = int(texts.isna().to_numpy().argmax()) + 1
        raise TableError(f"Row {row}, column {name}: the cell is empty and must be filled.", row=row, column=name)
    return texts


def _spread(text: str | None) -> dict[str, float] | None:
    if text is None:
        return None
    found = {}
    for part in text.split(","):
        name, equals, value = part.rpartition("=")
        try:
            found[name.strip()] = float(value)
        except ValueError:
            equals = ""
        if not equals or not found[name.strip()] >= 0:
            raise ValueError(
                f"--spread takes STRATUM=NUMBER separated by commas, such as joy=0.3,fear=0.5; got {part!r}."
            )
    return found
