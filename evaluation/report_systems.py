"""Sections 9 and 10 of the report: systems compared, and expressive range against F1."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Final

import numpy as np
from scipy import stats

from evaluation.comparison import Comparison
from evaluation.counts import Floats
from evaluation.estimation import MIN_CLUSTERS, MIN_LABELS
from evaluation.groups import MetricOptions
from evaluation.intervals import Estimate
from evaluation.metrics import GroupMetrics
from evaluation.report_groups import DATASET, SYSTEM, datasets_of, groups_of, named, number_or_none, slug
from evaluation.report_metrics import flatness_axis
from evaluation.report_model import HUMAN, Cell, Column, FigureSpec, Names, Section, Table, warnings_of

# --- 9. systems compared ---------------------------------------------------------------------------------------------

MEASURES: Final = {
    "exact": "Exact alignment",
    "coarse": "Coarse alignment",
    "flatness": "Expressive range (flatness score)",
    "macro_f1": "Macro-F1",
}


BASIS: Final = {"classifier": "classifier labels", "human": "human labels"}


def comparisons(found: Sequence[Comparison], verified: bool, options: MetricOptions, names: Names) -> Section:
    """Give section 9: all pairs, ranks with their uncertainty, letters and detectable differences."""

    def shown(one: Comparison, system: str) -> str:
        return HUMAN if system == one.reference else names.system(system)

    ranks: list[dict[str, Cell]] = []
    pairs: list[dict[str, Cell]] = []
    for one in found:
        for place, system in enumerate(one.systems):
            chances = one.rank_chance[place]
            ranks.append(
                {
                    "dataset": names.dataset(one.dataset),
                    "measure": MEASURES[one.measure],
                    "system": shown(one, system),
                    "value": one.values[place],
                    "corrected": one.corrected[place],
                    "letters": one.letters[place],
                    "basis": BASIS[one.basis],
                    "first": number_or_none(chances[0]),
                    "rank_low": _rank(chances, (1 - options.confidence) / 2),
                    "rank_high": _rank(chances, (1 + options.confidence) / 2),
                }
            )
        for pair in one.pairs:
            pairs.append(
                {
                    "dataset": names.dataset(one.dataset),
                    "measure": MEASURES[one.measure],
                    "first": shown(one, pair.first),
                    "second": shown(one, pair.second),
                    "difference": pair.raw,
                    "p": pair.p,
                    "p_holm": pair.p_holm,
                    "detectable": pair.detectable,
                    "corrected": pair.corrected,
                    "p_corrected_holm": pair.p_corrected_holm,
                }
            )
    tables = (
        Table(
            "ranks",
            "Systems in order, with the uncertainty of their ranks",
            (
                DATASET,
                Column("measure", "Measure"),
                SYSTEM,
                Column("value", "Value on common turns, classifier", "number"),
                Column("corrected", "Corrected", "number"),
                Column("letters", "Not separated"),
                Column("basis", "Order, letters, ranks rest on"),
                Column("first", "Share of resamples in first place", "number"),
                Column("rank_low", f"Rank, {100 * options.confidence:g} % from", "count"),
                Column("rank_high", "to", "count"),
            ),
            tuple(ranks),
            "Systems that share a letter are not separated by the Holm-adjusted tests. Order, letters and ranks rest "
            f"on the corrected values once people verified the labels of all systems on {MIN_LABELS} common turns in "
            f"{MIN_CLUSTERS} dialogues, else on classifier labels. Rank 1 has the highest value, which is not always "
            "the best. Corrected values and ranks speak for further dialogues like these.",
        ),
        Table(
            "pairs",
            "All pairs of systems",
            (
                DATASET,
                Column("measure", "Measure"),
                Column("first", "System"),
                Column("second", "compared with"),
                Column("difference", "Difference, classifier", "number"),
                Column("p", "p, sign flips", "p"),
                Column("p_holm", "p, Holm", "p"),
                Column("detectable", "Detectable difference", "number"),
                Column("corrected", "Difference, corrected", "number"),
                Column("p_corrected_holm", "p of it, Holm", "p"),
            ),
            tuple(pairs),
            "First minus second on the turns that all systems answered, the same dialogues resampled for both. The "
            "corrected difference, with its t test, rests on the turns verified for both systems and speaks for "
            "further dialogues like these. The detectable difference would be found with a power of 0.80, by the "
            "labels that the letters rest on; a smaller one may well be missed.",
        ),
    )
    figures = tuple(
        FigureSpec(
            slug("ranks", one.dataset, one.measure),
            "forest",
            f"{MEASURES[one.measure]}: {names.dataset(one.dataset)}",
            f"Values with intervals of {len(one.systems)} systems on {one.turns} common turns of "
            f"{names.dataset(one.dataset)}, by {BASIS[one.basis]}; "
            f"highest first: {', '.join(shown(one, system) for system in one.systems)}.",
            {
                "rows": [
                    {
                        "label": f"{shown(one, system)} ({letters})",
                        "estimate": estimate,
                        "group": "human" if system == one.reference else "system",
                    }
                    for system, letters, estimate in zip(one.systems, one.letters, _decisive(one), strict=True)
                ],
                "x_title": f"{MEASURES[one.measure]}, by {BASIS[one.basis]}",
                "zero": _line_at(one),
            },
            "Letters in brackets: systems that share one are not separated. Dashed: the human reference, else the "
            "middle of the systems.",
        )
        for one in found
    )
    warnings = []
    blind = list(dict.fromkeys(names.dataset(one.dataset) for one in found if one.basis == "classifier"))
    if blind:
        few = f"fewer than {MIN_LABELS} common turns verified for all systems" if verified else "no human labels"
        warnings.append(
            f"In {', '.join(blind)} tests compare classifier labels. A classifier may err more on one system's style "
            f"than on another's; with {few} that cannot be told from a difference between systems."
        )
    for dataset in dict.fromkeys(one.dataset for one in found if one.left_out):
        gone = dict.fromkeys(system for one in found if one.dataset == dataset for system in one.left_out)
        listed = ", ".join(names.system(system) for system in gone)
        warnings.append(
            f"Left out in {names.dataset(dataset)}, because they answered less than half of what the most complete "
            f"system answered: {listed}. With them, the others would be compared on those few turns only."
        )
    if not found:
        warnings.append("There are not two systems with common turns to compare.")
    caption = (
        "Which systems differ, and how sure their order is. All systems are compared on the turns that all of them "
        "answered. The macro-F1 here is over one common set of emotions for all systems, so it may differ from "
        "section 4."
    )
    return Section("comparison", 9, "Systems compared", caption, tables, figures, warnings_of(warnings))


def _decisive(one: Comparison) -> tuple[Estimate, ...]:
    """Give the values that order and letters rest on."""
    return one.corrected if one.basis == "human" else one.values


def _line_at(one: Comparison) -> float:
    """Place the dashed line of a figure: at the human reference, else at the median system."""
    values = {system: value.value for system, value in zip(one.systems, _decisive(one), strict=True)}
    if (human := values.get(one.reference)) is not None:
        return human
    known = [value for value in values.values() if value is not None]
    return float(np.median(known)) if known else 0.0


def _rank(chances: Floats, level: float) -> int | None:
    if not np.isfinite(chances).all():
        return None
    return int(np.searchsorted(np.cumsum(chances), level - 1e-9) + 1)


# --- 10. flatness against F1 -----------------------------------------------------------------------------------------


def discussion(groups: Sequence[GroupMetrics], options: MetricOptions) -> Section:
    """Give section 10: expressive range against macro-F1 over the systems, the paper's discussion."""
    flat = options.headline_flatness
    rows: list[dict[str, Cell]] = []
    order: list[dict[str, Cell]] = []
    panels = []
    for dataset in datasets_of(groups):
        systems = groups_of(groups, dataset, reference=False)
        pairs = [(group, group.measures[flat].best, group.measures["macro_f1"].best) for group in systems]
        known = [(x.value, y.value) for _, x, y in pairs if x.value is not None and y.value is not None]
        for group, x, y in pairs:
            rows.append({"dataset": dataset, "system": named(group), "flatness": x, "macro_f1": y})
        rho = p = None
        if len(known) >= 3 and len({x for x, _ in known}) > 1 and len({y for _, y in known}) > 1:
            rho, p = _rank_correlation(np.array(known))
        order.append({"dataset": dataset, "systems": len(known), "rho": rho, "p": p})
        points = [{"label": named(group), "x": x, "y": y} for group, x, y in pairs]
        panels.append({"title": dataset, "points": points})
    tables = (
        Table(
            "range-and-f1",
            "Expressive range and macro-F1 by system",
            (
                DATASET,
                SYSTEM,
                Column("flatness", "Expressive range (flatness score)", "number"),
                Column("macro_f1", "Macro-F1", "number"),
            ),
            tuple(rows),
            "Corrected values where there are human labels, else the classifier's.",
        ),
        Table(
            "range-and-f1-correlation",
            "Rank correlation over the systems",
            (
                DATASET,
                Column("systems", "Systems", "count"),
                Column("rho", "Spearman's rho", "number"),
                Column("p", "p, permutation", "p"),
            ),
            tuple(order),
            "Undefined with fewer than three systems. With six systems only a very strong relation could be told from "
            "chance; these are descriptions of these systems.",
        ),
    )
    figure = FigureSpec(
        "range-and-f1",
        "scatter",
        "Expressive range against macro-F1",
        "One point for each system: normalised entropy across, macro-F1 upwards; numbers are in the table.",
        {"panels": panels, "x_title": f"expressive range ({flatness_axis(options)})", "y_title": "macro-F1"},
        "Varied emotions need not be fitting ones: points to the right are more varied, points higher up fit better.",
    )
    caption = (
        "Whether systems with more varied emotions also carry the emotions the human responses carried. The paper "
        "finds that the two do not go together; here are both, with their intervals."
    )
    return Section("discussion", 10, "Expressive range against F1", caption, tables, (figure,))


def _rank_correlation(points: Floats) -> tuple[float, float]:
    """Spearman's rho and its two-sided permutation p: exact up to seven systems, else 9,999 seeded permutations."""
    x, y = stats.rankdata(points[:, 0]), stats.rankdata(points[:, 1])
    x, y = x - x.mean(), y - y.mean()
    norm = float(np.sqrt((x @ x) * (y @ y)))
    rho = float(x @ y) / norm
    if len(y) <= 7:
        drawn = np.array([np.array(one) @ x for one in itertools.permutations(y)])
        return rho, float((np.abs(drawn) >= abs(rho) * norm - 1e-9).mean())
    rng = np.random.default_rng(0)
    drawn = np.array([rng.permutation(y) @ x for _ in range(9999)])
    return rho, float(((np.abs(drawn) >= abs(rho) * norm - 1e-9).sum() + 1) / 10_000)
