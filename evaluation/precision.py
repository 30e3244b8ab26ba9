"""How wide the headline intervals are by now, told from the drawn turns alone.

The width of an interval needs the residuals of the verified turns, not the labels of the whole corpus: so a campaign
can be watched at any size. What is estimated is left out on purpose. Who sees widths only can stop when they are small
enough; who sees values would stop when they please, and that interval covers less than it says.

The widths are those that `evaluation.metrics` and `evaluation.validation` put around their values: the same functions
under the same options, told of the drawn turns only, whose inclusion probabilities say how many turns there are.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from evaluation import counts as ct
from evaluation.counts import K, emotion_codes
from evaluation.design import Design, draw_design
from evaluation.groups import GroupData, MetricOptions, Triple, split_groups
from evaluation.intervals import DEFAULT_CONFIDENCE, Estimate
from evaluation.measures import alignment_measures, count_measures, f1_statistics, flatness_statistics
from evaluation.planning import MIN_FOR_STOPPING, confidence_sequence_half_width, how_many_more
from evaluation.tables import check_turns
from evaluation.validation import Role, role_rows, validate_texts
from evaluation.verified_panel import LabelPair

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
    options
        The report's; what they ask of turns that were not drawn (`turn="last"`) is told from all pairs.
    """
    chosen = options or MetricOptions()
    if chosen.turn == "last":
        # The last pair of a dialogue is not known from the drawn turns: the widths of all pairs stand in for it.
        chosen = replace(chosen, turn="pair")
    groups = [DrawnGroup.of(group) for group in split_groups(turns, chosen)]
    found = [one for group in groups for one in _of_group(group, chosen, replicates, seed)]
    return found + list(_of_classifier(check_turns(turns), chosen, replicates, seed))


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


class DrawnGroup(GroupData):
    """The drawn turns of a group: as a sample they speak for 1 / inclusion probability turns each."""

    @classmethod
    def of(cls, group: GroupData) -> DrawnGroup:
        """Keep the rows of a group that were drawn; without inclusion probabilities all were."""
        held = {one.name: getattr(group, one.name) for one in fields(group)}
        if group.inclusion is None:
            return cls(**held)
        drawn = np.isfinite(group.inclusion)
        rows = {name: part[drawn] for name, part in held.items() if isinstance(part, np.ndarray)}
        return cls(**{**held, **rows})

    @property
    def chance(self) -> NDArray[np.float64]:
        """Shape (n,), the inclusion probabilities."""
        return np.ones(len(self.dialogues)) if self.inclusion is None else self.inclusion

    def design(self, verified: NDArray[np.bool_], population: NDArray[np.bool_]) -> tuple[Design, NDArray[np.bool_]]:
        """Describe the verified rows as a sample of what the drawn rows of the population speak for."""
        rows = verified & population
        strata = None if self.strata is None or pd.isna(self.strata[population]).any() else self.strata
        design = draw_design(
            self.dialogues[rows],
            population=round(float((1 / self.chance[population]).sum())),
            inclusion=self.chance[rows],
            strata=None if strata is None else strata[rows],
            drawn_inclusion=self.chance[population],
            drawn_strata=None if strata is None else strata[population],
        )
        return design, rows


def _of_group(group: DrawnGroup, options: MetricOptions, replicates: int, seed: int) -> Iterator[Precision]:
    reach = round(float((1 / group.chance).sum()))
    place = {"where": f"{group.system}, {group.dataset}", "planned": len(group.dialogues), "population": reach}
    found = _measured(group, replace(options, target="corpus"), replicates, seed)
    wider = _measured(group, options, replicates, seed) if options.target == "superpopulation" else found
    for measure, triple in found.items():
        alone, corrected = wider[measure].verified, triple.corrected
        if wider is not found:
            corrected = _for_further_dialogues(corrected, alone, reach)
        yield _precision(measure, alone, corrected, options.confidence, place)


def _measured(group: DrawnGroup, options: MetricOptions, replicates: int, seed: int) -> dict[str, Triple]:
    """Give the headline measures of the drawn turns by key of `TITLES`; what they say of the classifier is unused."""
    # The names of the resamples of `evaluation.metrics`: the same seed resamples the same dialogues.
    rest: Any = (options, replicates, seed, f"{group.dataset}/turns")
    cube = ct.count_cube(group.dialogues, group.user, group.response, size=group.size)
    aligned = alignment_measures(group, cube, *rest)
    found = {"exact": aligned["exact"], "coarse": aligned["coarse"]}
    flat = options.headline_flatness
    responses = LabelPair(group.response, group.response, group.response_human, group.response_human)
    found["flatness"] = count_measures(group, responses, {flat: flatness_statistics()[flat]}, *rest)[flat]
    if group.is_reference and options.f1_truth == "reference":
        return found
    by_user = options.f1_truth == "user"
    truth = (group.user, group.user_human) if by_user else (group.reference, group.reference_human)
    scores = LabelPair(truth[0], group.response, truth[1], group.response_human)
    macro = {"macro_f1": f1_statistics(options)["macro_f1"]}
    return found | count_measures(group, scores, macro, *rest)


def _for_further_dialogues(corpus: Estimate, human: Estimate, reach: int) -> Estimate:
    """Widen a corrected estimate of the corpus to further dialogues: SE² + n/N SE²(human labels alone).

    The report knows the classifier's labels of all dialogues and adds their spread; that of the verified stands in.
    """
    if corpus.interval is None or not corpus.se or not human.se:
        return human
    se = math.hypot(corpus.se, human.se * math.sqrt(corpus.n / max(corpus.n, reach)))
    centre, half = sum(corpus.interval) / 2, (corpus.interval[1] - corpus.interval[0]) / 2 * se / corpus.se
    return replace(corpus, se=se, interval=(centre - half, centre + half))


# --- the classifier itself -------------------------------------------------------------------------------------------

ROLES: Final[tuple[tuple[Role, str], ...]] = (("user", "user utterances"), ("response", "responses"))


def _of_classifier(turns: pd.DataFrame, options: MetricOptions, replicates: int, seed: int) -> Iterator[Precision]:
    """Accuracy and macro-F1 of the classifier on user utterances and on responses, post-stratified by its label."""
    for role, where in ROLES:
        rows = role_rows(turns, role)
        if "inclusion_probability" in rows and rows["inclusion_probability"].notna().any():
            rows = rows[rows["inclusion_probability"].notna()]
        rows = rows[rows[f"{role}_label"].notna()]
        if not len(rows):
            continue
        chance = rows.get("inclusion_probability", pd.Series(1.0, index=rows.index)).fillna(1.0).to_numpy(dtype=float)
        machine = emotion_codes(rows[f"{role}_label"].astype(object))
        reach = np.round(np.bincount(machine, weights=1 / chance, minlength=K)).astype(np.int64)
        name = f"validation/{role}/all/all"
        sizes: dict[str, Any] = {"replicates": replicates, "seed": seed, "name": name}
        found = validate_texts(rows, role, options, population=[int(size) for size in reach], **sizes)
        place = {"where": where, "planned": len(rows), "population": int(reach.sum())}
        for measure, key in (("accuracy", "accuracy"), ("classifier_macro_f1", "macro_f1")):
            yield _precision(measure, found.estimates[key], found.estimates[key], options.confidence, place)


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
