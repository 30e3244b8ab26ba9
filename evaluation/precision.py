"""How wide the headline intervals are by now, told from the drawn turns alone.

The width of an interval needs the residuals of the verified turns, not the labels of the whole corpus: so a campaign
can be watched at any size. What is estimated is left out on purpose. Who sees widths only can stop when they are small
enough; who sees values would stop when they please, and that interval covers less than it says.

The widths are those that `evaluation.metrics` and `evaluation.validation` put around their values.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pandas as pd

from evaluation import counts as ct
from evaluation.counts import Floats, K
from evaluation.estimation import Design, corrected_replicates, difference_mean, draw_design, replicate_weights
from evaluation.groups import Codes, GroupData, MetricOptions, split_groups
from evaluation.intervals import DEFAULT_CONFIDENCE, Estimate, cluster_codes
from evaluation.planning import MIN_FOR_STOPPING, confidence_sequence_half_width, how_many_more
from evaluation.validation import validate

REPLICATES: Final = 400
TITLES: Final = {
    "exact": "Exact alignment",
    "coarse": "Coarse alignment",
    "flatness": "Expressive range (flatness score)",
    "macro_f1": "Macro-F1 against the reference",
    "accuracy": "Accuracy of the classifier",
    "classifier_macro_f1": "Macro-F1 of the classifier",
    "krippendorff_alpha": "Krippendorff's α",
    "fleiss_kappa": "Fleiss' κ",
}
UNITS: Final = {"accuracy": "texts", "classifier_macro_f1": "texts"} | dict.fromkeys(
    ("krippendorff_alpha", "fleiss_kappa"), "items with two labels"
)
"""What n counts; turns where nothing is said."""


@dataclass(frozen=True, slots=True)
class Precision:
    """The half-width of one measure at one place, by now.

    Attributes
    ----------
    measure, where
        A key of `TITLES`; the system and data set, or the role, it was taken at.
    n, planned, population
        Verified by now, drawn in the plan, and the units these speak for (`None`: without end).
    human, corrected, always
        Half-widths: human labels alone, corrected with the classifier's, and the corrected one of the confidence
        sequence, which holds at every look. `None` where undefined.
    reason
        Why they are undefined.
    """

    measure: str
    where: str
    n: int
    planned: int
    population: int | None
    human: float | None = None
    corrected: float | None = None
    always: float | None = None
    reason: str | None = None

    @property
    def title(self) -> str:
        """Name the measure."""
        return TITLES[self.measure]

    @property
    def unit(self) -> str:
        """Name what n counts."""
        return UNITS.get(self.measure, "turns")

    @property
    def left(self) -> int:
        """Give how many units of the plan are still without what they need."""
        return max(0, self.planned - self.n)

    @property
    def early(self) -> bool:
        """Say whether there are too few units to stop by any width."""
        return self.n < MIN_FOR_STOPPING

    def more(self, half_width: float) -> int | None:
        """Give how many more verified units shrink the corrected interval to value +- `half_width`."""
        if self.corrected is None or self.n < 1:
            return None
        return how_many_more(self.n, self.corrected, half_width, self.population)

    def to_json(self) -> dict[str, Any]:
        """Give a plain mapping."""
        return {name: getattr(self, name) for name in ("title", "unit", *self.__slots__, "left", "early")}


def precision(
    turns: pd.DataFrame,
    *,
    options: MetricOptions | None = None,
    replicates: int = REPLICATES,
    seed: int = 0,
) -> list[Precision]:
    """Give the half-width of every headline measure: per system and data set, and per role for the classifier's own.

    Parameters
    ----------
    turns
        A `turns` table of the drawn turns, verified or not, with their inclusion probabilities.
    """
    chosen = options or MetricOptions()
    groups = split_groups(turns, chosen)
    found = [one for group in groups for one in _of_group(group, chosen, replicates, seed)]
    return found + list(_of_classifier(groups, replicates, seed, chosen.confidence))


def of_agreement(
    measure: str, estimate: Estimate, *, planned: int, confidence: float = DEFAULT_CONFIDENCE
) -> Precision:
    """Give the half-width of a coefficient of agreement, whose units are items with two labels or more."""
    place = {"where": "annotators", "planned": planned, "population": None}
    return _precision(measure, estimate, estimate, confidence, place)


def widest(found: Sequence[Precision]) -> list[Precision]:
    """Keep of each measure the place where it is known worst: one not known at all, else the widest interval."""

    def width(one: Precision) -> float:
        return math.inf if one.corrected is None else one.corrected

    kept = []
    for measure in TITLES:
        same = [one for one in found if one.measure == measure]
        if same:
            kept.append(max(same, key=width))
    return kept


# --- per system and data set -----------------------------------------------------------------------------------------


def _of_group(group: GroupData, options: MetricOptions, replicates: int, seed: int) -> Iterator[Precision]:
    where = f"{group.system}, {group.dataset}"
    chance = group.inclusion if group.inclusion is not None else np.ones(len(group.dialogues))
    drawn = np.isfinite(chance)
    reach = round(float((1 / chance[drawn]).sum()))
    place = {"where": where, "planned": int(drawn.sum()), "population": reach}
    # the name of the resamples of `evaluation.metrics`: the same seed resamples the same dialogues
    name = f"{group.dataset}/turns/verified"

    def design(rows: Any) -> Design:
        strata = group.strata[rows] if group.strata is not None and not pd.isna(group.strata[rows]).any() else None
        return draw_design(group.dialogues[rows], population=reach, inclusion=chance[rows], strata=strata)

    pairs = drawn & (group.user_human >= 0) & (group.response_human >= 0)
    for measure, surprise in (("exact", None), ("coarse", options.surprise)):
        match = ct.match_masks(surprise)[0]
        y = match[group.user_human[pairs], group.response_human[pairs]].astype(float)
        f = _indicator(match, group.user[pairs], group.response[pairs])
        common: dict[str, Any] = {"design": design(pairs), "confidence": options.confidence}
        alone = difference_mean(y, None, None, weight=0.0, **common)
        corrected = alone if f is None else difference_mean(y, f, f, **common)
        yield _precision(measure, alone, corrected, options.confidence, place)
    said = drawn & (group.response_human >= 0)
    human = (group.response_human[said],) * 2
    machine = (group.response[said],) * 2
    yield _of_counts("flatness", _flatness, design(said), human, machine, options, place, replicates, seed, name)
    if not group.is_reference:
        both = said & (group.reference_human >= 0)
        human = group.reference_human[both], group.response_human[both]
        machine = group.reference[both], group.response[both]
        yield _of_counts("macro_f1", ct.macro_f1, design(both), human, machine, options, place, replicates, seed, name)


def _indicator(match: Any, user: Codes, response: Codes) -> Floats | None:
    """Give what the classifier says of the same pairs; `None` where it says nothing of some."""
    if (user < 0).any() or (response < 0).any():
        return None
    return np.asarray(match[user, response], dtype=float)


def _flatness(matrix: Floats) -> Floats:
    return ct.flatness(matrix.sum(axis=-2))


def _of_counts(
    measure: str,
    statistic: Any,
    design: Design,
    human: tuple[Codes, Codes],
    machine: tuple[Codes, Codes],
    options: MetricOptions,
    place: dict[str, Any],
    replicates: int,
    seed: int,
    name: str,
) -> Precision:
    if design.n == 0 or design.clusters < 2:
        return Precision(measure, n=design.n, reason="no_data" if design.n == 0 else "one_dialogue", **place)
    known = all((codes >= 0).all() for codes in machine)
    matrices = [ct.whole_units(_cells(*codes, design)) for codes in ([human, machine] if known else [human])]
    blocks = list(replicate_weights(design, replicates, seed, name))
    values = [float(statistic(matrix.sum(axis=0).reshape(K, K))) for matrix in matrices]
    draws = [statistic(np.concatenate([block @ matrix for block in blocks]).reshape(-1, K, K)) for matrix in matrices]
    common: dict[str, Any] = {"design": design, "confidence": options.confidence, "bounds": None}
    alone = corrected_replicates(values[0], draws[0], None, None, None, **common)
    corrected = alone
    if known:
        corrected = corrected_replicates(values[0], draws[0], values[1], draws[1], values[1], **common)
    return _precision(measure, alone, corrected, options.confidence, place)


def _cells(rows: Codes, columns: Codes, design: Design) -> Floats:
    weighted = np.zeros((design.n, K * K))
    weighted[np.arange(design.n), rows.astype(np.int64) * K + columns] = design.weights
    return weighted


# --- the classifier itself -------------------------------------------------------------------------------------------


def _of_classifier(groups: Sequence[GroupData], replicates: int, seed: int, confidence: float) -> Iterator[Precision]:
    """Accuracy and macro-F1 of the classifier on user utterances and on responses, post-stratified by its label."""
    first = {group.dataset: group for group in reversed(groups)}
    for role, parts in (("user", list(first.values())), ("response", list(groups))):
        human = np.concatenate([getattr(part, f"{role}_human") for part in parts])
        machine = np.concatenate([getattr(part, role) for part in parts])
        chance = np.concatenate(
            [part.inclusion if part.inclusion is not None else np.ones(len(part.dialogues)) for part in parts]
        )
        dialogues, _ = cluster_codes(
            np.repeat([part.dataset for part in parts], [len(part.dialogues) for part in parts]),
            np.concatenate([part.dialogues for part in parts]),
        )
        known = np.isfinite(chance) & (machine >= 0)
        if not known.any():
            continue
        weights = np.where(known, 1 / np.where(known, chance, 1.0), 0.0)
        reach = np.round(np.bincount(machine[known], weights=weights[known], minlength=K)).astype(np.int64)
        found = validate(
            np.where(known, human, -1),
            np.where(known, machine, -1),
            np.repeat(np.arange(K), reach),
            dialogues=dialogues,
            weights=weights,
            replicates=replicates,
            seed=seed,
            name=f"precision/{role}",
            confidence=confidence,
        )
        where = "user utterances" if role == "user" else "responses"
        place = {"where": where, "planned": int(known.sum()), "population": int(reach.sum())}
        for measure, key in (("accuracy", "accuracy"), ("classifier_macro_f1", "macro_f1")):
            yield _precision(measure, found.estimates[key], found.estimates[key], confidence, place)


def _precision(
    measure: str, alone: Estimate, corrected: Estimate, confidence: float, place: dict[str, Any]
) -> Precision:
    if alone.interval is None or corrected.interval is None:
        return Precision(measure, n=alone.n, reason=alone.reason or corrected.reason or "no_data", **place)
    always = None
    if corrected.se and corrected.n >= 2:
        sd = corrected.se * math.sqrt(corrected.n)
        always = confidence_sequence_half_width(corrected.n, sd, max(1, place["planned"]), confidence)
    return Precision(
        measure,
        n=alone.n,
        human=(alone.interval[1] - alone.interval[0]) / 2,
        corrected=(corrected.interval[1] - corrected.interval[0]) / 2,
        always=always,
        **place,
    )


__all__ = ["DEFAULT_CONFIDENCE", "REPLICATES", "TITLES", "Precision", "precision", "widest"]
