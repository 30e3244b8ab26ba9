"""The classifier's labels against the verified ones, beside what the annotators reach among themselves.

The verified label of an item follows the one rule of `evaluation.aggregation`: adjudicated, else the majority of two or
more, else a single label where that is allowed. Everything here is unweighted: a label is right or wrong.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
import pandas as pd

from evaluation import coefficients as co
from evaluation.aggregation import decisions, verified_codes
from evaluation.coefficients import Floats, Ints
from evaluation.crosstable import CrossTable, compare_columns
from evaluation.intervals import Estimate, bootstrap_estimate, cluster_weights, round_significant, undefined
from evaluation.label_table import AgreementOptions, Labels, item_clusters
from evaluation.tables import TableError, label_codes

MATRIX_TITLE: Final = "Misclassification: human label (rows) against classifier label (columns) of the same text"
SCORES: Final = {"precision": "never_predicted", "recall": "no_support", "f1": "class_absent"}
"""The scores of one label, and why each may have no value."""


@dataclass(frozen=True, slots=True)
class ClassifierAgreement:
    """The classifier's labels against the verified ones, and the annotators' agreement as the ceiling.

    Attributes
    ----------
    values
        `accuracy`, `cohen_kappa` and `gwet_ac1` against the verified labels.
    per_label
        `precision`, `recall` and `f1` of each label.
    matrix
        Shape (K, K): verified label (rows) and classifier's label (columns) of the compared items.
    human
        The annotators' unweighted agreement with each other.
    left_out
        Agreement of classifier and of each left-out annotator with the majority of the other annotators, on the same
        items, and the difference (classifier minus annotator).
    resolved
        Items that have a classifier's label, by how they were verified or why they were not.
    """

    labels: Sequence[str]
    values: Mapping[str, Estimate]
    per_label: Mapping[str, Mapping[str, Estimate]]
    matrix: Ints
    human: Mapping[str, Estimate]
    left_out: Mapping[str, Estimate]
    resolved: Mapping[str, int]

    @property
    def prevalence(self) -> dict[str, float | None]:
        """The share of each verified label among the compared items."""
        total = int(self.matrix.sum())
        shares = self.matrix.sum(axis=1) / total if total else np.full(len(self.labels), np.nan)
        return {label: float(share) if total else None for label, share in zip(self.labels, shares, strict=True)}

    def to_json(self) -> dict[str, Any]:
        """Give a plain mapping."""
        parts = {"human_human": self.human, "left_out": self.left_out}
        groups = {part: {name: e.to_json() for name, e in group.items()} for part, group in parts.items()}
        support, predicted = self.matrix.sum(axis=1), self.matrix.sum(axis=0)
        per_label = {
            label: {
                **{name: estimate.to_json() for name, estimate in self.per_label[label].items()},
                "support": int(support[k]),
                "predicted": int(predicted[k]),
            }
            for k, label in enumerate(self.labels)
        }
        return {
            **{name: estimate.to_json() for name, estimate in self.values.items()},
            "resolved": dict(self.resolved),
            "per_label": per_label,
            "matrix": {
                "title": MATRIX_TITLE,
                "rows": "human label",
                "columns": "classifier label",
                "labels": list(self.labels),
                "counts": self.matrix.tolist(),
            },
            **groups,
            "prevalence": {label: round_significant(share) for label, share in self.prevalence.items()},
        }


def classifier_agreement(
    judgments: pd.DataFrame,
    labels: Labels,
    human: Mapping[str, Estimate],
    decided: Mapping[Any, str],
    options: AgreementOptions,
) -> ClassifierAgreement:
    """Compare the classifier with the verified labels, beside the annotators' agreement; labels count unweighted.

    Parameters
    ----------
    judgments
        The whole checked table: prelabel and adjudicated label belong to the item, whichever of its rows names them.
    labels
        The labels that count, of the same table.
    human
        The annotators' unweighted coefficients, repeated here as the ceiling.
    decided
        Adjudicated labels by item; they come before the column `gold_label`.

    Raises
    ------
    TableError
        When an item has two prelabels or two adjudicated labels, when `decided` names an item that the table lacks or
        a label outside the set.
    """
    items, names = pd.factorize(judgments["item"])
    items = items.astype(np.int64)
    predicted = _one_per_item(judgments, items, len(names), labels, "prelabel")
    adjudicated = _adjudicated(judgments, decided, list(names), labels)
    place = pd.Index(names).get_indexer(pd.Index(labels.item_names)).astype(np.int64)
    counts = np.zeros((len(names), len(labels.categories)))
    counts[place] = labels.counts
    verified = verified_codes(counts, adjudicated, options.allow_single)
    known = (predicted >= 0) & (verified >= 0)
    _, clusters, _ = item_clusters(judgments, items, len(names))
    table = CrossTable.of(clusters[known], verified[known], predicted[known], len(labels.categories))
    plain = np.eye(len(labels.categories))
    values = compare_columns(table, labels, options, plain, name="classifier")
    shown = {"percent": "accuracy", "cohen": "cohen_kappa", "gwet": "gwet_ac1"}
    ceiling = ("percent_agreement", "fleiss_kappa", "gwet_ac1", "krippendorff_alpha")
    return ClassifierAgreement(
        labels.categories,
        {shown[key]: estimate for key, estimate in values.items() if key in shown},
        _scores(table, labels, options),
        table.total.astype(np.int64),
        {name: human[name] for name in ceiling},
        _left_out(labels, predicted[place], options),
        _resolved(counts, adjudicated, verified, predicted),
    )


def _adjudicated(judgments: pd.DataFrame, decided: Mapping[Any, str], names: list[Any], labels: Labels) -> Ints:
    """Give the adjudicated category of each item, -1 where there is none."""
    codes = np.full(len(names), -1, dtype=np.int64)
    position = {item: row for row, item in enumerate(names)}
    for item, label in decisions(judgments, decided, labels.categories).items():
        if item not in position:
            raise TableError(f"The adjudicated item {item!r} is not in the judgments table.", column="item")
        codes[position[item]] = labels.categories.index(label)
    return codes


def _one_per_item(rows: pd.DataFrame, items: Ints, n_items: int, labels: Labels, column: str) -> Ints:
    """Give a column's category per item, -1 where empty; two values for one item are refused."""
    codes = label_codes(rows[column], labels.categories, column)
    given = codes >= 0
    found = np.full(n_items, -1, dtype=np.int64)
    found[items[given]] = codes[given]
    torn = given & (found[items] != codes)
    if torn.any():
        place = int(np.argmax(torn))
        other = int(np.flatnonzero((items == items[place]) & given & ~torn)[0])
        row, elsewhere = int(rows.index[place]) + 1, int(rows.index[other]) + 1
        raise TableError(
            f"Row {row}, column {column}: the item has another value in row {elsewhere}.", row=row, column=column
        )
    return found


def _resolved(counts: Floats, adjudicated: Ints, verified: Ints, predicted: Ints) -> dict[str, int]:
    """Count the items that the classifier labelled by how they were verified, or why they were not."""
    votes = counts.sum(axis=1)
    by_people = adjudicated < 0
    states = {
        "adjudicated": ~by_people,
        "majority": by_people & (votes >= 2) & (verified >= 0),
        "single": by_people & (votes == 1) & (verified >= 0),
        "unresolved_tie": by_people & (votes >= 2) & (verified < 0),
        "unresolved_single": by_people & (votes == 1) & (verified < 0),
        "no_data": by_people & (votes == 0),
    }
    return {name: int((rows & (predicted >= 0)).sum()) for name, rows in states.items()}


# --- label by label --------------------------------------------------------------------------------------------------


def _scores(table: CrossTable, labels: Labels, options: AgreementOptions) -> dict[str, dict[str, Estimate]]:
    names = {(score, k): f"{score}:{label}" for score in SCORES for k, label in enumerate(labels.categories)}

    def statistics(tables: Floats) -> dict[str, Floats]:
        both = np.diagonal(tables, axis1=-2, axis2=-1)
        support, predicted = tables.sum(axis=-1), tables.sum(axis=-2)
        with np.errstate(invalid="ignore", divide="ignore"):
            found = {"precision": both / predicted, "recall": both / support, "f1": 2 * both / (support + predicted)}
        return {name: found[score][..., k] for (score, k), name in names.items()}

    made = table.estimates(statistics, lambda whole: _score_errors(whole, names), labels, options, name="classifier")

    def one(score: str, k: int) -> Estimate:
        estimate = made[names[score, k]]
        return replace(estimate, reason=SCORES[score]) if table.n and estimate.value is None else estimate

    return {label: {score: one(score, k) for score in SCORES} for k, label in enumerate(labels.categories)}


def _score_errors(table: Floats, names: Mapping[tuple[str, int], str]) -> dict[str, float | None]:
    """Linearise precision, recall and F1: ratios of sums over items, `evaluation.linearised.ratio_error` by cells."""
    n = float(table.sum())
    both, support, predicted = np.diag(table), table.sum(axis=1), table.sum(axis=0)
    found: dict[str, float | None] = {}
    for (score, k), name in names.items():
        hit = float(both[k])
        miss, whole, worth = {
            "precision": (predicted[k] - hit, predicted[k], 1.0),
            "recall": (support[k] - hit, support[k], 1.0),
            "f1": (support[k] + predicted[k] - 2 * hit, support[k] + predicted[k], 2.0),
        }[score]
        if n < 2 or whole == 0:
            found[name] = None
            continue
        ratio = worth * hit / whole
        # a hit counts `worth` in the part and in the whole, a miss counts 1 in the whole alone
        squares = hit * (worth - worth * ratio) ** 2 + miss * ratio**2
        found[name] = float(np.sqrt(n / (n - 1) * squares) / whole)
    return found


# --- one annotator at a time -----------------------------------------------------------------------------------------


def _left_out(labels: Labels, predicted: Ints, options: AgreementOptions) -> dict[str, Estimate]:
    """Leave out one annotator at a time; compare her and the classifier with the majority of the others.

    Mean over (item, annotator) with a majority of the others and a predicted label; ratio of sums, dialogue bootstrap.
    """
    others = labels.counts[labels.items]
    others[np.arange(len(labels.codes)), labels.codes] -= 1
    majority = co.majority_codes(others)
    known = (majority >= 0) & (predicted[labels.items] >= 0)
    rows = np.flatnonzero(known)
    names = ("classifier", "annotator", "difference")
    if not len(rows):
        return {name: undefined("no_pairs") for name in names}
    human = (labels.codes[rows] == majority[rows]).astype(float)
    machine = (predicted[labels.items[rows]] == majority[rows]).astype(float)
    present, local = np.unique(labels.clusters[labels.items[rows]], return_inverse=True)
    columns = (machine, human, machine - human, np.ones(len(rows)))
    sums = np.stack([np.bincount(local, weights=column, minlength=len(present)) for column in columns], axis=1)
    draws = cluster_weights(len(present), options.replicates, options.seed, name="left-out")
    totals = np.concatenate([np.empty((0, 4)), *(block @ sums for block in draws)])
    point = sums.sum(axis=0)
    return {
        name: bootstrap_estimate(
            float(point[k] / point[3]),
            totals[:, k] / totals[:, 3],
            n=len(rows),
            clusters=len(present),
            unit=labels.unit,
            confidence=options.confidence,
            bounds=(-1.0, 1.0) if name == "difference" else (0.0, 1.0),
        )
        for k, name in enumerate(names)
    }
