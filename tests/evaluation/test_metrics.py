"""The paper's metrics against reference cases, scikit-learn on random tables, and hand arithmetic."""

from __future__ import annotations

import json
import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import cohen_kappa_score, confusion_matrix, f1_score, precision_recall_fscore_support

from evaluation import counts as ct
from evaluation.emotions import EMOTIONS
from evaluation.metrics import MetricOptions, summarise
from evaluation.tables import TableError
from tests.evaluation.reference import cases

PLACE = {name: code for code, name in enumerate(EMOTIONS)}


def turns_table(rows: list[tuple[str, str | None, str | None]], **extra: object) -> pd.DataFrame:
    table = pd.DataFrame(rows, columns=["dialogue", "user_label", "response_label"])
    return table.assign(turn=range(len(table)), dataset="redial", system="a", reference_label=None, **extra)


def one_group(table: pd.DataFrame, **options: object) -> dict:
    return summarise(table, options=MetricOptions(**options), replicates=200, seed=1)["groups"][0]


@pytest.mark.parametrize("case", cases("alignment"), ids=lambda case: case["id"])
def test_alignment_equals_the_reference(case):
    turns = [(turn["dialogue"], turn["user"], turn["response"]) for turn in case["input"]["turns"]]
    group, expected, tolerance = one_group(turns_table(turns)), case["expected"], case["tolerance"]
    for key in ("turns", "scored_turns", "excluded_turns"):
        assert group[key] == expected[key]
    for key, figures in expected.items():
        if isinstance(figures, dict):
            for name, number in figures.items():
                assert group["raw"][key][name] == pytest.approx(number, abs=tolerance, rel=1e-9), (key, name)


@pytest.mark.parametrize("case", cases("flatness"), ids=lambda case: case["id"])
def test_flatness_equals_the_reference(case):
    counts = np.zeros(len(EMOTIONS))
    for label, count in zip(case["input"]["labels"], case["input"]["counts"], strict=True):
        counts[PLACE[label]] = count
    found = {
        "entropy_bits": ct.entropy_bits(counts),
        "entropy_nats": ct.entropy_bits(counts) * math.log(2),
        "flatness_n7": ct.flatness(counts),
        "flatness_observed": ct.flatness(counts, "observed"),
        "observed_classes": ct.observed_classes(counts),
        "miller_madow_bits": ct.miller_madow_bits(counts),
        "delta_se_bits_srs": ct.entropy_delta_se(counts),
        "delta_se_flatness_n7": ct.entropy_delta_se(counts) / ct.FLATNESS_BASE,
    }
    for key, number in case["expected"].items():
        if key == "reason":
            continue
        if number is None:
            assert math.isnan(float(found[key])), key
        else:
            assert float(found[key]) == pytest.approx(number, abs=case["tolerance"]), key


@pytest.mark.parametrize("case", cases("f1"), ids=lambda case: case["id"])
def test_per_emotion_scores_equal_the_reference(case):
    given_labels, expected, tolerance = case["input"], case["expected"], case["tolerance"]
    table = pd.DataFrame(
        {
            "dialogue": range(len(given_labels["reference"])),
            "turn": 0,
            "dataset": "redial",
            "system": "a",
            "user_label": None,
            "response_label": given_labels["predicted"],
            "reference_label": given_labels["reference"],
        }
    )
    raw = one_group(table)["raw"]
    for emotion, scores in expected["per_emotion"].items():
        for name, number in scores.items():
            mine = raw["per_emotion"][emotion][name]
            mine = mine["value"] if isinstance(mine, dict) else mine
            assert mine == (None if number is None else pytest.approx(number, abs=tolerance)), (emotion, name)
    for key in ("accuracy", "macro_f1_present", "macro_f1_true_only", "macro_f1_all7_zero", "weighted_f1"):
        assert raw[key]["value"] == pytest.approx(expected[key], abs=tolerance), key
    assert raw["accuracy"]["value"] == pytest.approx(expected["micro_f1"], abs=tolerance)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), min_size=1, max_size=60))
def test_scores_equal_scikit_learn_on_any_labels(pairs):
    true, predicted = np.array(pairs).T
    cube = ct.count_cube(np.arange(len(pairs)), true.astype(np.int8), predicted.astype(np.int8), size=len(pairs))
    matrix = cube.total
    labels = list(range(7))
    assert (matrix == confusion_matrix(true, predicted, labels=labels)).all()
    with np.errstate(all="ignore"):
        theirs = precision_recall_fscore_support(true, predicted, labels=labels, zero_division=np.nan)
    assert np.allclose(ct.precision(matrix), theirs[0], equal_nan=True)
    assert np.allclose(ct.recall(matrix), theirs[1], equal_nan=True)
    assert np.allclose(
        np.nan_to_num(ct.f1(matrix)), f1_score(true, predicted, labels=labels, average=None, zero_division=0)
    )
    assert ct.macro_f1(matrix) == pytest.approx(f1_score(true, predicted, average="macro", zero_division=0))
    if len(set(true) | set(predicted)) > 1:
        assert ct.cohen_kappa(matrix) == pytest.approx(cohen_kappa_score(true, predicted, labels=labels))


@settings(max_examples=40, deadline=None)
@given(st.permutations(range(6)), st.integers(0, 2**32 - 1))
def test_exact_alignment_and_flatness_do_not_depend_on_the_names_of_the_labels(order, seed):
    matrix = np.random.default_rng(seed).integers(0, 9, (7, 7)).astype(float)
    renamed = [*order, 6]
    moved = matrix[np.ix_(renamed, renamed)]
    assert ct.alignment(moved) == pytest.approx(float(ct.alignment(matrix)), nan_ok=True)
    assert ct.flatness(moved.sum(0)) == pytest.approx(float(ct.flatness(matrix.sum(0))), nan_ok=True)
    assert ct.macro_f1(moved) == pytest.approx(float(ct.macro_f1(matrix)), nan_ok=True)
    assert ct.alignment(3 * matrix) == pytest.approx(float(ct.alignment(matrix)), nan_ok=True)


def test_the_same_seed_gives_the_same_bits_and_another_does_not():
    table = simulated(seed=4)
    one, same, other = (
        json.dumps(summarise(table, options=MetricOptions(), replicates=300, seed=seed)) for seed in (7, 7, 8)
    )
    assert one == same
    assert one != other


def simulated(seed: int, dialogues: int = 60) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    size = dialogues * 6
    user = rng.choice(EMOTIONS, size, p=[0.3, 0.05, 0.05, 0.05, 0.1, 0.05, 0.4])
    response = np.where(rng.random(size) < 0.5, user, rng.choice(EMOTIONS, size))
    reference = np.where(rng.random(size) < 0.5, user, rng.choice(EMOTIONS, size))
    return pd.DataFrame(
        {
            "dialogue": np.repeat(np.arange(dialogues), 6),
            "turn": np.tile(np.arange(6), dialogues),
            "dataset": "redial",
            "system": "a",
            "user_label": user,
            "response_label": response,
            "reference_label": reference,
        }
    )


def test_bootstrap_replicates_of_counts_equal_resampling_the_rows():
    table = simulated(seed=2, dialogues=8)
    codes = table["dialogue"].to_numpy()
    user, response = ct.emotion_codes(table["user_label"]), ct.emotion_codes(table["response_label"])
    cube = ct.count_cube(codes, user, response, size=8)
    weights = np.array([[2, 0, 1, 1, 0, 3, 1, 0], [1, 1, 1, 1, 1, 1, 1, 1.0]])
    for row, matrix in zip(weights, cube.replicates(weights), strict=True):
        rows = np.concatenate([np.repeat(np.flatnonzero(codes == d), int(times)) for d, times in enumerate(row)])
        assert (matrix == confusion_matrix(user[rows], response[rows], labels=range(7))).all()


def test_one_more_label_changes_one_cell_and_nothing_else():
    table = simulated(seed=2, dialogues=8)
    user, response = ct.emotion_codes(table["user_label"]), ct.emotion_codes(table["response_label"])
    before = ct.count_cube(table["dialogue"].to_numpy(), user, response, size=8)
    after = before.adding(3, PLACE["joy"], PLACE["neutral"])
    whole = ct.count_cube(
        np.append(table["dialogue"], 3), np.append(user, PLACE["joy"]), np.append(response, PLACE["neutral"]), size=8
    )
    assert (after.sums == whole.sums).all()


def test_no_labels_is_undefined_with_a_reason_and_never_zero():
    group = one_group(turns_table([("d1", None, None), ("d2", None, None)]))
    for key in ("exact", "coarse", "flatness_n7", "macro_f1", "accuracy"):
        assert group["raw"][key]["value"] is None
        assert group["raw"][key]["reason"] == "no_data"
        assert group["verified"][key]["reason"] == "no_data"


def test_one_dialogue_has_values_but_no_interval():
    group = one_group(turns_table([("d1", "joy", "joy"), ("d1", "joy", "neutral")]))
    assert group["raw"]["exact"]["value"] == 0.5
    assert group["raw"]["exact"]["interval"] is None
    assert group["raw"]["flatness_n7"]["reason"] == "one_dialogue"


def test_a_share_without_spread_has_no_interval_of_no_width():
    group = one_group(turns_table([(name, "joy", "neutral") for name in "abcdefgh"]))
    # Wilson for 0 of 8 dialogues
    assert group["raw"]["exact"]["interval"] == pytest.approx([0, 0.3244], abs=1e-4)
    assert group["raw"]["exact"]["cluster_se"] == 0
    flat = group["raw"]["flatness_n7"]
    assert (flat["value"], flat["interval"], flat["reason"]) == (0, None, "no_variation")


def test_a_label_outside_the_set_is_refused_with_its_row():
    with pytest.raises(TableError, match="Row 2"):
        one_group(turns_table([("d1", "joy", "joy"), ("d1", "happy", "joy")]))


def test_an_unknown_option_is_refused_with_the_choices():
    with pytest.raises(ValueError, match="present, true_only, all7_zero"):
        MetricOptions(macro_f1="some")  # type: ignore[arg-type]


def test_the_range_over_the_places_of_surprise_brackets_every_place():
    # surprise -> joy matches only where surprise is positive
    group = one_group(turns_table([("a", "surprise", "joy"), ("b", "joy", "joy")]))
    assert group["raw"]["coarse_range"] == [0.5, 1.0]
    assert group["raw"]["coarse"]["value"] == 1.0
    assert (
        one_group(turns_table([("a", "surprise", "joy"), ("b", "joy", "joy")]), surprise="own")["raw"]["coarse"][
            "value"
        ]
        == 0.5
    )


def test_a_turn_without_a_response_counts_only_when_asked_for():
    rows = [("a", "joy", "joy"), ("a", "joy", None), ("b", "joy", "joy")]
    assert one_group(turns_table(rows))["raw"]["exact"]["value"] == 1.0
    assert one_group(turns_table(rows), turn="all_user")["raw"]["exact"]["value"] == pytest.approx(2 / 3)


def test_the_last_turn_of_each_dialogue_can_stand_for_it():
    rows = [("a", "joy", "joy"), ("a", "joy", "fear"), ("b", "joy", "joy")]
    group = one_group(turns_table(rows), turn="last")
    assert (group["turns"], group["raw"]["exact"]["value"]) == (2, 0.5)


def test_the_mean_of_dialogue_means_weighs_dialogues_alike():
    rows = [("a", "joy", "joy"), ("a", "joy", "joy"), ("a", "joy", "joy"), ("b", "joy", "fear")]
    assert one_group(turns_table(rows))["raw"]["exact"]["value"] == 0.75
    assert one_group(turns_table(rows), aggregation="dialogue_mean")["raw"]["exact"]["value"] == 0.5


def test_verified_values_come_from_human_labels_and_the_raw_ones_stay():
    rows = [("a", "joy", "joy"), ("b", "joy", "neutral"), ("c", "joy", "neutral"), ("d", "joy", "joy")]
    table = turns_table(rows, user_verified=["joy", "joy", None, None], response_verified=["joy", "joy", None, None])
    group = one_group(table)
    assert group["raw"]["exact"]["value"] == 0.5
    assert group["verified"]["exact"]["value"] == 1.0
    assert group["verified_pairs"] == 2
    assert "lambda = 0 because n = 2 < 100" in group["corrected"]["exact"]["notes"]


def test_a_verified_turn_that_was_not_drawn_is_left_out_and_counted():
    rows = [(name, "joy", "joy") for name in "abcd"]
    table = turns_table(
        rows,
        user_verified=["joy", "joy", "joy", None],
        response_verified=["joy", "fear", "fear", None],
        inclusion_probability=[0.5, 0.5, None, None],
    )
    group = one_group(table)
    assert group["verified_pairs"] == 2
    assert group["verified_outside_draw"] == 1
    assert group["verified"]["exact"]["value"] == 0.5


def test_human_reference_responses_have_no_f1_against_themselves():
    table = simulated(seed=1).assign(system="reference")
    table["response_label"] = table["reference_label"]
    group = one_group(table)
    assert group["is_reference"]
    assert group["raw"]["macro_f1"]["value"] is None
    assert group["raw"]["exact"]["value"] is not None
