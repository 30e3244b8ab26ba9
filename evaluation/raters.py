"""Agreement of single annotators: pair by pair, each against the others, and the classifier beside them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
import pandas as pd

from evaluation import coefficients as co
from evaluation.intervals import Estimate, bootstrap_estimate, cluster_weights, round_significant, undefined
from evaluation.label_table import AgreementOptions, Floats, Ints, Labels, bounds_of, from_error, stack
from evaluation.tables import TableError

MAX_RESAMPLED_PAIRS: Final = 300


@dataclass(frozen=True, slots=True)
class PairAgreement:
    """Two annotators on the items both labelled; `cohen_se` is the analytic standard error."""

    annotators: tuple[str, str]
    n: int
    values: Mapping[str, Estimate]
    cohen_se: float | None

    def to_json(self) -> dict[str, Any]:
        """Give a plain mapping."""
        found = {name: estimate.to_json() for name, estimate in self.values.items()}
        return {"annotators": list(self.annotators), "n": self.n, **found, "cohen_se": round_significant(self.cohen_se)}


@dataclass(frozen=True, slots=True)
class AnnotatorAgreement:
    """One annotator against the majority of the others, on the items where the others have one."""

    annotator: str
    labels: Mapping[str, int]
    values: Mapping[str, Estimate]
    alone: int
    unresolved: int

    def to_json(self) -> dict[str, Any]:
        """Give a plain mapping."""
        found = {name: estimate.to_json() for name, estimate in self.values.items()}
        return {"labels": dict(self.labels), "alone": self.alone, "unresolved": self.unresolved, **found}


@dataclass(frozen=True, slots=True)
class ClassifierAgreement:
    """The classifier's labels against the annotators', beside what annotators reach among themselves.

    `values`: accuracy, cohen_kappa and gwet_ac1 against the verified labels. `human`: the annotators' agreement with
    each other. `left_out`: agreement of classifier and of each left-out annotator with the majority of the other
    annotators, on the same items, and the difference (classifier minus annotator).
    """

    values: Mapping[str, Estimate]
    human: Mapping[str, Estimate]
    left_out: Mapping[str, Estimate]
    prevalence: Mapping[str, float]

    def to_json(self) -> dict[str, Any]:
        """Give a plain mapping."""
        parts = {"human_human": self.human, "left_out": self.left_out}
        found = {part: {name: e.to_json() for name, e in group.items()} for part, group in parts.items()}
        return {
            **{name: estimate.to_json() for name, estimate in self.values.items()},
            **found,
            "prevalence": dict(self.prevalence),
        }


# --- pairs and annotators --------------------------------------------------------------------------------------------


def _paired_labels(labels: Labels) -> tuple[Ints, Ints, Ints, Ints, Ints]:
    """Give every two labels of one item: item, the two raters (first < second) and their two categories."""
    order = np.lexsort((labels.raters, labels.items))
    items, raters, codes = labels.items[order], labels.raters[order], labels.codes[order]
    found: list[tuple[Ints, ...]] = []
    offset = 1
    while offset < len(items):
        first = np.flatnonzero(items[offset:] == items[:-offset])
        if not len(first):
            break
        second = first + offset
        found.append((items[first], raters[first], raters[second], codes[first], codes[second]))
        offset += 1
    if not found:
        empty = np.empty(0, dtype=np.int64)
        return empty, empty, empty, empty, empty
    item, first_rater, second_rater, first_code, second_code = (
        np.concatenate(part) for part in zip(*found, strict=True)
    )
    return item, first_rater, second_rater, first_code, second_code


def pair_agreement(labels: Labels, options: AgreementOptions) -> list[PairAgreement]:
    """Compare every two annotators on the items both labelled; the bootstrap resamples the dialogues of these items.

    With more than `MAX_RESAMPLED_PAIRS` pairs the errors of all pairs are analytic instead, as their `method` says.
    """
    item, first, second, left, right = _paired_labels(labels)
    count = len(labels.rater_names)
    order = np.argsort(first * count + second, kind="stable")
    item, left, right = item[order], left[order], right[order]
    starts = np.searchsorted((first * count + second)[order], np.arange(count * count + 1))
    found = []
    if np.count_nonzero(np.diff(starts)) > MAX_RESAMPLED_PAIRS:
        options = replace(options, intervals="linearised")
    for a in range(count):
        for b in range(a + 1, count):
            rows = slice(starts[a * count + b], starts[a * count + b + 1])
            names = (labels.rater_names[a], labels.rater_names[b])
            found.append(_pair(names, labels.clusters[item[rows]], left[rows], right[rows], labels, options))
    return found


def _pair(
    names: tuple[str, str], clusters: Ints, left: Ints, right: Ints, labels: Labels, options: AgreementOptions
) -> PairAgreement:
    values, table = _cross(clusters, left, right, labels, options, name="pair:" + "\0".join(names))
    weights = co.agreement_weights(labels.values, options.weights)
    return PairAgreement(names, len(left), values, co.cohen_standard_error(table, weights) if len(left) else None)


def _cross(
    clusters: Ints, left: Ints, right: Ints, labels: Labels, options: AgreementOptions, *, name: str
) -> tuple[dict[str, Estimate], Floats]:
    """Compare two columns of categories: percent, cohen, scott and gwet, and their cross-table (K, K)."""
    size = len(labels.categories)
    present, local = np.unique(clusters, return_inverse=True)
    cells = local * size * size + left * size + right
    tables = np.bincount(cells, minlength=len(present) * size * size).reshape(len(present), size * size).astype(float)
    weights = co.agreement_weights(labels.values, options.weights)

    def evaluate(flat: Floats) -> dict[str, Floats]:
        table = flat.reshape(*flat.shape[:-1], size, size)
        share = table.sum(axis=(-2, -1))
        return {
            "percent": np.trace(table, axis1=-2, axis2=-1) / np.where(share > 0, share, np.nan),
            "cohen": co.cohen_values(table, weights),
            "scott": co.scott_values(table, weights),
            "gwet": co.gwet_values(table, weights),
        }

    total = tables.sum(axis=0)
    table = total.reshape(size, size)
    if not len(left):
        return {key: undefined("no_pairs") for key in ("percent", "cohen", "scott", "gwet")}, table
    point = evaluate(total)
    analytic = {"cohen": co.cohen_standard_error(table, weights)}
    if options.intervals == "linearised":
        share = float(point["percent"])
        analytic["percent"] = float(np.sqrt(share * (1 - share) / max(1, len(left) - 1)))
        facts = (2 * len(left), len(left), len(left))
        return {key: from_error(key, value, facts, analytic.get(key), options) for key, value in point.items()}, table
    draws = cluster_weights(len(present), options.replicates, options.seed, name=name) if len(present) > 1 else ()
    replicates = stack([evaluate(block @ tables) for block in draws])
    found = {}
    for key, value in point.items():
        if not np.isfinite(value):
            found[key] = undefined("no_variation", n=len(left), clusters=len(present))
            continue
        if len(left) == 1:
            found[key] = Estimate(float(value), 1, reason="one_item", clusters=1, notes=("one item: no interval",))
            continue
        found[key] = bootstrap_estimate(
            float(value),
            replicates.get(key, np.empty(0)),
            n=len(left),
            clusters=len(present),
            unit=labels.unit,
            confidence=options.confidence,
            bounds=bounds_of(key),
        )
    return found, table


def two_raters(labels: Labels, pairs: Sequence[PairAgreement]) -> dict[str, Estimate]:
    """Name Cohen's kappa and Scott's pi overall: they belong to two annotators; Conger and Fleiss generalise them."""
    if len(pairs) == 1:
        return {"cohen_kappa": pairs[0].values["cohen"], "scott_pi": pairs[0].values["scott"]}
    reason = "no_data" if not len(labels.codes) else "no_pairs" if len(labels.rater_names) < 2 else "not_two_annotators"
    note = ("see pairwise; conger_kappa and fleiss_kappa are the forms for several annotators",)
    made = undefined(reason, notes=note if reason == "not_two_annotators" else ())
    return {"cohen_kappa": made, "scott_pi": made}


def annotator_agreement(labels: Labels, options: AgreementOptions) -> list[AnnotatorAgreement]:
    """Compare each annotator with the majority of the others (at least one; ties are unresolved and left out)."""
    counts = labels.counts
    found = []
    for rater, name in enumerate(labels.rater_names):
        own = labels.raters == rater
        items, codes = labels.items[own], labels.codes[own]
        others = counts[items]
        others[np.arange(len(items)), codes] -= 1
        majority = co.majority_codes(others)
        alone = others.sum(axis=1) == 0
        known = majority >= 0
        values, _ = _cross(
            labels.clusters[items[known]], codes[known], majority[known], labels, options, name=f"annotator:{name}"
        )
        given = np.bincount(codes, minlength=len(labels.categories))
        distribution = {label: int(given[k]) for k, label in enumerate(labels.categories)}
        unresolved = int((~known & ~alone).sum())
        found.append(AnnotatorAgreement(name, distribution, values, int(alone.sum()), unresolved))
    return found


# --- the classifier --------------------------------------------------------------------------------------------------


def classifier_agreement(
    judgments: pd.DataFrame,
    labels: Labels,
    overall: Mapping[str, Estimate],
    decided: Mapping[Any, str],
    options: AgreementOptions,
) -> ClassifierAgreement:
    """Compare the classifier with the verified labels, beside the annotators' agreement; labels count unweighted.

    The verified label is the one in `decided`, else the majority of the annotators (one label is its own majority,
    ties are left out). `overall` are the annotators' coefficients, repeated here as the ceiling.
    """
    predicted = _one_per_item(judgments.loc[judgments["label"].notna()], labels, "prelabel")
    verified = co.majority_codes(labels.counts)
    position = {label: k for k, label in enumerate(labels.categories)}
    by_item = {str(item): label for item, label in decided.items()}
    for row, item in enumerate(labels.item_names):
        if str(item) in by_item:
            verified[row] = position.get(by_item[str(item)], -1)
    known = (predicted >= 0) & (verified >= 0)
    values, table = _cross(
        labels.clusters[known], verified[known], predicted[known], labels, options, name="classifier"
    )
    shares = table.sum(axis=1) / max(1.0, float(table.sum()))
    names = {"percent": "accuracy", "cohen": "cohen_kappa", "gwet": "gwet_ac1"}
    human = {name: overall[name] for name in ("percent_agreement", "fleiss_kappa", "gwet_ac1") if name in overall}
    human["krippendorff_alpha"] = overall["krippendorff_alpha"]
    return ClassifierAgreement(
        {names[key]: estimate for key, estimate in values.items() if key in names},
        human,
        _left_out(labels, predicted, options),
        {label: float(shares[k]) for k, label in enumerate(labels.categories)},
    )


def _one_per_item(rows: pd.DataFrame, labels: Labels, column: str) -> Ints:
    """Give a column's category per item, -1 where empty; two values for one item are refused."""
    position = {label: k for k, label in enumerate(labels.categories)}
    found = np.full(len(labels.item_names), -1, dtype=np.int64)
    # a category that nobody used has no number when only observed ones count: it agrees with nothing
    names = rows[column].astype(object)
    codes = np.array([-1 if pd.isna(name) else position.get(str(name), -1) for name in names], dtype=np.int64)
    given = codes >= 0
    found[labels.items[given]] = codes[given]
    torn = given & (found[labels.items] != codes)
    if torn.any():
        row = int(rows.index[int(np.argmax(torn))]) + 1
        raise TableError(f"Row {row}, column {column}: the item has another value elsewhere.", row=row, column=column)
    return found


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
