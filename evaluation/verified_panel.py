"""The verified turns of one or several systems as label matrices, and what they correct.

Every system of a panel was labelled on the same turns, by the classifier on all of them and by people on a drawn part.
A panel makes of the drawn part weighted matrices and their resamples, the same resamples for every system, so that a
difference between two systems is estimated turn by turn and not as the difference of two estimates.

Sources: Angelopoulos, Duchi and Zrnic 2023 (PPI++), Zrnic 2024 (PPBoot), Rao and Wu 1988; see `evaluation.estimation`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from evaluation import counts as ct
from evaluation.counts import Floats, K
from evaluation.design import Design
from evaluation.estimation import (
    ALONE,
    Target,
    corrected_replicates,
    difference_mean,
    human_mean,
    human_replicates,
    replicate_lambda,
    replicate_weights,
)
from evaluation.groups import Codes, GroupData
from evaluation.intervals import MIN_DEFINED_SHARE, Estimate, undefined

Statistic = Callable[[Floats], Floats]
"""A function of matrices (..., 7, 7) that gives one number for each."""


@dataclass(frozen=True)
class LabelPair:
    """The row and column labels of one system's matrix by classifier and by people: codes (n,), -1 missing."""

    rows: Codes
    columns: Codes
    rows_human: Codes
    columns_human: Codes

    @property
    def known(self) -> NDArray[np.bool_]:
        """Shape (n,): both labels are there by the classifier."""
        return (self.rows >= 0) & (self.columns >= 0)

    @property
    def verified(self) -> NDArray[np.bool_]:
        """Shape (n,): both labels are there by people."""
        return (self.rows_human >= 0) & (self.columns_human >= 0)

    def at(self, places: NDArray[Any]) -> LabelPair:
        """Give the labels of some turns, in the order of `places`."""
        return LabelPair(self.rows[places], self.columns[places], self.rows_human[places], self.columns_human[places])


@dataclass(frozen=True)
class Everywhere:
    """The classifier's matrices of all turns of S systems: (S, 7, 7), and in resamples of dialogues (S, R, 7, 7)."""

    totals: Floats
    draws: Floats | None

    @classmethod
    def of(cls, total: Floats, draws: Floats | None, target: Target) -> Everywhere:
        """Make it for one system; for the corpus its matrix is one and is not resampled."""
        return cls(total[None], draws[None] if draws is not None and target == "superpopulation" else None)


def sample_weights(design: Design, replicates: int, seed: int, name: str, target: Target) -> Iterator[Floats]:
    """Give the replicate weights of verified turns: for further dialogues those of the classifier's resamples."""
    own = name if target == "superpopulation" else f"{name}/verified"
    return replicate_weights(design, replicates, seed, own, target=target)


@dataclass(frozen=True)
class VerifiedSample:
    """Weighted matrices of the verified turns of S systems, with R resamples: by people, and by the classifier.

    Attributes
    ----------
    human, machine
        Shape (S, 7, 7), each turn counting in proportion to the inverse of its inclusion probability, together the
        effective number of labels (sum w)² / sum w², which is n at equal w: the small-sample bias of an entropy is that
        of the labels seen, and every other statistic is a ratio of counts. `machine` is `None` where the classifier
        labelled not all of the verified turns.
    human_draws, machine_draws
        Shape (S, R, 7, 7); no resample with a single dialogue.
    """

    design: Design
    human: Floats
    human_draws: Floats
    machine: Floats | None
    machine_draws: Floats | None

    @classmethod
    def of(cls, design: Design, systems: Sequence[LabelPair], replicates: Iterable[Floats]) -> VerifiedSample:
        """Make the matrices of turns that `design` describes, its order and theirs being the same.

        Parameters
        ----------
        replicates
            Blocks (r, n) of replicate weights, as of `evaluation.estimation.replicate_weights`.
        """
        cells = [pair.rows_human.astype(np.int64) * K + pair.columns_human for pair in systems]
        labelled = all(pair.known.all() for pair in systems)
        if labelled:
            cells += [pair.rows.astype(np.int64) * K + pair.columns for pair in systems]
        # Rounded weights make sums that do not depend on their order; one cell of 49 in each turn's row is not 0.
        weights = ct.whole_units(design.weights * (design.effective / design.weights.sum() if design.n else 1.0))
        places = np.concatenate([part * K * K + cell for part, cell in enumerate(cells)])
        turns = np.tile(np.arange(design.n), len(cells))
        chosen = (np.tile(weights, len(cells)), (places, turns))
        weighted = sparse.csr_array(chosen, shape=(len(cells) * K * K, design.n))
        blocks = [(weighted @ block.T).T for block in replicates] if design.clusters > 1 else []
        drawn = np.concatenate(blocks) if blocks else np.empty((0, len(cells) * K * K))
        total = np.asarray(weighted.sum(axis=1)).reshape(len(cells), K, K)
        draws = np.moveaxis(drawn.reshape(len(drawn), len(cells), K, K), 1, 0)
        size = len(systems)
        if not labelled:
            return cls(design, total, draws, None, None)
        return cls(design, total[:size], draws[:size], total[size:], draws[size:])

    def estimate(
        self, statistic: Statistic, everywhere: Everywhere | None, systems: tuple[int, ...] = (0,), **settings: Any
    ) -> tuple[Estimate, Estimate]:
        """Estimate a statistic of one system, or its difference between two, by people alone and corrected.

        Parameters
        ----------
        everywhere
            The classifier's labels of all turns; `None` without them.
        systems
            The place of one system, or of the first and the second of a difference.
        settings
            As of `evaluation.estimation.corrected_replicates`.
        """

        def of(matrices: Floats) -> Floats:
            first, *rest = (np.asarray(statistic(matrices[system])) for system in systems)
            return first - rest[0] if rest else first

        value, draws = float(of(self.human)), of(self.human_draws)
        alone = human_replicates(value, draws, self.design, **settings)
        if self.machine is None or self.machine_draws is None or everywhere is None:
            return alone, alone
        machine = float(of(self.machine)), of(self.machine_draws), float(of(everywhere.totals))
        moved = None if everywhere.draws is None else of(everywhere.draws)
        return alone, corrected_replicates(value, draws, *machine, self.design, machine_all_draws=moved, **settings)


class VerifiedPanel:
    """Systems on their common turns, and what people verified of them.

    A turn counts for a set of systems once the labels of all of them are verified. Its inclusion probability belongs to
    the turn, so designs that verify all systems' responses of a drawn turn are assumed; where the systems' rows carry
    different probabilities there is no sample, and the reason is `separate_draws`.

    Parameters
    ----------
    rows
        Per system the row numbers of the common turns, in one order.
    labels
        Per system the label pairs of all its rows.
    resampled
        Shape (S, R, 7, 7), the classifier's matrices of the common turns in resamples of their dialogues, drawn by
        `evaluation.counts.resample` under `seed` and `name`.
    target
        Differences between systems speak for further dialogues.
    """

    def __init__(
        self,
        groups: Sequence[GroupData],
        rows: Sequence[NDArray[np.int64]],
        labels: Sequence[LabelPair],
        *,
        resampled: Floats,
        seed: int,
        name: str,
        target: Target = "superpopulation",
    ) -> None:
        self.target = target
        # In the order of the first group's rows, in which a design numbers its units.
        order = np.argsort(rows[0], kind="stable")
        self._group, self._rows = groups[0], rows[0][order]
        self._labels = [pair.at(held[order]) for pair, held in zip(labels, rows, strict=True)]
        self.apart = not all(
            _drawn_alike(groups[0], self._rows, g, r[order]) for g, r in zip(groups, rows, strict=True)
        )
        self._dialogues = groups[0].dialogues[self._rows]
        size = int(self._dialogues.max()) + 1
        totals = [ct.count_cube(self._dialogues, pair.rows, pair.columns, size=size).total for pair in self._labels]
        self.everywhere = Everywhere(np.array(totals), resampled if target == "superpopulation" else None)
        anyone = np.logical_or.reduce([pair.verified for pair in self._labels])
        design, self._union = self._design(anyone)
        self._blocks: list[NDArray[np.float32]] = []
        self._last: tuple[tuple[int, ...], VerifiedSample] | None = None
        if design.clusters > 1:
            drawn = sample_weights(design, resampled.shape[1], seed, name, target)
            self._blocks = [block.astype(np.float32) for block in drawn]

    def _design(self, verified: NDArray[np.bool_]) -> tuple[Design, NDArray[np.bool_]]:
        """Give the design of some of the common turns, and which of these are in it."""
        mask = np.zeros(len(self._group.user), dtype=bool)
        mask[self._rows[verified]] = True
        population = np.zeros(len(mask), dtype=bool)
        population[self._rows] = True
        design, kept = self._group.design(mask, population)
        return design, kept[self._rows]

    def _drawn(self, systems: Sequence[int]) -> tuple[Design, NDArray[np.bool_]]:
        return self._design(np.logical_and.reduce([self._labels[system].verified for system in systems]))

    def sample(self, systems: Sequence[int]) -> VerifiedSample:
        """Give the turns verified for all of these systems, in the order in which they are named."""
        key = tuple(systems)
        if self._last is None or self._last[0] != key:
            design, held = self._drawn(key)
            inside = held[self._union]
            labels = [self._labels[system].at(held) for system in key]
            blocks = (block[:, inside].astype(float) for block in self._blocks)
            self._last = key, VerifiedSample.of(design, labels, blocks)
        return self._last[1]

    def mean(self, match: NDArray[np.bool_], systems: Sequence[int], **settings: Any) -> Estimate:
        """Estimate the share of turns in the cells `match` (7, 7), or its difference between two systems.

        The difference estimator on the turns' own 0 and 1, or on their differences d = y_A - y_B.
        """
        if self.apart:
            return undefined("separate_draws", method="difference estimator")
        design, held = self._drawn(systems)
        if not design.n:
            return undefined("no_data", method="difference estimator")
        human = [match[pair.rows_human[held], pair.columns_human[held]].astype(float) for pair in self._of(systems)]
        machine = [match[pair.rows, pair.columns].astype(float) for pair in self._of(systems)]
        y, f = (part[0] - part[1] if len(part) > 1 else part[0] for part in (human, machine))
        return _said(difference_mean(y, f[held], f, design, target=self.target, **settings))

    def statistic(self, statistic: Statistic, systems: Sequence[int], **settings: Any) -> Estimate:
        """Estimate any statistic of the matrix, or its difference between two systems, in the bootstrap form."""
        if self.apart:
            return undefined("separate_draws", method="difference estimator")
        sample = self.sample(systems)
        if not sample.design.n:
            return undefined("no_data", method="difference estimator")
        chosen, drawn = list(systems), self.everywhere.draws
        part = Everywhere(self.everywhere.totals[chosen], None if drawn is None else drawn[chosen])
        return _said(sample.estimate(statistic, part, tuple(range(len(chosen))), target=self.target, **settings)[1])

    def within(self, user: int, responses: Sequence[int], **settings: Any) -> Estimate:
        """Estimate by people alone how often one emotion answers the user emotion `user`.

        For one system the share of its response `responses[0]`; for two the difference of their shares, turn by turn.
        The mean of a domain: `n` is the number of verified turns with that user emotion.
        """
        if self.apart:
            return undefined("separate_draws", method="human labels")
        design, held = self._drawn(range(len(responses)))
        columns = [pair.columns_human[held] for pair in self._of(range(len(responses)))]
        felt = self._labels[0].rows_human[held] == user
        if not felt.any():
            return undefined("no_data", method="human labels")
        hits = [(column[felt] == response).astype(float) for column, response in zip(columns, responses, strict=True)]
        share = float(design.weights[felt].sum() / design.weights.sum())
        part = design.where(felt, max(int(felt.sum()), round(share * design.population)))
        y = hits[0] - hits[1] if len(hits) > 1 else hits[0]
        return human_mean(y, part, target=self.target, rare=len(hits) == 1, **settings)

    def felt(self, user: int, systems: Sequence[int]) -> int:
        """Give the number of turns verified for these systems in which people heard the user emotion `user`."""
        held = self._drawn(systems)[1]
        return int((self._labels[systems[0]].rows_human[held] == user).sum())

    def _of(self, systems: Sequence[int]) -> list[LabelPair]:
        return [self._labels[system] for system in systems]

    def joint_draws(self, statistic: Statistic) -> Floats:
        """Draw the corrected values of all systems together: their ranks among further dialogues follow from these.

        Returns
        -------
        ndarray
            Shape (S, R), each draw phi(y_s) + lambda (phi(f_N) - phi(f_s)) of one resample, moved so that the mean of a
            system's draws is its corrected value; NaN where a system has none.
        """
        sample = self.sample(range(len(self._labels)))
        size, everywhere = len(self._labels), self.everywhere.draws
        replicates = 0 if everywhere is None else everywhere.shape[1]
        found = np.full((size, replicates), np.nan)
        if sample.machine is None or sample.machine_draws is None or everywhere is None or not replicates:
            return found
        if self.apart or sample.design.clusters < 2:
            return found
        for place in range(size):
            human, machine, total = (
                float(statistic(part[place])) for part in (sample.human, sample.machine, self.everywhere.totals)
            )
            draws = statistic(sample.human_draws[place])
            change = statistic(everywhere[place]) - statistic(sample.machine_draws[place])
            factor = replicate_lambda(draws, change)
            moved = draws + factor * change if factor else draws
            defined = np.isfinite(moved)
            if math.isfinite(human + machine + total) and defined.mean() >= MIN_DEFINED_SHARE:
                found[place] = moved - moved[defined].mean() + human + factor * (total - machine)
        return found


def _said(estimate: Estimate) -> Estimate:
    """Note that a corrected estimate is the human-only one, where lambda was estimated as 0 or could not be."""
    if estimate.value is None or any(note.startswith("lambda = ") for note in estimate.notes):
        return estimate
    return estimate.with_notes(ALONE) if estimate.method.startswith("human labels") else estimate


def _drawn_alike(first: GroupData, rows: NDArray[np.int64], second: GroupData, others: NDArray[np.int64]) -> bool:
    """Say whether two systems' rows of the same turns carry the same inclusion probabilities."""
    none = np.full(len(rows), np.nan)
    own = none if first.inclusion is None else first.inclusion[rows]
    other = none if second.inclusion is None else second.inclusion[others]
    return bool(np.allclose(own, other, rtol=1e-9, atol=0.0, equal_nan=True))
