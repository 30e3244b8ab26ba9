"""How many labels a question takes: sizes for a wished precision, how many more, and valid looks on the way.

n0 = z² S² (1 - rho²) deff / x², n = n0 / (1 + n0 / N) for half-width x (Cochran 1977, section 4.6), with rho the
correlation of the human with the classifier's indicator when the corrected estimator is used, and deff = 1 + (m-1) ICC
when whole dialogues of m turns are drawn (Kish 1965). Looking before the planned size is valid with the asymptotic
confidence sequence of Waudby-Smith, Arbour, Sinha, Kennedy and Ramdas (2024) only.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from evaluation.coefficients import cohen_standard_error
from evaluation.intervals import (
    DEFAULT_CONFIDENCE,
    Estimate,
    Interval,
    cluster_codes,
    seed_sequence,
    t_interval,
    undefined,
)
from evaluation.sampling import allocate

Floats = NDArray[np.float64]
AllocatedDesign = Literal["simple", "proportional", "half", "equal"]
MIN_FOR_STOPPING: Final = 100
FEWEST_SIMULATED: Final = 20
MOST_SIMULATED: Final = 50_000


# --- the spread of one observation -----------------------------------------------------------------------------------


def proportion_variance(p: float) -> float:
    """Give p (1-p): alignment, accuracy, prevalence. Raises `ValueError` unless 0 <= p <= 1."""
    if not 0 <= p <= 1:
        raise ValueError(f"A proportion lies between 0 and 1, got {p}.")
    return p * (1 - p)


def flatness_variance(shares: ArrayLike) -> float:
    """Give n times the variance of flatness H / log2 K: (sum p log2² p - H²) / log2² K (delta method, Miller 1955).

    Raises
    ------
    ValueError
        For fewer than two classes, or shares that do not sum to 1.
    """
    p = np.asarray(shares, dtype=float)
    if len(p) < 2 or (p < 0).any() or abs(p.sum() - 1) > 1e-6:
        raise ValueError("Flatness needs the shares of two or more classes, summing to 1.")
    logs = np.log2(np.where(p > 0, p, 1.0))
    entropy = -float(p @ logs)
    return (float(p @ logs**2) - entropy**2) / math.log2(len(p)) ** 2


def kappa_variance(kappa: float, chance: float) -> float:
    """Give n times the simple variance of kappa, p_a (1-p_a) / (1-p_e)² with p_a = p_e + kappa (1-p_e) (Cohen 1960)."""
    if not 0 <= chance < 1 or not -1 <= kappa <= 1:
        raise ValueError(f"kappa lies between -1 and 1 and chance agreement in [0, 1), got {kappa} and {chance}.")
    observed = chance + kappa * (1 - chance)
    return proportion_variance(min(1.0, max(0.0, observed))) / (1 - chance) ** 2


def pilot_kappa_variance(table: ArrayLike, weights: ArrayLike | None = None) -> float | None:
    """Give n times the variance of (weighted) kappa in a pilot's cross-table (Fleiss, Cohen and Everitt 1969)."""
    counts = np.asarray(table, dtype=float)
    se = cohen_standard_error(counts, np.eye(len(counts)) if weights is None else np.asarray(weights, dtype=float))
    return None if se is None else float(counts.sum()) * se**2


def design_effect(values: ArrayLike, clusters: Sequence[Any]) -> tuple[float, float]:
    """Estimate (deff, ICC) of drawing whole dialogues: deff = 1 + (m-1) ICC, ICC by one-way analysis of variance.

    m is the mean size weighted by size; a negative ICC counts as 0. (1, 0) when there is nothing to tell from.
    """
    y = np.asarray(values, dtype=float)
    codes, names = cluster_codes(clusters)
    sizes = np.bincount(codes).astype(float)
    n, d = float(len(y)), len(names)
    if d < 2 or n <= d or np.ptp(y) == 0:
        return 1.0, 0.0
    means = np.bincount(codes, weights=y) / sizes
    between = float((sizes * (means - y.mean()) ** 2).sum()) / (d - 1)
    within = float(((y - means[codes]) ** 2).sum()) / (n - d)
    typical = (n - float((sizes**2).sum()) / n) / (d - 1)
    icc = max(0.0, (between - within) / (between + (typical - 1) * within))
    return 1.0 + (float((sizes**2).sum()) / n - 1.0) * icc, icc


# --- sizes -----------------------------------------------------------------------------------------------------------


def sample_size(
    half_width: float,
    variance: float,
    *,
    rho: float = 0.0,
    deff: float = 1.0,
    population: int | None = None,
    confidence: float = DEFAULT_CONFIDENCE,
) -> int:
    """Give the number of verified labels for an interval of value +- `half_width`.

    Parameters
    ----------
    half_width
        x, in the units of the metric.
    variance
        S², the variance of one observation (`proportion_variance` and its like).
    rho
        Correlation of human and classifier indicator; 0 for the human-only estimate.
    deff
        Design effect.
    population
        N for "this corpus"; `None` for the dialogues in general.

    Raises
    ------
    ValueError
        When a number is out of its range.
    """
    if not half_width > 0 or not variance >= 0 or not -1 <= rho <= 1 or not deff > 0:
        raise ValueError("A plan needs half_width > 0, variance >= 0, rho in [-1, 1] and deff > 0.")
    _check_population(population)
    needed = _z(confidence) ** 2 * variance * (1 - rho**2) * deff / half_width**2
    if population is not None:
        needed = needed / (1 + needed / population)
    # the ceiling of 350.0000000001 is 350
    return max(1, math.ceil(needed - 1e-9))


def expected_half_width(
    n: int,
    variance: float,
    *,
    rho: float = 0.0,
    deff: float = 1.0,
    population: int | None = None,
    confidence: float = DEFAULT_CONFIDENCE,
) -> float:
    """Give the half-width that n verified labels reach: `sample_size` the other way round."""
    if n < 1 or not variance >= 0 or not -1 <= rho <= 1 or not deff > 0:
        raise ValueError("A plan needs n >= 1, variance >= 0, rho in [-1, 1] and deff > 0.")
    _check_population(population)
    share = 1 / n - (1 / population if population is not None else 0.0)
    return _z(confidence) * math.sqrt(variance * (1 - rho**2) * deff * max(0.0, share))


def how_many_more(n_now: int, half_now: float, half_width: float, population: int | None = None) -> int:
    """Give how many more labels shrink the half-width from `half_now` to `half_width`: n_now ((h/x)² - 1).

    With a finite population the half-width shrinks as sqrt(1/n - 1/N). Never negative.
    """
    if n_now < 1 or not half_now >= 0 or not half_width > 0:
        raise ValueError("How many more needs n_now >= 1, half_now >= 0 and half_width > 0.")
    if half_now <= half_width:
        return 0
    ratio = (half_now / half_width) ** 2
    if population is None:
        return max(0, math.ceil(n_now * (ratio - 1) - 1e-9))
    if n_now >= population:
        return 0
    share = (1 / n_now - 1 / population) / ratio + 1 / population
    return min(population - n_now, max(0, math.ceil(1 / share - n_now - 1e-9)))


def detectable_difference(
    n: int,
    variance: float,
    *,
    rho: float = 0.0,
    deff: float = 1.0,
    population: int | None = None,
    power: float = 0.8,
    confidence: float = DEFAULT_CONFIDENCE,
) -> float:
    """Give the smallest true value of a mean that is told from 0 with `power`.

    (z + z_power) sqrt(S² (1-rho²) deff (1/n - 1/N)), 1/N being 0 without a finite population. For two systems on the
    same turns S² is the variance of the turn-wise difference; on different turns (n each) the sum of both variances.
    """
    if not 0 < power < 1:
        raise ValueError(f"A detectable difference needs a power between 0 and 1, got {power}.")
    half = expected_half_width(n, variance, rho=rho, deff=deff, population=population, confidence=confidence)
    return half * (1 + float(special.ndtri(power)) / _z(confidence))


def macro_f1_half_width(
    confusion: ArrayLike,
    n: int,
    design: AllocatedDesign = "half",
    *,
    minimum: int = 10,
    replications: int = 400,
    seed: int = 0,
    confidence: float = DEFAULT_CONFIDENCE,
) -> float:
    """Simulate the half-width of macro-F1 of a classifier verified on n texts, post-stratified by predicted label.

    Parameters
    ----------
    confusion
        Shape (K, K), a pilot's counts or shares: rows predicted, columns human label.
    design
        `simple` random, or stratified by predicted label.

    Returns
    -------
    float
        z x the standard deviation over the replications.

    Raises
    ------
    ValueError
        When the confusion is no square of counts, or n is below 1.
    """
    joint = np.asarray(confusion, dtype=float)
    square = joint.ndim == 2 and joint.shape[0] == joint.shape[1]
    if not square or not np.isfinite(joint).all() or (joint < 0).any() or joint.sum() <= 0 or n < 1:
        raise ValueError("Planning macro-F1 needs n >= 1 and a square of counts that are not negative nor all 0.")
    joint = joint / joint.sum()
    predicted = joint.sum(axis=1)
    truth = np.divide(joint, predicted[:, None], out=np.full_like(joint, 1 / len(joint)), where=predicted[:, None] > 0)
    rng = np.random.default_rng(seed_sequence(seed, f"macro-f1:{design}"))
    many = np.full(len(predicted), n, dtype=np.int64) * (predicted > 0)
    wish = {"proportional": predicted, "equal": (predicted > 0) / (predicted > 0).sum()}
    wish["half"] = (wish["proportional"] + wish["equal"]) / 2
    fixed = None if design == "simple" else allocate(many, n, wish[design], minimum)
    scores = []
    for _ in range(replications):
        sizes = rng.multinomial(n, predicted) if fixed is None else fixed
        drawn = np.stack([rng.multinomial(size, row) for size, row in zip(sizes, truth, strict=True)])
        within = np.divide(drawn, sizes[:, None], out=np.zeros_like(joint), where=sizes[:, None] > 0)
        scores.append(_macro_f1(within * predicted[:, None]))
    return _z(confidence) * float(np.std(scores, ddof=1))


def macro_f1_sample_size(
    half_width: float,
    confusion: ArrayLike,
    design: AllocatedDesign = "half",
    *,
    population: int | None = None,
    seed: int = 0,
    confidence: float = DEFAULT_CONFIDENCE,
) -> int:
    """Give the number of verified texts for macro-F1 +- `half_width`, by simulation of `macro_f1_half_width`.

    The half-width falls about as 1 / sqrt(n), so a few steps n <- n (h(n) / x)² settle; n is good to some percent.
    With a finite population n becomes n / (1 + n / N), as in `sample_size`.

    Raises
    ------
    ValueError
        When the half-width is not above 0, and as `macro_f1_half_width`.
    """
    if not half_width > 0:
        raise ValueError("A plan needs half_width > 0.")
    _check_population(population)
    n = 200
    for _ in range(4):
        reached = macro_f1_half_width(confusion, n, design, seed=seed, confidence=confidence)
        n = min(MOST_SIMULATED, max(FEWEST_SIMULATED, math.ceil(n * (reached / half_width) ** 2)))
    return n if population is None else max(1, math.ceil(n / (1 + n / population)))


def assumed_confusion(shares: ArrayLike, accuracy: float) -> Floats:
    """Give P(predicted = row, human = column) of a classifier that is right in `accuracy` of every predicted label.

    Its errors fall on the other labels in proportion to their shares: a guess to plan with until there is a pilot.

    Parameters
    ----------
    shares
        Shape (K,), shares of the predicted labels.
    """
    p = np.asarray(shares, dtype=float)
    if (p < 0).any() or p.sum() <= 0 or not 0 < accuracy <= 1:
        raise ValueError("A guess at the confusion needs shares that are not negative and an accuracy in (0, 1].")
    p = p / p.sum()
    others = np.tile(p, (len(p), 1))
    np.fill_diagonal(others, 0.0)
    rest = others.sum(axis=1, keepdims=True)
    others = np.divide(others, rest, out=np.zeros_like(others), where=rest > 0)
    within = accuracy * np.eye(len(p)) + (1 - accuracy) * others
    return np.asarray(p[:, None] * within)


def weighting_effect(inclusion: ArrayLike) -> float:
    """Give n sum w² / (sum w)², w = 1 / inclusion: what unequal weights cost at most (Kish 1965); 1 for equal ones."""
    w = 1.0 / np.asarray(inclusion, dtype=float)
    return float(len(w) * (w @ w) / w.sum() ** 2) if len(w) else 1.0


def _macro_f1(joint: Floats) -> float:
    support = joint.sum(axis=0) + joint.sum(axis=1)
    return float(np.mean(2 * np.diag(joint)[support > 0] / support[support > 0]))


def _check_population(population: int | None) -> None:
    if population is not None and population < 1:
        raise ValueError(f"A population holds one turn or more, got {population}; leave it out where it is endless.")


def _z(confidence: float) -> float:
    if not 0 < confidence < 1:
        raise ValueError(f"The confidence lies between 0 and 1, got {confidence}.")
    return float(special.ndtri((1 + confidence) / 2))


# --- looking on the way ----------------------------------------------------------------------------------------------


def confidence_sequence_half_width(n: int, sd: float, planned_n: int, confidence: float = DEFAULT_CONFIDENCE) -> float:
    """Give the half-width at n of the asymptotic confidence sequence that is tightest at `planned_n`.

    s sqrt(2 (n rho² + 1) / (n² rho²) log(sqrt(n rho² + 1) / alpha)), rho² = (-2 ln alpha + ln(-2 ln alpha) + 1) / t*
    (Waudby-Smith et al. 2024, theorem 2.2 and appendix). Valid at every look together, once n is not tiny.
    """
    if n < 1 or planned_n < 1 or sd < 0:
        raise ValueError("A confidence sequence needs n >= 1, planned_n >= 1 and sd >= 0.")
    alpha = 1 - confidence
    rho2 = (-2 * math.log(alpha) + math.log(-2 * math.log(alpha)) + 1) / planned_n
    scale = n * rho2 + 1
    return sd * math.sqrt(2 * scale / (n * n * rho2) * math.log(math.sqrt(scale) / alpha))


@dataclass(frozen=True, slots=True)
class Look:
    """One look at growing data against its plan.

    Attributes
    ----------
    estimate
        The mean with the interval that `mode` allows.
    number
        Which look this is, from 1.
    planned_n
        The size fixed beforehand.
    fixed, always
        The fixed-size interval, valid at the planned size only, and the one valid at every look.
    """

    estimate: Estimate
    number: int
    planned_n: int
    fixed: Interval | None
    always: Interval | None

    def to_json(self) -> dict[str, Any]:
        """Give a plain mapping."""
        return {
            "estimate": self.estimate.to_json(),
            "look": self.number,
            "planned_n": self.planned_n,
            "fixed_interval": self.fixed,
            "always_valid_interval": self.always,
        }


def look(
    values: ArrayLike,
    planned_n: int,
    looks_before: int,
    *,
    mode: Literal["planned", "monitor"] = "planned",
    confidence: float = DEFAULT_CONFIDENCE,
) -> Look:
    """Look at the mean of growing data, with the interval that the plan allows.

    `planned` gives the fixed-size interval and says when the data are not (yet) of the planned size and how often they
    were looked at; `monitor` gives the confidence sequence, valid however often one looks and whenever one stops.

    Parameters
    ----------
    values
        Shape (n,): observations, or influence values of any linearised estimator around its value (such as
        y - lambda f, or one per dialogue).
    planned_n, looks_before
        The plan, and how many looks there were before this one (kept by the caller).
    """
    y = np.asarray(values, dtype=float).ravel()
    n, number = len(y), looks_before + 1
    if n == 0:
        return Look(undefined("no_data"), number, planned_n, None, None)
    mean = float(y.mean())
    if n < 2:
        return Look(Estimate(mean, n, reason="one_item"), number, planned_n, None, None)
    sd = float(y.std(ddof=1))
    if sd == 0:
        return Look(Estimate(mean, n, se=0.0, reason="no_variation"), number, planned_n, None, None)
    se = sd / math.sqrt(n)
    fixed = t_interval(mean, se, n - 1, confidence)
    half = confidence_sequence_half_width(n, sd, planned_n, confidence)
    always = (mean - half, mean + half)
    notes = [f"look {number}", f"planned n {planned_n}"]
    if mode == "monitor":
        if n < MIN_FOR_STOPPING:
            notes.append(f"the sequence is asymptotic: do not stop below n = {MIN_FOR_STOPPING}")
        method = f"asymptotic confidence sequence, t* = {planned_n}"
        return Look(Estimate(mean, n, always, se, None, method, None, tuple(notes)), number, planned_n, fixed, always)
    if n < planned_n:
        notes.append("before the planned n: no significance from this interval")
    method = f"fixed n, t({n - 1})"
    return Look(Estimate(mean, n, fixed, se, None, method, None, tuple(notes)), number, planned_n, fixed, always)
