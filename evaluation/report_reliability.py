"""Section 7 of the report: how far the labels can be trusted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np
import pandas as pd

from evaluation import counts as ct
from evaluation.agreement import Agreement, agreement
from evaluation.anchoring import Anchoring, anchoring_effect
from evaluation.counts import emotion_codes
from evaluation.emotions import EMOTIONS
from evaluation.groups import MetricOptions
from evaluation.intervals import cluster_codes
from evaluation.label_table import AgreementOptions
from evaluation.report_model import Cell, Column, FigureSpec, Names, Section, Table, warnings_of
from evaluation.validation import Validation, validate

ROLES: Final = (("user", "user utterance"), ("response", "system response"), ("reference", "reference response"))
COEFFICIENTS: Final = (
    ("percent_agreement", "Percent agreement"),
    ("krippendorff_alpha", "Krippendorff's alpha"),
    ("fleiss_kappa", "Fleiss' kappa"),
    ("cohen_kappa", "Cohen's kappa"),
    ("gwet_ac1", "Gwet's AC1"),
)
WORDS: Final = {"kind": "role", "dataset": "data set", "system": "system"}
FLAG_WORDS: Final = {"aligned_exact": "exact match", "aligned_coarse": "coarse match"}
SENSITIVITY_WORDS: Final = {
    "within_context": "within contexts, two responses or more to the same turn",
    "mixed_crossed": "crossed linear mixed model",
    "mixed_nested": "nested linear mixed model",
    "proportional_odds": "proportional odds (log odds ratio)",
}


def reliability(
    turns: pd.DataFrame,
    judgments: pd.DataFrame,
    options: MetricOptions,
    names: Names,
    *,
    arms: str,
    replicates: int,
    seed: int,
) -> Section:
    """Give section 7: human-human and classifier-human agreement, calibration and the effect of the shown label."""
    chosen = AgreementOptions(
        labels=EMOTIONS,
        arms="hidden" if arms == "independent" else "all",
        replicates=replicates,
        seed=seed,
        confidence=options.confidence,
    )
    tables, warnings = _human_tables(judgments, chosen, names)
    validations = _validations(turns, options, replicates, seed)
    tables += _validation_tables(validations, names)
    for (role, _, _), found in validations.items():
        warnings += [f"Validation, {role}: {text}" for text in found.warnings if "No utterance has both" not in text]
    figures = _validation_figures(validations)
    anchoring = _anchoring(judgments, replicates, seed, options.confidence)
    if anchoring is not None:
        tables.append(_anchoring_table(anchoring))
        warnings += list(anchoring.warnings)
    if not len(judgments) and not validations:
        warnings.append("No human label has been given: the reliability of these labels is unknown.")
    caption = (
        "How well the annotators agree with each other, and the classifier with them. Agreement among people is the "
        "ceiling: a classifier cannot be expected to agree with them more than they do. 1 is perfect; 0 is no better "
        "than chance for alpha, kappa and AC1. Words for the size of a coefficient are given for the lower bound of "
        "its interval only."
    )
    return Section("reliability", 7, "Reliability", caption, tuple(tables), tuple(figures), warnings_of(warnings))


def _human_tables(judgments: pd.DataFrame, options: AgreementOptions, names: Names) -> tuple[list[Table], list[str]]:
    if not len(judgments):
        return [], []
    rows: list[dict[str, Cell]] = []
    per_label: list[dict[str, Cell]] = []
    for words, part in _slices(judgments, names):
        found = agreement(part, options)
        rows.append(_agreement_row(words, found))
        if words == "all":
            per_label = [
                {"emotion": label, **{name: values.get(name) for name in ("prevalence", "alpha", "kappa", "ac1",
                                                                         "specific_agreement")}}
                for label, values in found.per_label.items()
            ]  # fmt: skip
            annotators = _annotator_rows(found)
    main = Table(
        "agreement",
        "Agreement of annotators",
        (
            Column("part", "Judgments"),
            Column("items", "Items", "count"),
            Column("annotators", "Annotators", "count"),
            *(Column(key, title, "number", direction="higher is more agreement") for key, title in COEFFICIENTS),
            Column("band", "Alpha, lower bound"),
        ),
        tuple(rows),
        "Computed on the independent first labels, before adjudication; labels given with the classifier's label in "
        "sight are left out unless the report says otherwise. Cohen's kappa is for two annotators.",
    )
    tables = [main]
    if per_label:
        keys = [key for key in per_label[0] if key != "emotion" and any(row[key] is not None for row in per_label)]
        titles = {"prevalence": "Share of labels", "alpha": "Alpha", "kappa": "Kappa", "ac1": "AC1"}
        columns = (
            Column("emotion", "Emotion"),
            *(Column(key, titles.get(key, key.replace("_", " ").capitalize()), "number") for key in keys),
        )
        tables.append(
            Table("agreement-labels", "Agreement by emotion, one against the rest", columns, tuple(per_label))
        )
    if annotators:
        columns = (
            Column("annotator", "Annotator"),
            Column("labels", "Labels", "count"),
            *(Column(key, f"{key.capitalize()} with the others' majority", "number") for key in ("percent", "cohen")),
        )
        tables.append(Table("agreement-annotators", "Each annotator against the others", columns, tuple(annotators)))
    return tables, []


def _slices(judgments: pd.DataFrame, names: Names) -> list[tuple[str, pd.DataFrame]]:
    """Give all judgments, then by role, data set and system, those with more than one value."""
    parts = [("all", judgments)]
    for column in ("kind", "dataset", "system"):
        if column not in judgments:
            continue
        values = sorted(str(value) for value in judgments[column].dropna().unique())
        if len(values) > 1 or (column == "system" and values):
            title = {"dataset": names.dataset, "system": names.system}.get(column, str)
            parts += [
                (f"{WORDS[column]}: {title(value)}", judgments[judgments[column].astype(str) == value])
                for value in values
            ]
    return parts


def _agreement_row(words: str, found: Agreement) -> dict[str, Cell]:
    row: dict[str, Cell] = {
        "part": words,
        "items": _fact(found, "n_items"),
        "annotators": _fact(found, "n_annotators"),
    }
    row |= {key: found.coefficients.get(key) for key, _ in COEFFICIENTS}
    band = found.bands.get("krippendorff_alpha")
    row["band"] = f"{band['band']} ({band['scale']})" if band else None
    return row


def _fact(found: Agreement, name: str) -> int | None:
    value = found.facts.get(name)
    return int(value) if isinstance(value, int | np.integer) else None


def _annotator_rows(found: Agreement) -> list[dict[str, Cell]]:
    return [
        {
            "annotator": one.annotator,
            "labels": int(sum(one.labels.values())),
            "percent": one.values.get("percent"),
            "cohen": one.values.get("cohen"),
        }
        for one in found.annotators
    ]


Key = tuple[str, str, str]


def _validations(turns: pd.DataFrame, options: MetricOptions, replicates: int, seed: int) -> dict[Key, Validation]:
    """Validate each role, all data sets together and one by one, and responses of each system."""
    found: dict[Key, Validation] = {}
    for role, _ in ROLES:
        part = _role_rows(turns, role)
        if not len(part) or part[f"{role}_verified"].isna().all():
            continue
        slices: list[tuple[str, str, pd.DataFrame]] = [("all", "all", part)]
        datasets = sorted(part["dataset"].unique())
        if len(datasets) > 1:
            slices += [(name, "all", part[part["dataset"] == name]) for name in datasets]
        if role == "response":
            for system in sorted(part["system"].unique()):
                slices.append(("all", system, part[part["system"] == system]))
        for dataset, system, rows in slices:
            if rows[f"{role}_verified"].notna().any():
                found[role, dataset, system] = _validate(rows, role, dataset, system, options, replicates, seed)
    return found


def _role_rows(turns: pd.DataFrame, role: str) -> pd.DataFrame:
    """Give one row per text of a role: a user utterance and a reference stand once per turn, not once per system."""
    if f"{role}_verified" not in turns:
        return turns.iloc[:0]
    table = turns.assign(dataset=turns["dataset"].fillna("").astype(str))
    reference = table["is_reference_row"]
    if role == "response":
        return table[~reference]
    return table.drop_duplicates(["dataset", "dialogue", "turn"])


def _validate(
    rows: pd.DataFrame, role: str, dataset: str, system: str, options: MetricOptions, replicates: int, seed: int
) -> Validation:
    human = emotion_codes(rows[f"{role}_verified"].astype(object))
    machine = emotion_codes(rows[f"{role}_label"].astype(object))
    weights = None
    if "inclusion_probability" in rows and rows["inclusion_probability"].notna().any():
        chance = rows["inclusion_probability"].to_numpy(dtype=float)
        human = np.where(np.isfinite(chance), human, -1).astype(np.int8)
        weights = np.where(np.isfinite(chance), 1 / np.where(np.isfinite(chance), chance, 1.0), 1.0)
    confidences = None
    if f"{role}_confidence" in rows:
        confidences = pd.to_numeric(rows[f"{role}_confidence"], errors="coerce").to_numpy(dtype=float)
    codes, _ = cluster_codes(rows["dataset"], rows["dialogue"])
    return validate(
        human,
        machine,
        machine,
        dialogues=codes,
        weights=weights,
        confidences=confidences,
        macro_f1=options.macro_f1,
        target=options.target,
        replicates=replicates,
        seed=seed,
        name=f"validation/{role}/{dataset}/{system}",
        confidence=options.confidence,
    )


def _role_words(role: str) -> str:
    return dict(ROLES)[role]


def _validation_tables(validations: Mapping[Key, Validation], names: Names) -> list[Table]:
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
        kept = ("accuracy", "cohen_kappa", "macro_f1", "ece")
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
                Column("ece", "Calibration error (ECE)", "number", direction="lower is better"),
            ),
            tuple(overall),
            "Post-stratified by predicted label, so that a sample with more rare emotions still speaks for the corpus; "
            "n is the number of verified texts. The paper verified 150 user utterances and no response.",
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


def _validation_figures(validations: Mapping[Key, Validation]) -> list[FigureSpec]:
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


def _anchoring(judgments: pd.DataFrame, replicates: int, seed: int, confidence: float) -> Anchoring | None:
    if (
        "arm" not in judgments
        or "prelabel" not in judgments
        or not {"shown", "hidden"} <= set(judgments["arm"].dropna())
    ):
        return None
    return anchoring_effect(judgments, replicates=replicates, seed=seed, confidence=confidence)


def _anchoring_table(found: Anchoring) -> Table:
    rows: list[dict[str, Cell]] = [
        {"what": "effect on these annotators", "effect": found.effect},
        {"what": "effect on annotators like these", "effect": found.future},
        {"what": "check: dialogues resampled", "effect": found.dialogue_check},
        {"what": "check: log odds ratio", "effect": found.logit},
    ]
    rows += [{"what": f"stratum: {name}", "effect": estimate} for name, estimate in found.by_stratum.items()]
    return Table(
        "anchoring",
        "Effect of showing the classifier's label",
        (Column("what", "Effect"), Column("effect", "Agreement with the classifier, shown - hidden", "number")),
        tuple(rows),
        "Assignments were randomised. A positive effect means that seeing the label made annotators agree with it "
        "more; estimates use the hidden arm unless the report says otherwise.",
    )
