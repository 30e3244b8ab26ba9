"""How well the classifier's labels stand up to the humans': accuracy, kappa, F1, calibration.

Estimates are post-stratified by the predicted label: the joint distribution P(true = k, predicted = c) =
(N_c / N) n_kc / n_c, N_c known for the whole corpus. One table then gives prevalence, accuracy, confusion and every
score. A sample with the same share of every predicted label in it (the default design: half proportional, half equal)
thus measures rare emotions well without spoiling the accuracy.

Sources: Särndal, Swensson and Wretman 1992 (post-stratification); Rao and Wu 1988 (bootstrap within strata); Guo et al.
2017 (expected calibration error).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from evaluation import counts as ct
from evaluation.counts import Floats, K, MacroPolicy
from evaluation.emotions import EMOTIONS
from evaluation.estimation import Target
from evaluation.intervals import (
    DEFAULT_CONFIDENCE,
    DEFAULT_REPLICATES,
    Estimate,
    bootstrap_estimate,
    cluster_codes,
    cluster_weights,
    rao_wu_weights,
    undefined,
)

MIN_PER_STRATUM: Final = 10
WHOLE_DIALOGUES: Final = 2.0
CALIBRATION_BINS: Final = 10


@dataclass(frozen=True)
class Validation:
    """Classifier against human labels of the same utterances.

    Attributes
    ----------
    estimates
        By name: `accuracy`, `cohen_kappa`, `macro_f1`, `macro_f1_*`, `precision:joy`, `recall:joy`, `f1:joy`,
        `prevalence:joy`, and `ece` where probabilities were given.
    joint
        Shape (7, 7), P(human = row, classifier = column).
    counts
        Shape (7, 7), the verified utterances themselves.
    reliability
        One row a bin: lowest and highest confidence, mean confidence, accuracy, n.
    warnings
        Plain sentences about classes that are thin or missing.
    """

    estimates: dict[str, Estimate]
    joint: Floats
    counts: Floats
    reliability: tuple[tuple[float, float, float, float, int], ...]
    warnings: tuple[str, ...]


def post_stratified(matrix: Floats, population: Floats) -> Floats:
    """Give P(human, predicted) from weighted counts (..., 7, 7) and the corpus counts N_c of predicted labels (7,).

    Predicted labels without a verified utterance are left out, and the rest is scaled to 1.
    """
    columns = matrix.sum(axis=-2, keepdims=True)
    share = np.where(columns[..., 0, :] > 0, population, 0.0)
    total = share.sum(axis=-1, keepdims=True)
    share = np.divide(share, total, out=np.zeros_like(share), where=total > 0)
    within = np.divide(matrix, columns, out=np.zeros_like(matrix, dtype=float), where=columns > 0)
    return np.asarray(within * share[..., None, :])


def validate(
    human: ArrayLike,
    machine: ArrayLike,
    machine_all: ArrayLike,
    *,
    dialogues: ArrayLike,
    weights: ArrayLike | None = None,
    confidences: ArrayLike | None = None,
    macro_f1: MacroPolicy = "present",
    target: Target = "corpus",
    replicates: int = DEFAULT_REPLICATES,
    seed: int = 0,
    name: str = "validation",
    confidence: float = DEFAULT_CONFIDENCE,
) -> Validation:
    """Compare the classifier with verified labels, post-stratified by predicted label.

    Parameters
    ----------
    human, machine
        Shape (n,), codes of the verified utterances; -1 on either side is left out.
    machine_all
        Shape (N,), classifier codes of all utterances.
    dialogues
        Shape (n,). Utterances are resampled within predicted labels (Rao and Wu); where whole dialogues were drawn
        (more than `WHOLE_DIALOGUES` utterances each), dialogues are resampled instead.
    weights
        Shape (n,), inverse inclusion probabilities within a predicted label; 1 when left out.
    confidences
        Shape (n,), the classifier's probability of its own label, for calibration.
    """
    y, f = np.asarray(human, dtype=np.int64), np.asarray(machine, dtype=np.int64)
    known = (y >= 0) & (f >= 0)
    w = (np.ones(len(y)) if weights is None else np.asarray(weights, dtype=float))[known]
    codes = cluster_codes(np.asarray(dialogues)[known])[0] if known.any() else np.empty(0, dtype=np.int64)
    everything = np.asarray(machine_all, dtype=np.int64)
    population = np.bincount(everything[everything >= 0], minlength=K).astype(float)
    sure = None if confidences is None else np.asarray(confidences, dtype=float)[known]
    y, f = y[known], f[known]
    onehot = np.zeros((len(y), K * K))
    onehot[np.arange(len(y)), y * K + f] = 1.0
    counts = onehot.sum(axis=0).reshape(K, K)
    if not len(y):
        return _nothing(macro_f1)
    units = _Units(y, f, codes, w, population, target)
    draws = units.draws(replicates, seed, name)
    matrices = np.concatenate([(block * w) @ onehot for block in draws]).reshape(-1, K, K) if draws else None
    joint = post_stratified(((w @ onehot).reshape(K, K)), population)
    resampled = post_stratified(matrices, population) if matrices is not None else np.full((1, K, K), np.nan)
    estimates: dict[str, Estimate] = {}
    for key, (statistic, bounds, reason) in _statistics(macro_f1).items():
        value = float(statistic(joint))
        if not np.isfinite(value):
            estimates[key] = undefined(reason, n=len(y), clusters=units.clusters, method="human labels")
            continue
        if units.complete:
            # Every text was seen: for this corpus the value is known, and no width is right.
            method = "human labels of every text"
            estimates[key] = Estimate(value, len(y), (value, value), 0.0, None, method, units.clusters)
            continue
        estimates[key] = bootstrap_estimate(
            value,
            statistic(resampled),
            n=len(y),
            clusters=units.units,
            unit=units.name,
            bounds=bounds,
            confidence=confidence,
        )
    reliability: tuple[tuple[float, float, float, float, int], ...] = ()
    if sure is not None and np.isfinite(sure).all():
        correct = (y == f).astype(float)
        # Weighting by predicted label makes the bins speak for the corpus, as every other number here does.
        corpus = w * (population / np.maximum(np.bincount(f, weights=w, minlength=K), 1e-300))[f]
        reliability, error = calibration(correct, sure, corpus)
        spread = np.concatenate([_calibration_draws(correct, sure, block * corpus) for block in draws])
        estimates["ece"] = bootstrap_estimate(
            error, spread, n=len(y), clusters=units.units, unit=units.name, bounds=(0.0, 1.0), confidence=confidence
        )
    return Validation(estimates, joint, counts, reliability, tuple(_warnings(population, counts)))


@dataclass(frozen=True)
class _Units:
    """What is resampled: utterances within predicted labels, or whole dialogues."""

    human: NDArray[np.int64]
    machine: NDArray[np.int64]
    dialogues: NDArray[np.int64]
    weights: Floats
    population: Floats
    target: Target

    @property
    def clusters(self) -> int:
        return len(np.unique(self.dialogues))

    @property
    def whole(self) -> bool:
        return len(self.human) > WHOLE_DIALOGUES * self.clusters

    @property
    def complete(self) -> bool:
        held = np.bincount(self.machine, minlength=K)
        return self.target == "corpus" and bool((held >= self.population).all())

    @property
    def units(self) -> int:
        return self.clusters if self.whole else len(self.human)

    @property
    def name(self) -> str:
        return "dialogue" if self.whole else "utterance (Rao-Wu within predicted label)"

    def draws(self, replicates: int, seed: int, name: str) -> list[Floats]:
        if self.whole:
            place = self.dialogues
            return [block[:, place] for block in cluster_weights(self.clusters, replicates, seed, name=name)]
        held = np.bincount(self.machine, minlength=K)
        rest = np.clip(1 - held / np.maximum(self.population, 1), 0.0, 1.0) if self.target == "corpus" else np.ones(K)
        shrink = np.sqrt(rest)[self.machine]
        return [1 + shrink * (block - 1) for block in rao_wu_weights(self.machine, replicates, seed, name=name)]


def _statistics(policy: MacroPolicy) -> dict[str, tuple[Any, tuple[float, float], str]]:
    unit = (0.0, 1.0)
    found: dict[str, tuple[Any, tuple[float, float], str]] = {
        "accuracy": (ct.accuracy, unit, "no_data"),
        "cohen_kappa": (ct.cohen_kappa, (-1.0, 1.0), "no_variation"),
        "macro_f1": (lambda m: ct.macro_f1(m, policy), unit, "no_data"),
    }
    for each in ct.MACRO_POLICIES:
        found[f"macro_f1_{each}"] = (lambda m, each=each: ct.macro_f1(m, each), unit, "no_data")
    for code, emotion in enumerate(EMOTIONS):
        found[f"precision:{emotion}"] = (lambda m, c=code: ct.precision(m)[..., c], unit, "never_predicted")
        found[f"recall:{emotion}"] = (lambda m, c=code: ct.recall(m)[..., c], unit, "no_support")
        found[f"f1:{emotion}"] = (lambda m, c=code: ct.f1(m)[..., c], unit, "class_absent")
        found[f"prevalence:{emotion}"] = (lambda m, c=code: m[..., c, :].sum(axis=-1), unit, "no_data")
    return found


def _nothing(policy: MacroPolicy) -> Validation:
    estimates = {key: undefined("no_data", method="human labels") for key in _statistics(policy)}
    empty = np.zeros((K, K))
    return Validation(estimates, empty, empty, (), ("No utterance has both a human and a classifier label.",))


def _warnings(population: Floats, counts: Floats) -> list[str]:
    verified = counts.sum(axis=0)
    said = []
    for code, emotion in enumerate(EMOTIONS):
        if population[code] and not verified[code]:
            said.append(f"No utterance predicted {emotion} was verified: the estimates leave that label out.")
        elif population[code] and verified[code] < min(MIN_PER_STRATUM, population[code]):
            said.append(f"Only {int(verified[code])} utterances predicted {emotion} were verified.")
    return said


def _bins(confidences: Floats) -> NDArray[np.int64]:
    return np.clip(np.ceil(confidences * CALIBRATION_BINS).astype(np.int64) - 1, 0, CALIBRATION_BINS - 1)


def calibration(
    correct: Floats, confidences: Floats, weights: Floats
) -> tuple[tuple[tuple[float, float, float, float, int], ...], float]:
    """Give the reliability table in ten equal bins, and the expected calibration error.

    ECE = sum over bins of (weight of bin / total) |accuracy - mean confidence|.
    """
    place = _bins(confidences)
    mass = np.bincount(place, weights=weights, minlength=CALIBRATION_BINS)
    held = np.bincount(place, minlength=CALIBRATION_BINS)
    right = np.bincount(place, weights=weights * correct, minlength=CALIBRATION_BINS)
    sure = np.bincount(place, weights=weights * confidences, minlength=CALIBRATION_BINS)
    table = tuple(
        (
            b / CALIBRATION_BINS,
            (b + 1) / CALIBRATION_BINS,
            float(sure[b] / mass[b]),
            float(right[b] / mass[b]),
            int(held[b]),
        )
        for b in range(CALIBRATION_BINS)
        if mass[b] > 0
    )
    return table, float(np.abs(right - sure).sum() / mass.sum())


def _calibration_draws(correct: Floats, confidences: Floats, weights: Floats) -> Floats:
    gap = np.zeros((len(correct), CALIBRATION_BINS))
    gap[np.arange(len(correct)), _bins(confidences)] = correct - confidences
    return np.asarray(np.abs(weights @ gap).sum(axis=1) / weights.sum(axis=1))
