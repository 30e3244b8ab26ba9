"""How many turns a campaign should draw, before it opens; while it runs, how precise it is and how many more."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, Final

import numpy as np
import pandas as pd
from django.db.models import Count, F, Max
from numpy.typing import NDArray

from annotation.models import Adjudication, Campaign, Judgment, Response
from annotation.workflow import frames, opening
from annotation.workflow.predictions import UNUSABLE_FLAGS, fold_of_dialogues, read_predictions
from evaluation import planning as sizes
from evaluation.emotions import EMOTIONS
from evaluation.precision import Precision, precision, widest

MOST_GUESSED_FROM: Final = 5_000
"""Turns whose predicted labels are looked at for a guess at what is to be measured."""

HALF_WIDTHS: Final = (0.10, 0.07, 0.05, 0.03)
LEAST_VARIANCE: Final = 1e-9
ALLOCATED: Final[dict[str, sizes.AllocatedDesign]] = {"stratified": "proportional", "half": "half", "equal": "equal"}


# --- before it opens -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Assumptions:
    """What a plan takes for granted until there are human labels.

    Attributes
    ----------
    size
        Turns to draw; the design's own where left out.
    half_widths
        The intervals to plan for, value +- half-width.
    rho, rho_range
        Correlation of human and classifier, for alignment and for flatness: what the correction gains.
    accuracy, kappa
        Of the classifier, and of the annotators among themselves.
    """

    size: int | None = None
    half_widths: tuple[float, ...] = HALF_WIDTHS
    rho: float = 0.5
    rho_range: float = 0.7
    accuracy: float = 0.8
    kappa: float = 0.7


@dataclass(frozen=True, slots=True)
class PlannedSize:
    """The turns that one half-width takes: by human labels alone, and with the correction where there is one."""

    half_width: float
    human: int
    corrected: int | None


@dataclass(frozen=True, slots=True)
class PlannedMeasure:
    """What one measure takes. `human` and `corrected`: what `size` would give; `reason`: why nothing can be said."""

    title: str
    assumed: str
    sizes: tuple[PlannedSize, ...] = ()
    human: float | None = None
    corrected: float | None = None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Plan:
    """A plan for a campaign as it stands.

    Attributes
    ----------
    size, population, excluded
        Turns to draw, out of how many, and how many cannot be drawn because a system did not answer.
    items, answers
        What that makes to verify: items, and answers wanted.
    deff
        What the unequal weights of the design cost alignment and flatness at most (Kish).
    detectable
        The smallest difference of exact alignment between two systems that would show with power 0.8: by human labels
        alone, and corrected. `None` with fewer than two systems.
    """

    size: int
    population: int
    excluded: int
    items: int
    answers: int
    deff: float
    measures: tuple[PlannedMeasure, ...]
    detectable: tuple[float, float] | None

    def to_json(self) -> dict[str, Any]:
        """Give a plain mapping."""
        return asdict(self)


def plan(campaign: Campaign, given: Assumptions | None = None) -> Plan:
    """Plan a campaign from its corpus, its design and the classifier's labels. Nothing is drawn or written.

    Raises
    ------
    opening.OpeningError
        When the campaign could not be opened as it is; the message says what to change.
    ValueError
        When an assumption is out of its range.
    """
    given = given or Assumptions()
    design = dict(campaign.design or {})
    if given.size is not None and design.get("kind", "half") not in ("list", "all"):
        campaign.design = {**design, "size": given.size}
    try:
        opening.check_design(campaign)
        frame, excluded = opening.eligible_turns(campaign)
        drawn = opening.draw_turns(campaign, frame)
    finally:
        campaign.design = design
    guess = _guess(campaign, frame)
    per_turn = _items_per_turn(campaign)
    size, population = len(drawn), len(frame)
    deff = sizes.weighting_effect(drawn["inclusion_probability"])
    shape = _Shape(given, size, population, deff)
    measures = (
        _alignment(campaign, guess, shape),
        _flatness(campaign, guess, shape),
        _accuracy(campaign, shape),
        _macro_f1(campaign, guess, shape),
        _kappa(campaign, guess, shape, per_turn),
    )
    return Plan(
        size,
        population,
        excluded,
        size * per_turn,
        size * per_turn * campaign.verify_overlap,
        deff,
        measures,
        _detectable(guess, shape),
    )


@dataclass(frozen=True, slots=True)
class _Guess:
    """The classifier's labels of some turns: user (n,) and responses (n, systems), codes with -1 for none."""

    user: NDArray[np.int8]
    responses: NDArray[np.int8]

    def aligned(self) -> NDArray[np.float64]:
        """Shape (n, systems): 1 where the response has the user's label, NaN where either has none."""
        known = (self.user[:, None] >= 0) & (self.responses >= 0)
        return np.where(known, self.user[:, None] == self.responses, np.nan)


@dataclass(frozen=True, slots=True)
class _Shape:
    given: Assumptions
    size: int
    population: int
    deff: float

    def measure(
        self, title: str, assumed: str, variance: float, *, rho: float | None, deff: float = 1.0, per_turn: int = 1
    ) -> PlannedMeasure:
        """Sizes in turns for a variance per unit, of which a turn has `per_turn`."""
        if variance < LEAST_VARIANCE:
            return PlannedMeasure(title, assumed, reason=NO_SPREAD)
        common = {"deff": deff, "population": self.population * per_turn}

        def turns(half_width: float, rho: float) -> int:
            return math.ceil(sizes.sample_size(half_width, variance, rho=rho, **common) / per_turn)  # type: ignore[arg-type]

        def reached(rho: float) -> float:
            return sizes.expected_half_width(self.size * per_turn, variance, rho=rho, **common)  # type: ignore[arg-type]

        planned = tuple(
            PlannedSize(x, turns(x, 0.0), None if rho is None else turns(x, rho)) for x in self.given.half_widths
        )
        return PlannedMeasure(title, assumed, planned, reached(0.0), None if rho is None else reached(rho))


def _items_per_turn(campaign: Campaign) -> int:
    responses = len(opening.systems_of(campaign)) if campaign.verify_responses else 0
    return int(campaign.verify_user) + responses


def _guess(campaign: Campaign, frame: pd.DataFrame) -> _Guess:
    chosen = frame.sample(min(len(frame), MOST_GUESSED_FROM), random_state=campaign.seed % 2**32)
    turns = [int(turn) for turn in chosen["id"]]
    systems = [system.pk for system in opening.systems_of(campaign)]
    texts: dict[int, dict[int, str]] = {system: {} for system in systems}
    for start in range(0, len(turns), 1_000):
        part = Response.objects.filter(turn__in=turns[start : start + 1_000], system__in=systems)
        for turn, system, text, flags in part.values_list("turn_id", "system_id", "text_id", "flags"):
            if not UNUSABLE_FLAGS.intersection(flags):
                texts[system][turn] = text
    classifier = frames.classifier_of(campaign)
    wanted = {*chosen["text"], *(text for given in texts.values() for text in given.values())}
    predicted = read_predictions(classifier, campaign.grouping, texts=wanted)
    folds = fold_of_dialogues(classifier, chosen["dialogue"].to_numpy())
    user, _ = predicted.of(chosen["text"], folds)
    columns = [predicted.of([texts[system].get(turn, "") for turn in turns], folds)[0] for system in systems]
    return _Guess(user, np.column_stack(columns) if columns else np.empty((len(turns), 0), dtype=np.int8))


def _shares(codes: NDArray[np.int8]) -> NDArray[np.float64] | None:
    counts = np.bincount(codes[codes >= 0].ravel(), minlength=len(EMOTIONS)).astype(float)
    return counts / counts.sum() if counts.sum() else None


NO_LABELS: Final = "no predicted label to guess from: choose the campaign's classifier, and pre-label first"
NO_SPREAD: Final = "the predicted labels show no spread to plan with"
NOT_BOTH: Final = "needs user utterances and responses verified"


def _alignment(campaign: Campaign, guess: _Guess, shape: _Shape) -> PlannedMeasure:
    title = "Exact alignment, of each system"
    if not (campaign.verify_user and campaign.verify_responses):
        return PlannedMeasure(title, "", reason=NOT_BOTH)
    aligned = guess.aligned()
    seen = [column[np.isfinite(column)] for column in aligned.T]
    means = [float(column.mean()) for column in seen if len(column)]
    # the system that takes most, so that the size is enough for every one
    p = min(means, key=lambda mean: abs(mean - 0.5)) if means else 0.5
    said = f"p = {p:.2f}, by the classifier" if means else "p = 0.50, the worst case"
    variance = sizes.proportion_variance(p)
    return shape.measure(title, f"{said}; rho = {shape.given.rho:g}", variance, rho=shape.given.rho, deff=shape.deff)


def _flatness(campaign: Campaign, guess: _Guess, shape: _Shape) -> PlannedMeasure:
    title = "Expressive range (flatness score), of each system"
    if not campaign.verify_responses:
        return PlannedMeasure(title, "", reason="needs responses verified")
    found = [share for column in guess.responses.T if (share := _shares(column)) is not None]
    if not found:
        return PlannedMeasure(title, "", reason=NO_LABELS)
    variance = max(sizes.flatness_variance(share) for share in found)
    said = f"label shares by the classifier; rho = {shape.given.rho_range:g}"
    return shape.measure(title, said, variance, rho=shape.given.rho_range, deff=shape.deff)


def _accuracy(campaign: Campaign, shape: _Shape) -> PlannedMeasure:
    title = "Accuracy of the classifier on user utterances"
    if not campaign.verify_user:
        return PlannedMeasure(title, "", reason="needs user utterances verified")
    return shape.measure(
        title, f"accuracy {shape.given.accuracy:g}", sizes.proportion_variance(shape.given.accuracy), rho=None
    )


def _macro_f1(campaign: Campaign, guess: _Guess, shape: _Shape) -> PlannedMeasure:
    title = "Macro-F1 of the classifier on user utterances"
    if not campaign.verify_user:
        return PlannedMeasure(title, "", reason="needs user utterances verified")
    shares = _shares(guess.user)
    if shares is None:
        return PlannedMeasure(title, "", reason=NO_LABELS)
    confusion = sizes.assumed_confusion(shares, shape.given.accuracy)
    stratified = "user_label" in (campaign.design or {}).get("strata", [])
    design = ALLOCATED.get((campaign.design or {}).get("kind", "half"), "simple") if stratified else "simple"
    found = tuple(
        PlannedSize(x, sizes.macro_f1_sample_size(x, confusion, design, population=shape.population), None)
        for x in shape.given.half_widths
    )
    reached = sizes.macro_f1_half_width(confusion, shape.size, design)
    corrected = math.sqrt(max(0.0, 1 - shape.size / shape.population))
    assumed = f"accuracy {shape.given.accuracy:g}, errors spread by label share; simulated, design {design}"
    return PlannedMeasure(title, assumed, found, reached * corrected)


def _kappa(campaign: Campaign, guess: _Guess, shape: _Shape, per_turn: int) -> PlannedMeasure:
    title = "Kappa or alpha of the annotators"
    if campaign.verify_overlap < 2:
        return PlannedMeasure(title, "", reason="needs two labels per item: set verify overlap to 2 or more")
    if not per_turn:
        return PlannedMeasure(title, "", reason="nothing is to be verified")
    shares = _shares(np.concatenate([guess.user, guess.responses.ravel()]))
    chance = float(shares @ shares) if shares is not None else 0.3
    variance = sizes.kappa_variance(shape.given.kappa, min(chance, 0.99))
    said = f"kappa {shape.given.kappa:g}, chance agreement {chance:.2f}; {per_turn} items of each turn"
    return shape.measure(title, said, variance, rho=None, per_turn=per_turn)


def _detectable(guess: _Guess, shape: _Shape) -> tuple[float, float] | None:
    """The difference of two systems on the same turns: the pair that is hardest to tell apart."""
    aligned = guess.aligned()
    spreads = [
        float(np.var(difference[np.isfinite(difference)]))
        for a in range(aligned.shape[1])
        for b in range(a)
        if np.isfinite(difference := aligned[:, a] - aligned[:, b]).sum() > 1
    ]
    if not spreads:
        return None
    human, corrected = (
        sizes.detectable_difference(shape.size, max(spreads) * shape.deff, rho=rho) for rho in (0.0, shape.given.rho)
    )
    return human, corrected


# --- while it runs ---------------------------------------------------------------------------------------------------


def precision_now(campaign: Campaign, judgments: pd.DataFrame, *, as_of: datetime) -> list[Precision]:
    """The width of every headline interval by now, of each measure where it is known worst."""
    turns = frames.drawn_turns(campaign, judgments, as_of=as_of)
    return widest(precision(turns, seed=campaign.seed % 2**32)) if len(turns) else []


def answers_so_far(campaign: Campaign) -> str:
    """A mark of the answers that count at this moment: the same mark, the same answers."""
    standing = Judgment.objects.filter(item__campaign=campaign, set_aside=False)
    decided = Adjudication.objects.filter(item__campaign=campaign).aggregate(count=Count("pk"))
    given = standing.aggregate(count=Count("pk"), last=Max("received_at"))
    return f"{given['count']} {given['last']} {decided['count']}"


def count_look(campaign: Campaign) -> int:
    """Count a look at intervals, if answers have come in since the last one; return how many there were.

    Whoever shows an interval of a campaign calls this: the page, the API, the exports and the report.
    """
    mark = answers_so_far(campaign)
    fresh = Campaign.objects.filter(pk=campaign.pk).exclude(last_look=mark)
    if not mark.startswith("0 "):
        fresh.update(looks=F("looks") + 1, last_look=mark)
    campaign.refresh_from_db(fields=["looks", "last_look"])
    return campaign.looks
