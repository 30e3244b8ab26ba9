"""`report BUNDLE`: compute the numbers of a report bundle again, and say what differs from those it holds."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import Any

from evaluation.command.output import Answer, Json, is_statistic, statistic


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add what can be asked."""
    parser.add_argument("bundle", metavar="BUNDLE", help="the bundle (a folder or .zip) that a report was stored as")


def run(parsed: argparse.Namespace) -> Answer:
    """Compute the report."""
    from evaluation.report import recompute

    body = recompute(parsed.bundle).to_json()
    return Answer(body, _lines(body), 1 if body.get("differences") else 0)


def _lines(body: Json) -> Iterator[str]:
    yield f"{body['title']} ({body['status']})"
    for section in body["sections"]:
        yield f"{section['number']}. {section['title']}"
        yield from (f"  ! {warning}" for warning in section["warnings"])
        for table in section["tables"]:
            yield f"  {table['title']}"
            yield "    " + " | ".join(column["title"] for column in table["columns"])
            for row in table["rows"]:
                yield "    " + " | ".join(_cell(row[column["key"]]) for column in table["columns"])
    differences = body.get("differences")
    if differences is None:
        yield "the bundle holds no stored report to compare with"
    else:
        yield f"{len(differences)} numbers differ from the bundle" if differences else "every number is reproduced"
        yield from (f"  {difference}" for difference in differences)


def _cell(value: Any) -> str:
    if is_statistic(value):
        return statistic(value)
    if isinstance(value, float):
        return f"{value:.4g}"
    return "" if value is None else str(value)
