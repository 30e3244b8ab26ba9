"""The classifier against human labels in section 7 of the report: validation, misclassification, calibration."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final

import pandas as pd

from evaluation import counts as ct
from evaluation.emotions import EMOTIONS
from evaluation.groups import MetricOptions
from evaluation.report_model import Cell, Column, FigureSpec, Names, Table
from evaluation.validation import Role, Validation, role_rows, uncovered, validate_texts, verified_rows

ROLES: Final[tuple[tuple[Role, str], ...]] = (
    ("user", "user utterance"),
    ("response", "system response"),
    ("reference", "reference response"),
)
Key = tuple[str, str, str]
"""Role, data set and system, `all` for every one."""


def validations(
    turns: pd.DataFrame, options: MetricOptions, names: Names, *, replicates: int, seed: int
) -> tuple[dict[Key, Validation], list[str]]:
    """Validate each role, all data sets together and one by one, and responses of each system; and what to warn of.

    A row that leaves out a data set or a system, because none of its texts is verified, says so in a note.
    """
    found: dict[Key, Validation] = {}
    said: list[str] = []
    for role, words in ROLES:
        part = role_rows(turns, role)
        if not len(part) or not verified_rows(part, role).any():
            continue
        _, missing = uncovered(part, role)
        if missing:
            said.append(
                f"Validation, {words}: no text is verified of {_named(missing, names)}. The numbers do not speak for "
                "them."
            )
        slices: list[tuple[str, str, pd.DataFrame]] = [("all", "all", part)]
        datasets = sorted(part["dataset"].unique())
        if len(datasets) > 1:
            slices += [(name, "all", part[part["dataset"] == name]) for name in datasets]
        if role == "response":
            slices += [("all", name, part[part["system"] == name]) for name in sorted(part["system"].unique())]
        for dataset, system, rows in slices:
            if not verified_rows(rows, role).any():
                continue
            name = f"validation/{role}/{dataset}/{system}"
            made = validate_texts(rows, role, options, replicates=replicates, seed=seed, name=name)
            _, missing = uncovered(rows, role)
            if missing:
                note = f"without {_named(missing, names)}: no text is verified"
                made = replace(made, estimates={key: one.with_notes(note) for key, one in made.estimates.items()})
            found[role, dataset, system] = made
            whole = (dataset, system) == ("all", "all")
            of = "" if whole else f", {_named([(_only(dataset), _only(system))], names)}"
            # That a slice is thin shows in its n; that it has no such text at all moves what it says.
            said += [f"Validation, {words}{of}: {text}" for text in made.warnings if whole or text.startswith("No ")]
    return found, said


def _only(name: str) -> str | None:
    return None if name == "all" else name


def _named(missing: Sequence[tuple[str | None, str | None]], names: Names) -> str:
    told = []
    for dataset, system in missing:
        place = [] if system is None else [names.system(system)]
        told.append(
            " on ".join(place + ([] if dataset is None else [names.dataset(dataset) or "the unnamed data set"]))
        )
    return ", ".join(told)


def _role_words(role: str) -> str:
    return {str(name): words for name, words in ROLES}[role]


def validation_tables(validations: Mapping[Key, Validation], names: Names) -> list[Table]:
    """Give the tables of the classifier against human labels: overall, by emotion, and as a matrix."""
    if not validations:
        return []
    overall: list[dict[str, Cell]] = []
    by_label: list[dict[str, Cell]] = []
    matrix: list[dict[str, Cell]] = []
    for (role, dataset, system), found in validations.items():
        place: dict[str, Cell] = {
            "role": _role_words(role),
            "dataset": dataset if dataset == "all" else names.dataset(dataset),
            "system": system if system == "all" else names.system(system),
        }
        kept = ("accuracy", "cohen_kappa", "macro_f1", "calibration_error", "ece")
        overall.append(place | {key: found.estimates.get(key) for key in kept})
        if (dataset, system) != ("all", "all"):
            continue
        for code, emotion in enumerate(EMOTIONS):
            scores = {key: found.estimates[f"{key}:{emotion}"] for key in ("prevalence", "precision", "recall", "f1")}
            by_label.append({"role": _role_words(role), "emotion": emotion, **scores})
            counts: dict[str, Cell] = {e: int(found.counts[code, c]) for c, e in enumerate(EMOTIONS)}
            matrix.append({"role": _role_words(role), "emotion": emotion, "n": int(found.counts[code].sum()), **counts})
    text = Column("role", "Text")
    return [
        Table(
            "validation",
            "Classifier against human labels",
            (
                text,
                Column("dataset", "Data set"),
                Column("system", "System"),
                Column("accuracy", "Accuracy", "number", direction="higher is better"),
                Column("cohen_kappa", "Cohen's kappa", "number", direction="higher is better"),
                Column("macro_f1", "Macro-F1", "number", direction="higher is better"),
                Column(
                    "calibration_error", "Calibration error, root mean square", "number", direction="lower is better"
                ),
                Column("ece", "ECE, as sampled", "number", direction="lower is better"),
            ),
            tuple(overall),
            "Post-stratified by predicted label, so that a sample with more rare emotions still speaks for the corpus; "
            "n is the number of verified texts. All: every data set and system with a verified text. The calibration "
            "error has the bias of the sample taken off; the expected calibration error (ECE) as sampled lies above "
            "the truth. The paper verified 150 user utterances and no response.",
        ),
        Table(
            "validation-labels",
            "Classifier against human labels, by emotion",
            (
                text,
                Column("emotion", "Emotion"),
                Column("prevalence", "Prevalence by human labels", "number"),
                Column("precision", "Precision", "number"),
                Column("recall", "Recall", "number"),
                Column("f1", "F1", "number"),
            ),
            tuple(by_label),
        ),
        Table(
            "validation-matrix",
            "Misclassification: human label (rows) against classifier label (columns) of the same text",
            (
                text,
                Column("emotion", "Human label"),
                Column("n", "Texts", "count"),
                *(Column(e, e, "count") for e in EMOTIONS),
            ),
            tuple(matrix),
            "Counts of verified texts, as drawn.",
        ),
    ]


def validation_figures(validations: Mapping[Key, Validation]) -> list[FigureSpec]:
    """Give the figures: misclassification as heat maps, and the calibration curves."""
    whole = {
        role: found for (role, dataset, system), found in validations.items() if (dataset, system) == ("all", "all")
    }
    figures = []
    panels = [
        {
            "title": _role_words(role),
            "rows": list(EMOTIONS),
            "columns": list(EMOTIONS),
            "values": ct.normalised(found.joint),
            "counts": found.counts,
        }
        for role, found in whole.items()
    ]
    if panels:
        figures.append(
            FigureSpec(
                "validation-matrix",
                "heatmap",
                "Misclassification: human against classifier labels",
                "Heat maps of the human label (rows) against the classifier's label (columns) of the same text, for "
                f"{', '.join(str(panel['title']) for panel in panels)}; counts are in the table.",
                {"panels": panels, "row_title": "human label (n)", "column_title": "classifier label"},
                "Cells are percent of the row, post-stratified to the corpus.",
            )
        )
    curves = [
        {
            "title": _role_words(role),
            "points": [{"confidence": sure, "accuracy": right, "n": n} for _, _, sure, right, n in found.reliability],
        }
        for role, found in whole.items()
        if found.reliability
    ]
    if curves:
        figures.append(
            FigureSpec(
                "calibration",
                "reliability",
                "Calibration of the classifier",
                "Points of mean confidence against the share verified as right, in ten bins; on the diagonal the "
                "classifier is as sure as it is right.",
                {"panels": curves},
                "Below the diagonal the classifier is surer than it should be.",
            )
        )
    return figures
