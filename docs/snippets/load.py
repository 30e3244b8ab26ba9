"""Load the tidy judgments of a campaign and compute percent agreement by data set, as in section 7 of the report.

python docs/snippets/load.py judgments.csv
"""

from __future__ import annotations

import sys
from itertools import combinations

import pandas as pd


def percent_agreement(judgments: pd.DataFrame) -> pd.DataFrame:
    """Of all pairs of labels of one item, the share that agree, averaged over items; n counts items with a pair."""
    labels = judgments[
        (judgments["action"] == "label")
        & judgments["standing"]
        & (judgments["kind"] != "gold")
        & (judgments["arm"] != "shown")
    ]

    def of_item(given: pd.Series) -> float | None:
        pairs = list(combinations(given, 2))
        return sum(a == b for a, b in pairs) / len(pairs) if pairs else None

    items = labels.groupby(["dataset", "item"])["label"].agg(of_item).dropna()
    return items.groupby("dataset").agg(["mean", "size"]).set_axis(["percent_agreement", "n"], axis=1)


if __name__ == "__main__":
    print(percent_agreement(pd.read_csv(sys.argv[1])))
