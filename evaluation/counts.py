"""The paper's metrics as functions of counts: every one is vectorised over any leading axes.

Nothing here knows where counts come from. A confusion matrix has shape (..., 7, 7), a label distribution (..., 7),
both in the order of `EMOTIONS`; a batch of bootstrap replicates is one more leading axis. Undefined is NaN here and
becomes `null` with a reason where an `Estimate` is made.

Sources: Parmar and Mazumdar (alignment, flatness, per-emotion F1); Shannon (1948); Miller (1955) for the small-sample
correction of entropy; Cohen (1960) for kappa.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from evaluation.emotions import EMOTIONS, SurprisePlace, valence_groups
from evaluation.intervals import cluster_codes, cluster_weights

K: Final = len(EMOTIONS)
FLATNESS_BASE: Final = float(np.log2(K))
MacroPolicy = Literal["present", "true_only", "all7_zero"]
MACRO_POLICIES: Final[tuple[MacroPolicy, ...]] = ("present", "true_only", "all7_zero")

Counts = NDArray[Any]
Floats = NDArray[np.float64]


def _ratio(numerator: ArrayLike, denominator: ArrayLike) -> Floats:
    """Divide, with NaN where the denominator is not positive."""
    top, bottom = np.broadcast_arrays(np.asarray(numerator, dtype=float), np.asarray(denominator, dtype=float))
    return np.asarray(np.divide(top, bottom, out=np.full(top.shape, np.nan), where=bottom > 0))


# --- codes and cubes -------------------------------------------------------------------------------------------------


def emotion_codes(labels: Sequence[Any] | NDArray[Any] | pd.Series[Any]) -> NDArray[np.int8]:
    """Give each label its place in `EMOTIONS`; missing is -1.

    Raises
    ------
    ValueError
        Naming the first row (from 1) whose label is not one of the seven.
    """
    values: Any = labels if isinstance(labels, np.ndarray | pd.Series) else np.array([*labels, None], dtype=object)[:-1]
    codes, names = pd.factorize(values)
    place = {str(emotion): index for index, emotion in enumerate(EMOTIONS)}
    table = np.full(len(names) + 1, -1, dtype=np.int8)
    for index, name in enumerate(names):
        if name in place:
            table[index] = place[name]
        elif name != "":
            row = int(np.argmax(codes == index)) + 1
            raise ValueError(f"Row {row}: {name!r} is not an emotion label; the labels are {', '.join(EMOTIONS)}.")
    return np.asarray(table[codes], dtype=np.int8)


@dataclass(frozen=True)
class Cube:
    """Additive counts per dialogue: what every metric and every bootstrap replicate is made of.

    Attributes
    ----------
    sums
        Shape (D, 7, 7): per dialogue the count, or the summed weight, of rows with (row label, column label).
    """

    sums: Counts

    @property
    def dialogues(self) -> int:
        """D, the number of dialogues with a slot in the cube, also those without a counted row."""
        return int(self.sums.shape[0])

    @property
    def total(self) -> Floats:
        """Shape (7, 7), summed over dialogues."""
        return np.asarray(self.sums.sum(axis=0, dtype=float))

    def replicates(self, weights: Counts) -> Floats:
        """Give the matrices of resamples: weights (R, D) -> (R, 7, 7)."""
        flat = self.sums.reshape(self.dialogues, K * K)
        return np.asarray(weights.astype(flat.dtype, copy=False) @ flat).reshape(-1, K, K)

    def adding(self, dialogue: int, row: int, column: int, by: float = 1.0) -> Cube:
        """Give the cube after one more label pair: counts are additive, so an update costs one cell."""
        sums = self.sums.copy()
        sums[dialogue, row, column] += by
        return Cube(sums)


def count_cube(
    dialogues: NDArray[np.integer[Any]],
    rows: NDArray[np.integer[Any]],
    columns: NDArray[np.integer[Any]],
    *,
    size: int,
    weights: Floats | None = None,
) -> Cube:
    """Count label pairs per dialogue; rows with a missing label (-1) on either side are left out.

    Parameters
    ----------
    dialogues
        Shape (n,), the dialogue number of each row, below `size`.
    rows, columns
        Shape (n,), label codes.
    weights
        Shape (n,), inverse inclusion probabilities. Without them the cube holds exact counts in float32, and sums over
        fewer than 2**24 rows are exact whatever the order of additions. With them it is float64, rounded to 2**-30 of
        the largest cell for the same reason.
    """
    cells = (dialogues.astype(np.int64) * K + rows) * K + columns
    known = (rows >= 0) & (columns >= 0)
    if not known.all():
        cells = cells[known]
        weights = None if weights is None else weights[known]
    sums = np.bincount(cells, weights=weights, minlength=size * K * K).reshape(size, K, K)
    if weights is None:
        return Cube(sums.astype(np.float32 if len(cells) < 2**24 else np.float64))
    return Cube(whole_units(sums.astype(np.float64)))


def whole_units(sums: Floats) -> Floats:
    """Round to multiples of 2**-30 of the power of two above the largest cell, so that sums do not depend on order."""
    peak = float(np.abs(sums).max(initial=0.0))
    if peak == 0.0:
        return sums
    unit = float(2.0 ** (np.ceil(np.log2(peak)) - 30))
    return np.asarray(np.round(sums / unit) * unit)


def dialogue_codes(*columns: pd.Series[Any]) -> tuple[NDArray[np.int64], int]:
    """Give each row its dialogue's number, by the project's one definition of a cluster, and how many there are."""
    codes, names = cluster_codes(*columns)
    return codes, len(names)


def resample(cubes: Sequence[Cube], replicates: int, seed: int, name: str) -> list[Floats]:
    """Resample whole dialogues, with the same weights for every cube: R matrices of shape (7, 7) for each.

    Raises
    ------
    ValueError
        When the cubes do not speak of the same dialogues.
    """
    sizes = {cube.dialogues for cube in cubes}
    if len(sizes) != 1:
        raise ValueError(f"Cubes that are resampled together need the same dialogues, got {sorted(sizes)}.")
    single = all(cube.sums.dtype == np.float32 for cube in cubes)
    stacked = np.concatenate([cube.sums.reshape(cube.dialogues, K * K) for cube in cubes], axis=1)
    dtype: type[np.floating[Any]] = np.float32 if single else np.float64
    blocks = [block @ stacked for block in cluster_weights(sizes.pop(), replicates, seed, name=name, dtype=dtype)]
    drawn = np.concatenate(blocks).astype(float) if blocks else np.empty((0, stacked.shape[1]))
    return [drawn[:, part * K * K : (part + 1) * K * K].reshape(-1, K, K) for part in range(len(cubes))]


# --- alignment -------------------------------------------------------------------------------------------------------


def match_masks(surprise: SurprisePlace | None = None) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Give which cells count as a match, and which are scored at all: two (7, 7) masks.

    `surprise=None` is the exact match; otherwise the coarse match with surprise at that place. With `excluded` the
    pairs in which either side is surprise are not scored.
    """
    if surprise is None:
        return np.eye(K, dtype=bool), np.ones((K, K), dtype=bool)
    groups = [valence_groups(surprise)[emotion] for emotion in EMOTIONS]
    scored = np.array([[a is not None and b is not None for b in groups] for a in groups])
    match = np.array([[a == b for b in groups] for a in groups]) & scored
    return match, scored


def alignment(matrix: Counts, surprise: SurprisePlace | None = None, unanswered: ArrayLike = 0) -> Floats:
    """Share of scored turns whose user and response labels match: equation 1 of the paper, as a share of 1.

    Parameters
    ----------
    matrix
        Shape (..., 7, 7), rows user emotion, columns response emotion.
    surprise
        `None` for the exact match, else the place of surprise in the coarse match.
    unanswered
        Turns without a response that count as unmatched (`turn="all_user"`).
    """
    match, scored = match_masks(surprise)
    hits = (matrix * match).sum(axis=(-2, -1), dtype=float)
    turns = (matrix * scored).sum(axis=(-2, -1), dtype=float) + unanswered
    return _ratio(hits, turns)


# --- flatness --------------------------------------------------------------------------------------------------------


def entropy_bits(counts: Counts) -> Floats:
    """Shannon entropy in bits of label counts (..., K); NaN without any. H = -sum p log2 p, equation 2 of the paper."""
    totals = counts.sum(axis=-1, keepdims=True, dtype=float)
    share = _ratio(counts, totals)
    with np.errstate(divide="ignore", invalid="ignore"):
        terms = np.where(share > 0, share * np.log2(share), 0.0)
    return np.where(totals[..., 0] > 0, np.maximum(0.0, -terms.sum(axis=-1)), np.nan)


def observed_classes(counts: Counts) -> NDArray[np.int64]:
    """Give the number of labels that occur, over the last axis."""
    return np.asarray((counts > 0).sum(axis=-1), dtype=np.int64)


def flatness(
    counts: Counts,
    classes: Literal["declared", "observed"] = "declared",
    correction: Literal["plug_in", "miller_madow"] = "plug_in",
) -> Floats:
    """Entropy over its maximum: 0 is one label only, 1 is all labels equally often (the paper's flatness score).

    The maximum is log2 of the 7 declared labels, or of the labels observed (undefined with one). Miller's correction
    may go beyond it; the flatness is then 1.
    """
    bits = entropy_bits(counts) if correction == "plug_in" else miller_madow_bits(counts)
    if classes == "declared":
        share = bits / FLATNESS_BASE
    else:
        share = _ratio(bits, np.log2(np.maximum(observed_classes(counts), 1)))
    return np.asarray(share if correction == "plug_in" else np.minimum(share, 1.0))


def miller_madow_bits(counts: Counts) -> Floats:
    """Entropy with Miller's small-sample correction: H + (K_observed - 1) / (2 n ln 2), in bits.

    n is the sum of `counts`. Counts of a weighted sample are scaled to its number of labels first, so that they do not
    add up to the corpus: the bias is that of the labels that were seen (`evaluation.measures.count_measures`).
    """
    n = counts.sum(axis=-1, dtype=float)
    return entropy_bits(counts) + _ratio(observed_classes(counts) - 1, 2 * n * np.log(2))


def entropy_delta_se(counts: Counts) -> Floats:
    """Delta-method standard error of H in bits for a simple random sample: Var = (sum p log2² p - H²) / n."""
    n = counts.sum(axis=-1, dtype=float)
    share = _ratio(counts, n[..., None])
    with np.errstate(divide="ignore", invalid="ignore"):
        logs = np.where(share > 0, np.log2(share), 0.0)
    spread = (share * logs**2).sum(axis=-1) - entropy_bits(counts) ** 2
    return np.sqrt(_ratio(np.maximum(spread, 0.0), n))


# --- precision, recall, F1 -------------------------------------------------------------------------------------------


def precision(matrix: Counts) -> Floats:
    """Per class, of the columns' (predicted) labels the share that is right: (..., 7), NaN if never predicted."""
    return _ratio(np.diagonal(matrix, axis1=-2, axis2=-1), matrix.sum(axis=-2, dtype=float))


def recall(matrix: Counts) -> Floats:
    """Per class, of the rows' (true) labels the share that is found: (..., 7), NaN without support."""
    return _ratio(np.diagonal(matrix, axis1=-2, axis2=-1), matrix.sum(axis=-1, dtype=float))


def f1(matrix: Counts) -> Floats:
    """Per class 2 tp / (support + predicted): (..., 7), NaN where a class is neither true nor predicted."""
    both = matrix.sum(axis=-2, dtype=float) + matrix.sum(axis=-1, dtype=float)
    return _ratio(2.0 * np.diagonal(matrix, axis1=-2, axis2=-1), both)


def macro_f1(matrix: Counts, policy: MacroPolicy = "present", classes: NDArray[np.bool_] | None = None) -> Floats:
    """Mean F1 over classes; which classes is the policy.

    Parameters
    ----------
    matrix
        Shape (..., 7, 7), rows true, columns predicted.
    policy
        `present`: classes with support or prediction (scikit-learn's default); `true_only`: classes with support;
        `all7_zero`: all seven, an undefined F1 counting 0.
    classes
        A frozen class set of shape (7,), for comparisons: the mean is over exactly these, an undefined F1 counting 0.
    """
    values = f1(matrix)
    empty = matrix.sum(axis=(-2, -1), dtype=float) <= 0
    if classes is not None:
        counted = np.broadcast_to(classes, values.shape)
    elif policy == "present":
        counted = np.isfinite(values)
    elif policy == "true_only":
        counted = matrix.sum(axis=-1) > 0
    else:
        counted = np.ones(values.shape, dtype=bool)
    mean = _ratio(np.where(counted, np.nan_to_num(values), 0.0).sum(axis=-1), counted.sum(axis=-1))
    return np.where(empty, np.nan, mean)


def weighted_f1(matrix: Counts) -> Floats:
    """Mean F1 weighted by support."""
    support = matrix.sum(axis=-1, dtype=float)
    return _ratio((support * np.nan_to_num(f1(matrix))).sum(axis=-1), support.sum(axis=-1))


def accuracy(matrix: Counts) -> Floats:
    """Trace over total; for single labels micro-F1 is the same number."""
    return _ratio(np.trace(matrix, axis1=-2, axis2=-1), matrix.sum(axis=(-2, -1), dtype=float))


def cohen_kappa(matrix: Counts) -> Floats:
    """Cohen's kappa (p_o - p_e) / (1 - p_e), NaN when chance agreement is 1 (no variation)."""
    total = matrix.sum(axis=(-2, -1), dtype=float)
    rows = _ratio(matrix.sum(axis=-1, dtype=float), total[..., None])
    columns = _ratio(matrix.sum(axis=-2, dtype=float), total[..., None])
    chance = (rows * columns).sum(axis=-1)
    # 1 - chance of a table with one category is a rounding residue, not variation.
    return _ratio(accuracy(matrix) - chance, np.where(1 - chance > 1e-12, 1 - chance, 0.0))


def normalised(matrix: Counts, by: Literal["row", "column", "all", "none"] = "row") -> Floats:
    """Give a confusion matrix as shares of its rows, columns or total; NaN where that is empty."""
    if by == "none":
        return np.asarray(matrix, dtype=float)
    axes: dict[str, int | tuple[int, int]] = {"row": -1, "column": -2, "all": (-2, -1)}
    return _ratio(matrix, matrix.sum(axis=axes[by], keepdims=True, dtype=float))
