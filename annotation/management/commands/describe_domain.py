"""How the classifier behaves on a corpus nobody labelled: what it says, what titles do to it, where it is unsure."""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
from django.core.management.base import BaseCommand, CommandError

from annotation.corpora.dialogue import BadRow, CorpusError, Dialogue
from annotation.corpora.opening import open_corpus
from annotation.inference.base import ClassifierError
from annotation.inference.classifier import Classifier, load_default
from annotation.workflow import prelabel
from evaluation.emotions import DEFAULT_GROUPING, EMOTIONS, GROUPINGS


class Command(BaseCommand):
    help = (
        "Print, for corpus and response files, the share of each predicted emotion under both groupings, titles kept "
        "and masked, and the least certain utterances. Reads the files only; the database is left alone."
    )

    def add_arguments(self, parser: Any) -> None:
        parser.add_argument("files", nargs="+", type=Path)
        parser.add_argument("--adapter", type=Path, help="an adapter file instead of the classifier of the settings")
        parser.add_argument("--uncertain", type=int, default=0, help="print this many least certain utterances")
        parser.add_argument("--json", action="store_true")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            adapter = options["adapter"]
            classifier = load_default(adapter=adapter) if adapter else prelabel.configured()
            kept: dict[str, list[str]] = defaultdict(list)
            masked: dict[str, list[str]] = defaultdict(list)
            for path in options["files"]:
                _read(path, "keep", kept)
                _read(path, "mask", masked)
        except (ClassifierError, CorpusError) as error:
            raise CommandError(str(error)) from error
        found = {name: _describe(classifier, texts, masked[name]) for name, texts in kept.items()}
        if options["json"]:
            self.stdout.write(json.dumps({"revision": classifier.revision, "groups": found}))
        else:
            self.stdout.write(_table(found))
        if options["uncertain"]:
            self._uncertain(classifier, kept, options["uncertain"])

    def _uncertain(self, classifier: Classifier, kept: dict[str, list[str]], count: int) -> None:
        texts = list(dict.fromkeys(text for group in kept.values() for text in group))
        seven = classifier.emotions(classifier.probabilities(texts))
        ranked = np.argsort(seven.max(-1), kind="stable")[:count]
        self.stdout.write(f"\nThe {len(ranked)} least certain distinct texts ({DEFAULT_GROUPING}):")
        for index in ranked:
            first, second = seven[index].argsort()[::-1][:2]
            scores = " ".join(f"{seven[index, code]:.2f} {EMOTIONS[code]:<9}" for code in (first, second))
            self.stdout.write(f"{scores}{texts[index]}")


def _read(path: Path, titles: Any, into: dict[str, list[str]]) -> None:
    corpus = open_corpus(path, titles=titles)
    for row in corpus.rows:
        if isinstance(row, BadRow):
            continue
        if isinstance(row, Dialogue):
            for utterance in row.utterances:
                who = "users" if utterance.role == "user" else "references"
                into[f"{corpus.format} {who}"].append(utterance.plain)
        else:
            into[row.system].append(row.plain)


def _describe(classifier: Classifier, kept: list[str], masked: list[str]) -> dict[str, Any]:
    fine = {"kept": classifier.probabilities(kept), "masked": classifier.probabilities(masked)}
    with_title = np.array([one != two for one, two in zip(kept, masked, strict=True)], dtype=bool)
    found: dict[str, Any] = {"n": len(kept), "with_title": int(with_title.sum())}
    for grouping in GROUPINGS:
        labels = {titles: classifier.emotions(rows, grouping).argmax(-1) for titles, rows in fine.items()}
        for titles, codes in labels.items():
            found[f"{grouping}, {titles}"] = _shares(codes)
            found[f"{grouping}, {titles}, texts with a title"] = _shares(codes[with_title])
        changed = labels["kept"] != labels["masked"]
        found[f"{grouping}, label changed by masking"] = float(changed[with_title].mean()) if with_title.any() else None
    return found


def _shares(codes: Any) -> dict[str, float | None]:
    if len(codes) == 0:
        return dict.fromkeys(EMOTIONS)
    counts = np.bincount(codes, minlength=len(EMOTIONS)) / len(codes)
    return {emotion: round(float(share), 4) for emotion, share in zip(EMOTIONS, counts, strict=True)}


def _table(found: dict[str, Any]) -> str:
    lines = ["| texts | n | grouping, titles | " + " | ".join(EMOTIONS) + " |", "|---" * (3 + len(EMOTIONS)) + "|"]
    for name, facts in found.items():
        for key, shares in facts.items():
            if isinstance(shares, dict) and None not in shares.values() and not key.endswith("with a title"):
                cells = " | ".join(f"{100 * share:.1f}" for share in shares.values())
                lines.append(f"| {name} | {facts['n']:,} | {key} | {cells} |")
    return "\n".join(lines)
