"""Figures about a classifier, beside hand arithmetic and scikit-learn."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, confusion_matrix, f1_score

from annotation.inference.assessment import (
    as_table,
    assess,
    assess_multi_label,
    calibration_error,
    multi_label_macro_f1,
    reliability_figure,
    temperature_fitted,
    wilson,
)
from evaluation.emotions import GO_EMOTIONS


def sure(labels: list[int], confidence: float = 0.9) -> np.ndarray:
    rows = np.full((len(labels), 7), (1 - confidence) / 6)
    rows[np.arange(len(labels)), labels] = confidence
    return rows


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), min_size=1, max_size=80))
def test_figures_agree_with_scikit_learn(pairs: list[tuple[int, int]]) -> None:
    truth, predicted = (np.array(side, dtype=np.int64) for side in zip(*pairs, strict=True))
    found = assess(sure(predicted.tolist()), truth, replicates=5)
    assert found.accuracy.value == pytest.approx(accuracy_score(truth, predicted))
    assert found.macro_f1.value == pytest.approx(f1_score(truth, predicted, average="macro"))
    assert found.confusion == confusion_matrix(truth, predicted, labels=range(7)).tolist()


def test_wilson_matches_a_published_example() -> None:
    # Newcombe 1998, Table I: 81 of 263 gives .2553 to .3662; 0 of 20 gives 0 to .1611.
    assert wilson(81, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)
    assert wilson(0, 20) == pytest.approx((0.0, 0.1611), abs=5e-5)
    assert wilson(0, 0) is None


def test_calibration_error_by_hand() -> None:
    # Bin (0.8, 0.867): two rows of confidence 0.85, one right: |0.5 - 0.85| = 0.35, weight 2/4.
    # Last bin: two rows of confidence 1, both right: 0. ECE = 0.175.
    error, bins = calibration_error(np.array([0.85, 0.85, 1.0, 1.0]), np.array([True, False, True, True]))
    assert error == pytest.approx(0.175)
    assert [(b.n, b.accuracy) for b in bins if b.n] == [(2, 0.5), (2, 1.0)]


def test_temperature_is_recovered_from_overconfident_probabilities() -> None:
    random = np.random.default_rng(0)
    logits = random.normal(0, 1.5, (20_000, 7))
    honest = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    truth = np.array([random.choice(7, p=row) for row in honest], dtype=np.int64)
    overconfident = honest**2 / (honest**2).sum(-1, keepdims=True)
    assert temperature_fitted(overconfident, truth) == pytest.approx(2.0, rel=0.03)


def test_no_rows_and_absent_classes_are_undefined_with_a_reason() -> None:
    nothing = assess(np.zeros((0, 7)), np.array([], dtype=np.int64))
    assert nothing.accuracy.value is None
    assert nothing.macro_f1.reason == "no_data"
    found = assess(sure([0, 0, 6]), np.array([0, 6, 6]), replicates=20)
    assert found.classes["fear"].f1.value is None
    assert found.classes["fear"].recall.reason == "no_such_label"
    assert found.classes["joy"].precision.value == 0.5
    assert "undefined (never_predicted)" in as_table(found)


def test_intervals_hold_the_value_and_narrow_with_rows() -> None:
    random = np.random.default_rng(0)
    widths = []
    for n in (100, 1600):
        truth = random.integers(0, 7, n)
        predicted = np.where(random.random(n) < 0.7, truth, random.integers(0, 7, n))
        found = assess(sure(predicted.tolist()), truth, replicates=200)
        assert found.macro_f1.interval is not None
        low, high = found.macro_f1.interval
        assert found.macro_f1.value is not None
        assert low < found.macro_f1.value < high
        widths.append(high - low)
    assert widths[1] < widths[0] / 2


def test_multi_label_macro_f1_by_hand() -> None:
    fine, targets = np.zeros((2, 28)), np.zeros((2, 28))
    joy, anger = GO_EMOTIONS.index("joy"), GO_EMOTIONS.index("anger")
    fine[0, [joy, anger]] = 0.6, 0.4
    targets[0, joy] = 1
    fine[1, anger] = targets[1, anger] = 1
    # joy: 1 hit, F1 1. anger: 2 predicted, 1 true, 1 hit: F1 2/3. Five others 0.
    assert multi_label_macro_f1(fine, targets)[0] == pytest.approx((1 + 2 / 3) / 7)


def test_the_figure_is_the_same_bytes_twice_and_well_formed(tmp_path: Path) -> None:
    found = assess(sure([0, 1, 2, 6, 6], 0.7), np.array([0, 1, 1, 6, 0]), replicates=10)
    for name in ("a", "b"):
        reliability_figure(found, tmp_path / f"{name}.svg", "Title")
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()
    assert ET.parse(tmp_path / "a.svg").getroot().tag.endswith("svg")


def test_multi_label_macro_f1_has_an_interval_and_leaves_out_what_never_occurs() -> None:
    coarse = np.array([[0.6, 0.4, 0, 0, 0, 0, 0], [0.9, 0.1, 0, 0, 0, 0, 0], [0.1, 0.9, 0, 0, 0, 0, 0]])
    targets = np.array([[1, 1, 0, 0, 0, 0, 0], [1, 0, 0, 0, 0, 0, 0], [1, 0, 0, 0, 0, 0, 0]], dtype=bool)
    found = assess_multi_label(coarse, targets, replicates=200)
    # joy: 2 predicted, 3 given, 2 hits: 4/5. sadness: 2 predicted, 1 given, 1 hit: 2/3. No other occurs.
    assert found.value == pytest.approx((4 / 5 + 2 / 3) / 2)
    assert found.interval is not None
    assert found.interval[0] < found.value < found.interval[1]
    assert assess_multi_label(coarse[:0], targets[:0]).reason == "no_data"
