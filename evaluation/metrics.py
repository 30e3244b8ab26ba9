"""The paper's metrics per data set and system: raw by the classifier, verified by humans, and corrected.

Alignment, flatness, per-emotion and macro-F1, label shares, and the confusion matrices, each with its interval. What
the paper leaves open is an option of `MetricOptions` with a stated default.

Raw values use the classifier's labels on all turns; their interval is the sampling of dialogues only and holds nothing
of the classifier's errors, which at an accuracy of 0.8 are many times larger. Verified values use human labels only,
corrected values both (`evaluation.estimation`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pandas as pd

from evaluation import counts as ct
from evaluation.counts import Cube, Floats, K, MacroPolicy
from evaluation.emotions import EMOTIONS
from evaluation.groups import Codes, GroupData, MetricOptions, Triple, TurnOrder, split_groups
from evaluation.intervals import DEFAULT_REPLICATES, Estimate, round_significant
from evaluation.measures import (
    ALIGNMENT_PLACES,
    SURPRISE_KEYS,
    alignment_measures,
    alignment_sums,
    count_measures,
    f1_statistics,
    flatness_statistics,
    ratio_estimate,
    share_measures,
    weighted_matrix,
)
from evaluation.verified_panel import LabelPair

_MISALIGNMENT: Final = ("user_response", "User emotion to response emotion (misalignment)")
_REFERENCE: Final = ("reference_response", "Reference emotion to system response emotion")
_MISCLASSIFICATION: Final = ("human_classifier", "Human label to classifier label of the same text (misclassification)")
KINDS: Final = ("raw", "verified", "corrected")
MATRICES: Final[Mapping[str, tuple[str, str, str, str]]] = {
    name: (kind, f"{title}, {by}", rows, columns)
    for name, kind, title, by, rows, columns in (
        ("alignment_raw", *_MISALIGNMENT, "by the classifier", "user", "response"),
        ("alignment_verified", *_MISALIGNMENT, "by people", "user", "response"),
        ("reference_raw", *_REFERENCE, "by the classifier", "reference", "response"),
        ("reference_verified", *_REFERENCE, "by people", "reference", "response"),
        ("validation_user", *_MISCLASSIFICATION, "user utterances", "human label", "classifier label"),
        ("validation_response", *_MISCLASSIFICATION, "responses", "human label", "classifier label"),
        ("validation_reference", *_MISCLASSIFICATION, "reference responses", "human label", "classifier label"),
    )
}
"""Of each confusion matrix its kind, its title, and what its rows and columns are."""

__all__ = ["GroupMetrics", "MetricOptions", "Triple", "all_metrics", "group_metrics", "ratio_estimate", "summarise"]


@dataclass(frozen=True)
class GroupMetrics:
    """All measures of one system on one data set.

    Attributes
    ----------
    measures
        By name: `exact`, `coarse`, `coarse_surprise_*`, `entropy_bits`, `flatness_n7`, …, `accuracy`, `macro_f1_*`,
        `f1:joy`, `precision:joy`, `recall:joy`, `share_user:joy`, `share_response:joy`; and those that the options
        choose: `coarse`, `entropy`, `flatness`, `macro_f1`.
    confusions
        Count matrices (7, 7) by the names of `MATRICES`. The reference responses have none against themselves.
    weighted
        By the same names, for what people labelled: each drawn turn counts the inverse of its inclusion probability,
        as the shares of plain counts are those of the sample and not of the corpus where some turns are drawn more
        often. `None` where people labelled no drawn turn, and for the matrices of the classifier alone.
    turn_order
        As of `GroupData`.
    """

    dataset: str
    system: str
    is_reference: bool
    turns: int
    scored_turns: int
    dialogues: int
    verified_pairs: int
    verified_outside_draw: int
    measures: dict[str, Triple]
    confusions: dict[str, Floats]
    weighted: dict[str, Floats | None]
    details: dict[str, float | None]
    turn_order: TurnOrder | None = None

    @property
    def coarse_range(self) -> dict[str, tuple[float, float] | None]:
        """Give lowest and highest coarse alignment over the places of surprise: raw and corrected."""
        found: dict[str, tuple[float, float] | None] = {}
        for kind in KINDS:
            estimates = [getattr(self.measures[key], kind).value for key in SURPRISE_KEYS.values()]
            values = [value for value in estimates if value is not None]
            found[kind] = (min(values), max(values)) if values else None
        return found

    def macro_classes(self, kind: str, policy: MacroPolicy) -> int:
        """Count the emotions that a macro-F1 is the mean of; a corrected one has those of the human labels."""
        if policy == "all7_zero":
            return K if getattr(self.measures["accuracy"], kind).n else 0
        score = "f1" if policy == "present" else "recall"
        return sum(getattr(self.measures[f"{score}:{emotion}"], kind).n > 0 for emotion in EMOTIONS)


# --- one group -------------------------------------------------------------------------------------------------------


def group_metrics(data: GroupData, options: MetricOptions, *, replicates: int, seed: int) -> GroupMetrics:
    """Compute every measure of one system on one data set."""
    reference, reference_human = data.reference, data.reference_human
    if data.is_reference:
        reference = reference_human = np.full(len(data.user), -1, dtype=np.int8)
    pair_cube = ct.count_cube(data.dialogues, data.user, data.response, size=data.size)
    verified = (data.user_human >= 0) & (data.response_human >= 0)
    name = f"{data.dataset}/turns"
    measures = alignment_measures(data, pair_cube, options, replicates, seed, name)
    measures |= share_measures(data, options)
    responses = LabelPair(data.response, data.response, data.response_human, data.response_human)
    measures |= count_measures(data, responses, flatness_statistics(), options, replicates, seed, name)
    measures["entropy"] = measures[options.headline_entropy]
    measures["flatness"] = measures[options.headline_flatness]
    alignment = LabelPair(data.user, data.response, data.user_human, data.response_human)
    against = LabelPair(reference, data.response, reference_human, data.response_human)
    scores = alignment if options.f1_truth == "user" else against
    measures |= count_measures(data, scores, f1_statistics(options), options, replicates, seed, name)
    measures["micro_f1"] = measures["accuracy"]
    confusions = {
        "alignment_raw": pair_cube.total,
        "alignment_verified": _matrix(data, data.user_human, data.response_human),
        "reference_raw": _matrix(data, reference, data.response),
        "reference_verified": _matrix(data, reference_human, data.response_human),
        "validation_user": _matrix(data, data.user_human, data.user),
        "validation_response": _matrix(data, data.response_human, data.response),
        "validation_reference": _matrix(data, data.reference_human, data.reference),
    }
    weighted: dict[str, Floats | None] = {
        "alignment_verified": weighted_matrix(data, alignment),
        "reference_verified": weighted_matrix(data, against),
        "validation_user": weighted_matrix(data, LabelPair(data.user, data.user, data.user_human, data.user)),
        "validation_response": weighted_matrix(
            data, LabelPair(data.response, data.response, data.response_human, data.response)
        ),
        "validation_reference": weighted_matrix(
            data, LabelPair(data.reference, data.reference, data.reference_human, data.reference)
        ),
    }
    undrawn = int((verified & ~np.isfinite(data.inclusion)).sum()) if data.inclusion is not None else 0
    details = _details(data, pair_cube, options)
    return GroupMetrics(
        data.dataset,
        data.system,
        data.is_reference,
        len(data.user),
        int(details["exact.scored_turns"] or 0),
        len(np.unique(data.dialogues)),
        int(verified.sum()) - undrawn,
        undrawn,
        measures,
        confusions,
        {name: weighted.get(name) for name in confusions},
        details,
        data.turn_order,
    )


def _matrix(data: GroupData, rows: Codes, columns: Codes) -> Floats:
    return ct.count_cube(data.dialogues, rows, columns, size=data.size).total


def _details(data: GroupData, pair_cube: Cube, options: MetricOptions) -> dict[str, float | None]:
    """Give plain counts that go with the raw alignment (matches, the mean of dialogue means) and with the entropy."""
    details: dict[str, float | None] = {}
    for key, place in ALIGNMENT_PLACES.items():
        hits, turns, _ = alignment_sums(data, pair_cube, place, options)
        held = turns > 0
        details[f"{key}.matches"] = float(hits.sum())
        details[f"{key}.scored_turns"] = float(turns.sum())
        details[f"{key}.per_dialogue_mean"] = float((hits[held] / turns[held]).mean()) if held.any() else None
    responses = np.bincount(data.response[data.response >= 0], minlength=K)
    delta = float(ct.entropy_delta_se(responses))
    details["observed_classes"] = float(ct.observed_classes(responses))
    details["delta_se_bits_srs"] = delta if np.isfinite(delta) else None
    details["delta_se_flatness_n7"] = delta / ct.FLATNESS_BASE if np.isfinite(delta) else None
    return details


# --- the whole table -------------------------------------------------------------------------------------------------


def all_metrics(
    turns: pd.DataFrame, *, options: MetricOptions, replicates: int = DEFAULT_REPLICATES, seed: int = 0
) -> list[GroupMetrics]:
    """Compute every measure for every data set and system of a `turns` table."""
    return [group_metrics(group, options, replicates=replicates, seed=seed) for group in split_groups(turns, options)]


def summarise(
    turns: pd.DataFrame,
    *,
    options: MetricOptions | None = None,
    replicates: int = DEFAULT_REPLICATES,
    seed: int = 0,
) -> dict[str, Any]:
    """Summarise a `turns` table as one JSON-able object: per data set and system raw, verified and corrected.

    Every statistic is `{"value", "n", "interval", "se", "reason", "method", "clusters", "notes"}`; alignment carries
    `percent`, and `matches`, `scored_turns`, `cluster_se` and `per_dialogue_mean` beside its raw value. Numbers are
    rounded to 12 significant digits.

    Raises
    ------
    TableError
        When the table breaks its contract, naming row and column.
    ValueError
        When the options claim how the verified labels were made: they come as they are.
    """
    chosen = options or MetricOptions()
    refuse_gold(chosen)
    groups = all_metrics(turns, options=chosen, replicates=replicates, seed=seed)
    return {
        "format": "attune-metrics/1",
        "labels": list(EMOTIONS),
        "options": {name: value for name, value in chosen.to_json().items() if name != "gold"},
        "replicates": replicates,
        "seed": seed,
        "groups": [group_json(group, chosen) for group in groups],
    }


def refuse_gold(options: MetricOptions) -> None:
    """Refuse the claim that labels of a table were made in a certain way: they come as they are.

    Raises
    ------
    ValueError
        Saying how such labels are made.
    """
    if options.gold != MetricOptions().gold:
        raise ValueError(
            f"gold = {options.gold} is not computed here: the columns …_verified of this table are taken as they are. "
            "Make such labels of the annotators' own first (python -m evaluation aggregate)."
        )


def group_json(group: GroupMetrics, options: MetricOptions) -> dict[str, Any]:
    """Give the measures of one group as plain data, keyed as in `summarise`."""
    result: dict[str, Any] = {
        "dataset": group.dataset,
        "system": group.system,
        "is_reference": group.is_reference,
        "turns": group.turns,
        "scored_turns": group.scored_turns,
        "excluded_turns": group.turns - group.scored_turns,
        "dialogues": group.dialogues,
        "verified_pairs": group.verified_pairs,
        "verified_outside_draw": group.verified_outside_draw,
        "observed_classes": int(group.details["observed_classes"] or 0),
        "headline_flatness": options.headline_flatness,
        "turn_order": group.turn_order,
    }
    for kind in KINDS:
        result[kind] = _kind_json(group, kind, options)
        span = group.coarse_range[kind]
        result[kind]["coarse_range"] = None if span is None else list(span)
    errors = {key: group.details[key] for key in ("delta_se_bits_srs", "delta_se_flatness_n7")}
    result["raw"] |= errors
    result["raw"]["flatness_n7"] |= errors
    result["confusion"] = {name: matrix.astype(int).tolist() for name, matrix in group.confusions.items()}
    result["matrices"] = {name: _matrix_json(group, name, options) for name in MATRICES}
    rounded: dict[str, Any] = _rounded(result)
    return rounded


def _rounded(body: Any) -> Any:
    """Round every number of plain data to 12 significant digits; NaN becomes `None`."""
    match body:
        case dict():
            return {key: _rounded(part) for key, part in body.items()}
        case list() | tuple():
            return [_rounded(part) for part in body]
        case float():
            return round_significant(body) if math.isfinite(body) else None
        case _:
            return body


def _matrix_json(group: GroupMetrics, name: str, options: MetricOptions) -> dict[str, Any]:
    """Give a matrix with its title, its counts and its shares, those of people by weight."""
    kind, title, rows, columns = MATRICES[name]
    counts, weighted = group.confusions[name], group.weighted[name]
    by_weight = kind == "human_classifier" or name.endswith("_verified")
    basis = weighted if by_weight else counts
    shown = basis is not None and options.confusion != "none"
    return {
        "kind": kind,
        "title": title,
        "rows": rows,
        "columns": columns,
        "counts": counts.astype(int).tolist(),
        "weighted": None if weighted is None else weighted.tolist(),
        "normalised": options.confusion,
        "shares": ct.normalised(basis, options.confusion).tolist() if basis is not None and shown else None,
    }


def _kind_json(group: GroupMetrics, kind: str, options: MetricOptions) -> dict[str, Any]:
    plain: dict[str, Any] = {}
    for key, triple in group.measures.items():
        estimate: Estimate = getattr(triple, kind)
        body = estimate.to_json()
        name, _, emotion = key.partition(":")
        if key == "coarse" or key in ALIGNMENT_PLACES:
            body |= _alignment_json(group, SURPRISE_KEYS[options.surprise] if key == "coarse" else key, kind)
        if not emotion:
            plain[key] = body
        elif name in ("precision", "recall", "f1"):
            plain.setdefault("per_emotion", {}).setdefault(emotion, {})[name] = body
        else:
            plain.setdefault(name, {})[emotion] = body
    for scores in plain["per_emotion"].values():
        scores |= {"support": scores["recall"]["n"], "predicted": scores["precision"]["n"]}
    plain["macro_f1"]["classes"] = group.macro_classes(kind, options.macro_f1)
    for policy in ct.MACRO_POLICIES:
        plain[f"macro_f1_{policy}"]["classes"] = group.macro_classes(kind, policy)
    plain["coarse"]["surprise"] = options.surprise
    plain["entropy"] |= {"unit": options.entropy_unit, "correction": options.entropy_correction}
    plain["flatness"] |= {"classes": options.flatness_classes, "correction": options.entropy_correction}
    return plain


def _alignment_json(group: GroupMetrics, key: str, kind: str) -> dict[str, Any]:
    estimate: Estimate = getattr(group.measures[key], kind)
    percent = {"percent": None if estimate.value is None else 100 * estimate.value}
    if kind != "raw":
        return percent
    return percent | {
        "matches": int(group.details[f"{key}.matches"] or 0),
        "scored_turns": int(group.details[f"{key}.scored_turns"] or 0),
        "cluster_se": estimate.se,
        "per_dialogue_mean": group.details[f"{key}.per_dialogue_mean"],
    }
