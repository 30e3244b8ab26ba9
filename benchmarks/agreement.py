"""Agreement of 1e6 labels: own kernel against the krippendorff package in the same run; prints one JSON object.

    python -m benchmarks.agreement [--labels 1000000] [--replicates 1000]

333,334 items of three labels in 100,000 dialogues, 7 categories, seeded. `point`: every coefficient overall and per
label, from label codes. `bootstrap`: all of them in each resample of the dialogues. `update`: one more label, and every
coefficient again. The lower the ratio the better; absolute figures depend on the machine and what else runs on it.
"""

from __future__ import annotations

import argparse
import json
import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import time
from collections.abc import Callable
from typing import Any

import krippendorff
import numpy as np
import pandas as pd

from evaluation import coefficients as co
from evaluation.agreement import AgreementOptions, agreement
from evaluation.emotions import EMOTIONS
from evaluation.intervals import cluster_weights

CATEGORIES = len(EMOTIONS)
VALUES = np.arange(float(CATEGORIES))
LAYOUT = co.Layout(CATEGORIES)


def best(call: Callable[[], Any], times: int) -> tuple[float, Any]:
    """Give the least processor time of several runs in seconds, and what the last returned.

    Processor time on one thread: what else runs on the machine does not count.
    """
    shortest, result = float("inf"), None
    for _ in range(times):
        began = time.process_time()
        result = call()
        shortest = min(shortest, time.process_time() - began)
    return shortest, result


def coefficients(sums: co.Floats) -> dict[str, co.Floats]:
    """Give every coefficient that needs no rater's identity, overall and per label."""
    found = co.multi_rater_values(sums, np.eye(CATEGORIES))
    found["krippendorff_alpha"] = co.krippendorff_values(LAYOUT.coincidence(sums), VALUES, "nominal")
    return found | {f"label {name}": value for name, value in co.label_values(sums, CATEGORIES).items()}


def labels(count: int) -> tuple[co.Ints, co.Ints, co.Ints]:
    """Simulate items, codes and the dialogue of each item."""
    rng = np.random.default_rng(0)
    items = np.repeat(np.arange(-(-count // 3)), 3)[:count]
    truth = rng.integers(0, CATEGORIES, items[-1] + 1)
    codes = np.where(rng.random(count) < 0.8, truth[items], rng.integers(0, CATEGORIES, count))
    dialogues = np.sort(rng.integers(0, max(1, count // 10), items[-1] + 1))
    return items, codes, np.unique(dialogues, return_inverse=True)[1]


def measure(count: int, replicates: int) -> dict[str, Any]:
    """Run every measurement once on the same labels."""
    items, codes, dialogues = labels(count)
    point, found = best(lambda: coefficients(co.total_sums(co.count_matrix(items, codes, CATEGORIES))), 7)
    data = np.full((3, items[-1] + 1), np.nan)
    data[np.arange(count) % 3, items] = codes
    from_table, reference = best(
        lambda: krippendorff.alpha(data, level_of_measurement="nominal", value_domain=VALUES), 2
    )
    counts = co.count_matrix(items, codes, CATEGORIES)
    from_counts, _ = best(
        lambda: krippendorff.alpha(value_counts=counts.astype(int), level_of_measurement="nominal"), 2
    )
    size = int(dialogues.max()) + 1
    cube, sums = best(lambda: co.cluster_sums(counts, dialogues, size), 3)

    def resample() -> list[Any]:
        return [coefficients(block @ sums) for block in cluster_weights(size, replicates, 1)]

    bootstrap, _ = best(resample, 1)
    total = sums.sum(axis=0)

    def one_more() -> dict[str, co.Floats]:
        co.add_label(counts, total, 0, 3)
        return coefficients(total)

    update, _ = best(one_more, 5)
    frame = pd.DataFrame(
        {
            "item": items,
            "annotator": np.arange(count) % 3,
            "label": np.array(EMOTIONS)[codes],
            "dialogue": dialogues[items],
        }
    )
    table, _ = best(lambda: agreement(frame, AgreementOptions(replicates=0)), 1)
    return {
        "labels": count,
        "dialogues": size,
        "categories": CATEGORIES,
        "clock": "processor time, one thread",
        "point_seconds": round(point, 4),
        "target_point_seconds": 0.1,
        "krippendorff_package_table_seconds": round(from_table, 4),
        "krippendorff_package_counts_seconds": round(from_counts, 4),
        "times_faster_than_package": round(from_table / point, 1),
        "alpha_differs_by": float(abs(found["krippendorff_alpha"] - reference)),
        "dialogue_sums_seconds": round(cube, 4),
        "replicates": replicates,
        "bootstrap_seconds": round(bootstrap, 3),
        "update_milliseconds": round(1000 * update, 3),
        "target_update_milliseconds": 50,
        "whole_report_from_table_seconds": round(table, 3),
        "load": os.getloadavg()[0],
    }


def main() -> None:
    """Read the arguments, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--labels", type=int, default=1_000_000)
    parser.add_argument("--replicates", type=int, default=1000)
    parsed = parser.parse_args()
    print(json.dumps(measure(parsed.labels, parsed.replicates), indent=2))


if __name__ == "__main__":
    main()
