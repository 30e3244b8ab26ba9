from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evaluation.sampling import DESIGNS, Design, allocate, draw, inclusion_probabilities

SPREAD = {"anger": 0.4, "joy": 0.3, "neutral": 0.5, "rare": 0.5}
PROBABILITY: tuple[Design, ...] = ("simple", "proportional", "equal", "half", "neyman", "uncertainty")


def frame(n: int = 400, seed: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    return pd.DataFrame(
        {
            "id": [f"t{i:04d}" for i in range(n)],
            "stratum": rng.choice(list(SPREAD), n, p=[0.2, 0.3, 0.47, 0.03]),
            "uncertainty": rng.gamma(1.0, 1.0, n) + 0.01,
        }
    )


@pytest.mark.parametrize("design", PROBABILITY)
def test_a_draw_has_its_size_its_columns_and_is_repeated_by_its_seed(design: Design) -> None:
    units = frame()
    drawn = draw(units, 90, design, 7, spread=SPREAD)
    assert list(drawn.columns) == ["id", "stratum", "inclusion_probability", "order"]
    assert len(drawn) == drawn["id"].nunique() == 90
    assert drawn["order"].tolist() == list(range(1, 91))
    assert drawn["inclusion_probability"].between(0, 1, inclusive="right").all()
    assert drawn.equals(draw(units, 90, design, 7, spread=SPREAD))
    assert drawn.equals(draw(units.sample(frac=1, random_state=1), 90, design, 7, spread=SPREAD))
    assert set(drawn["id"]) != set(draw(units, 90, design, 8, spread=SPREAD)["id"])


@pytest.mark.parametrize("design", PROBABILITY)
def test_the_stored_probability_is_the_frequency_of_being_drawn(design: Design) -> None:
    units = frame(40, 3)
    hits = pd.Series(0.0, index=units["id"])
    probability = pd.Series(np.nan, index=units["id"])
    seeds = 250
    for seed in range(seeds):
        drawn = draw(units, 15, design, seed, minimum=2, spread=SPREAD)
        hits[drawn["id"]] += 1
        probability[drawn["id"]] = drawn["inclusion_probability"].to_numpy()
    error = np.sqrt(probability * (1 - probability) / seeds)
    away = ((hits / seeds - probability) / error.where(error > 0, 1)).abs()
    assert probability.notna().all()
    assert probability.sum() == pytest.approx(15)
    assert away.max() < 4.2


@pytest.mark.parametrize("design", ["proportional", "equal", "half", "neyman"])
def test_weights_of_a_stratified_draw_rebuild_every_stratum(design: Design) -> None:
    units = frame()
    drawn = draw(units, 100, design, 1, spread=SPREAD)
    rebuilt = (1 / drawn["inclusion_probability"]).groupby(drawn["stratum"]).sum()
    assert rebuilt.to_dict() == pytest.approx(units["stratum"].value_counts().to_dict())


def test_the_weighted_mean_of_an_uncertainty_draw_is_unbiased() -> None:
    units = frame(200, 5)
    y = dict(zip(units["id"], units["uncertainty"] > 1, strict=True))
    totals = []
    for seed in range(200):
        drawn = draw(units, 40, "uncertainty", seed)
        totals.append(sum(y[i] / p for i, p in zip(drawn["id"], drawn["inclusion_probability"], strict=True)))
    error = np.std(totals, ddof=1) / np.sqrt(len(totals))
    assert np.mean(totals) == pytest.approx(sum(y.values()), abs=4 * error)


def test_stopping_early_leaves_a_random_part() -> None:
    units = frame(60, 2)
    early = pd.Series(0, index=units["id"])
    for seed in range(150):
        drawn = draw(units, 30, "half", seed, minimum=5)
        early[drawn.loc[drawn["order"] <= 10, "id"]] += 1
        assert drawn["order"].is_monotonic_increasing
    by_stratum = early.groupby(units.set_index("id")["stratum"]).sum()
    whole = draw(units, 30, "half", 0, minimum=5)["stratum"].value_counts()
    assert (by_stratum / 150).to_dict() == pytest.approx((whole / 3).to_dict(), rel=0.2)


def test_half_is_the_mean_of_proportional_and_equal() -> None:
    assert allocate([700, 200, 100], 150, [0.7 / 2 + 1 / 6, 0.2 / 2 + 1 / 6, 0.1 / 2 + 1 / 6], 0).tolist() == [
        78,
        40,
        32,
    ]


def test_small_strata_are_taken_whole_and_the_rest_goes_on() -> None:
    assert allocate([1000, 4, 100], 60, [1, 1, 1], 10).tolist() == [28, 4, 28]
    assert allocate([5, 5], 10, [1, 0], 0).tolist() == [5, 5]


@settings(max_examples=150)
@given(st.lists(st.tuples(st.integers(1, 60), st.floats(0, 5)), min_size=1, max_size=7), st.integers(0, 20), st.data())
def test_an_allocation_uses_the_total_exactly_and_overdraws_nothing(
    strata: list[tuple[int, float]], minimum: int, data: st.DataObject
) -> None:
    sizes = np.array([size for size, _ in strata])
    total = data.draw(st.integers(1, int(sizes.sum())))
    parts = allocate(sizes, total, [share for _, share in strata], minimum)
    assert parts.sum() == total
    assert (parts <= sizes).all()
    assert (parts >= np.minimum(sizes, min(minimum, total // len(sizes)))).all()


@settings(max_examples=100)
@given(st.lists(st.floats(0.001, 1000), min_size=2, max_size=30), st.data())
def test_probabilities_by_size_sum_to_the_sample_and_stay_proportional(
    measure: list[float], data: st.DataObject
) -> None:
    size = data.draw(st.integers(1, len(measure)))
    probability = inclusion_probabilities(measure, size)
    assert probability.sum() == pytest.approx(size)
    assert (probability <= 1).all()
    free = probability < 1
    if free.sum() > 1:
        ratio = probability[free] / np.array(measure)[free]
        assert ratio == pytest.approx(np.full(free.sum(), ratio[0]))


def test_a_list_and_all_are_certain() -> None:
    units = frame(30)
    listed = draw(units, None, "list", 1, ids=["t0003", "t0001", "t0003"])
    assert sorted(listed["id"]) == ["t0001", "t0003"]
    assert (listed["inclusion_probability"] == 1).all()
    assert len(draw(units, None, "all", 1)) == 30


@pytest.mark.parametrize(
    ("columns", "size", "design", "message"),
    [
        ({}, 401, "simple", "between 1 and the 400"),
        ({}, None, "simple", "between 1"),
        ({}, 10, "spiral", "no design"),
        ({"id": ["x"] * 400}, 10, "simple", "Row 2, column id"),
        ({"stratum": [None] * 400}, 10, "half", "Row 1, column stratum"),
        ({"uncertainty": [0.0] * 400}, 10, "uncertainty", "above 0"),
    ],
)
def test_a_draw_that_cannot_be_made_says_why(
    columns: dict[str, list[object]], size: int | None, design: Design, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        draw(frame().assign(**columns), size, design)


def test_missing_columns_and_spreads_are_named() -> None:
    with pytest.raises(ValueError, match="column stratum"):
        draw(frame()[["id"]], 5, "half")
    with pytest.raises(ValueError, match="missing: rare"):
        draw(frame(), 50, "neyman", spread={k: v for k, v in SPREAD.items() if k != "rare"})
    with pytest.raises(ValueError, match="not in the frame, such as 'x'"):
        draw(frame(), None, "list", ids=["x"])
    assert set(PROBABILITY) | {"list", "all"} == set(DESIGNS)
