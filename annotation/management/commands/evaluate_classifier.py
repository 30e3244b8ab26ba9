"""Measure the classifier on any labelled table, each figure with its interval."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from annotation.inference.assessment import THRESHOLD, as_table, assess, assess_multi_label, reliability_figure
from annotation.inference.base import ClassifierError
from annotation.inference.classifier import load_default
from annotation.inference.labelled import read_labelled
from annotation.workflow import prelabel
from evaluation.emotions import GROUPINGS


class Command(BaseCommand):
    help = (
        "Measure the classifier of the settings on a labelled CSV, TSV or JSONL file (also gzipped). Rows with one "
        "emotion give accuracy, F1, confusion and calibration; where rows have several, all rows give the multi-label "
        "macro-F1. Reads the file only; the database is left alone."
    )

    def add_arguments(self, parser: Any) -> None:
        parser.add_argument("file", type=Path)
        parser.add_argument("--text-column", default="text", help="name, or number (1, 2, …) in a table without names")
        parser.add_argument(
            "--label-column",
            default="label",
            help="name or number; holds one of the seven emotions, a GoEmotions label or its id, or several of them",
        )
        parser.add_argument(
            "--map", action="append", default=[], metavar="LABEL=EMOTION", help="read another label as this emotion"
        )
        parser.add_argument("--grouping", choices=sorted(GROUPINGS), default="ekman")
        parser.add_argument("--adapter", type=Path, help="an adapter file instead of the classifier of the settings")
        parser.add_argument("--figure", type=Path, help="write the reliability figure (SVG) here")
        parser.add_argument("--json", action="store_true", help="print one JSON object")

    def handle(self, *args: Any, **options: Any) -> None:
        grouping = options["grouping"]
        pairs = [pair.partition("=") for pair in options["map"]]
        if wrong := [label for label, equals, emotion in pairs if not (label and equals and emotion)]:
            raise CommandError(f"--map takes LABEL=EMOTION, for example --map happy=joy; not {wrong[0]!r}.")
        try:
            rows = read_labelled(
                options["file"],
                text_column=options["text_column"],
                label_column=options["label_column"],
                grouping=grouping,
                mapping={label: emotion for label, _, emotion in pairs},
            )
            classifier = load_default(adapter=options["adapter"]) if options["adapter"] else prelabel.configured()
            fine = classifier.probabilities(rows.texts)
        except ClassifierError as error:
            raise CommandError(str(error)) from error
        single = rows.single
        found = assess(classifier.emotions(fine[single], grouping), rows.targets[single].argmax(-1), grouping=grouping)
        facts: dict[str, Any] = {
            "classifier": classifier.name,
            "revision": classifier.revision,
            "left_out": rows.left_out,
            **found.to_json(),
        }
        if not found.n:
            facts["mean_confidence"] = None  # JSON knows no nan
        several = len(rows.texts) - len(single)
        if several:
            uncalibrated = dataclasses.replace(classifier.scheme, temperature={})
            multi = assess_multi_label(uncalibrated.emotions(fine, grouping), rows.targets)
            facts["multi_label_macro_f1"] = dataclasses.asdict(multi)
        if options["figure"] and found.n:
            reliability_figure(found, options["figure"], f"{options['file'].name}, {grouping}")
        if options["json"]:
            self.stdout.write(json.dumps(facts))
            return
        self.stdout.write(f"{classifier.name}, revision {classifier.revision}")
        self.stdout.write(as_table(found))
        if several:
            self.stdout.write(
                f"\n{several} rows with several emotions are not in the above; all {multi.n} rows together:\n"
                f"multi-label macro-F1 (threshold {THRESHOLD}) {multi}"
            )
        if options["figure"]:
            self.stdout.write(f"\nreliability figure: {options['figure'] if found.n else 'no row with one emotion'}")
        for sentence in rows.left_out[:20]:
            self.stderr.write(f"left out: {sentence}")
        if len(rows.left_out) > 20:
            self.stderr.write(f"left out: {len(rows.left_out) - 20} more rows")
