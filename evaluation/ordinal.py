"""The proportional-odds model: cumulative logits with one set of slopes, and errors clustered by dialogue.

P(rating <= j | x) = logistic(alpha_j - x b), so a positive slope means higher ratings (McCullagh 1980). Newton steps on
analytic scores with a step that is halved until the likelihood rises; variance as a sandwich of cluster sums of scores
(Liang and Zeger 1986) with the CR1 factor.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

Floats = NDArray[np.float64]

MAX_STEPS: Final = 100
TOO_STEEP: Final = 15.0


@dataclass(frozen=True, slots=True)
class OrdinalFit:
    """Slopes (k,) with cluster-robust standard errors, thresholds (levels - 1,), and whether Newton converged."""

    slopes: Floats
    errors: Floats
    thresholds: Floats
    log_likelihood: float
    converged: bool


def fit_proportional_odds(levels: NDArray[np.integer[Any]], design: Floats, clusters: NDArray[np.int64]) -> OrdinalFit:
    """Fit the model.

    Parameters
    ----------
    levels
        Shape (n,), codes 0..J-1, every level occurring; J >= 2.
    design
        Shape (n, k), without a constant column (the thresholds hold it), of full rank.
    clusters
        Shape (n,), codes from 0.

    Raises
    ------
    ValueError
        With fewer than two levels.
    """
    count = int(levels.max(initial=0)) + 1
    if count < 2:
        raise ValueError("Proportional odds need two levels or more.")
    k = design.shape[1]
    below = np.cumsum(np.bincount(levels, minlength=count))[:-1] / len(levels)
    theta = np.concatenate([np.zeros(k), np.log(below / (1 - below))])
    value = _log_likelihood(theta, levels, design)
    converged = False
    for _ in range(MAX_STEPS):
        gradient = _scores(theta, levels, design).sum(axis=0)
        hessian = _hessian(theta, levels, design)
        step = np.linalg.lstsq(-hessian, gradient, rcond=None)[0]
        size = 1.0
        while (better := _log_likelihood(theta + size * step, levels, design)) < value and size > 1e-8:
            size /= 2
        if size <= 1e-8:
            break
        theta, gain, value = theta + size * step, better - value, better
        if gain < 1e-10 * (1 + abs(value)):
            converged = bool(np.abs(_scores(theta, levels, design).sum(axis=0)).max() < 1e-3)
            break
    scores = _scores(theta, levels, design)
    sums = np.zeros((int(clusters.max()) + 1, len(theta)))
    np.add.at(sums, clusters, scores)
    bread = np.linalg.pinv(-_hessian(theta, levels, design))
    groups = len(np.unique(clusters))
    factor = groups / max(1, groups - 1) * (len(levels) - 1) / max(1, len(levels) - len(theta))
    variance = np.diag(bread @ (sums.T @ sums) @ bread)[:k] * factor
    steep = bool(np.abs(theta[:k]).max(initial=0.0) > TOO_STEEP)
    return OrdinalFit(theta[:k], np.sqrt(np.maximum(variance, 0)), theta[k:], value, converged and not steep)


def _cuts(theta: Floats, levels: NDArray[Any], design: Floats) -> tuple[Floats, Floats, Floats]:
    k = design.shape[1]
    alpha = np.concatenate([[-np.inf], theta[k:], [np.inf]])
    eta = design @ theta[:k]
    upper, lower = expit(alpha[levels + 1] - eta), expit(alpha[levels] - eta)
    return upper, lower, upper - lower


def _log_likelihood(theta: Floats, levels: NDArray[Any], design: Floats) -> float:
    if (np.diff(theta[design.shape[1] :]) <= 0).any():
        return -math.inf
    chance = _cuts(theta, levels, design)[2]
    return float(np.log(chance).sum()) if (chance > 0).all() else -math.inf


def _scores(theta: Floats, levels: NDArray[Any], design: Floats) -> Floats:
    """Give the score of each observation, shape (n, k + J - 1)."""
    k = design.shape[1]
    upper, lower, chance = _cuts(theta, levels, design)
    up, low = upper * (1 - upper) / chance, lower * (1 - lower) / chance
    scores = np.zeros((len(levels), len(theta)))
    scores[:, :k] = -(up - low)[:, None] * design
    rows = np.arange(len(levels))
    cuts = len(theta) - k
    held = levels < cuts
    scores[rows[held], k + levels[held]] += up[held]
    held = levels > 0
    scores[rows[held], k + levels[held] - 1] -= low[held]
    return scores


def _hessian(theta: Floats, levels: NDArray[Any], design: Floats) -> Floats:
    """Differentiate the scores numerically (central differences), made symmetric."""
    size = len(theta)
    found = np.empty((size, size))
    for place in range(size):
        step = np.zeros(size)
        step[place] = 1e-5
        ahead, behind = (_scores(theta + sign * step, levels, design).sum(axis=0) for sign in (1, -1))
        found[place] = (ahead - behind) / 2e-5
    return (found + found.T) / 2
