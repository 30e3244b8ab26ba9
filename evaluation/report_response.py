"""The response rate in section 0 of the report: how many drawn turns people resolved, and what the rest could do.

Estimates take the unresolved turns of a stratum to be like its resolved ones. The bounds take nothing: exact alignment
of the drawn turns if every unresolved one matched, and if none did (Manski 1989).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd

from evaluation.report_model import HUMAN, Cell, Column, Names, Table

KEYS = ["dataset", "dialogue", "turn"]


def response_table(
    turns: pd.DataFrame, judgments: pd.DataFrame, order: Sequence[tuple[str, str]], names: Names
) -> Table | None:
    """Give the drawn, answered and resolved turns by system and stratum; `None` where the table names no draw.

    A drawn turn counts for a system when the classifier labelled both its sides, as it does for alignment; answered
    when somebody labelled both, in whichever arm; resolved when both have a verified label.

    Parameters
    ----------
    turns
        Prepared turns, with `is_reference_row`.
    order
        Data sets and systems in the order of the report.
    """
    if "inclusion_probability" not in turns or "user_verified" not in turns or "response_verified" not in turns:
        return None
    both = turns["user_label"].notna() & turns["response_label"].notna()
    drawn = turns[turns["inclusion_probability"].notna() & both].reset_index(drop=True)
    if not len(drawn):
        return None
    drawn = drawn.assign(
        dataset=drawn["dataset"].fillna("").astype(str),
        answered=_answered(drawn, judgments),
        resolved=drawn["user_verified"].notna() & drawn["response_verified"].notna(),
        matched=drawn["user_verified"].astype(object) == drawn["response_verified"].astype(object),
        weight=1 / drawn["inclusion_probability"].to_numpy(dtype=float),
    )
    return Table(
        "response-rate",
        "Of the drawn turns, how many are resolved",
        (
            Column("dataset", "Data set"),
            Column("system", "System"),
            Column("stratum", "Stratum"),
            Column("drawn", "Drawn", "count"),
            Column("answered", "Both sides labelled", "count"),
            Column("resolved", "Both sides resolved", "count"),
            Column("share", "Resolved %", "percent"),
            Column("low", "Exact alignment if no other matched %", "percent"),
            Column("high", "if every other matched %", "percent"),
        ),
        tuple(_rows(drawn, order, names)),
        "Drawn turns whose two sides the classifier labelled. Unresolved: not answered yet, a tie, or too few labels "
        "of those that count. Estimates take the unresolved turns to be like the resolved ones of their stratum; the "
        "bounds take nothing, and count each turn by the inverse of its inclusion probability.",
    )


def _rows(drawn: pd.DataFrame, order: Sequence[tuple[str, str]], names: Names) -> Iterator[dict[str, Cell]]:
    for dataset, system in order:
        part = drawn[(drawn["dataset"] == dataset) & (drawn["system"].astype(str) == system)]
        if not len(part):
            continue
        reference = bool(part["is_reference_row"].any())
        place: dict[str, Cell] = {
            "dataset": names.dataset(dataset),
            "system": HUMAN if reference else names.system(system),
        }
        slices = [("all", part)]
        if "stratum" in part and part["stratum"].nunique() > 1:
            slices += [(str(name), rows) for name, rows in part.groupby("stratum", sort=True)]
        for stratum, rows in slices:
            weight, resolved = rows["weight"].to_numpy(dtype=float), rows["resolved"].to_numpy(dtype=bool)
            matched = rows["matched"].to_numpy(dtype=bool) & resolved
            known = bool(rows["answered"].notna().all())
            yield place | {
                "stratum": stratum,
                "drawn": len(rows),
                "answered": int(rows["answered"].sum()) if known else None,
                "resolved": int(resolved.sum()),
                "share": float(resolved.mean()),
                "low": float(weight @ matched / weight.sum()),
                "high": float(weight @ (matched | ~resolved) / weight.sum()),
            }


def _answered(drawn: pd.DataFrame, judgments: pd.DataFrame) -> Any:
    """Say of each row whether somebody labelled both its sides; nothing where the judgments name no places."""
    if not len(judgments) or not {"kind", "dialogue", "turn", "system"} <= set(judgments.columns):
        return pd.Series(None, index=drawn.index, dtype=object)
    given = judgments[judgments["label"].notna()]
    held = {name: _texts(given, name) for name in (*KEYS, "system")}
    of_user = (given["kind"] == "user").to_numpy()
    users = set(zip(*(held[name][of_user] for name in KEYS), strict=True))
    responses = set(zip(*(held[name][~of_user] for name in (*KEYS, "system")), strict=True))
    mine = {name: _texts(drawn, name) for name in (*KEYS, "system")}
    return [
        place[:3] in users and place in responses
        for place in zip(*(mine[name] for name in (*KEYS, "system")), strict=True)
    ]


def _texts(table: pd.DataFrame, name: str) -> np.ndarray[Any, Any]:
    if name not in table:
        return np.full(len(table), "", dtype=object)
    return table[name].astype(object).where(table[name].notna(), "").astype(str).to_numpy(dtype=object)
