"""Sections 1 to 4 of the report: the paper's metrics, with intervals and the human baseline."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from evaluation.emotions import EMOTIONS
from evaluation.groups import MetricOptions
from evaluation.intervals import Estimate
from evaluation.metrics import GroupMetrics
from evaluation.report_groups import (
    DATASET,
    PLACE,
    SYSTEM,
    any_verified,
    basis,
    datasets_of,
    groups_of,
    named,
    three_cells,
    three_columns,
    whiskers,
)
from evaluation.report_model import Cell, Column, FigureSpec, Section, Table, warnings_of

# --- 1. headline -----------------------------------------------------------------------------------------------------


def headline(
    groups: Sequence[GroupMetrics], options: MetricOptions, other: Sequence[GroupMetrics], other_name: str
) -> Section:
    """Give section 1: every headline measure raw, verified and corrected."""
    flat = options.headline_flatness
    measures = (
        ("exact", "Exact alignment"),
        ("coarse", "Coarse alignment"),
        (options.headline_entropy, _entropy_title(options)),
        (flat, "Expressive range (flatness score)"),
        ("macro_f1", f"Macro-F1 against the {truth_of(options).removesuffix(' response')}"),
    )
    rows: list[dict[str, Cell]] = []
    for dataset, (measure, title) in itertools.product(datasets_of(groups), measures):
        for group in groups_of(groups, dataset):
            if measure == "macro_f1" and group.is_reference and options.f1_truth == "reference":
                continue
            cells = three_cells(group, measure, "value")
            rows.append({"dataset": dataset, "measure": title, "system": named(group), **cells})
    columns = (
        DATASET,
        Column("measure", "Measure"),
        SYSTEM,
        *three_columns("value", "Value", "number", "higher is more"),
    )
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
        f"the user's emotion, more varied emotions, closer to the emotions of the {_spoken(options)}.\n\n"
        "The interval of a classifier value holds only the sampling of dialogues. It holds nothing of the classifier's "
        "errors, which for a classifier that is right in four of five cases are many times larger."
    )
    return Section("headline", 1, "Headline", caption, tuple(tables), (), warnings_of(warnings))


def truth_of(options: MetricOptions) -> str:
    """Say whose emotion counts as truth in F1."""
    return "reference response" if options.f1_truth == "reference" else "user utterance"


def _spoken(options: MetricOptions) -> str:
    return "human responses" if options.f1_truth == "reference" else "users' utterances"


def _entropy_title(options: MetricOptions) -> str:
    corrected = ", Miller-Madow" if options.entropy_correction == "miller_madow" else ""
    return f"Entropy H, {options.entropy_unit}{corrected}"


def _normalised(options: MetricOptions) -> str:
    if options.flatness_classes == "declared":
        return "H over log2 7, the same for every system"
    return "H over log2 of the number of labels observed, which differs between systems"


def flatness_axis(options: MetricOptions) -> str:
    """Name the scale of the expressive range."""
    return "H / log2 7" if options.flatness_classes == "declared" else "H / log2 of the labels observed"


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
        for group in groups_of(groups, dataset):
            span = group.coarse_range
            row: dict[str, Cell] = {
                "dataset": dataset,
                "system": named(group),
                "turns": group.scored_turns,
                "dialogues": group.dialogues,
                "verified": group.verified_pairs,
                **three_cells(group, "exact", "exact"),
                **three_cells(group, "coarse", "coarse"),
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
        *three_columns("exact", "Exact %", "percent", "higher is more aligned"),
        *three_columns("coarse", "Coarse %", "percent", "higher is more aligned"),
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
            places.append(
                {"dataset": group.dataset, "system": named(group), "place": name, **three_cells(group, key, "c")}
            )
    sensitivity = Table(
        "alignment-surprise",
        "Coarse alignment by the place of surprise",
        (DATASET, SYSTEM, Column("place", "Surprise counts as"), *three_columns("c", "Coarse %", "percent")),
        tuple(places),
        "The sources disagree about surprise; a conclusion should hold wherever it is put.",
    )
    figures = [_alignment_figure(groups, options, "raw", "by the classifier's labels", "alignment-classifier")]
    if any_verified(groups):
        words = "corrected by human labels"
        figures.insert(0, _alignment_figure(groups, options, "best", words, "alignment-corrected"))
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


def _alignment_figure(
    groups: Sequence[GroupMetrics], options: MetricOptions, how: str, words: str, identifier: str
) -> FigureSpec:
    panels = []
    for dataset in datasets_of(groups):
        systems = groups_of(groups, dataset, reference=False)
        human = [group for group in groups_of(groups, dataset) if group.is_reference]
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
        f"{whiskers(options)} Dashed lines: the human reference responses.{basis(groups, 'exact', how)}",
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
    entropy = options.headline_entropy
    rows: list[dict[str, Cell]] = []
    shares: list[dict[str, Cell]] = []
    for group in groups:
        rows.append(
            {
                "dataset": group.dataset,
                "system": named(group),
                **three_cells(group, entropy, "entropy"),
                **three_cells(group, options.headline_flatness, "flatness"),
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
            *three_columns("entropy", _entropy_title(options), "number", "higher is more varied"),
            *three_columns("flatness", "Normalised, 0 to 1", "number", "higher is more varied"),
            Column("classes", "Labels observed, classifier", "count"),
            Column("observed", "Normalised by the labels observed, classifier", "number"),
            Column("miller_madow", "H in bits, Miller-Madow, classifier", "number"),
        ),
        tuple(rows),
        f"{_normalised(options)}. In the paper's table the row LLaMA 3.2 (INSPIRED) prints .485 for "
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
            "categories": [named(group) for group in groups_of(groups, dataset)],
            "shares": [
                {e: _pick(group, f"share_response:{e}", how) for e in EMOTIONS} for group in groups_of(groups, dataset)
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
        f"Shares under 7 % are drawn without a number.{basis(groups, 'share_response:joy', how)}",
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
        systems = groups_of(groups, dataset, reference=False)
        human = [group for group in groups_of(groups, dataset) if group.is_reference]
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
        {"panels": panels, "y_title": flatness_axis(options), "limits": [0.0, 1.0]},
        f"{whiskers(options)}{basis(groups, options.headline_flatness, how)}",
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
                    **three_cells(group, f"f1:{emotion}", "f1"),
                }
            )
        totals.append(
            {
                "dataset": group.dataset,
                "system": named(group),
                "classes": f"{group.macro_classes('raw', options.macro_f1)} of {len(EMOTIONS)}",
                **three_cells(group, "macro_f1", "macro"),
                "true_only": group.measures["macro_f1_true_only"].raw,
                "all7": group.measures["macro_f1_all7_zero"].raw,
                "weighted": group.measures["weighted_f1"].raw,
                "accuracy": group.measures["accuracy"].raw,
            }
        )
    truth = truth_of(options)
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
            *three_columns("f1", "F1", "number", "higher is closer"),
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
            *three_columns("macro", "Macro-F1", "number", "higher is closer"),
            Column("true_only", f"Macro-F1 over emotions of the {truth} only, classifier", "number"),
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
        f"Where no bar stands the F1 is undefined: neither side has the emotion.{basis(scored, 'macro_f1', how)}",
        "Figure 2",
    )
    thin = [
        f"{row['system']} on {row['dataset']}: only {row['support']} {truth}s of {row['emotion']}"
        for row in rows
        if isinstance(row["support"], int) and 0 < row["support"] < 10
    ]
    warning = f"{len(thin)} F1 values rest on fewer than 10 true cases." if thin else None
    caption = (
        f"How well a system's response carries the emotion of the {truth} of the same turn: 0 never, 1 always. F1 is "
        f"the harmonic mean of precision and recall; higher is closer to the {_spoken(options)}."
    )
    return Section("f1", 4, "Emotion diversity (F1)", caption, (per_emotion, macro), (figure,), warnings_of([warning]))
