"""Two columns of labels of the same items: their cross-table by dialogue, and what is estimated from it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np

from evaluation import coefficients as co
from evaluation.coefficients import Floats, Ints
from evaluation.intervals import Estimate, bootstrap_estimate, cluster_weights, undefined
from evaluation.label_table import AgreementOptions, Labels, bounds_of, from_error, stack
from evaluation.linearised import pair_errors

COMPARED: Final = ("percent", "cohen", "scott", "gwet")


@dataclass(frozen=True)
class CrossTable:
    """Counts of (first label, second label), K x K, for each of the dialogues that hold a compared item.

    Attributes
    ----------
    sums
        Shape (D, K * K).
    n
        Items compared.
    """

    sums: Floats
    size: int
    n: int

    @classmethod
    def of(cls, clusters: Ints, first: Ints, second: Ints, size: int) -> CrossTable:
        """Count the pairs of categories of every item by its cluster; all three of shape (items,)."""
        present, local = np.unique(clusters, return_inverse=True)
        cells = (local * size + first) * size + second
        flat = np.bincount(cells, minlength=len(present) * size * size)
        return cls(flat.reshape(len(present), size * size).astype(float), size, len(first))

    @property
    def total(self) -> Floats:
        """All dialogues together, shape (K, K)."""
        return np.asarray(self.sums.sum(axis=0).reshape(self.size, self.size))

    def estimates(
        self,
        statistics: Callable[[Floats], Mapping[str, Floats]],
        errors: Callable[[Floats], Mapping[str, float | None]],
        labels: Labels,
        options: AgreementOptions,
        *,
        name: str,
    ) -> dict[str, Estimate]:
        """Estimate statistics of the table: by the bootstrap of its dialogues, or from linearised errors.

        Parameters
        ----------
        statistics
            From tables of shape (..., K, K) to values of shape (...) by name, NaN where undefined.
        errors
            From the whole table to linearised standard errors by name.
        name
            The purpose, mixed into the seed.
        """
        point = statistics(self.total)
        if not self.n:
            return {key: undefined("no_pairs") for key in point}
        if options.intervals == "linearised":
            known, facts = errors(self.total), (2 * self.n, self.n, self.n)
            return {key: from_error(key, value, facts, known.get(key), options) for key, value in point.items()}
        clusters = len(self.sums)
        draws = cluster_weights(clusters, options.replicates, options.seed, name=name) if clusters > 1 else ()
        square = (-1, self.size, self.size)
        replicates = stack([statistics((block @ self.sums).reshape(square)) for block in draws])
        found = {}
        for key, value in point.items():
            if not np.isfinite(value):
                found[key] = undefined("no_variation", n=self.n, clusters=clusters)
            elif self.n == 1:
                found[key] = Estimate(float(value), 1, reason="one_item", clusters=1, notes=("one item: no interval",))
            else:
                found[key] = bootstrap_estimate(
                    float(value),
                    replicates.get(key, np.empty(0)),
                    n=self.n,
                    clusters=clusters,
                    unit=labels.unit,
                    confidence=options.confidence,
                    bounds=bounds_of(key),
                )
        return found


def compare_columns(
    table: CrossTable, labels: Labels, options: AgreementOptions, weights: Floats, *, name: str
) -> dict[str, Estimate]:
    """Compare two columns of labels: `percent` (unweighted), `cohen`, `scott` and `gwet` with the weights (K, K).

    Linearised errors: p (1-p) / (n-1) for the share; Fleiss, Cohen and Everitt (1969) for kappa; Gwet (2014) for
    Scott's pi and AC.
    """
    if not table.n:
        return {key: undefined("no_pairs") for key in COMPARED}

    def statistics(tables: Floats) -> dict[str, Floats]:
        size = tables.sum(axis=(-2, -1))
        return {
            "percent": np.trace(tables, axis1=-2, axis2=-1) / np.where(size > 0, size, np.nan),
            "cohen": co.cohen_values(tables, weights),
            "scott": co.scott_values(tables, weights),
            "gwet": co.gwet_values(tables, weights, labels.counted),
        }

    def errors(whole: Floats) -> dict[str, float | None]:
        share = float(np.trace(whole)) / table.n
        spread = float(np.sqrt(share * (1 - share) / max(1, table.n - 1)))
        kappa = co.cohen_standard_error(whole, weights)
        return {"percent": spread, "cohen": kappa, **pair_errors(whole, weights, labels.counted)}

    return table.estimates(statistics, errors, labels, options, name=name)
