"""Systems compared on the same turns: all pairs, ranks, letters, and what could have been detected.

Every comparison uses the turns that all systems answered, and every resample draws the same dialogues for all of them.
By classifier labels a pair is tested by sign flips; where people verified all systems' responses to a drawn part of the
turns, values and differences are corrected by their labels (`evaluation.verified_panel`) and tested by t.

Sources: Efron and Tibshirani 1993; Holm 1979; Zrnic 2024 (PPBoot); Piepho 2004 (compact letters).
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from evaluation import counts as ct
from evaluation.counts import Cube, Floats
from evaluation.estimation import FIRM_LABELS, FRAGILE, MIN_CLUSTERS, MIN_LABELS
from evaluation.groups import GroupData, MetricOptions
from evaluation.intervals import DEFAULT_REPLICATES, Estimate, bootstrap_estimate, holm, undefined
from evaluation.permutation import PERMUTATIONS, pair_p
from evaluation.ranks import compact_letters, rank_chances
from evaluation.verified_panel import LabelPair, Statistic, VerifiedPanel

LEVEL: Final = 0.05
POWER: Final = 0.80
MIN_ANSWERED: Final = 0.5


@dataclass(frozen=True, slots=True)
class Measure:
    """One measure of the comparison, a function of the matrix of truth (rows) and response (columns).

    Attributes
    ----------
    rows
        Whose labels the rows are. The measures of `response` look at the columns only.
    match
        The cells that count, where the measure is their share among all turns; `None` for any other function.
    """

    key: str
    statistic: Statistic
    rows: Literal["user", "reference", "response"]
    match: NDArray[np.bool_] | None = None

    def labels(self, group: GroupData) -> LabelPair:
        """Give the labels of a system that this measure looks at."""
        truth = {
            "user": (group.user, group.user_human),
            "reference": (group.reference, group.reference_human),
            "response": (group.response, group.response_human),
        }[self.rows]
        return LabelPair(truth[0], group.response, truth[1], group.response_human)


@dataclass(frozen=True, slots=True)
class PairDifference:
    """System `first` minus system `second` on one measure.

    Attributes
    ----------
    raw
        By classifier labels, with the paired dialogue bootstrap.
    corrected
        By the labels of people on the turns verified for both systems and the classifier's on all common turns.
    p, p_holm
        Sign-flip permutation of the raw difference, and adjusted over all pairs of the measure and data set.
    detectable
        The true difference that would be found with a power of .80 at level .05, unadjusted: by the corrected
        differences where the comparison's `basis` is `human`, else by the raw ones.
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
    systems
        In order of the measure, highest first: of the corrected values where `basis` is `human`, else of the raw ones.
    values, corrected
        By system on the common turns, by the classifier and corrected by people; for further dialogues like these.
    pairs
        All pairs.
    rank_chance
        Shape (systems, systems): the share of resamples in which a system holds a rank (1 is the highest value).
    letters
        Systems that share a letter are not separated by the Holm-adjusted tests.
    basis
        Whose labels order, ranks and letters rest on: `human` once every pair has `MIN_LABELS` verified turns in
        `MIN_CLUSTERS` dialogues, else `classifier`.
    reference
        The system that is the human reference, empty without one.
    left_out
        Systems that answered less than `MIN_ANSWERED` of the turns that the most complete one answered: with them in,
        the others would be compared on the few turns these happened to answer.
    """

    dataset: str
    measure: str
    systems: tuple[str, ...]
    values: tuple[Estimate, ...]
    corrected: tuple[Estimate, ...]
    pairs: tuple[PairDifference, ...]
    rank_chance: Floats
    letters: tuple[str, ...]
    turns: int
    dialogues: int
    reference: str = ""
    basis: Literal["classifier", "human"] = "classifier"
    left_out: tuple[str, ...] = ()


def common_turns(groups: Sequence[GroupData], *, reference: bool = False) -> list[NDArray[np.int64]]:
    """Give for each group the row numbers of the turns that all groups answered with labels, in one common order.

    Parameters
    ----------
    reference
        Ask for a reference label too (macro-F1).
    """
    tables = []
    for group in groups:
        rows = _labelled(group, reference)
        keys = pd.MultiIndex.from_arrays([group.dialogues[rows], group.turns[rows].astype(str)])
        tables.append(pd.Series(rows, index=keys))
    shared = tables[0].index
    for table in tables[1:]:
        shared = shared.intersection(table.index, sort=False)
    return [np.asarray(table.loc[shared], dtype=np.int64) for table in tables]


def _labelled(group: GroupData, reference: bool) -> NDArray[np.int64]:
    """Give the rows with classifier labels of user and response, and of the reference where that is asked for."""
    known = (group.user >= 0) & (group.response >= 0)
    return np.flatnonzero(known & (group.reference >= 0) if reference else known)


def measures_compared(options: MetricOptions) -> list[Measure]:
    """Give the measures of a comparison: exact and coarse alignment, flatness, macro-F1 under the options."""
    coarse, scored = ct.match_masks(options.surprise)
    classes, correction = options.flatness_classes, options.entropy_correction
    return [
        Measure("exact", ct.alignment, "user", ct.match_masks()[0]),
        Measure("coarse", partial(ct.alignment, surprise=options.surprise), "user", coarse if scored.all() else None),
        Measure("flatness", lambda m: ct.flatness(m.sum(axis=-2), classes, correction), "response"),
        Measure("macro_f1", partial(ct.macro_f1, policy=options.macro_f1), options.f1_truth),
    ]


def compare_systems(
    groups: Sequence[GroupData],
    options: MetricOptions,
    *,
    replicates: int = DEFAULT_REPLICATES,
    permutations: int = PERMUTATIONS,
    seed: int = 0,
) -> list[Comparison]:
    """Compare the systems of one data set on alignment, flatness and macro-F1; the reference has no F1 of its own.

    Macro-F1 is over one frozen class set: the classes that occur among the labels of any system's common turns, by
    classifier or people, on either side.

    Raises
    ------
    ValueError
        When the groups are of more than one data set.
    """
    if len({group.dataset for group in groups}) > 1:
        raise ValueError("Systems are compared within one data set.")
    found = []
    for measure in measures_compared(options):
        needs_reference = measure.key == "macro_f1"
        asked = [group for group in groups if not (needs_reference and group.is_reference)]
        chosen = _answering(asked, needs_reference)
        if len(chosen) < 2:
            continue
        rows = common_turns(chosen, reference=needs_reference)
        if not len(rows[0]):
            continue
        labels = [measure.labels(group) for group in chosen]
        if needs_reference:
            classes = _classes(labels, rows)
            measure = replace(measure, statistic=partial(ct.macro_f1, classes=classes))
        study = _Study(measure, chosen, rows, labels, options, replicates, seed)
        kept = {group.system for group in chosen}
        left_out = tuple(group.system for group in asked if group.system not in kept)
        found.append(replace(study.compare(permutations), left_out=left_out))
    return found


def _answering(groups: Sequence[GroupData], reference: bool) -> list[GroupData]:
    """Give the systems with labels on enough turns to be compared with the others."""
    counts = [len(_labelled(group, reference)) for group in groups]
    least = MIN_ANSWERED * max(counts, default=0)
    return [group for group, count in zip(groups, counts, strict=True) if count and count >= least]


def _classes(labels: Sequence[LabelPair], rows: Sequence[NDArray[np.int64]]) -> NDArray[np.bool_]:
    """Give the emotions that occur on the common turns, shape (7,)."""
    present = np.zeros(ct.K, dtype=bool)
    for pair, held in zip(labels, rows, strict=True):
        here = pair.at(held)
        for side in (here.rows, here.columns, here.rows_human[here.verified], here.columns_human[here.verified]):
            present[side[side >= 0]] = True
    return present


class _Study:
    """One measure of systems on their common turns: the classifier's counts, and what people verified of them."""

    def __init__(
        self,
        measure: Measure,
        groups: Sequence[GroupData],
        rows: Sequence[NDArray[np.int64]],
        labels: Sequence[LabelPair],
        options: MetricOptions,
        replicates: int,
        seed: int,
    ) -> None:
        self.measure, self.groups, self.turns, self.seed = measure, groups, len(rows[0]), seed
        self.dataset, self.confidence = groups[0].dataset, options.confidence
        self.cubes = counted(groups, rows, labels)
        self.dialogues = self.cubes[0].dialogues
        self.values = np.array([float(measure.statistic(cube.total)) for cube in self.cubes])
        name = f"{self.dataset}/comparison"
        drawn = np.array(ct.resample(self.cubes, replicates, seed, name))
        self.draws = np.array([measure.statistic(matrices) for matrices in drawn])
        self.panel = VerifiedPanel(groups, rows, labels, resampled=drawn, seed=seed, name=name)

    def compare(self, permutations: int) -> Comparison:
        systems = range(len(self.groups))
        raw = [self._raw(k) for k in systems]
        corrected = [self._corrected(k) for k in systems]
        joint = self.panel.joint_draws(self.measure.statistic)
        human = self._enough() and bool(np.isfinite(joint).any(axis=1).all())
        basis = np.array([one.value for one in corrected], dtype=float) if human else self.values
        order = [int(k) for k in np.argsort(-np.nan_to_num(basis, nan=-np.inf), kind="stable")]
        known = [(i, j) for i, j in itertools.combinations(order, 2) if np.isfinite(self.values[[i, j]]).all()]
        pairs = self._pairs(known, permutations, human)
        chances = [(pair, pair.p_corrected_holm if human else pair.p_holm) for pair in pairs]
        apart = {(pair.first, pair.second) for pair, chance in chances if chance is not None and chance < LEVEL}
        names = tuple(self.groups[k].system for k in order)
        return Comparison(
            self.dataset,
            self.measure.key,
            names,
            tuple(raw[k] for k in order),
            tuple(corrected[k] for k in order),
            tuple(pairs),
            rank_chances((joint if human else self.draws)[order]),
            compact_letters(names, apart),
            self.turns,
            self.dialogues,
            next((group.system for group in self.groups if group.is_reference), ""),
            "human" if human else "classifier",
        )

    def _enough(self) -> bool:
        """Say whether people verified enough turns for all systems that order and letters can rest on their labels."""
        if self.panel.apart:
            return False
        design = self.panel.sample(range(len(self.groups))).design
        return design.n >= MIN_LABELS and design.clusters >= MIN_CLUSTERS

    def _pairs(self, pairs: Sequence[tuple[int, int]], permutations: int, human: bool) -> list[PairDifference]:
        flips = permutations, self.seed, self.dataset
        p = np.array([pair_p(self.cubes[i], self.cubes[j], self.measure.statistic, *flips) for i, j in pairs])
        raw = [self._raw(i, j) for i, j in pairs]
        corrected = [self._corrected(i, j) for i, j in pairs]
        decisive = corrected if human else raw
        people = np.array([_t_test(one) for one in corrected])
        adjusted, settled = (holm(p), holm(people)) if len(pairs) else (p, people)
        return [
            PairDifference(
                self.measure.key,
                self.groups[i].system,
                self.groups[j].system,
                raw[k],
                corrected[k],
                _known(p[k]),
                _known(adjusted[k]),
                detectable_difference(decisive[k].se, decisive[k].clusters or 0),
                _known(people[k]),
                _known(settled[k]),
            )
            for k, (i, j) in enumerate(pairs)
        ]

    def _raw(self, first: int, second: int | None = None) -> Estimate:
        value, draws = self.values[first], self.draws[first]
        if second is not None:
            value, draws = value - self.values[second], draws - self.draws[second]
        if not np.isfinite(value):
            return undefined("no_variation", n=self.turns)
        bounds = (0.0, 1.0) if second is None else (-1.0, 1.0)
        settings: dict[str, Any] = {"n": self.turns, "clusters": self.dialogues, "confidence": self.confidence}
        return bootstrap_estimate(float(value), draws, bounds=bounds, **settings)

    def _corrected(self, *systems: int) -> Estimate:
        settings: dict[str, Any] = {"confidence": self.confidence}
        settings["bounds"] = (0.0, 1.0) if len(systems) == 1 else (-1.0, 1.0)
        if self.measure.match is not None:
            return self.panel.mean(self.measure.match, systems, **settings)
        found = self.panel.statistic(self.measure.statistic, systems, **settings)
        fragile = self.measure.key == "macro_f1" and found.value is not None and found.n < FIRM_LABELS
        return found.with_notes(FRAGILE) if fragile else found


def counted(
    groups: Sequence[GroupData], rows: Sequence[NDArray[np.int64]], labels: Sequence[LabelPair]
) -> tuple[Cube, ...]:
    """Count each system's common turns by the classifier's labels, over the same dialogues."""
    _, place = np.unique(groups[0].dialogues[rows[0]], return_inverse=True)
    size = int(place.max()) + 1
    return tuple(
        ct.count_cube(place, pair.rows[held], pair.columns[held], size=size)
        for pair, held in zip(labels, rows, strict=True)
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
    """Give (t(.975, D-1) + z(.80)) SE: the difference found with power .80 at the two-sided level .05.

    Without a spread there is none: identical answers do not show how large a difference would stand out.
    """
    if not se or clusters < 2:
        return None
    return float((stats.t.ppf(1 - LEVEL / 2, clusters - 1) + stats.norm.ppf(POWER)) * se)
