"""Estimates from N classifier labels and n human labels.

Human-only estimates use the human labels alone, each weighted by the inverse of its inclusion probability (Hájek).
Corrected estimates add what the classifier's labels know about the turns nobody verified: theta = human(sample) +
lambda (classifier(all) - classifier(sample)), the difference estimator of survey sampling, equal to PPI++ with another
name for lambda. The truth is never taken from the classifier: with lambda = 0 it is the human-only estimate.

Two targets: `corpus` asks for the value on these very turns (finite population; all verified means no uncertainty),
`superpopulation` for the value on further dialogues like these.

Sources: Horvitz and Thompson 1952; Cochran 1977; Särndal, Swensson and Wretman 1992; Rao and Wu 1988; Angelopoulos,
Duchi and Zrnic 2023 (PPI++); Zrnic 2024 (PPBoot).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from evaluation.intervals import (
    DEFAULT_CONFIDENCE,
    FEW_CLUSTERS,
    Estimate,
    Interval,
    clip_interval,
    cluster_codes,
    cluster_weights,
    percentile_interval,
    rao_wu_weights,
    t_interval,
    undefined,
    wilson,
    z_interval,
)

Target = Literal["corpus", "superpopulation"]
MIN_LABELS: Final = 100
MIN_CLUSTERS: Final = 20
UNIT: Final = (0.0, 1.0)
SAME: Final = 1e-12

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Design:
    """How the n verified units came out of N: what every human-only and corrected estimate needs to know.

    Attributes
    ----------
    inclusion
        Shape (n,), inclusion probabilities after the adjustment for units that were drawn but have no label.
    dialogues
        Shape (n,), dialogue codes.
    population
        N, the units the sample speaks for.
    strata
        Shape (n,), stratum codes when units were drawn within strata, else `None`.
    """

    inclusion: Floats
    dialogues: NDArray[np.int64]
    population: int
    strata: NDArray[np.int64] | None = None

    @property
    def n(self) -> int:
        """Give the number of verified units."""
        return len(self.inclusion)

    @property
    def weights(self) -> Floats:
        """Shape (n,), inverse inclusion probabilities."""
        return 1.0 / self.inclusion

    @property
    def clusters(self) -> int:
        """Give the number of dialogues among the verified units."""
        return len(np.unique(self.dialogues))

    @property
    def unsampled_share(self) -> float:
        """Weighted mean of 1 - inclusion probability: the finite-population correction of a variance."""
        squares = self.weights**2
        return float(squares @ (1 - self.inclusion) / squares.sum()) if self.n else 1.0

    def where(self, rows: NDArray[np.bool_], population: int) -> Design:
        """Give the design of a part of the sample that speaks for `population` units; its weights stay as drawn."""
        strata = None if self.strata is None else self.strata[rows]
        return Design(self.inclusion[rows], self.dialogues[rows], population, strata)


def draw_design(
    dialogues: ArrayLike,
    *,
    population: int,
    inclusion: ArrayLike | None = None,
    strata: ArrayLike | None = None,
    stratum_sizes: Mapping[Any, int] | None = None,
) -> Design:
    """Describe a sample: from stored inclusion probabilities, else from stratum sizes, else as a simple random draw.

    Where the inverse probabilities add up to less than N, drawn units are missing their label; all probabilities are
    then lowered in proportion, so that the finite-population correction does not claim what was not seen.

    Parameters
    ----------
    dialogues
        Shape (n,), the dialogue of each verified unit.
    population
        N.
    inclusion
        Shape (n,), stored inclusion probabilities; NaN is refused.
    strata, stratum_sizes
        Shape (n,), the stratum of each unit, and N_h by stratum; used for weights only without `inclusion`.

    Raises
    ------
    ValueError
        When a probability is not in (0, 1], or a stratum has no size.
    """
    codes = cluster_codes(np.asarray(dialogues))[0] if len(np.asarray(dialogues)) else np.empty(0, dtype=np.int64)
    n = len(codes)
    h, names = cluster_codes(np.asarray(strata)) if strata is not None and n else (None, [])
    if inclusion is not None:
        chance = np.asarray(inclusion, dtype=float).copy()
    elif h is not None and stratum_sizes is not None:
        if unknown := [name for name in names if name not in stratum_sizes]:
            raise ValueError(f"These strata have no known size: {', '.join(map(str, unknown))}.")
        sizes = np.array([stratum_sizes[name] for name in names], dtype=float)
        chance = (np.bincount(h) / sizes)[h]
    else:
        chance = np.full(n, min(1.0, n / population) if population else 1.0)
    if not ((chance > 0) & (chance <= 1 + 1e-12)).all():
        raise ValueError("Inclusion probabilities must be above 0 and at most 1.")
    reach = float((1 / chance).sum()) if n else 0.0
    if 0 < reach < population:
        chance = chance * (reach / population)
    return Design(np.minimum(chance, 1.0), codes, population, h)


# --- means -----------------------------------------------------------------------------------------------------------


def _standard_error(residuals: Floats, design: Design, target: Target) -> tuple[float, float, str]:
    """Linearised standard error of sum w e / sum w, its degrees of freedom, and its name.

    Cluster totals z_d = sum w e over a dialogue, within strata where units were drawn within strata; each residual
    is scaled by sqrt(1 - inclusion) for the finite corpus. For a simple random sample of one unit per dialogue this is
    (1/n - 1/N) S².
    """
    scale = design.weights if target == "superpopulation" else design.weights * np.sqrt(1 - design.inclusion)
    total = float(design.weights.sum())
    if design.strata is None:
        sums = np.bincount(design.dialogues, weights=scale * residuals)
        sums = sums[np.bincount(design.dialogues) > 0]
        count = len(sums)
        variance = count / (count - 1) * float(sums @ sums)
        return math.sqrt(variance) / total, count - 1, "cluster-linearised"
    pooled, freedom, singles = 0.0, 0, []
    # In a domain, such as the turns without surprise, a stratum may have no unit left: it adds nothing.
    for h in np.unique(design.strata):
        rows = design.strata == h
        centred = residuals[rows] - residuals[rows].mean()
        _, place = np.unique(design.dialogues[rows], return_inverse=True)
        count = int(place.max()) + 1
        if count == 1:
            singles.append(float((scale[rows] ** 2).sum()))
            continue
        sums = np.bincount(place, weights=scale[rows] * centred)
        pooled += count / (count - 1) * float(sums @ sums)
        freedom += count - 1
    # A stratum with one dialogue says nothing of its own spread; the spread of the whole sample stands in.
    spread = float(np.var(residuals, ddof=1)) if len(residuals) > 1 else 0.0
    pooled += spread * sum(singles)
    return math.sqrt(pooled) / total, max(1, min(freedom, design.clusters - 1)), "stratified, cluster-linearised"


def human_mean(
    values: ArrayLike,
    design: Design,
    *,
    target: Target = "corpus",
    confidence: float = DEFAULT_CONFIDENCE,
    bounds: tuple[float, float] | None = None,
) -> Estimate:
    """Estimate a mean from human labels alone: theta = sum w y / sum w (Hájek), w = 1 / inclusion probability.

    SE² = D/(D-1) sum_d z_d² / (sum w)² with z_d = sum over dialogue d of w (y - theta); within strata where the design
    has them; times 1 - inclusion for the corpus target. Interval t(D-1), at most t of the strata's degrees of freedom.
    """
    return difference_mean(values, None, None, design, target=target, confidence=confidence, bounds=bounds, weight=0.0)


def stratified_mean(
    values: ArrayLike, strata: ArrayLike, sizes: Mapping[Any, int], *, confidence: float = DEFAULT_CONFIDENCE
) -> Estimate:
    """Estimate a corpus mean from independent simple random samples within strata (Cochran 1977, chapter 5).

    theta = sum (N_h/N) mean_h, V = sum (N_h/N)² (1 - n_h/N_h) s_h² / n_h, interval t(sum (n_h - 1)).
    """
    y = np.asarray(values, dtype=float)
    population = sum(sizes.values())
    design = draw_design(np.arange(len(y)), population=population, strata=strata, stratum_sizes=sizes)
    missing = [name for name in sizes if name not in set(np.asarray(strata).tolist())]
    estimate = human_mean(y, design, confidence=confidence)
    if not missing:
        return estimate
    return estimate.with_notes(f"no human label in stratum {', '.join(map(str, missing))}: it is not represented")


def difference_mean(
    human: ArrayLike,
    machine: ArrayLike | None,
    machine_all: ArrayLike | None,
    design: Design,
    *,
    dialogues_all: ArrayLike | None = None,
    target: Target = "corpus",
    confidence: float = DEFAULT_CONFIDENCE,
    bounds: tuple[float, float] | None = None,
    weight: float | None = None,
) -> Estimate:
    """Estimate a mean from n human and N classifier values: the difference (GREG, PPI++) estimator.

    theta = mean_s(y) + lambda (mean_N(f) - mean_s(f)), lambda = clip(Cov_s(y, f) / Var_s(f), 0, 1), all sample means
    Hájek. SE from the residuals y - lambda f, clustered and corrected for the finite corpus as in `human_mean`;
    interval t(min(D - 1, n - 2)). The superpopulation target adds S²(y)/N, times the design effect of f (with
    lambda = 0 it leaves the finite-population correction out instead).

    Parameters
    ----------
    human, machine
        Shape (n,), the quantity by human and by classifier labels on the verified units.
    machine_all
        Shape (N,), the quantity by classifier labels on all units, the verified among them.
    dialogues_all
        Shape (N,), for the design effect of the superpopulation target.
    weight
        A fixed lambda. By default it is estimated, and 0 below `MIN_LABELS` labels or `MIN_CLUSTERS` dialogues.
    """
    y = np.asarray(human, dtype=float)
    n = design.n
    if n == 0 or len(y) == 0:
        return undefined("no_data", n=0, method="human labels")
    if machine is None or machine_all is None:
        f, everywhere = np.zeros(n), np.zeros(1)
    else:
        f, everywhere = np.asarray(machine, dtype=float), np.asarray(machine_all, dtype=float)
    w = design.weights
    notes: list[str] = []
    factor = _mean_lambda(y, f, w, design, notes) if weight is None else weight
    centre = float(w @ y / w.sum())
    value = centre + factor * (float(everywhere.mean()) - float(w @ f / w.sum()))
    label = "difference estimator" if factor else "human labels"
    if design.clusters < 2:
        reason = "one_item" if n == 1 else "one_dialogue"
        return Estimate(value, n, reason=reason, method=label, clusters=design.clusters, notes=tuple(notes))
    residual = y - factor * f
    residual = residual - float(w @ residual / w.sum())
    se, df, how = _standard_error(residual, design, target)
    if target == "superpopulation" and factor:
        se = math.hypot(
            _standard_error(residual, design, "corpus")[0],
            _population_error(y - centre, w, everywhere, dialogues_all, design),
        )
    if factor and weight is None:
        df = max(1, min(df, n - 2))
        notes.append(f"lambda = {factor:.3f}")
    if design.clusters < FEW_CLUSTERS:
        notes.append("few clusters")
    known = target == "corpus" and design.unsampled_share == 0
    interval, why, shape = spread_interval(
        value, se, df, clusters=design.clusters, known=known, confidence=confidence, bounds=bounds
    )
    if bounds is not None:
        value = min(max(value, bounds[0]), bounds[1])
    method = f"{label}, {target}, {how}, {shape}"
    return Estimate(value, n, interval, se, why, method, design.clusters, tuple(notes))


def spread_interval(
    value: float,
    se: float,
    df: float,
    *,
    clusters: int,
    known: bool = False,
    confidence: float = DEFAULT_CONFIDENCE,
    bounds: tuple[float, float] | None = None,
) -> tuple[Interval | None, str | None, str]:
    """Give value +- t(df) SE; where the data show no spread, what can be said instead.

    A share without spread gets Wilson's interval with dialogues as trials; another statistic gets no interval and the
    reason `no_variation`: one of no width would be false. `known`: every unit was seen, no width is right.

    Returns
    -------
    tuple
        The interval or `None`, the reason or `None`, and its name for `method`.
    """
    if se > SAME or known:
        return clip_interval(t_interval(value, se, df, confidence), bounds), None, f"t({df:.0f})"
    if bounds == UNIT:
        share = min(max(value, 0.0), 1.0)
        return wilson(share * clusters, clusters, confidence), None, "no spread: Wilson by dialogue"
    return None, "no_variation", "no spread"


def _mean_lambda(y: Floats, f: Floats, w: Floats, design: Design, notes: list[str]) -> float:
    if reason := too_few(design.n, design.clusters):
        notes.append(reason)
        return 0.0
    yc, fc = y - w @ y / w.sum(), f - w @ f / w.sum()
    variance = float(w @ (fc * fc))
    return float(np.clip(float(w @ (yc * fc)) / variance, 0.0, 1.0)) if variance > 0 else 0.0


def too_few(n: int, clusters: int) -> str:
    """Say why lambda stays 0 with so few labels or dialogues; empty when it need not."""
    if n < MIN_LABELS:
        return f"lambda = 0 because n = {n} < {MIN_LABELS}"
    if clusters < MIN_CLUSTERS:
        return f"lambda = 0 because {clusters} dialogues < {MIN_CLUSTERS}"
    return ""


def _population_error(
    centred: Floats, w: Floats, everywhere: Floats, dialogues: ArrayLike | None, design: Design
) -> float:
    """Give sqrt(S²(y)/N), times the design effect of f where the dialogues of all units are known."""
    spread = float(w @ centred**2 / w.sum()) * design.n / max(1, design.n - 1)
    effect = 1.0
    if dialogues is not None and len(everywhere) > 1 and (variance := float(np.var(everywhere, ddof=1))) > 0:
        sums = np.bincount(cluster_codes(np.asarray(dialogues))[0], weights=everywhere - everywhere.mean())
        if len(sums) > 1:
            effect = len(sums) / (len(sums) - 1) * float(sums @ sums) / (len(everywhere) * variance)
    return math.sqrt(spread * effect / design.population)


def ppi_mean(
    human: ArrayLike,
    machine: ArrayLike,
    machine_unlabelled: ArrayLike,
    *,
    weight: float | None = None,
    confidence: float = DEFAULT_CONFIDENCE,
) -> Estimate:
    """Estimate a superpopulation mean from two disjoint sets: PPI++ (Angelopoulos, Duchi and Zrnic 2023).

    theta = lambda mean(f_u) + mean(y - lambda f), V = lambda² Var(f_u)/n_u + Var(y - lambda f)/n,
    lambda = Cov(y, f) / ((1 + n/n_u) Var f), normal interval. The variances of V and the covariance divide by n; Var f
    pools both sets and divides by n + n_u - 1, as the authors' library does.

    Parameters
    ----------
    human, machine
        Shape (n,), human and classifier values of the labelled set.
    machine_unlabelled
        Shape (n_u,), classifier values of the other set.
    weight
        A fixed lambda: 0 is the classical estimate, 1 is plain PPI.
    """
    y, f, u = (np.asarray(column, dtype=float) for column in (human, machine, machine_unlabelled))
    n, rest = len(y), len(u)
    if n == 0 or rest == 0:
        return undefined("no_data", n=n, method="PPI++")
    if n == 1:
        return undefined("one_item", n=1, method="PPI++")
    factor = weight
    if factor is None:
        spread = float(np.var(np.concatenate([f, u]), ddof=1))
        covariance = float(np.mean((y - y.mean()) * (f - f.mean())))
        factor = float(np.clip(covariance / ((1 + n / rest) * spread), 0.0, 1.0)) if spread > 0 else 0.0
    value = factor * float(u.mean()) + float((y - factor * f).mean())
    se = math.sqrt(factor**2 * float(np.var(u)) / rest + float(np.var(y - factor * f)) / n)
    interval = z_interval(value, se, confidence)
    return Estimate(value, n, interval, se, None, "PPI++, normal", None, (f"lambda = {factor:.10g}",))


# --- what is not a mean ----------------------------------------------------------------------------------------------


def replicate_weights(design: Design, replicates: int, seed: int, name: str) -> Iterator[Floats]:
    """Give blocks of replicate weights per verified unit, the design weights not yet multiplied in.

    Whole dialogues are resampled; where units were drawn within strata, units are resampled within them (Rao and Wu).

    Yields
    ------
    ndarray
        Shape (r, n).
    """
    if design.strata is not None:
        yield from rao_wu_weights(design.strata, replicates, seed, name=name)
        return
    _, place = np.unique(design.dialogues, return_inverse=True)
    for block in cluster_weights(int(place.max()) + 1, replicates, seed, name=name):
        yield block[:, place]


def human_replicates(
    value: float,
    replicates: Floats,
    design: Design,
    *,
    target: Target = "corpus",
    population_se: float = 0.0,
    confidence: float = DEFAULT_CONFIDENCE,
    bounds: tuple[float, float] | None = UNIT,
) -> Estimate:
    """Estimate phi(y_s) from the human labels alone and its bootstrap replicates; see `corrected_replicates`."""
    return corrected_replicates(
        value,
        replicates,
        None,
        None,
        None,
        design,
        target=target,
        population_se=population_se,
        confidence=confidence,
        bounds=bounds,
    )


def corrected_replicates(
    human: float,
    human_draws: Floats,
    machine: float | None,
    machine_draws: Floats | None,
    machine_all: float | None,
    design: Design,
    *,
    target: Target = "corpus",
    population_se: float = 0.0,
    confidence: float = DEFAULT_CONFIDENCE,
    bounds: tuple[float, float] | None = UNIT,
) -> Estimate:
    """Correct any statistic phi of counts (flatness, F1, macro-F1, kappa): the bootstrap form (PPBoot, Zrnic 2024).

    theta = phi(y_s) + lambda (phi(f_N) - phi(f_s)), lambda = clip(Cov*(phi(y_s), phi(f_s)) / Var*(phi(f_s)), 0, 1) over
    the same resamples, SE = sd*(phi(y_s) - lambda phi(f_s)), times the finite-population correction for the corpus
    target; interval theta +- t(D-1) SE.

    Parameters
    ----------
    human, human_draws
        phi of the human labels of the sample, and shape (R,) its replicates.
    machine, machine_draws, machine_all
        phi of the classifier labels of the same sample, its replicates, and phi of the classifier on all N; `None` for
        the human-only estimate.
    population_se
        Standard error of phi over dialogues when all turns are used, added for the superpopulation target.
    """
    n, clusters = design.n, design.clusters
    if n == 0:
        return undefined("no_data", method="human labels")
    if not math.isfinite(human):
        return undefined("no_data", n=n, method="human labels", clusters=clusters)
    if clusters < 2:
        reason = "one_item" if n == 1 else "one_dialogue"
        return Estimate(human, n, reason=reason, method="human labels", clusters=clusters)
    notes: list[str] = []
    defined = np.isfinite(human_draws)
    usable = machine is not None and machine_all is not None and machine_draws is not None
    usable = usable and math.isfinite(machine or 0.0) and math.isfinite(machine_all or 0.0)
    factor = 0.0
    if usable and machine_draws is not None:
        both = defined & np.isfinite(machine_draws)
        if reason := too_few(n, clusters):
            notes.append(reason)
        else:
            factor = replicate_lambda(human_draws[both], machine_draws[both])
        defined = both if factor else defined
    if defined.sum() < max(2, len(human_draws) / 2):
        return Estimate(human, n, reason="unstable", method="human labels", clusters=clusters, notes=tuple(notes))
    if missing := int(len(human_draws) - defined.sum()):
        notes.append(f"undefined in {missing} of {len(human_draws)} resamples, left out")
    residual = human_draws[defined].copy()
    value = human
    if factor and machine_draws is not None and machine is not None and machine_all is not None:
        residual -= factor * machine_draws[defined]
        value += factor * (machine_all - machine)
        notes.append(f"lambda = {factor:.3f}")
    se = float(np.std(residual, ddof=1)) * math.sqrt(design.unsampled_share)
    if target == "superpopulation":
        se = math.hypot(se, population_se)
    if clusters < FEW_CLUSTERS:
        notes.append("few clusters")
    # bounds are given apart: a flatness of 0 without spread is no share for Wilson's interval.
    known = target == "corpus" and design.unsampled_share == 0
    interval, why, shape = spread_interval(
        value, se, clusters - 1, clusters=clusters, known=known, confidence=confidence
    )
    interval = clip_interval(interval, bounds)
    if bounds is not None:
        value = min(max(value, bounds[0]), bounds[1])
    label = "difference estimator" if factor else "human labels"
    unit = "dialogue" if design.strata is None else "Rao-Wu"
    method = f"{label}, {target}, {unit} bootstrap SE, {shape}, {len(human_draws)}"
    return Estimate(value, n, interval, se, why, method, clusters, tuple(notes))


def replicate_lambda(human: Floats, machine: Floats) -> float:
    """Give lambda = clip(Cov*/Var*, 0, 1) from replicates (R,) of a statistic by human and by classifier labels."""
    if len(human) < 2 or (variance := float(np.var(machine, ddof=1))) <= 0:
        return 0.0
    return float(np.clip(float(np.cov(human, machine, ddof=1)[0, 1]) / variance, 0.0, 1.0))


def percentile_estimate(
    value: float, draws: Floats, *, n: int, clusters: int, method: str, confidence: float = DEFAULT_CONFIDENCE
) -> Estimate:
    """Give a value with the percentile interval of its draws, undefined ones left out; no interval if most are."""
    if not math.isfinite(value):
        return undefined("no_data", n=n, method=method, clusters=clusters)
    interval = percentile_interval(draws, confidence)
    if interval is None:
        return Estimate(value, n, reason="unstable", method=method, clusters=clusters)
    spread = float(np.std(draws[np.isfinite(draws)], ddof=1))
    return Estimate(value, n, interval, spread, None, method, clusters)
