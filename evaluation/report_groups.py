"""What the report's sections on systems share: names, columns, the three ways of a measure, words below figures."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from evaluation.emotions import EMOTIONS
from evaluation.groups import GroupData, MetricOptions, Triple
from evaluation.intervals import Estimate
from evaluation.metrics import GroupMetrics
from evaluation.report_model import HUMAN, Cell, Column

PLACE: Final[dict[str, int]] = {emotion: code for code, emotion in enumerate(EMOTIONS)}
DATASET: Final = Column("dataset", "Data set")
SYSTEM: Final = Column("system", "System")
ALONE: Final = "lambda = 0"
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


def groups_of(groups: Sequence[GroupMetrics], dataset: str, *, reference: bool = True) -> list[GroupMetrics]:
    """Give the groups of one data set, with or without the human reference."""
    return [g for g in groups if g.dataset == dataset and (reference or not g.is_reference)]


def three_columns(key: str, title: str, kind: Any, direction: str = "") -> list[Column]:
    """Give the columns of a measure by the classifier, by people alone, and corrected."""
    return [Column(f"{key}_{how}", f"{title}, {words}", kind, direction=direction) for how, words in THREE]


def three_cells(group: GroupMetrics, measure: str, key: str) -> dict[str, Cell]:
    """Give the cells of `three_columns` for one measure of a group."""
    triple = group.measures[measure]
    return {f"{key}_{how}": getattr(triple, how) for how, _ in THREE} | {f"{key}_corrected": said_alone(triple)}


def said_alone(triple: Triple) -> Estimate:
    """Give the corrected estimate, with a note where it is the human-only one and does not say so yet.

    Besides too few labels there is a lambda of 0 that was estimated, and turns that the classifier did not label.
    """
    one = triple.corrected
    if one.value is None or triple.verified.value is None or any(note.startswith("lambda = ") for note in one.notes):
        return one
    return one.with_notes(ALONE) if one.method.startswith("human labels") else one


def number_or_none(value: float) -> float | None:
    """Give a number, or `None` for NaN."""
    return float(value) if np.isfinite(value) else None


def any_verified(groups: Sequence[GroupMetrics]) -> bool:
    """Say whether any group has a verified pair."""
    return any(group.verified_pairs for group in groups)


def is_alone(estimate: Estimate) -> bool:
    """Say whether a corrected estimate is that of the human labels alone."""
    return any(note == ALONE or note.startswith(f"{ALONE} because") for note in estimate.notes)


def basis(groups: Sequence[GroupMetrics], measure: str, how: str) -> str:
    """Say below a figure of corrected values where they are the human labels' alone, and where the classifier's."""
    if how == "raw":
        return ""
    bare = [group for group in groups if group.measures[measure].best is group.measures[measure].raw]
    alone = [group for group in groups if group not in bare and is_alone(said_alone(group.measures[measure]))]
    parts = [("Human labels alone (λ = 0)", alone), ("The classifier's labels, for nothing is verified", bare)]
    return "".join(f" {words}: {_places(chosen, groups)}." for words, chosen in parts if chosen)


def _places(chosen: Sequence[GroupMetrics], groups: Sequence[GroupMetrics]) -> str:
    told = []
    for dataset in datasets_of(chosen):
        own = groups_of(chosen, dataset)
        whole = len(own) == len(groups_of(groups, dataset))
        told += [dataset] if whole else [f"{named(group)} on {dataset}" for group in own]
    return ", ".join(told)


def whiskers(options: MetricOptions) -> str:
    """Say what the whiskers of a figure are."""
    return f"Whiskers are {100 * options.confidence:g} % intervals."
