from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import proportion_confint

from evaluation.intervals import (
    Estimate,
    benjamini_hochberg,
    bootstrap_estimate,
    clopper_pearson,
    cluster_codes,
    cluster_linearised,
    cluster_weights,
    holm,
    percentile_interval,
    rao_wu_weights,
    round_significant,
    seed_sequence,
    t_interval,
    undefined,
    wilson,
)


def test_reference_proportion_intervals(reference: Callable[[str], list[dict[str, Any]]]) -> None:
    cases = [case for case in reference("intervals_tests") if "wilson" in case["expected"]]
    assert len(cases) == 2
    for case in cases:
        given_, expected, tolerance = case["input"], case["expected"], case["tolerance"]
        arguments = (given_["k"], given_["n"], given_["confidence"])
        assert wilson(*arguments) == pytest.approx(expected["wilson"], abs=tolerance)
        assert clopper_pearson(*arguments) == pytest.approx(expected["clopper_pearson"], abs=tolerance)


def test_reference_holm(reference: Callable[[str], list[dict[str, Any]]]) -> None:
    (case,) = [case for case in reference("intervals_tests") if "adjusted" in case["expected"]]
    assert holm(case["input"]["p"]) == pytest.approx(case["expected"]["adjusted"], abs=case["tolerance"])


def test_newcombe_1998_prints_these_wilson_intervals() -> None:
    # Newcombe (1998), Statistics in Medicine 17, table I, method 3
    printed = {
        (81, 263): (0.2553, 0.3662),
        (15, 148): (0.0624, 0.1605),
        (0, 20): (0.0, 0.1611),
        (1, 29): (0.0061, 0.1718),
    }
    for (k, n), interval in printed.items():
        assert wilson(k, n) == pytest.approx(interval, abs=5e-5)


@given(st.integers(1, 400), st.data())
def test_proportion_intervals_equal_those_of_statsmodels(n: int, data: st.DataObject) -> None:
    k = data.draw(st.integers(0, n))
    assert wilson(k, n) == pytest.approx(proportion_confint(k, n, method="wilson"), abs=1e-12)
    assert clopper_pearson(k, n) == pytest.approx(proportion_confint(k, n, method="beta"), abs=1e-9)


def test_adjusted_p_values_equal_those_of_statsmodels() -> None:
    rng = np.random.default_rng(4)
    for size in (1, 2, 3, 5, 8, 13, 40):
        p = np.round(rng.random(size), 2)
        assert holm(p) == pytest.approx(multipletests(p, method="holm")[1], abs=1e-12)
        assert benjamini_hochberg(p) == pytest.approx(multipletests(p, method="fdr_bh")[1], abs=1e-12)


def test_an_undefined_p_value_leaves_the_family() -> None:
    adjusted = holm([0.01, np.nan, 0.04])
    assert np.isnan(adjusted[1])
    assert adjusted[[0, 2]] == pytest.approx([0.02, 0.04])


@pytest.mark.parametrize(("k", "n"), [(1, 0), (3, 2), (-1, 4)])
def test_impossible_counts_are_refused(k: int, n: int) -> None:
    with pytest.raises(ValueError, match="0 <= k <= n"):
        wilson(k, n)


def test_an_estimate_without_value_needs_a_reason_and_numbers_are_finite() -> None:
    with pytest.raises(ValueError, match="reason"):
        Estimate(None, 3)
    with pytest.raises(ValueError, match="finite"):
        Estimate(float("nan"), 3)
    assert undefined("no_data").to_json()["value"] is None


def test_an_estimate_becomes_plain_json_with_twelve_digits() -> None:
    body = Estimate(1 / 3, 7, (0.1, 2 / 3), 0.01, None, "m", 4, ("few clusters",)).to_json()
    assert json.loads(json.dumps(body)) == {
        "value": 0.333333333333,
        "n": 7,
        "interval": [0.1, 0.666666666667],
        "se": 0.01,
        "reason": None,
        "method": "m",
        "clusters": 4,
        "notes": ["few clusters"],
    }
    assert str(round_significant(-0.0)) == "0.0"


def test_clusters_are_numbered_by_first_appearance_and_columns_join() -> None:
    codes, names = cluster_codes(["b", "a", "b"])
    assert codes.tolist() == [0, 1, 0]
    assert names == ["b", "a"]
    codes, names = cluster_codes(["x", "y", "x", "x"], [1, 1, 2, 1])
    assert codes.tolist() == [0, 1, 2, 0]
    assert names == [("x", 1), ("y", 1), ("x", 2)]


def test_a_row_without_a_dialogue_is_refused_by_its_number() -> None:
    with pytest.raises(ValueError, match="Row 2"):
        cluster_codes(["a", None])
    with pytest.raises(ValueError, match="differ in length"):
        cluster_codes(["a"], ["b", "c"])


def test_cluster_weights_resample_whole_clusters_the_same_way_twice() -> None:
    once = np.concatenate(list(cluster_weights(40, 300, 5, name="alpha")))
    again = np.concatenate(list(cluster_weights(40, 300, 5, name="alpha")))
    other = np.concatenate(list(cluster_weights(40, 300, 5, name="kappa")))
    assert once.shape == (300, 40)
    assert (once.sum(axis=1) == 40).all()
    assert np.array_equal(once, again)
    assert not np.array_equal(once, other)
    assert once.mean() == pytest.approx(1)
    assert once.var() == pytest.approx(1 - 1 / 40, rel=0.1)


def test_weights_come_in_blocks_of_bounded_size_that_join_to_one_stream() -> None:
    blocks = list(cluster_weights(700_001, 5, 1))
    assert [len(block) for block in blocks] == [2, 2, 1]
    rng = np.random.default_rng(seed_sequence(1))
    direct = np.bincount(rng.integers(0, 700_001, 700_001), minlength=700_001)
    assert np.array_equal(blocks[0][0], direct)


def test_rao_wu_weights_make_the_variance_of_a_mean_unbiased() -> None:
    rng = np.random.default_rng(0)
    y = rng.normal(size=12)
    strata = np.repeat(["a", "b"], 6)
    weights = np.concatenate(list(rao_wu_weights(strata, 40_000, 3)))
    replicate_variance = np.var(weights @ y / 12)
    exact = sum((6 / 12) ** 2 * y[strata == h].var(ddof=1) / 6 for h in "ab")
    assert replicate_variance == pytest.approx(exact, rel=0.03)
    assert (np.concatenate(list(rao_wu_weights(["a", "b", "b"], 50, 1)))[:, 0] == 1).all()


def test_few_clusters_get_a_t_interval_and_say_so() -> None:
    draws = np.random.default_rng(1).normal(0.5, 0.1, 999)
    few = bootstrap_estimate(0.5, draws, n=50, clusters=10)
    many = bootstrap_estimate(0.5, draws, n=50, clusters=30)
    assert few.interval == pytest.approx(t_interval(0.5, float(np.std(draws, ddof=1)), 9))
    assert "few clusters" in few.notes
    assert few.method == "dialogue bootstrap SE, t(9), 999"
    assert many.interval == percentile_interval(draws)
    assert many.notes == ()
    assert many.method == "dialogue bootstrap, percentile, 999"


def test_intervals_stay_inside_the_range_of_the_statistic() -> None:
    draws = np.random.default_rng(1).normal(0.95, 0.1, 500)
    made = bootstrap_estimate(0.95, draws, n=50, clusters=5, bounds=(0, 1))
    assert made.interval is not None
    assert made.interval[1] == 1.0


@pytest.mark.parametrize(
    ("replicates", "clusters", "reason"),
    [
        ([0.1, 0.2], 1, "one_dialogue"),
        ([], 5, "no_replicates"),
        ([np.nan] * 6 + [0.1] * 4, 5, "unstable"),
        ([0.7] * 9, 40, "no_variation"),
    ],
)
def test_without_a_trustworthy_spread_there_is_a_value_but_no_interval(
    replicates: list[float], clusters: int, reason: str
) -> None:
    made = bootstrap_estimate(0.7, replicates, n=10, clusters=clusters)
    assert made.value == 0.7
    assert made.interval is None
    assert made.reason == reason


def test_undefined_resamples_are_left_out_and_counted() -> None:
    made = bootstrap_estimate(0.5, [0.4, 0.6, np.nan, 0.5], n=9, clusters=50)
    assert made.notes == ("undefined in 1 of 4 resamples, left out",)
    assert made.interval is not None


def test_the_linearised_mean_equals_the_formula_and_the_simple_case() -> None:
    rng = np.random.default_rng(2)
    y = rng.normal(size=30)
    plain = cluster_linearised(y)
    assert plain.value == pytest.approx(y.mean())
    assert plain.se == pytest.approx(y.std(ddof=1) / np.sqrt(30))
    clusters, w = np.repeat(np.arange(6), 5), rng.uniform(0.5, 2, 30)
    made = cluster_linearised(y, w, clusters)
    theta = (w * y).sum() / w.sum()
    z = [(w * (y - theta))[clusters == d].sum() for d in range(6)]
    assert made.value == pytest.approx(theta)
    assert made.se == pytest.approx(np.sqrt(6 / 5 * np.sum(np.square(z))) / w.sum())
    assert made.method == "cluster-linearised, t(5)"


def test_the_linearised_mean_does_not_change_with_the_scale_of_weights_and_moves_with_location() -> None:
    y, w, d = np.array([0.0, 1, 1, 0, 1]), np.array([1.0, 2, 1, 4, 2]), [1, 1, 2, 2, 3]
    base, scaled, moved = cluster_linearised(y, w, d), cluster_linearised(y, 7 * w, d), cluster_linearised(y + 10, w, d)
    assert scaled.value == pytest.approx(base.value)
    assert scaled.se == pytest.approx(base.se)
    assert moved.value == pytest.approx(10 + (base.value or 0))
    assert moved.se == pytest.approx(base.se)


def test_degenerate_means_say_why() -> None:
    assert cluster_linearised([]).reason == "no_data"
    assert cluster_linearised([1.0]).reason == "one_item"
    assert cluster_linearised([1.0, 0.0], None, ["d", "d"]).reason == "one_dialogue"
    assert cluster_linearised([1.0, 1.0, 1.0]).reason == "no_variation"
    with pytest.raises(ValueError, match="finite"):
        cluster_linearised([1.0, np.nan])
