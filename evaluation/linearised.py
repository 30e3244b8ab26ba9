"""Linearised standard errors by item: what the agreement coefficients owe to the items that happened to be drawn.

Each item's value of a coefficient, less the coefficient times the item's share in the change of what it is divided by,
gives the variance of the coefficient over items (Gwet 2014, chapter 5). Two raters are the same formula in the cells of
their cross-table; a label against the rest is the same formula on a table of two categories.
"""

from __future__ import annotations

import numpy as np

from evaluation import coefficients as co
from evaluation.coefficients import Bools, Floats, Ints, Level


def linearised_errors(
    counts: Floats,
    weights: Floats,
    values: Floats,
    level: Level,
    raters: Ints | None = None,
    items: Ints | None = None,
    labels: Ints | None = None,
    counted: Bools | None = None,
) -> dict[str, float]:
    """Give item-level linearised standard errors of every multi-rater coefficient that is defined.

    Gwet (2014, chapter 5): each item's value of the coefficient, (n/n2)(p_ai - p_e [r_i>=2]) / (1-p_e), less
    (1 - kappa) times its share in the change of p_e, gives Var = sum (x_i - kappa)² / (n (n-1)). Krippendorff's alpha
    is linearised in the cells of its coincidence matrix over the n2 units with pairs.

    Parameters
    ----------
    counts
        Shape (n, K), every row with a label.
    weights, values, level
        Weights of partial agreement, the scale, and the level of alpha.
    raters, items, labels
        Shape (L,): the labels one by one, for Conger's kappa; without them it is left out.
    counted
        Shape (K,): the categories that AC and Brennan-Prediger count.
    """
    n = len(counts)
    sums = co.total_sums(counts)
    points = co.multi_rater_values(sums, weights, counted)
    pi = co.category_shares(sums, len(weights))
    per_item = co.row_sums(counts)
    share_scale, pair_scale, _ = co.item_scales(per_item)
    paired = per_item >= 2
    n2 = int(paired.sum())
    if n2 < 2:
        return {}
    agreement = ((counts @ weights) * counts).sum(axis=1) - per_item
    agreement = agreement * pair_scale
    shares = counts * share_scale[:, None]
    chance = co.chance_agreement(pi, weights, counted)
    drift = _drift(shares, pi, weights, chance, counted)
    if raters is not None and items is not None and labels is not None:
        chance["conger_kappa"], drift["conger_kappa"] = _conger_drift(raters, items, labels, n, weights)
    errors = {"agreement": float(np.std(agreement[paired], ddof=1) / np.sqrt(n2))}
    for name, moved in drift.items():
        expected = float(chance[name])
        if not 1 - expected > co.ZERO:
            continue
        value = (float(points["agreement"]) - expected) / (1 - expected)
        local = (n / n2) * (agreement - expected * paired) / (1 - expected) - (1 - value) * moved / (1 - expected)
        errors[name] = float(np.sqrt(((local - value) ** 2).sum() / (n * (n - 1))))
    alpha = _alpha_error(counts[paired], values, level)
    return errors if alpha is None else errors | {"krippendorff_alpha": alpha}


def label_errors(counts: Floats) -> list[dict[str, float]]:
    """Give for every label the linearised errors of its one-against-the-rest statistics, keyed as `label_values`.

    Coefficients: `linearised_errors` of "k or not k". `prevalence`: the mean over items of r_ik / r_i.
    `specific_agreement` o_kk / o_k.: a ratio of sums over the items with pairs (`ratio_error`).

    Parameters
    ----------
    counts
        Shape (n, K), every row with a label.
    """
    per_item = co.row_sums(counts)
    share_scale, _, unit_scale = co.item_scales(per_item)
    paired = per_item >= 2
    two, plain = np.arange(2.0), np.eye(2)
    found = []
    for own in counts.T:
        binary = np.stack([own, per_item - own], axis=1)
        errors = linearised_errors(binary, plain, two, "nominal")
        named = {
            name: errors[source]
            for name, source in (
                ("percent_agreement", "agreement"),
                ("fleiss_kappa", "fleiss_kappa"),
                ("gwet_ac1", "gwet_ac"),
                ("krippendorff_alpha", "krippendorff_alpha"),
            )
            if source in errors
        }
        if len(counts) > 1:
            named["prevalence"] = float(np.std(own * share_scale, ddof=1) / np.sqrt(len(counts)))
        both = (own * (own - 1) * unit_scale)[paired]
        either = (own * (per_item - 1) * unit_scale)[paired]
        if (error := ratio_error(both, either)) is not None:
            named["specific_agreement"] = error
        found.append(named)
    return found


def pair_errors(table: Floats, weights: Floats, counted: Bools | None = None) -> dict[str, float]:
    """Give the linearised errors of Scott's pi and AC of two raters' cross-table: Gwet's formula, cell by cell.

    Every item of a cell has the same value, so the sum over items is a sum over cells times their counts; it equals
    `linearised_errors` of the items.

    Returns
    -------
    dict
        `scott` and `gwet`, where they are defined.
    """
    n = float(table.sum())
    if n < 2:
        return {}
    size = len(table)
    rows, columns = (part.ravel() for part in np.indices((size, size)))
    unit = np.eye(size)
    shares = (unit[rows] + unit[columns]) / 2
    times, agreement = table.ravel(), weights.ravel()
    pi = times @ shares / n
    chance = co.chance_agreement(pi, weights, counted)
    observed = float(times @ agreement) / n
    found: dict[str, float] = {}
    for name, moved in _drift(shares, pi, weights, chance, counted).items():
        expected = float(chance[name])
        if name == "brennan_prediger" or not 1 - expected > co.ZERO:
            continue
        value = (observed - expected) / (1 - expected)
        local = (agreement - expected - (1 - value) * moved) / (1 - expected)
        found["scott" if name == "fleiss_kappa" else "gwet"] = float(
            np.sqrt(times @ (local - value) ** 2 / (n * (n - 1)))
        )
    return found


def ratio_error(part: Floats, whole: Floats) -> float | None:
    """Give the linearised error of sum(part) / sum(whole) over items: sqrt(n/(n-1) sum (a - R b)²) / sum(b).

    `None` with fewer than two items or an empty whole (Cochran 1977, section 6.3).
    """
    n, total = len(whole), float(whole.sum())
    if n < 2 or total <= 0:
        return None
    rest = part - float(part.sum()) / total * whole
    return float(np.sqrt(n / (n - 1) * (rest @ rest)) / total)


def _drift(
    shares: Floats, pi: Floats, weights: Floats, chance: dict[str, Floats], counted: Bools | None
) -> dict[str, Floats]:
    """Give the change of each chance agreement that an item of these shares (n, K) stands for."""
    size, total = co.counted_weights(weights, counted)
    gwet = 2 * total / (size * (size - 1)) * ((shares - pi) @ (1 - pi)) if size > 1 else np.zeros(len(shares))
    return {
        "fleiss_kappa": 2 * (shares @ (weights @ pi) - float(chance["fleiss_kappa"])),
        "gwet_ac": np.asarray(gwet),
        "brennan_prediger": np.zeros(len(shares)),
    }


def _conger_drift(raters: Ints, items: Ints, labels: Ints, n: int, weights: Floats) -> tuple[Floats, Floats]:
    """Give Conger's chance agreement and the change of it that each item stands for."""
    size = len(weights)
    count = int(raters.max()) + 1
    marginals = np.bincount(raters * size + labels, minlength=count * size).reshape(count, size).astype(float)
    if count < 2:
        return np.array(np.nan), np.zeros(n)
    per_rater = marginals.sum(axis=1)
    shares = marginals / per_rater[:, None]
    pooled = shares.sum(axis=0)
    pairs = count * (count - 1)
    chance = (pooled @ weights @ pooled - np.einsum("gk,kl,gl->", shares, weights, shares)) / pairs
    slope = 2 * (pooled - shares) @ weights / pairs
    centred = slope - (slope * shares).sum(axis=1, keepdims=True)
    moved = np.bincount(items, weights=centred[raters, labels] * (n / per_rater[raters]), minlength=n)
    return np.asarray(chance), moved.astype(float)


def _alpha_error(counts: Floats, values: Floats, level: Level) -> float | None:
    """Linearise alpha numerically: central differences in the cells, then the variance of the items' sums."""
    layout = co.Layout(counts.shape[1])
    sums = co.total_sums(counts)
    cells = len(layout.rows)
    step = 1e-5 * max(1.0, float(sums[cells : 2 * cells].max(initial=0.0)))
    shifts = np.zeros((cells, layout.width))
    shifts[np.arange(cells), cells + np.arange(cells)] = step
    up = co.krippendorff_values(layout.coincidence(sums + shifts), values, level)
    down = co.krippendorff_values(layout.coincidence(sums - shifts), values, level)
    slope = (up - down) / (2 * step)
    middle = co.krippendorff_values(layout.coincidence(sums), values, level)
    if not np.isfinite(slope).all() or not np.isfinite(middle):
        return None
    unit = 1.0 / (counts.sum(axis=1) - 1)
    gradient = slope[layout.square]
    doubled = (gradient + np.diag(np.diag(gradient))) / 2
    influence = (((counts @ doubled) * counts).sum(axis=1) - counts @ np.diag(doubled)) * unit
    n = len(counts)
    return float(np.sqrt(n / (n - 1) * ((influence - influence.mean()) ** 2).sum()))
