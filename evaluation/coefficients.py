"""The coefficients of agreement, all computed from one matrix of counts (items x categories).

`r_ik` counts how often item i was given category k, `r_i` its labels. Everything a coefficient needs is a sum over
items of five additive parts (`Layout`), so a bootstrap over dialogues is a product of weights with per-dialogue sums,
and one more label changes one row. Items may have any number of labels; those with one label inform the marginals of
Fleiss, AC and Brennan-Prediger (Gwet 2014) and drop out of Krippendorff's alpha.

Sources: Cohen (1960, 1968); Scott (1955); Fleiss (1971); Fleiss, Cohen and Everitt (1969); Conger (1980); Krippendorff
(2011); Gwet (2008; 2014, chapters 2 to 6); Brennan and Prediger (1981).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final, Literal, get_args

import numpy as np
from numpy.typing import NDArray

Level = Literal["nominal", "ordinal", "interval"]
Weighting = Literal["identity", "linear", "quadratic", "ordinal"]
Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

LEVELS: Final[tuple[Level, ...]] = get_args(Level)
WEIGHTINGS: Final[tuple[Weighting, ...]] = get_args(Weighting)
ZERO: Final = 1e-12


# --- the scale -------------------------------------------------------------------------------------------------------


def scale_values(labels: Sequence[str]) -> Floats:
    """Give the declared labels as numbers: their values when all are distinct numbers, else their positions 0..K-1."""
    values = distinct_numbers(labels)
    return np.arange(len(labels), dtype=float) if values is None else values


def distinct_numbers(labels: Sequence[str]) -> Floats | None:
    """Give labels as numbers, `None` when one is no finite number or two are the same number."""
    try:
        values = np.array([float(label) for label in labels])
    except ValueError:
        return None
    return values if np.isfinite(values).all() and len(np.unique(values)) == len(values) else None


def agreement_weights(values: Floats, weighting: Weighting) -> Floats:
    """Give the K x K weights of partial agreement on the declared scale (1 on the diagonal).

    identity: 1 if equal; linear: 1 - |c-k|/range; quadratic: 1 - (c-k)²/range² (Cohen 1968); ordinal: 1 - C(d+1, 2) /
    C(K, 2), d the distance in positions (Gwet 2014, section 3.5).

    Raises
    ------
    ValueError
        For an unknown name.
    """
    size = len(values)
    if weighting not in WEIGHTINGS:
        raise ValueError(f"There are no weights called {weighting!r}; there are: {', '.join(WEIGHTINGS)}.")
    if weighting == "identity" or size == 1:
        return np.eye(size)
    if weighting == "ordinal":
        steps = np.abs(np.subtract.outer(np.arange(size), np.arange(size)))
        return np.asarray(1.0 - steps * (steps + 1) / (size * (size - 1)))
    distance = np.abs(np.subtract.outer(values, values)) / float(np.ptp(values))
    return np.asarray(1.0 - (distance if weighting == "linear" else distance**2))


# --- counts and additive sums ----------------------------------------------------------------------------------------


def count_matrix(items: Ints, labels: Ints, categories: int, n_items: int | None = None) -> Floats:
    """Count labels per item and category.

    Parameters
    ----------
    items, labels
        Shape (L,): the item number and the category number of each label, both from 0.
    categories
        K, the declared number of categories.
    n_items
        Rows of the result; the highest item number + 1 when left out.

    Returns
    -------
    ndarray
        Shape (n_items, K).
    """
    rows = (int(items.max()) + 1 if len(items) else 0) if n_items is None else n_items
    flat = np.bincount(items * categories + labels, minlength=rows * categories)
    return flat.reshape(rows, categories).astype(float)


@dataclass(frozen=True)
class Layout:
    """Where the additive parts lie in a vector of sums, for K categories.

    With T = K(K+1)/2 cells of the upper triangle: `within` (T), sum over items of r_ik (r_il - [k=l]) / (r_i (r_i-1));
    `coincidence` (T), the same over r_i - 1 (Krippendorff's o); `shares` (K), sum of r_ik / r_i; `items` with a label;
    `paired` items with two or more.
    """

    categories: int

    @cached_property
    def rows(self) -> Ints:
        """Row of each cell of the upper triangle, shape (T,)."""
        return np.triu_indices(self.categories)[0].astype(np.int64)

    @cached_property
    def columns(self) -> Ints:
        """Column of each cell of the upper triangle, shape (T,)."""
        return np.triu_indices(self.categories)[1].astype(np.int64)

    @cached_property
    def square(self) -> Ints:
        """Number of the upper-triangle cell for every cell of the square, shape (K, K)."""
        cells = np.zeros((self.categories, self.categories), dtype=np.int64)
        cells[self.rows, self.columns] = np.arange(len(self.rows))
        cells[self.columns, self.rows] = np.arange(len(self.rows))
        return cells

    @property
    def width(self) -> int:
        """Length of a vector of sums: 2T + K + 2."""
        return 2 * len(self.rows) + self.categories + 2

    def within(self, sums: Floats) -> Floats:
        """Give the pair shares of `sums` (..., width) as symmetric matrices (..., K, K)."""
        return np.asarray(sums[..., : len(self.rows)][..., self.square])

    def coincidence(self, sums: Floats) -> Floats:
        """Give Krippendorff's coincidence matrices, shape (..., K, K)."""
        cells = len(self.rows)
        return np.asarray(sums[..., cells : 2 * cells][..., self.square])

    def shares(self, sums: Floats) -> Floats:
        """Give the summed category shares, shape (..., K)."""
        return np.asarray(sums[..., 2 * len(self.rows) : -2])

    def items(self, sums: Floats) -> Floats:
        """Give the number of items with a label, shape (...)."""
        return np.asarray(sums[..., -2])

    def paired(self, sums: Floats) -> Floats:
        """Give the number of items with two or more labels, shape (...)."""
        return np.asarray(sums[..., -1])


def total_sums(counts: Floats) -> Floats:
    """Give the additive parts of all items together, shape (width,): products of K x n by n x K."""
    layout = Layout(counts.shape[1])
    upper = (layout.rows, layout.columns)
    raters = row_sums(counts)
    within, coincidence = np.zeros((2, layout.categories, layout.categories))
    shares = np.zeros(layout.categories)
    for labels, rows in _by_labels(counts, raters):
        totals = rows.sum(axis=0) if len(rows) < 2 else np.ones(len(rows)) @ rows
        shares += totals / labels
        if labels > 1:
            pairs = rows.T @ rows
            pairs[np.diag_indices_from(pairs)] -= totals
            within += pairs / (labels * (labels - 1))
            coincidence += pairs / (labels - 1)
    tail = np.array([np.count_nonzero(raters), np.count_nonzero(raters >= 2)], dtype=float)
    return np.concatenate([within[upper], coincidence[upper], shares, tail])


def row_sums(counts: Floats) -> Floats:
    """Give the number of labels of each item, shape (n,)."""
    # a product is several times faster than a sum over short rows
    return np.asarray(counts @ np.ones(counts.shape[1]))


def _by_labels(counts: Floats, raters: Floats) -> Iterator[tuple[float, Floats]]:
    """Give the items with as many labels together: their scale leaves the sum, so that no scaled copy is made."""
    found = np.flatnonzero(np.bincount(raters.astype(np.int64))) if len(raters) else np.empty(0)
    for labels in found:
        if labels == 0:
            continue
        yield float(labels), counts if len(found) == 1 else counts[raters == labels]


def cluster_sums(counts: Floats, clusters: Ints, n_clusters: int) -> Floats:
    """Give the additive parts per cluster, shape (D, width); `clusters` numbers the dialogue of each item."""
    layout = Layout(counts.shape[1])
    raters = row_sums(counts)
    share_scale, pair_scale, unit_scale = item_scales(raters)
    columns = np.ascontiguousarray(counts.T)
    sums = np.empty((n_clusters, layout.width))

    def gather(position: int, values: Floats) -> None:
        sums[:, position] = np.bincount(clusters, weights=values, minlength=n_clusters)

    cells = len(layout.rows)
    for cell, (k, m) in enumerate(zip(layout.rows, layout.columns, strict=True)):
        pairs = columns[k] * (columns[m] - (k == m))
        gather(cell, pairs * pair_scale)
        gather(cells + cell, pairs * unit_scale)
    for k in range(layout.categories):
        gather(2 * cells + k, columns[k] * share_scale)
    gather(layout.width - 2, (raters >= 1).astype(float))
    gather(layout.width - 1, (raters >= 2).astype(float))
    return sums


def item_scales(raters: Floats) -> tuple[Floats, Floats, Floats]:
    """Give 1/r_i, 1/(r_i (r_i-1)) and 1/(r_i-1), 0 where there is no label or no pair."""
    share = np.divide(1.0, raters, out=np.zeros_like(raters), where=raters >= 1)
    unit = np.divide(1.0, raters - 1, out=np.zeros_like(raters), where=raters >= 2)
    return share, share * unit, unit


# --- coefficients from sums ------------------------------------------------------------------------------------------


def _ratio(numerator: Floats, denominator: Floats) -> Floats:
    """Divide; NaN where the denominator is 0: an undefined value is never a number."""
    empty = np.full(np.broadcast(numerator, denominator).shape, np.nan)
    return np.asarray(np.divide(numerator, denominator, out=empty, where=np.abs(denominator) > ZERO))


def chance_corrected(observed: Floats, chance: Floats) -> Floats:
    """Give (p_a - p_e) / (1 - p_e), NaN where p_e is 1."""
    return _ratio(observed - chance, 1.0 - chance)


def observed_agreement(sums: Floats, weights: Floats) -> Floats:
    """Give p_a = (1/n2) sum over items with pairs of sum_k r_ik (r*_ik - 1) / (r_i (r_i-1)), r* = r w (Gwet 2014)."""
    layout = Layout(len(weights))
    return _ratio(np.einsum("...kl,kl->...", layout.within(sums), weights), layout.paired(sums))


def category_shares(sums: Floats, categories: int) -> Floats:
    """Give pi_k = (1/n) sum_i r_ik / r_i, shape (..., K)."""
    layout = Layout(categories)
    return np.asarray(_ratio(layout.shares(sums), layout.items(sums)[..., None]))


def multi_rater_values(sums: Floats, weights: Floats, counted: Bools | None = None) -> dict[str, Floats]:
    """Give p_a and the coefficients that need no rater's identity, from sums of shape (..., width).

    Chance agreement: Fleiss (Scott for two raters) sum w_kl pi_k pi_l; AC1 / AC2 T_w / (K(K-1)) sum pi_k (1-pi_k), T_w
    the sum of the weights (Gwet 2008, 2014); Brennan-Prediger T_w / K².

    Parameters
    ----------
    counted
        Shape (K,): the categories that K and T_w of AC and Brennan-Prediger count; all when left out.

    Returns
    -------
    dict
        `agreement`, `fleiss_kappa`, `gwet_ac`, `brennan_prediger`, each of shape (...), NaN where undefined.
    """
    observed = observed_agreement(sums, weights)
    chance = chance_agreement(category_shares(sums, len(weights)), weights, counted)
    return {"agreement": observed} | {name: chance_corrected(observed, value) for name, value in chance.items()}


def chance_agreement(shares: Floats, weights: Floats, counted: Bools | None = None) -> dict[str, Floats]:
    """Give the chance agreement of Fleiss, AC and Brennan-Prediger for category shares of shape (..., K)."""
    fleiss = np.einsum("...k,kl,...l->...", shares, weights, shares)
    spread = (shares * (1.0 - shares)).sum(axis=-1)
    size, total = counted_weights(weights, counted)
    # with one category nobody can disagree: chance agreement is 1
    gwet = total / (size * (size - 1)) * spread if size > 1 else np.ones_like(spread)
    return {"fleiss_kappa": fleiss, "gwet_ac": gwet, "brennan_prediger": np.full_like(fleiss, total / size**2)}


def counted_weights(weights: Floats, counted: Bools | None = None) -> tuple[int, float]:
    """Give K and T_w, the sum of the weights, of the categories that count."""
    if counted is None or not counted.any():
        return len(weights), float(weights.sum())
    return int(counted.sum()), float(weights[np.ix_(counted, counted)].sum())


def krippendorff_values(coincidence: Floats, values: Floats, level: Level) -> Floats:
    """Give Krippendorff's alpha = 1 - D_o / D_e of coincidence matrices (..., K, K); NaN without variation.

    delta² nominal [c != k]; interval (v_c - v_k)²; ordinal (sum_{g=c..k} n_g - (n_c + n_k)/2)², which is the squared
    difference of mid-ranks (Krippendorff 2011).

    Raises
    ------
    ValueError
        For an unknown level.
    """
    totals = coincidence.sum(axis=-1)
    if level == "nominal":
        distance = 1.0 - np.eye(len(values))
    elif level == "interval":
        distance = np.subtract.outer(values, values) ** 2
    elif level == "ordinal":
        ranks = np.cumsum(totals, axis=-1) - totals / 2
        distance = (ranks[..., :, None] - ranks[..., None, :]) ** 2
    else:
        raise ValueError(f"There is no level {level!r}; there are: {', '.join(LEVELS)}.")
    observed = (coincidence * distance).sum(axis=(-2, -1))
    expected = np.einsum("...k,...l,...kl->...", totals, totals, np.broadcast_to(distance, coincidence.shape))
    return 1.0 - _ratio((totals.sum(axis=-1) - 1.0) * observed, expected)


def conger_values(observed: Floats, marginals: Floats, weights: Floats) -> Floats:
    """Give Conger's kappa: chance agreement is the mean over pairs of raters of the product of their marginals.

    Parameters
    ----------
    observed
        p_a, shape (...).
    marginals
        Counts of raters x categories, shape (..., A, K); raters without labels are left out.
    """
    per_rater = marginals.sum(axis=-1, keepdims=True)
    shares = np.divide(marginals, per_rater, out=np.zeros_like(marginals), where=per_rater > 0)
    active = (per_rater[..., 0] > 0).sum(axis=-1).astype(float)
    pooled = shares.sum(axis=-2)
    products = np.einsum("...k,kl,...l->...", pooled, weights, pooled)
    own = np.einsum("...gk,kl,...gl->...", shares, weights, shares)
    return chance_corrected(observed, _ratio(products - own, active * (active - 1)))


def label_values(sums: Floats, categories: int) -> dict[str, Floats]:
    """Give the one-against-the-rest coefficients of every label, each of shape (..., K), NaN where undefined.

    `prevalence` pi_k; `percent_agreement`, `fleiss_kappa`, `gwet_ac1` (two categories) and `krippendorff_alpha`
    (nominal) of "k or not k" (category kappas of Fleiss 1971); `specific_agreement` o_kk / o_k., which for two raters
    is 2 n_kk / (n_k. + n_.k) (Spitzer and Fleiss 1974).
    """
    layout = Layout(categories)
    within, coincidence = layout.within(sums), layout.coincidence(sums)
    pi = category_shares(sums, categories)
    diagonal = np.arange(categories)
    split = within.sum(axis=-1) - within[..., diagonal, diagonal]
    observed = 1.0 - _ratio(2 * split, layout.paired(sums)[..., None])
    both = coincidence[..., diagonal, diagonal]
    labelled = coincidence.sum(axis=-1)
    everything = labelled.sum(axis=-1, keepdims=True)
    return {
        "prevalence": pi,
        "percent_agreement": observed,
        "specific_agreement": _ratio(both, labelled),
        "krippendorff_alpha": 1.0 - _ratio((everything - 1) * (labelled - both), labelled * (everything - labelled)),
        "fleiss_kappa": chance_corrected(observed, pi**2 + (1 - pi) ** 2),
        "gwet_ac1": chance_corrected(observed, 2 * pi * (1 - pi)),
    }


# --- two raters ------------------------------------------------------------------------------------------------------


def cohen_values(tables: Floats, weights: Floats) -> Floats:
    """Give Cohen's (weighted) kappa of cross-tables of shape (..., K, K): chance from the two raters' own marginals."""
    shares = _ratio(tables, tables.sum(axis=(-2, -1), keepdims=True))
    chance = np.einsum("...k,kl,...l->...", shares.sum(axis=-1), weights, shares.sum(axis=-2))
    return chance_corrected((shares * weights).sum(axis=(-2, -1)), chance)


def scott_values(tables: Floats, weights: Floats) -> Floats:
    """Give Scott's (weighted) pi of cross-tables of shape (..., K, K): chance from the pooled marginals."""
    shares = _ratio(tables, tables.sum(axis=(-2, -1), keepdims=True))
    pooled = (shares.sum(axis=-1) + shares.sum(axis=-2)) / 2
    chance = np.einsum("...k,kl,...l->...", pooled, weights, pooled)
    return chance_corrected((shares * weights).sum(axis=(-2, -1)), chance)


def gwet_values(tables: Floats, weights: Floats, counted: Bools | None = None) -> Floats:
    """Give AC1 (AC2 with weights) of two raters' cross-tables of shape (..., K, K)."""
    shares = _ratio(tables, tables.sum(axis=(-2, -1), keepdims=True))
    pooled = (shares.sum(axis=-1) + shares.sum(axis=-2)) / 2
    return chance_corrected(
        (shares * weights).sum(axis=(-2, -1)), chance_agreement(pooled, weights, counted)["gwet_ac"]
    )


def cohen_standard_error(table: Floats, weights: Floats) -> float | None:
    """Give the large-sample standard error of Cohen's (weighted) kappa (Fleiss, Cohen and Everitt 1969).

    n (1-p_e)² Var = sum p_ij (w_ij - (wbar_i. + wbar_.j)(1-kappa))² - (kappa - p_e (1-kappa))². `None` where kappa is
    undefined.
    """
    n = float(table.sum())
    kappa = float(cohen_values(table, weights))
    if not np.isfinite(kappa):
        return None
    shares = table / n
    rows, columns = shares.sum(axis=1), shares.sum(axis=0)
    chance = float(rows @ weights @ columns)
    expected = (weights @ columns)[:, None] + (rows @ weights)[None, :]
    spread = float((shares * (weights - expected * (1 - kappa)) ** 2).sum())
    variance = (spread - (kappa - chance * (1 - kappa)) ** 2) / (n * (1 - chance) ** 2)
    return float(np.sqrt(max(0.0, variance)))


# --- labels of items -------------------------------------------------------------------------------------------------


def majority_codes(counts: Floats) -> Ints:
    """Give each item's most frequent category, -1 when two are equally frequent (a tie) or there is no label."""
    if counts.shape[1] == 1:
        return np.where(counts[:, 0] > 0, 0, -1).astype(np.int64)
    top = counts.max(axis=1)
    alone = (counts == top[:, None]).sum(axis=1) == 1
    return np.where(alone & (top > 0), counts.argmax(axis=1), -1).astype(np.int64)


def add_label(counts: Floats, sums: Floats, row: int, category: int) -> None:
    """Add one label of item `row` to `counts` and to the sums (width,) it belongs to, both in place."""
    sums -= total_sums(counts[row : row + 1])
    counts[row, category] += 1
    sums += total_sums(counts[row : row + 1])
