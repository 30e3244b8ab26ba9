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
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from evaluation.design import Design, Frame, draw_design
from evaluation.intervals import (
    DEFAULT_CONFIDENCE,
    FEW_CLUSTERS,
    MIN_DEFINED_SHARE,
    Estimate,
    Interval,
    clip_interval,
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
FIRM_LABELS: Final = 600
"""Below so many labels, intervals of F1 and macro-F1 cover less than they say."""
FRAGILE: Final = f"n < {FIRM_LABELS}: intervals that hang on rare emotions cover less than they say"
ALONE: Final = "lambda = 0"
"""The note of a corrected estimate that is the human-only one."""
UNIT: Final = (0.0, 1.0)
SAME: Final = 1e-12

Floats = NDArray[np.float64]


# --- means -----------------------------------------------------------------------------------------------------------


def _standard_error(
    residuals: Floats, design: Design, target: Target, machine_all: Floats | None = None
) -> tuple[float, float, str]:
    """Linearised standard error of sum w e / sum w, its degrees of freedom, and its name.

    Corpus: cluster totals z_d = sum w e over a dialogue, within strata where units were drawn within strata; each
    residual is scaled by sqrt(1 - inclusion). For a simple random sample of one unit per dialogue this is (1/n - 1/N)
    S². Superpopulation: see `_population_totals`.

    Parameters
    ----------
    residuals
        Shape (n,), y - lambda f less its weighted mean.
    machine_all
        Shape (N,), lambda f on all units, for the superpopulation; `None` for human labels alone.
    """
    if target == "superpopulation":
        totals = _population_totals(residuals, design, machine_all)
        count = design.clusters
        return math.sqrt(count / (count - 1) * float(totals @ totals)), count - 1, "cluster-linearised"
    scale = design.weights * np.sqrt(1 - design.inclusion)
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


def _population_totals(residuals: Floats, design: Design, machine_all: Floats | None) -> Floats:
    """Give each dialogue's total influence u_d on the estimate for further dialogues, shape (D,) or less.

    u_d = sum over its sampled units of w e / sum w, plus sum over all its units of (lambda f - mean) / N: what its
    units add through the sample and through the classifier's mean. With every unit verified lambda f cancels. Where
    strata are known for every unit, e is centred within strata and the strata's means are added over all units of the
    dialogue: the stratified draw added no variance between strata, the dialogues do. Otherwise e stays centred over the
    whole sample, which is wider than it need be.
    """
    w = design.weights
    frame = design.frame
    size = int(design.dialogues.max()) + 1 if frame is None else int(frame.dialogues.max()) + 1
    centred = residuals
    totals = np.zeros(size)
    if frame is not None and frame.strata is not None and design.strata is not None:
        means = _stratum_means(residuals, w, design.strata, frame.strata)
        centred = residuals - means[0]
        totals += np.bincount(frame.dialogues, weights=means[1] - means[1].mean(), minlength=size) / len(means[1])
    totals += np.bincount(design.dialogues, weights=w * centred, minlength=size) / w.sum()
    if machine_all is None:
        return totals
    part = (machine_all - machine_all.mean()) / len(machine_all)
    if frame is None:
        # Without the dialogues of all units the two parts are taken as independent, each unit on its own.
        return np.concatenate([totals, part])
    return totals + np.bincount(frame.dialogues, weights=part, minlength=size)


def _stratum_means(
    residuals: Floats, w: Floats, strata: NDArray[np.int64], everywhere: NDArray[np.int64]
) -> tuple[Floats, Floats]:
    """Give the weighted mean of its stratum's residuals for each sampled unit, and for each unit of the frame."""
    size = int(max(strata.max(), everywhere.max())) + 1
    weight = np.bincount(strata, weights=w, minlength=size)
    total = np.bincount(strata, weights=w * residuals, minlength=size)
    mean = np.divide(total, weight, out=np.zeros(size), where=weight > 0)
    return mean[strata], mean[everywhere]


def human_mean(
    values: ArrayLike,
    design: Design,
    *,
    target: Target = "corpus",
    confidence: float = DEFAULT_CONFIDENCE,
    bounds: tuple[float, float] | None = None,
    rare: bool = False,
) -> Estimate:
    """Estimate a mean from human labels alone: theta = sum w y / sum w (Hájek), w = 1 / inclusion probability.

    SE² = D/(D-1) sum_d z_d² / (sum w)² with z_d = sum over dialogue d of w (y - theta); within strata where the design
    has them; times 1 - inclusion for the corpus target. Interval t(D-1), at most t of the strata's degrees of freedom.
    """
    settings: dict[str, Any] = {"target": target, "confidence": confidence, "bounds": bounds, "rare": rare}
    return difference_mean(values, None, None, design, weight=0.0, **settings)


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
    target: Target = "corpus",
    confidence: float = DEFAULT_CONFIDENCE,
    bounds: tuple[float, float] | None = None,
    weight: float | None = None,
    rare: bool = False,
) -> Estimate:
    """Estimate a mean from n human and N classifier values: the difference (GREG, PPI++) estimator.

    theta = mean_s(y) + lambda (mean_N(f) - mean_s(f)), lambda = clip(Cov_s(y, f) / Var_s(f), 0, 1), all sample means
    Hájek. SE from the residuals y - lambda f, clustered and corrected for the finite corpus as in `human_mean`;
    interval t(min(D - 1, n - 2)). For the superpopulation each dialogue's total counts what its units add through the
    sample and through mean_N(f) (`_population_totals`).

    Parameters
    ----------
    human, machine
        Shape (n,), the quantity by human and by classifier labels on the verified units.
    machine_all
        Shape (N,), the quantity by classifier labels on all units, the verified among them.
    weight
        A fixed lambda. By default it is estimated, and 0 below `MIN_LABELS` labels or `MIN_CLUSTERS` dialogues.
    rare
        The values are 0 and 1 and may be nearly all 0: SE is made up for what so few hits cannot show (`_unseen`), and
        the interval is Wilson's with the effective number of trials theta (1 - theta) / SE².
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
    notes: list[str] = list(design.notes)
    factor = _mean_lambda(y, f, w, design, notes) if weight is None else weight
    centre = float(w @ y / w.sum())
    value = centre + factor * (float(everywhere.mean()) - float(w @ f / w.sum()))
    label = "difference estimator" if factor else "human labels"
    if design.clusters < 2:
        reason = "one_item" if n == 1 else "one_dialogue"
        return Estimate(value, n, reason=reason, method=label, clusters=design.clusters, notes=tuple(notes))
    residual = y - factor * f
    residual = residual - float(w @ residual / w.sum())
    se, df, how = _standard_error(residual, design, target, factor * everywhere if factor else None)
    if rare and se > SAME:
        se = math.hypot(se, _unseen(y, f if factor else np.zeros(n), design))
    if factor and weight is None:
        df = max(1, min(df, n - 2))
        notes.append(f"lambda = {factor:.3f}")
    if design.clusters < FEW_CLUSTERS:
        notes.append("few clusters")
    known = target == "corpus" and design.unsampled_share == 0
    interval, why, shape = spread_interval(
        value, se, df, clusters=design.clusters, known=known, confidence=confidence, bounds=bounds, rare=rare
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
    rare: bool = False,
) -> tuple[Interval | None, str | None, str]:
    """Give value +- t(df) SE; where the data show no spread, what can be said instead.

    A share without spread gets Wilson's interval with dialogues as trials; another statistic gets no interval and the
    reason `no_variation`: one of no width would be false. `known`: every unit was seen, no width is right. `rare`: a
    share that may be near 0 or 1 gets Wilson's interval with the effective number of trials value (1 - value) / SE².

    Returns
    -------
    tuple
        The interval or `None`, the reason or `None`, and its name for `method`.
    """
    if rare and se > SAME and 0 < value < 1:
        trials = value * (1 - value) / se**2
        return wilson(value * trials, trials, confidence, df=df), None, f"Wilson, t({df:.0f}), {trials:.0f} effective"
    if se > SAME or known:
        return clip_interval(t_interval(value, se, df, confidence), bounds), None, f"t({df:.0f})"
    if bounds == UNIT:
        share = min(max(value, 0.0), 1.0)
        return wilson(share * clusters, clusters, confidence), None, "no spread: Wilson by dialogue"
    return None, "no_variation", "no spread"


def _unseen(y: Floats, f: Floats, design: Design) -> float:
    """Give the error that a share's residuals do not show because hits are rare.

    A stratum in which none of n_g units is a hit seems to vary by nothing, though its share may well be 1 / n_g. Within
    each stratum and classifier label, with W_g its share of the weights and p_g of k_g in n_g, the variance is made up
    to that of (k_g + 1/2) / (n_g + 1): sqrt(sum_g W_g² (1 - inclusion) (v(k_g + 1/2, n_g + 1) - v(k_g, n_g)) / n_g)
    where that is positive, v(k, n) = k/n (1 - k/n).
    """
    strata = np.zeros(design.n, dtype=np.int64) if design.strata is None else design.strata
    _, group = np.unique(strata * 2 + (f > 0), return_inverse=True)
    n, k = np.bincount(group).astype(float), np.bincount(group, weights=y)
    share = np.bincount(group, weights=design.weights) / design.weights.sum()
    left = np.bincount(group, weights=1 - design.inclusion) / n
    seen, likely = k / n, (k + 0.5) / (n + 1)
    missing = np.maximum(likely * (1 - likely) - seen * (1 - seen), 0.0)
    return math.sqrt(float(share**2 @ (left * missing / n)))


def _mean_lambda(y: Floats, f: Floats, w: Floats, design: Design, notes: list[str]) -> float:
    if reason := too_few(design):
        notes.append(reason)
        return 0.0
    yc, fc = y - w @ y / w.sum(), f - w @ f / w.sum()
    variance = float(w @ (fc * fc))
    return float(np.clip(float(w @ (yc * fc)) / variance, 0.0, 1.0)) if variance > 0 else 0.0


def too_few(design: Design) -> str:
    """Say why lambda stays 0 with so few labels or dialogues; empty when it need not."""
    if design.n < MIN_LABELS:
        return f"lambda = 0 because n = {design.n} < {MIN_LABELS}"
    if (effective := round(design.effective)) < MIN_LABELS:
        return f"lambda = 0 because n = {design.n} weighs as {effective} < {MIN_LABELS}"
    if design.clusters < MIN_CLUSTERS:
        return f"lambda = 0 because {design.clusters} dialogues < {MIN_CLUSTERS}"
    return ""


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


def replicate_weights(
    design: Design, replicates: int, seed: int, name: str, *, target: Target = "corpus"
) -> Iterator[Floats]:
    """Give blocks of replicate weights per verified unit, the design weights not yet multiplied in.

    Corpus: whole dialogues are resampled, or units within strata where they were drawn so (Rao and Wu 1988); a unit's
    weight a then counts 1 + sqrt(1 - inclusion) (a - 1), which gives means the variance of `_standard_error` and leaves
    units that were certain to be drawn as they are. Superpopulation: all dialogues of the frame are resampled, the same
    ones as by `evaluation.counts.resample` under the same seed and name; where strata are known for every unit, the
    sample's weights in a stratum are scaled to the units that the resample has in it.

    Yields
    ------
    ndarray
        Shape (r, n).
    """
    frame = design.frame
    if target == "superpopulation" and frame is not None:
        yield from _population_weights(design, frame, replicates, seed, name)
        return
    shrink = np.sqrt(1 - design.inclusion) if target == "corpus" else np.ones(design.n)
    if design.strata is not None:
        for block in rao_wu_weights(design.strata, replicates, seed, name=name):
            yield 1 + shrink * (block - 1)
        return
    _, place = np.unique(design.dialogues, return_inverse=True)
    for block in cluster_weights(int(place.max()) + 1, replicates, seed, name=name):
        yield 1 + shrink * (block[:, place] - 1)


def _population_weights(design: Design, frame: Frame, replicates: int, seed: int, name: str) -> Iterator[Floats]:
    size = int(frame.dialogues.max()) + 1
    by_stratum = own = None
    if frame.strata is not None and design.strata is not None:
        strata = int(max(frame.strata.max(), design.strata.max())) + 1
        by_stratum = np.zeros((size, strata))
        np.add.at(by_stratum, (frame.dialogues, frame.strata), 1.0)
        own = np.zeros((design.n, strata))
        own[np.arange(design.n), design.strata] = design.weights
    for block in cluster_weights(size, replicates, seed, name=name):
        drawn = block[:, design.dialogues]
        if by_stratum is None or own is None:
            yield drawn
            continue
        held = drawn @ own
        scale = np.divide(block @ by_stratum, held, out=np.ones_like(held), where=held > 0)
        yield drawn * scale[:, design.strata]


def human_replicates(
    value: float,
    replicates: Floats,
    design: Design,
    *,
    target: Target = "corpus",
    confidence: float = DEFAULT_CONFIDENCE,
    bounds: tuple[float, float] | None = UNIT,
) -> Estimate:
    """Estimate phi(y_s) from the human labels alone and its bootstrap replicates; see `corrected_replicates`."""
    settings: dict[str, Any] = {"target": target, "confidence": confidence, "bounds": bounds}
    return corrected_replicates(value, replicates, None, None, None, design, **settings)


def corrected_replicates(
    human: float,
    human_draws: Floats,
    machine: float | None,
    machine_draws: Floats | None,
    machine_all: float | None,
    design: Design,
    *,
    machine_all_draws: Floats | None = None,
    target: Target = "corpus",
    confidence: float = DEFAULT_CONFIDENCE,
    bounds: tuple[float, float] | None = UNIT,
) -> Estimate:
    """Correct any statistic phi of counts (flatness, F1, macro-F1, kappa): the bootstrap form (PPBoot, Zrnic 2024).

    theta = phi(y_s) + lambda c with c = phi(f_N) - phi(f_s), lambda = clip(-Cov*(phi(y_s), c) / Var*(c), 0, 1) over the
    same resamples, SE = sd*(phi(y_s) + lambda c); interval theta +- t(D-1) SE. The resamples are those of
    `replicate_weights` for the target. For the corpus phi(f_N) is one number; for the superpopulation it is resampled
    with the sample, so that with every unit verified c is 0 and the estimate is the human one.

    Parameters
    ----------
    human, human_draws
        phi of the human labels of the sample, and shape (R,) its replicates.
    machine, machine_draws, machine_all
        phi of the classifier labels of the same sample, its replicates, and phi of the classifier on all N; `None` for
        the human-only estimate.
    machine_all_draws
        Shape (R,), phi of the classifier on all N in the same resamples, for the superpopulation.
    """
    n, clusters = design.n, design.clusters
    if n == 0:
        return undefined("no_data", method="human labels")
    if not math.isfinite(human):
        return undefined("no_data", n=n, method="human labels", clusters=clusters)
    if clusters < 2:
        reason = "one_item" if n == 1 else "one_dialogue"
        return Estimate(human, n, reason=reason, method="human labels", clusters=clusters, notes=design.notes)
    notes: list[str] = list(design.notes)
    draws, value, factor = human_draws, human, 0.0
    if machine is not None and machine_all is not None and math.isfinite(machine) and math.isfinite(machine_all):
        if reason := too_few(design):
            notes.append(reason)
        elif machine_draws is not None:
            change = (machine_all if machine_all_draws is None else machine_all_draws) - machine_draws
            factor = replicate_lambda(human_draws, change)
            if factor:
                draws, value = human_draws + factor * change, human + factor * (machine_all - machine)
                notes.append(f"lambda = {factor:.3f}")
    defined = np.isfinite(draws)
    if defined.sum() < max(2, len(draws) / 2):
        reason = "unstable" if len(draws) else "no_replicates"
        return Estimate(human, n, reason=reason, method="human labels", clusters=clusters, notes=tuple(notes))
    if missing := int(len(draws) - defined.sum()):
        notes.append(f"undefined in {missing} of {len(draws)} resamples, left out")
    se = float(np.std(draws[defined], ddof=1))
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
    unit = "Rao-Wu" if design.strata is not None and target == "corpus" else "dialogue"
    method = f"{label}, {target}, {unit} bootstrap SE, {shape}, {len(human_draws)}"
    return Estimate(value, n, interval, se, why, method, clusters, tuple(notes))


def replicate_lambda(human: Floats, change: Floats) -> float:
    """Give lambda = clip(-Cov*(phi(y_s), c) / Var*(c), 0, 1) from replicates (R,) of phi(y_s) and of the change c."""
    both = np.isfinite(human) & np.isfinite(change)
    if (
        both.sum() < 2
        or both.mean() < MIN_DEFINED_SHARE
        or (variance := float(np.var(change[both], ddof=1))) <= SAME**2
    ):
        return 0.0
    covariance = float(np.cov(human[both], change[both], ddof=1)[0, 1])
    return float(np.clip(-covariance / variance, 0.0, 1.0))


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
