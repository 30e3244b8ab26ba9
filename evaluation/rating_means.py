"""The mean rating of each system, by the rated turns alone and corrected with what the classifier says of all turns.

y is the mean of a response's ratings, f the classifier's flag of an exact match, known for every turn; the difference
estimator (`evaluation.estimation.difference_mean`) adds what f says of the turns that nobody rated.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from evaluation.estimation import difference_mean, human_mean
from evaluation.groups import GroupData, MetricOptions, split_groups
from evaluation.intervals import Estimate

KEYS = ["dialogue", "turn", "system"]


@dataclass(frozen=True, slots=True)
class RatingMean:
    """Mean rating of one system's responses on one data set: by people alone, and corrected."""

    dataset: str
    system: str
    is_reference: bool
    outcome: str
    turns: int
    human: Estimate
    corrected: Estimate


def rating_means(
    ratings: pd.DataFrame, turns: pd.DataFrame, options: MetricOptions, *, scale: tuple[float, float]
) -> list[RatingMean]:
    """Estimate the mean rating of every rated system, over the turns that the classifier labelled on both sides.

    theta = mean(y) + lambda (mean_N(f) - mean(f)), f = the width of the scale where the classifier's labels match, else
    0, so that lambda in [0, 1] reaches every difference that the scale allows; 0 below 100 rated responses.

    Parameters
    ----------
    ratings, turns
        Checked tables (`evaluation.tables`); a rating whose turn is not in `turns`, or was not drawn where that table
        says what was drawn, is left out.
    scale
        Lowest and highest rating.
    """
    if not len(ratings) or not {"turn", "system", "outcome"} <= set(ratings.columns):
        return []
    rated = ratings[ratings["value"].notna()].assign(place=_dataset(ratings))
    table = turns.assign(place=_dataset(turns))
    found: list[RatingMean] = []
    # Every rated turn counts, whichever turns alignment is taken over.
    for group in split_groups(turns, replace(options, turn="pair")):
        rows = table[(table["place"] == group.dataset) & (table["system"].astype(str) == group.system)]
        own = rated[(rated["place"] == group.dataset) & (rated["system"].astype(str) == group.system)]
        found += _of_group(group, rows, own, options, scale)
    return found


def _dataset(table: pd.DataFrame) -> pd.Series[Any]:
    if "dataset" not in table:
        return pd.Series("", index=table.index)
    return table["dataset"].astype(object).where(table["dataset"].notna(), "").astype(str)


def _of_group(
    group: GroupData, rows: pd.DataFrame, rated: pd.DataFrame, options: MetricOptions, scale: tuple[float, float]
) -> Iterator[RatingMean]:
    labelled = (group.user >= 0) & (group.response >= 0)
    flags = (scale[1] - scale[0]) * (group.user == group.response)
    places = pd.MultiIndex.from_frame(rows[["dialogue", "turn"]].astype(str))
    settings: dict[str, Any] = {"target": options.target, "confidence": options.confidence, "bounds": scale}
    for outcome, part in rated.groupby(rated["outcome"].astype(str), sort=True):
        means = part.groupby([part["dialogue"].astype(str), part["turn"].astype(str)])["value"].mean()
        values = means.reindex(places).to_numpy(dtype=float)
        design, held = group.design(np.isfinite(values), labelled)
        y = values[held]
        if not design.n:
            continue
        alone = human_mean(y, design, **settings)
        corrected = difference_mean(y, flags[held], flags[labelled], design, **settings)
        yield RatingMean(
            group.dataset, group.system, group.is_reference, str(outcome), int(held.sum()), alone, corrected
        )
