"""Tables as CSV and as one XLSX workbook. A text stays text: no cell can become a formula."""

from __future__ import annotations

import csv
import io
import re
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

from evaluation.rendering.cells import Table, all_tables, flat_columns, flat_rows, inert, is_estimate, plain

FONT: Final = "Calibri"
NUMBER_WIDTH: Final = 7
LINE_HEIGHT: Final = 15
"""Points; the width of a column is counted in digits."""

FORMATS: Final[Mapping[str, str]] = {
    "count": "#,##0",
    "n": "#,##0",
    "integer": "#,##0",
    "percent": "0.0%",
    "p": "0.000",
    "p_value": "0.000",
    "number": "0.000",
    "share": "0.000",
}
_SHEET_NAME: Final = re.compile(r"[\[\]:*?/\\']")


def csv_lines(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> Iterator[str]:
    """Give CSV lines (RFC 4180, line feeds), header first. Memory does not grow with the rows."""
    buffer = io.StringIO()
    # The writer quotes what its line end contains: with both characters in it, no bare CR stands outside quotes.
    writer = csv.writer(buffer, lineterminator="\r\n")

    def line(values: Sequence[Any]) -> str:
        writer.writerow(values)
        text = buffer.getvalue().removesuffix("\r\n") + "\n"
        buffer.seek(0)
        buffer.truncate()
        return text

    yield line([inert(name) for name in columns])
    for row in rows:
        yield line([csv_cell(value) for value in row])


def csv_cell(value: Any) -> Any:
    """Give a cell for CSV: numbers as they are, nothing as an empty cell, truth as true/false, text inert."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return value
    return inert(str(value))


def table_csv(table: Table) -> str:
    """Give a report's table as CSV, each estimate as value, bounds, standard error, n, reason and notes."""
    columns = [key for key, _, _ in flat_columns(table)]
    return "".join(csv_lines(columns, ([row.get(key) for key in columns] for row in flat_rows(table))))


def workbook(report: Mapping[str, Any]) -> bytes:
    """Give a report's tables as XLSX: one sheet a table, number formats, the header frozen, and a sheet of contents."""
    tables = [(table["id"], table["title"], table) for _, table in all_tables(report)]
    return workbook_of(str(report["title"]), tables, status=str(report.get("status", "")))


def workbook_of(title: str, tables: Sequence[tuple[str, str, Table]], *, status: str = "") -> bytes:
    """Give tables, each with an identifier and a title, as one workbook."""
    from openpyxl import Workbook  # kept out of the import of the statistics
    from openpyxl.styles import Font

    book = Workbook()
    contents = book.active
    assert contents is not None
    contents.title = "Contents"
    _put(contents, 1, 1, title, bold=True)
    _put(contents, 2, 1, status)
    for column, head in enumerate(("Sheet", "Table", "Rows"), start=1):
        _put(contents, 4, column, head, bold=True)
    taken = {"contents"}
    for number, (identifier, name, table) in enumerate(tables, start=5):
        sheet_name = _sheet_name(identifier, taken)
        _put(contents, number, 1, sheet_name)
        contents.cell(number, 1).hyperlink = f"#'{sheet_name}'!A1"
        contents.cell(number, 1).font = Font(name=FONT, color="0563C1", underline="single")
        _put(contents, number, 2, name)
        contents.cell(number, 3, len(table["rows"]))
        _fill(book.create_sheet(sheet_name), name, table)
    contents.column_dimensions["A"].width = 32
    contents.column_dimensions["B"].width = 90
    _for_print(contents)
    stream = io.BytesIO()
    book.save(stream)
    return stream.getvalue()


def _sheet_name(identifier: str, taken: set[str]) -> str:
    base = _SHEET_NAME.sub("-", plain(identifier))[:31] or "table"
    name, count = base, 1
    while name.lower() in taken:
        count += 1
        name = f"{base[: 31 - len(str(count)) - 1]}-{count}"
    taken.add(name.lower())
    return name


def _put(sheet: Any, row: int, column: int, value: Any, *, bold: bool = False) -> None:
    from openpyxl.styles import Font

    cell = sheet.cell(row, column)
    if isinstance(value, str):
        # openpyxl takes "=…" for a formula unless the type is set after the value.
        cell.value = plain(value)[:32_767]
        cell.data_type = "s"
        cell.quotePrefix = value[:1] in "=+-@" and bool(value)
    else:
        cell.value = value
    if bold:
        cell.font = Font(name=FONT, bold=True)


def _for_print(sheet: Any) -> None:
    """Lay the sheet across the paper, made to fit its width, the heading on every page."""
    sheet.page_setup.orientation = "landscape"
    sheet.page_setup.fitToHeight = 0
    sheet.sheet_properties.pageSetUpPr.fitToPage = True
    sheet.print_title_rows = "1:2"


def _fill(sheet: Any, title: str, table: Table) -> None:
    from openpyxl.styles import Alignment, Border, Font, Side
    from openpyxl.utils import get_column_letter

    columns = _filled(table)
    _put(sheet, 1, 1, title, bold=True)
    rule = Border(bottom=Side(style="thin"))
    for place, (_, head, _) in enumerate(columns, start=1):
        _put(sheet, 2, place, head)
        sheet.cell(2, place).font = Font(name=FONT, bold=True)
        sheet.cell(2, place).border = rule
        sheet.cell(2, place).alignment = Alignment(wrap_text=True, vertical="bottom")
    # A heading breaks into lines, but no word of it does.
    widths = [max(len(head) // 3, *map(len, head.split()), NUMBER_WIDTH) for _, head, _ in columns]
    for number, row in enumerate(flat_rows(table), start=3):
        for place, (key, _, kind) in enumerate(columns, start=1):
            value = row.get(key)
            if value is None:
                continue
            _put(sheet, number, place, value)
            if isinstance(value, int | float) and not isinstance(value, bool):
                sheet.cell(number, place).number_format = _format_of(kind, value)
                shown = f"{value:,}" if isinstance(value, int) else f"{value:,.3f}"
            else:
                shown = str(value)
            widths[place - 1] = max(widths[place - 1], min(60, len(shown)))
    for place, width in enumerate(widths, start=1):
        sheet.column_dimensions[get_column_letter(place)].width = min(60, width + 2)
    lines = [len(textwrap.wrap(head, min(60, width))) for (_, head, _), width in zip(columns, widths, strict=True)]
    sheet.row_dimensions[2].height = LINE_HEIGHT * max(lines, default=1)
    _for_print(sheet)
    sheet.freeze_panes = "B3"
    if table["rows"]:
        sheet.auto_filter.ref = f"A2:{get_column_letter(len(columns))}{len(table['rows']) + 2}"


def _filled(table: Table) -> list[tuple[str, str, str]]:
    """Give the columns of a sheet: those of the CSV, without columns of notes that hold none."""
    rows = list(flat_rows(table))
    plain_keys = {column["key"] for column in table["columns"]}
    return [
        column
        for column in flat_columns(table)
        if column[0] in plain_keys or not column[0].endswith("_notes") or any(row.get(column[0]) for row in rows)
    ]


def _format_of(kind: str, value: float) -> str:
    if kind in FORMATS:
        return FORMATS[kind]
    return "#,##0" if isinstance(value, int) else "0.000"


def estimate_columns(rows: Sequence[Mapping[str, Any]], keys: Sequence[str]) -> list[str]:
    """Say which of the keys hold estimates in these rows."""
    return [key for key in keys if any(is_estimate(row.get(key)) for row in rows)]
