"""Ratings of quality by aligned and misaligned turns: RQ5 of the paper, with data.

The primary analysis is a linear model, rating ~ aligned + user emotion + system + annotator, with standard errors
clustered by dialogue (CR1) and t(D - 1). Cliff's delta says the same without a scale. Sensitivity models stand beside
it; none of them replaces it. What they show is an *association* unless responses were assigned to turns at random.
Where turns were drawn with different probabilities, each rating counts the inverse of its turn's.

Sources: as in `evaluation.rating_models`; Cliff 1993; Holm 1979.
"""

from __future__ import annotations

import math
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
    Estimate,
    bootstrap_estimate,
    cluster_codes,
    cluster_linearised,
    cluster_weights,
    holm,
    undefined,
)
from evaluation.rating_models import (
    MIN_DIALOGUES,
    UNWEIGHTED,
    cluster_ols,
    fit_estimate,
    mixed_model,
    model_design,
    ordinal_odds,
    rank_fallback,
    within_context,
)

FLAGS: Final = ("aligned_exact", "aligned_coarse")
CROSSED_UP_TO: Final = 3000
CROSSED_LEVELS: Final = 400
"""Above these a crossed mixed model takes minutes, and the nested one is fitted."""
LEAST_SQUARES: Final = "least squares"
WEIGHTED: Final = "weighted least squares"
RANKS: Final = "difference within dialogues, sign flips on ranks"


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
    aligned, misaligned
        Mean rating of aligned and of misaligned turns, with n.
    model
        How `difference` was made: `LEAST_SQUARES`, `WEIGHTED` or, with few dialogues, `RANKS`.
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
    model: str = LEAST_SQUARES


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
    return float(_delta(counts[0], counts[1]))


def _delta(first: Floats, second: Floats) -> Floats:
    """Cliff's delta of counts by level, shape (..., levels)."""
    below = np.cumsum(second, axis=-1) - second
    wins = (first * below).sum(axis=-1)
    losses = (first * (second.sum(axis=-1, keepdims=True) - below - second)).sum(axis=-1)
    pairs = first.sum(axis=-1) * second.sum(axis=-1)
    return np.asarray(np.divide(wins - losses, pairs, out=np.full(pairs.shape, np.nan), where=pairs > 0))


def drawn_ratings(ratings: pd.DataFrame) -> tuple[pd.DataFrame, bool]:
    """Keep the ratings of drawn turns, with a column `weight` where these were drawn with different probabilities.

    Returns
    -------
    tuple
        The table, and whether it is weighted. Without the column `inclusion_probability`, or with none filled, every
        row is kept.
    """
    if "inclusion_probability" not in ratings or ratings["inclusion_probability"].isna().all():
        return ratings, False
    chance = pd.to_numeric(ratings["inclusion_probability"], errors="coerce").to_numpy(dtype=float)
    given = ratings["inclusion_probability"].notna().to_numpy()
    kept = ratings[given].reset_index(drop=True)
    if np.ptp(chance[given]) <= 1e-9:
        return kept, False
    return kept.assign(weight=1 / chance[given]), True


def _weights(frame: pd.DataFrame) -> Floats | None:
    return frame["weight"].to_numpy(dtype=float) if "weight" in frame else None


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
        A checked `ratings` table (`evaluation.tables.check_ratings`); rows without a value or without the flag, and
        those of turns that were not drawn (`drawn_ratings`), are left out. Holm's family is all outcomes x flags, as
        declared by these arguments.
    sensitivity
        Also fit the ordinal model, and for the first flag the mixed model (seconds each).
    scale
        Lowest and highest rating: the intervals of mean ratings end there.
    """
    found = []
    ratings, _ = drawn_ratings(ratings)
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
    y, w = frame["value"].to_numpy(dtype=float), _weights(frame)
    aligned = frame[flag].to_numpy(dtype=bool) if len(frame) else np.empty(0, dtype=bool)
    clusters = len(np.unique(codes))
    means = [_mean(frame[rows], codes[rows], confidence, scale) for rows in (aligned, ~aligned)]
    delta = _delta_estimate(y, aligned, w, codes, replicates, seed, f"ratings/{outcome}/{flag}", confidence)
    p: float | None = None
    rows: dict[str, Estimate] = {}
    model = LEAST_SQUARES if w is None else WEIGHTED
    if not len(frame) or aligned.all() or not aligned.any():
        difference = undefined("no_data" if not len(frame) else "no_variation", n=len(frame), clusters=clusters)
    elif clusters < MIN_DIALOGUES:
        model = RANKS
        difference, p = rank_fallback(frame, flag, codes, seed)
        difference = difference if w is None else difference.with_notes(UNWEIGHTED)
    else:
        controls = [column for column in ("user_emotion", "system", "annotator") if column in frame]
        method = f"{model} with {', '.join(controls) or 'no controls'}"
        fit = cluster_ols(y, model_design(frame, flag, controls), codes, w)
        difference = fit_estimate(fit, frame, method, confidence)
        if difference.value is not None and difference.se:
            p = float(2 * stats.t.sf(abs(difference.value / difference.se), clusters - 1))
        rows["within_context"] = within_context(frame, flag, codes, confidence, w)
        said = () if w is None else (UNWEIGHTED,)
        if sensitivity:
            rows["proportional_odds"] = ordinal_odds(frame, flag, codes, confidence).with_notes(*said)
        if mixed:
            levels = clusters + _turns(frame)
            crossed = len(frame) <= CROSSED_UP_TO and levels <= CROSSED_LEVELS
            name = "mixed_crossed" if crossed else "mixed_nested"
            rows[name] = mixed_model(frame, flag, codes, crossed, confidence).with_notes(*said)
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
        model,
    )


def _dialogue_columns(frame: pd.DataFrame) -> list[pd.Series[Any]]:
    if "dataset" in frame and frame["dataset"].notna().all():
        return [frame["dataset"].astype(str), frame["dialogue"].astype(str)]
    return [frame["dialogue"].astype(str)]


def _turns(frame: pd.DataFrame) -> int:
    keys = [column for column in ("dataset", "dialogue", "turn", "system") if column in frame]
    return len(frame[keys].drop_duplicates()) if len(frame) else 0


def _mean(
    frame: pd.DataFrame, codes: NDArray[np.int64], confidence: float, scale: tuple[float, float] | None
) -> Estimate:
    if not len(frame):
        return undefined("no_data")
    values = frame["value"].to_numpy(dtype=float)
    return cluster_linearised(values, _weights(frame), codes, confidence=confidence, bounds=scale)


def _delta_estimate(
    y: Floats,
    aligned: NDArray[np.bool_],
    weights: Floats | None,
    codes: NDArray[np.int64],
    replicates: int,
    seed: int,
    name: str,
    confidence: float,
) -> Estimate:
    clusters = len(np.unique(codes))
    if not aligned.any() or aligned.all():
        return undefined("no_data" if not len(y) else "no_variation", n=len(y), clusters=clusters)
    levels, level = np.unique(y, return_inverse=True)
    sums = np.zeros((clusters, 2, len(levels)))
    np.add.at(sums, (codes, (~aligned).astype(int), level), 1.0 if weights is None else weights)
    flat = sums.reshape(clusters, -1)
    draws = np.concatenate([block @ flat for block in cluster_weights(clusters, replicates, seed, name=name)])
    parts = draws.reshape(-1, 2, len(levels))
    total = sums.sum(axis=0)
    return bootstrap_estimate(
        float(_delta(total[0], total[1])),
        _delta(parts[:, 0], parts[:, 1]),
        n=len(y),
        clusters=clusters,
        bounds=(-1.0, 1.0),
        confidence=confidence,
    )


# --- descriptions ----------------------------------------------------------------------------------------------------


def points_of(ratings: pd.DataFrame, scale: tuple[int, int]) -> list[float]:
    """Give the points of the scale, and any value between them that a rater gave, in order."""
    given = ratings["value"].dropna().to_numpy(dtype=float) if "value" in ratings else np.empty(0)
    return [float(value) for value in np.union1d(np.arange(scale[0], scale[1] + 1), given)]


def distribution(ratings: pd.DataFrame, scale: tuple[int, int] = (1, 5)) -> pd.DataFrame:
    """Count ratings by outcome, alignment flag and value, over the declared scale and values given between its points.

    Returns
    -------
    DataFrame
        Columns outcome, flag, aligned (`aligned`, `misaligned`, or `all` without a flag), value, count.
    """
    rows = []
    points = points_of(ratings, scale)
    for outcome in sorted(ratings["outcome"].astype(str).unique()):
        part = ratings[(ratings["outcome"].astype(str) == outcome) & ratings["value"].notna()]
        for flag in [flag for flag in FLAGS if flag in part] or [""]:
            state = part[flag] if flag else pd.Series(pd.NA, index=part.index, dtype="boolean")
            for aligned, held in (("aligned", state.fillna(False)), ("misaligned", ~state.fillna(True))):
                if not flag:
                    aligned, held = "all", pd.Series(True, index=part.index)
                values = part.loc[held.astype(bool), "value"].to_numpy(dtype=float)
                rows += [(outcome, flag, aligned, value, int((values == value).sum())) for value in points]
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
    ratings, _ = drawn_ratings(ratings)
    usable = ratings[ratings["value"].notna() & ratings[flag].notna() & ratings["user_emotion"].notna()]
    for (outcome, emotion), part in usable.groupby(["outcome", "user_emotion"], sort=True, observed=True):
        frame = part.reset_index(drop=True)
        codes = cluster_codes(*_dialogue_columns(frame))[0]
        if len(np.unique(codes)) < MIN_DIALOGUES:
            estimate = undefined("few_dialogues", n=len(frame), clusters=len(np.unique(codes)))
        else:
            design = model_design(frame, flag, [column for column in ("system", "annotator") if column in frame])
            fit = cluster_ols(frame["value"].to_numpy(dtype=float), design, codes, _weights(frame))
            model = WEIGHTED if "weight" in frame else LEAST_SQUARES
            estimate = fit_estimate(fit, frame, model, confidence)
        found.append((str(outcome), str(emotion), estimate))
    return found
