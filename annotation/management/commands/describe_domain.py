"""How the classifier behaves on a corpus nobody labelled: what it says, what titles do to it, where it is unsure."""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from django.core.management.base import BaseCommand, CommandError

from annotation.corpora.dialogue import BadRow, CorpusError, Dialogue
from annotation.corpora.opening import open_corpus
from annotation.inference.base import ClassifierError
from annotation.inference.classifier import Classifier, load_default
from annotation.inference.text import normalise
from annotation.workflow import prelabel
from evaluation.emotions import DEFAULT_GROUPING, EMOTIONS, GROUPINGS


class Command(BaseCommand):
    help = (
        "Print, for corpus and response files, the share of each predicted emotion under both groupings, titles kept "
        "and masked, and where the least certain utterances stand. Reads the files only; the database is left alone."
    )

    def add_arguments(self, parser: Any) -> None:
        parser.add_argument("files", nargs="+", type=Path)
        parser.add_argument("--adapter", type=Path, help="an adapter file instead of the classifier of the settings")
        parser.add_argument("--uncertain", type=int, default=0, help="list this many least certain utterances")
        parser.add_argument("--texts", action="store_true", help="with --uncertain: what they say, not only where")
        parser.add_argument("--json", action="store_true")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            adapter = options["adapter"]
            classifier = load_default(adapter=adapter) if adapter else prelabel.configured()
            kept: dict[str, list[Said]] = defaultdict(list)
            masked: dict[str, list[Said]] = defaultdict(list)
            for path in options["files"]:
                _read(path, "keep", kept)
                _read(path, "mask", masked)
        except (ClassifierError, CorpusError) as error:
            raise CommandError(str(error)) from error
        found = {name: _describe(classifier, said, masked[name]) for name, said in kept.items()}
        least = _uncertain(classifier, [said for group in kept.values() for said in group], options["uncertain"])
        if options["json"]:
            facts: dict[str, Any] = {"revision": classifier.revision, "groups": found}
            if least:
                facts["least_certain"] = [_facts(said, row, options["texts"]) for said, row in least]
            self.stdout.write(json.dumps(facts))
            return
        self.stdout.write(_table(found))
        if least:
            self.stdout.write(f"\nThe {len(least)} least certain distinct texts ({DEFAULT_GROUPING}):\n")
            self.stdout.write(_places(least, texts=options["texts"]))


@dataclass(frozen=True, slots=True)
class Said:
    """One utterance or response, and where it stands; `turn` counts merged turns of the dialogue from 0."""

    text: str
    source: str
    dialogue: str
    turn: int | None
    role: str


def _read(path: Path, titles: Any, into: dict[str, list[Said]]) -> None:
    corpus = open_corpus(path, titles=titles)
    for row in corpus.rows:
        if isinstance(row, BadRow):
            continue
        if isinstance(row, Dialogue):
            for utterance in row.utterances:
                who = "users" if utterance.role == "user" else "references"
                said = Said(utterance.plain, corpus.format, row.source_id, utterance.position, utterance.role)
                into[f"{corpus.format} {who}"].append(said)
        else:
            into[row.system].append(Said(row.plain, row.system, row.dialogue_id, row.position, "system"))


def _uncertain(classifier: Classifier, said: list[Said], count: int) -> list[tuple[Said, Any]]:
    """Give the distinct texts with the smallest top probability, least certain first; each where it is first said."""
    first: dict[str, Said] = {}
    for one in said:
        first.setdefault(normalise(one.text), one)
    if not count or not first:
        return []
    distinct = list(first.values())
    seven = classifier.emotions(classifier.probabilities([one.text for one in distinct]))
    return [(distinct[index], seven[index]) for index in np.argsort(seven.max(-1), kind="stable")[:count]]


def _facts(said: Said, row: Any, texts: bool) -> dict[str, Any]:
    found: dict[str, Any] = {"source": said.source, "dialogue": said.dialogue, "turn": said.turn, "role": said.role}
    found["emotions"] = [[EMOTIONS[code], round(float(row[code]), 4)] for code in row.argsort()[::-1][:2]]
    return found | ({"text": said.text} if texts else {})


def _places(least: list[tuple[Said, Any]], *, texts: bool) -> str:
    columns = ["source", "dialogue", "turn", "role", "first", "second", *(["text"] if texts else [])]
    lines = ["| " + " | ".join(columns) + " |", "|---" * len(columns) + "|"]
    for said, row in least:
        turn = "" if said.turn is None else str(said.turn)
        cells = [said.source, said.dialogue, turn, said.role]
        cells += [f"{EMOTIONS[code]} {row[code]:.2f}" for code in row.argsort()[::-1][:2]]
        cells += [said.text.replace("|", "\\|")] if texts else []
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _describe(classifier: Classifier, kept: list[Said], masked: list[Said]) -> dict[str, Any]:
    texts = {"kept": [said.text for said in kept], "masked": [said.text for said in masked]}
    fine = {titles: classifier.probabilities(those) for titles, those in texts.items()}
    with_title = np.array([one != two for one, two in zip(*texts.values(), strict=True)], dtype=bool)
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
