"""How far a classifier's confidence is from the share of labels that are right, without the bias of small samples.

Texts are binned by confidence. The expected calibration error sum_b m_b |d_b|, d_b the weighted mean of (right -
confidence) in bin b and m_b the bin's share of the corpus, is never below 0 and so far above the truth in a sample:
every bin adds the size of its own noise. Its square in the mean, sum_b m_b d_b², has a bias that is known, sum_b m_b
Var(d_b), and is corrected by subtracting it.

Sources: Guo et al. 2017 (expected calibration error); Bröcker 2012, Kumar, Liang and Ma 2019 (the debiased square).
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import special

from evaluation.intervals import DEFAULT_CONFIDENCE, FEW_CLUSTERS, Estimate, undefined

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bin = tuple[float, float, float, float, int]
"""Lowest and highest confidence, mean confidence, share right, number of texts."""

BINS: Final = 10
MIN_PER_BIN: Final = 10
UPWARD: Final = "biased_upward"


def bins_of(confidences: Floats) -> Ints:
    """Give the place of each confidence among ten equal bins (a, b]."""
    return np.clip(np.ceil(confidences * BINS).astype(np.int64) - 1, 0, BINS - 1)


def calibration(correct: Floats, confidences: Floats, weights: Floats) -> tuple[tuple[Bin, ...], float]:
    """Give the reliability table in ten equal bins, and the expected calibration error.

    ECE = sum over bins of (weight of bin / total) |accuracy - mean confidence|.
    """
    place = bins_of(confidences)
    mass = np.bincount(place, weights=weights, minlength=BINS)
    held = np.bincount(place, minlength=BINS)
    right = np.bincount(place, weights=weights * correct, minlength=BINS)
    sure = np.bincount(place, weights=weights * confidences, minlength=BINS)
    table = tuple(
        (b / BINS, (b + 1) / BINS, float(sure[b] / mass[b]), float(right[b] / mass[b]), int(held[b]))
        for b in range(BINS)
        if mass[b] > 0
    )
    return table, float(np.abs(right - sure).sum() / mass.sum())


def plug_in_error(correct: Floats, confidences: Floats, weights: Floats) -> Estimate:
    """Give the expected calibration error as it is published elsewhere: without an interval, for it is biased upward.

    The percentile bootstrap would double the bias: for a classifier that is perfectly calibrated such an interval never
    holds 0.
    """
    _, error = calibration(correct, confidences, weights)
    return Estimate(error, len(correct), reason=UPWARD, method="ten equal bins, plug-in")


def debiased_error(
    correct: Floats,
    confidences: Floats,
    weights: Floats,
    clusters: Ints,
    unseen: Floats,
    *,
    confidence: float = DEFAULT_CONFIDENCE,
) -> Estimate:
    """Estimate the root mean square calibration error, the bias of the bins' own noise taken off.

    T = sum_b m_b (d_b² - V_bb), V the cluster-robust covariance of the d_b. With A = M^(1/2) V M^(1/2), M = diag(m),
    the variance of T at the truth t is 2 tr(A²) + 4 t tr(A²) / tr(A), that of a quadratic form of normal gaps whose
    noise is about the same in every bin. The interval holds each t with (T - t)² <= z² Var(t), cut at 0; value and
    bounds are shown as roots. Bins with fewer than `MIN_PER_BIN` texts are joined with the next.

    Parameters
    ----------
    correct, confidences, weights
        Shape (n,), 1 where the label is right, the classifier's probability of it, what each text counts for.
    clusters
        Shape (n,), what was drawn independently: the text itself, or its dialogue.
    unseen
        Shape (n,), the share of the corpus behind each text that nobody verified: 0 leaves no uncertainty, 1 for the
        superpopulation.
    """
    n = len(correct)
    count = len(np.unique(clusters))
    method = "debiased, joined bins of confidence"
    if n < 2 * MIN_PER_BIN or count < 2:
        return undefined("few_texts" if count >= 2 else "one_dialogue", n=n, method=method, clusters=count)
    place = _joined(bins_of(confidences))
    size = int(place.max()) + 1
    mass = np.bincount(place, weights=weights, minlength=size)
    gap = correct - confidences
    mean = np.bincount(place, weights=weights * gap, minlength=size) / mass
    held = np.bincount(place, minlength=size).astype(float)
    # Each bin's mean took up one degree of freedom.
    residual = (gap - mean[place]) * np.sqrt(unseen * (held / np.maximum(held - 1, 1))[place])
    scores = np.zeros((count, size))
    np.add.at(scores, (np.unique(clusters, return_inverse=True)[1], place), weights * residual / mass[place])
    factor = count / (count - 1) if count < n else 1.0
    noise = factor * scores.T @ scores
    share = mass / mass.sum()
    squared = float(share @ (mean**2 - np.diag(noise)))
    scaled = np.sqrt(share)[:, None] * noise * np.sqrt(share)
    trace, square = float(np.trace(scaled)), float((scaled**2).sum())
    value = math.sqrt(max(0.0, squared))
    if trace <= 1e-24 and unseen.any():
        # Every text of a bin has the same gap: the data cannot show the width.
        return Estimate(value, n, None, None, "no_variation", method, count)
    quantile = (1 + confidence) / 2
    wide = float(special.stdtrit(count - 1, quantile) if count < FEW_CLUSTERS else special.ndtri(quantile))
    slope = square / trace if trace > 0 else 0.0
    centre = squared + 2 * wide**2 * slope
    half = wide * math.sqrt(max(0.0, 4 * slope * squared + 4 * wide**2 * slope**2 + 2 * square))
    low, high = (math.sqrt(max(0.0, bound)) for bound in (centre - half, centre + half))
    notes = ("few clusters",) if count < FEW_CLUSTERS else ()
    return Estimate(value, n, (min(low, value), min(1.0, high)), None, None, method, count, notes)


def _joined(place: Ints) -> Ints:
    """Join bins, from the lowest up, until each holds `MIN_PER_BIN` texts; what is left over goes to the last."""
    held = np.bincount(place, minlength=BINS)
    target = np.zeros(BINS, dtype=np.int64)
    current, inside = 0, 0
    for b in range(BINS):
        target[b] = current
        inside += int(held[b])
        if inside >= MIN_PER_BIN and held[b + 1 :].sum() >= MIN_PER_BIN:
            current, inside = current + 1, 0
    return target[place]
