"""Measure the classifier on any labelled table, each figure with its interval."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from annotation.inference.assessment import as_table, assess, read_labelled, reliability_figure
from annotation.inference.base import ClassifierError
from annotation.inference.classifier import load_default
from annotation.workflow import prelabel
from evaluation.emotions import GROUPINGS


class Command(BaseCommand):
    help = "Measure the classifier of the settings on a labelled CSV, TSV or JSONL file."

    def add_arguments(self, parser: Any) -> None:
        parser.add_argument("file", type=Path)
        parser.add_argument("--text-column", default="text")
        parser.add_argument("--label-column", default="label", help="an emotion, a GoEmotions label, or its id")
        parser.add_argument("--grouping", choices=sorted(GROUPINGS), default="ekman")
        parser.add_argument("--adapter", type=Path, help="an adapter file instead of the classifier of the settings")
        parser.add_argument("--figure", type=Path, help="write the reliability figure (SVG) here")
        parser.add_argument("--json", action="store_true", help="print one JSON object")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            texts, truth, left_out = read_labelled(
                options["file"],
                text_column=options["text_column"],
                label_column=options["label_column"],
                grouping=options["grouping"],
            )
            classifier = (
                load_default(adapter=options["adapter"]) if options["adapter"] else prelabel.current_classifier()[1]
            )
            fine = classifier.probabilities(texts)
        except ClassifierError as error:
            raise CommandError(str(error)) from error
        found = assess(classifier.emotions(fine, options["grouping"]), truth, grouping=options["grouping"])
        if options["figure"] and found.n:
            reliability_figure(found, options["figure"], f"{options['file'].name}, {options['grouping']}")
        if options["json"]:
            facts = {"classifier": classifier.name, "revision": classifier.revision, "left_out": left_out}
            self.stdout.write(json.dumps(facts | found.to_json()))
            return
        self.stdout.write(f"{classifier.name}, revision {classifier.revision}")
        self.stdout.write(as_table(found))
        for sentence in left_out[:20]:
            self.stderr.write(f"left out: {sentence}")
        if len(left_out) > 20:
            self.stderr.write(f"left out: {len(left_out) - 20} more rows")
