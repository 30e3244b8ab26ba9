"""How good a classifier is, on texts whose labels are known: every figure with its interval.

The figures are the usual ones (accuracy, precision, recall, F1, confusion, expected calibration error); the rows are
taken as independent, which holds for single comments. Labels of whole dialogues belong into the statistics of
`evaluation`, which resample dialogues.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from evaluation.emotions import EMOTIONS, PALETTE, Grouping, grouping_named

REPLICATES: Final = 1000
BINS: Final = 15
THRESHOLD: Final = 0.3
"""Above it an emotion counts as predicted where a text may have several, as in Demszky et al. (2020)."""

_Z: Final = 1.959963984540054


@dataclass(frozen=True)
class Figure:
    """One number: its value, the rows it rests on, its 95 % interval; undefined is `None` with a reason."""

    value: float | None
    n: int
    interval: tuple[float, float] | None = None
    reason: str | None = None

    def __str__(self) -> str:
        if self.value is None:
            return f"undefined ({self.reason})"
        if self.interval is None:
            return f"{self.value:.4f}"
        return f"{self.value:.4f} [{self.interval[0]:.4f}, {self.interval[1]:.4f}]"


@dataclass(frozen=True)
class ClassFigures:
    """Precision, recall and F1 of one emotion."""

    precision: Figure
    recall: Figure
    f1: Figure
    support: int
    predicted: int


@dataclass(frozen=True)
class ReliabilityBin:
    """Rows whose confidence fell into one bin: how many, their mean confidence and accuracy."""

    low: float
    high: float
    n: int
    confidence: float | None
    accuracy: float | None


@dataclass(frozen=True)
class Assessment:
    """What `assess` found on n rows."""

    n: int
    grouping: str
    accuracy: Figure
    macro_f1: Figure
    classes: Mapping[str, ClassFigures]
    confusion: list[list[int]]
    ece: Figure
    mean_confidence: float
    bins: list[ReliabilityBin]

    def to_json(self) -> dict[str, Any]:
        """Give everything as plain values."""
        return asdict(self)


def wilson(successes: int, n: int) -> tuple[float, float] | None:
    """Give the 95 % interval of a proportion (Wilson 1927); `None` for n = 0."""
    if n == 0:
        return None
    p = successes / n
    middle = (p + _Z**2 / (2 * n)) / (1 + _Z**2 / n)
    half = _Z / (1 + _Z**2 / n) * math.sqrt(p * (1 - p) / n + _Z**2 / (4 * n * n))
    return max(0.0, middle - half), min(1.0, middle + half)


def temperature_fitted(coarse: NDArray[Any], truth: NDArray[np.int64]) -> float:
    """Fit the temperature T that minimises the negative log-likelihood of g^(1/T) / sum g^(1/T) (Guo et al. 2017).

    Parameters
    ----------
    coarse
        Uncalibrated probabilities of the seven emotions, shape (n, 7).
    truth
        Indices into `EMOTIONS`, shape (n,).
    """
    from scipy.optimize import minimize_scalar

    logs = np.log(np.clip(coarse.astype(np.float64), 1e-12, None))

    def loss(log_temperature: float) -> float:
        scaled = logs / math.exp(log_temperature)
        scaled -= scaled.max(-1, keepdims=True)
        scaled -= np.log(np.exp(scaled).sum(-1, keepdims=True))
        return float(-scaled[np.arange(len(truth)), truth].mean())

    return math.exp(float(minimize_scalar(loss, bounds=(-2.0, 2.0), method="bounded").x))


def assess(
    coarse: NDArray[Any],
    truth: NDArray[np.int64],
    *,
    grouping: str | Grouping = "ekman",
    replicates: int = REPLICATES,
    seed: int = 0,
) -> Assessment:
    """Compare seven-way probabilities with known labels.

    Accuracy, precision and recall have Wilson intervals; F1, macro-F1 and the calibration error have percentile
    bootstrap intervals over rows. Macro-F1 is the mean over the classes that occur as label or prediction.

    Parameters
    ----------
    coarse
        Calibrated probabilities, shape (n, 7), columns in the order of `EMOTIONS`.
    truth
        Indices into `EMOTIONS`, shape (n,).
    """
    if len(coarse) != len(truth):
        raise ValueError(f"There are {len(coarse)} predictions for {len(truth)} labels.")
    n, k = len(truth), len(EMOTIONS)
    name = grouping_named(grouping).identifier
    if n == 0:
        nothing = Figure(None, 0, None, "no_data")
        none = ClassFigures(nothing, nothing, nothing, 0, 0)
        return Assessment(
            0, name, nothing, nothing, dict.fromkeys(EMOTIONS, none), [[0] * k for _ in range(k)], nothing, math.nan, []
        )
    predicted = coarse.argmax(-1)
    confidence = coarse.max(-1).astype(np.float64)
    right = predicted == truth
    confusion = _confusion(truth, predicted)
    f1_draws, macro_draws, ece_draws = _bootstrap(truth, predicted, confidence, replicates, seed)
    f1 = _f1(confusion[None])[0]
    classes: dict[str, ClassFigures] = {}
    for index, emotion in enumerate(EMOTIONS):
        hits, support, given = int(confusion[index, index]), int(confusion[index].sum()), int(confusion[:, index].sum())
        classes[emotion] = ClassFigures(
            precision=_proportion(hits, given, "never_predicted"),
            recall=_proportion(hits, support, "no_such_label"),
            f1=_with_draws(f1[index], support, f1_draws[:, index], "neither_label_nor_prediction"),
            support=support,
            predicted=given,
        )
    ece, bins = calibration_error(confidence, right)
    return Assessment(
        n=n,
        grouping=name,
        accuracy=Figure(float(right.mean()), n, wilson(int(right.sum()), n)),
        macro_f1=_with_draws(float(np.nanmean(f1)), n, macro_draws, "no_data"),
        classes=classes,
        confusion=confusion.tolist(),
        ece=_with_draws(ece, n, ece_draws, "no_data"),
        mean_confidence=float(confidence.mean()),
        bins=bins,
    )


def _confusion(truth: NDArray[np.int64], predicted: NDArray[np.int64]) -> NDArray[np.int64]:
    k = len(EMOTIONS)
    return np.bincount(truth * k + predicted, minlength=k * k).reshape(k, k)


def _f1(confusions: NDArray[np.int64]) -> NDArray[np.float64]:
    """Give F1 per class, shape (..., 7); nan where a class is neither labelled nor predicted."""
    hits = np.diagonal(confusions, axis1=-2, axis2=-1).astype(np.float64)
    total = confusions.sum(-1) + confusions.sum(-2)
    with np.errstate(invalid="ignore"):
        return np.where(total > 0, 2 * hits / np.where(total > 0, total, 1), np.nan)


def _bootstrap(
    truth: NDArray[np.int64], predicted: NDArray[np.int64], confidence: NDArray[np.float64], replicates: int, seed: int
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    random = np.random.default_rng(seed)
    n, k = len(truth), len(EMOTIONS)
    f1 = np.empty((replicates, k))
    ece = np.empty(replicates)
    right = predicted == truth
    for replicate in range(replicates):
        rows = random.integers(0, n, n)
        f1[replicate] = _f1(_confusion(truth[rows], predicted[rows])[None])[0]
        ece[replicate] = calibration_error(confidence[rows], right[rows])[0]
    with np.errstate(invalid="ignore"):
        return f1, np.nanmean(f1, axis=1), ece


def _with_draws(value: float, n: int, draws: NDArray[np.float64], reason: str) -> Figure:
    if math.isnan(value):
        return Figure(None, n, None, reason)
    known = draws[~np.isnan(draws)]
    interval = (float(np.quantile(known, 0.025)), float(np.quantile(known, 0.975))) if len(known) else None
    return Figure(float(value), n, interval)


def _proportion(successes: int, n: int, reason: str) -> Figure:
    return Figure(successes / n, n, wilson(successes, n)) if n else Figure(None, 0, None, reason)


def calibration_error(
    confidence: NDArray[np.float64], right: NDArray[np.bool_], bins: int = BINS
) -> tuple[float, list[ReliabilityBin]]:
    """Give the expected calibration error over equal-width bins, sum n_b/n |acc_b - conf_b| (Naeini et al. 2015)."""
    index = np.minimum((confidence * bins).astype(np.int64), bins - 1)
    counts = np.bincount(index, minlength=bins)
    sure = np.bincount(index, weights=confidence, minlength=bins)
    hits = np.bincount(index, weights=right.astype(np.float64), minlength=bins)
    error = float(np.abs(hits - sure).sum() / len(confidence))
    rows = [
        ReliabilityBin(
            low=b / bins,
            high=(b + 1) / bins,
            n=int(counts[b]),
            confidence=float(sure[b] / counts[b]) if counts[b] else None,
            accuracy=float(hits[b] / counts[b]) if counts[b] else None,
        )
        for b in range(bins)
    ]
    return error, rows


def multi_label_macro_f1(
    fine: NDArray[Any], targets: NDArray[Any], *, grouping: str = "ekman", threshold: float = THRESHOLD
) -> tuple[float, list[float]]:
    """Give macro-F1 and the seven F1 when every emotion above `threshold` counts as predicted, as in Demszky et al.

    Parameters
    ----------
    fine
        28 probabilities, shape (n, 28).
    targets
        Given fine labels as positive mass, shape (n, 28).
    """
    matrix = grouping_named(grouping).matrix
    predicted = fine.astype(np.float64) @ matrix > threshold
    truth = targets.astype(np.float64) @ matrix > 0
    hits = (predicted & truth).sum(0)
    f1 = 2 * hits / np.maximum(predicted.sum(0) + truth.sum(0), 1)
    return float(f1.mean()), [float(value) for value in f1]


def assess_multi_label(
    coarse: NDArray[Any],
    targets: NDArray[np.bool_],
    *,
    threshold: float = THRESHOLD,
    replicates: int = REPLICATES,
    seed: int = 0,
) -> Figure:
    """Give macro-F1 when a text may have several emotions, with a percentile bootstrap interval over rows.

    Parameters
    ----------
    coarse
        Uncalibrated probabilities of the seven emotions, shape (n, 7); every one above `threshold` is predicted.
    targets
        Which emotions were given, shape (n, 7). Emotions neither given nor predicted are left out of the mean.
    """
    n = len(targets)
    if n == 0:
        return Figure(None, 0, None, "no_data")
    predicted = coarse > threshold
    hits, total = (predicted & targets).astype(np.float64), predicted.astype(np.float64) + targets
    random = np.random.default_rng(seed)

    def macro(weights: NDArray[np.float64]) -> float:
        f1 = 2 * (weights @ hits) / np.where(weights @ total > 0, weights @ total, np.nan)
        return float(np.nanmean(f1))

    draws = [macro(np.bincount(random.integers(0, n, n), minlength=n).astype(np.float64)) for _ in range(replicates)]
    return _with_draws(macro(np.ones(n)), n, np.array(draws), "no_data")


def as_table(found: Assessment) -> str:
    """Lay an assessment out as text."""
    lines = [
        f"rows {found.n}, grouping {found.grouping}",
        f"accuracy {found.accuracy}",
        f"macro-F1 {found.macro_f1}",
        f"expected calibration error ({BINS} bins) {found.ece}; mean confidence {found.mean_confidence:.4f}",
        "",
        f"{'emotion':<10}{'n':>6}{'predicted':>11}  {'precision':<25}{'recall':<25}F1",
    ]
    for emotion, figures in found.classes.items():
        lines.append(
            f"{emotion:<10}{figures.support:>6}{figures.predicted:>11}  {figures.precision!s:<25}"
            f"{figures.recall!s:<25}{figures.f1}"
        )
    lines += ["", "confusion (rows: label, columns: prediction)", " " * 10 + "".join(f"{e:>10}" for e in EMOTIONS)]
    for emotion, row in zip(EMOTIONS, found.confusion, strict=True):
        lines.append(f"{emotion:<10}" + "".join(f"{count:>10}" for count in row))
    return "\n".join(lines)


def reliability_figure(found: Assessment, path: Path, title: str) -> None:
    """Draw accuracy against confidence, bin by bin, as an SVG file with the same bytes for the same figures."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure as Canvas

    with rc_context({"svg.hashsalt": "attune", "font.family": "sans-serif"}):
        canvas = Canvas(figsize=(4.6, 4.6), layout="constrained")
        axes = canvas.subplots()
        axes.plot([0, 1], [0, 1], color="#888888", linewidth=1, linestyle="--", label="perfectly calibrated")
        middles, heights, sureness, counts = [], [], [], []
        for b in found.bins:
            if b.accuracy is not None and b.confidence is not None:
                middles.append((b.low + b.high) / 2)
                heights.append(b.accuracy)
                sureness.append(b.confidence)
                counts.append(b.n)
        axes.bar(middles, heights, width=1 / BINS * 0.9, color=PALETTE["sadness"], label="accuracy")
        for middle, height, n in zip(middles, heights, counts, strict=True):
            axes.annotate(str(n), (middle, height), ha="center", va="bottom", fontsize=6, color="#555555")
        axes.plot(sureness, heights, "o", markersize=3, color=PALETTE["surprise"], label="mean confidence of the bin")
        axes.set(xlabel="confidence", ylabel="accuracy", xlim=(0, 1), ylim=(0, 1.02), title=title)
        axes.legend(loc="upper left", fontsize=7, frameon=False)
        path.parent.mkdir(parents=True, exist_ok=True)
        canvas.savefig(path, format="svg", metadata={"Date": None})
