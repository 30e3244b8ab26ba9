"""Sign flips of dialogues: the test that two systems' answers within a dialogue could be exchanged.

Sources: Fisher 1935 (randomisation); Phipson and Smyth 2010 (Monte Carlo p-values are never 0).
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Final

import numpy as np
from numpy.typing import NDArray

from evaluation.counts import Cube, Floats, K
from evaluation.intervals import seed_sequence

PERMUTATIONS: Final = 10_000
EXACT_UP_TO: Final = 12


def sign_flips(clusters: int, permutations: int, seed: int, name: str) -> Iterator[NDArray[np.float32]]:
    """Give blocks of signs (r, D): all 2**D of them for up to `EXACT_UP_TO` clusters, else random ones."""
    if clusters <= EXACT_UP_TO:
        yield np.array(list(itertools.product([1.0, -1.0], repeat=clusters)), dtype=np.float32)
        return
    rng = np.random.default_rng(seed_sequence(seed, f"{name}/sign flips"))
    step = max(1, 4_000_000 // clusters)
    for start in range(0, permutations, step):
        size = min(step, permutations - start)
        bits = np.unpackbits(rng.integers(0, 256, (size, -(-clusters // 8)), dtype=np.uint8), axis=1)
        yield (bits[:, :clusters] * np.float32(2) - np.float32(1)).astype(np.float32)


def flipped(first: Cube, second: Cube, permutations: int, seed: int, name: str) -> Iterator[tuple[Floats, Floats]]:
    """Exchange the two systems' counts in random dialogues: blocks of pairs of matrices (r, 7, 7)."""
    both = (first.total + second.total).ravel()
    gap = (first.sums - second.sums).reshape(first.dialogues, K * K)
    for signs in sign_flips(first.dialogues, permutations, seed, name):
        swing = (signs.astype(gap.dtype, copy=False) @ gap).astype(float)
        yield ((both + swing) / 2).reshape(-1, K, K), ((both - swing) / 2).reshape(-1, K, K)


def pair_p(
    first: Cube, second: Cube, statistic: Callable[[Floats], Floats], permutations: int, seed: int, name: str
) -> float:
    """Test that a statistic of matrices does not differ between two systems on the same dialogues: two-sided p."""
    observed = abs(float(statistic(first.total) - statistic(second.total)))
    extreme = total = 0
    for one, other in flipped(first, second, permutations, seed, name):
        gap = np.abs(statistic(one) - statistic(other))
        extreme += int((gap >= observed - 1e-12).sum())
        total += len(gap)
    return permutation_p(extreme, total, exact=first.dialogues <= EXACT_UP_TO)


def permutation_p(extreme: int, total: int, *, exact: bool) -> float:
    """Give extreme / total for all permutations, (extreme + 1) / (total + 1) for a random sample of them."""
    return extreme / total if exact else (extreme + 1) / (total + 1)


def sign_flip_p(sums: Floats, *, permutations: int = PERMUTATIONS, seed: int = 0, name: str = "sums") -> float:
    """Test that per-dialogue sums (D,) are symmetric about 0: two-sided p of the absolute total under sign flips."""
    observed = abs(float(sums.sum()))
    extreme = total = 0
    for signs in sign_flips(len(sums), permutations, seed, name):
        drawn = np.abs(signs.astype(float) @ sums)
        extreme += int((drawn >= observed - 1e-9 * max(1.0, observed)).sum())
        total += len(drawn)
    return permutation_p(extreme, total, exact=len(sums) <= EXACT_UP_TO)
