"""Ratings of quality by aligned and misaligned turns: RQ5 of the paper, with data.

The primary analysis is a linear model, rating ~ aligned + user emotion + system + annotator, with standard errors
clustered by dialogue (CR1) and t(D - 1). Cliff's delta says the same without a scale. Sensitivity models stand beside
it; none of them replaces it. What they show is an *association* unless responses were assigned to turns at random.

Sources: Liang and Zeger 1986 (cluster-robust variance; CR1 factor as in Cameron and Miller 2015); Cliff 1993;
Holm 1979; McCullagh 1980 (proportional odds).
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from evaluation.comparison import detectable_difference
from evaluation.counts import Floats
from evaluation.intervals import (
    DEFAULT_CONFIDENCE,
    DEFAULT_REPLICATES,
    FEW_CLUSTERS,
    Estimate,
    bootstrap_estimate,
    cluster_codes,
    cluster_linearised,
    cluster_weights,
    holm,
    t_interval,
    undefined,
)
from evaluation.ordinal import fit_proportional_odds
from evaluation.permutation import PERMUTATIONS, sign_flip_p

FLAGS: Final = ("aligned_exact", "aligned_coarse")
CROSSED_UP_TO: Final = 3000
CROSSED_LEVELS: Final = 400
"""Above these a crossed mixed model takes minutes, and the nested one is fitted."""
MIN_DIALOGUES: Final = 10


@dataclass(frozen=True, slots=True)
class Association:
    """How one outcome goes with one alignment flag.

    Attributes
    ----------
    difference
        Adjusted mean difference aligned - misaligned, in scale points: the primary estimate, or the rank fallback's
        raw difference with fewer than `MIN_DIALOGUES` dialogues.
    p, p_holm
        Two-sided, and adjusted over all outcomes x flags of the report.
    cliffs_delta
        P(aligned rated higher) - P(aligned rated lower), with a dialogue bootstrap.
    sensitivity
        Further models by name, each an estimate of the same difference (the ordinal one in log odds).
    means
        Mean rating of aligned and of misaligned turns, with n.
    """

    outcome: str
    flag: str
    difference: Estimate
    p: float | None
    p_holm: float | None
    cliffs_delta: Estimate
    detectable: float | None
    sensitivity: dict[str, Estimate]
    aligned: Estimate
    misaligned: Estimate
    turns: int
    annotators: int


def wording(randomised: bool) -> str:
    """Name what a difference is: an effect only where responses were assigned to turns at random."""
    return "effect" if randomised else "association"


def cliffs_delta(first: ArrayLike, second: ArrayLike) -> float:
    """Give Cliff's delta, P(first > second) - P(first < second) = 2U/(mn) - 1; NaN when either is empty."""
    a, b = np.asarray(first, dtype=float), np.asarray(second, dtype=float)
    if not len(a) or not len(b):
        return math.nan
    levels = np.unique(np.concatenate([a, b]))
    counts = [np.array([(column == level).sum() for level in levels], dtype=float) for column in (a, b)]
    return float(_delta(counts[0][None], counts[1][None])[0])


def _delta(first: Floats, second: Floats) -> Floats:
    """Cliff's delta of counts by level, shape (..., levels)."""
    below = np.cumsum(second, axis=-1) - second
    wins = (first * below).sum(axis=-1)
    losses = (first * (second.sum(axis=-1, keepdims=True) - below - second)).sum(axis=-1)
    pairs = first.sum(axis=-1) * second.sum(axis=-1)
    return np.asarray(np.divide(wins - losses, pairs, out=np.full(pairs.shape, np.nan), where=pairs > 0))


# --- the primary model -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Fit:
    """One coefficient of a least-squares fit with cluster-robust (CR1) standard error."""

    value: float
    se: float
    clusters: int
    n: int
    parameters: int


def cluster_ols(y: Floats, design: Floats, clusters: NDArray[np.int64]) -> Fit | None:
    """Fit y on the columns of `design` and give the first coefficient with its CR1 standard error.

    V = c (X'X)^-1 (sum_d X_d' e_d e_d' X_d) (X'X)^-1, c = G/(G-1) (n-1)/(n-k). `None` where the first column is not
    identified by the others (always, or never, aligned within them) or no degree of freedom is left.
    """
    kept = _independent(design)
    if 0 not in kept or len(y) <= len(kept):
        return None
    x = design[:, kept]
    inverse = np.linalg.inv(x.T @ x)
    beta = inverse @ (x.T @ y)
    residual = y - x @ beta
    scores = np.zeros((int(clusters.max()) + 1, x.shape[1]))
    np.add.at(scores, clusters, x * residual[:, None])
    groups = len(np.unique(clusters))
    if groups < 2:
        return None
    factor = groups / (groups - 1) * (len(y) - 1) / (len(y) - x.shape[1])
    variance = factor * inverse @ (scores.T @ scores) @ inverse
    return Fit(float(beta[0]), math.sqrt(max(0.0, float(variance[0, 0]))), groups, len(y), x.shape[1])


def _independent(design: Floats, first: int | None = None) -> list[int]:
    """Choose columns that are not combinations of others: `first` first, column 0 last, kept only if identified."""
    order = [*([] if first is None else [first]), *(k for k in range(1, design.shape[1]) if k != first), 0]
    basis = np.zeros((design.shape[0], 0))
    kept: list[int] = []
    for column in order:
        vector = design[:, column].astype(float)
        rest = vector - basis @ (basis.T @ vector)
        rest = rest - basis @ (basis.T @ rest)
        if np.linalg.norm(rest) > 1e-8 * max(1.0, float(np.linalg.norm(vector))):
            basis = np.column_stack([basis, rest / np.linalg.norm(rest)])
            kept.append(column)
    return sorted(kept)


def _dummies(frame: pd.DataFrame, columns: Sequence[str]) -> Floats:
    parts = [np.ones((len(frame), 1))]
    for column in columns:
        codes = pd.factorize(frame[column].astype(object).where(frame[column].notna(), "missing"), sort=True)[0]
        levels = int(codes.max(initial=0)) + 1
        parts.append(np.eye(levels)[codes][:, 1:])
    return np.column_stack(parts)


def _design(frame: pd.DataFrame, flag: str, columns: Sequence[str]) -> Floats:
    return np.column_stack([frame[flag].to_numpy(dtype=float), _dummies(frame, columns)])


def _fit_estimate(fit: Fit | None, frame: pd.DataFrame, method: str, confidence: float) -> Estimate:
    if fit is None:
        return undefined("not_identified", n=len(frame), method=method)
    df = fit.clusters - 1
    interval = t_interval(fit.value, fit.se, df, confidence)
    notes = ("few clusters",) if fit.clusters < FEW_CLUSTERS else ()
    return Estimate(fit.value, fit.n, interval, fit.se, None, f"{method}, CR1, t({df})", fit.clusters, notes)


# --- all outcomes ----------------------------------------------------------------------------------------------------


def associations(
    ratings: pd.DataFrame,
    *,
    flags: Sequence[str] = FLAGS,
    replicates: int = DEFAULT_REPLICATES,
    seed: int = 0,
    confidence: float = DEFAULT_CONFIDENCE,
    sensitivity: bool = True,
    scale: tuple[float, float] | None = None,
) -> list[Association]:
    """Estimate, for every outcome and flag, the adjusted difference between aligned and misaligned turns.

    Parameters
    ----------
    ratings
        A checked `ratings` table (`evaluation.tables.check_ratings`); rows without a value or without the flag are
        left out. Holm's family is all outcomes x flags, as declared by these arguments.
    sensitivity
        Also fit the ordinal model, and for the first flag the mixed model (seconds each).
    scale
        Lowest and highest rating: the intervals of mean ratings end there.
    """
    found = []
    for outcome in sorted(ratings["outcome"].astype(str).unique()):
        part = ratings[(ratings["outcome"].astype(str) == outcome) & ratings["value"].notna()]
        for flag in flags:
            if flag not in part:
                continue
            frame = part[part[flag].notna()].reset_index(drop=True)
            mixed = sensitivity and flag == flags[0]
            found.append(_associate(frame, outcome, flag, replicates, seed, confidence, sensitivity, mixed, scale))
    chances = np.array([np.nan if one.p is None else one.p for one in found])
    adjusted = holm(chances) if len(found) else chances
    return [replace(one, p_holm=float(p) if np.isfinite(p) else None) for one, p in zip(found, adjusted, strict=True)]


def _associate(
    frame: pd.DataFrame,
    outcome: str,
    flag: str,
    replicates: int,
    seed: int,
    confidence: float,
    sensitivity: bool,
    mixed: bool,
    scale: tuple[float, float] | None,
) -> Association:
    codes = cluster_codes(*_dialogue_columns(frame))[0] if len(frame) else np.empty(0, dtype=np.int64)
    y = frame["value"].to_numpy(dtype=float)
    aligned = frame[flag].to_numpy(dtype=bool) if len(frame) else np.empty(0, dtype=bool)
    clusters = len(np.unique(codes))
    means = [_mean(y[rows], codes[rows], confidence, scale) for rows in (aligned, ~aligned)]
    delta = _delta_estimate(y, aligned, codes, replicates, seed, f"ratings/{outcome}/{flag}", confidence)
    p: float | None = None
    rows: dict[str, Estimate] = {}
    if not len(frame) or aligned.all() or not aligned.any():
        difference = undefined("no_data" if not len(frame) else "no_variation", n=len(frame), clusters=clusters)
    elif clusters < MIN_DIALOGUES:
        difference, p = rank_fallback(frame, flag, codes, seed)
    else:
        controls = [column for column in ("user_emotion", "system", "annotator") if column in frame]
        method = f"least squares with {', '.join(controls) or 'no controls'}"
        difference = _fit_estimate(cluster_ols(y, _design(frame, flag, controls), codes), frame, method, confidence)
        if difference.value is not None and difference.se:
            p = float(2 * stats.t.sf(abs(difference.value / difference.se), clusters - 1))
        rows["within_context"] = _within_context(frame, flag, codes, confidence)
        if sensitivity:
            rows["proportional_odds"] = _ordinal(frame, flag, codes, confidence)
        if mixed:
            levels = clusters + _turns(frame)
            crossed = len(frame) <= CROSSED_UP_TO and levels <= CROSSED_LEVELS
            rows["mixed_crossed" if crossed else "mixed_nested"] = _mixed(frame, flag, codes, crossed, confidence)
    return Association(
        outcome,
        flag,
        difference,
        p,
        None,
        delta,
        detectable_difference(difference.se, clusters),
        rows,
        means[0],
        means[1],
        _turns(frame),
        int(frame["annotator"].nunique()) if len(frame) else 0,
    )


def _dialogue_columns(frame: pd.DataFrame) -> list[pd.Series[Any]]:
    if "dataset" in frame and frame["dataset"].notna().all():
        return [frame["dataset"].astype(str), frame["dialogue"].astype(str)]
    return [frame["dialogue"].astype(str)]


def _turns(frame: pd.DataFrame) -> int:
    keys = [column for column in ("dataset", "dialogue", "turn", "system") if column in frame]
    return len(frame[keys].drop_duplicates()) if len(frame) else 0


def _mean(values: Floats, codes: NDArray[np.int64], confidence: float, scale: tuple[float, float] | None) -> Estimate:
    if not len(values):
        return undefined("no_data")
    return cluster_linearised(values, None, codes, confidence=confidence, bounds=scale)


def _delta_estimate(
    y: Floats,
    aligned: NDArray[np.bool_],
    codes: NDArray[np.int64],
    replicates: int,
    seed: int,
    name: str,
    confidence: float,
) -> Estimate:
    value = cliffs_delta(y[aligned], y[~aligned])
    clusters = len(np.unique(codes))
    if not math.isfinite(value):
        return undefined("no_data" if not len(y) else "no_variation", n=len(y), clusters=clusters)
    levels, level = np.unique(y, return_inverse=True)
    sums = np.zeros((clusters, 2, len(levels)))
    np.add.at(sums, (codes, (~aligned).astype(int), level), 1.0)
    flat = sums.reshape(clusters, -1)
    draws = np.concatenate([block @ flat for block in cluster_weights(clusters, replicates, seed, name=name)])
    parts = draws.reshape(-1, 2, len(levels))
    return bootstrap_estimate(
        value, _delta(parts[:, 0], parts[:, 1]), n=len(y), clusters=clusters, bounds=(-1.0, 1.0), confidence=confidence
    )


def rank_fallback(
    frame: pd.DataFrame, flag: str, codes: NDArray[np.int64], seed: int = 0
) -> tuple[Estimate, float | None]:
    """With few dialogues: difference of annotator-centred ratings, tested by sign flips of dialogues on ranks.

    Per dialogue the difference of annotator-centred mean ranks, aligned - misaligned, over dialogues that hold both.
    The value is the mean of the same difference in scale points; there is no interval.
    """
    held = frame.assign(
        centred=frame["value"] - frame.groupby("annotator")["value"].transform("mean"),
        rank=frame["value"].rank() - frame["value"].rank().groupby(frame["annotator"]).transform("mean"),
        dialogue_code=codes,
    )
    means = held.groupby(["dialogue_code", flag])[["centred", "rank"]].mean().unstack(flag).dropna()
    if means.empty:
        return undefined("no_pairs", n=len(frame), clusters=len(np.unique(codes))), None
    gaps = {name: (means[name][True] - means[name][False]).to_numpy(dtype=float) for name in ("centred", "rank")}
    p = sign_flip_p(gaps["rank"], permutations=PERMUTATIONS, seed=seed, name="rank fallback")
    note = f"fewer than {MIN_DIALOGUES} dialogues: within-dialogue difference, sign-flip test on ranks, no interval"
    estimate = Estimate(
        float(gaps["centred"].mean()),
        len(frame),
        reason="few_dialogues",
        method="annotator-centred difference within dialogues",
        clusters=len(means),
        notes=(note,),
    )
    return estimate, p


# --- sensitivity -----------------------------------------------------------------------------------------------------


def _within_context(frame: pd.DataFrame, flag: str, codes: NDArray[np.int64], confidence: float) -> Estimate:
    """Demean within context (same dialogue and turn, two responses or more): removes topic and user emotion."""
    method = "least squares within contexts"
    if "turn" not in frame or "system" not in frame or frame["turn"].isna().any():
        return undefined("no_context", n=len(frame), method=method)
    context = pd.factorize(pd.Series(codes).astype(str) + "/" + frame["turn"].astype(str))[0]
    systems = pd.Series(frame["system"]).groupby(context).transform("nunique").to_numpy()
    held = systems >= 2
    if not held.any():
        return undefined("one_response_per_context", n=int(held.sum()), method=method)
    part, place = frame[held].reset_index(drop=True), pd.factorize(context[held])[0]
    columns = np.column_stack([_design(part, flag, ["system", "annotator"]), part["value"].to_numpy(dtype=float)])
    counts = np.bincount(place).astype(float)
    for k in range(columns.shape[1]):
        columns[:, k] -= (np.bincount(place, weights=columns[:, k]) / counts)[place]
    clusters = pd.factorize(codes[held])[0]
    fit = cluster_ols(columns[:, -1], columns[:, :-1], clusters)
    if fit is not None:
        # The demeaned contexts used up degrees of freedom that the design no longer shows.
        left = fit.n - fit.parameters - len(counts)
        if left < 1:
            return undefined("not_identified", n=fit.n, method=method)
        fit = replace(fit, se=fit.se * math.sqrt((fit.n - fit.parameters) / left))
    return _fit_estimate(fit, part, method, confidence)


def _mixed(frame: pd.DataFrame, flag: str, codes: NDArray[np.int64], crossed: bool, confidence: float) -> Estimate:
    """Fit a linear mixed model by REML; a fit that warns of a singular covariance or Hessian is not reported.

    Crossed: one group, variance components for annotator, dialogue and turn. Nested: dialogues as groups with their
    own intercept (re_formula="1": without it the intercept is dropped in silence), turns within, annotators fixed.
    Where that does not converge the turn component, the one most often 0, is left out and it is said.
    """
    data = pd.DataFrame({"rating": frame["value"].to_numpy(dtype=float), "flag": frame[flag].to_numpy(dtype=float)})
    data["dialogue"], data["annotator"] = codes, frame["annotator"].astype(str).to_numpy()
    data["spot"] = [f"{d}/{t}" for d, t in zip(codes, frame.get("turn", codes), strict=True)]
    terms = ["flag"]
    for column in ("user_emotion", "system"):
        if column in frame and frame[column].nunique() > 1:
            data[column] = frame[column].astype(object).where(frame[column].notna(), "missing").astype(str).to_numpy()
            terms.append(f"C({column})")
    components: dict[str, str] = {}
    options: dict[str, Any] = {"groups": data["dialogue"], "re_formula": "1"}
    if crossed:
        components = {"annotator": "0 + C(annotator)", "dialogue": "0 + C(dialogue)"}
        options = {"groups": np.ones(len(data)), "re_formula": "0"}
    else:
        terms.append("C(annotator)")
    formula = "rating ~ " + " + ".join(terms)
    several = data["spot"].nunique() > data["dialogue"].nunique()
    attempts = [components | {"turn": "0 + C(spot)"}, components] if several else [components]
    method = "linear mixed model, crossed" if crossed else "linear mixed model, nested"
    said: tuple[str, ...] = ()
    for attempt in attempts:
        fit, trouble = _fit_mixed(formula, data, attempt, options)
        if fit is not None:
            value, se = fit
            half = float(stats.norm.ppf((1 + confidence) / 2)) * se
            left_out = ("without a turn component: with it the fit fails",) if attempt is not attempts[0] else ()
            clusters = len(np.unique(codes))
            interval = (value - half, value + half)
            return Estimate(value, len(frame), interval, se, None, f"{method}, normal", clusters, left_out)
        said = trouble
    return undefined("no_convergence", n=len(frame), method=method, notes=said)


def _fit_mixed(
    formula: str, data: pd.DataFrame, components: dict[str, str], options: dict[str, Any]
) -> tuple[tuple[float, float] | None, tuple[str, ...]]:
    import statsmodels.formula.api as smf

    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        try:
            fit = smf.mixedlm(formula, data, vc_formula=components or None, **options).fit(
                reml=True, method=["powell"], maxiter=400
            )
        except (np.linalg.LinAlgError, ValueError) as error:
            return None, (str(error)[:120],)
    value, se = float(fit.params["flag"]), float(fit.bse["flag"])
    trouble = tuple(str(one.message)[:120] for one in said if _disqualifying(str(one.message)))
    if not fit.converged or trouble or not math.isfinite(se):
        return None, trouble[:2]
    return (value, se), ()


def _disqualifying(message: str) -> bool:
    lowered = message.lower()
    return any(word in lowered for word in ("singular", "not positive definite"))


def _ordinal(frame: pd.DataFrame, flag: str, codes: NDArray[np.int64], confidence: float) -> Estimate:
    """Fit proportional odds, annotators fixed, dialogue-clustered covariance: log odds of a higher rating."""
    method = "proportional odds, log odds ratio, CR1 by dialogue"
    controls = [column for column in ("user_emotion", "system", "annotator") if column in frame]
    design = np.delete(_design(frame, flag, controls), 1, axis=1)
    # The thresholds are the constant: a column that only a constant would explain away is dropped with them.
    kept = _independent(np.column_stack([design, np.ones(len(frame))]), first=design.shape[1])
    kept = [column for column in kept if column < design.shape[1]]
    if 0 not in kept or frame["value"].nunique() < 2:
        return undefined("not_identified", n=len(frame), method=method)
    levels = np.unique(frame["value"].to_numpy(dtype=float), return_inverse=True)[1]
    fit = fit_proportional_odds(levels, design[:, kept], codes)
    if not fit.converged:
        return undefined("no_convergence", n=len(frame), method=method)
    value, se = float(fit.slopes[0]), float(fit.errors[0])
    clusters = len(np.unique(codes))
    interval = t_interval(value, se, clusters - 1, confidence)
    return Estimate(value, len(frame), interval, se, None, f"{method}, t({clusters - 1})", clusters)


# --- descriptions ----------------------------------------------------------------------------------------------------


def distribution(ratings: pd.DataFrame, scale: tuple[int, int] = (1, 5)) -> pd.DataFrame:
    """Count ratings by outcome, alignment flag and value over the declared scale.

    Returns
    -------
    DataFrame
        Columns outcome, flag, aligned (True, False or missing), value, count.
    """
    rows = []
    for outcome in sorted(ratings["outcome"].astype(str).unique()):
        part = ratings[(ratings["outcome"].astype(str) == outcome) & ratings["value"].notna()]
        for flag in [flag for flag in FLAGS if flag in part] or [""]:
            state = part[flag] if flag else pd.Series(pd.NA, index=part.index, dtype="boolean")
            for aligned, held in (("aligned", state.fillna(False)), ("misaligned", ~state.fillna(True))):
                if not flag:
                    aligned, held = "all", pd.Series(True, index=part.index)
                values = part.loc[held.astype(bool), "value"].to_numpy(dtype=float)
                for value in range(scale[0], scale[1] + 1):
                    rows.append((outcome, flag, aligned, value, int((values == value).sum())))
                if not flag:
                    break
    return pd.DataFrame(rows, columns=["outcome", "flag", "aligned", "value", "count"])


def by_emotion(
    ratings: pd.DataFrame, flag: str = "aligned_exact", *, confidence: float = DEFAULT_CONFIDENCE
) -> list[tuple[str, str, Estimate]]:
    """Give the adjusted difference within each user emotion: exploratory, not adjusted for their number.

    Returns
    -------
    list
        (outcome, user emotion, estimate).
    """
    found: list[tuple[str, str, Estimate]] = []
    if flag not in ratings or "user_emotion" not in ratings:
        return found
    usable = ratings[ratings["value"].notna() & ratings[flag].notna() & ratings["user_emotion"].notna()]
    for (outcome, emotion), part in usable.groupby(["outcome", "user_emotion"], sort=True, observed=True):
        frame = part.reset_index(drop=True)
        codes = cluster_codes(*_dialogue_columns(frame))[0]
        if len(np.unique(codes)) < MIN_DIALOGUES:
            estimate = undefined("few_dialogues", n=len(frame), clusters=len(np.unique(codes)))
        else:
            design = _design(frame, flag, [column for column in ("system", "annotator") if column in frame])
            fit = cluster_ols(frame["value"].to_numpy(dtype=float), design, codes)
            estimate = _fit_estimate(fit, frame, "least squares", confidence)
        found.append((str(outcome), str(emotion), estimate))
    return found
