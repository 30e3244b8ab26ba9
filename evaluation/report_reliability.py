"""Section 7 of the report: how far the labels can be trusted."""

from __future__ import annotations

from typing import Final

import numpy as np
import pandas as pd

from evaluation.agreement import Agreement, agreement
from evaluation.anchoring import Anchoring, anchoring_effect, has_arms
from evaluation.emotions import EMOTIONS
from evaluation.groups import MetricOptions
from evaluation.label_table import AgreementOptions
from evaluation.pooling import Pooling
from evaluation.report_model import Cell, Column, Names, Section, Table, warnings_of
from evaluation.report_validation import validation_figures, validation_tables, validations

COEFFICIENTS: Final = (
    ("percent_agreement", "Percent agreement"),
    ("krippendorff_alpha", "Krippendorff's alpha"),
    ("fleiss_kappa", "Fleiss' kappa"),
    ("cohen_kappa", "Cohen's kappa"),
    ("gwet_ac1", "Gwet's AC1"),
)
PER_LABEL: Final = {
    "prevalence": "Share of labels",
    "specific_agreement": "Specific agreement",
    "krippendorff_alpha": "Alpha",
    "fleiss_kappa": "Fleiss' kappa",
    "gwet_ac1": "AC1",
}
HARM: Final = ("classifier right", "classifier wrong")
WORDS: Final = {"kind": "role", "dataset": "data set", "system": "system"}


def reliability(
    turns: pd.DataFrame,
    judgments: pd.DataFrame,
    options: MetricOptions,
    names: Names,
    *,
    pooling: Pooling,
    verified_arms: str,
    replicates: int,
    seed: int,
) -> Section:
    """Give section 7: human-human and classifier-human agreement, calibration and the effect of the shown label.

    Parameters
    ----------
    pooling
        Whether labels of both arms count.
    verified_arms
        The arms whose labels made the verified ones of `turns`: `hidden`, `all`, or empty where not known.
    """
    chosen = AgreementOptions(
        labels=EMOTIONS,
        arms="all" if pooling.pooled else "hidden",
        replicates=replicates,
        seed=seed,
        confidence=options.confidence,
    )
    tables, warnings = _human_tables(judgments, chosen, names)
    found, said = validations(turns, options, names, replicates=replicates, seed=seed)
    tables += validation_tables(found, names)
    warnings += said
    figures = validation_figures(found)
    if has_arms(judgments):
        anchoring = anchoring_effect(judgments, replicates=replicates, seed=seed, confidence=options.confidence)
        tables.append(_anchoring_table(anchoring))
        warnings += [_pooling_warning(pooling, verified_arms, options.confidence), *anchoring.warnings]
    if not len(judgments) and not found:
        warnings.append("No human label has been given: the reliability of these labels is unknown.")
    caption = (
        "How well the annotators agree with each other, and the classifier with them. Agreement among people is the "
        "ceiling: a classifier cannot be expected to agree with them more than they do. 1 is perfect; 0 is no better "
        "than chance for alpha, kappa and AC1. Words for the size of a coefficient are given for the lower bound of "
        "its interval only."
    )
    return Section("reliability", 7, "Reliability", caption, tuple(tables), tuple(figures), warnings_of(warnings))


def _human_tables(
    judgments: pd.DataFrame, options: AgreementOptions, names: Names
) -> tuple[list[Table], list[str | None]]:
    if not len(judgments):
        return [], []
    rows: list[dict[str, Cell]] = []
    per_label: list[dict[str, Cell]] = []
    for words, part in _slices(judgments, names):
        found = agreement(part, options)
        rows.append(_agreement_row(words, found))
        if words == "all":
            per_label = [
                {"emotion": label, **{name: values.get(name) for name in PER_LABEL}}
                for label, values in found.per_label.items()
            ]
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
        columns = (
            Column("emotion", "Emotion"),
            *(Column(key, title, "number") for key, title in PER_LABEL.items()),
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


def _pooling_warning(pooling: Pooling, verified_arms: str, confidence: float) -> str:
    """Say which arms count, and where the verified labels may rest on others."""
    said = pooling.sentence(confidence)
    if said and not pooling.pooled and verified_arms != "hidden":
        said += " The verified labels of these tables were made elsewhere and may rest on both arms."
    return said


def _anchoring_table(found: Anchoring) -> Table:
    rows: list[dict[str, Cell]] = [
        {"what": "effect on these annotators", "effect": found.effect},
        {"what": "effect on annotators like these", "effect": found.future},
        {"what": "check: dialogues resampled", "effect": found.dialogue_check},
        {"what": "check: log odds ratio", "effect": found.logit},
    ]
    rows += [
        {"what": name if name in HARM else f"stratum: {name}", "effect": estimate}
        for name, estimate in found.by_stratum.items()
    ]
    rows += [{"what": f"annotator: {name}", "effect": estimate} for name, estimate in found.by_annotator.items()]
    return Table(
        "anchoring",
        "Effect of showing the classifier's label",
        (Column("what", "Effect"), Column("effect", "Agreement with the classifier, shown - hidden", "number")),
        tuple(rows),
        "Assignments were randomised. A positive effect means that seeing the label made annotators agree with it "
        "more; estimates use the hidden arm unless the report says otherwise. An effect where the classifier is wrong "
        "is harm: wrong labels followed. Whether it is wrong, the item's other annotators of the hidden arm say.",
    )
