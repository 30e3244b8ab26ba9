"""Estimators against published values, an independent library's values, and their own limits."""

from __future__ import annotations

import numpy as np
import pytest

from evaluation.estimation import (
    corrected_replicates,
    difference_mean,
    draw_design,
    human_mean,
    ppi_mean,
    replicate_weights,
    stratified_mean,
)
from tests.evaluation.reference import cases

ESTIMATION = cases("estimation")


@pytest.mark.parametrize("case", ESTIMATION, ids=lambda case: case["id"])
def test_two_sample_estimates_equal_the_reference(case):
    given, expected, tolerance = case["input"], case["expected"], case["tolerance"]
    columns = given["labelled_human"], given["labelled_classifier"], given["unlabelled_classifier"]
    for key, weight in (("classical", 0.0), ("ppi_lambda_1", 1.0), ("ppi_plus_plus", None)):
        if key not in expected:
            continue
        estimate = ppi_mean(*columns, weight=weight)
        assert estimate.value == pytest.approx(expected[key]["estimate"], abs=tolerance)
        assert estimate.se == pytest.approx(expected[key]["se_population"], abs=tolerance)
        assert estimate.interval == pytest.approx(expected[key]["ci95"], abs=tolerance)


@pytest.mark.parametrize("case", ESTIMATION, ids=lambda case: case["id"])
def test_the_difference_estimator_equals_the_reference(case):
    given, tolerance = case["input"], case["tolerance"]
    expected = case["expected"]["difference_estimator_corpus"]
    y, f = given["labelled_human"], given["labelled_classifier"]
    everything = np.array(f + given["unlabelled_classifier"])
    design = draw_design(np.arange(len(y)), population=len(everything))
    estimate = difference_mean(y, f, everything, design, weight=expected["lam"])
    assert estimate.value == pytest.approx(expected["estimate"], abs=tolerance)
    assert estimate.se == pytest.approx(expected["se_corpus"], abs=tolerance)


def test_lambda_is_estimated_as_in_the_reference_once_there_are_enough_labels():
    given = ESTIMATION[0]["input"]
    y, f = np.tile(given["labelled_human"], 4), np.tile(given["labelled_classifier"], 4)
    everything = np.tile(f, 10)
    design = draw_design(np.arange(len(y)), population=len(everything))
    estimate = difference_mean(y, f, everything, design)
    assert "lambda = 0.714" in estimate.notes
    assert f"t({len(y) - 2})" in estimate.method


def test_with_too_few_labels_or_dialogues_the_classifier_is_left_out_and_it_is_said():
    y = np.tile([0.0, 1.0], 45)
    everything = np.tile(y, 5)
    few_labels = difference_mean(y, y, everything, draw_design(np.arange(90), population=450))
    assert "lambda = 0 because n = 90 < 100" in few_labels.notes
    y, dialogues = np.tile([0.0, 1.0], 60), np.repeat(np.arange(12), 10)
    few_dialogues = difference_mean(y, y, everything, draw_design(dialogues, population=450))
    assert "lambda = 0 because 12 dialogues < 20" in few_dialogues.notes
    assert few_dialogues.value == pytest.approx(0.5)


def test_a_fully_verified_corpus_leaves_no_uncertainty_about_itself_but_some_about_further_dialogues():
    y, dialogues = np.tile([0.0, 1.0, 1.0], 50), np.repeat(np.arange(50), 3)
    design = draw_design(dialogues, population=150)
    assert human_mean(y, design).se == 0
    assert human_mean(np.roll(y, 1) * (dialogues % 2), design, target="superpopulation").se > 0


def test_the_hajek_mean_weights_by_inverse_inclusion_probability():
    # (2*1 + 2*0 + 10*1) / (2 + 2 + 10)
    design = draw_design([1, 2, 3], population=14, inclusion=[0.5, 0.5, 0.1])
    assert human_mean([1, 0, 1], design).value == pytest.approx(12 / 14)


def test_stratified_estimate_equals_the_textbook_formula():
    strata = ["a"] * 4 + ["b"] * 3
    y = np.array([1, 2, 3, 4, 10, 10, 13.0])
    estimate = stratified_mean(y, strata, {"a": 40, "b": 10})
    a, b = y[:4], y[4:]
    variance = 0.8**2 * 0.9 * a.var(ddof=1) / 4 + 0.2**2 * 0.7 * b.var(ddof=1) / 3
    assert estimate.value == pytest.approx(0.8 * a.mean() + 0.2 * b.mean())
    assert estimate.se == pytest.approx(np.sqrt(variance))


def test_one_cluster_has_a_value_and_no_interval():
    design = draw_design(["a", "a"], population=10)
    estimate = human_mean([1, 0], design)
    assert (estimate.value, estimate.interval, estimate.reason) == (0.5, None, "one_dialogue")


def test_labels_that_never_came_back_lower_the_inclusion_probability():
    design = draw_design(np.arange(50), population=100, inclusion=np.ones(50))
    assert design.unsampled_share == pytest.approx(0.5)


def test_inclusion_probabilities_outside_their_range_are_refused():
    with pytest.raises(ValueError, match="above 0"):
        draw_design([1, 2], population=10, inclusion=[0.5, 0.0])


def test_a_perfect_classifier_moves_the_estimate_to_the_corpus_value():
    rng = np.random.default_rng(3)
    truth = (rng.random(2000) < 0.4).astype(float)
    rows = rng.choice(2000, 200, replace=False)
    design = draw_design(rows, population=2000)
    estimate = difference_mean(truth[rows], truth[rows], truth, design)
    assert estimate.value == pytest.approx(truth.mean())
    assert estimate.se == pytest.approx(0, abs=1e-12)


def test_the_bootstrap_form_agrees_with_the_closed_form_on_a_mean():
    rng = np.random.default_rng(5)
    truth = (rng.random(4000) < 0.4).astype(float)
    machine = np.where(rng.random(4000) < 0.8, truth, 1 - truth)
    rows = rng.choice(4000, 400, replace=False)
    design = draw_design(rows, population=4000)
    y, f = truth[rows], machine[rows]
    weights = np.concatenate(list(replicate_weights(design, 4000, 1, "test")))
    draws = [weights @ column / weights.sum(axis=1) for column in (y, f)]
    boot = corrected_replicates(y.mean(), draws[0], f.mean(), draws[1], machine.mean(), design)
    closed = difference_mean(y, f, machine, design)
    assert boot.value == pytest.approx(closed.value, abs=0.002)
    assert boot.se == pytest.approx(closed.se, rel=0.05)
