"""Agreement of annotators with each other and with a classifier, every value with its interval or the reason why not.

Labels of any number of annotators, with gaps. The coefficients come from `evaluation.coefficients`; this module turns a
`judgments` table into counts, bootstraps whole dialogues (items, when no dialogue is given), and reports overall, per
label, per pair and per annotator. Verbal bands are given for the lower bound of an interval only, with the scale named.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import sparse

from evaluation import coefficients as co
from evaluation.classifier import ClassifierAgreement, classifier_agreement
from evaluation.intervals import (
    Estimate,
    cluster_weights,
    round_significant,
)
from evaluation.label_table import (
    AgreementOptions,
    Labels,
    blind_rows,
    choose_labels,
    doubtful_labels,
    encode,
    from_error,
    stack,
    to_estimate,
)
from evaluation.linearised import label_errors, linearised_errors
from evaluation.raters import AnnotatorAgreement, PairAgreement, annotator_agreement, pair_agreement, two_raters
from evaluation.tables import check_judgments

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Agreement:
    """All agreement statistics of one table; `coefficients` are keyed by the names used in `docs/metrics.md`."""

    coefficients: Mapping[str, Estimate]
    linearised: Mapping[str, Estimate]
    per_label: Mapping[str, Mapping[str, Estimate]]
    pairs: Sequence[PairAgreement]
    annotators: Sequence[AnnotatorAgreement]
    bands: Mapping[str, Mapping[str, str]]
    facts: Mapping[str, Any]
    classifier: ClassifierAgreement | None = None

    @property
    def prevalence(self) -> dict[str, Estimate]:
        """The share of each label, to be printed with every kappa."""
        return {label: values["prevalence"] for label, values in self.per_label.items()}

    def to_json(self) -> dict[str, Any]:
        """Give one plain mapping: facts, the coefficients by name, then the groups; pairs with a common item only."""
        pairwise: dict[str, Any] = {}
        met = [pair for pair in self.pairs if pair.n]
        for pair in met:
            key = "-".join(pair.annotators)
            pairwise[key if key not in pairwise else repr(pair.annotators)] = pair.to_json()
        return {
            **self.facts,
            **{name: estimate.to_json() for name, estimate in self.coefficients.items()},
            "prevalence": {label: round_significant(share.value) for label, share in self.prevalence.items()},
            "bands": {name: dict(band) for name, band in self.bands.items()},
            "linearised": {name: estimate.to_json() for name, estimate in self.linearised.items()},
            "per_label": {
                label: {name: e.to_json() for name, e in values.items()} for label, values in self.per_label.items()
            },
            "pairwise": pairwise,
            "pairs_without_common_items": len(self.pairs) - len(met),
            "per_annotator": {one.annotator: one.to_json() for one in self.annotators},
            "classifier": None if self.classifier is None else self.classifier.to_json(),
        }


# --- the doors -------------------------------------------------------------------------------------------------------


def agreement(
    judgments: pd.DataFrame,
    options: AgreementOptions | None = None,
    *,
    verified: Mapping[Any, str] | None = None,
) -> Agreement:
    """Compute every agreement statistic of a `judgments` table.

    Parameters
    ----------
    judgments
        Columns item, annotator, label; dialogue makes the bootstrap resample dialogues, prelabel adds the classifier,
        gold_label is the adjudicated label of the item, arm leaves out the shown arm.
    options
        Defaults of `AgreementOptions` when left out.
    verified
        Adjudicated labels by item, to compare the classifier with; they come before the column gold_label. Other items
        are verified by the rule of `evaluation.aggregation`. Agreement of annotators never uses either.

    Raises
    ------
    TableError
        Naming row and column when the table breaks its contract.
    """
    chosen = options or AgreementOptions()
    declared, said = choose_labels(judgments, chosen.labels)
    checked = check_judgments(judgments, declared)
    used, left_out = blind_rows(checked, chosen.arms)
    labels = encode(used, declared, chosen)
    facts = {**labels.facts, "label_set": said, "shown_arm_left_out": left_out}
    facts["warnings"] = doubtful_labels(declared, said)
    coefficients, linearised, per_label = _overall(labels, chosen)
    pairs = pair_agreement(labels, chosen)
    coefficients |= two_raters(labels, pairs)
    classifier = None
    if "prelabel" in checked and checked["prelabel"].notna().any():
        plain = replace(chosen, weights="identity", level="nominal")
        human = coefficients if plain == chosen else _overall(labels, plain)[0]
        classifier = classifier_agreement(checked, labels, human, verified or {}, chosen)
    return Agreement(
        coefficients,
        linearised,
        per_label,
        pairs,
        annotator_agreement(labels, chosen),
        bands(coefficients),
        facts,
        classifier,
    )


# --- overall and per label -------------------------------------------------------------------------------------------


def _overall(
    labels: Labels, options: AgreementOptions
) -> tuple[dict[str, Estimate], dict[str, Estimate], dict[str, dict[str, Estimate]]]:
    size, counts = len(labels.categories), labels.counts
    weights = co.agreement_weights(labels.values, options.weights)
    layout = co.Layout(size)
    sums = co.total_sums(counts)
    marginals = _rater_marginals(labels)

    def evaluate(parts: Floats, raters: Floats) -> dict[str, Floats]:
        found = _named(co.multi_rater_values(parts, weights, labels.counted), options.weights)
        if options.weights != "identity":
            found["percent_agreement"] = co.observed_agreement(parts, np.eye(size))
        shape = (*raters.shape[:-1], len(labels.rater_names), size)
        found["conger_kappa"] = co.conger_values(co.observed_agreement(parts, weights), raters.reshape(shape), weights)
        found["krippendorff_alpha"] = co.krippendorff_values(layout.coincidence(parts), labels.values, options.level)
        return found

    point = evaluate(sums, np.asarray(marginals.sum(axis=0)))
    point_labels = co.label_values(sums, size)
    replicates: dict[str, Floats] = {}
    label_replicates: dict[str, Floats] = {}
    if options.intervals == "bootstrap" and labels.n_clusters > 1:
        per_cluster = co.cluster_sums(counts, labels.clusters, labels.n_clusters)
        blocks = list(_resampled([per_cluster, marginals], labels, options))
        replicates = stack([evaluate(parts, raters) for parts, raters in blocks])
        label_replicates = stack([co.label_values(parts, size) for parts, _ in blocks])
    errors = _linearised(labels, options, counts, weights)
    facts = (len(labels.codes), int(layout.paired(sums)), int(layout.items(sums)))
    by_error = {name: from_error(name, value, facts, errors.get(name), options) for name, value in point.items()}
    if options.intervals == "linearised":
        main = by_error
    else:
        main = {
            name: to_estimate(name, value, replicates.get(name), facts, labels, options)
            for name, value in point.items()
        }
    per_label = _per_label(labels, options, counts, point_labels, label_replicates, facts)
    return main, by_error, per_label


def _per_label(
    labels: Labels,
    options: AgreementOptions,
    counts: Floats,
    point: Mapping[str, Floats],
    replicates: Mapping[str, Floats],
    facts: tuple[int, int, int],
) -> dict[str, dict[str, Estimate]]:
    """Give the statistics of each label against the rest, by the bootstrap or from linearised errors."""
    if options.intervals == "linearised":
        errors = label_errors(counts) if len(counts) else [{} for _ in labels.categories]
        return {
            label: {
                name: from_error(name, value[k], facts, errors[k].get(name), options) for name, value in point.items()
            }
            for k, label in enumerate(labels.categories)
        }
    return {
        label: {
            name: to_estimate(
                name, value[k], replicates[name][:, k] if name in replicates else None, facts, labels, options
            )
            for name, value in point.items()
        }
        for k, label in enumerate(labels.categories)
    }


def _named(values: Mapping[str, Floats], weighting: co.Weighting) -> dict[str, Floats]:
    """Name the coefficients as the literature does: AC1 and percent agreement without weights, AC2 with."""
    plain = weighting == "identity"
    names = {
        "agreement": "percent_agreement" if plain else "weighted_agreement",
        "gwet_ac": "gwet_ac1" if plain else "gwet_ac2",
    }
    return {names.get(name, name): value for name, value in values.items()}


def _rater_marginals(labels: Labels) -> Any:
    """Give counts of clusters x (raters * categories), sparse: most annotators see few of the dialogues."""
    size = len(labels.categories)
    shape = (labels.n_clusters, len(labels.rater_names) * size)
    cells = (labels.clusters[labels.items], labels.raters * size + labels.codes)
    return sparse.csr_array((np.ones(len(labels.codes)), cells), shape=shape)


def _resampled(
    parts: Sequence[Any], labels: Labels, options: AgreementOptions, name: str = "agreement"
) -> Iterator[list[Floats]]:
    """Give the sums of each resample of the clusters, block by block."""
    for weights in cluster_weights(labels.n_clusters, options.replicates, options.seed, name=name):
        yield [np.asarray(weights @ part) for part in parts]


def _linearised(labels: Labels, options: AgreementOptions, counts: Floats, weights: Floats) -> dict[str, float]:
    if not len(labels.codes):
        return {}
    errors = linearised_errors(
        counts, weights, labels.values, options.level, labels.raters, labels.items, labels.codes, labels.counted
    )
    named = _named({name: np.asarray(error) for name, error in errors.items()}, options.weights)
    return {name: float(error) for name, error in named.items()}


# --- bands -----------------------------------------------------------------------------------------------------------

_LANDIS_KOCH: Final = ((0.8, "almost perfect"), (0.6, "substantial"), (0.4, "moderate"), (0.2, "fair"), (0.0, "slight"))
_KRIPPENDORFF: Final = ((0.8, "reliable"), (0.667, "tentative"))
_BANDED: Final = {
    "krippendorff_alpha": ("Krippendorff 2004", _KRIPPENDORFF, "not reliable"),
    **dict.fromkeys(
        ("cohen_kappa", "fleiss_kappa", "conger_kappa", "scott_pi"), ("Landis-Koch 1977", _LANDIS_KOCH, "poor")
    ),
}


def bands(coefficients: Mapping[str, Estimate]) -> dict[str, dict[str, str]]:
    """Give the verbal band of the LOWER bound of each kappa and alpha that has an interval, with the scale's name.

    Landis and Koch (1977) for kappas (0, .2, .4, .6, .8); Krippendorff (2004) for alpha (.667, .8). No table fits
    AC1, Brennan-Prediger or percent agreement, so they get none.
    """
    found = {}
    for name, estimate in coefficients.items():
        if name not in _BANDED or estimate.interval is None:
            continue
        scale, steps, lowest = _BANDED[name]
        label = next((label for floor, label in steps if estimate.interval[0] >= floor), lowest)
        found[name] = {"scale": scale, "of": "lower bound of the interval", "band": label}
    return found


__all__ = ["Agreement", "AgreementOptions", "agreement", "bands"]
