"""Import dialogues from a file."""

from __future__ import annotations

from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from annotation.corpora import Columns, CorpusError
from annotation.corpora.opening import FORMATS
from annotation.corpora.table import COLUMN_PARTS
from annotation.workflow.import_report import ImportReport, shape_of
from annotation.workflow.intake import import_dialogues
from annotation.workflow.predictions import UNUSABLE_FLAGS

EXAMPLES = 3
"""Rows shown for each reason; the import record has them all (the first thousand)."""

LEFT_OUT = "Responses flagged error_text or empty are counted and shown, and left out of the numbers."


class Command(BaseCommand):
    help = "Import dialogues: ReDial (JSONL, .gz, zip), INSPIRED (TSV), chats (JSONL), or any table with --columns."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("files", type=Path, nargs="+", metavar="FILE")
        parser.add_argument("--dataset", default="", help="name of the data set; default: what the format says")
        parser.add_argument("--format", default="auto", choices=["auto", *FORMATS])
        parser.add_argument("--split", default="", help="train, valid, test…; default: what the file's name says")
        parser.add_argument("--strict", action="store_true", help="import nothing if any row is bad")
        parser.add_argument("--pause", type=float, default=0.0, help="seconds between transactions (0.05 in live use)")
        parser.add_argument(
            "--columns",
            nargs="+",
            metavar="PART=COLUMN",
            help=f"for a table; parts: {', '.join(COLUMN_PARTS)}; system:NAME=COLUMN for a column of one system",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            columns = Columns.parse(options["columns"] or [])
        except CorpusError as error:
            raise CommandError(str(error)) from error
        failed = []
        for path in options["files"]:
            try:
                report = import_dialogues(
                    path,
                    dataset=options["dataset"] or _default_dataset(path, options["format"], columns),
                    split=options["split"],
                    format=options["format"],
                    columns=columns,
                    on_bad_row="abort" if options["strict"] else "skip",
                    pause=options["pause"],
                )
            except CorpusError as error:
                failed.append(str(error))
                continue
            self.stdout.write(describe(report))
            if report.aborted:
                failed.append(f"{path.name}: nothing was imported: --strict, and the rows above are bad.")
        if failed:
            raise CommandError("\n".join(failed))


def _default_dataset(path: Path, format: str, columns: Columns | None) -> str:
    from annotation.corpora.opening import sniff

    if columns is not None or format in ("table", "chats"):
        raise CommandError("Name the data set with --dataset.")
    known = format if format != "auto" else sniff(path)
    if known not in ("redial", "inspired"):
        raise CorpusError(f"{path.name} is read as {known}; name the data set with --dataset.")
    return known


def describe(report: ImportReport) -> str:
    """Say in plain words what an import did."""
    unit = {"dialogues": "messages", "labels": "labels and ratings"}.get(report.kind, report.kind)
    made = ", ".join(f"{count:,} {name}" for name, count in report.created.items()) or "nothing new"
    lines = [
        f"{report.file} ({report.format}): {report.rows:,} {unit} read in {report.seconds:.1f} s "
        f"({report.rows_per_second:,.0f} rows/s)",
        f"  kept {report.kept:,}, unchanged {report.unchanged:,}, skipped {report.skipped:,}, "
        f"conflicts {report.conflicts:,}",
        f"  created: {made}",
    ]
    if report.flags:
        found = ", ".join(f"{count:,} {flag}" for flag, count in report.flags.most_common())
        lines.append(f"  conspicuous: {found}" + (f". {LEFT_OUT}" if UNUSABLE_FLAGS & {*report.flags} else ""))
    for reason, count in report.reasons.most_common(10):
        lines.append(f"  not taken, {count:,} x: {reason}")
        alike = [p for p in report.problems if shape_of(p["reason"]) == reason]
        lines += [f"    {p['file']}, line {p['line']}: {p['reason']}" for p in alike[:EXAMPLES]]
    if len(report.problems) > EXAMPLES:
        lines.append(f"    the import record {report.run_id} lists {len(report.problems):,}")
    lines += [f"  note: {note}" for note in report.notes[:10]]
    if report.note_count > 10:
        lines.append(f"  … {report.note_count:,} notes in all")
    return "\n".join(lines)
