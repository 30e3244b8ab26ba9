"""The order of systems: how sure each rank is, and which systems are not separated.

Source: Piepho 2004 (compact letters).
"""

from __future__ import annotations

import itertools
import string
from collections.abc import Sequence

import numpy as np

from evaluation.counts import Floats


def rank_chances(draws: Floats) -> Floats:
    """Give the share of resamples in which each system holds each rank.

    Parameters
    ----------
    draws
        Shape (systems, R). Rank 1 is the highest value; ties share their ranks evenly.
    """
    systems = len(draws)
    usable = draws[:, np.isfinite(draws).all(axis=0)]
    chance = np.zeros((systems, systems))
    if not usable.shape[1]:
        return np.full((systems, systems), np.nan)
    above = (usable[None] > usable[:, None]).sum(axis=1)
    equal = (usable[None] == usable[:, None]).sum(axis=1)
    for rank in range(systems):
        held = (above <= rank) & (rank < above + equal)
        chance[:, rank] = np.where(held, 1 / equal, 0.0).mean(axis=1)
    return chance


def compact_letters(systems: Sequence[str], apart: set[tuple[str, str]]) -> tuple[str, ...]:
    """Give letters so that two systems share one exactly when they are not separated (insert and absorb, Piepho 2004).

    Parameters
    ----------
    systems
        In display order; letters are given in this order.
    apart
        The separated pairs, in either order.
    """
    columns: list[set[str]] = [set(systems)]
    for one, other in itertools.combinations(systems, 2):
        if (one, other) not in apart and (other, one) not in apart:
            continue
        for column in [column for column in columns if one in column and other in column]:
            columns.remove(column)
            columns += [column - {one}, column - {other}]
        columns = [
            c for k, c in enumerate(columns) if not any(c < d or (c == d and k > m) for m, d in enumerate(columns))
        ]
    columns.sort(key=lambda column: [system not in column for system in systems])
    names = [string.ascii_lowercase[k % 26] + (str(k // 26) if k >= 26 else "") for k in range(len(columns))]
    return tuple(
        "".join(name for name, column in zip(names, columns, strict=True) if system in column) for system in systems
    )
