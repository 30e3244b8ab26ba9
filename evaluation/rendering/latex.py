r"""Tables as LaTeX (booktabs), ready for `\input`. Whatever a text holds, LaTeX prints it and runs none of it."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from typing import Any, Final

from evaluation.rendering.cells import (
    Table,
    all_tables,
    cell_text,
    file_name,
    is_estimate,
    number_text,
    scale_of,
)
from evaluation.rendering.notes import Footnotes

PACKAGES: Final = ("booktabs", "graphicx", "longtable", "array")
LONG: Final = 40
WIDE: Final = 90
"""So many characters fit on a line of an A4 page; the columns of a long or wordy table that needs more are fitted."""
UNBROKEN: Final = 24
_SPECIAL: Final[Mapping[str, str]] = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "$": r"\$",
    "&": r"\&",
    "#": r"\#",
    "%": r"\%",
    "_": r"\_",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\textquotedbl{}",
    "'": r"\textquotesingle{}",
    "`": r"\textasciigrave{}",
    "-": "-{}",
    "\u2212": r"\ensuremath{-}",
    "\u2013": "--",
    "\u2014": "---",
    "\u2018": "`{}",
    "\u2019": "'{}",
    "\u201c": "``{}",
    "\u201d": "''{}",
    "\u2026": r"\ldots{}",
    "\u2192": r"\ensuremath{\rightarrow}",
    "\u2190": r"\ensuremath{\leftarrow}",
    "\u00d7": r"\ensuremath{\times}",
    "\u00b1": r"\ensuremath{\pm}",
    "\u00b7": r"\ensuremath{\cdot}",
    "\u2264": r"\ensuremath{\leq}",
    "\u2265": r"\ensuremath{\geq}",
    "\u2248": r"\ensuremath{\approx}",
    "\u0394": r"\ensuremath{\Delta}",
    "\u03b1": r"\ensuremath{\alpha}",
    "\u03ba": r"\ensuremath{\kappa}",
    "\u03bb": r"\ensuremath{\lambda}",
    "\u03b4": r"\ensuremath{\delta}",
    "\u03c0": r"\ensuremath{\pi}",
    "\u03c1": r"\ensuremath{\rho}",
    "\u03c7": r"\ensuremath{\chi}",
    "\u2020": r"\ensuremath{\dagger}",
    "\u2021": r"\ensuremath{\ddagger}",
    "\u00a7": r"\S{}",
    "\u00b2": r"\ensuremath{^2}",
    "\u202f": r"\,",
    "\u00a0": "~",
    "\u2009": r"\,",
}
_SPACE: Final = re.compile(r"[\s\u2028\u2029]+")
# What inputenc's utf8 knows with the T1 font encoding; anything else would stop pdflatex.
_LETTERS: Final = frozenset(
    "ÀÁÂÃÄÅÆÇÈÉÊËÌÍÎÏÐÑÒÓÔÕÖØÙÚÛÜÝÞßàáâãäåæçèéêëìíîïðñòóôõöøùúûüýþÿŒœŠšŽžŁłĆćČčĎďĘęĚěŃńŇňŘřŚśŞşŤťŮůŹźŻż"
)


def escape(text: str) -> str:
    """Give text for LaTeX. Characters without a glyph in the usual fonts are named by their code point."""
    parts = []
    for character in _SPACE.sub(" ", unicodedata.normalize("NFC", text)):
        if character in _SPECIAL:
            parts.append(_SPECIAL[character])
        elif " " <= character < "\x7f" or character in _LETTERS:
            parts.append(character)
        else:
            parts.append(f"[U+{ord(character):04X}]")
    return "".join(parts)


def cell(value: Any, kind: str, notes: Footnotes) -> str:
    """Give a cell; an estimate as its value and its interval in small type, reasons and notes as marks for below."""
    if not is_estimate(value):
        parts = re.findall(r"\S+|\s+", cell_text(value, kind))
        return "".join(r"\allowbreak{}".join(map(escape, _pieces(part))) for part in parts)
    if value["value"] is None:
        return r"\emph{undefined}" + _raised([notes.reason(value.get("reason"))])
    text = escape(number_text(float(value["value"]), scale_of(kind)))
    reason = [] if value.get("interval") or not value.get("reason") else [notes.reason(value["reason"])]
    text += _raised([*notes.notes(value), *reason])
    if value.get("interval"):
        low, high = (escape(number_text(float(bound), scale_of(kind))) for bound in value["interval"])
        text += rf" {{\scriptsize [{low}, {high}]}}"
    return text


def _raised(marks: list[str]) -> str:
    return rf"\textsuperscript{{{escape(','.join(marks))}}}" if marks else ""


def _pieces(word: str) -> list[str]:
    """Cut a word too long for a column, such as a digest, into pieces between which a line may break."""
    return [word[place : place + UNBROKEN] for place in range(0, len(word), UNBROKEN)]


def table_latex(table: Table, *, note: str = "") -> str:
    """Give one table as a float (a `longtable` when it is long), with caption and label."""
    columns = [(column["key"], column["title"], column.get("kind", "text")) for column in table["columns"]]
    wordy = {key for key, _, kind in columns if kind in ("text", "long_text") and _longest(table, key) > 28}
    layout = "".join(_column_layout(key, kind, wordy, len(columns)) for key, _, kind in columns)
    head = " & ".join(rf"\textbf{{{escape(title)}}}" for _, title, _ in columns) + r" \\"
    notes = Footnotes(table)
    body = [" & ".join(cell(row.get(key), kind, notes) for key, _, kind in columns) + r" \\" for row in table["rows"]]
    said = [(_raised([mark]) if mark else "") + escape(words) for mark, words in notes.lines()]
    if not body:
        body = [rf"\multicolumn{{{len(columns)}}}{{l}}{{\emph{{no rows}}}} \\"]
    caption = rf"\caption{{{escape('. '.join(part for part in (str(table['title']), note) if part))}}}"
    label = rf"\label{{tab:{re.sub(r'[^A-Za-z0-9-]', '-', str(table['id']))}}}"
    opening = f"% Needs: {', '.join(PACKAGES)}; utf8 input and T1 fonts.\n"
    needed = {key: _needed(table, key, title) for key, title, _ in columns}
    # A long table breaks over pages and a wordy one over lines, so neither can be scaled: their columns are fitted.
    fitted = sum(needed.values()) > WIDE and bool(wordy or len(body) > LONG)
    if fitted:
        layout = "".join(_fitted(kind, needed[key] / sum(needed.values())) for key, _, kind in columns)
    if len(body) > LONG:
        return opening + "\n".join(
            [
                r"{\scriptsize\setlength{\tabcolsep}{2pt}" if fitted else r"{\footnotesize",
                rf"\begin{{longtable}}{{{layout}}}",
                caption + label + r" \\",
                r"\toprule",
                head,
                r"\midrule",
                r"\endfirsthead",
                r"\toprule",
                head,
                r"\midrule",
                r"\endhead",
                *body,
                r"\bottomrule",
                r"\end{longtable}",
                *said,
                "}",
                "",
            ]
        )
    tabular = [
        rf"\begin{{tabular}}{{{layout}}}",
        r"\toprule",
        head,
        r"\midrule",
        *body,
        r"\bottomrule",
        r"\end{tabular}",
    ]
    if len(columns) > 5 and not wordy:
        # A box no wider than the line, and no larger than its own size.
        tabular = [
            r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%",
            *tabular[:-1],
            r"\end{tabular}}",
        ]
    return opening + "\n".join(
        [
            r"\begin{table}[htbp]",
            r"\centering\scriptsize\setlength{\tabcolsep}{2pt}" if fitted else r"\centering\footnotesize",
            caption,
            label,
            *tabular,
            *([r"\par\smallskip", *said] if said else []),
            r"\end{table}",
            "",
        ]
    )


def _longest(table: Table, key: str) -> int:
    return max((len(str(row.get(key) or "")) for row in table["rows"]), default=0)


def _needed(table: Table, key: str, title: str) -> int:
    """Say how many characters a column wants: its longest cell up to a limit, and its title's longest word."""
    cells = [10 if is_estimate(row.get(key)) else min(24, len(str(row.get(key) or ""))) for row in table["rows"]]
    return 1 + max([*cells, *(len(word) for word in title.split())])


def _fitted(kind: str, share: float) -> str:
    side = "raggedright" if kind in ("text", "long_text", "label", "interval") else "raggedleft"
    return rf">{{\{side}\arraybackslash}}p{{\dimexpr{share:.3f}\linewidth-4pt\relax}}"


def _column_layout(key: str, kind: str, wordy: set[str], columns: int) -> str:
    if key in wordy:
        share = max(0.08, min(0.45, 0.86 / max(columns, 1)))
        return rf">{{\raggedright\arraybackslash}}p{{{share:.2f}\linewidth}}"
    return "l" if kind in ("text", "long_text", "label", "interval") else "r"


def document(report: Mapping[str, Any], folder: str = "latex") -> str:
    """Give a document that inputs every table of a report: what the compile test runs, and a place to copy from."""
    inputs = [rf"\input{{{folder}/{file_name(str(table['id']))}.tex}}" for _, table in all_tables(report)]
    packages = [rf"\usepackage{{{name}}}" for name in PACKAGES]
    return "\n".join(
        [
            r"\documentclass[a4paper]{article}",
            r"\usepackage[utf8]{inputenc}",
            r"\usepackage[T1]{fontenc}",
            r"\usepackage{textcomp}",
            r"\usepackage[margin=2cm]{geometry}",
            *packages,
            r"\begin{document}",
            rf"\section*{{{escape(str(report['title']))}}}",
            *(line + r"\clearpage" if place % 6 == 5 else line for place, line in enumerate(inputs)),
            r"\end{document}",
            "",
        ]
    )
