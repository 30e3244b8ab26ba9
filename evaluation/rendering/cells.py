"""How a value is written: the same digits in every form, and *undefined, because …* where there is no number."""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from evaluation.report_model import REASONS

Table = Mapping[str, Any]
Row = Mapping[str, Any]

_FORMULA: Final = re.compile(r"^\s*[=+\-@＝＋－＠\t\r]")
_CONTROL: Final = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ufffe\uffff\ud800-\udfff]")


def plain(text: object) -> str:
    """Give text without the control characters that no document format can hold; each becomes U+FFFD."""
    return _CONTROL.sub("\ufffd", str(text))


def inert(text: str) -> str:
    """Give text that no spreadsheet takes for a formula: a leading =, +, -, @, tab or return gets an apostrophe."""
    cleaned = plain(text)
    return f"'{cleaned}" if _FORMULA.match(cleaned) else cleaned


def file_name(identifier: str) -> str:
    """Give a file's name from a table's or figure's identifier: nothing in it can leave its folder."""
    cleaned = re.sub(r"[^a-z0-9-]+", "-", identifier.lower()).strip("-")[:80]
    return cleaned or f"part-{hashlib.sha256(identifier.encode()).hexdigest()[:12]}"


def is_estimate(value: object) -> bool:
    """Say whether a cell holds an estimate: a value with its n, interval and reason."""
    return isinstance(value, Mapping) and "value" in value and "n" in value


def reason_text(reason: str | None) -> str:
    """Give a reason code as words; an unknown code as it is, with spaces."""
    return REASONS.get(reason, reason.replace("_", " ")) if reason else "no reason is recorded"


def number_text(value: float, kind: str = "number") -> str:
    """Write a number: counts with thin spaces, percent with one digit, p-values by convention, else three digits."""
    if kind in ("count", "n", "integer"):
        return f"{round(value):,}".replace(",", "\u202f")
    if kind.startswith("percent"):
        return f"{100 * value:.1f}".replace("-", "\u2212")
    if kind in ("p", "p_value"):
        return "< 0.001" if value < 0.001 else f"{value:.3f}"
    # A minus sign of its own length keeps columns aligned.
    return f"{value:.3f}".replace("-", "\u2212")


def interval_text(interval: Sequence[float], kind: str = "number") -> str:
    """Write an interval as [low, high]."""
    return f"[{number_text(interval[0], kind)}, {number_text(interval[1], kind)}]"


def cell_text(value: Any, kind: str = "text") -> str:
    """Write a cell on one line: a number, an estimate with interval and n, a text, or why there is nothing."""
    if value is None:
        return "–"
    if is_estimate(value):
        return estimate_text(value, kind)
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int | float):
        return number_text(float(value), "count" if kind == "text" and isinstance(value, int) else kind)
    if isinstance(value, list | tuple):
        return ", ".join(cell_text(part, kind) for part in value)
    return plain(value)


def estimate_text(estimate: Mapping[str, Any], kind: str = "number") -> str:
    """Write an estimate: `0.652 [0.600, 0.704] (n = 150)`, or `undefined, because no item has two labels`."""
    count = f"n = {number_text(float(estimate['n']), 'count')}"
    if estimate["value"] is None:
        return f"undefined, because {reason_text(estimate.get('reason'))} ({count})"
    text = number_text(float(estimate["value"]), scale_of(kind))
    if estimate.get("interval"):
        text += f" {interval_text(estimate['interval'], scale_of(kind))}"
    return f"{text} ({count})"


def scale_of(kind: str) -> str:
    """Give how the numbers of an estimate column are written: in percent where its kind says so."""
    return "percent" if "percent" in kind else "number"


PARTS: Final = ("", "_low", "_high", "_se", "_n", "_reason", "_notes")
"""The columns that one estimate becomes in flat tables: value, bounds, standard error, n, reason and notes."""


def flat_columns(table: Table) -> list[tuple[str, str, str]]:
    """Give the columns of a table with each estimate spread over `PARTS`: (key, title, kind)."""
    columns = []
    for column in table["columns"]:
        key, title, kind = column["key"], column["title"], column.get("kind", "text")
        if any(is_estimate(row.get(key)) for row in table["rows"]):
            titles = ("", " low", " high", " SE", " n", " reason", " notes")
            kinds = (scale_of(kind),) * 4 + ("count", "text", "text")
            columns += [
                (f"{key}{part}", f"{title}{more}", what) for part, more, what in zip(PARTS, titles, kinds, strict=True)
            ]
        else:
            columns.append((key, title, kind))
    return columns


def flat_rows(table: Table) -> Iterator[dict[str, Any]]:
    """Give the rows of a table as `flat_columns` names them: numbers as numbers, nothing as `None`."""
    for row in table["rows"]:
        flat: dict[str, Any] = {}
        for column in table["columns"]:
            key = column["key"]
            value = row.get(key)
            if is_estimate(value):
                low, high = value.get("interval") or (None, None)
                said = "; ".join(map(str, value.get("notes") or ())) or None
                values = (value["value"], low, high, value.get("se"), value["n"], value.get("reason"), said)
                flat.update({f"{key}{part}": found for part, found in zip(PARTS, values, strict=True)})
            elif isinstance(value, list | tuple):
                flat[key] = cell_text(value)
            elif isinstance(value, float) and not math.isfinite(value):
                flat[key] = None
            else:
                flat[key] = value
        yield flat


def all_tables(report: Mapping[str, Any]) -> Iterator[tuple[Mapping[str, Any], Table]]:
    """Give every table of a report with its section, in reading order."""
    for section in report["sections"]:
        for table in section["tables"]:
            yield section, table


def all_figures(report: Mapping[str, Any]) -> Iterator[tuple[Mapping[str, Any], Mapping[str, Any]]]:
    """Give every figure of a report with its section, in reading order."""
    for section in report["sections"]:
        for figure in section["figures"]:
            yield section, figure
