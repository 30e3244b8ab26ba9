"""A finished report's bundle: kept in the storage, read back, sent as one archive, compared, explained.

What a bundle holds is what its manifest lists: no other name is ever looked up, and no name comes from data.
"""

from __future__ import annotations

import contextlib
import json
import uuid
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import pandas as pd
from django.core.files import File
from django.core.files.storage import default_storage
from django.http import StreamingHttpResponse
from django.utils.safestring import SafeString

from annotation.models import ReportRun
from annotation.workflow import exports
from evaluation.rendering.cells import all_tables, file_name

KINDS = {
    ".html": "page",
    ".pdf": "PDF",
    ".xlsx": "workbook",
    ".json": "JSON",
    ".csv": "CSV",
    ".tex": "LaTeX",
    ".svg": "SVG",
    ".png": "PNG",
    ".md": "Markdown",
}


class ReportError(Exception):
    """A report cannot be made; the message says why and what to do. Nothing half-done is shown."""


def store(run: ReportRun, bundle: Path) -> str:
    """Copy the bundle into a folder of its own; what an attempt that was killed left behind is removed first."""
    base = f"reports/{run.pk}"
    remove(base)
    folder = f"{base}/{uuid.uuid4().hex[:8]}"
    try:
        for path in sorted(bundle.rglob("*")):
            if path.is_file():
                with path.open("rb") as stream:
                    default_storage.save(f"{folder}/{path.relative_to(bundle).as_posix()}", File(stream))
    except BaseException:
        with contextlib.suppress(OSError):
            remove(folder)
        raise
    return folder


def remove(folder: str) -> None:
    """Remove a folder of the storage and all that is in it; nothing happens when there is none."""
    try:
        folders, names = default_storage.listdir(folder)
    except (FileNotFoundError, NotADirectoryError):
        return
    for name in names:
        default_storage.delete(f"{folder}/{name}")
    for name in folders:
        remove(f"{folder}/{name}")
    with contextlib.suppress(OSError):
        default_storage.delete(folder)


@dataclass(frozen=True, slots=True)
class BundleFile:
    """A file of a bundle: its name inside the bundle, what it is, and its size in bytes."""

    name: str
    kind: str
    bytes: int

    @property
    def top(self) -> bool:
        """Whether it is one of the whole-report files, shown first."""
        return self.name in TOP

    @property
    def label(self) -> str:
        return TOP.get(self.name, self.name)


TOP: Mapping[str, str] = {
    "report.pdf": "PDF",
    "report.html": "HTML page",
    "report.xlsx": "Workbook (XLSX)",
    "report.json": "JSON",
    "tables.tex": "LaTeX",
    "codebook.md": "Codebook",
    "manifest.json": "Manifest",
}


def manifest(run: ReportRun) -> dict[str, Any]:
    """The manifest of a finished run."""
    with default_storage.open(f"{run.bundle}/manifest.json") as stream:
        found: dict[str, Any] = json.loads(stream.read())
    return found


def files(run: ReportRun) -> list[BundleFile]:
    """The files of a finished run that people may want, the page's own markup left out."""
    if not run.bundle:
        return []
    listed = manifest(run)["files"]
    names = sorted((name for name in listed if name != "page.html"), key=lambda name: (name.count("/"), name))
    kinds = [KINDS.get(Path(name).suffix, "file") for name in names]
    return [BundleFile(name, kind, listed[name]["bytes"]) for name, kind in zip(names, kinds, strict=True)] + [
        BundleFile("manifest.json", "JSON", 0)
    ]


def open_file(run: ReportRun, name: str) -> IO[Any] | None:
    """Open a file of the bundle, or None: only names the manifest lists are ever looked up in the storage."""
    if not run.bundle or (name != "manifest.json" and name not in manifest(run)["files"]):
        return None
    try:
        opened: IO[Any] = default_storage.open(f"{run.bundle}/{name}")
    except FileNotFoundError:
        return None
    return opened


def page_body(run: ReportRun) -> SafeString:
    """The report's markup for the product's page. It was written by `evaluation.rendering.page`, which escapes."""
    handle = open_file(run, "page.html")
    if handle is None:
        raise ReportError("The files of this report are not in the storage any more.")
    with handle:
        return SafeString(handle.read().decode("utf-8"))


def load_report(run: ReportRun) -> dict[str, Any]:
    """The report of a finished run as plain data."""
    handle = open_file(run, "report.json")
    if handle is None:
        raise ReportError("The files of this report are not in the storage any more.")
    with handle:
        found: dict[str, Any] = json.loads(handle.read())
    return found


class _Pieces:
    """What a zip writer writes into: keeps only what has not been sent yet."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []

    def write(self, data: bytes) -> int:
        self._parts.append(bytes(data))
        return len(data)

    def flush(self) -> None:
        return None

    def take(self) -> bytes:
        taken = b"".join(self._parts)
        self._parts = []
        return taken


def bundle_stream(run: ReportRun) -> Iterator[bytes]:
    """The bundle as a zip archive, piece by piece; names come from the manifest this product wrote."""
    pieces = _Pieces()
    with zipfile.ZipFile(pieces, "w", zipfile.ZIP_DEFLATED) as archive:  # type: ignore[call-overload]
        for entry in files(run):
            handle = default_storage.open(f"{run.bundle}/{entry.name}")
            info = zipfile.ZipInfo(f"report/{entry.name}", date_time=(1980, 1, 1, 0, 0, 0))
            info.compress_type = zipfile.ZIP_DEFLATED
            info.external_attr = 0o644 << 16
            with handle, archive.open(info, "w", force_zip64=True) as member:
                while part := handle.read(1 << 18):
                    member.write(part)
                    yield pieces.take()
            yield pieces.take()
    yield pieces.take()


def bundle_response(run: ReportRun) -> StreamingHttpResponse:
    """The zip archive as a download."""
    response = StreamingHttpResponse(bundle_stream(run), content_type="application/zip")
    response["Content-Disposition"] = f'attachment; filename="attune-report-{str(run.pk)[:8]}.zip"'
    return response


# --- comparing two runs ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Difference:
    """A number of two reports that is not the same in both."""

    section: str
    table: str
    row: str
    column: str
    before: str
    after: str
    difference: str


def compare(first: ReportRun, second: ReportRun) -> list[Difference]:
    """What changed from one run to another, number by number: values, interval bounds and counts that differ."""
    from evaluation.report import compare as compare_reports

    before, after = load_report(first), load_report(second)
    words = _titles(before) | _titles(after)
    found = []
    changed: list[Any] = compare_reports(before, after).to_dict("records")
    for row in changed:
        column = words.get(("column", row["table"], row["column"]), row["column"])
        short = (_rounded(row["before"]), _rounded(row["after"]))
        shown = short if short[0] != short[1] else (row["before"], row["after"])
        found.append(
            Difference(
                section=words.get(("section", row["section"], ""), row["section"]),
                table=words.get(("table", row["table"], ""), row["table"]),
                row=row["row"],
                column=column if row["part"] == "value" else f"{column}, {row['part']}",
                before=shown[0],
                after=shown[1],
                difference="" if pd.isna(row["change"]) else f"{row['change']:+.4g}".replace("-", "\u2212"),
            )
        )
    return found


def _rounded(text: str) -> str:
    """A number as people read it: four digits are enough to see what changed, and the bundles hold all of them."""
    try:
        number = float(text)
    except ValueError:
        return text
    return text if number.is_integer() else f"{number:.4g}".replace("-", "\u2212")


def _titles(report: Mapping[str, Any]) -> dict[tuple[str, str, str], str]:
    found = {}
    for section, table in all_tables(report):
        found["section", section["id"], ""] = str(section["title"])
        found["table", table["id"], ""] = str(table["title"])
        for column in table["columns"]:
            found["column", table["id"], column["key"]] = str(column["title"])
    return found


# --- the codebook ----------------------------------------------------------------------------------------------------

INPUT_FIELDS: Mapping[str, tuple[tuple[str, str], ...]] = {
    "turns": (
        ("dataset, dialogue, turn, system", "Key: one row per turn and system; the human reference is a system too."),
        ("is_reference", "true for the human reference response."),
        (
            "user_label, response_label, reference_label",
            "The classifier's labels; empty: no usable text or prediction.",
        ),
        ("user_confidence, response_confidence", "The classifier's calibrated probability of its label."),
        ("user_verified, response_verified, reference_verified", "Verified labels; empty: not verified."),
        ("inclusion_probability, stratum", "Of the turn in the campaign's sample; empty: not drawn."),
    ),
    "judgments": (
        ("item, annotator, label", "One row per standing label; annotators are pseudonyms."),
        ("kind", "user, response or reference: whose words were labelled."),
        ("arm", "shown or hidden; empty in a blind campaign."),
        ("prelabel", "The classifier's label the judgment is compared with."),
        ("classifier_label", "The label of the report's classifier."),
        ("gold_label", "The adjudicated label of the item; empty: not adjudicated. Agreement does not use it."),
        ("received_at, active_ms", "When it arrived (UTC), and milliseconds on the item."),
    ),
    "ratings": (
        ("item, annotator, outcome, value", "One row per rater, response and scale."),
        ("position", "Place among the responses shown together."),
        ("aligned_exact, user_emotion", "From verified labels only; empty where a side is not verified."),
        ("inclusion_probability", "Of the turn; where these differ, ratings are weighted by the inverse."),
    ),
    "cases": (("all columns", "The illustrative cases of section 6, chosen by the rule stated there."),),
    "responses": (("all columns", "Per system and data set: turns asked, answered, flagged, common to all systems."),),
}


def codebook(report: Mapping[str, Any]) -> str:
    """What every file and column of a bundle means, in Markdown."""
    parts = ["# Codebook", "", exports.CONVENTIONS, "", "## tables/: what the numbers are computed from", ""]
    for name, fields in INPUT_FIELDS.items():
        parts += [f"### tables/{name}.csv", "", "| column | meaning |", "| --- | --- |"]
        parts += [f"| {column} | {meaning} |" for column, meaning in fields] + [""]
    parts += [
        "`python -m evaluation report BUNDLE` computes `report.json` again from these and `settings.json`.",
        "",
        "## tidy/: everything people said",
        "",
        exports.codebook().split("\n", 4)[4],
        "## results/ and latex/: the report's tables",
        "",
        "An estimate in column `x` of a CSV stands as `x` (value), `x_low` and `x_high` (interval), `x_se`, `x_n`,",
        "`x_reason` (why there is no value or no interval) and `x_notes` (what a reader must know; `lambda = 0` means",
        "human labels alone).",
        "",
        "| file | table |",
        "| --- | --- |",
    ]
    parts += [f"| {file_name(str(table['id']))} | {table['title']} |" for _, table in all_tables(report)]
    return "\n".join([*parts, ""])
