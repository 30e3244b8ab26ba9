"""Systems compared on the same turns: all pairs, ranks, letters, and what could have been detected.

Every comparison uses the turns that all systems answered, and every resample draws the same dialogues for all of them.
A pair is tested by sign flips: under the null hypothesis the two systems' answers within a dialogue could be exchanged.

Sources: Efron and Tibshirani 1993; Fisher 1935 (randomisation); Holm 1979; Benjamini and Hochberg 1995; Piepho 2004
(compact letters); Phipson and Smyth 2010 (Monte Carlo p-values are never 0).
"""

from __future__ import annotations

import itertools
import string
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from evaluation import counts as ct
from evaluation.counts import Cube, Floats, K
from evaluation.estimation import MIN_CLUSTERS, MIN_LABELS, difference_mean
from evaluation.groups import GroupData, MetricOptions
from evaluation.intervals import (
    DEFAULT_REPLICATES,
    Estimate,
    benjamini_hochberg,
    bootstrap_estimate,
    holm,
    seed_sequence,
    undefined,
)

PERMUTATIONS: Final = 10_000
EXACT_UP_TO: Final = 12
LEVEL: Final = 0.05
POWER: Final = 0.80
MIN_CELL: Final = 5

Statistic = Callable[[Floats], Floats]


@dataclass(frozen=True, slots=True)
class PairDifference:
    """System `first` minus system `second` on one measure.

    Attributes
    ----------
    raw
        By classifier labels, with the paired dialogue bootstrap.
    corrected
        The difference estimator on the per-turn difference, where both systems' turns were verified.
    p, p_holm
        Sign-flip permutation of the raw difference, and adjusted over all pairs of the measure and data set.
    detectable
        The true difference that this design would find with a power of .80 at level .05, unadjusted.
    p_corrected, p_corrected_holm
        t test of the corrected difference, 2 P(t(min(D - 1, n - 2)) > |value| / SE), and adjusted in the same way.
    """

    measure: str
    first: str
    second: str
    raw: Estimate
    corrected: Estimate
    p: float | None
    p_holm: float | None
    detectable: float | None
    p_corrected: float | None = None
    p_corrected_holm: float | None = None


@dataclass(frozen=True)
class Comparison:
    """All systems of one data set on one measure.

    Attributes
    ----------
    systems, values
        The systems in order of the measure, highest first, and their raw values on the common turns.
    pairs
        All pairs.
    rank_chance
        Shape (systems, systems): the share of resamples in which a system holds a rank (1 is the highest value).
    letters
        Systems that share a letter are not separated by the Holm-adjusted tests.
    letters_by
        Whose labels those tests compare: `human` (the corrected differences) once every pair has at least `MIN_LABELS`
        verified turns in `MIN_CLUSTERS` dialogues, else `classifier`.
    reference
        The system that is the human reference, empty without one.
    """

    dataset: str
    measure: str
    systems: tuple[str, ...]
    values: tuple[Estimate, ...]
    pairs: tuple[PairDifference, ...]
    rank_chance: Floats
    letters: tuple[str, ...]
    turns: int
    dialogues: int
    reference: str = ""
    letters_by: Literal["classifier", "human"] = "classifier"


def common_turns(groups: Sequence[GroupData], *, reference: bool = False) -> list[NDArray[np.int64]]:
    """Give for each group the row numbers of the turns that all groups answered with labels, in one common order.

    Parameters
    ----------
    reference
        Ask for a reference label too (macro-F1).
    """
    tables = []
    for group in groups:
        known = (group.user >= 0) & (group.response >= 0)
        if reference:
            known &= group.reference >= 0
        rows = np.flatnonzero(known)
        keys = pd.MultiIndex.from_arrays([group.dialogues[rows], group.turns[rows].astype(str)])
        tables.append(pd.Series(rows, index=keys))
    shared = tables[0].index
    for table in tables[1:]:
        shared = shared.intersection(table.index, sort=False)
    return [np.asarray(table.loc[shared], dtype=np.int64) for table in tables]


def measures_compared(options: MetricOptions) -> dict[str, tuple[Statistic, bool]]:
    """Give the measures and whether they need the reference label: exact and coarse alignment, flatness, macro-F1."""
    if options.flatness_classes == "observed":
        flat: Statistic = lambda m: ct.flatness(m.sum(axis=-2), "observed")  # noqa: E731
    else:
        flat = lambda m: ct.flatness(m.sum(axis=-2))  # noqa: E731
    return {
        "exact": (lambda m: ct.alignment(m), False),
        "coarse": (lambda m: ct.alignment(m, options.surprise), False),
        "flatness": (flat, False),
        "macro_f1": (lambda m: ct.macro_f1(m, options.macro_f1), True),
    }


def compare_systems(
    groups: Sequence[GroupData],
    options: MetricOptions,
    *,
    replicates: int = DEFAULT_REPLICATES,
    permutations: int = PERMUTATIONS,
    seed: int = 0,
) -> list[Comparison]:
    """Compare the systems of one data set on alignment, flatness and macro-F1; the reference has no F1 of its own.

    Macro-F1 is over one frozen class set: the classes that occur in the reference or any system's common turns.

    Raises
    ------
    ValueError
        When the groups are of more than one data set.
    """
    if len({group.dataset for group in groups}) > 1:
        raise ValueError("Systems are compared within one data set.")
    found = []
    for measure, (statistic, needs_reference) in measures_compared(options).items():
        chosen = [group for group in groups if not (needs_reference and group.is_reference)]
        if len(chosen) < 2:
            continue
        rows = common_turns(chosen, reference=needs_reference)
        if not len(rows[0]):
            continue
        panel = _Panel.of(chosen, rows, needs_reference and options.f1_truth == "reference")
        if needs_reference:
            statistic = _frozen_macro(panel)
        found.append(_compare(measure, statistic, chosen, rows, panel, options, replicates, permutations, seed))
    return found


@dataclass(frozen=True)
class _Panel:
    """Counts of each system on the common turns, over the same dialogues."""

    cubes: tuple[Cube, ...]
    turns: int

    @classmethod
    def of(cls, groups: Sequence[GroupData], rows: Sequence[NDArray[np.int64]], reference: bool) -> _Panel:
        _, place = np.unique(groups[0].dialogues[rows[0]], return_inverse=True)
        size = int(place.max()) + 1
        cubes = []
        for group, held in zip(groups, rows, strict=True):
            truth = group.reference if reference else group.user
            cubes.append(ct.count_cube(place, truth[held], group.response[held], size=size))
        return cls(tuple(cubes), len(rows[0]))

    @property
    def dialogues(self) -> int:
        return self.cubes[0].dialogues


def _frozen_macro(panel: _Panel) -> Statistic:
    totals = sum(cube.total for cube in panel.cubes)
    present = np.asarray((np.asarray(totals).sum(axis=0) + np.asarray(totals).sum(axis=1)) > 0)
    return lambda m: ct.macro_f1(m, classes=present)


def _compare(
    measure: str,
    statistic: Statistic,
    groups: Sequence[GroupData],
    rows: Sequence[NDArray[np.int64]],
    panel: _Panel,
    options: MetricOptions,
    replicates: int,
    permutations: int,
    seed: int,
) -> Comparison:
    dataset = groups[0].dataset
    values = np.array([float(statistic(cube.total)) for cube in panel.cubes])
    drawn = ct.resample(panel.cubes, replicates, seed, f"{dataset}/comparison")
    draws = np.array([statistic(matrices) for matrices in drawn])
    order = np.argsort(-np.nan_to_num(values, nan=-np.inf), kind="stable")
    settings: dict[str, Any] = {"n": panel.turns, "clusters": panel.dialogues, "confidence": options.confidence}
    estimates = [
        bootstrap_estimate(float(values[i]), draws[i], bounds=(0.0, 1.0), **settings)
        if np.isfinite(values[i])
        else undefined("no_variation", n=panel.turns)
        for i in order
    ]
    pairs = [(i, j) for i, j in itertools.combinations(order, 2) if np.isfinite(values[[i, j]]).all()]
    p = np.array([_sign_flip(panel.cubes[i], panel.cubes[j], statistic, permutations, seed, dataset) for i, j in pairs])
    adjusted = holm(p) if len(p) else p
    corrected = [_corrected(measure, groups[i], groups[j], rows[i], rows[j], options) for i, j in pairs]
    by_people = np.array([_t_test(one) for one in corrected])
    settled = holm(by_people) if len(pairs) else by_people
    results = []
    for place, (i, j) in enumerate(pairs):
        raw = bootstrap_estimate(float(values[i] - values[j]), draws[i] - draws[j], bounds=(-1.0, 1.0), **settings)
        results.append(
            PairDifference(
                measure,
                groups[i].system,
                groups[j].system,
                raw,
                corrected[place],
                _known(p[place]),
                _known(adjusted[place]),
                detectable_difference(raw.se, panel.dialogues),
                _known(by_people[place]),
                _known(settled[place]),
            )
        )
    names = tuple(groups[i].system for i in order)
    suffice = len(corrected) > 0 and all(
        one.se and one.n >= MIN_LABELS and (one.clusters or 0) >= MIN_CLUSTERS for one in corrected
    )
    decided = [(pair, pair.p_corrected_holm if suffice else pair.p_holm) for pair in results]
    apart = {(pair.first, pair.second) for pair, chance in decided if chance is not None and chance < LEVEL}
    return Comparison(
        dataset,
        measure,
        names,
        tuple(estimates),
        tuple(results),
        rank_chances(draws[order]),
        compact_letters(names, apart),
        panel.turns,
        panel.dialogues,
        next((group.system for group in groups if group.is_reference), ""),
        "human" if suffice else "classifier",
    )


def _known(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def _t_test(estimate: Estimate) -> float:
    """Two-sided p of an estimate against 0, on the degrees of freedom of its interval; NaN without a spread."""
    if estimate.value is None or not estimate.se or not estimate.clusters:
        return float("nan")
    df = max(1, min(estimate.clusters - 1, estimate.n - 2))
    return float(2 * stats.t.sf(abs(estimate.value / estimate.se), df))


def detectable_difference(se: float | None, clusters: int) -> float | None:
    """Give (t(.975, D-1) + z(.80)) SE: the difference found with power .80 at the two-sided level .05."""
    if se is None or clusters < 2:
        return None
    return float((stats.t.ppf(1 - LEVEL / 2, clusters - 1) + stats.norm.ppf(POWER)) * se)


# --- permutation -----------------------------------------------------------------------------------------------------


def sign_flips(clusters: int, permutations: int, seed: int, name: str) -> Iterator[NDArray[np.float32]]:
    """Give blocks of signs (r, D): all 2**D of them for up to `EXACT_UP_TO` clusters, else random ones."""
    if clusters <= EXACT_UP_TO:
        yield np.array(list(itertools.product([1.0, -1.0], repeat=clusters)), dtype=np.float32)
        return
    rng = np.random.default_rng(seed_sequence(seed, f"{name}/sign flips"))
    step = max(1, 4_000_000 // clusters)
    for start in range(0, permutations, step):
        size = min(step, permutations - start)
        bits = np.unpackbits(rng.integers(0, 256, (size, -(-clusters // 8)), dtype=np.uint8), axis=1)
        yield (bits[:, :clusters] * np.float32(2) - np.float32(1)).astype(np.float32)


def flipped(first: Cube, second: Cube, permutations: int, seed: int, name: str) -> Iterator[tuple[Floats, Floats]]:
    """Exchange the two systems' counts in random dialogues: blocks of pairs of matrices (r, 7, 7)."""
    both = (first.total + second.total).ravel()
    gap = (first.sums - second.sums).reshape(first.dialogues, K * K)
    for signs in sign_flips(first.dialogues, permutations, seed, name):
        swing = (signs.astype(gap.dtype, copy=False) @ gap).astype(float)
        yield ((both + swing) / 2).reshape(-1, K, K), ((both - swing) / 2).reshape(-1, K, K)


def _sign_flip(first: Cube, second: Cube, statistic: Statistic, permutations: int, seed: int, name: str) -> float:
    observed = abs(float(statistic(first.total) - statistic(second.total)))
    extreme = total = 0
    for one, other in flipped(first, second, permutations, seed, name):
        gap = np.abs(statistic(one) - statistic(other))
        extreme += int((gap >= observed - 1e-12).sum())
        total += len(gap)
    return permutation_p(extreme, total, exact=first.dialogues <= EXACT_UP_TO)


def permutation_p(extreme: int, total: int, *, exact: bool) -> float:
    """Give extreme / total for all permutations, (extreme + 1) / (total + 1) for a random sample of them."""
    return extreme / total if exact else (extreme + 1) / (total + 1)


def sign_flip_p(sums: Floats, *, permutations: int = PERMUTATIONS, seed: int = 0, name: str = "sums") -> float:
    """Test that per-dialogue sums (D,) are symmetric about 0: two-sided p of the absolute total under sign flips."""
    observed = abs(float(sums.sum()))
    extreme = total = 0
    for signs in sign_flips(len(sums), permutations, seed, name):
        drawn = np.abs(signs.astype(float) @ sums)
        extreme += int((drawn >= observed - 1e-9 * max(1.0, observed)).sum())
        total += len(drawn)
    return permutation_p(extreme, total, exact=len(sums) <= EXACT_UP_TO)


# --- ranks and letters -----------------------------------------------------------------------------------------------


def rank_chances(draws: Floats) -> Floats:
    """Give the share of resamples in which each system holds each rank.

    Parameters
    ----------
    draws
        Shape (systems, R). Rank 1 is the highest value; ties share their ranks evenly.
    """
    systems = len(draws)
    usable = draws[:, np.isfinite(draws).all(axis=0)]
    chance = np.zeros((systems, systems))
    if not usable.shape[1]:
        return np.full((systems, systems), np.nan)
    above = (usable[None] > usable[:, None]).sum(axis=1)
    equal = (usable[None] == usable[:, None]).sum(axis=1)
    for rank in range(systems):
        held = (above <= rank) & (rank < above + equal)
        chance[:, rank] = np.where(held, 1 / equal, 0.0).mean(axis=1)
    return chance


def compact_letters(systems: Sequence[str], apart: set[tuple[str, str]]) -> tuple[str, ...]:
    """Give letters so that two systems share one exactly when they are not separated (insert and absorb, Piepho 2004).

    Parameters
    ----------
    systems
        In display order; letters are given in this order.
    apart
        The separated pairs, in either order.
    """
    columns: list[set[str]] = [set(systems)]
    for one, other in itertools.combinations(systems, 2):
        if (one, other) not in apart and (other, one) not in apart:
            continue
        for column in [column for column in columns if one in column and other in column]:
            columns.remove(column)
            columns += [column - {one}, column - {other}]
        columns = [
            c for k, c in enumerate(columns) if not any(c < d or (c == d and k > m) for m, d in enumerate(columns))
        ]
    columns.sort(key=lambda column: [system not in column for system in systems])
    names = [string.ascii_lowercase[k % 26] + (str(k // 26) if k >= 26 else "") for k in range(len(columns))]
    return tuple(
        "".join(name for name, column in zip(names, columns, strict=True) if system in column) for system in systems
    )


# --- corrected differences, and cells ---------------------------------------------------------------------------------


def _corrected(
    measure: str,
    first: GroupData,
    second: GroupData,
    rows_first: NDArray[np.int64],
    rows_second: NDArray[np.int64],
    options: MetricOptions,
) -> Estimate:
    """Apply the difference estimator to the per-turn difference d = match(first) - match(second).

    A turn counts once all four labels are verified; its inclusion probability is that of the first system's row, so
    designs that verify all systems' responses of a drawn turn are assumed.
    """
    if measure not in ("exact", "coarse"):
        return undefined("not_a_mean", method="difference estimator")
    match, scored = ct.match_masks(None if measure == "exact" else options.surprise)
    if not scored.all():
        return undefined("not_a_mean", method="difference estimator")
    labels = [
        (group.user_human[rows], group.response_human[rows], group.user[rows], group.response[rows])
        for group, rows in ((first, rows_first), (second, rows_second))
    ]
    verified = np.logical_and.reduce([column >= 0 for part in labels for column in part[:2]])
    everywhere = match[labels[0][2], labels[0][3]].astype(float) - match[labels[1][2], labels[1][3]]
    mask = np.zeros(len(first.user), dtype=bool)
    mask[rows_first[verified]] = True
    population = np.zeros(len(first.user), dtype=bool)
    population[rows_first] = True
    design, kept = first.design(mask, population)
    held = kept[rows_first]
    if not design.n:
        return undefined("no_data", method="difference estimator")
    d = match[labels[0][0][held], labels[0][1][held]].astype(float) - match[labels[1][0][held], labels[1][1][held]]
    # The design numbers its rows as the group does, `held` as the common turns do.
    order = np.argsort(rows_first[held], kind="stable")
    return difference_mean(
        d[order],
        everywhere[held][order],
        everywhere,
        design,
        dialogues_all=first.dialogues[rows_first],
        target="superpopulation",
        confidence=options.confidence,
        bounds=(-1.0, 1.0),
    )


@dataclass(frozen=True, slots=True)
class CellDifference:
    """How much more often a system answers `user` with `response` than the human reference does, among such turns."""

    user: int
    response: int
    turns: int
    share: float
    baseline: float | None
    difference: Estimate
    p: float | None
    p_adjusted: float | None


def compare_cells(
    system: GroupData,
    baseline: GroupData | None,
    options: MetricOptions,
    *,
    replicates: int = DEFAULT_REPLICATES,
    permutations: int = PERMUTATIONS,
    seed: int = 0,
) -> list[CellDifference]:
    """Compare the row shares of a system's misalignments with the human baseline, cell by cell.

    Cells off the diagonal with `MIN_CELL` turns or more; p by sign flips on the common turns, adjusted for the false
    discovery rate over the listed cells (Benjamini and Hochberg 1995). Most frequent pattern first.
    """
    own = ct.count_cube(system.dialogues, system.user, system.response, size=system.size)
    share = ct.normalised(own.total)
    gaps = _cell_gaps(system, baseline, replicates, permutations, seed) if baseline is not None else None
    cells = [(a, b) for a in range(K) for b in range(K) if a != b and own.total[a, b] >= MIN_CELL]
    p = np.array([gaps.p[a, b] if gaps is not None else np.nan for a, b in cells])
    adjusted = benjamini_hochberg(p) if len(p) else p
    found = []
    for (a, b), chance, family in zip(cells, p, adjusted, strict=True):
        difference = undefined("no_baseline")
        if gaps is not None and np.isfinite(gaps.value[a, b]):
            difference = bootstrap_estimate(
                float(gaps.value[a, b]),
                gaps.draws[:, a, b],
                n=gaps.turns,
                clusters=gaps.dialogues,
                bounds=(-1.0, 1.0),
                confidence=options.confidence,
            )
        found.append(
            CellDifference(
                a,
                b,
                int(own.total[a, b]),
                float(share[a, b]),
                float(gaps.baseline[a, b]) if gaps is not None and np.isfinite(gaps.baseline[a, b]) else None,
                difference,
                float(chance) if np.isfinite(chance) else None,
                float(family) if np.isfinite(family) else None,
            )
        )
    return sorted(found, key=lambda cell: (-cell.turns, cell.user, cell.response))


@dataclass(frozen=True)
class _Gaps:
    value: Floats
    baseline: Floats
    draws: Floats
    p: Floats
    turns: int
    dialogues: int


def _cell_gaps(system: GroupData, baseline: GroupData, replicates: int, permutations: int, seed: int) -> _Gaps | None:
    rows = common_turns([system, baseline])
    if not len(rows[0]):
        return None
    panel = _Panel.of([system, baseline], rows, reference=False)
    first, second = panel.cubes
    value = ct.normalised(first.total) - ct.normalised(second.total)
    one, other = ct.resample(panel.cubes, replicates, seed, f"{system.dataset}/cells")
    draws = ct.normalised(one) - ct.normalised(other)
    extreme, total = np.zeros((K, K)), 0
    for swapped, rest in flipped(first, second, permutations, seed, system.dataset):
        gap = np.abs(ct.normalised(swapped) - ct.normalised(rest))
        extreme += (gap >= np.abs(value) - 1e-12).sum(axis=0)
        total += len(gap)
    exact = panel.dialogues <= EXACT_UP_TO
    p = extreme / total if exact else (extreme + 1) / (total + 1)
    p = np.where(np.isfinite(value), p, np.nan)
    return _Gaps(value, ct.normalised(second.total), draws, p, panel.turns, panel.dialogues)
