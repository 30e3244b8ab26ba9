"""Alignment, flatness and macro-F1 of 1e6 turns against resampling rows with pandas; prints one JSON object.

    python -m benchmarks.metrics [--turns 1000000] [--replicates 1000]

100,000 dialogues, seeded, one thread. `point`: exact and coarse alignment with clustered errors, flatness and macro-F1
from label codes. `bootstrap`: the same statistics in each resample of whole dialogues. `pandas`: one resample of rows
of the same table with pandas, the same statistics from `crosstab`. `update`: one more label pair, and the metrics
again. Processor time on one thread, so what else runs on the machine does not count; the ratio matters most.
"""

from __future__ import annotations

import argparse
import json
import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

from evaluation import counts as ct
from evaluation.emotions import EMOTIONS
from evaluation.measures import ratio_estimate
from evaluation.metrics import MetricOptions, summarise
from evaluation.simulation import simulate_corpus


def best(call: Callable[[], Any], times: int) -> tuple[float, Any]:
    """Give the least processor time of several runs in seconds, and what the last returned."""
    shortest, result = float("inf"), None
    for _ in range(times):
        began = time.process_time()
        result = call()
        shortest = min(shortest, time.process_time() - began)
    return shortest, result


def statistics(aligned: Any, reference: Any) -> tuple[Any, ...]:
    """Give exact and coarse alignment, flatness and macro-F1 of matrices (..., 7, 7)."""
    return (
        ct.alignment(aligned),
        ct.alignment(aligned, "positive"),
        ct.flatness(aligned.sum(axis=-2)),
        ct.macro_f1(reference),
    )


def measure(turns: int, replicates: int) -> dict[str, Any]:
    """Run every measurement once on the same turns."""
    corpus = simulate_corpus(turns // 10, seed=0, mean_turns=10.0)
    size = int(corpus.dialogues[-1]) + 1
    user, response, reference = corpus.user_predicted, corpus.response_predicted, corpus.reference_predicted

    def cubes() -> tuple[ct.Cube, ct.Cube]:
        return (
            ct.count_cube(corpus.dialogues, user, response, size=size),
            ct.count_cube(corpus.dialogues, reference, response, size=size),
        )

    def point() -> tuple[Any, ...]:
        aligned, scored = cubes()
        errors = []
        for place in (None, "positive"):
            match = ct.match_masks(place)[0]  # type: ignore[arg-type]
            hits = np.einsum("dij,ij->d", aligned.sums, match.astype(np.float32))
            errors.append(ratio_estimate(hits, np.einsum("dij->d", aligned.sums)))
        return (*statistics(aligned.total, scored.total), *errors)

    point_s, found = best(point, 3)
    aligned, scored = cubes()
    bootstrap_s, _ = best(lambda: statistics(*ct.resample([aligned, scored], replicates, 1, "bench")), 1)
    names = np.array(EMOTIONS, dtype=object)
    table = pd.DataFrame(
        {
            "dialogue": corpus.dialogues,
            "user": pd.Categorical(names[user]),
            "response": pd.Categorical(names[response]),
            "reference": pd.Categorical(names[reference]),
        }
    )
    groups = table.groupby("dialogue").indices
    rng = np.random.default_rng(0)

    def with_pandas() -> Any:
        drawn = rng.integers(0, size, size)
        rows = table.iloc[np.concatenate([groups[dialogue] for dialogue in drawn])]
        matrices = [pd.crosstab(rows[one], rows["response"], dropna=False) for one in ("user", "reference")]
        return statistics(*(matrix.to_numpy(dtype=float) for matrix in matrices))

    pandas_s, _ = best(with_pandas, 3)
    total, scored_total = aligned.total, scored.total

    def update() -> Any:
        total[0, 1] += 1
        scored_total[0, 1] += 1
        aligned.sums[0, 0, 1] += 1
        return statistics(total, scored_total)

    update_s, _ = best(update, 20)
    small = corpus_table(50_000)
    whole_s, _ = best(lambda: summarise(small, options=MetricOptions(), replicates=replicates, seed=1), 1)
    return {
        "turns": len(corpus.dialogues),
        "dialogues": size,
        "replicates": replicates,
        "values": [round(float(value), 4) for value in found[:4]],
        "point_s": round(point_s, 3),
        "bootstrap_s": round(bootstrap_s, 3),
        "pandas_one_replicate_s": round(pandas_s, 3),
        "ratio_to_pandas": round(pandas_s * replicates / bootstrap_s, 1),
        "update_ms": round(1000 * update_s, 3),
        "summarise_50k_turns_s": round(whole_s, 2),
    }


def corpus_table(turns: int) -> pd.DataFrame:
    """Simulate a table with 300 verified turns."""
    corpus = simulate_corpus(turns // 10, seed=1)
    verified = np.random.default_rng(1).choice(len(corpus.dialogues), 300, replace=False)
    return corpus.table(verified)


def main() -> None:
    """Read the sizes from the command line and print the measurements."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, default=1_000_000)
    parser.add_argument("--replicates", type=int, default=1000)
    chosen = parser.parse_args()
    print(json.dumps(measure(chosen.turns, chosen.replicates), indent=1))


if __name__ == "__main__":
    main()
