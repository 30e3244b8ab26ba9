"""Import dialogues from a file."""

from __future__ import annotations

from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from annotation.corpora import Columns, CorpusError
from annotation.corpora.opening import FORMATS
from annotation.corpora.table import COLUMN_PARTS
from annotation.workflow.intake import ImportReport, import_dialogues


class Command(BaseCommand):
    help = "Import dialogues: ReDial (JSONL, .gz, zip), INSPIRED (TSV), chats (JSONL), or any table with --columns."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("file", type=Path)
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
        dataset = options["dataset"] or _default_dataset(options["file"], options["format"], columns)
        try:
            report = import_dialogues(
                options["file"],
                dataset=dataset,
                split=options["split"],
                format=options["format"],
                columns=columns,
                on_bad_row="abort" if options["strict"] else "skip",
                pause=options["pause"],
            )
        except CorpusError as error:
            raise CommandError(str(error)) from error
        self.stdout.write(describe(report))
        if report.aborted:
            raise CommandError("Nothing was imported: --strict, and the rows above are bad.")


def _default_dataset(path: Path, format: str, columns: Columns | None) -> str:
    from annotation.corpora.opening import sniff

    if columns is not None or format in ("table", "chats"):
        raise CommandError("Name the data set with --dataset.")
    try:
        known = format if format != "auto" else sniff(path)
    except CorpusError as error:
        raise CommandError(str(error)) from error
    if known not in ("redial", "inspired"):
        raise CommandError(f"{path.name} is read as {known}; name the data set with --dataset.")
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
    lines += [f"  not taken, {count:,} x: {reason}" for reason, count in report.reasons.most_common(10)]
    lines += [f"    {p['file']}, line {p['line']}: {p['reason']}" for p in report.problems[:20]]
    if len(report.problems) > 20:
        lines.append(f"    … the import record {report.run_id} lists {len(report.problems):,}")
    lines += [f"  note: {note}" for note in report.notes[:10]]
    if report.note_count > 10:
        lines.append(f"  … {report.note_count:,} notes in all")
    return "\n".join(lines)
