"""The models behind `evaluation.ratings`: least squares with clustered errors, and what stands beside it.

Sources: Liang and Zeger 1986 (cluster-robust variance; CR1 factor, and none for what is absorbed within clusters, as in
Cameron and Miller 2015); McCullagh 1980 (proportional odds).
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from evaluation.counts import Floats
from evaluation.intervals import FEW_CLUSTERS, Estimate, t_interval, undefined
from evaluation.ordinal import fit_proportional_odds
from evaluation.permutation import PERMUTATIONS, sign_flip_p

MIN_DIALOGUES: Final = 10
UNWEIGHTED: Final = "unweighted, though turns were drawn with different probabilities"


# --- the primary model -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Fit:
    """One coefficient of a least-squares fit with cluster-robust (CR1) standard error."""

    value: float
    se: float
    clusters: int
    n: int
    parameters: int


def cluster_ols(y: Floats, design: Floats, clusters: NDArray[np.int64], weights: Floats | None = None) -> Fit | None:
    """Fit y on the columns of `design` and give the first coefficient with its CR1 standard error.

    V = c (X'WX)^-1 (sum_d X_d' W_d e_d e_d' W_d X_d) (X'WX)^-1, c = G/(G-1) (n-1)/(n-k), W the weights, 1 without them.
    `None` where the first column is not identified by the others (always, or never, aligned within them) or no degree
    of freedom is left.
    """
    if weights is not None:
        root = np.sqrt(weights)
        y, design = y * root, design * root[:, None]
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


def model_design(frame: pd.DataFrame, flag: str, columns: Sequence[str]) -> Floats:
    """Give the columns of a model, shape (n, k): the flag, a constant, and dummies for the levels of `columns`."""
    return np.column_stack([frame[flag].to_numpy(dtype=float), _dummies(frame, columns)])


def fit_estimate(fit: Fit | None, frame: pd.DataFrame, method: str, confidence: float) -> Estimate:
    """Give the first coefficient of a fit with its t(G - 1) interval; `not_identified` without a fit."""
    if fit is None:
        return undefined("not_identified", n=len(frame), method=method)
    df = fit.clusters - 1
    interval = t_interval(fit.value, fit.se, df, confidence)
    notes = ("few clusters",) if fit.clusters < FEW_CLUSTERS else ()
    return Estimate(fit.value, fit.n, interval, fit.se, None, f"{method}, CR1, t({df})", fit.clusters, notes)


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


def within_context(
    frame: pd.DataFrame, flag: str, codes: NDArray[np.int64], confidence: float, weights: Floats | None = None
) -> Estimate:
    """Demean within context (same dialogue and turn, two responses or more): removes topic and user emotion.

    A context lies within one dialogue, so its mean costs the clustered variance no degree of freedom: the errors that
    are summed over a dialogue already sum to 0 within each context (Cameron and Miller 2015, section III.B).
    """
    method = "least squares within contexts"
    if "turn" not in frame or "system" not in frame or frame["turn"].isna().any():
        return undefined("no_context", n=len(frame), method=method)
    context = pd.factorize(pd.Series(codes).astype(str) + "/" + frame["turn"].astype(str))[0]
    systems = pd.Series(frame["system"]).groupby(context).transform("nunique").to_numpy()
    held = systems >= 2
    if not held.any():
        return undefined("one_response_per_context", n=int(held.sum()), method=method)
    part, place = frame[held].reset_index(drop=True), pd.factorize(context[held])[0]
    columns = np.column_stack([model_design(part, flag, ["system", "annotator"]), part["value"].to_numpy(dtype=float)])
    counts = np.bincount(place).astype(float)
    for k in range(columns.shape[1]):
        columns[:, k] -= (np.bincount(place, weights=columns[:, k]) / counts)[place]
    clusters = pd.factorize(codes[held])[0]
    # Both responses of a turn were drawn together, so the weights do not differ within a context.
    fit = cluster_ols(columns[:, -1], columns[:, :-1], clusters, None if weights is None else weights[held])
    if fit is not None and fit.n - fit.parameters - len(counts) < 1:
        return undefined("not_identified", n=fit.n, method=method)
    return fit_estimate(fit, part, method, confidence)


def mixed_model(frame: pd.DataFrame, flag: str, codes: NDArray[np.int64], crossed: bool, confidence: float) -> Estimate:
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


def ordinal_odds(frame: pd.DataFrame, flag: str, codes: NDArray[np.int64], confidence: float) -> Estimate:
    """Fit proportional odds, annotators fixed, dialogue-clustered covariance: log odds of a higher rating."""
    method = "proportional odds, log odds ratio, CR1 by dialogue"
    controls = [column for column in ("user_emotion", "system", "annotator") if column in frame]
    design = np.delete(model_design(frame, flag, controls), 1, axis=1)
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
