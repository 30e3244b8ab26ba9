"""Sections 1 to 6 and 9, 10 of the report: the paper's tables and figures, with intervals and the human baseline."""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import pandas as pd
from scipy import stats

from evaluation import counts as ct
from evaluation.comparison import CellDifference, Comparison
from evaluation.counts import Floats
from evaluation.emotions import EMOTIONS
from evaluation.groups import GroupData, MetricOptions
from evaluation.intervals import Estimate
from evaluation.metrics import GroupMetrics
from evaluation.report_model import Cell, Column, FigureSpec, Section, Table, warnings_of

PAPER_PATTERNS: Final = (
    ("joy", "neutral", "Missed positive sentiment."),
    ("surprise", "fear", "Misread as threat or anxiety."),
    ("sadness", "joy", "Feels insensitive or dismissive."),
    ("anger", "neutral", "Lacks empathetic tone."),
    ("fear", "disgust", "Misinterprets concern."),
    ("disgust", "sadness", "Softens user's frustration."),
    ("neutral", "joy", "Overly enthusiastic tone."),
)
"""The misalignment patterns and comments of the paper's Table 1."""

PAPER_FIGURES: Final = {"redial": "Figure 3", "inspired": "Figure 4"}
PLACE: Final[dict[str, int]] = {emotion: code for code, emotion in enumerate(EMOTIONS)}
DATASET: Final = Column("dataset", "Data set")
SYSTEM: Final = Column("system", "System")
HUMAN: Final = "human reference"
MIN_VERIFIED: Final = 5
PATTERNS_SHOWN: Final = 10
THREE: Final = (("raw", "classifier"), ("verified", "human labels only"), ("corrected", "corrected"))


def named(metrics: GroupMetrics | GroupData) -> str:
    """Name a system in tables; the reference responses are the human baseline."""
    return HUMAN if metrics.is_reference else metrics.system


def slug(*parts: str) -> str:
    """Make an identifier of names: lower case letters, digits and hyphens."""
    return "-".join(re.sub(r"[^a-z0-9]+", "-", part.lower()).strip("-") or "data" for part in parts)


def datasets_of(groups: Sequence[GroupMetrics]) -> list[str]:
    """Give the data sets in order of first appearance."""
    return list(dict.fromkeys(group.dataset for group in groups))


def _of(groups: Sequence[GroupMetrics], dataset: str, *, reference: bool = True) -> list[GroupMetrics]:
    return [g for g in groups if g.dataset == dataset and (reference or not g.is_reference)]


def _three(key: str, title: str, kind: Any, direction: str = "") -> list[Column]:
    return [Column(f"{key}_{how}", f"{title}, {words}", kind, direction=direction) for how, words in THREE]


def _cells(group: GroupMetrics, measure: str, key: str) -> dict[str, Cell]:
    triple = group.measures[measure]
    return {f"{key}_{how}": getattr(triple, how) for how, _ in THREE}


def any_verified(groups: Sequence[GroupMetrics]) -> bool:
    """Say whether any group has a verified pair."""
    return any(group.verified_pairs for group in groups)


def _best(group: GroupMetrics, measure: str) -> Estimate:
    return group.measures[measure].best


# --- 1. headline -----------------------------------------------------------------------------------------------------


def headline(
    groups: Sequence[GroupMetrics], options: MetricOptions, other: Sequence[GroupMetrics], other_name: str
) -> Section:
    """Give section 1: every headline measure raw, verified and corrected."""
    flat = options.headline_flatness
    measures = (
        ("exact", "Exact alignment"),
        ("coarse", "Coarse alignment"),
        ("entropy_bits" if options.entropy_unit == "bits" else "entropy_nats", f"Entropy H, {options.entropy_unit}"),
        (flat, "Expressive range (flatness score)"),
        ("macro_f1", "Macro-F1 against the reference"),
    )
    rows: list[dict[str, Cell]] = []
    for dataset, (measure, title) in itertools.product(datasets_of(groups), measures):
        for group in _of(groups, dataset):
            if measure == "macro_f1" and group.is_reference and options.f1_truth == "reference":
                continue
            cells = _cells(group, measure, "value")
            rows.append({"dataset": dataset, "measure": title, "system": named(group), **cells})
    columns = (DATASET, Column("measure", "Measure"), SYSTEM, *_three("value", "Value", "number", "higher is more"))
    main = Table(
        "headline",
        "Headline measures by data set and system",
        columns,
        tuple(rows),
        "Shares of 1, except the entropy H. Corrected values use the human labels of the verified turns to correct the "
        "classifier's labels of all turns; n is the number of verified turns behind a verified or corrected value.",
    )
    tables = [main]
    if other:
        tables.append(_groupings(groups, other, other_name, measures))
    warnings = [] if any_verified(groups) else ["No human label stands behind any number of this report."]
    if any_verified(groups):
        gaps = [
            f"{named(group)} on {group.dataset}: the classifier's exact alignment lies outside the corrected interval."
            for group in groups
            if _outside(group.measures["exact"].raw, group.measures["exact"].corrected)
        ]
        warnings += gaps
    caption = (
        "What the classifier's labels say, what the human labels say, and the classifier corrected by them. "
        "For alignment, expressive range and macro-F1 a higher number means more: more turns whose response matches "
        "the user's emotion, more varied emotions, closer to the emotions of the human responses.\n\n"
        "The interval of a classifier value holds only the sampling of dialogues. It holds nothing of the classifier's "
        "errors, which for a classifier that is right in four of five cases are many times larger."
    )
    return Section("headline", 1, "Headline", caption, tuple(tables), (), warnings_of(warnings))


def _outside(raw: Estimate, corrected: Estimate) -> bool:
    if raw.value is None or corrected.interval is None:
        return False
    return not corrected.interval[0] <= raw.value <= corrected.interval[1]


def _groupings(
    groups: Sequence[GroupMetrics],
    other: Sequence[GroupMetrics],
    other_name: str,
    measures: Sequence[tuple[str, str]],
) -> Table:
    found = {(group.dataset, group.system): group for group in other}
    rows: list[dict[str, Cell]] = []
    for group in groups:
        twin = found.get((group.dataset, group.system))
        for measure, title in measures:
            if twin is None or (measure == "macro_f1" and group.is_reference):
                continue
            rows.append(
                {
                    "dataset": group.dataset,
                    "measure": title,
                    "system": named(group),
                    "campaign": group.measures[measure].raw,
                    "other": twin.measures[measure].raw,
                }
            )
    columns = (
        DATASET,
        Column("measure", "Measure"),
        SYSTEM,
        Column("campaign", "This report's grouping", "number"),
        Column("other", f"Grouping {other_name}", "number"),
    )
    return Table(
        "groupings",
        "Classifier values under two groupings of its labels",
        columns,
        tuple(rows),
        "How the classifier's 28 labels fold into the seven moves every number; both foldings stand side by side.",
    )


# --- 2. alignment ----------------------------------------------------------------------------------------------------


def alignment(groups: Sequence[GroupMetrics], options: MetricOptions) -> Section:
    """Give section 2: exact and coarse alignment, the counterpart of the paper's Figure 1."""
    rows: list[dict[str, Cell]] = []
    for dataset in datasets_of(groups):
        for group in _of(groups, dataset):
            span = group.coarse_range
            row: dict[str, Cell] = {
                "dataset": dataset,
                "system": named(group),
                "turns": group.scored_turns,
                "dialogues": group.dialogues,
                "verified": group.verified_pairs,
                **_cells(group, "exact", "exact"),
                **_cells(group, "coarse", "coarse"),
            }
            for how in ("raw", "corrected"):
                bounds = span[how]
                row[f"coarse_low_{how}"] = None if bounds is None else bounds[0]
                row[f"coarse_high_{how}"] = None if bounds is None else bounds[1]
            rows.append(row)
    columns = (
        DATASET,
        SYSTEM,
        Column("turns", "Scored turns", "count"),
        Column("dialogues", "Dialogues", "count"),
        Column("verified", "Verified turns", "count"),
        *_three("exact", "Exact %", "percent", "higher is more aligned"),
        *_three("coarse", "Coarse %", "percent", "higher is more aligned"),
        Column("coarse_low_raw", "Coarse, lowest over places of surprise, classifier %", "percent"),
        Column("coarse_high_raw", "Coarse, highest, classifier %", "percent"),
        Column("coarse_low_corrected", "Coarse, lowest, corrected %", "percent"),
        Column("coarse_high_corrected", "Coarse, highest, corrected %", "percent"),
    )
    table = Table("alignment", "Emotion alignment", columns, tuple(rows), _alignment_note(options), "Figure 1")
    places: list[dict[str, Cell]] = []
    for group in groups:
        for key in _surprise_keys():
            name = key.removeprefix("coarse_surprise_").replace("as_", "").replace("_", " ")
            places.append({"dataset": group.dataset, "system": named(group), "place": name, **_cells(group, key, "c")})
    sensitivity = Table(
        "alignment-surprise",
        "Coarse alignment by the place of surprise",
        (DATASET, SYSTEM, Column("place", "Surprise counts as"), *_three("c", "Coarse %", "percent")),
        tuple(places),
        "The sources disagree about surprise; a conclusion should hold wherever it is put.",
    )
    figures = [_alignment_figure(groups, "raw", "by the classifier's labels", "alignment-classifier")]
    if any_verified(groups):
        figures.insert(0, _alignment_figure(groups, "best", "corrected by human labels", "alignment-corrected"))
    caption = (
        "The share of turns in which the response carries the user's emotion: the same of the seven (exact), or one of "
        "the same valence (coarse). 0 % is never, 100 % always; higher is more aligned. More is not better by itself: "
        "the dashed lines show how much the human responses align."
    )
    return Section("alignment", 2, "Emotion alignment", caption, (table, sensitivity), tuple(figures))


def _surprise_keys() -> list[str]:
    from evaluation.measures import SURPRISE_KEYS

    return list(SURPRISE_KEYS.values())


def _alignment_note(options: MetricOptions) -> str:
    turn = {"pair": "user utterance and next response, both labelled", "all_user": "every labelled user utterance",
            "last": "the last complete pair of each dialogue"}[options.turn]  # fmt: skip
    pooling = "pooled over turns" if options.aggregation == "pooled" else "mean of dialogue means"
    return f"A turn is a {turn}; {pooling}; surprise counts as {options.surprise} in the coarse match."


def _alignment_figure(groups: Sequence[GroupMetrics], how: str, words: str, identifier: str) -> FigureSpec:
    panels = []
    for dataset in datasets_of(groups):
        systems = _of(groups, dataset, reference=False)
        human = [group for group in _of(groups, dataset) if group.is_reference]
        panels.append(
            {
                "title": dataset,
                "categories": [group.system for group in systems],
                "series": [
                    {"title": title, "values": [_pick(group, measure, how) for group in systems]}
                    for measure, title in (("exact", "exact match"), ("coarse", "coarse match"))
                ],
                "baselines": [
                    {"title": f"human reference, {title}", "value": _pick(group, measure, how)}
                    for group in human
                    for measure, title in (("exact", "exact"), ("coarse", "coarse"))
                ],
            }
        )
    spoken = "; ".join(
        f"{group.system} on {group.dataset} exact {_said(_pick(group, 'exact', how))}, "
        f"coarse {_said(_pick(group, 'coarse', how))}"
        for group in groups
        if not group.is_reference
    )
    data = {"panels": panels, "y_title": "aligned turns, %", "limits": [0.0, 1.0], "percent": True}
    return FigureSpec(
        identifier,
        "bars",
        f"Alignment, {words}",
        f"Bars of exact and coarse alignment by system, {words}: {spoken}.",
        data,
        "Whiskers are 95 % intervals. Dashed lines: the human reference responses.",
        "Figure 1",
    )


def _pick(group: GroupMetrics, measure: str, how: str) -> Estimate:
    found: Estimate = getattr(group.measures[measure], how)
    return found


def _said(estimate: Estimate) -> str:
    return "undefined" if estimate.value is None else f"{100 * estimate.value:.1f} %"


# --- 3. flatness -----------------------------------------------------------------------------------------------------


def flatness(groups: Sequence[GroupMetrics], options: MetricOptions) -> Section:
    """Give section 3: entropy and flatness with the label distributions, the counterpart of the paper's Table 2."""
    unit = options.entropy_unit
    entropy = "entropy_bits" if unit == "bits" else "entropy_nats"
    rows: list[dict[str, Cell]] = []
    shares: list[dict[str, Cell]] = []
    for group in groups:
        rows.append(
            {
                "dataset": group.dataset,
                "system": named(group),
                **_cells(group, entropy, "entropy"),
                **_cells(group, options.headline_flatness, "flatness"),
                "classes": int(group.details["observed_classes"] or 0),
                "observed": group.measures["flatness_observed"].raw,
                "miller_madow": group.measures["miller_madow_bits"].raw,
            }
        )
        for how, words in (("raw", "classifier"), ("corrected", "corrected")):
            if how == "corrected" and not group.verified_pairs:
                continue
            values: dict[str, Cell] = {e: _pick(group, f"share_response:{e}", how) for e in EMOTIONS}
            shares.append({"dataset": group.dataset, "system": named(group), "by": words, **values})
    main = Table(
        "flatness",
        "Expressive range (flatness score) of the responses",
        (
            DATASET,
            SYSTEM,
            *_three("entropy", f"Entropy H, {unit}", "number", "higher is more varied"),
            *_three("flatness", "Normalised, 0 to 1", "number", "higher is more varied"),
            Column("classes", "Labels observed", "count"),
            Column("observed", "Normalised by the labels observed", "number"),
            Column("miller_madow", "H in bits, Miller-Madow", "number"),
        ),
        tuple(rows),
        "H over log2 7, the same for every system. In the paper's table the row LLaMA 3.2 (INSPIRED) prints .485 for "
        "H = 1.253, which is H over log2 6; its other rows are H over log2 7.",
        "Table 2",
    )
    distribution = Table(
        "label-distribution",
        "Emotions of the responses",
        (DATASET, SYSTEM, Column("by", "Labels"), *(Column(e, f"{e} %", "percent") for e in EMOTIONS)),
        tuple(shares),
        "The share of each emotion among a system's responses: what the one number of the flatness score stands for.",
    )
    how = "best" if any_verified(groups) else "raw"
    panels = [
        {
            "title": dataset,
            "categories": [named(group) for group in _of(groups, dataset)],
            "shares": [
                {e: _pick(group, f"share_response:{e}", how) for e in EMOTIONS} for group in _of(groups, dataset)
            ],
        }
        for dataset in datasets_of(groups)
    ]
    labels = "corrected by human labels" if how == "best" else "by the classifier's labels"
    figure = FigureSpec(
        "label-distribution",
        "stacked",
        f"Emotions of the responses, {labels}",
        f"Stacked bars of the shares of the seven emotions by system, {labels}; numbers are in the table.",
        {"panels": panels},
        "Shares under 7 % are drawn without a number.",
        "Table 2",
    )
    ranges = _flatness_figure(groups, options, how, labels)
    caption = (
        "How varied the emotions of a system's responses are. The paper calls this the flatness score, but it runs the "
        "other way: 0 is completely flat (one emotion only), 1 is all seven equally often. More varied is not better "
        "by itself: see the human reference."
    )
    return Section("flatness", 3, "Expressive range (flatness)", caption, (main, distribution), (figure, ranges))


def _flatness_figure(groups: Sequence[GroupMetrics], options: MetricOptions, how: str, labels: str) -> FigureSpec:
    panels = []
    for dataset in datasets_of(groups):
        systems = _of(groups, dataset, reference=False)
        human = [group for group in _of(groups, dataset) if group.is_reference]
        values = [_pick(group, options.headline_flatness, how) for group in systems]
        panels.append(
            {
                "title": dataset,
                "categories": [group.system for group in systems],
                "series": [{"title": "expressive range", "values": values}],
                "baselines": [
                    {"title": "human reference", "value": _pick(group, options.headline_flatness, how)}
                    for group in human
                ],
            }
        )
    return FigureSpec(
        "flatness",
        "bars",
        f"Expressive range, {labels}",
        f"Bars of the normalised entropy of response emotions by system, {labels}; 0 is one emotion only.",
        {"panels": panels, "y_title": "H / log2 7", "limits": [0.0, 1.0]},
        "Whiskers are 95 % intervals.",
        "Table 2",
    )


# --- 4. F1 -----------------------------------------------------------------------------------------------------------


def diversity(groups: Sequence[GroupMetrics], options: MetricOptions) -> Section:
    """Give section 4: per-emotion and macro-F1, the counterpart of the paper's Figure 2."""
    rows: list[dict[str, Cell]] = []
    totals: list[dict[str, Cell]] = []
    scored = [g for g in groups if not (g.is_reference and options.f1_truth == "reference")]
    for group in scored:
        matrix = group.confusions["reference_raw" if options.f1_truth == "reference" else "alignment_raw"]
        for emotion in EMOTIONS:
            code = PLACE[emotion]
            rows.append(
                {
                    "dataset": group.dataset,
                    "system": named(group),
                    "emotion": emotion,
                    "support": int(matrix[code].sum()),
                    "predicted": int(matrix[:, code].sum()),
                    "precision": group.measures[f"precision:{emotion}"].raw,
                    "recall": group.measures[f"recall:{emotion}"].raw,
                    **_cells(group, f"f1:{emotion}", "f1"),
                }
            )
        totals.append(
            {
                "dataset": group.dataset,
                "system": named(group),
                "classes": f"{int(np.isfinite(ct.f1(matrix)).sum())} of {len(EMOTIONS)}",
                **_cells(group, "macro_f1", "macro"),
                "true_only": group.measures["macro_f1_true_only"].raw,
                "all7": group.measures["macro_f1_all7_zero"].raw,
                "weighted": group.measures["weighted_f1"].raw,
                "accuracy": group.measures["accuracy"].raw,
            }
        )
    truth = "reference response" if options.f1_truth == "reference" else "user utterance"
    per_emotion = Table(
        "f1",
        "Per-emotion F1",
        (
            DATASET,
            SYSTEM,
            Column("emotion", "Emotion"),
            Column("support", f"In the {truth}", "count"),
            Column("predicted", "In the response", "count"),
            Column("precision", "Precision, classifier", "number"),
            Column("recall", "Recall, classifier", "number"),
            *_three("f1", "F1", "number", "higher is closer"),
        ),
        tuple(rows),
        f"The emotion of the {truth} counts as truth, that of the system's response to the same turn as prediction.",
        "Figure 2",
    )
    macro = Table(
        "macro-f1",
        "Macro-F1 and accuracy",
        (
            DATASET,
            SYSTEM,
            Column("classes", "Emotions averaged"),
            *_three("macro", "Macro-F1", "number", "higher is closer"),
            Column("true_only", "Macro-F1 over emotions of the reference only, classifier", "number"),
            Column("all7", "Macro-F1 over all seven, undefined as 0, classifier", "number"),
            Column("weighted", "F1 weighted by support, classifier", "number"),
            Column("accuracy", "Accuracy (= micro-F1), classifier", "number"),
        ),
        tuple(totals),
        "Emotions that occur on neither side have no F1 and are left out of the mean; how many remain is printed.",
    )
    how = "best" if any_verified(groups) else "raw"
    labels = "corrected by human labels" if how == "best" else "by the classifier's labels"
    panels = [
        {
            "title": dataset,
            "categories": list(EMOTIONS),
            "series": [
                {"title": named(group), "values": [_pick(group, f"f1:{e}", how) for e in EMOTIONS]}
                for group in scored
                if group.dataset == dataset
            ],
        }
        for dataset in datasets_of(scored)
    ]
    figure = FigureSpec(
        "f1",
        "bars",
        f"Per-emotion F1, {labels}",
        f"Bars of F1 by emotion and system, {labels}; numbers are in the table.",
        {"panels": panels, "y_title": "F1", "limits": [0.0, 1.0]},
        "Where no bar stands the F1 is undefined: neither side has the emotion.",
        "Figure 2",
    )
    thin = [
        f"{row['system']} on {row['dataset']}: only {row['support']} {truth}s of {row['emotion']}"
        for row in rows
        if isinstance(row["support"], int) and 0 < row["support"] < 10
    ]
    warning = f"{len(thin)} F1 values rest on fewer than 10 true cases." if thin else None
    caption = (
        "How well a system's response carries the emotion that the human response carried in the same place: 0 never, "
        "1 always. F1 is the harmonic mean of precision and recall; higher is closer to the human responses."
    )
    return Section("f1", 4, "Emotion diversity (F1)", caption, (per_emotion, macro), (figure,), warnings_of([warning]))


# --- 5. confusion ----------------------------------------------------------------------------------------------------

MATRICES: Final = (
    ("alignment_raw", "user-response", "User emotion to response emotion, by the classifier", "user", "response"),
    ("alignment_verified", "user-response-verified", "User to response emotion, by human labels", "user", "response"),
    ("reference_raw", "reference-response", "Reference to system response emotion, by the classifier",
     "reference response", "response"),
)  # fmt: skip


def confusion(groups: Sequence[GroupMetrics], options: MetricOptions) -> Section:
    """Give section 5: the confusion matrices, the counterparts of the paper's Figures 3 and 4."""
    tables, figures = [], []
    for dataset in datasets_of(groups):
        for name, identifier, title, rows, columns in MATRICES:
            members = [
                g
                for g in _of(groups, dataset)
                if g.confusions[name].sum() and not (name == "reference_raw" and g.is_reference)
            ]
            if not members:
                continue
            paper = PAPER_FIGURES.get(dataset.lower(), "") if name == "alignment_raw" else ""
            tables.append(_matrix_table(members, name, slug(identifier, dataset), f"{title}: {dataset}", rows, paper))
            panels = [
                {
                    "title": named(group),
                    "rows": list(EMOTIONS),
                    "columns": list(EMOTIONS),
                    "values": ct.normalised(group.confusions[name], _shown_by(options)),
                    "counts": group.confusions[name],
                }
                for group in members
            ]
            figures.append(
                FigureSpec(
                    slug(identifier, dataset),
                    "heatmap",
                    f"{title}: {dataset}",
                    f"Heat maps of {rows} emotion (rows) against {columns} emotion (columns), one for each of "
                    f"{', '.join(named(group) for group in members)}; numbers are in the table.",
                    {"panels": panels, "row_title": f"{rows} emotion (n)", "column_title": f"{columns} emotion"},
                    f"Cells are percent of {_basis(options)}; the outlined diagonal is alignment. "
                    "A hatched row has no turn.",
                    paper,
                )
            )
    caption = (
        "Which emotion the responses carry, given the user's. Each row is one user emotion and adds up to 100 %; the "
        "diagonal is exact alignment. Three different matrices must not be mixed up: user against response (here: what "
        "the paper calls misalignment), reference against response, and human against classifier label of the same "
        "text (misclassification, in section 7)."
    )
    return Section("confusion", 5, "User to response emotions", caption, tuple(tables), tuple(figures))


def _shown_by(options: MetricOptions) -> Any:
    return "row" if options.confusion == "none" else options.confusion


def _basis(options: MetricOptions) -> str:
    return {"row": "the row", "column": "the column", "all": "all turns"}[_shown_by(options)]


def _matrix_table(
    members: Sequence[GroupMetrics], name: str, identifier: str, title: str, rows: str, paper: str
) -> Table:
    body: list[dict[str, Cell]] = []
    for group in members:
        matrix = group.confusions[name]
        shares = ct.normalised(matrix)
        for code, emotion in enumerate(EMOTIONS):
            body.append(
                {
                    "system": named(group),
                    "row": emotion,
                    "turns": int(matrix[code].sum()),
                    **{e: int(matrix[code, PLACE[e]]) for e in EMOTIONS},
                    **{f"{e}_share": _number(shares[code, PLACE[e]]) for e in EMOTIONS},
                }
            )
    columns = (
        SYSTEM,
        Column("row", f"{rows[0].upper()}{rows[1:]} emotion"),
        Column("turns", "Turns", "count"),
        *(Column(e, e, "count") for e in EMOTIONS),
        *(Column(f"{e}_share", f"{e} % of row", "percent") for e in EMOTIONS),
    )
    return Table(f"confusion-{identifier}", title, columns, tuple(body), "", paper)


def _number(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


# --- 6. misalignment patterns ----------------------------------------------------------------------------------------


def patterns(
    groups: Sequence[GroupMetrics],
    cells: Mapping[tuple[str, str], Sequence[CellDifference]],
    ratings: pd.DataFrame,
    cases: pd.DataFrame,
) -> Section:
    """Give section 6: misalignment patterns against the human baseline (Table 1), and real cases (Table 3)."""
    rows: list[dict[str, Cell]] = []
    for group in groups:
        for cell in list(cells.get((group.dataset, group.system), ()))[:PATTERNS_SHOWN]:
            verified = int(group.confusions["alignment_verified"][cell.user, cell.response])
            pattern = f"{EMOTIONS[cell.user]} → {EMOTIONS[cell.response]}"
            rows.append(
                {
                    "dataset": group.dataset,
                    "system": named(group),
                    "pattern": pattern,
                    "turns": cell.turns,
                    "share": cell.share,
                    "baseline": cell.baseline,
                    "difference": cell.difference,
                    "p": cell.p_adjusted,
                    "verified": verified,
                    "confirmed": "yes" if verified >= MIN_VERIFIED else "no",
                    "ratings": _pattern_ratings(ratings, group, EMOTIONS[cell.user], EMOTIONS[cell.response]),
                }
            )
    observed = Table(
        "patterns",
        "Most frequent misalignments by system",
        (
            DATASET,
            SYSTEM,
            Column("pattern", "User → response"),
            Column("turns", "Turns, classifier", "count"),
            Column("share", "% of such user turns", "percent"),
            Column("baseline", "Human reference %", "percent"),
            Column("difference", "System - human, points", "percent"),
            Column("p", "p, Benjamini-Hochberg", "p"),
            Column("verified", "Human-verified turns", "count"),
            Column("confirmed", f"At least {MIN_VERIFIED} verified"),
            Column("ratings", "Mean ratings of verified turns"),
        ),
        tuple(rows),
        "Off-diagonal cells with 5 turns or more, most frequent first. The difference compares the same turns with "
        f"the human responses. With fewer than {MIN_VERIFIED} human-verified turns a pattern may be the classifier's "
        "doing.",
    )
    tables = [_paper_patterns(groups), observed]
    if len(cases):
        tables.append(_cases_table(cases))
    warnings = []
    if not len(cases):
        warnings.append("No illustrative cases were given with these tables.")
    elif "basis" in cases and not (cases["basis"] == "human").any():
        warnings.append("The cases rest on classifier labels: no person has confirmed these emotions.")
    caption = (
        "Where a response carries another emotion than the user, how often the human responses do the same, and real "
        "turns that show it. A positive difference means that the system does it more often than people do."
    )
    return Section("patterns", 6, "Misalignment patterns and cases", caption, tuple(tables), (), warnings_of(warnings))


def _paper_patterns(groups: Sequence[GroupMetrics]) -> Table:
    rows: list[dict[str, Cell]] = []
    for user, response, comment in PAPER_PATTERNS:
        for group in groups:
            matrix = group.confusions["alignment_raw"]
            total = float(matrix[PLACE[user]].sum())
            hits = float(matrix[PLACE[user], PLACE[response]])
            human = group.confusions["alignment_verified"]
            rows.append(
                {
                    "user": user,
                    "response": response,
                    "comment": comment,
                    "dataset": group.dataset,
                    "system": named(group),
                    "turns": int(hits),
                    "share": hits / total if total else None,
                    "verified": int(human[PLACE[user], PLACE[response]]),
                    "verified_of": int(human[PLACE[user]].sum()),
                }
            )
    return Table(
        "paper-patterns",
        "The paper's seven misalignment patterns, counted",
        (
            Column("user", "User emotion"),
            Column("response", "Response emotion"),
            Column("comment", "The paper's comment"),
            DATASET,
            SYSTEM,
            Column("turns", "Turns, classifier", "count"),
            Column("share", "% of such user turns", "percent"),
            Column("verified", "Human-verified turns", "count"),
            Column("verified_of", "of verified turns with this user emotion", "count"),
        ),
        tuple(rows),
        "The comments are the paper's; it gives no counts.",
        "Table 1",
    )


def _pattern_ratings(ratings: pd.DataFrame, group: GroupMetrics, user: str, response: str) -> str | None:
    if "pattern" not in ratings or not len(ratings):
        return None
    chosen = ratings[
        (ratings["dataset"].fillna("") == group.dataset)
        & (ratings["system"] == group.system)
        & (ratings["pattern"] == f"{user} → {response}")
        & ratings["value"].notna()
    ]
    means = chosen.groupby("outcome", sort=True)["value"].agg(["mean", "count"])
    return "; ".join(f"{name} {row['mean']:.2f} (n = {int(row['count'])})" for name, row in means.iterrows()) or None


def _cases_table(cases: pd.DataFrame) -> Table:
    titles = {
        "pattern": "User → response",
        "basis": "Labels by",
        "confidence": "Confidence",
        "turns_with_pattern": "Turns with the pattern",
        "dataset": "Data set",
        "system": "System",
        "dialogue": "Dialogue",
        "turn": "Turn",
        "context": "Context",
        "user_text": "User utterance",
        "response_text": "Response",
        "user_labels": "Labels of the utterance",
        "response_labels": "Labels of the response",
        "ratings": "Mean ratings",
    }
    kinds: dict[str, Any] = {"confidence": "number", "turns_with_pattern": "count"}
    held = [name for name in titles if name in cases]
    rows = [
        {name: None if pd.isna(row[name]) else _case_value(name, row[name]) for name in held}
        for _, row in cases.iterrows()
    ]
    columns = tuple(Column(name, titles[name], kinds.get(name, "text")) for name in held)
    return Table(
        "cases",
        "Illustrative cases",
        columns,
        tuple(rows),
        "Chosen by rule, not by hand: the most frequent patterns; within a pattern the surest verified turns, spread "
        "over systems and dialogues.",
        "Table 3",
    )


def _case_value(name: str, value: Any) -> Cell:
    if name == "confidence":
        return float(value)
    return int(float(value)) if name == "turns_with_pattern" else str(value)


# --- 9. systems compared ---------------------------------------------------------------------------------------------

MEASURES: Final = {
    "exact": "Exact alignment",
    "coarse": "Coarse alignment",
    "flatness": "Expressive range (flatness score)",
    "macro_f1": "Macro-F1",
}


def comparisons(found: Sequence[Comparison], verified: bool) -> Section:
    """Give section 9: all pairs, ranks with their uncertainty, letters and detectable differences."""
    ranks: list[dict[str, Cell]] = []
    pairs: list[dict[str, Cell]] = []
    for one in found:
        for place, system in enumerate(one.systems):
            chances = one.rank_chance[place]
            ranks.append(
                {
                    "dataset": one.dataset,
                    "measure": MEASURES[one.measure],
                    "system": _shown(one, system),
                    "value": one.values[place],
                    "letters": one.letters[place],
                    "first": _number(chances[0]),
                    "rank_low": _rank(chances, 0.025),
                    "rank_high": _rank(chances, 0.975),
                }
            )
        for pair in one.pairs:
            pairs.append(
                {
                    "dataset": one.dataset,
                    "measure": MEASURES[one.measure],
                    "first": _shown(one, pair.first),
                    "second": _shown(one, pair.second),
                    "difference": pair.raw,
                    "p": pair.p,
                    "p_holm": pair.p_holm,
                    "detectable": pair.detectable,
                    "corrected": pair.corrected,
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
                Column("letters", "Not separated"),
                Column("first", "Share of resamples in first place", "number"),
                Column("rank_low", "Rank, 95 % from", "count"),
                Column("rank_high", "to", "count"),
            ),
            tuple(ranks),
            "Systems that share a letter are not separated by the Holm-adjusted tests. Rank 1 has the highest value, "
            "which is not always the best.",
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
            ),
            tuple(pairs),
            "First minus second on the turns both answered, the same dialogues resampled for both. The detectable "
            "difference would be found with a power of 0.80; a smaller one may well be missed. The corrected "
            "difference speaks for further dialogues like these.",
        ),
    )
    figures = tuple(
        FigureSpec(
            slug("ranks", one.dataset, one.measure),
            "forest",
            f"{MEASURES[one.measure]}: {one.dataset}",
            f"Values with intervals of {len(one.systems)} systems on {one.turns} common turns of {one.dataset}; "
            f"highest first: {', '.join(_shown(one, system) for system in one.systems)}.",
            {
                "rows": [
                    {
                        "label": f"{_shown(one, system)} ({letters})",
                        "estimate": estimate,
                        "group": "human" if system == one.reference else "system",
                    }
                    for system, letters, estimate in zip(one.systems, one.letters, one.values, strict=True)
                ],
                "x_title": MEASURES[one.measure],
                "zero": 0.0,
            },
            "Letters in brackets: systems that share one are not separated.",
        )
        for one in found
    )
    warnings = []
    if found and not verified:
        warnings.append(
            "These tests compare classifier labels. A classifier may err more on one system's style than on "
            "another's; without human labels that cannot be told from a difference between systems."
        )
    if not found:
        warnings.append("There are not two systems with common turns to compare.")
    caption = (
        "Which systems differ, and how sure their order is. All systems are compared on the turns that all of them "
        "answered. The macro-F1 here is over one common set of emotions for all systems, so it may differ from "
        "section 4."
    )
    return Section("comparison", 9, "Systems compared", caption, tables, figures, warnings_of(warnings))


def _shown(one: Comparison, system: str) -> str:
    return HUMAN if system == one.reference else system


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
        systems = _of(groups, dataset, reference=False)
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
        {"panels": panels, "x_title": "expressive range (H / log2 7)", "y_title": "macro-F1"},
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
