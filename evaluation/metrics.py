"""The paper's metrics per data set and system: raw by the classifier, verified by humans, and corrected.

Alignment, flatness, per-emotion and macro-F1, label shares, and the confusion matrices, each with its interval. What
the paper leaves open is an option of `MetricOptions` with a stated default.

Raw values use the classifier's labels on all turns; their interval is the sampling of dialogues only and holds nothing
of the classifier's errors, which at an accuracy of 0.8 are many times larger. Verified values use human labels only,
corrected values both (`evaluation.estimation`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from evaluation import counts as ct
from evaluation.counts import Cube, Floats, K
from evaluation.emotions import EMOTIONS
from evaluation.groups import Codes, GroupData, MetricOptions, Triple, split_groups
from evaluation.intervals import DEFAULT_REPLICATES, Estimate
from evaluation.measures import (
    SURPRISE_KEYS,
    alignment_measures,
    count_measures,
    f1_statistics,
    flatness_statistics,
    ratio_estimate,
    share_measures,
)
from evaluation.verified_panel import LabelPair

__all__ = ["GroupMetrics", "MetricOptions", "Triple", "all_metrics", "group_metrics", "ratio_estimate", "summarise"]


@dataclass(frozen=True)
class GroupMetrics:
    """All measures of one system on one data set.

    Attributes
    ----------
    measures
        By name: `exact`, `coarse`, `coarse_surprise_*`, `entropy_bits`, `flatness_n7`, …, `accuracy`, `macro_f1_*`,
        `f1:joy`, `precision:joy`, `recall:joy`, `share_user:joy`, `share_response:joy`.
    confusions
        Count matrices (7, 7) by name: `alignment_raw`, `alignment_verified`, `reference_raw`, `reference_verified`,
        `validation_user`, `validation_response`, `validation_reference`.
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
    details: dict[str, float | None]

    @property
    def coarse_range(self) -> dict[str, tuple[float, float] | None]:
        """Give lowest and highest coarse alignment over the places of surprise: raw and corrected."""
        found: dict[str, tuple[float, float] | None] = {}
        for kind in ("raw", "verified", "corrected"):
            estimates = [getattr(self.measures[key], kind).value for key in SURPRISE_KEYS.values()]
            values = [value for value in estimates if value is not None]
            found[kind] = (min(values), max(values)) if values else None
        return found


# --- one group -------------------------------------------------------------------------------------------------------


def group_metrics(data: GroupData, options: MetricOptions, *, replicates: int, seed: int) -> GroupMetrics:
    """Compute every measure of one system on one data set."""
    truth, truth_human = (
        (data.user, data.user_human) if options.f1_truth == "user" else (data.reference, data.reference_human)
    )
    if data.is_reference and options.f1_truth == "reference":
        truth = truth_human = np.full(len(truth), -1, dtype=np.int8)
    pairs = (data.user >= 0) & (data.response >= 0)
    pair_cube = ct.count_cube(data.dialogues, data.user, data.response, size=data.size)
    verified = (data.user_human >= 0) & (data.response_human >= 0)
    measures: dict[str, Triple] = {}
    name = f"{data.dataset}/turns"
    measures |= alignment_measures(data, pair_cube, options, replicates, seed, name)
    measures |= share_measures(data, options)
    responses = LabelPair(data.response, data.response, data.response_human, data.response_human)
    measures |= count_measures(data, responses, flatness_statistics(), options, replicates, seed, name)
    scores = LabelPair(truth, data.response, truth_human, data.response_human)
    measures |= count_measures(data, scores, f1_statistics(options), options, replicates, seed, name)
    confusions = {
        "alignment_raw": pair_cube.total,
        "alignment_verified": _matrix(data, data.user_human, data.response_human),
        "reference_raw": _matrix(data, data.reference, data.response),
        "reference_verified": _matrix(data, data.reference_human, data.response_human),
        "validation_user": _matrix(data, data.user_human, data.user),
        "validation_response": _matrix(data, data.response_human, data.response),
        "validation_reference": _matrix(data, data.reference_human, data.reference),
    }
    undrawn = int((verified & ~np.isfinite(data.inclusion)).sum()) if data.inclusion is not None else 0
    seen = np.unique(data.dialogues)
    return GroupMetrics(
        data.dataset,
        data.system,
        data.is_reference,
        len(data.user),
        int(pairs.sum()),
        len(seen),
        int(verified.sum()) - undrawn,
        undrawn,
        measures,
        confusions,
        _details(pair_cube, confusions["alignment_raw"], data),
    )


def _matrix(data: GroupData, rows: Codes, columns: Codes) -> Floats:
    return ct.count_cube(data.dialogues, rows, columns, size=data.size).total


def _details(pair_cube: Cube, matrix: Floats, data: GroupData) -> dict[str, float | None]:
    """Give plain counts that go with the raw alignment: matches, and the mean of dialogue means."""
    details: dict[str, float | None] = {}
    for key, place in [("exact", None), *((key, place) for place, key in SURPRISE_KEYS.items())]:
        match, scored = ct.match_masks(place)
        per_dialogue = ct.alignment(pair_cube.sums, place)
        known = per_dialogue[np.isfinite(per_dialogue)]
        details[f"{key}.matches"] = float((matrix * match).sum())
        details[f"{key}.scored_turns"] = float((matrix * scored).sum())
        details[f"{key}.per_dialogue_mean"] = float(known.mean()) if len(known) else None
    counts = matrix.sum(axis=0) if data.user.max(initial=-1) >= 0 else np.zeros(K)
    responses = np.bincount(data.response[data.response >= 0], minlength=K)
    counts = responses if responses.sum() else counts
    delta = float(ct.entropy_delta_se(counts))
    details["observed_classes"] = float(ct.observed_classes(counts))
    details["delta_se_bits_srs"] = delta if np.isfinite(delta) else None
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
    `percent`, `matches`, `scored_turns`, `cluster_se` and `per_dialogue_mean` beside its raw value.

    Raises
    ------
    TableError
        When the table breaks its contract, naming row and column.
    """
    chosen = options or MetricOptions()
    groups = all_metrics(turns, options=chosen, replicates=replicates, seed=seed)
    return {
        "format": "attune-metrics/1",
        "labels": list(EMOTIONS),
        "options": chosen.to_json(),
        "replicates": replicates,
        "seed": seed,
        "groups": [group_json(group, chosen) for group in groups],
    }


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
    }
    for kind in ("raw", "verified", "corrected"):
        result[kind] = _kind_json(group, kind)
        span = group.coarse_range[kind]
        result[kind]["coarse_range"] = None if span is None else [float(bound) for bound in span]
    result["raw"]["flatness_n7"]["delta_se_bits_srs"] = group.details["delta_se_bits_srs"]
    result["confusion"] = {name: matrix.astype(int).tolist() for name, matrix in group.confusions.items()}
    return result


def _kind_json(group: GroupMetrics, kind: str) -> dict[str, Any]:
    plain: dict[str, Any] = {}
    for key, triple in group.measures.items():
        estimate: Estimate = getattr(triple, kind)
        body = estimate.to_json()
        if key == "exact" or key.startswith("coarse_surprise"):
            body["percent"] = None if estimate.value is None else 100 * estimate.value
            if kind == "raw":
                body |= {
                    "matches": int(group.details[f"{key}.matches"] or 0),
                    "scored_turns": int(group.details[f"{key}.scored_turns"] or 0),
                    "cluster_se": estimate.se,
                    "per_dialogue_mean": group.details[f"{key}.per_dialogue_mean"],
                }
        name, _, emotion = key.partition(":")
        if emotion:
            section = "per_emotion" if name in ("precision", "recall", "f1") else name
            if section == "per_emotion":
                plain.setdefault(section, {}).setdefault(emotion, {})[name] = body
            else:
                plain.setdefault(section, {})[emotion] = body
        else:
            plain[key] = body
    if kind == "raw":
        matrix = group.confusions["reference_raw"]
        for code, emotion in enumerate(EMOTIONS):
            plain["per_emotion"][emotion] |= {
                "support": int(matrix[code].sum()),
                "predicted": int(matrix[:, code].sum()),
            }
        plain["macro_f1"]["classes"] = int(np.isfinite(ct.f1(matrix)).sum())
    return plain
