from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evaluation import planning
from evaluation.planning import (
    assumed_confusion,
    confidence_sequence_half_width,
    design_effect,
    detectable_difference,
    expected_half_width,
    flatness_variance,
    how_many_more,
    kappa_variance,
    look,
    macro_f1_half_width,
    macro_f1_sample_size,
    pilot_kappa_variance,
    proportion_variance,
    sample_size,
    weighting_effect,
)

HALF_WIDTHS = (0.10, 0.07, 0.05, 0.03, 0.02)


@pytest.mark.parametrize(
    ("rho", "sizes"),
    [(0.0, [88, 179, 350, 972, 2185]), (0.5, [66, 134, 263, 729, 1639]), (0.7, [45, 91, 179, 496, 1115])],
)
def test_sizes_for_a_proportion_of_65_percent(rho: float, sizes: list[int]) -> None:
    # n = z² p (1-p) (1 - rho²) / x², worked out by hand for p = .65
    assert [sample_size(x, proportion_variance(0.65), rho=rho) for x in HALF_WIDTHS] == sizes


def test_kappa_to_a_tenth_takes_about_130_items() -> None:
    assert sample_size(0.10, kappa_variance(0.7, 0.3)) == 131


def test_a_pilot_table_gives_the_variance_of_kappa_per_item() -> None:
    table = np.array([[44, 5, 1], [7, 20, 3], [9, 5, 6]])
    variance = pilot_kappa_variance(table)
    assert variance is not None
    assert pilot_kappa_variance(10 * table) == pytest.approx(variance)
    assert pilot_kappa_variance([[5, 0], [0, 0]]) is None


@given(st.floats(0.02, 0.98), st.floats(0.01, 0.2), st.integers(100, 10**6))
def test_the_planned_size_reaches_the_half_width_and_one_less_does_not(p: float, x: float, population: int) -> None:
    n = sample_size(x, proportion_variance(p), population=population)

    def half_width(size: int) -> float:
        return 1.959963984540054 * math.sqrt(p * (1 - p) * (1 / size - 1 / population))

    assert half_width(n) <= x * (1 + 1e-6) if n <= population else True
    assert n == 1 or half_width(n - 1) > x * (1 - 1e-6)
    assert n <= population


def test_how_many_more_shrinks_the_width_as_one_over_root_n() -> None:
    assert how_many_more(100, 0.10, 0.05) == 300
    assert how_many_more(100, 0.05, 0.05) == 0
    assert how_many_more(100, 0.10, 0.05, population=1000) == 208
    assert how_many_more(1000, 0.10, 0.05, population=1000) == 0
    first = sample_size(0.1, 0.2275)
    assert first + how_many_more(first, 1.959964 * math.sqrt(0.2275 / first), 0.05) == pytest.approx(350, abs=1)


def test_the_detectable_difference_is_detected_with_its_power() -> None:
    rng = np.random.default_rng(0)
    delta = detectable_difference(300, 1.0)
    means = rng.normal(delta, 1 / math.sqrt(300), 20_000)
    assert np.mean(np.abs(means) * math.sqrt(300) > 1.959964) == pytest.approx(0.80, abs=0.01)
    assert detectable_difference(300, 1.0, rho=0.5) == pytest.approx(delta * math.sqrt(0.75))


@pytest.mark.parametrize("deff", [1.0, 2.0, 4.0])
def test_a_design_effect_takes_more_labels_and_the_same_difference_is_found(deff: float) -> None:
    n = sample_size(0.10, 0.2275, deff=deff)
    assert n == pytest.approx(88 * deff, abs=deff)
    assert detectable_difference(n, 0.2275, deff=deff) == pytest.approx(0.1424, abs=1e-3)
    finite = sample_size(0.10, 0.2275, deff=deff, population=200)
    assert detectable_difference(finite, 0.2275, deff=deff, population=200) == pytest.approx(0.142, abs=2e-3)


def test_the_variance_of_flatness_is_that_of_simulated_entropies() -> None:
    shares = np.array([0.4, 0.1, 0.1, 0.05, 0.05, 0.05, 0.25])
    draws = np.random.default_rng(1).multinomial(2000, shares, 4000) / 2000
    entropy = -(draws * np.log2(np.where(draws > 0, draws, 1))).sum(axis=1) / math.log2(7)
    assert 2000 * entropy.var() == pytest.approx(flatness_variance(shares), rel=0.06)


def test_the_design_effect_finds_the_clustering_that_was_put_in() -> None:
    rng = np.random.default_rng(2)
    y = np.repeat(rng.normal(0, 1, 400), 10) + rng.normal(0, 2, 4000)
    deff, icc = design_effect(y, np.repeat(np.arange(400), 10).tolist())
    assert icc == pytest.approx(0.2, abs=0.04)
    assert deff == pytest.approx(1 + 9 * icc)
    assert design_effect(rng.normal(size=4000), np.repeat(np.arange(400), 10).tolist())[0] < 1.3
    assert design_effect([1.0, 1.0], ["a", "b"]) == (1.0, 0.0)


def test_half_and_half_narrows_macro_f1_against_a_simple_random_sample() -> None:
    shares = np.array([0.35, 0.06, 0.05, 0.02, 0.05, 0.02, 0.45])
    confusion = shares[:, None] * (0.2 / 6)
    confusion = np.repeat(confusion, 7, axis=1)
    np.fill_diagonal(confusion, shares * 0.8)
    simple = macro_f1_half_width(confusion, 150, "simple", replications=200)
    half = macro_f1_half_width(confusion, 150, "half", replications=200)
    assert half < 0.85 * simple
    assert half == macro_f1_half_width(confusion, 150, "half", replications=200)


def test_the_confidence_sequence_has_its_width() -> None:
    # s = sqrt(.79 x .21), planned n 300: .143 in all against .092 of the fixed interval
    width = 2 * confidence_sequence_half_width(300, math.sqrt(0.79 * 0.21), 300)
    assert width == pytest.approx(0.143, abs=5e-4)
    widths = [confidence_sequence_half_width(n, 1, 300) for n in range(20, 3000)]
    assert (np.diff(widths) < 0).all()


def ever_missed(simulations: int, stop: int = 1200) -> tuple[float, float]:
    """Look every 10 observations; give how often each kind of interval ever misses p = .79."""
    rng = np.random.default_rng(3)
    looks = np.arange(50, stop + 1, 10)
    y = rng.random((simulations, stop)) < 0.79
    means = np.cumsum(y, axis=1)[:, looks - 1] / looks
    sd = np.sqrt(means * (1 - means) * looks / (looks - 1))
    fixed = 1.959964 * sd / np.sqrt(looks)
    unit = np.array([confidence_sequence_half_width(int(n), 1.0, 300) for n in looks])
    miss = np.abs(means - 0.79)
    return float((miss > fixed).any(axis=1).mean()), float((miss > unit * sd).any(axis=1).mean())


def test_looking_often_breaks_the_fixed_interval_and_not_the_sequence() -> None:
    fixed, always = ever_missed(800)
    assert fixed > 0.25
    assert always < 0.07


@pytest.mark.slow
def test_the_sequence_misses_at_any_look_in_at_most_five_percent() -> None:
    fixed, always = ever_missed(6000)
    assert fixed == pytest.approx(0.34, abs=0.03)
    assert always <= 0.05


def test_a_look_says_which_it_is_and_what_it_may_claim() -> None:
    y = (np.arange(150) % 5 > 0).astype(float)
    planned = look(y, planned_n=300, looks_before=2)
    assert planned.number == 3
    assert planned.estimate.interval == planned.fixed
    assert any("before the planned n" in note for note in planned.estimate.notes)
    monitor = look(y, planned_n=300, looks_before=2, mode="monitor")
    assert monitor.estimate.interval == monitor.always
    assert monitor.always is not None
    assert planned.fixed is not None
    assert monitor.always[0] < planned.fixed[0] < planned.fixed[1] < monitor.always[1]
    assert monitor.to_json()["look"] == 3
    assert not any("before" in note for note in look(np.tile(y, 2), 300, 0).estimate.notes)
    assert any("n = 100" in note for note in look(y[:50], 300, 0, mode="monitor").estimate.notes)


def test_a_look_at_nothing_is_undefined() -> None:
    assert look([], 100, 0).estimate.reason == "no_data"
    assert look([1.0], 100, 0).estimate.reason == "one_item"
    assert look([1.0, 1.0], 100, 0).estimate.reason == "no_variation"


@pytest.mark.parametrize(
    "call",
    [
        lambda: sample_size(0, 0.25),
        lambda: sample_size(0.1, -1),
        lambda: proportion_variance(1.2),
        lambda: kappa_variance(0.5, 1.0),
        lambda: flatness_variance([1.0]),
        lambda: how_many_more(0, 0.1, 0.1),
        lambda: detectable_difference(0, 1),
        lambda: confidence_sequence_half_width(0, 1, 1),
        lambda: sample_size(0.1, 0.25, confidence=1),
        lambda: sample_size(0.1, 0.25, population=0),
        lambda: sample_size(0.1, math.nan),
        lambda: sample_size(0.1, 0.25, deff=math.nan),
        lambda: expected_half_width(10, 0.25, population=0),
        lambda: detectable_difference(10, 1, power=1),
        lambda: macro_f1_half_width([[0, 0], [0, 0]], 100),
        lambda: macro_f1_half_width([[1, -1], [0, 2]], 100),
        lambda: macro_f1_half_width([[1, 1, 0], [0, 2, 1]], 100),
        lambda: macro_f1_half_width([[1, 1], [0, 2]], 0),
        lambda: macro_f1_sample_size(0.05, [[1, 1], [0, 2]], population=0),
    ],
)
def test_impossible_plans_are_refused(call: object) -> None:
    assert callable(call)
    with pytest.raises(ValueError, match=r".+"):
        call()
    assert planning.MIN_FOR_STOPPING == 100


def test_the_size_for_macro_f1_reaches_its_half_width() -> None:
    confusion = assumed_confusion([0.25, 0.03, 0.03, 0.03, 0.08, 0.03, 0.55], 0.8)
    n = macro_f1_sample_size(0.07, confusion, "half")
    assert macro_f1_half_width(confusion, n, "half") == pytest.approx(0.07, rel=0.1)
    # what the design is for: rare emotions take fewer labels than in a simple sample
    assert n < macro_f1_sample_size(0.07, confusion, "simple")
    assert macro_f1_sample_size(0.07, confusion, "half", population=n) == math.ceil(n / 2)


def test_the_assumed_confusion_keeps_the_predicted_shares_and_the_accuracy() -> None:
    shares = np.array([0.3, 0.0, 0.1, 0.1, 0.1, 0.0, 0.4])
    joint = assumed_confusion(shares, 0.8)
    assert joint.sum(axis=1) == pytest.approx(shares)
    assert np.trace(joint) == pytest.approx(0.8)
    # errors on a label fall where the other labels are
    assert joint[0, 6] / joint[0, 2] == pytest.approx(4)
    with pytest.raises(ValueError, match="accuracy"):
        assumed_confusion(shares, 1.2)


def test_equal_weights_cost_nothing_and_unequal_ones_what_kish_says() -> None:
    assert weighting_effect([0.2] * 50) == pytest.approx(1.0)
    # weights 1 and 3 in equal numbers: n sum w² / (sum w)² = 2 (1 + 9) / 16
    assert weighting_effect([1.0, 1 / 3] * 20) == pytest.approx(1.25)


@given(st.floats(0.02, 0.98), st.integers(50, 5000), st.sampled_from([None, 10_000]), st.floats(0, 0.9))
def test_the_expected_half_width_undoes_the_sample_size(p: float, n: int, population: int | None, rho: float) -> None:
    variance = proportion_variance(p)
    x = expected_half_width(n, variance, rho=rho, deff=1.3, population=population)
    assert abs(sample_size(x, variance, rho=rho, deff=1.3, population=population) - n) <= 1
