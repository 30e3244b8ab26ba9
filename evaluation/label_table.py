"""A judgments table in numbers, and how its statistics become estimates: the ground of all agreement."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from evaluation import coefficients as co
from evaluation.emotions import EMOTIONS
from evaluation.intervals import (
    DEFAULT_CONFIDENCE,
    DEFAULT_REPLICATES,
    Estimate,
    bootstrap_estimate,
    clip_interval,
    cluster_codes,
    t_interval,
    undefined,
)
from evaluation.tables import TableError, declared_labels, label_codes, observed_labels, with_plain_names

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

FIRST_ROWS: Final = 5
"""How many rows a message names before it says how many there are."""
_SHARES: Final = frozenset(
    {
        "percent_agreement",
        "weighted_agreement",
        "prevalence",
        "specific_agreement",
        "percent",
        "accuracy",
        "precision",
        "recall",
        "f1",
    }
)
_CHANCE_FROM_ITEMS: Final = frozenset({"krippendorff_alpha", "fleiss_kappa", "conger_kappa"})


@dataclass(frozen=True, slots=True)
class AgreementOptions:
    """How agreement is computed.

    Attributes
    ----------
    labels
        The declared label set, in the order of its scale. `None`: the seven emotions when the table uses any of them,
        else the labels that occur (and the report says so).
    level
        Level of Krippendorff's alpha: nominal, ordinal or interval.
    weights
        Weights of partial agreement of all other coefficients: identity, linear, quadratic or ordinal.
    categories
        K of AC1, AC2 and Brennan-Prediger: `declared` counts the declared labels, `observed` those that occur. The
        weights are always those of the declared scale.
    intervals
        `bootstrap` over dialogues (items, when the table names no dialogue), or `linearised` by item.
    arms
        `hidden`: judgments made with the classifier's label in sight (arm `shown`) are left out; `all`: they count.
    allow_single
        Whether one label alone is a verified label to compare the classifier with (`aggregation.verified_label`).
    replicates, seed, confidence
        Of the bootstrap. The same seed gives the same numbers, bit for bit.
    """

    labels: tuple[str, ...] | None = None
    level: co.Level = "nominal"
    weights: co.Weighting = "identity"
    categories: Literal["declared", "observed"] = "declared"
    intervals: Literal["bootstrap", "linearised"] = "bootstrap"
    arms: Literal["hidden", "all"] = "hidden"
    allow_single: bool = False
    replicates: int = DEFAULT_REPLICATES
    seed: int = 0
    confidence: float = DEFAULT_CONFIDENCE

    def __post_init__(self) -> None:
        for value, known, what in (
            (self.level, co.LEVELS, "level"),
            (self.weights, co.WEIGHTINGS, "weights"),
            (self.categories, ("declared", "observed"), "categories"),
            (self.intervals, ("bootstrap", "linearised"), "intervals"),
            (self.arms, ("hidden", "all"), "arms"),
        ):
            if value not in known:
                raise ValueError(f"{what} is {value!r}, but must be one of: {', '.join(known)}.")
        if self.replicates < 0 or self.seed < 0 or not 0 < self.confidence < 1:
            raise ValueError("replicates and seed must not be negative, and confidence must lie between 0 and 1.")


@dataclass(frozen=True)
class Labels:
    """A judgments table in numbers: one entry per label, and the dialogue of each item.

    Attributes
    ----------
    items, raters, codes
        Shape (L,): item, annotator and category of each label.
    categories, values
        The K declared labels, and their places on the scale.
    counted
        Shape (K,): the categories that AC and Brennan-Prediger count.
    clusters
        Shape (items,): the dialogue of each item, or the item itself.
    """

    items: Ints
    raters: Ints
    codes: Ints
    item_names: list[Any]
    rater_names: list[str]
    categories: tuple[str, ...]
    values: Floats
    counted: co.Bools
    clusters: Ints
    n_clusters: int
    unit: Literal["dialogue", "item"]
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def counts(self) -> Floats:
        """Counts of items x categories."""
        return co.count_matrix(self.items, self.codes, len(self.categories), len(self.item_names))


def choose_labels(judgments: pd.DataFrame, declared: Sequence[str] | None) -> tuple[tuple[str, ...], str]:
    """Give the label set and how it came about: `declared`, `emotions` or `observed`.

    Raises
    ------
    TableError
        When the set is declared badly; or when it is not declared and a label is how a missing value is written.
    """
    if declared is not None:
        return tuple(declared_labels(declared)), "declared"
    named = with_plain_names(judgments, "judgments")
    found = observed_labels(named["label"]) if "label" in named else []
    if not found or set(found) & set(EMOTIONS):
        return tuple(EMOTIONS), "emotions"
    return tuple(found), "observed"


def doubtful_labels(categories: Sequence[str], said: str) -> list[str]:
    """Warn of observed labels that are an emotion but for their case, and of labels that differ by case only."""
    if said != "observed":
        return []
    emotions = [f"{label!r} is {label.casefold()!r} but for its case" for label in categories
                if label.casefold() in EMOTIONS]  # fmt: skip
    by_fold: dict[str, list[str]] = {}
    for label in categories:
        by_fold.setdefault(label.casefold(), []).append(label)
    same = [f"{' and '.join(map(repr, group))} differ by case only" for group in by_fold.values() if len(group) > 1]
    end = "labels that are written differently are different labels; no label set was declared"
    return [f"{fact}: {end}" for fact in (*emotions, *same)]


def blind_rows(judgments: pd.DataFrame, arms: Literal["hidden", "all"]) -> tuple[pd.DataFrame, int]:
    """Leave out the judgments of the shown arm unless `arms` is `all`; give the rest and how many were left out."""
    if arms == "all" or "arm" not in judgments:
        return judgments, 0
    shown = (judgments["arm"] == "shown").to_numpy()
    # the index stays, so that errors name the row of the table as it came
    return judgments.loc[~shown], int(shown.sum())


def encode(judgments: pd.DataFrame, declared: Sequence[str], options: AgreementOptions) -> Labels:
    """Turn a checked `judgments` table into numbers; rows without a label are counted and left out.

    Raises
    ------
    TableError
        When one item lies in two dialogues, or the level is interval and the labels are not distinct numbers.
    """
    codes = label_codes(judgments["label"], declared)
    empty = judgments.index[codes < 0]
    kept = np.flatnonzero(codes >= 0)
    rows = judgments.iloc[kept]
    codes = codes[kept]
    categories = tuple(declared)
    counted = np.ones(len(categories), dtype=bool)
    if options.categories == "observed" and len(codes):
        counted = np.isin(np.arange(len(categories)), codes)
    items, item_names = pd.factorize(rows["item"])
    raters, rater_names = pd.factorize(rows["annotator"], sort=True)
    if options.level == "interval" and co.distinct_numbers(categories) is None:
        raise TableError(
            f"The interval level needs labels that are distinct numbers, got: {', '.join(categories)}; "
            "use --level nominal or ordinal, or declare the numbers with --labels.",
            column="label",
        )
    unit, clusters, n_clusters = item_clusters(rows, items.astype(np.int64), len(item_names))
    facts = {
        "n_items": len(item_names),
        "n_labels": len(codes),
        "n_annotators": len(rater_names),
        "n_without_label": len(judgments) - len(kept),
        "rows_without_label": [int(row) + 1 for row in empty[:FIRST_ROWS]],
        "n_dialogues": n_clusters if unit == "dialogue" else None,
        "labels": [label for label, counts in zip(categories, counted, strict=True) if counts],
        "declared_labels": list(categories),
        "level": options.level,
        "weights": options.weights,
        "categories": options.categories,
        "intervals": f"{unit} bootstrap" if options.intervals == "bootstrap" else "item linearised",
        "replicates": options.replicates,
        "seed": options.seed,
        "confidence": options.confidence,
    }
    return Labels(
        items.astype(np.int64),
        raters.astype(np.int64),
        codes,
        list(item_names),
        [str(name) for name in rater_names],
        categories,
        co.scale_values(categories),
        counted,
        clusters,
        n_clusters,
        unit,
        facts,
    )


def item_clusters(rows: pd.DataFrame, items: Ints, n_items: int) -> tuple[Literal["dialogue", "item"], Ints, int]:
    """Give the unit that is resampled, its number for each of the items (n_items,), and how many units there are.

    Parameters
    ----------
    rows, items
        Rows of a checked `judgments` table, and the item number of each.

    Raises
    ------
    TableError
        When an item lies in two dialogues, or in one dialogue of two data sets.
    """
    if "dialogue" not in rows:
        return "item", np.arange(n_items), n_items
    columns = {"dialogue": rows["dialogue"]}
    if "dataset" in rows:
        columns["dataset"] = rows["dataset"].astype(object).where(rows["dataset"].notna(), "")
    codes, names = cluster_codes(*columns.values())
    clusters = np.zeros(n_items, dtype=np.int64)
    clusters[items] = codes
    torn = clusters[items] != codes
    if torn.any():
        place = int(np.argmax(torn))
        elsewhere = int(np.flatnonzero((items == items[place]) & ~torn)[0])
        column = next(name for name, cells in columns.items() if cells.iloc[place] != cells.iloc[elsewhere])
        row, other = (int(rows.index[at]) + 1 for at in (place, elsewhere))
        what = {"dialogue": "in another dialogue", "dataset": "in the same dialogue of another data set"}[column]
        raise TableError(f"Row {row}, column {column}: the item lies {what} in row {other}.", row=row, column=column)
    return "dialogue", clusters, len(names)


# --- from values to estimates -----------------------------------------------------------------------------------------


def stack(blocks: Sequence[Mapping[str, Floats]]) -> dict[str, Floats]:
    """Join the replicates of all blocks, by name."""
    return {name: np.concatenate([block[name] for block in blocks]) for name in (blocks[0] if blocks else ())}


def missing_reason(name: str, value: float, facts: tuple[int, int, int]) -> str | None:
    """Say why a coefficient of (labels, paired items, items) has no value; `None` when it has one."""
    n_labels, paired, _ = facts
    if n_labels == 0:
        return "no_data"
    if name == "prevalence":
        return None
    if paired == 0:
        return "no_pairs"
    if paired == 1 and name in _CHANCE_FROM_ITEMS:
        return "one_item"
    if not np.isfinite(value):
        return "no_data" if name in _SHARES else "no_variation"
    return None


def to_estimate(
    name: str,
    value: Any,
    replicates: Floats | None,
    facts: tuple[int, int, int],
    labels: Labels,
    options: AgreementOptions,
) -> Estimate:
    """Give a coefficient with its bootstrap interval, or the reason why not; `facts` as for `missing_reason`."""
    n = facts[2] if name == "prevalence" else facts[1]
    clusters = labels.n_clusters
    if reason := missing_reason(name, float(value), facts):
        return undefined(reason, n=n, clusters=clusters)
    if n == 1:
        return Estimate(float(value), n, reason="one_item", clusters=clusters, notes=("one item: no interval",))
    return bootstrap_estimate(
        float(value),
        np.empty(0) if replicates is None else replicates,
        n=n,
        clusters=clusters,
        unit=labels.unit,
        confidence=options.confidence,
        bounds=bounds_of(name),
    )


def from_error(
    name: str, value: Any, facts: tuple[int, int, int], se: float | None, options: AgreementOptions
) -> Estimate:
    """Give value +- t(n-1) x the linearised standard error, n the items behind it (`facts` as `missing_reason`)."""
    n = facts[2] if name == "prevalence" else facts[1]
    if reason := missing_reason(name, float(value), facts):
        return undefined(reason, n=n)
    if n < 2 or se is None:
        return Estimate(float(value), n, se=se, reason="one_item" if n < 2 else "no_se")
    if se <= co.ZERO:
        return Estimate(float(value), n, se=se, reason="no_variation", method="item linearised")
    interval = clip_interval(t_interval(float(value), se, n - 1, options.confidence), bounds_of(name))
    return Estimate(float(value), n, interval, se, None, f"item linearised, t({n - 1})")


def bounds_of(name: str) -> tuple[float, float]:
    """Give the range of a statistic (`name`, or `name:label`), to which its interval is cut."""
    return (0.0, 1.0) if name.partition(":")[0] in _SHARES else (-1.0, 1.0)
