"""Estimates and their intervals: the one form every statistic takes, and the resampling behind it.

A statistic is an `Estimate`: a value with its count, interval, standard error and the method that made them, or no
value and the reason. Dialogues are the sampling clusters: the bootstrap resamples whole dialogues, linearised standard
errors sum within dialogues, and with fewer than `FEW_CLUSTERS` of them intervals use Student's t.

Sources: Efron and Tibshirani (1993) for the bootstrap; Cochran (1977), Särndal, Swensson and Wretman (1992) for
linearisation; Rao and Wu (1988); Wilson (1927); Clopper and Pearson (1934); Holm (1979); Benjamini and Hochberg (1995).
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Literal

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy import special

FEW_CLUSTERS: Final = 30
DEFAULT_CONFIDENCE: Final = 0.95
DEFAULT_REPLICATES: Final = 2000
MIN_DEFINED_SHARE: Final = 0.5
_BLOCK_CELLS: Final = 2_000_000
_SAME: Final = 1e-12

Interval = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Estimate:
    """A statistic with its uncertainty, or the reason why there is none.

    Attributes
    ----------
    value
        The point estimate; `None` when undefined.
    n
        The number of observations behind it (items, turns or labels, as the statistic says).
    interval
        Lower and upper bound, or `None`.
    se
        Standard error, or `None`.
    reason
        Why there is no value (`no_data`, `no_pairs`, `no_variation`, `one_item`, …). Beside a value it says why there
        is no interval.
    method
        How interval and standard error were made, such as `dialogue bootstrap, percentile, 2000`.
    clusters
        The number of dialogues behind it, where known.
    notes
        What a reader must know, such as `few clusters`.
    """

    value: float | None
    n: int
    interval: Interval | None = None
    se: float | None = None
    reason: str | None = None
    method: str = ""
    clusters: int | None = None
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        numbers = [self.value, self.se, *(self.interval or ())]
        if any(number is not None and not math.isfinite(number) for number in numbers):
            raise ValueError(f"An estimate holds finite numbers or None, got {numbers}.")
        if self.value is None and not self.reason:
            raise ValueError("An estimate without a value needs a reason.")

    def with_notes(self, *notes: str) -> Estimate:
        """Give the same estimate with further notes; a note already there is not repeated."""
        return replace(self, notes=(*self.notes, *(note for note in notes if note not in self.notes)))

    def to_json(self) -> dict[str, Any]:
        """Give a plain mapping for JSON; numbers are rounded to 12 significant digits."""
        return {
            "value": round_significant(self.value),
            "n": int(self.n),
            "interval": None if self.interval is None else [round_significant(bound) for bound in self.interval],
            "se": round_significant(self.se),
            "reason": self.reason,
            "method": self.method,
            "clusters": None if self.clusters is None else int(self.clusters),
            "notes": list(self.notes),
        }


def undefined(
    reason: str, *, n: int = 0, method: str = "", clusters: int | None = None, notes: Sequence[str] = ()
) -> Estimate:
    """Give the estimate that has no value, for `reason`."""
    return Estimate(None, int(n), reason=reason, method=method, clusters=clusters, notes=tuple(notes))


def round_significant(number: float | None, digits: int = 12) -> float | None:
    """Round to significant digits, so that the order of additions in a BLAS does not show; `None` stays `None`."""
    if number is None:
        return None
    return float(f"{float(number):.{digits}g}") + 0.0


# --- clusters and seeds ----------------------------------------------------------------------------------------------


def cluster_codes(*columns: Sequence[Any] | NDArray[Any] | pd.Series[Any]) -> tuple[NDArray[np.int64], list[Hashable]]:
    """Give each row the number of its cluster, in order of first appearance: the only definition of a cluster.

    Parameters
    ----------
    *columns
        Equally long columns that name the cluster together, such as dataset and dialogue.

    Returns
    -------
    tuple
        Codes of shape (rows,) from 0, and the D cluster names (tuples when several columns are given).

    Raises
    ------
    ValueError
        When a row names no cluster, or the columns differ in length.
    """
    if not columns:
        raise ValueError("Clusters need at least one column.")
    lengths = sorted({len(column) for column in columns})
    if len(lengths) > 1:
        raise ValueError(f"The columns that name a cluster differ in length: {lengths}.")
    factored = [pd.factorize(_as_index_values(column)) for column in columns]
    missing = np.any([codes < 0 for codes, _ in factored], axis=0)
    if missing.any():
        raise ValueError(f"Row {int(np.argmax(missing)) + 1} names no cluster (dialogue).")
    combined = np.zeros(lengths[0], dtype=np.int64)
    for codes, uniques in factored:
        combined = combined * max(1, len(uniques)) + codes
    final, keys = pd.factorize(combined)
    if len(columns) == 1:
        return final.astype(np.int64), list(factored[0][1])
    first = np.unique(final, return_index=True)[1] if len(keys) else np.empty(0, dtype=np.int64)
    names = [tuple(uniques[codes[row]] for codes, uniques in factored) for row in first]
    return final.astype(np.int64), list(names)


def _as_index_values(column: Sequence[Any] | NDArray[Any] | pd.Series[Any]) -> Any:
    if isinstance(column, np.ndarray | pd.Series):
        return column
    return np.array([*column, None], dtype=object)[:-1]


def seed_sequence(seed: int, name: str = "") -> np.random.SeedSequence:
    """Give the seed of one named purpose under a report's seed: independent between names, the same every time."""
    digest = hashlib.sha256(name.encode()).digest()
    words = tuple(int.from_bytes(digest[start : start + 4], "little") for start in range(0, 16, 4))
    return np.random.SeedSequence(entropy=seed, spawn_key=words)


def cluster_weights(
    clusters: int,
    replicates: int,
    seed: int | np.random.SeedSequence,
    *,
    name: str = "",
    dtype: type[np.floating[Any]] = np.float64,
) -> Iterator[NDArray[Any]]:
    """Draw bootstrap weights of whole clusters, in blocks of bounded memory.

    Each row counts how often each cluster occurs in one resample of D clusters with replacement. A statistic of
    additive per-cluster sums S, shape (D, q), becomes `block @ S`.

    Parameters
    ----------
    clusters
        D, at least 1.
    replicates
        Rows in all.
    seed
        Seed of the report, or a ready sequence. The same seed and name give the same weights: paired comparisons
        share a name, unrelated metrics do not.
    name
        The purpose, mixed into an integer seed.
    dtype
        float32 is exact for sums of counts below 2**24.

    Yields
    ------
    ndarray
        Shape (r, D), r >= 1; the blocks together have `replicates` rows.
    """
    if clusters < 1 or replicates < 0:
        raise ValueError(f"A bootstrap needs clusters and replicates, got {clusters} and {replicates}.")
    sequence = seed if isinstance(seed, np.random.SeedSequence) else seed_sequence(seed, name)
    rng = np.random.default_rng(sequence)
    rows = max(1, _BLOCK_CELLS // clusters)
    for start in range(0, replicates, rows):
        block = np.empty((min(rows, replicates - start), clusters), dtype=dtype)
        for row in block:
            row[:] = np.bincount(rng.integers(0, clusters, clusters), minlength=clusters)
        yield block


def rao_wu_weights(
    strata: ArrayLike, replicates: int, seed: int | np.random.SeedSequence, *, name: str = "rao-wu"
) -> Iterator[NDArray[np.float64]]:
    """Draw rescaled bootstrap weights within strata (Rao and Wu 1988), in blocks.

    In stratum h, n_h - 1 of the n_h units are drawn with replacement and each draw counts n_h / (n_h - 1), which makes
    the bootstrap variance unbiased for means. A stratum of one unit keeps weight 1: it adds no variance.

    Parameters
    ----------
    strata
        Shape (n,), the stratum of each sampled unit (turn, or dialogue when dialogues were drawn).
    replicates, seed, name
        As for `cluster_weights`.

    Yields
    ------
    ndarray
        Shape (r, n): multiply the design weights by a row to get the weights of one replicate.
    """
    codes, names = cluster_codes(np.asarray(strata))
    members = [np.flatnonzero(codes == h) for h in range(len(names))]
    sequence = seed if isinstance(seed, np.random.SeedSequence) else seed_sequence(seed, name)
    rng = np.random.default_rng(sequence)
    rows = max(1, _BLOCK_CELLS // max(1, len(codes)))
    for start in range(0, replicates, rows):
        block = np.ones((min(rows, replicates - start), len(codes)))
        for row in block:
            for units in members:
                size = len(units)
                if size > 1:
                    drawn = np.bincount(rng.integers(0, size, size - 1), minlength=size)
                    row[units] = drawn * (size / (size - 1))
        yield block


# --- intervals -------------------------------------------------------------------------------------------------------


def percentile_interval(replicates: ArrayLike, confidence: float = DEFAULT_CONFIDENCE) -> Interval | None:
    """Give the percentile bootstrap interval of the defined replicates.

    Returns `None` when fewer than two replicates, or fewer than half of them, are defined (not NaN).
    """
    values = np.asarray(replicates, dtype=float).ravel()
    defined = values[np.isfinite(values)]
    if len(defined) < 2 or len(defined) < MIN_DEFINED_SHARE * len(values):
        return None
    tail = (1 - confidence) / 2
    low, high = np.quantile(defined, [tail, 1 - tail])
    return float(low), float(high)


def t_interval(value: float, se: float, df: float, confidence: float = DEFAULT_CONFIDENCE) -> Interval:
    """Give value +- t(df) x se. Raises `ValueError` when df < 1 or se is negative."""
    if df < 1 or se < 0:
        raise ValueError(f"A t interval needs df >= 1 and se >= 0, got df={df}, se={se}.")
    half = float(special.stdtrit(df, (1 + confidence) / 2)) * se
    return value - half, value + half


def z_interval(value: float, se: float, confidence: float = DEFAULT_CONFIDENCE) -> Interval:
    """Give value +- z x se."""
    half = float(special.ndtri((1 + confidence) / 2)) * se
    return value - half, value + half


def wilson(k: float, n: float, confidence: float = DEFAULT_CONFIDENCE, *, df: float | None = None) -> Interval:
    """Give the score interval of a proportion of k in n independent trials (Wilson 1927).

    (p + z²/2n +- z sqrt(p(1-p)/n + z²/4n²)) / (1 + z²/n). Raises `ValueError` unless 0 <= k <= n and n > 0.

    Parameters
    ----------
    df
        Degrees of freedom: the quantile of t in place of z, where n is an effective number estimated from clusters.
    """
    _check_counts(k, n)
    tail = (1 + confidence) / 2
    z2 = float(special.ndtri(tail) if df is None else special.stdtrit(df, tail)) ** 2
    p = k / n
    centre = (p + z2 / (2 * n)) / (1 + z2 / n)
    half = math.sqrt(z2 * (p * (1 - p) / n + z2 / (4 * n * n))) / (1 + z2 / n)
    return (0.0 if k == 0 else max(0.0, centre - half)), (1.0 if k == n else min(1.0, centre + half))


def clopper_pearson(k: float, n: float, confidence: float = DEFAULT_CONFIDENCE) -> Interval:
    """Give the exact interval of a proportion (Clopper and Pearson 1934), from beta quantiles.

    Raises `ValueError` unless 0 <= k <= n and n > 0.
    """
    _check_counts(k, n)
    tail = (1 - confidence) / 2
    low = 0.0 if k == 0 else float(special.betaincinv(k, n - k + 1, tail))
    high = 1.0 if k == n else float(special.betaincinv(k + 1, n - k, 1 - tail))
    return low, high


def _check_counts(k: float, n: float) -> None:
    if not (n > 0 and 0 <= k <= n):
        raise ValueError(f"A proportion needs 0 <= k <= n and n > 0, got k={k}, n={n}.")


def clip_interval(interval: Interval | None, bounds: tuple[float, float] | None) -> Interval | None:
    """Cut an interval to the range the statistic can take."""
    if interval is None or bounds is None:
        return interval
    low, high = bounds
    return min(max(interval[0], low), high), min(max(interval[1], low), high)


def bootstrap_estimate(
    value: float,
    replicates: ArrayLike,
    *,
    n: int,
    clusters: int,
    unit: str = "dialogue",
    confidence: float = DEFAULT_CONFIDENCE,
    bounds: tuple[float, float] | None = None,
    notes: Sequence[str] = (),
) -> Estimate:
    """Turn a point estimate and its bootstrap replicates into an `Estimate`.

    With `FEW_CLUSTERS` clusters or more the interval is the percentile interval; with fewer it is
    value +- t(D-1) x bootstrap standard error, with the note `few clusters`, since percentile intervals cover too
    little there. When every replicate is the same (such as agreement without one exception) there is no interval, for
    a width of nothing would be false. Undefined replicates (NaN) are left out and their share is noted; with more than
    half undefined, or with one cluster, there is no interval. `reason` says why there is none.

    Parameters
    ----------
    value
        The point estimate from all data.
    replicates
        Shape (R,), the statistic in each resample; NaN where undefined.
    n, clusters
        Observations, and resampled clusters D.
    unit
        What was resampled, for `method`: `dialogue` or `item`.
    bounds
        The range of the statistic, to which intervals are cut.
    """
    values = np.asarray(replicates, dtype=float).ravel()
    defined = values[np.isfinite(values)]
    total = len(values)
    said = list(notes)
    label = f"{unit} bootstrap"
    if clusters < 2:
        return Estimate(
            value, n, reason=f"one_{unit}", method=label, clusters=clusters, notes=(*said, f"one {unit}: no interval")
        )
    if total == 0:
        return Estimate(value, n, reason="no_replicates", clusters=clusters, notes=tuple(said))
    if len(defined) < 2 or len(defined) < MIN_DEFINED_SHARE * total:
        said.append(f"undefined in {total - len(defined)} of {total} resamples: no interval")
        return Estimate(value, n, reason="unstable", method=label, clusters=clusters, notes=tuple(said))
    if len(defined) < total:
        said.append(f"undefined in {total - len(defined)} of {total} resamples, left out")
    if float(np.ptp(defined)) <= _SAME:
        said.append("the same in every resample: the data cannot show its width")
        return Estimate(value, n, None, 0.0, "no_variation", label, clusters, tuple(said))
    se = float(np.std(defined, ddof=1))
    if clusters < FEW_CLUSTERS:
        interval: Interval | None = t_interval(value, se, clusters - 1, confidence)
        label = f"{label} SE, t({clusters - 1}), {total}"
        said.append("few clusters" if unit == "dialogue" else f"few {unit}s")
    else:
        interval = percentile_interval(defined, confidence)
        label = f"{label}, percentile, {total}"
    return Estimate(value, n, clip_interval(interval, bounds), se, None, label, clusters, tuple(said))


def cluster_linearised(
    values: ArrayLike,
    weights: ArrayLike | None = None,
    clusters: ArrayLike | None = None,
    *,
    confidence: float = DEFAULT_CONFIDENCE,
    bounds: tuple[float, float] | None = None,
) -> Estimate:
    """Estimate a mean from weighted, clustered observations (Hájek estimator, linearised standard error).

    theta = sum w y / sum w; z_d = sum over cluster d of w (y - theta); SE² = D/(D-1) sum z_d² / (sum w)²; interval
    theta +- t(D-1) SE (Särndal, Swensson and Wretman 1992, sections 5.7 and 4.2).

    Parameters
    ----------
    values
        Shape (n,). NaN is refused: leave unobserved rows out.
    weights
        Shape (n,), inverse inclusion probabilities; 1 when left out.
    clusters
        Shape (n,), the dialogue of each row; each row is its own cluster when left out.
    """
    y = np.asarray(values, dtype=float).ravel()
    w = np.ones(len(y)) if weights is None else np.asarray(weights, dtype=float).ravel()
    if len(w) != len(y):
        raise ValueError(f"There are {len(y)} values but {len(w)} weights.")
    if not (np.isfinite(y).all() and np.isfinite(w).all() and (w >= 0).all()):
        raise ValueError("Values must be finite, and weights finite and not negative.")
    codes = np.arange(len(y)) if clusters is None else cluster_codes(np.asarray(clusters))[0]
    if len(codes) != len(y):
        raise ValueError(f"There are {len(y)} values but {len(codes)} cluster names.")
    total = float(w.sum())
    if total == 0:
        return undefined("no_data")
    theta = float(w @ y / total)
    sums = np.bincount(codes, weights=w * (y - theta))
    count = len(sums)
    if count < 2:
        reason = "one_item" if len(y) == 1 else "one_dialogue"
        return Estimate(theta, len(y), reason=reason, method="cluster-linearised", clusters=count)
    se = math.sqrt(count / (count - 1) * float(sums @ sums)) / total
    if se <= _SAME:
        note = "no observation differs: the data cannot show the width"
        return Estimate(theta, len(y), None, 0.0, "no_variation", "cluster-linearised", count, (note,))
    notes = ("few clusters",) if clusters is not None and count < FEW_CLUSTERS else ()
    interval = clip_interval(t_interval(theta, se, count - 1, confidence), bounds)
    return Estimate(theta, len(y), interval, se, None, f"cluster-linearised, t({count - 1})", count, notes)


# --- several tests at once -------------------------------------------------------------------------------------------


def holm(p: ArrayLike) -> NDArray[np.float64]:
    """Adjust p-values for the family-wise error rate, step down (Holm 1979); NaN entries are left out of the family."""
    return _adjust(p, "holm")


def benjamini_hochberg(p: ArrayLike) -> NDArray[np.float64]:
    """Adjust p-values for the false discovery rate, step up (Benjamini and Hochberg 1995); NaN entries are left out."""
    return _adjust(p, "bh")


def _adjust(p: ArrayLike, how: Literal["holm", "bh"]) -> NDArray[np.float64]:
    values = np.asarray(p, dtype=float).ravel()
    known = np.isfinite(values)
    if ((values[known] < 0) | (values[known] > 1)).any():
        raise ValueError("p-values lie between 0 and 1.")
    family = values[known]
    size = len(family)
    order = np.argsort(family, kind="stable")
    ranked = family[order]
    if how == "holm":
        stepped = np.maximum.accumulate((size - np.arange(size)) * ranked)
    else:
        stepped = np.minimum.accumulate((size / (np.arange(size) + 1) * ranked)[::-1])[::-1]
    adjusted = np.empty(size)
    adjusted[order] = np.minimum(1.0, stepped)
    result = np.full(len(values), np.nan)
    result[known] = adjusted
    return result
