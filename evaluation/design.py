"""How verified units were drawn: inclusion probabilities, strata, dialogues, and the units they stand for.

Sources: Horvitz and Thompson 1952; Särndal, Swensson and Wretman 1992 (chapter 15, response homogeneity groups); Kish
1965 (effective sample size).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from evaluation.intervals import cluster_codes

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Frame:
    """All N units that a sample speaks for: what the value on further dialogues needs to know beyond the sample.

    Attributes
    ----------
    dialogues
        Shape (N,), dialogue codes 0..D-1, those of the sample among them.
    strata
        Shape (N,), stratum codes, or `None` where they are not known for every unit.
    """

    dialogues: NDArray[np.int64]
    strata: NDArray[np.int64] | None = None


@dataclass(frozen=True)
class Design:
    """How the n verified units came out of N: what every human-only and corrected estimate needs to know.

    Attributes
    ----------
    inclusion
        Shape (n,), inclusion probabilities after the adjustment for units that were drawn but have no label.
    dialogues
        Shape (n,), dialogue codes, those of `frame` where there is one.
    population
        N, the units the sample speaks for.
    strata
        Shape (n,), stratum codes when units were drawn within strata, else `None`.
    notes
        What a reader of any estimate from this sample must know.
    """

    inclusion: Floats
    dialogues: NDArray[np.int64]
    population: int
    strata: NDArray[np.int64] | None = None
    frame: Frame | None = None
    notes: tuple[str, ...] = ()

    @property
    def n(self) -> int:
        """Give the number of verified units."""
        return len(self.inclusion)

    @property
    def weights(self) -> Floats:
        """Shape (n,), inverse inclusion probabilities."""
        return 1.0 / self.inclusion

    @property
    def effective(self) -> float:
        """Give the number of equally weighted units that would say as much: (sum w)² / sum w² (Kish 1965)."""
        return float(self.weights.sum() ** 2 / (self.weights**2).sum()) if self.n else 0.0

    @property
    def clusters(self) -> int:
        """Give the number of dialogues among the verified units."""
        return len(np.unique(self.dialogues))

    @property
    def unsampled_share(self) -> float:
        """Weighted mean of 1 - inclusion probability, by w²: 0 when the whole corpus is verified."""
        squares = self.weights**2
        return float(squares @ (1 - self.inclusion) / squares.sum()) if self.n else 1.0

    def where(self, rows: NDArray[np.bool_], population: int) -> Design:
        """Give the design of a part of the sample that speaks for `population` units; its weights stay as drawn."""
        strata = None if self.strata is None else self.strata[rows]
        return replace(
            self,
            inclusion=self.inclusion[rows],
            dialogues=self.dialogues[rows],
            population=population,
            strata=strata,
            frame=None,
        )


def draw_design(
    dialogues: ArrayLike,
    *,
    population: int,
    inclusion: ArrayLike | None = None,
    strata: ArrayLike | None = None,
    stratum_sizes: Mapping[Any, int] | None = None,
    drawn_inclusion: ArrayLike | None = None,
    drawn_strata: ArrayLike | None = None,
    frame_dialogues: ArrayLike | None = None,
    frame_strata: ArrayLike | None = None,
) -> Design:
    """Describe a sample: from stored inclusion probabilities, else from stratum sizes, else as a simple random draw.

    Drawn units that have no label (not answered, tied) lower the probabilities of those that have one: within each
    stratum by the weighted share of the drawn that are labelled, as if the missing were missing at random there. Where
    the inverse probabilities still add up to less than N, all are lowered in proportion, so that the finite-population
    correction does not claim what was not seen.

    Parameters
    ----------
    dialogues
        Shape (n,), the dialogue of each verified unit.
    population
        N.
    inclusion
        Shape (n,), stored inclusion probabilities; NaN is refused.
    strata, stratum_sizes
        Shape (n,), the stratum of each unit, and N_h by stratum; the sizes are used without `inclusion` only.
    drawn_inclusion, drawn_strata
        Shape (m,), probability and stratum of every unit that was drawn, labelled or not. Strata that the draw did not
        use (`_drawn_within`) make up for missing labels and are no strata of the variance.
    frame_dialogues, frame_strata
        Shape (N,), dialogue and stratum of every unit the sample speaks for; the strata only where all are known.

    Raises
    ------
    ValueError
        When a probability is not in (0, 1], or a stratum has no size.
    """
    given = np.asarray(dialogues)
    n = len(given)
    codes, everywhere = _coded(given, frame_dialogues)
    h, names = cluster_codes(np.asarray(strata)) if strata is not None and n else (None, [])
    frame = None
    if everywhere is not None:
        frame = Frame(everywhere, None if frame_strata is None or h is None else _placed(frame_strata, names))
    notes: tuple[str, ...] = ()
    if inclusion is not None:
        chance = np.asarray(inclusion, dtype=float).copy()
    elif h is not None and stratum_sizes is not None:
        if unknown := [name for name in names if name not in stratum_sizes]:
            raise ValueError(f"These strata have no known size: {', '.join(map(str, unknown))}.")
        sizes = np.array([stratum_sizes[name] for name in names], dtype=float)
        chance = (np.bincount(h) / sizes)[h]
        notes = _absent([name for name in stratum_sizes if name not in set(names)])
    else:
        chance = np.full(n, min(1.0, n / population) if population else 1.0)
    if not ((chance > 0) & (chance <= 1 + 1e-12)).all():
        raise ValueError("Inclusion probabilities must be above 0 and at most 1.")
    if drawn_inclusion is not None and n:
        every = np.asarray(drawn_inclusion, dtype=float)
        answered, absent = _answered(chance, h, names, every, drawn_strata)
        chance = chance * answered
        notes = _absent(absent)
        if drawn_strata is not None and not _drawn_within(every, drawn_strata, frame_strata):
            h = None
            frame = None if frame is None else Frame(frame.dialogues)
    reach = float((1 / chance).sum()) if n else 0.0
    if 0 < reach < population:
        chance = chance * (reach / population)
    return Design(np.minimum(chance, 1.0), codes, population, h, frame, notes)


def _coded(own: NDArray[Any], everywhere: ArrayLike | None) -> tuple[NDArray[np.int64], NDArray[np.int64] | None]:
    """Code the dialogues of the sample, and of the frame in the same codes: 0..D-1 in the order of their names."""
    if everywhere is None:
        return (cluster_codes(own)[0] if len(own) else np.empty(0, dtype=np.int64)), None
    names, codes = np.unique(np.asarray(everywhere), return_inverse=True)
    return np.searchsorted(names, own).astype(np.int64), codes.astype(np.int64)


def _placed(strata: ArrayLike, names: Sequence[Any]) -> NDArray[np.int64]:
    """Give the strata of the frame the codes of the sample's; those without a sampled unit come after."""
    place = {name: code for code, name in enumerate(names)}
    return np.array([place.setdefault(name, len(place)) for name in np.asarray(strata, dtype=object)], dtype=np.int64)


def _drawn_within(chance: Floats, strata: ArrayLike, everywhere: ArrayLike | None) -> bool:
    """Say whether the draw fixed how many units each stratum gives, as a stratified one does.

    A table may name strata that the draw did not use: theirs is no less variance for that. Where the stratum of every
    unit is known, the drawn of each must be what the probabilities make of its units; otherwise the probabilities must
    be the same within each stratum and differ between some.
    """
    drawn = pd.DataFrame({"chance": chance, "stratum": np.asarray(strata, dtype=object)})
    by_stratum = drawn.groupby("stratum")["chance"].agg(["min", "max", "size"])
    if not np.allclose(by_stratum["min"], by_stratum["max"], rtol=1e-9, atol=0.0):
        return False
    if everywhere is None:
        return bool(np.ptp(by_stratum["min"]) > 1e-12)
    units = pd.Series(np.asarray(everywhere, dtype=object)).value_counts().reindex(by_stratum.index)
    return bool(np.allclose(by_stratum["size"], by_stratum["min"] * units, rtol=1e-6, atol=1e-6))


def _absent(strata: Sequence[Any]) -> tuple[str, ...]:
    if not strata:
        return ()
    return (f"no human label in stratum {', '.join(map(str, strata))}: it is not represented",)


def _answered(
    chance: Floats, codes: NDArray[np.int64] | None, names: Sequence[Any], drawn: Floats, strata: ArrayLike | None
) -> tuple[Floats, list[Any]]:
    """Give the weighted share of the drawn that are labelled, per labelled unit, and the strata without a label."""
    if codes is None or strata is None:
        answered = float((1 / chance).sum() / (1 / drawn).sum())
        return np.full(len(chance), min(1.0, answered)), []
    labelled = np.bincount(codes, weights=1 / chance)
    every = pd.Series(1 / drawn).groupby(np.asarray(strata, dtype=object)).sum()
    share = np.array([min(1.0, labelled[place] / every[name]) for place, name in enumerate(names)])
    return share[codes], sorted(map(str, set(every.index) - set(names)))
