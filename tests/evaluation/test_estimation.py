"""Estimators against published values, an independent library's values, and their own limits."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from evaluation.design import draw_design
from evaluation.estimation import (
    corrected_replicates,
    difference_mean,
    human_mean,
    human_replicates,
    ppi_mean,
    replicate_weights,
    stratified_mean,
)
from evaluation.intervals import cluster_weights, wilson
from evaluation.sampling import draw
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


# --- units that were drawn and have no label ------------------------------------------------------------------------


def test_missing_labels_are_made_up_for_within_their_stratum():
    """Of two strata of 100 ten were drawn each; one answers fully, the other by half: both still stand for 100."""
    strata = np.array(["a"] * 10 + ["b"] * 5)
    drawn = np.array(["a"] * 10 + ["b"] * 10)
    design = draw_design(
        np.arange(15),
        population=200,
        inclusion=np.full(15, 0.1),
        strata=strata,
        drawn_inclusion=np.full(20, 0.1),
        drawn_strata=drawn,
    )
    assert design.weights[:10] == pytest.approx(np.full(10, 10.0))
    assert design.weights[10:] == pytest.approx(np.full(5, 20.0))
    assert human_mean((strata == "b").astype(float), design).value == pytest.approx(0.5)
    assert design.notes == ()


def test_without_strata_missing_labels_lower_every_probability_alike():
    design = draw_design(np.arange(3), population=8, inclusion=[0.5, 0.5, 0.25], drawn_inclusion=[0.5, 0.5, 0.25, 0.25])
    assert design.weights == pytest.approx(np.array([2, 2, 4]) * 12 / 8)


def test_a_stratum_that_nobody_labelled_is_named():
    given = {"inclusion": [0.5, 0.5], "strata": ["a", "a"], "drawn_inclusion": [0.5] * 4, "drawn_strata": list("aabb")}
    estimate = human_mean([1.0, 0.0], draw_design([1, 2], population=8, **given))
    assert estimate.notes[0] == "no human label in stratum b: it is not represented"


# --- further dialogues ----------------------------------------------------------------------------------------------


def dialogues_of(seed: int, dialogues: int = 30, turns: int = 20) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Truth that differs from dialogue to dialogue, and a classifier right in 80 %: dialogue, y, f of every turn."""
    rng = np.random.default_rng(seed)
    chance = np.repeat(rng.beta(2, 1.5, dialogues), turns)
    y = (rng.random(len(chance)) < chance).astype(float)
    return np.repeat(np.arange(dialogues), turns), y, np.where(rng.random(len(y)) < 0.8, y, 1 - y)


def means(weights: np.ndarray, values: np.ndarray) -> np.ndarray:
    return weights @ values / weights.sum(axis=1)


def test_with_every_turn_verified_the_classifier_adds_nothing_not_even_certainty():
    place, y, f = dialogues_of(1)
    design = draw_design(place, population=len(y), frame_dialogues=place)
    alone = human_mean(y, design, target="superpopulation")
    corrected = difference_mean(y, f, f, design, target="superpopulation")
    assert corrected.value == pytest.approx(alone.value)
    assert corrected.se == pytest.approx(alone.se)
    totals = np.bincount(place, weights=y - y.mean())
    assert alone.se == pytest.approx(np.sqrt(30 / 29 * totals @ totals) / len(y))


def test_the_error_for_further_dialogues_adds_sample_and_classifier_within_each_dialogue():
    place, y, f = dialogues_of(2)
    rows = np.sort(np.random.default_rng(2).choice(len(y), 300, replace=False))
    design = draw_design(place[rows], population=len(y), frame_dialogues=place)
    factor = 0.6
    estimate = difference_mean(y[rows], f[rows], f, design, target="superpopulation", weight=factor)
    residual = y[rows] - factor * f[rows]
    totals = np.bincount(place[rows], weights=2 * (residual - residual.mean()), minlength=30)
    totals += factor * np.bincount(place, weights=f - f.mean())
    assert estimate.se == pytest.approx(np.sqrt(30 / 29 * totals @ totals) / len(y))


@pytest.mark.parametrize("stratified", [False, True])
def test_resampled_dialogues_agree_with_the_closed_form_for_further_dialogues(stratified):
    place, y, f = dialogues_of(3, 60, 10)
    rng = np.random.default_rng(3)
    if stratified:
        rows = np.sort(np.concatenate([rng.choice(np.flatnonzero(f == h), 150, replace=False) for h in (0, 1)]))
        strata = {
            "strata": f[rows],
            "frame_strata": f,
            "inclusion": 150 / np.bincount(f.astype(int))[f[rows].astype(int)],
        }
    else:
        rows, strata = np.sort(rng.choice(len(y), 300, replace=False)), {}
    design = draw_design(place[rows], population=len(y), frame_dialogues=place, **strata)
    own = np.concatenate(list(replicate_weights(design, 4000, 1, "x", target="superpopulation"))) * design.weights
    # The same resamples of dialogues, as the classifier's own sums have them.
    whole = np.concatenate(list(cluster_weights(60, 4000, 1, name="x")))[:, place]
    boot = corrected_replicates(
        float(design.weights @ y[rows] / design.weights.sum()),
        means(own, y[rows]),
        float(design.weights @ f[rows] / design.weights.sum()),
        means(own, f[rows]),
        f.mean(),
        design,
        machine_all_draws=means(whole, f),
        target="superpopulation",
    )
    closed = difference_mean(y[rows], f[rows], f, design, target="superpopulation")
    assert boot.value == pytest.approx(closed.value, abs=0.004)
    assert boot.se == pytest.approx(closed.se, rel=0.06)


def test_a_stratified_draw_is_no_less_sure_of_further_dialogues_for_knowing_all_strata():
    """Without the strata of all turns the spread between strata counts as if it had been drawn: wider."""
    place, y, f = dialogues_of(4, 60, 10)
    rng = np.random.default_rng(4)
    rows = np.sort(np.concatenate([rng.choice(np.flatnonzero(f == h), 100, replace=False) for h in (0, 1)]))
    given = {"strata": f[rows], "inclusion": 100 / np.bincount(f.astype(int))[f[rows].astype(int)]}
    known = draw_design(place[rows], population=len(y), frame_dialogues=place, frame_strata=f, **given)
    unknown = draw_design(place[rows], population=len(y), frame_dialogues=place, **given)
    errors = [human_mean(y[rows], d, target="superpopulation").se for d in (known, unknown)]
    assert errors[0] < errors[1]


# --- unequal probabilities -------------------------------------------------------------------------------------------


def test_units_that_were_certain_to_be_drawn_do_not_vary_between_resamples():
    design = draw_design(np.arange(40), population=220, inclusion=[1.0] * 20 + [0.1] * 20)
    weights = np.concatenate(list(replicate_weights(design, 50, 1, "x")))
    assert (weights[:, :20] == 1).all()
    assert weights[:, 20:].std() > 0.5
    everything = draw_design(np.arange(40), population=40, inclusion=np.ones(40))
    whole = human_replicates(0.5, np.full(50, 0.5), everything)
    assert (whole.se, whole.interval) == (0.0, (0.5, 0.5))


def test_resamples_with_unequal_probabilities_agree_with_the_closed_form():
    rng = np.random.default_rng(8)
    chance = np.where(np.arange(2000) < 400, 0.8, 0.1)
    rows = np.flatnonzero(rng.random(2000) < chance)
    y = (rng.random(2000) < 0.4).astype(float)[rows]
    design = draw_design(rows, population=2000, inclusion=chance[rows])
    weights = np.concatenate(list(replicate_weights(design, 4000, 1, "x"))) * design.weights
    assert np.std(means(weights, y)) == pytest.approx(human_mean(y, design).se, rel=0.06)


def test_labels_count_by_what_they_weigh_when_lambda_is_allowed():
    y = np.tile([0.0, 1.0], 60)
    chance = np.where(np.arange(120) < 110, 0.9, 0.01)
    design = draw_design(np.arange(120), population=1200, inclusion=chance)
    assert design.effective < 20
    estimate = difference_mean(y, y, np.tile(y, 10), design)
    assert any(note.startswith("lambda = 0 because n = 120 weighs as") for note in estimate.notes)


# --- rare labels -----------------------------------------------------------------------------------------------------


def test_a_rare_share_has_wilsons_interval():
    """One stratum without clusters: the interval is Wilson's but for what (k + 1/2) / (n + 1) adds to the variance."""
    y = np.zeros(300)
    y[:3] = 1
    design = draw_design(np.arange(300), population=10**6)
    estimate = human_mean(y, design, bounds=(0.0, 1.0), rare=True)
    assert "Wilson" in estimate.method
    assert estimate.interval == pytest.approx(wilson(3, 300), abs=0.003)
    assert estimate.interval[0] > 0
    plain = human_mean(y, design, bounds=(0.0, 1.0))
    assert plain.interval[0] == 0


def test_a_large_stratum_without_a_hit_still_counts_as_unsure():
    strata = np.array(["rare"] * 20 + ["large"] * 20)
    y = np.where(np.arange(40) < 15, 1.0, 0.0)
    chance = np.where(strata == "rare", 1.0, 0.02)
    design = draw_design(np.arange(40), population=1020, inclusion=chance, strata=strata)
    plain = human_mean(y, design, bounds=(0.0, 1.0))
    careful = human_mean(y, design, bounds=(0.0, 1.0), rare=True)
    assert plain.se < 0.002
    assert careful.interval[1] - careful.value > 0.02


# --- strata the draw did not use -------------------------------------------------------------------------------------


@pytest.mark.parametrize("known", [False, True])
@pytest.mark.parametrize("design", ["simple", "proportional", "half", "uncertainty"])
def test_strata_count_in_the_variance_only_where_the_draw_used_them(design, known):
    rng = np.random.default_rng(11)
    frame = pd.DataFrame({"id": np.arange(1000), "stratum": rng.choice(list("abc"), 1000, p=[0.61, 0.3, 0.09])})
    frame["uncertainty"] = rng.uniform(0.1, 1, 1000)
    drawn = draw(frame, 200, design, 3)
    rows, chance, strata = (drawn[name].to_numpy() for name in ("id", "inclusion_probability", "stratum"))
    found = draw_design(
        rows,
        population=1000,
        inclusion=chance,
        strata=strata,
        drawn_inclusion=chance,
        drawn_strata=strata,
        frame_dialogues=np.arange(1000),
        frame_strata=frame["stratum"].to_numpy(dtype=object) if known else None,
    )
    assert (found.strata is not None) == (design in ("proportional", "half"))
