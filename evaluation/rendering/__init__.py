"""A finished report in the forms people use: a page, a PDF, a workbook, CSV, LaTeX. Nothing is computed here.

Every renderer takes the report as plain data, as `report.json` holds it, so a stored report renders without the code
that computed it. Text from users' data is text in each form: escaped in HTML and LaTeX, never a formula in a sheet.
"""

from __future__ import annotations
