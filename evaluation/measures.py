"""Each metric of one group by the classifier, by humans, and corrected: the estimates behind `evaluation.metrics`.

Means (alignment, label shares) use the linearised estimators, everything that is a function of counts (flatness, F1,
kappa) the bootstrap form; both are in `evaluation.estimation`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from evaluation import counts as ct
from evaluation.counts import Cube, Floats, K
from evaluation.emotions import EMOTIONS, SurprisePlace
from evaluation.estimation import FIRM_LABELS, FRAGILE, difference_mean, human_mean, spread_interval
from evaluation.groups import GroupData, MetricOptions, Triple
from evaluation.intervals import (
    DEFAULT_CONFIDENCE,
    FEW_CLUSTERS,
    Estimate,
    bootstrap_estimate,
    undefined,
)
from evaluation.verified_panel import Everywhere, LabelPair, Statistic, VerifiedSample, sample_weights

SURPRISE_KEYS: Final[Mapping[SurprisePlace, str]] = {
    "positive": "coarse_surprise_as_positive",
    "negative": "coarse_surprise_as_negative",
    "neutral": "coarse_surprise_as_neutral",
    "own": "coarse_surprise_as_own_group",
    "excluded": "coarse_surprise_excluded",
}
ALIGNMENT_PLACES: Final[Mapping[str, SurprisePlace | None]] = {
    "exact": None,
    **{key: place for place, key in SURPRISE_KEYS.items()},
}
MAX_BITS: Final = (0.0, ct.FLATNESS_BASE)


# --- alignment and shares: means -------------------------------------------------------------------------------------


def ratio_estimate(
    hits: Floats, turns: Floats, *, aggregation: str = "pooled", confidence: float = DEFAULT_CONFIDENCE
) -> Estimate:
    """Estimate a share from per-dialogue sums, with the cluster-linearised standard error.

    Pooled: theta = sum h / sum m over dialogues, z_d = h_d - theta m_d, SE² = D/(D-1) sum z_d² / (sum m)².
    Dialogue mean: the mean of h_d / m_d, SE² = s² / D. Interval t(D-1).

    Parameters
    ----------
    hits, turns
        Shape (D,); dialogues without a scored turn are left out.
    """
    held = turns > 0
    h, m = hits[held], turns[held]
    count, n = len(m), round(float(m.sum()))
    if count == 0:
        return undefined("no_data", method="classifier labels")
    if aggregation == "pooled":
        value, z, total = float(h.sum() / m.sum()), h - h.sum() / m.sum() * m, float(m.sum())
    else:
        means = h / m
        value, z, total = float(means.mean()), means - means.mean(), float(count)
    if count < 2:
        reason = "one_item" if n == 1 else "one_dialogue"
        return Estimate(value, n, reason=reason, method="cluster-linearised", clusters=count)
    se = float(np.sqrt(count / (count - 1) * float(z @ z)) / total)
    interval, why, shape = spread_interval(
        value, se, count - 1, clusters=count, confidence=confidence, bounds=(0.0, 1.0)
    )
    notes = ("few clusters",) if count < FEW_CLUSTERS else ()
    return Estimate(value, n, interval, se, why, f"cluster-linearised, {shape}", count, notes)


def alignment_measures(
    data: GroupData, cube: Cube, options: MetricOptions, replicates: int, seed: int, name: str
) -> dict[str, Triple]:
    """Give exact and coarse alignment, the coarse for every place of surprise and under `coarse` for the chosen one.

    Parameters
    ----------
    cube
        Classifier labels, user by response.
    replicates, seed, name
        Of the one corrected value that is no mean: without surprise it is not known beforehand which turns count.
    """
    labels = LabelPair(data.user, data.response, data.user_human, data.response_human)
    found: dict[str, Triple] = {}
    for key, place in ALIGNMENT_PLACES.items():
        match, scored = ct.match_masks(place)
        hits, turns, unanswered = alignment_sums(data, cube, place, options)
        raw = ratio_estimate(hits, turns, aggregation=options.aggregation, confidence=options.confidence)
        human = _alignment_human(data, labels, match, scored, options)
        if not scored.all() and human[0].value is not None:
            scored_share = CountStatistic(partial(ct.alignment, surprise=place), (0.0, 1.0))
            both = count_measures(data, labels, {key: scored_share}, options, replicates, seed, name)[key]
            # n as of the value beside it: the verified turns that are scored
            human = (human[0], replace(both.corrected, n=human[0].n))
        notes = ["pooled over turns"] if options.aggregation == "dialogue_mean" else []
        total, missing = float(turns.sum()), float(unanswered.sum())
        if 0 < missing < total:
            # Unanswered turns are known to be unmatched: no human label is needed for them.
            human = (_scaled(human[0], 1 - missing / total), _scaled(human[1], 1 - missing / total))
            notes.append("unanswered turns count as unmatched")
            if place == "excluded":
                notes.append("unanswered turns are left out where the classifier calls the user's words surprise")
        found[key] = Triple(raw, human[0].with_notes(*notes), human[1].with_notes(*notes))
    found["coarse"] = found[SURPRISE_KEYS[options.surprise]]
    return found


def alignment_sums(
    data: GroupData, cube: Cube, place: SurprisePlace | None, options: MetricOptions
) -> tuple[Floats, Floats, Floats]:
    """Count by dialogue the matching, the scored and the unanswered turns by the classifier, each of shape (D,).

    The scored turns hold the unanswered ones, which count for `turn="all_user"` only. Where surprise is excluded, the
    user's label alone says whether an unanswered turn is scored.

    Parameters
    ----------
    cube
        Classifier labels, user by response.
    place
        The place of surprise in the coarse match; `None` for the exact match.
    """
    match, scored = ct.match_masks(place)
    hits = (cube.sums * match).sum(axis=(1, 2), dtype=float)
    turns = (cube.sums * scored).sum(axis=(1, 2), dtype=float)
    unanswered = np.zeros(data.size)
    if options.turn == "all_user":
        alone = (data.user >= 0) & (data.response < 0) & (data.response_human < 0)
        alone &= np.asarray(scored.any(axis=1))[data.user]
        unanswered = np.bincount(data.dialogues[alone], minlength=data.size).astype(float)
    return hits, turns + unanswered, unanswered


def _scaled(estimate: Estimate, factor: float) -> Estimate:
    """Multiply an estimate by a known factor."""
    if estimate.value is None:
        return estimate
    interval = None if estimate.interval is None else (estimate.interval[0] * factor, estimate.interval[1] * factor)
    se = None if estimate.se is None else estimate.se * factor
    return replace(estimate, value=estimate.value * factor, interval=interval, se=se)


def _alignment_human(
    data: GroupData,
    labels: LabelPair,
    match: NDArray[np.bool_],
    scored: NDArray[np.bool_],
    options: MetricOptions,
) -> tuple[Estimate, Estimate]:
    """Give human-only and corrected alignment; where not every turn is scored, both are the human-only one."""
    pairs, verified = labels.known, labels.verified
    population = pairs if pairs.any() else np.ones(len(pairs), dtype=bool)
    design, rows = data.design(verified, population)
    human = data.user_human[rows], data.response_human[rows]
    kept = scored[human] if design.n else np.zeros(0, dtype=bool)
    settings: dict[str, Any] = {"target": options.target, "confidence": options.confidence, "bounds": (0.0, 1.0)}
    if not kept.any():
        return undefined("no_data", method="human labels"), undefined("no_data", method="human labels")
    if not kept.all():
        # The scored turns are a domain of unknown size.
        share = float(design.weights[kept].sum() / design.weights.sum())
        part = design.where(kept, max(int(kept.sum()), round(share * design.population)))
        alone = human_mean(match[human][kept].astype(float), part, **settings)
        return alone, alone
    y = match[human].astype(float)
    alone = human_mean(y, design, **settings)
    if not pairs.any() or not (pairs[rows]).all():
        return alone, alone
    f = match[data.user[rows], data.response[rows]].astype(float)
    everywhere = match[data.user[pairs], data.response[pairs]].astype(float)
    return alone, difference_mean(y, f, everywhere, design, **settings)


def share_measures(data: GroupData, options: MetricOptions) -> dict[str, Triple]:
    """Give the share of each emotion among user utterances and among responses."""
    found: dict[str, Triple] = {}
    settings: dict[str, Any] = {"target": options.target, "confidence": options.confidence, "bounds": (0.0, 1.0)}
    settings["rare"] = True
    for role, machine, human in (
        ("user", data.user, data.user_human),
        ("response", data.response, data.response_human),
    ):
        known = machine >= 0
        population = known if known.any() else np.ones(len(known), dtype=bool)
        design, rows = data.design(human >= 0, population)
        turns = np.bincount(data.dialogues[known], minlength=data.size).astype(float)
        for code, emotion in enumerate(EMOTIONS):
            hits = np.bincount(data.dialogues[machine == code], minlength=data.size).astype(float)
            raw = ratio_estimate(hits, turns, confidence=options.confidence)
            y = (human[rows] == code).astype(float)
            alone = human_mean(y, design, **settings)
            corrected = alone
            if known.any():
                f, everywhere = (machine[rows] == code).astype(float), (machine[known] == code).astype(float)
                corrected = difference_mean(y, f, everywhere, design, **settings)
            found[f"share_{role}:{emotion}"] = Triple(raw, alone, corrected)
    return found


# --- flatness and F1: functions of counts ----------------------------------------------------------------------------


@dataclass(frozen=True)
class CountStatistic:
    """A function of a matrix (..., 7, 7), the range of its values, and why it is undefined where it is NaN.

    `fragile` statistics hang on rare classes: their intervals cover less than they say below `FIRM_LABELS` labels.
    `counted` gives of an unweighted matrix the number of turns behind the statistic, where that is not all of them.
    """

    statistic: Statistic
    bounds: tuple[float, float]
    reason: str = "no_data"
    fragile: bool = False
    counted: Callable[[Floats], float] | None = None


def _columns(matrix: Floats) -> Floats:
    return np.asarray(matrix.sum(axis=-2))


def flatness_statistics() -> dict[str, CountStatistic]:
    """Give entropy and flatness of the column labels in every form the report shows."""
    unit = (0.0, 1.0)
    return {
        "entropy_bits": CountStatistic(lambda m: ct.entropy_bits(_columns(m)), MAX_BITS),
        "entropy_nats": CountStatistic(lambda m: ct.entropy_bits(_columns(m)) * np.log(2), (0.0, float(np.log(K)))),
        "flatness_n7": CountStatistic(lambda m: ct.flatness(_columns(m)), unit),
        "flatness_observed": CountStatistic(lambda m: ct.flatness(_columns(m), "observed"), unit, "no_variation"),
        "miller_madow_bits": CountStatistic(lambda m: ct.miller_madow_bits(_columns(m)), (0.0, math.inf)),
        "miller_madow_nats": CountStatistic(lambda m: ct.miller_madow_bits(_columns(m)) * np.log(2), (0.0, math.inf)),
        "flatness_miller_madow": CountStatistic(lambda m: ct.flatness(_columns(m), "declared", "miller_madow"), unit),
        "flatness_observed_miller_madow": CountStatistic(
            lambda m: ct.flatness(_columns(m), "observed", "miller_madow"), unit, "no_variation"
        ),
    }


def f1_statistics(options: MetricOptions) -> dict[str, CountStatistic]:
    """Give accuracy, kappa, macro-F1 under each policy and the scores of each emotion; rows are the truth."""
    unit = (0.0, 1.0)

    def of_class(function: Statistic, code: int, zero: bool) -> Statistic:
        def value(matrix: Floats) -> Floats:
            chosen = function(matrix)[..., code]
            return np.nan_to_num(chosen) if zero else chosen

        return value

    found = {
        "accuracy": CountStatistic(ct.accuracy, unit),
        "weighted_f1": CountStatistic(ct.weighted_f1, unit),
        "cohen_kappa": CountStatistic(ct.cohen_kappa, (-1.0, 1.0), "no_variation"),
    }

    def macro(policy: ct.MacroPolicy) -> Statistic:
        return lambda matrix: ct.macro_f1(matrix, policy)

    for policy in ct.MACRO_POLICIES:
        found[f"macro_f1_{policy}"] = CountStatistic(macro(policy), unit, fragile=True)
    found["macro_f1"] = found[f"macro_f1_{options.macro_f1}"]
    zero = options.undefined_f1 == "zero"
    for code, emotion in enumerate(EMOTIONS):
        found[f"precision:{emotion}"] = CountStatistic(
            of_class(ct.precision, code, False), unit, "never_predicted", True, partial(_predicted, code=code)
        )
        found[f"recall:{emotion}"] = CountStatistic(
            of_class(ct.recall, code, False), unit, "no_support", True, partial(_support, code=code)
        )
        found[f"f1:{emotion}"] = CountStatistic(
            of_class(ct.f1, code, zero), unit, "class_absent", True, partial(_on_either_side, code=code)
        )
    return found


def _predicted(matrix: Floats, code: int) -> float:
    return float(matrix[:, code].sum())


def _support(matrix: Floats, code: int) -> float:
    return float(matrix[code].sum())


def _on_either_side(matrix: Floats, code: int) -> float:
    return _support(matrix, code) + _predicted(matrix, code) - float(matrix[code, code])


def count_measures(
    data: GroupData,
    labels: LabelPair,
    measures: dict[str, CountStatistic],
    options: MetricOptions,
    replicates: int,
    seed: int,
    name: str,
) -> dict[str, Triple]:
    """Estimate functions of one matrix: raw with a dialogue bootstrap, human-only and corrected with PPBoot.

    `name` names the resamples: groups that share it and the seed resample the same dialogues.
    """
    cube = ct.count_cube(data.dialogues, labels.rows, labels.columns, size=data.size)
    total = cube.total
    held = cube.sums.sum(axis=(1, 2)) > 0
    clusters, n = int(held.sum()), int(total.sum())
    draws = ct.resample([Cube(cube.sums[held])], replicates, seed, name)[0] if clusters > 1 else None
    known = labels.known
    design, rows = data.design(labels.verified, known if known.any() else np.ones(len(known), dtype=bool))
    sample, drawn = None, np.zeros_like(total)
    if design.n:
        blocks: Iterable[Floats] = ()
        if design.clusters > 1:
            blocks = sample_weights(design, replicates, seed, name, options.target)
        sample = VerifiedSample.of(design, [labels.at(rows)], blocks)
        drawn = ct.count_cube(
            data.dialogues[rows], labels.rows_human[rows], labels.columns_human[rows], size=data.size
        ).total
    everywhere = Everywhere.of(total, draws, options.target) if known.any() else None
    found: dict[str, Triple] = {}
    for key, measure in measures.items():
        raw = _raw(measure, total, draws, n, clusters, options)
        alone, corrected = _human(measure, sample, everywhere, options)
        if measure.counted is not None:
            raw = replace(raw, n=round(measure.counted(total)))
            alone, corrected = (replace(e, n=round(measure.counted(drawn))) for e in (alone, corrected))
        found[key] = Triple(raw, alone, corrected)
    return found


def weighted_matrix(data: GroupData, labels: LabelPair) -> Floats | None:
    """Sum human labels by inverse inclusion probability, over the drawn turns, (7, 7); `None` without any."""
    known = labels.known
    design, rows = data.design(labels.verified, known if known.any() else np.ones(len(known), dtype=bool))
    if not design.n:
        return None
    held = labels.at(rows)
    weighed = ct.count_cube(
        data.dialogues[rows], held.rows_human, held.columns_human, size=data.size, weights=design.weights
    )
    return weighed.total


def _raw(
    measure: CountStatistic, total: Floats, draws: Floats | None, n: int, clusters: int, options: MetricOptions
) -> Estimate:
    if n == 0:
        return undefined("no_data", method="classifier labels")
    value = float(measure.statistic(total))
    if not np.isfinite(value):
        return undefined(measure.reason, n=n, method="classifier labels", clusters=clusters)
    values = measure.statistic(draws) if draws is not None else np.full(1, np.nan)
    return bootstrap_estimate(
        value, values, n=n, clusters=clusters, bounds=measure.bounds, confidence=options.confidence
    )


def _human(
    measure: CountStatistic,
    sample: VerifiedSample | None,
    everywhere: Everywhere | None,
    options: MetricOptions,
) -> tuple[Estimate, Estimate]:
    if sample is None:
        nothing = undefined("no_data", method="human labels")
        return nothing, nothing
    design = sample.design
    if not np.isfinite(measure.statistic(sample.human[0])):
        nothing = undefined(measure.reason, n=design.n, method="human labels", clusters=design.clusters)
        return nothing, nothing
    settings: dict[str, Any] = {"target": options.target, "confidence": options.confidence, "bounds": measure.bounds}
    alone, corrected = sample.estimate(measure.statistic, everywhere, **settings)
    if measure.fragile and design.n < FIRM_LABELS:
        return alone.with_notes(FRAGILE), corrected.with_notes(FRAGILE)
    return alone, corrected
