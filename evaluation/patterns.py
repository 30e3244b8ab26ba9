"""Misalignment patterns: which emotion answers which more often than people answer so, cell by cell.

Sources: Benjamini and Hochberg 1995; the corrected values as in `evaluation.verified_panel`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final

import numpy as np

from evaluation import counts as ct
from evaluation.comparison import common_turns, counted
from evaluation.counts import Floats, K
from evaluation.estimation import ALONE, MIN_LABELS
from evaluation.groups import GroupData, MetricOptions
from evaluation.intervals import (
    DEFAULT_REPLICATES,
    Estimate,
    benjamini_hochberg,
    bootstrap_estimate,
    undefined,
)
from evaluation.permutation import EXACT_UP_TO, PERMUTATIONS, flipped
from evaluation.verified_panel import LabelPair, VerifiedPanel

MIN_CELL: Final = 5


@dataclass(frozen=True, slots=True)
class CellDifference:
    """How often a system answers the emotion `user` with `response`, beside how often the human reference does.

    Attributes
    ----------
    turns, share
        By the classifier: turns of the system in the cell, and their share among all turns with this user emotion.
    corrected
        That share, corrected by the turns people verified.
    baseline, difference
        The share of the human reference on the common turns, and system minus reference there, by the classifier.
    difference_corrected
        The same difference, corrected, for further dialogues like these.
    p, p_adjusted
        Sign flips of dialogues, and adjusted for the false discovery rate over the cells.
    """

    user: int
    response: int
    turns: int
    share: float
    corrected: Estimate
    baseline: float | None
    difference: Estimate
    difference_corrected: Estimate
    p: float | None
    p_adjusted: float | None


def corrected_shares(
    group: GroupData, options: MetricOptions, *, replicates: int = DEFAULT_REPLICATES, seed: int = 0
) -> dict[tuple[int, int], Estimate]:
    """Give for each pair of codes (user, response) the share of that response among turns of that user emotion.

    Corrected by the turns people verified; `no_data` where none of them has the user emotion, `few_turns` where fewer
    than `MIN_CELL` do. Empty without a turn.
    """
    labels = _labels(group)
    rows = np.flatnonzero(labels.known)
    if not len(rows):
        return {}
    name = f"{group.dataset}/cells"
    cube = counted([group], [rows], [labels])[0]
    drawn = np.array(ct.resample([cube], replicates, seed, name))
    panel = VerifiedPanel([group], [rows], [labels], resampled=drawn, seed=seed, name=name, target=options.target)
    settings: dict[str, Any] = {"confidence": options.confidence, "bounds": (0.0, 1.0)}
    return {(a, b): _corrected(panel, a, b, (0,), **settings) for a in range(K) for b in range(K)}


def compare_cells(
    system: GroupData,
    baseline: GroupData | None,
    options: MetricOptions,
    *,
    shares: Mapping[tuple[int, int], Estimate] | None = None,
    replicates: int = DEFAULT_REPLICATES,
    permutations: int = PERMUTATIONS,
    seed: int = 0,
) -> list[CellDifference]:
    """Compare the row shares of a system's misalignments with the human baseline, cell by cell.

    Cells off the diagonal with `MIN_CELL` turns or more; p by sign flips on the common turns, adjusted for the false
    discovery rate over the listed cells. Most frequent pattern first.

    Parameters
    ----------
    shares
        What `corrected_shares` gives for the system, where it is at hand.
    """
    own = _labels(system)
    rows = np.flatnonzero(own.known)
    if not len(rows):
        return []
    total = counted([system], [rows], [own])[0]
    share = ct.normalised(total.total)
    if shares is None:
        shares = corrected_shares(system, options, replicates=replicates, seed=seed)
    gaps = _Gaps.of(system, baseline, replicates, permutations, seed) if baseline is not None else None
    cells = [(a, b) for a in range(K) for b in range(K) if a != b and total.total[a, b] >= MIN_CELL]
    p = np.array([gaps.p[cell] if gaps is not None else np.nan for cell in cells])
    adjusted = benjamini_hochberg(p) if len(p) else p
    found = []
    for (a, b), chance, family in zip(cells, p, adjusted, strict=True):
        found.append(
            CellDifference(
                a,
                b,
                int(total.total[a, b]),
                float(share[a, b]),
                shares[a, b],
                _known(gaps.baseline[a, b]) if gaps is not None else None,
                gaps.raw(a, b, options) if gaps is not None else undefined("no_baseline"),
                gaps.corrected(a, b, options) if gaps is not None else undefined("no_baseline"),
                _known(chance),
                _known(family),
            )
        )
    return sorted(found, key=lambda cell: (-cell.turns, cell.user, cell.response))


def _corrected(panel: VerifiedPanel, user: int, response: int, systems: tuple[int, ...], **settings: Any) -> Estimate:
    """Estimate a share, or its difference, from the verified turns with this user emotion; n counts these.

    Below `MIN_CELL` of them there is none, below `MIN_LABELS` it is that of the people alone: what a handful of turns
    shares with the classifier's labels says nothing about the rest.
    """
    n = panel.felt(user, systems)
    if panel.apart:
        return undefined("separate_draws", method="difference estimator")
    if n < MIN_CELL:
        return undefined("few_turns" if n else "no_data", n=n, method="difference estimator")
    if n < MIN_LABELS:
        alone = panel.within(user, [response] * len(systems), **settings)
        return alone.with_notes(f"{ALONE} because n = {n} < {MIN_LABELS}")
    return replace(panel.statistic(partial(_cell, user=user, response=response), systems, **settings), n=n)


def _labels(group: GroupData) -> LabelPair:
    return LabelPair(group.user, group.response, group.user_human, group.response_human)


def _cell(matrices: Floats, user: int, response: int) -> Floats:
    """Give the share of one response emotion among the turns of one user emotion; NaN without such turns."""
    rows = matrices[..., user, :].sum(axis=-1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(np.where(rows > 0, matrices[..., user, response] / rows, np.nan))


def _known(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


@dataclass(frozen=True)
class _Gaps:
    """A system against the human reference on their common turns, the differences of all cells at once.

    `felt`, shape (7,): the common turns with each user emotion, which is what a row share rests on.
    """

    value: Floats
    baseline: Floats
    draws: Floats
    p: Floats
    felt: Floats
    dialogues: int
    panel: VerifiedPanel

    @classmethod
    def of(cls, system: GroupData, baseline: GroupData, replicates: int, permutations: int, seed: int) -> _Gaps | None:
        groups = [system, baseline]
        rows = common_turns(groups)
        if not len(rows[0]):
            return None
        labels = [_labels(group) for group in groups]
        first, second = counted(groups, rows, labels)
        value = ct.normalised(first.total) - ct.normalised(second.total)
        name = f"{system.dataset}/cells"
        drawn = np.array(ct.resample((first, second), replicates, seed, name))
        draws = ct.normalised(drawn[0]) - ct.normalised(drawn[1])
        extreme, total = np.zeros((K, K)), 0
        for swapped, rest in flipped(first, second, permutations, seed, system.dataset):
            gap = np.abs(ct.normalised(swapped) - ct.normalised(rest))
            extreme += (gap >= np.abs(value) - 1e-12).sum(axis=0)
            total += len(gap)
        p = extreme / total if first.dialogues <= EXACT_UP_TO else (extreme + 1) / (total + 1)
        p = np.where(np.isfinite(value), p, np.nan)
        panel = VerifiedPanel(groups, rows, labels, resampled=drawn, seed=seed, name=name)
        return cls(value, ct.normalised(second.total), draws, p, first.total.sum(axis=1), first.dialogues, panel)

    def raw(self, user: int, response: int, options: MetricOptions) -> Estimate:
        value = float(self.value[user, response])
        if not np.isfinite(value):
            return undefined("no_baseline")
        felt = int(self.felt[user])
        settings: dict[str, Any] = {"n": felt, "clusters": self.dialogues, "confidence": options.confidence}
        return bootstrap_estimate(value, self.draws[:, user, response], bounds=(-1.0, 1.0), **settings)

    def corrected(self, user: int, response: int, options: MetricOptions) -> Estimate:
        settings: dict[str, Any] = {"confidence": options.confidence, "bounds": (-1.0, 1.0)}
        return _corrected(self.panel, user, response, (0, 1), **settings)
