"""Which turns to verify: seeded probability samples, with the exact inclusion probability of every unit drawn.

Estimates weight each unit by 1 / inclusion probability (Horvitz and Thompson 1952), so the probability is fixed when
the sample is drawn and kept. Designs: simple random; stratified with proportional, equal, half-and-half or Neyman
allocation (Cochran 1977, chapter 5); proportional to a measure of uncertainty (randomised systematic sampling, Goodman
and Kish 1950); a given list; all.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal, get_args

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from evaluation.intervals import seed_sequence

Design = Literal["simple", "proportional", "equal", "half", "neyman", "uncertainty", "list", "all"]
Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

DESIGNS: Final[tuple[Design, ...]] = get_args(Design)
STRATIFIED: Final = frozenset({"proportional", "equal", "half", "neyman"})
MIN_PER_STRATUM: Final = 10


def draw(
    frame: pd.DataFrame,
    size: int | None = None,
    design: Design = "simple",
    seed: int = 0,
    *,
    minimum: int = MIN_PER_STRATUM,
    spread: Mapping[str, float] | None = None,
    ids: Sequence[Any] | None = None,
    chances: Mapping[Any, float] | None = None,
) -> pd.DataFrame:
    """Draw a sample of units without replacement.

    The result depends on seed and content only, not on the order of the frame's rows.

    Parameters
    ----------
    frame
        One row per unit: column `id`, unique; `stratum` for stratified designs (such as the predicted label);
        `uncertainty`, positive, for the design of that name.
    size
        Units to draw; left out for `list` and `all`.
    design
        `simple`; `proportional`, `equal`, `half` (half proportional, half equal: the design for macro-F1) or `neyman`
        (proportional to N_h S_h) within strata; `uncertainty` (probability proportional to it); `list`; `all`.
    seed
        The same seed gives the same sample.
    minimum
        At least so many per stratum, as far as the stratum and the size allow.
    spread
        S_h of each stratum for `neyman`, such as sqrt(p (1-p)) from a pilot.
    ids
        The units of a `list`. A hand-made list stands for itself only: its probabilities are 1.
    chances
        The inclusion probability of every unit of a `list` that was drawn elsewhere: it then stands for the frame.

    Returns
    -------
    DataFrame
        Columns id, stratum (`None` where the frame names none), inclusion_probability, order; sorted by order, a random
        sequence from 1: stopping early leaves a random part of the sample.

    Raises
    ------
    ValueError
        Saying what does not fit; also when a stratum would get no unit, whose probability of being drawn would be 0.
    """
    units = _check_frame(frame, design)
    if design in ("list", "all"):
        chosen, probability = _listed(units, ids if design == "list" else None)
        if design == "list" and chances:
            probability = _given(units["id"].iloc[chosen], chances)
    else:
        if size is None or not 1 <= size <= len(units):
            raise ValueError(f"The sample size must lie between 1 and the {len(units)} units of the frame, got {size}.")
        rng = np.random.default_rng(seed_sequence(seed, f"draw:{design}"))
        chosen, probability = _drawn(units, size, design, rng, minimum, spread)
    order = np.random.default_rng(seed_sequence(seed, "order")).permutation(len(chosen))
    rows = units.iloc[chosen[order]]
    return pd.DataFrame(
        {
            "id": rows["id"].to_numpy(),
            "stratum": rows["stratum"].to_numpy(),
            "inclusion_probability": probability[order],
            "order": np.arange(1, len(chosen) + 1),
        }
    )


def allocate(sizes: ArrayLike, total: int, shares: ArrayLike, minimum: int = MIN_PER_STRATUM) -> Ints:
    """Split `total` units over strata near `shares`, whole numbers, none above its size.

    Every stratum first gets `minimum`, as far as it has units and the total reaches; the rest follows the shares,
    what does not fit into a small stratum goes to the others, and largest remainders round (ties: first stratum).

    Parameters
    ----------
    sizes, shares
        Shape (H,): units in each stratum, and the wished shares (any positive scale).

    Raises
    ------
    ValueError
        When the total exceeds the units.
    """
    available = np.asarray(sizes, dtype=np.int64)
    wish = np.asarray(shares, dtype=float)
    if total > available.sum():
        raise ValueError(f"{total} units cannot be drawn from {available.sum()}.")
    if (wish < 0).any() or not np.isfinite(wish).all():
        raise ValueError("Shares must be finite and not negative.")
    floor = np.minimum(available, min(minimum, total // max(1, len(available))))
    target = _fill(available.astype(float), floor.astype(float), float(total), wish)
    whole = np.minimum(np.floor(target + 1e-9).astype(np.int64), available)
    # equal shares stay equal whatever the rounding of their sums
    remainder = np.round(target - whole, 9)
    for h in np.argsort(-remainder, kind="stable"):
        if whole.sum() == total:
            break
        if whole[h] < available[h]:
            whole[h] += 1
    # only when equal remainders met full strata does anything remain
    while whole.sum() < total:
        whole[int(np.argmax(available - whole))] += 1
    return whole


def inclusion_probabilities(measure: ArrayLike, size: int) -> Floats:
    """Give probabilities proportional to `measure` that sum to `size`; units that would exceed 1 are certain.

    pi_i = size x_i / sum x, capped at 1 and shared out again among the rest until none exceeds 1.
    """
    x = np.asarray(measure, dtype=float)
    if not (np.isfinite(x).all() and (x > 0).all()):
        raise ValueError("The measure of uncertainty must be finite and above 0 for every unit: add a small floor.")
    certain = np.zeros(len(x), dtype=bool)
    while True:
        rest = size - certain.sum()
        probability = np.where(certain, 1.0, rest * x / x[~certain].sum() if (~certain).any() else 1.0)
        over = (probability >= 1.0) & ~certain
        if not over.any():
            return probability
        certain |= over


def _fill(available: Floats, floor: Floats, total: float, wish: Floats) -> Floats:
    """Give shares of the total by `wish`, held between floor and what is available (bisection on the scale)."""
    if not wish.any():
        wish = np.ones_like(wish)

    def at(scale: float) -> Floats:
        return np.minimum(available, np.maximum(floor, scale * wish))

    low, high = 0.0, 1.0
    reachable = float(np.where(wish > 0, available, floor).sum())
    if reachable < total:
        # strata without a wish take what the others cannot
        return _fill(available, np.where(wish > 0, available, floor), total, (wish == 0).astype(float))
    while at(high).sum() < total and high < 1e18:
        high *= 2
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if at(middle).sum() < total else (low, middle)
    return at(high)


def _check_frame(frame: pd.DataFrame, design: Design) -> pd.DataFrame:
    if design not in DESIGNS:
        raise ValueError(f"There is no design {design!r}; there are: {', '.join(DESIGNS)}.")
    if "id" not in frame:
        raise ValueError("The frame needs a column id.")
    if design in STRATIFIED and "stratum" not in frame:
        raise ValueError(f"The design {design} needs a column stratum.")
    if design == "uncertainty" and "uncertainty" not in frame:
        raise ValueError("The design uncertainty needs a column uncertainty, above 0.")
    units = frame.assign(stratum=frame.get("stratum")).reset_index(drop=True)
    if design in STRATIFIED and units["stratum"].isna().any():
        row = int(np.argmax(units["stratum"].isna().to_numpy())) + 1
        raise ValueError(f"Row {row}, column stratum: every unit needs a stratum in the design {design}.")
    repeated = units["id"].duplicated().to_numpy()
    if repeated.any():
        row = int(np.argmax(repeated))
        raise ValueError(f"Row {row + 1}, column id: {units['id'].iloc[row]!r} is there twice.")
    texts = units["id"].astype(str)
    return units.iloc[np.argsort(texts.to_numpy(dtype=object), kind="stable")].reset_index(drop=True)


def _listed(units: pd.DataFrame, ids: Sequence[Any] | None) -> tuple[Ints, Floats]:
    if ids is None:
        chosen = np.arange(len(units))
    else:
        position = {str(unit): row for row, unit in enumerate(units["id"])}
        unknown = [str(unit) for unit in ids if str(unit) not in position]
        if unknown:
            raise ValueError(f"{len(unknown)} listed units are not in the frame, such as {unknown[0]!r}.")
        chosen = np.array(sorted({position[str(unit)] for unit in ids}), dtype=np.int64)
    return chosen, np.ones(len(chosen))


def _given(ids: pd.Series[Any], chances: Mapping[Any, float]) -> Floats:
    known = {str(unit): value for unit, value in chances.items()}
    probability = np.array([known.get(str(unit), np.nan) for unit in ids], dtype=float)
    wrong = ~((probability > 0) & (probability <= 1))
    if wrong.any():
        raise ValueError(f"{wrong.sum()} listed units have no inclusion probability above 0 and at most 1.")
    return probability


def _drawn(
    units: pd.DataFrame,
    size: int,
    design: Design,
    rng: np.random.Generator,
    minimum: int,
    spread: Mapping[str, float] | None,
) -> tuple[Ints, Floats]:
    if design == "simple":
        return rng.choice(len(units), size, replace=False), np.full(size, size / len(units))
    if design == "uncertainty":
        probability = inclusion_probabilities(units["uncertainty"].to_numpy(dtype=float), size)
        chosen = _systematic(probability, size, rng)
        return chosen, probability[chosen]
    codes, names = pd.factorize(units["stratum"].astype(str), sort=True)
    sizes = np.bincount(codes, minlength=len(names))
    share = sizes / sizes.sum()
    even = np.full(len(names), 1 / len(names))
    wishes = {"proportional": share, "equal": even, "half": (share + even) / 2}
    wish = wishes[design] if design in wishes else _neyman(sizes, [str(name) for name in names], spread)
    wanted = allocate(sizes, size, wish, minimum)
    if (wanted == 0).any():
        empty = ", ".join(str(name) for name, count in zip(names, wanted, strict=True) if not count)
        raise ValueError(
            f"A sample of {size} takes nothing from stratum {empty}, so it cannot speak for it: draw at least one unit "
            f"of each of the {len(names)} strata, or join small strata."
        )
    parts = [rng.choice(np.flatnonzero(codes == h), wanted[h], replace=False) for h in range(len(names))]
    chosen = np.concatenate(parts)
    return chosen, (wanted / sizes)[codes[chosen]]


def _neyman(sizes: Ints, names: list[str], spread: Mapping[str, float] | None) -> Floats:
    known = {str(name): value for name, value in (spread or {}).items()}
    if absent := [name for name in names if name not in known]:
        raise ValueError(f"The design neyman needs the spread S_h of every stratum; missing: {', '.join(absent)}.")
    return np.asarray(sizes * np.array([known[name] for name in names]))


def _systematic(probability: Floats, size: int, rng: np.random.Generator) -> Ints:
    """Draw with exact probabilities: units in random order on a line of length `size`, one random start, steps of 1."""
    order = rng.permutation(len(probability))
    ends = np.cumsum(probability[order])
    # rounding must not make the last step miss the last unit
    ends[-1] = float(size)
    steps = rng.random() + np.arange(size)
    return np.asarray(order[np.searchsorted(ends, steps, side="right")])
