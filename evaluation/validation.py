"""How well the classifier's labels stand up to the humans': accuracy, kappa, F1, calibration.

Estimates are post-stratified by the predicted label: the joint distribution P(true = k, predicted = c) =
(N_c / N) n_kc / n_c, N_c known for the whole corpus. One table then gives prevalence, accuracy, confusion and every
score. A sample with the same share of every predicted label in it (the default design: half proportional, half equal)
thus measures rare emotions well without spoiling the accuracy.

Only what was verified is spoken of: a data set or a system none of whose texts has a human label is left out of the
corpus that an estimate stands for, and named (`uncovered`).

Sources: Särndal, Swensson and Wretman 1992 (post-stratification); Rao and Wu 1988 (bootstrap within strata);
calibration as in `evaluation.calibration`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from evaluation import counts as ct
from evaluation.calibration import Bin, calibration, debiased_error, plug_in_error
from evaluation.counts import Floats, K, MacroPolicy, emotion_codes
from evaluation.emotions import EMOTIONS
from evaluation.estimation import Target
from evaluation.groups import REFERENCE_SYSTEM, MetricOptions
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

Role = Literal["user", "response", "reference"]

MIN_PER_STRATUM: Final = 10
WHOLE_DIALOGUES: Final = 2.0


@dataclass(frozen=True)
class Validation:
    """Classifier against human labels of the same utterances.

    Attributes
    ----------
    estimates
        By name: `accuracy`, `cohen_kappa`, `macro_f1`, `macro_f1_*`, `precision:joy`, `recall:joy`, `f1:joy`,
        `prevalence:joy`, and `ece` and `calibration_error` where probabilities were given.
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
    reliability: tuple[Bin, ...]
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
    reliability: tuple[Bin, ...] = ()
    said = list(_warnings(population, counts))
    if sure is not None and np.isfinite(sure).any():
        told = np.isfinite(sure)
        if missing := int((~told).sum()):
            said.append(f"{missing} verified texts have no confidence and are left out of the calibration.")
        y, f, w, sure, codes = y[told], f[told], w[told], sure[told], codes[told]
        correct = (y == f).astype(float)
        # Weighting by predicted label makes the bins speak for the corpus, as every other number here does.
        corpus = w * (population / np.maximum(np.bincount(f, weights=w, minlength=K), 1e-300))[f]
        reliability, _ = calibration(correct, sure, corpus)
        drawn = codes if units.whole else np.arange(len(y))
        estimates["ece"] = plug_in_error(correct, sure, corpus)
        estimates["calibration_error"] = debiased_error(
            correct, sure, corpus, drawn, units.unseen[f], confidence=confidence
        )
    return Validation(estimates, joint, counts, reliability, tuple(said))


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
    def unseen(self) -> Floats:
        """Shape (7,), the share of each predicted label's texts that nobody verified; 1 for the superpopulation."""
        held = np.bincount(self.machine, minlength=K)
        rest = np.clip(1 - held / np.maximum(self.population, 1), 0.0, 1.0)
        return np.asarray(rest if self.target == "corpus" else np.ones(K))

    @property
    def units(self) -> int:
        return self.clusters if self.whole else len(self.human)

    @property
    def name(self) -> str:
        return "dialogue" if self.whole else "text"

    def draws(self, replicates: int, seed: int, name: str) -> list[Floats]:
        if self.whole:
            place = self.dialogues
            return [block[:, place] for block in cluster_weights(self.clusters, replicates, seed, name=name)]
        shrink = np.sqrt(self.unseen)[self.machine]
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


# --- from a table of turns -------------------------------------------------------------------------------------------


def role_rows(turns: pd.DataFrame, role: Role) -> pd.DataFrame:
    """Give one row per text of a role: a user utterance and a reference stand once per turn, not once per system.

    Of the rows that carry the same utterance the one whose label a person verified stands for it.
    """
    if f"{role}_verified" not in turns:
        return turns.iloc[:0]
    table = turns.assign(dataset=turns["dataset"].fillna("").astype(str))
    if role == "response":
        flag = table["is_reference"].fillna(False).astype(bool) if "is_reference" in table else False
        return table[~(flag | (table["system"] == REFERENCE_SYSTEM))]
    known = table[f"{role}_label"].notna().astype(int)
    place = 2 * verified_rows(table, role).astype(int) + known
    best = place.sort_values(ascending=False, kind="stable").index
    return table.loc[best].drop_duplicates(["dataset", "dialogue", "turn"]).sort_index()


def verified_rows(rows: pd.DataFrame, role: Role) -> pd.Series[bool]:
    """Say which texts count as verified: those with a human label, and drawn where the table says what was drawn."""
    found = rows[f"{role}_verified"].notna()
    if "inclusion_probability" in rows and rows["inclusion_probability"].notna().any():
        found = found & rows["inclusion_probability"].notna()
    return found


def uncovered(rows: pd.DataFrame, role: Role) -> tuple[pd.Series[bool], list[tuple[str | None, str | None]]]:
    """Say which texts lie in no data set or system with a verified text, and name these: (data set, system).

    A whole data set is named as (data set, `None`), a system without any verified text as (`None`, system), and a
    system that has one in another data set only as both.
    """
    parts = ["dataset", "system"] if role == "response" else ["dataset"]
    verified = verified_rows(rows, role)
    covered = verified.groupby([rows[name] for name in parts], sort=True).transform("any")
    names: list[tuple[str | None, str | None]] = []
    bare: dict[str, set[str]] = {}
    for name in parts:
        some = verified.groupby(rows[name], sort=True).any()
        bare[name] = {str(key) for key in some.index[~some.to_numpy(dtype=bool)]}
    names += [(dataset, None) for dataset in sorted(bare["dataset"])]
    names += [(None, system) for system in sorted(bare.get("system", ()))]
    for dataset, system in sorted({(str(a), str(b)) for a, b in rows.loc[~covered, ["dataset", "system"]].to_numpy()}):
        if role == "response" and dataset not in bare["dataset"] and system not in bare["system"]:
            names.append((dataset, system))
    return ~covered, names


def validate_texts(
    rows: pd.DataFrame,
    role: Role,
    options: MetricOptions,
    *,
    population: Sequence[int] | None = None,
    replicates: int = DEFAULT_REPLICATES,
    seed: int = 0,
    name: str = "validation",
) -> Validation:
    """Validate the classifier on texts of one role (`role_rows`), leaving out what `uncovered` names.

    Parameters
    ----------
    population
        Shape (7,), texts of each predicted label that the rows stand for, where the rows are not all of them.
    """
    outside, _ = uncovered(rows, role)
    held = rows[~outside]
    human = emotion_codes(held[f"{role}_verified"].astype(object))
    machine = emotion_codes(held[f"{role}_label"].astype(object))
    human = np.where(verified_rows(held, role).to_numpy(), human, -1).astype(np.int8)
    weights = confidences = None
    if "inclusion_probability" in held and held["inclusion_probability"].notna().any():
        chance = held["inclusion_probability"].to_numpy(dtype=float)
        weights = np.where(np.isfinite(chance), 1 / np.where(np.isfinite(chance), chance, 1.0), 1.0)
    if f"{role}_confidence" in held:
        confidences = pd.to_numeric(held[f"{role}_confidence"], errors="coerce").to_numpy(dtype=float)
    codes, _ = cluster_codes(held["dataset"], held["dialogue"]) if len(held) else (np.empty(0), [])
    return validate(
        human,
        machine,
        machine if population is None else np.repeat(np.arange(K), population),
        dialogues=codes,
        weights=weights,
        confidences=confidences,
        macro_f1=options.macro_f1,
        target=options.target,
        replicates=replicates,
        seed=seed,
        name=name,
        confidence=options.confidence,
    )
