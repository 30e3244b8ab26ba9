"""Section 8 of the report: what people's ratings go with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import pandas as pd

from evaluation.agreement import agreement
from evaluation.intervals import Estimate
from evaluation.label_table import AgreementOptions
from evaluation.ratings import FLAGS, Association, associations, by_emotion, distribution, wording
from evaluation.report_model import Cell, Column, FigureSpec, Section, Table

ROLES: Final = (("user", "user utterance"), ("response", "system response"), ("reference", "reference response"))
COEFFICIENTS: Final = (
    ("percent_agreement", "Percent agreement"),
    ("krippendorff_alpha", "Krippendorff's alpha"),
    ("fleiss_kappa", "Fleiss' kappa"),
    ("cohen_kappa", "Cohen's kappa"),
    ("gwet_ac1", "Gwet's AC1"),
)
FLAG_WORDS: Final = {"aligned_exact": "exact match", "aligned_coarse": "coarse match"}
SENSITIVITY_WORDS: Final = {
    "within_context": "within contexts, two responses or more to the same turn",
    "mixed_crossed": "crossed linear mixed model",
    "mixed_nested": "nested linear mixed model",
    "proportional_odds": "proportional odds (log odds ratio)",
}


def quality(
    ratings: pd.DataFrame,
    *,
    randomised: bool,
    scale: tuple[int, int],
    replicates: int,
    seed: int,
    confidence: float,
    sensitivity: bool,
) -> Section:
    """Give section 8: whether alignment goes with people's ratings (RQ5)."""
    word = wording(randomised)
    caption = (
        f"Whether aligned responses are rated better: an {word} between alignment by human labels and ratings, "
        "adjusted for the user's emotion, the system and the annotator. A positive difference means that aligned turns "
        "were rated higher, in points of the scale."
    )
    if not randomised:
        caption += (
            " The responses were not assigned to turns at random, so this does not show that alignment is the cause."
        )
    title = "Alignment and perceived quality"
    if not len(ratings):
        warning = "No rating has been given: whether alignment goes with quality cannot be said from these data."
        return Section("quality", 8, title, caption, (), (), (warning,))
    flags = [flag for flag in FLAGS if flag in ratings and ratings[flag].notna().any()]
    tables = [_distribution_table(ratings, scale), _rating_agreement(ratings, scale, replicates, seed, confidence)]
    if not flags:
        warning = "No rated turn has human labels on both sides: aligned and misaligned turns cannot be told apart."
        return Section("quality", 8, title, caption, tuple(tables), (), (warning,))
    found = associations(
        ratings,
        flags=flags,
        replicates=replicates,
        seed=seed,
        confidence=confidence,
        sensitivity=sensitivity,
        scale=scale,
    )
    tables += [_association_table(found, word), _sensitivity_table(found)]
    emotions = by_emotion(ratings, flags[0], confidence=confidence)
    if emotions:
        tables.append(_emotion_table(emotions, flags[0]))
    return Section("quality", 8, title, caption, tuple(tables), tuple(_forests(found, emotions, word)))


def _distribution_table(ratings: pd.DataFrame, scale: tuple[int, int]) -> Table:
    counted = distribution(ratings, scale)
    points = range(scale[0], scale[1] + 1)
    rows: list[dict[str, Cell]] = []
    for (outcome, flag, state), part in counted.groupby(["outcome", "flag", "aligned"], sort=False):
        counts = dict(zip(part["value"], part["count"], strict=True))
        rows.append(
            {
                "outcome": str(outcome),
                "flag": FLAG_WORDS.get(str(flag), ""),
                "state": str(state),
                "n": int(part["count"].sum()),
                **{f"v{point}": int(counts.get(point, 0)) for point in points},
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
            *(Column(f"v{point}", str(point), "count") for point in points),
        ),
        tuple(rows),
        f"Counts of ratings from {scale[0]} (lowest) to {scale[1]} (highest).",
    )


def _rating_agreement(
    ratings: pd.DataFrame, scale: tuple[int, int], replicates: int, seed: int, confidence: float
) -> Table:
    labels = tuple(str(point) for point in range(scale[0], scale[1] + 1))
    rows: list[dict[str, Cell]] = []
    for outcome, part in ratings[ratings["value"].notna()].groupby("outcome", sort=True):
        label = part["value"].astype(int).astype(str)
        items = part[["item", "annotator", "dialogue"]].assign(label=label.to_numpy())
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


def _association_table(found: Sequence[Association], word: str) -> Table:
    rows: list[dict[str, Cell]] = [
        {
            "outcome": one.outcome,
            "flag": FLAG_WORDS.get(one.flag, one.flag),
            "turns": one.turns,
            "annotators": one.annotators,
            "aligned": one.aligned,
            "misaligned": one.misaligned,
            "difference": one.difference,
            "p": one.p,
            "p_holm": one.p_holm,
            "delta": one.cliffs_delta,
            "detectable": one.detectable,
        }
        for one in found
    ]
    return Table(
        "quality",
        f"Alignment and ratings: adjusted {word}",
        (
            Column("outcome", "Outcome"),
            Column("flag", "Alignment"),
            Column("turns", "Responses", "count"),
            Column("annotators", "Raters", "count"),
            Column("aligned", "Mean, aligned", "number"),
            Column("misaligned", "Mean, misaligned", "number"),
            Column("difference", "Adjusted difference, points", "number", direction="positive: aligned rated higher"),
            Column("p", "p", "p"),
            Column("p_holm", "p, Holm", "p"),
            Column("delta", "Cliff's delta", "number", direction="positive: aligned rated higher"),
            Column("detectable", "Detectable difference", "number"),
        ),
        tuple(rows),
        "Least squares with user emotion, system and annotator; standard errors clustered by dialogue (CR1, t(D - 1)). "
        "Holm adjusts over all rows. A difference below the detectable one may well be missed.",
    )


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
            f"Alignment and ratings: adjusted {word}",
            "Adjusted differences in rating between aligned and misaligned turns with intervals; right of 0 aligned "
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
