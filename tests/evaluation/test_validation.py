"""The classifier against verified labels: post-stratification by hand, scikit-learn on full verification."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import accuracy_score, cohen_kappa_score, f1_score

from evaluation.calibration import calibration, debiased_error
from evaluation.validation import post_stratified, role_rows, uncovered, validate


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


def test_the_debiased_calibration_error_by_hand():
    # two bins of 20 texts; .95: 16 right, gap -.15; .55: 12 right, gap .05; each noise p(1-p)/(n-1)
    right = np.repeat([1.0, 0, 1, 0], [16, 4, 12, 8])
    sure = np.repeat([0.95, 0.55], 20)
    found = debiased_error(right, sure, np.ones(40), np.arange(40), np.ones(40))
    squared = 0.5 * (0.15**2 - 0.8 * 0.2 / 19) + 0.5 * (0.05**2 - 0.6 * 0.4 / 19)
    assert found.value == pytest.approx(np.sqrt(max(0, squared)))
    assert found.interval is not None
    assert found.interval[0] == 0
    known = debiased_error(right, sure, np.ones(40), np.arange(40), np.zeros(40))
    assert known.value == pytest.approx(np.sqrt(0.5 * 0.15**2 + 0.5 * 0.05**2))
    assert known.interval == pytest.approx((known.value, known.value))


@pytest.mark.parametrize("shift", [0.0, 0.05])
def test_the_interval_of_the_calibration_error_covers(shift: float):
    """Of a perfectly calibrated classifier a percentile bootstrap of the plug-in error never holds 0."""
    rng = np.random.default_rng(int(100 * shift))
    sure = np.clip(rng.beta(5, 1.6, 20_000), 0.2, 0.999)
    right = (rng.random(20_000) < sure - shift).astype(float)
    bins = np.clip(np.ceil(sure * 10).astype(int) - 1, 0, 9)
    truth = np.sqrt(sum((bins == b).mean() * (right - sure)[bins == b].mean() ** 2 for b in np.unique(bins)))
    covered, plug_in = 0, 0.0
    for _ in range(300):
        rows = rng.choice(20_000, 200, replace=False)
        found = debiased_error(right[rows], sure[rows], np.ones(200), np.arange(200), np.full(200, 0.99))
        covered += found.interval[0] <= truth <= found.interval[1]
        plug_in += calibration(right[rows], sure[rows], np.ones(200))[1] / 300
    assert 0.92 <= covered / 300 <= 0.985
    assert plug_in > truth + 0.02  # the bias that is taken off


def test_the_plug_in_calibration_error_claims_no_interval():
    truth, machine = labels(300, 3)
    found = validate(
        truth, machine, np.tile(machine, 4), dialogues=np.arange(300), confidences=np.full(300, 0.8), replicates=20
    )
    assert found.estimates["ece"].interval is None
    assert found.estimates["ece"].reason == "biased_upward"
    assert found.estimates["calibration_error"].interval is not None


def table(**columns: list) -> pd.DataFrame:
    size = len(columns["dialogue"])
    return pd.DataFrame({"dataset": ["r"] * size, "turn": ["1"] * size, **columns})


def test_a_user_utterance_is_verified_in_whichever_systems_row_its_label_stands():
    turns = table(
        dialogue=["d", "d", "e", "e"],
        system=["a", "b", "a", "b"],
        user_label=["joy"] * 4,
        user_verified=[None, "joy", "fear", None],
    )
    assert list(role_rows(turns, "user")["user_verified"]) == ["joy", "fear"]


def test_data_sets_and_systems_without_a_verified_text_are_named():
    rows = table(
        dialogue=list("123456"),
        system=["a", "b", "a", "c", "a", "b"],
        response_verified=["joy", "joy", "joy", None, None, None],
    ).assign(dataset=["r", "r", "s", "r", "i", "s"])
    outside, names = uncovered(rows, "response")
    assert names == [("i", None), (None, "c"), ("s", "b")]
    assert list(outside) == [False, False, False, True, True, True]
