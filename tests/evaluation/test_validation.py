"""The classifier against verified labels: post-stratification by hand, scikit-learn on full verification."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, cohen_kappa_score, f1_score

from evaluation.validation import calibration, post_stratified, validate


def labels(size: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    truth = rng.choice(7, size, p=[0.27, 0.05, 0.04, 0.03, 0.08, 0.03, 0.5])
    return truth, np.where(rng.random(size) < 0.8, truth, rng.choice(7, size))


def test_with_every_label_verified_the_scores_are_scikit_learns_and_the_corpus_interval_is_a_point():
    truth, machine = labels(800, 1)
    found = validate(truth, machine, machine, dialogues=np.arange(800), replicates=50).estimates
    assert found["accuracy"].value == pytest.approx(accuracy_score(truth, machine))
    assert found["cohen_kappa"].value == pytest.approx(cohen_kappa_score(truth, machine))
    assert found["macro_f1"].value == pytest.approx(f1_score(truth, machine, average="macro"))
    assert found["accuracy"].se == pytest.approx(0, abs=1e-12)


def test_a_sample_with_other_shares_of_predicted_labels_is_weighed_back():
    # 90 predicted 6 of which half of the sample right, 10 predicted 0 all right: .9 * .5 + .1 * 1
    machine_all = np.array([6] * 90 + [0] * 10)
    found = validate([6, 0, 0, 0], [6, 6, 0, 0], machine_all, dialogues=[1, 2, 3, 4], replicates=50)
    assert found.estimates["accuracy"].value == pytest.approx(0.55)
    assert found.estimates["prevalence:joy"].value == pytest.approx(0.55)
    assert any("Only 2 utterances predicted joy" in text for text in found.warnings)


def test_a_predicted_label_nobody_verified_is_left_out_and_said():
    joint = post_stratified(np.diag([2.0, 0, 0, 0, 0, 0, 2.0]), np.array([10.0, 5, 0, 0, 0, 0, 30]))
    assert joint.sum() == pytest.approx(1)
    assert joint[0, 0] == pytest.approx(0.25)
    found = validate([0, 6], [0, 6], [0, 1, 6], dialogues=[1, 2], replicates=20)
    assert any("predicted sadness" in text for text in found.warnings)


def test_whole_dialogues_are_resampled_as_such():
    truth, machine = labels(400, 2)
    found = validate(truth, machine, np.tile(machine, 5), dialogues=np.repeat(np.arange(40), 10), replicates=100)
    assert found.estimates["accuracy"].clusters == 40
    assert "dialogue bootstrap" in found.estimates["accuracy"].method


def test_nothing_verified_is_undefined_with_a_reason():
    found = validate([-1, -1], [0, 1], [0, 1], dialogues=[1, 2], replicates=10)
    assert found.estimates["accuracy"].reason == "no_data"
    assert found.warnings


def test_one_category_leaves_kappa_undefined():
    found = validate([6] * 20, [6] * 20, [6] * 100, dialogues=np.arange(20), replicates=20)
    assert found.estimates["accuracy"].value == 1
    assert found.estimates["cohen_kappa"].reason == "no_variation"
    assert found.estimates["f1:joy"].reason == "class_absent"


def test_calibration_error_by_hand():
    # bin .9-1: confidence .95, accuracy .5; bin .5-.6: confidence .6, accuracy 1
    table, error = calibration(np.array([1, 0, 1, 1.0]), np.array([0.95, 0.95, 0.6, 0.6]), np.ones(4))
    assert error == pytest.approx(0.5 * 0.45 + 0.5 * 0.4)
    assert [row[-1] for row in table] == [2, 2]


def test_calibration_is_weighed_to_the_corpus():
    machine_all = np.array([6] * 90 + [0] * 10)
    found = validate(
        [6, 0, 0, 0],
        [6, 6, 0, 0],
        machine_all,
        dialogues=[1, 2, 3, 4],
        confidences=[0.95, 0.95, 0.65, 0.65],
        replicates=20,
    )
    assert found.estimates["ece"].value == pytest.approx(0.9 * abs(0.5 - 0.95) + 0.1 * abs(1 - 0.65))
