"""A report as one readable page, and as a tagged PDF. The same markup serves the product's own page.

No inline style and no script: the product's policy forbids both, and the downloaded page needs neither. Figures are
inline SVG drawn in the text's own colour, so they follow a dark page; colours that mean an emotion stay.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Mapping, Sequence
from html import escape
from typing import Any, Final

from evaluation.intervals import DEFAULT_CONFIDENCE
from evaluation.rendering.cells import (
    Table,
    all_tables,
    cell_text,
    file_name,
    is_estimate,
    number_text,
    plain,
    scale_of,
)
from evaluation.rendering.notes import Footnotes

INK: Final = "#1b1f24"
"""The colour figures draw text and axes in; on a page it becomes the colour of the text."""

_STYLE: Final = re.compile(r'\sstyle="([^"]*)"')
_STYLE_SHEET: Final = re.compile(r"<defs>\s*<style.*?</style>\s*</defs>|<style.*?</style>", re.DOTALL)
_PROLOGUE: Final = re.compile(r"^.*?(?=<svg)", re.DOTALL)
_FONT: Final = re.compile(r"(?:(?P<weight>bold|normal|\d00)\s+)?(?P<size>[\d.]+)px\s+(?P<family>.+)")
_BACKGROUND: Final = re.compile(r'(<g id="patch_1">\s*<path [^>]*?)fill: #ffffff')
_METADATA: Final = re.compile(r"<metadata>.*?</metadata>", re.DOTALL)
_ID: Final = re.compile(r'\sid="([^"]+)"')
_REFERENCE: Final = re.compile(r'url\(#([^)]+)\)|href="#([^"]+)"')

Figures = Mapping[str, str]


def text(value: object) -> str:
    """Give any value as HTML text."""
    return escape(plain(value), quote=True)


def inline_svg(svg: str, identifier: str) -> str:
    """Turn a figure's SVG file into markup for a page: no style attribute, no style sheet, ids of its own.

    CSS declarations become the presentation attributes of the same name; the ink becomes `currentColor`.
    """
    markup = _METADATA.sub("", _STYLE_SHEET.sub("", _PROLOGUE.sub("", svg)))
    markup = _BACKGROUND.sub(r"\1fill: none", markup)
    markup = _STYLE.sub(lambda match: _attributes(match[1]), markup)
    wanted = {name for pair in _REFERENCE.findall(markup) for name in pair if name} | {"title", "description"}
    markup = _ID.sub(lambda match: f' id="{identifier}-{match[1]}"' if match[1] in wanted else "", markup)
    markup = markup.replace("url(#", f"url(#{identifier}-").replace('href="#', f'href="#{identifier}-')
    markup = markup.replace(
        'aria-labelledby="title description"', f'aria-labelledby="{identifier}-title {identifier}-description"'
    )
    markup = markup.replace(INK, "currentColor")
    return re.sub(r'(<svg[^>]*?)\s(?:width="[^"]*"\s+height|height="[^"]*"\s+width)="[^"]*"', r"\1", markup, count=1)


def _attributes(style: str) -> str:
    found: dict[str, str] = {}
    for declaration in style.replace("&quot;", "'").split(";"):
        name, _, value = declaration.partition(":")
        name, value = name.strip(), value.strip()
        if not name:
            continue
        if name == "font" and (match := _FONT.match(value)):
            found["font-size"] = match["size"]
            found["font-family"] = "inherit"
            if match["weight"]:
                found["font-weight"] = match["weight"]
        else:
            found[name] = value
    return "".join(f' {name}="{value}"' for name, value in found.items())


# --- the parts of a report -------------------------------------------------------------------------------------------

FOLDED_ROWS: Final = 30
"""A longer table is folded on the page where it is not the first thing its section has to show."""

PRINTED_ROWS: Final = 16
FIRST_PRINTED_ROWS: Final = 160
"""How many rows of a table go on paper: a section without figures shows its first table whole."""

STATUS: Final[Mapping[str, str]] = {
    "unverified": "Unverified: every label here is the classifier's; none has been verified by people.",
    "partly verified": "Partly verified: some turns have human labels; corrected values rest on those.",
    "verified": "Verified: every turn has human labels.",
}


def body(report: Mapping[str, Any], figures: Figures, *, files: str = "", printed: bool = False) -> str:
    """Give the report as markup for `<main>`.

    Parameters
    ----------
    report
        The report as plain data.
    figures
        SVG text by figure identifier.
    files
        Where the bundle's files lie, for links to a figure's and a table's own files; none without it.
    printed
        For paper: nothing folded, and tables longer than `PRINTED_ROWS` cut with a word on where the rest is.
    """
    sections = report["sections"]
    parts = [
        '<article class="report">',
        _header(report),
        '<nav class="report-contents" aria-label="Contents"><ul>',
        *(
            f'<li><span class="number">{int(section["number"])}</span> '
            f'<a href="#{text(section["id"])}">{text(section["title"])}</a></li>'
            for section in sections
        ),
        "</ul></nav>",
        *(_section(section, figures, files, printed, _level(report)) for section in sections),
        "</article>",
    ]
    return "\n".join(parts)


def _level(report: Mapping[str, Any]) -> str:
    """Give the confidence of the report's intervals in percent."""
    options = (report.get("settings") or {}).get("options") or {}
    return f"{100 * float(options.get('confidence', DEFAULT_CONFIDENCE)):g}"


def status_text(report: Mapping[str, Any]) -> str:
    """Give the sentence that says how far people have checked the labels."""
    status = str(report.get("status", ""))
    return STATUS.get(status.replace("_", " "), status)


def _header(report: Mapping[str, Any]) -> str:
    status = str(report.get("status", "")).replace("_", "-").replace(" ", "-").split(":")[0]
    return (
        f"<header><h1>{text(report['title'])}</h1>"
        f'<p class="report-status status-{text(status)}"><strong>{text(status_text(report))}</strong></p></header>'
    )


def _section(section: Mapping[str, Any], figures: Figures, files: str, printed: bool, level: str) -> str:
    identifier = text(section["id"])
    parts = [
        f'<section id="{identifier}" aria-labelledby="{identifier}-title">',
        f'<h2 id="{identifier}-title"><span class="number">{text(section["number"])}</span> '
        f"{text(section['title'])}</h2>",
    ]
    if section.get("caption"):
        parts += [f"<p>{text(paragraph)}</p>" for paragraph in str(section["caption"]).split("\n\n")]
    if section.get("warnings"):
        items = "".join(f"<li>{text(warning)}</li>" for warning in section["warnings"])
        parts.append(f'<aside class="warnings" aria-label="Warnings of section {identifier}"><ul>{items}</ul></aside>')
    parts += [_figure(figure, figures, files) for figure in section["figures"]]
    for place, table in enumerate(section["tables"]):
        long = len(table["rows"]) > FOLDED_ROWS and (place > 0 or bool(section["figures"]))
        limit = (FIRST_PRINTED_ROWS if place == 0 and not section["figures"] else PRINTED_ROWS) if printed else None
        parts.append(table_html(table, files=files, folded=long and not printed, printed=limit, level=level))
    if not section["figures"] and not section["tables"]:
        parts.append('<p class="nothing">There is nothing to show here for these data.</p>')
    parts.append("</section>")
    return "\n".join(parts)


def _figure(figure: Mapping[str, Any], figures: Figures, files: str) -> str:
    identifier = str(figure["id"])
    counterpart = figure.get("paper_counterpart")
    title = figure.get("title") or figure.get("alt", "")
    caption = [f"<strong>{text(title)}</strong>"] if figure.get("title") else []
    if figure.get("caption"):
        caption.append(text(figure["caption"]))
    if counterpart:
        caption.append(f'<span class="counterpart">Compare with the paper’s {text(counterpart)}.</span>')
    if files:
        links = " · ".join(
            f'<a href="{text(files)}figures/{file_name(identifier)}.{kind}">{kind.upper()}</a>'
            for kind in ("svg", "pdf", "png")
        )
        caption.append(f'<span class="files">{links}</span>')
    drawn = figures.get(identifier)
    plot = (
        inline_svg(drawn, f"figure-{identifier}") if drawn else f'<p class="nothing">{text(figure.get("alt", ""))}</p>'
    )
    return (
        f'<figure id="figure-{text(identifier)}">'
        f'<div class="plot" tabindex="0" role="group" aria-label="{text(title)}">'
        f"{plot}</div><figcaption>{' '.join(caption)}</figcaption></figure>"
    )


def table_html(
    table: Table, *, files: str = "", folded: bool = False, printed: int | None = None, level: str = "95"
) -> str:
    """Give one table; estimates show value, interval drawn and written, and n; reasons and notes stand below it.

    `level` is the confidence of the intervals in percent. With `printed` only so many rows are given, and no interval
    is drawn.
    """
    identifier = text(table["id"])
    columns = [(column["key"], column["title"], column.get("kind", "text")) for column in table["columns"]]
    classes = {key: _class_of(table, key) for key, _, _ in columns}
    spans = {key: _span(table, key) for key, _, _ in columns}
    writer = _Cells(Footnotes(table, printed), drawn=printed is None)
    shown = table["rows"][:printed]
    rows = []
    for row in shown:
        cells = [writer.cell(row.get(key), kind, spans[key]) for key, _, kind in columns]
        first, *rest = zip(columns, cells, strict=True)
        rows.append(
            f'<tr><th scope="row">{first[1]}</th>'
            + "".join(f'<td class="{classes[column[0]]}">{inner}</td>' for column, inner in rest)
            + "</tr>"
        )
    head = "".join(f'<th scope="col" class="{classes[key]}">{text(title)}</th>' for key, title, _ in columns)
    if not rows:
        rows = [f'<tr><td colspan="{len(columns)}" class="nothing">There are no rows for these data.</td></tr>']
    title = text(table["title"])
    wide = " wide" if list(classes.values()).count("estimate") > 5 else ""
    drawn = (
        f'<div class="table-wrap{wide}" id="table-{identifier}" role="region" tabindex="0" '
        f'aria-labelledby="table-{identifier}-title"><table><caption id="table-{identifier}-title">{title}</caption>'
        f"<thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table></div>"
    )
    whole = drawn + _notes(table, writer, files=files, rows=len(shown), level=level)
    if not folded:
        return whole
    return f"<details><summary>{title} ({len(table['rows'])} rows)</summary>{whole}</details>"


def _notes(table: Table, writer: _Cells, *, files: str, rows: int, level: str) -> str:
    """Give what stands below a table: its caption, the reasons and notes of its cells, its counterpart, its files."""
    parts = [text(table["caption"])] if table.get("caption") else []
    parts += [f"<sup>{mark}</sup> {text(words)}" if mark else text(words) for mark, words in writer.notes.lines()]
    if writer.methods:
        parts.append(f"Intervals ({level} %): {text('; '.join(writer.methods))}.")
    if rows < len(table["rows"]):
        parts.append(f"The first {rows} of {len(table['rows'])} rows; all are in the workbook and as CSV.")
    notes = [f'<p class="table-note">{" ".join(parts)}</p>'] if parts else []
    if table.get("paper_counterpart"):
        words = f"Compare with the paper’s {text(table['paper_counterpart'])}."
        notes.append(f'<p class="table-note counterpart">{words}</p>')
    if files:
        name = file_name(str(table["id"]))
        links = f'<a href="{text(files)}results/{name}.csv">CSV</a> · <a href="{text(files)}latex/{name}.tex">LaTeX</a>'
        notes.append(f'<p class="table-note files">{links}</p>')
    return "".join(notes)


def _class_of(table: Table, key: str) -> str:
    if any(is_estimate(row.get(key)) for row in table["rows"]):
        return "estimate"
    if any(isinstance(row.get(key), int | float) and not isinstance(row.get(key), bool) for row in table["rows"]):
        return "number"
    longest = max((len(str(row.get(key) or "")) for row in table["rows"]), default=0)
    return "long" if longest > 60 else "text"


def _span(table: Table, key: str) -> tuple[float, float]:
    """Give the range in which a column's intervals are drawn."""
    bounds = [
        float(bound)
        for row in table["rows"]
        if is_estimate(value := row.get(key)) and value["value"] is not None
        for bound in (value["value"], *(value.get("interval") or ()))
    ]
    return (min(0.0, *bounds), max(1.0, *bounds)) if bounds else (0.0, 1.0)


class _Cells:
    """Writes the cells of one table and remembers what must be said below it."""

    def __init__(self, notes: Footnotes, *, drawn: bool) -> None:
        self.notes = notes
        self.drawn = drawn
        self.methods: dict[str, None] = {}

    def cell(self, value: Any, kind: str, span: tuple[float, float]) -> str:
        """Give the inside of a cell."""
        if value is None:
            return '<span class="nothing">–</span>'
        if is_estimate(value):
            return self._estimate(value, kind, span)
        if isinstance(value, str) and "\n" in value:
            return "".join(f'<span class="line">{text(line)}</span>' for line in value.split("\n"))
        return text(cell_text(value, kind))

    def _estimate(self, estimate: Mapping[str, Any], kind: str, span: tuple[float, float]) -> str:
        scale = scale_of(kind)
        count = f"n\u00a0=\u00a0{number_text(float(estimate['n']), 'count')}"
        about = text("; ".join(estimate.get("notes", ())))
        hint = f' title="{about}"' if about and self.drawn else ""
        if estimate["value"] is None:
            raised = _raised([self.notes.reason(estimate.get("reason"))])
            word = f'<span class="undefined"{hint}>undefined{raised}</span>'
            return f'{word} <span class="n">{count}</span>'
        value = f"<b{hint}>{number_text(float(estimate['value']), scale)}</b>{_raised(self.notes.notes(estimate))}"
        if not estimate.get("interval"):
            reason = estimate.get("reason")
            why = f' <span class="undefined">no interval{_raised([self.notes.reason(reason)])}</span>' if reason else ""
            return f'{value}{why} <span class="n">{count}</span>'
        if estimate.get("method"):
            self.methods.setdefault(_general(str(estimate["method"])))
        low, high = (float(bound) for bound in estimate["interval"])
        written = f"[{number_text(low, scale)}, {number_text(high, scale)}]"
        if not self.drawn:
            return f'{value} <span class="n">{written} {count}</span>'
        # A share is drawn on the whole of its scale, so that rows of one kind compare by eye.
        place = (0.0, 1.0) if low >= 0 and high <= 1 else span
        bar = _whisker(float(estimate["value"]), low, high, place)
        return f'{value} <span class="n">{written}</span> {bar} <span class="n">{count}</span>'


def _raised(marks: Sequence[str]) -> str:
    return f"<sup>{text(','.join(marks))}</sup>" if marks else ""


def _general(method: str) -> str:
    """Give how an interval was made without the numbers that differ from cell to cell."""
    return re.sub(r", \d+ effective", "", re.sub(r"t\([\d.]+\)", "t(D-1)", method))


def _whisker(value: float, low: float, high: float, span: tuple[float, float]) -> str:
    """Draw the interval small beside its number; the scale behind it is the style sheet's."""
    width = span[1] - span[0] or 1.0
    a, b, mid = (round(100 * min(1.0, max(0.0, (point - span[0]) / width))) for point in (low, high, value))
    return (
        '<svg class="whisker" viewBox="0 0 100 10" preserveAspectRatio="none" aria-hidden="true">'
        f'<path d="M{a} 5H{b}"/><path d="M{mid} 1V9"/></svg>'
    )


# --- whole documents -------------------------------------------------------------------------------------------------


def document(
    report: Mapping[str, Any], figures: Figures, *, css: str, language: str = "en", printed: bool = False
) -> str:
    """Give the report as one self-contained HTML file; the style sheet goes into its head."""
    if "</" in css:
        raise ValueError("A style sheet with </ in it would end its own element.")
    return (
        f'<!doctype html>\n<html lang="{text(language)}">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f"<title>{text(report['title'])}</title>\n<style>\n{css}\n</style>\n</head>\n"
        f'<body class="report-page">\n<main>\n{body(report, figures, printed=printed)}\n</main>\n</body>\n</html>\n'
    )


def pdf(report: Mapping[str, Any], figures: Figures, *, css: str) -> bytes:
    """Give the report as a tagged PDF (PDF/UA-1). Nothing is fetched: the page is complete in itself.

    Raises
    ------
    RuntimeError
        When WeasyPrint or the Pango libraries it needs are not installed; says which.
    """
    try:
        from weasyprint import HTML
    except (ImportError, OSError) as error:
        raise RuntimeError(
            "The PDF needs WeasyPrint and the Pango libraries (Debian: libpango-1.0-0 libpangoft2-1.0-0)."
        ) from error
    # The style sheet is also that of the screen; what paper has no use for is not worth a line in the log.
    logging.getLogger("weasyprint").setLevel(logging.ERROR)
    made: Callable[..., Any] = HTML(
        string=document(report, figures, css=css, printed=True), url_fetcher=_refuse, base_url=None
    ).write_pdf
    return bytes(made(pdf_variant="pdf/ua-1"))


def _refuse(url: str, *rest: object, **more: object) -> dict[str, Any]:
    raise ValueError(f"A report fetches nothing, not even {url}.")


def table_titles(report: Mapping[str, Any]) -> Sequence[tuple[str, str]]:
    """Give identifier and title of each table, in reading order."""
    return [(str(table["id"]), str(table["title"])) for _, table in all_tables(report)]
