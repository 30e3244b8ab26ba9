"""Section 8 of the report: what people's ratings go with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import pandas as pd

from evaluation.agreement import agreement
from evaluation.intervals import Estimate
from evaluation.label_table import AgreementOptions
from evaluation.rating_means import RatingMean
from evaluation.ratings import (
    FLAGS,
    RANKS,
    Association,
    associations,
    by_emotion,
    distribution,
    drawn_ratings,
    points_of,
    wording,
)
from evaluation.report_model import HUMAN, Cell, Column, FigureSpec, Names, Section, Table, warnings_of

FLAG_WORDS: Final = {"aligned_exact": "exact match", "aligned_coarse": "coarse match"}
SENSITIVITY_WORDS: Final = {
    "within_context": "within contexts, two responses or more to the same turn",
    "mixed_crossed": "crossed linear mixed model",
    "mixed_nested": "nested linear mixed model",
    "proportional_odds": "proportional odds (log odds ratio)",
}


def quality(
    ratings: pd.DataFrame,
    means: Sequence[RatingMean],
    names: Names,
    *,
    randomised: bool,
    scale: tuple[int, int],
    replicates: int,
    seed: int,
    confidence: float,
    sensitivity: bool,
) -> Section:
    """Give section 8: whether alignment goes with people's ratings (RQ5), and the mean rating of each system."""
    word = wording(randomised)
    caption = _caption(word, randomised, adjusted=True)
    title = "Alignment and perceived quality"
    if not len(ratings):
        warning = "No rating has been given: whether alignment goes with quality cannot be said from these data."
        return Section("quality", 8, title, caption, (), (), (warning,))
    flags = [flag for flag in FLAGS if flag in ratings and ratings[flag].notna().any()]
    tables = [_distribution_table(ratings, scale), _rating_agreement(ratings, scale, replicates, seed, confidence)]
    if means:
        tables.append(_means_table(means, names))
    if not flags:
        warning = "No rated turn has human labels on both sides: aligned and misaligned turns cannot be told apart."
        return Section("quality", 8, title, caption, tuple(tables), (), (warning,))
    drawn, weighted = drawn_ratings(ratings)
    outside = len(ratings) - len(drawn)
    said = f"{outside} ratings of turns without an inclusion probability are left out." if outside else None
    found = associations(
        drawn,
        flags=flags,
        replicates=replicates,
        seed=seed,
        confidence=confidence,
        sensitivity=sensitivity,
        scale=scale,
    )
    caption = _caption(word, randomised, adjusted=any(one.model != RANKS for one in found))
    tables += [_association_table(found, word, weighted=weighted), _sensitivity_table(found)]
    emotions = by_emotion(drawn, flags[0], confidence=confidence)
    if emotions:
        tables.append(_emotion_table(emotions, flags[0]))
    figures = tuple(_forests(found, emotions, word))
    return Section("quality", 8, title, caption, tuple(tables), figures, warnings_of([said]))


def _caption(word: str, randomised: bool, *, adjusted: bool) -> str:
    parts = [
        f"Whether aligned responses are rated better: an {word} between alignment by human labels and ratings"
        + (", adjusted for the user's emotion, the system and the annotator." if adjusted else "."),
        "A positive difference means that aligned turns were rated higher, in points of the scale.",
    ]
    if not randomised:
        parts.append(
            "The responses were not assigned to turns at random, so this does not show that alignment is the cause."
        )
    return " ".join(parts)


def _means_table(means: Sequence[RatingMean], names: Names) -> Table:
    rows: list[dict[str, Cell]] = [
        {
            "dataset": names.dataset(one.dataset),
            "system": HUMAN if one.is_reference else names.system(one.system),
            "outcome": one.outcome,
            "turns": one.turns,
            "human": one.human,
            "corrected": one.corrected,
        }
        for one in means
    ]
    return Table(
        "rating-means",
        "Mean rating by system",
        (
            Column("dataset", "Data set"),
            Column("system", "System"),
            Column("outcome", "Outcome"),
            Column("turns", "Rated responses", "count"),
            Column("human", "Mean, rated turns only", "number", direction="higher is better rated"),
            Column("corrected", "Mean, corrected", "number", direction="higher is better rated"),
        ),
        tuple(rows),
        "Points of the scale, each response counting the mean of its raters. The corrected mean adds what the "
        "classifier's flag of an exact match, known for every turn, says of the turns that nobody rated.",
    )


def _distribution_table(ratings: pd.DataFrame, scale: tuple[int, int]) -> Table:
    counted = distribution(ratings, scale)
    points = points_of(ratings, scale)
    rows: list[dict[str, Cell]] = []
    for (outcome, flag, state), part in counted.groupby(["outcome", "flag", "aligned"], sort=False):
        counts = dict(zip(part["value"], part["count"], strict=True))
        rows.append(
            {
                "outcome": str(outcome),
                "flag": FLAG_WORDS.get(str(flag), ""),
                "state": str(state),
                "n": int(part["count"].sum()),
                **{f"v{point:g}": int(counts.get(point, 0)) for point in points},
            }
        )
    return Table(
        "rating-distribution",
        "Ratings of aligned and misaligned turns",
        (
            Column("outcome", "Outcome"),
            Column("flag", "Alignment"),
            Column("state", "Turns"),
            Column("n", "Ratings", "count"),
            *(Column(f"v{point:g}", f"{point:g}", "count") for point in points),
        ),
        tuple(rows),
        f"Counts of ratings from {scale[0]} (lowest) to {scale[1]} (highest).",
    )


def _rating_agreement(
    ratings: pd.DataFrame, scale: tuple[int, int], replicates: int, seed: int, confidence: float
) -> Table:
    labels = tuple(f"{point:g}" for point in points_of(ratings, scale))
    rows: list[dict[str, Cell]] = []
    for outcome, part in ratings[ratings["value"].notna()].groupby("outcome", sort=True):
        # A dialogue's number may occur in two data sets: both together name it.
        place = [name for name in ("item", "annotator", "dataset", "dialogue") if name in part]
        items = part[place].assign(label=[f"{value:g}" for value in part["value"]])
        options = AgreementOptions(
            labels=labels, level="ordinal", weights="quadratic", replicates=replicates, seed=seed, confidence=confidence
        )
        found = agreement(items, options)
        rows.append(
            {
                "outcome": str(outcome),
                "items": int(found.facts["n_items"]),
                "annotators": int(found.facts["n_annotators"]),
                "alpha": found.coefficients.get("krippendorff_alpha"),
                "ac2": found.coefficients.get("gwet_ac2", found.coefficients.get("gwet_ac1")),
            }
        )
    return Table(
        "rating-agreement",
        "Agreement of raters",
        (
            Column("outcome", "Outcome"),
            Column("items", "Items", "count"),
            Column("annotators", "Raters", "count"),
            Column("alpha", "Krippendorff's alpha, ordinal", "number"),
            Column("ac2", "Gwet's AC2, quadratic", "number"),
        ),
        tuple(rows),
        "1 is perfect, 0 no better than chance. Where raters hardly agree, a difference between turns is hard to see.",
    )


def _association_table(found: Sequence[Association], word: str, *, weighted: bool) -> Table:
    rows: list[dict[str, Cell]] = [
        {
            "outcome": one.outcome,
            "flag": FLAG_WORDS.get(one.flag, one.flag),
            "turns": one.turns,
            "annotators": one.annotators,
            "aligned": one.aligned,
            "misaligned": one.misaligned,
            "difference": one.difference,
            "model": one.model,
            "p": one.p,
            "p_holm": one.p_holm,
            "delta": one.cliffs_delta,
            "detectable": one.detectable,
        }
        for one in found
    ]
    return Table(
        "quality",
        f"Alignment and ratings: {word}",
        (
            Column("outcome", "Outcome"),
            Column("flag", "Alignment"),
            Column("turns", "Responses", "count"),
            Column("annotators", "Raters", "count"),
            Column("aligned", "Mean, aligned", "number"),
            Column("misaligned", "Mean, misaligned", "number"),
            Column("difference", "Difference, points", "number", direction="positive: aligned rated higher"),
            Column("model", "Model"),
            Column("p", "p", "p"),
            Column("p_holm", "p, Holm", "p"),
            Column("delta", "Cliff's delta", "number", direction="positive: aligned rated higher"),
            Column("detectable", "Detectable difference", "number"),
        ),
        tuple(rows),
        _association_note(found, weighted=weighted),
    )


def _association_note(found: Sequence[Association], *, weighted: bool) -> str:
    """Say how the differences were made, and nothing that no row was made by."""
    models = {one.model for one in found}
    parts = []
    if models - {RANKS}:
        parts.append(
            "Least squares with user emotion, system and annotator; standard errors clustered by dialogue "
            "(CR1, t(D - 1))."
        )
    if RANKS in models:
        parts.append(
            "With fewer than 10 dialogues nothing is adjusted: the difference of annotator-centred ratings within "
            "dialogues, with a sign-flip test on ranks and no interval."
        )
    if weighted:
        parts.append(
            "Turns were drawn with different probabilities: means, least squares and Cliff's delta count each rating "
            "by the inverse of its turn's."
        )
    parts.append("Holm adjusts over all rows. A difference below the detectable one may well be missed.")
    return " ".join(parts)


def _sensitivity_table(found: Sequence[Association]) -> Table:
    rows: list[dict[str, Cell]] = [
        {
            "outcome": one.outcome,
            "flag": FLAG_WORDS.get(one.flag, one.flag),
            "model": SENSITIVITY_WORDS.get(name, name),
            "estimate": estimate,
        }
        for one in found
        for name, estimate in one.sensitivity.items()
    ]
    return Table(
        "quality-sensitivity",
        "The same difference by other models",
        (
            Column("outcome", "Outcome"),
            Column("flag", "Alignment"),
            Column("model", "Model"),
            Column("estimate", "Aligned - misaligned", "number"),
        ),
        tuple(rows),
        "Points of the scale; log odds for proportional odds. They stand beside the primary estimate.",
    )


def _emotion_table(found: Sequence[tuple[str, str, Estimate]], flag: str) -> Table:
    rows: list[dict[str, Cell]] = [
        {"outcome": outcome, "emotion": emotion, "estimate": estimate} for outcome, emotion, estimate in found
    ]
    return Table(
        "quality-emotions",
        f"By the user's emotion ({FLAG_WORDS.get(flag, flag)}; exploratory)",
        (
            Column("outcome", "Outcome"),
            Column("emotion", "User emotion"),
            Column("estimate", "Adjusted difference, points", "number"),
        ),
        tuple(rows),
        "Exploratory: not adjusted for the number of comparisons.",
    )


def _forests(
    found: Sequence[Association], emotions: Sequence[tuple[str, str, Estimate]], word: str
) -> list[FigureSpec]:
    rows: list[dict[str, Any]] = [
        {
            "label": f"{one.outcome}, {FLAG_WORDS.get(one.flag, one.flag)}",
            "estimate": one.difference,
            "group": one.flag,
        }
        for one in found
    ]
    figures = [
        FigureSpec(
            "quality",
            "forest",
            f"Alignment and ratings: {word}",
            "Differences in rating between aligned and misaligned turns with intervals; right of 0 aligned "
            "turns were rated higher. Numbers are in the table.",
            {"rows": rows, "x_title": "aligned - misaligned, points", "zero": 0.0},
        )
    ]
    exploratory = [
        {"label": f"{outcome}, {emotion}", "estimate": estimate, "group": outcome}
        for outcome, emotion, estimate in emotions
    ]
    if exploratory:
        figures.append(
            FigureSpec(
                "quality-emotions",
                "forest",
                "By the user's emotion (exploratory)",
                "Adjusted differences within each user emotion; exploratory, not adjusted for their number.",
                {"rows": exploratory, "x_title": "aligned - misaligned, points", "zero": 0.0},
            )
        )
    return figures
