"""Every table of the report, cell by cell, against values worked out by other means (`golden_tables`)."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import evaluation
from evaluation.intervals import Estimate
from evaluation.report_model import Report
from tests.evaluation import golden_corpus as corpus
from tests.evaluation.golden_tables import GOLDEN, Noisy, Undefined, Value


def tables_of(report: Report) -> set[str]:
    return {table.id for section in report.sections for table in section.tables}


def test_every_table_of_the_report_has_a_golden_counterpart() -> None:
    assert tables_of(corpus.blind()) | tables_of(corpus.assisted()) == set(GOLDEN)


def test_no_table_is_written_that_the_golden_corpus_does_not_reach() -> None:
    """A table that appears only with other data would go unchecked: its name is found in the source."""
    named = set()
    for path in Path(evaluation.__file__).parent.glob("report*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Table":
                name = node.args[0]
                start = name.values[0] if isinstance(name, ast.JoinedStr) else name
                assert isinstance(start, ast.Constant), f"{path.name}: a table without a name"
                named.add(str(start.value))
    assert len(named) > 25
    assert {name for name in named if not any(known.startswith(name) for known in GOLDEN)} == set()


@pytest.mark.parametrize("identifier", sorted(GOLDEN))
def test_every_cell_is_what_another_route_gives(identifier: str) -> None:
    report = corpus.assisted() if identifier == "anchoring" else corpus.blind()
    table = report.table(identifier)
    expected = GOLDEN[identifier]()
    assert len(table.rows) == len(expected)
    columns = {column.key for column in table.columns}
    wrong = []
    for place, (given, wanted) in enumerate(zip(table.rows, expected, strict=True)):
        assert set(wanted) == columns, f"row {place}"
        for key in columns:
            problem = difference(given.get(key), wanted[key], dict(given), [dict(row) for row in table.rows])
            if problem:
                wrong.append(f"row {place} {key}: {problem}")
    assert wrong == []


def difference(given: Any, wanted: Any, row: dict[str, Any], rows: list[dict[str, Any]]) -> str:
    """Say how a cell differs from what was expected; nothing when it does not."""
    if callable(wanted):
        return difference(given, _called(wanted, row, rows), row, rows)
    if isinstance(wanted, Undefined):
        right = isinstance(given, Estimate) and given.value is None and given.reason in wanted.reasons
        return "" if right else f"{given} is not undefined"
    if isinstance(wanted, Value):
        return _estimate(given, wanted)
    if isinstance(wanted, Noisy):
        return "" if given == pytest.approx(wanted.value, abs=wanted.within) else f"{given}, expected {wanted}"
    if isinstance(wanted, float):
        return "" if given == pytest.approx(wanted, abs=1e-9) else f"{given}, expected {wanted}"
    return "" if given == wanted and type(given) is type(wanted) else f"{given!r}, expected {wanted!r}"


def _called(wanted: Callable[..., Any], row: dict[str, Any], rows: list[dict[str, Any]]) -> Any:
    return wanted(row, rows) if len(inspect.signature(wanted).parameters) == 2 else wanted(row)


def _estimate(given: Any, wanted: Value) -> str:
    if not isinstance(given, Estimate) or given.value is None:
        return f"{given} has no value, expected {wanted}"
    if given.value != pytest.approx(wanted.value, abs=max(1e-9, wanted.within if wanted.bounds is None else 1e-7)):
        return f"value {given.value}, expected {wanted}"
    if wanted.n is not None and given.n != wanted.n:
        return f"n {given.n}, expected {wanted.n}"
    if given.interval is None:
        return "" if given.reason and wanted.bounds is None else f"no interval ({given.reason}), expected {wanted}"
    if not given.interval[0] - 1e-9 <= given.value <= given.interval[1] + 1e-9:
        return f"{given.interval} does not hold {given.value}"
    if wanted.bounds is not None and given.interval != pytest.approx(
        tuple(min(max(b, -1e9), 1e9) for b in wanted.bounds), abs=max(wanted.within, 1e-9)
    ):
        return f"interval {given.interval}, expected {wanted.bounds} within {wanted.within}"
    return ""
