"""Agreement of single annotators: pair by pair, and each against the others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np

from evaluation import coefficients as co
from evaluation.crosstable import CrossTable, compare_columns
from evaluation.intervals import Estimate, round_significant, undefined
from evaluation.label_table import AgreementOptions, Ints, Labels

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
    Two annotators without a common item are a pair too, undefined for `no_pairs`.
    """
    item, first, second, left, right = _paired_labels(labels)
    count = len(labels.rater_names)
    order = np.argsort(first * count + second, kind="stable")
    item, left, right = item[order], left[order], right[order]
    starts = np.searchsorted((first * count + second)[order], np.arange(count * count + 1))
    if np.count_nonzero(np.diff(starts)) > MAX_RESAMPLED_PAIRS:
        options = replace(options, intervals="linearised")
    weights = co.agreement_weights(labels.values, options.weights)
    found = []
    for a in range(count):
        for b in range(a + 1, count):
            rows = slice(starts[a * count + b], starts[a * count + b + 1])
            names = (labels.rater_names[a], labels.rater_names[b])
            clusters = labels.clusters[item[rows]]
            table = CrossTable.of(clusters, left[rows], right[rows], len(labels.categories))
            values = compare_columns(table, labels, options, weights, name="pair:" + "\0".join(names))
            error = co.cohen_standard_error(table.total, weights) if table.n else None
            found.append(PairAgreement(names, table.n, values, error))
    return found


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
    weights = co.agreement_weights(labels.values, options.weights)
    found = []
    for rater, name in enumerate(labels.rater_names):
        own = labels.raters == rater
        items, codes = labels.items[own], labels.codes[own]
        others = counts[items]
        others[np.arange(len(items)), codes] -= 1
        majority = co.majority_codes(others)
        alone = others.sum(axis=1) == 0
        known = majority >= 0
        clusters = labels.clusters[items[known]]
        table = CrossTable.of(clusters, codes[known], majority[known], len(labels.categories))
        values = compare_columns(table, labels, options, weights, name=f"annotator:{name}")
        given = np.bincount(codes, minlength=len(labels.categories))
        distribution = {label: int(given[k]) for k, label in enumerate(labels.categories)}
        unresolved = int((~known & ~alone).sum())
        found.append(AnnotatorAgreement(name, distribution, values, int(alone.sum()), unresolved))
    return found
