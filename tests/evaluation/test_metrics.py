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


def figure(body: object) -> object:
    """A statistic's value, or a plain number as it stands."""
    return body["value"] if isinstance(body, dict) else body


@pytest.mark.parametrize("case", cases("alignment"), ids=lambda case: case["id"])
def test_alignment_equals_the_reference(case):
    turns = [(turn["dialogue"], turn["user"], turn["response"]) for turn in case["input"]["turns"]]
    group, expected, tolerance = one_group(turns_table(turns)), case["expected"], case["tolerance"]
    for key in ("turns", "scored_turns", "excluded_turns"):
        assert group[key] == expected[key]
    for key in expected.keys() - {"turns", "scored_turns", "excluded_turns"}:
        for name, number in expected[key].items():
            assert group["raw"][key][name] == pytest.approx(number, abs=tolerance, rel=1e-9), (key, name)


@pytest.mark.parametrize("case", cases("flatness"), ids=lambda case: case["id"])
def test_flatness_equals_the_reference(case):
    pairs = zip(case["input"]["labels"], case["input"]["counts"], strict=True)
    labels = [label for label, count in pairs for _ in range(count)] or [None]
    group = one_group(turns_table([(str(place), "joy", label) for place, label in enumerate(labels)]))
    found = group["raw"] | {"observed_classes": group["observed_classes"]}
    for key, number in case["expected"].items():
        if key == "reason":
            assert found["entropy_bits"]["reason"] == number
        else:
            assert figure(found[key]) == (None if number is None else pytest.approx(number, abs=case["tolerance"])), key
    for key in ("delta_se_bits_srs", "delta_se_flatness_n7"):
        assert found["flatness_n7"][key] == found[key]


@pytest.mark.parametrize("case", cases("f1"), ids=lambda case: case["id"])
def test_per_emotion_scores_equal_the_reference(case):
    given_labels, expected, tolerance = case["input"], case["expected"], case["tolerance"]
    rows = [(str(place), None, label) for place, label in enumerate(given_labels["predicted"])]
    group = one_group(turns_table(rows).assign(reference_label=given_labels["reference"]))
    raw = group["raw"]
    for emotion, scores in expected["per_emotion"].items():
        for name, number in scores.items():
            mine = figure(raw["per_emotion"][emotion][name])
            assert mine == (None if number is None else pytest.approx(number, abs=tolerance)), (emotion, name)
    for key in expected.keys() - {"per_emotion", "confusion"}:
        assert raw[key]["value"] == pytest.approx(expected[key], abs=tolerance), key
    order = [given_labels["labels"].index(emotion) for emotion in EMOTIONS]
    confusion = np.array(expected["confusion"])[np.ix_(order, order)].tolist()
    assert group["confusion"]["reference_raw"] == group["matrices"]["reference_raw"]["counts"] == confusion


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
    assert (group["turns"], group["raw"]["exact"]["value"], group["turn_order"]) == (2, 0.5, "number")
    assert one_group(turns_table(rows))["turn_order"] is None


@pytest.mark.parametrize(
    ("ids", "order", "exact"),
    [
        (["10", "9", "2"], "number", 1.0),  # of dialogue a the last turn is 10, the first row
        (["t10", "t9", "t2"], "row", 0.5),
        (["10", "t9", "2"], "row", 0.5),
        (["10", "nan", "2"], "row", 0.5),
    ],
)
def test_the_last_turn_goes_by_number_or_else_by_row(ids, order, exact):
    rows = [("a", "joy", "joy"), ("a", "joy", "fear"), ("b", "joy", "joy")]
    group = one_group(turns_table(rows).assign(turn=ids), turn="last")
    assert (group["turns"], group["turn_order"], group["raw"]["exact"]["value"]) == (2, order, exact)


def test_the_last_turn_is_the_last_with_both_labels_of_each_system_and_data_set():
    rows = [("a", "joy", "joy"), ("a", "joy", None), ("a", "joy", "joy"), ("a", "joy", "fear")]
    table = turns_table(rows).assign(system=["x", "x", "y", "y"], turn=["t1", "t2", "t1", "t2"])
    other = table.assign(dataset="inspired", turn=[1, 2, 2, 1])
    groups = summarise(pd.concat([table, other]), options=MetricOptions(turn="last"), replicates=20)["groups"]
    found = [(g["dataset"], g["system"], g["turns"], g["turn_order"], g["raw"]["exact"]["value"]) for g in groups]
    assert found == [
        ("redial", "x", 1, "row", 1.0),
        ("redial", "y", 1, "row", 0.0),
        ("inspired", "x", 1, "number", 1.0),
        ("inspired", "y", 1, "number", 1.0),
    ]


UNANSWERED = [
    ("a", "joy", "joy"),
    ("a", "joy", None),
    ("b", "surprise", None),
    ("b", "joy", "joy"),
    ("c", "joy", "fear"),
]


def test_an_unanswered_turn_counts_alike_in_every_figure():
    group = one_group(turns_table(UNANSWERED), turn="all_user")
    exact = group["raw"]["exact"]
    assert (group["turns"], group["scored_turns"], group["excluded_turns"]) == (5, 5, 0)
    # 2 of 5; a 1/2, b 1/2, c 0/1
    assert (exact["value"], exact["n"], exact["scored_turns"], exact["matches"]) == (0.4, 5, 5, 2)
    assert exact["per_dialogue_mean"] == pytest.approx(1 / 3)
    by_dialogue = one_group(turns_table(UNANSWERED), turn="all_user", aggregation="dialogue_mean")["raw"]["exact"]
    assert by_dialogue["value"] == by_dialogue["per_dialogue_mean"] == pytest.approx(1 / 3)


def test_an_unanswered_surprise_is_excluded_with_surprise():
    # without the surprise 2 of 4: a 1/2, b 1/1, c 0/1
    group = one_group(turns_table(UNANSWERED), turn="all_user", surprise="excluded")
    coarse = group["raw"]["coarse"]
    assert coarse == group["raw"]["coarse_surprise_excluded"] | {"surprise": "excluded"}
    assert (coarse["value"], coarse["n"], coarse["scored_turns"]) == (0.5, 4, 4)
    assert coarse["per_dialogue_mean"] == 0.5


@pytest.mark.parametrize("kind", ["verified", "corrected"])
def test_human_values_treat_unanswered_turns_as_the_raw_one_does(kind):
    human = ["joy", None, None, None, "joy"]
    table = turns_table(UNANSWERED, user_verified=human, response_verified=human)
    group = one_group(table, turn="all_user")[kind]
    # all verified pairs match; 3 of 5 turns are answered, and 3 of the 4 that are not called surprise
    assert group["exact"]["value"] == pytest.approx(3 / 5)
    assert group["coarse_surprise_excluded"]["value"] == pytest.approx(3 / 4)
    assert "unanswered turns count as unmatched" in group["exact"]["notes"]
    assert any("classifier calls the user's words surprise" in n for n in group["coarse_surprise_excluded"]["notes"])


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


# --- options that decide what is shown -------------------------------------------------------------------------------


def verified_table(counts: dict[str, int], verified: dict[str, int], **extra: object) -> pd.DataFrame:
    """One turn per dialogue, as many of each response as `counts` says; of each the first are verified as they are."""
    labels = [label for label, count in counts.items() for _ in range(count)]
    seen = [place < verified[label] for label, count in counts.items() for place in range(count)]
    table = turns_table([(str(place), label, label) for place, label in enumerate(labels)], **extra)
    human = table["response_label"].where(seen)
    return table.assign(user_verified=human, response_verified=human, reference_label=table["response_label"])


@pytest.mark.parametrize("unit", ["bits", "nats"])
@pytest.mark.parametrize("correction", ["plug_in", "miller_madow"])
@pytest.mark.parametrize("classes", ["declared", "observed"])
def test_the_headline_flatness_and_entropy_follow_the_options(unit, correction, classes):
    options = {"entropy_unit": unit, "entropy_correction": correction, "flatness_classes": classes}
    group = one_group(verified_table({"joy": 8, "fear": 4, "anger": 4}, {"joy": 4, "fear": 2, "anger": 2}), **options)
    for kind, n in (("raw", 16), ("verified", 8), ("corrected", 8)):
        bits = 1.5 + (2 / (2 * n * math.log(2)) if correction == "miller_madow" else 0)
        flatness, entropy = group[kind]["flatness"], group[kind]["entropy"]
        assert entropy["value"] == pytest.approx(bits if unit == "bits" else bits * math.log(2))
        assert flatness["value"] == pytest.approx(min(1, bits / math.log2(7 if classes == "declared" else 3)))
        assert (entropy["unit"], entropy["correction"]) == (unit, correction)
        assert (flatness["classes"], flatness["correction"]) == (classes, correction)
        assert group[kind][group["headline_flatness"]]["value"] == flatness["value"]


@pytest.mark.parametrize("verified", [60, 150])
def test_the_correction_of_a_verified_entropy_goes_by_the_labels_seen(verified):
    rng = np.random.default_rng(3)
    machine = rng.choice(EMOTIONS, 2000, p=[0.3, 0.1, 0.1, 0.1, 0.1, 0.1, 0.2])
    human = np.where(rng.random(2000) < 0.8, machine, rng.choice(EMOTIONS, 2000))
    table = turns_table([(str(place), "joy", label) for place, label in enumerate(machine)])
    table["response_verified"] = pd.Series(human, dtype=object).where(table.index < verified)
    group = one_group(table)
    alone = group["verified"]
    gain = alone["miller_madow_bits"]["value"] - alone["entropy_bits"]["value"]
    assert gain == pytest.approx(6 / (2 * verified * math.log(2)))
    assert group["raw"]["miller_madow_bits"]["value"] == pytest.approx(
        group["raw"]["entropy_bits"]["value"] + 6 / (2 * 2000 * math.log(2))
    )
    if verified >= 100:

        def bits(labels):
            shares = np.unique(labels, return_counts=True)[1] / len(labels)
            return -(shares * np.log2(shares)).sum() + (len(shares) - 1) / (2 * len(labels) * math.log(2))

        corrected = group["corrected"]["miller_madow_bits"]
        (factor,) = (float(note.split()[-1]) for note in corrected["notes"] if note.startswith("lambda = "))
        seen = bits(human[:verified]) + factor * (bits(machine) - bits(machine[:verified]))
        assert corrected["value"] == pytest.approx(seen, abs=2e-4)  # the note has three digits of lambda


def test_labels_of_unequal_weight_count_as_their_effective_number():
    table = verified_table({"joy": 8, "fear": 20}, {"joy": 4, "fear": 5})
    chance = table["response_verified"].map({"joy": 0.5, "fear": 0.25})
    alone = one_group(table.assign(inclusion_probability=chance))["verified"]
    # weights 4 x 2 and 5 x 4: (8 + 20)² / (4 x 4 + 5 x 16)
    gain = alone["miller_madow_bits"]["value"] - alone["entropy_bits"]["value"]
    assert gain == pytest.approx(1 / (2 * (28**2 / 96) * math.log(2)))


def test_labels_made_by_a_model_are_not_claimed_of_a_table_that_holds_finished_ones():
    with pytest.raises(ValueError, match="python -m evaluation aggregate"):
        one_group(turns_table([("a", "joy", "joy")]), gold="dawid_skene")
    whole = summarise(turns_table([("a", "joy", "joy")]), replicates=20)
    assert "gold" not in whole["options"]


def test_coarse_says_its_place_of_surprise_and_all_that_its_siblings_say():
    group = one_group(turns_table([("a", "surprise", "joy"), ("b", "joy", "joy")]), surprise="own")
    for kind in ("raw", "verified", "corrected"):
        assert group[kind]["coarse"] == group[kind]["coarse_surprise_as_own_group"] | {"surprise": "own"}
    coarse = group["raw"]["coarse"]
    assert (coarse["percent"], coarse["matches"], coarse["scored_turns"]) == (50, 1, 2)


# --- what stands behind an F1 ----------------------------------------------------------------------------------------


def scored_table(rows: list[tuple[str, str, str]], **extra: object) -> pd.DataFrame:
    """Rows of user, reference and response label, each its own dialogue."""
    table = turns_table([(str(place), user, response) for place, (user, _, response) in enumerate(rows)], **extra)
    return table.assign(reference_label=[reference for _, reference, _ in rows])


SCORED = [("fear", "joy", "joy"), ("fear", "joy", "fear"), ("sadness", "neutral", "neutral")]


@pytest.mark.parametrize(("policy", "classes"), [("present", 3), ("true_only", 2), ("all7_zero", 7)])
def test_each_macro_f1_says_how_many_emotions_it_is_the_mean_of(policy, classes):
    # reference joy, neutral; response also fear. Verified: the third turn alone
    table = scored_table(SCORED, reference_verified=[None, None, "joy"], response_verified=[None, None, "fear"])
    group = one_group(table, macro_f1=policy)
    of = {"present": 3, "true_only": 2, "all7_zero": 7}
    seen = {"present": 2, "true_only": 1, "all7_zero": 7}
    assert group["raw"]["macro_f1"]["classes"] == classes
    for name in of:
        assert group["raw"][f"macro_f1_{name}"]["classes"] == of[name]
        assert group["verified"][f"macro_f1_{name}"]["classes"] == seen[name]
        assert group["corrected"][f"macro_f1_{name}"]["classes"] == seen[name]
    assert group["verified"]["macro_f1"]["classes"] == seen[policy]


def test_with_the_user_as_truth_support_is_the_users():
    group = one_group(scored_table(SCORED), f1_truth="user")["raw"]
    # user fear fear sadness, response joy fear neutral
    fear = group["per_emotion"]["fear"]
    assert (fear["support"], fear["predicted"], fear["f1"]["value"]) == (2, 1, pytest.approx(2 / 3))
    assert group["per_emotion"]["joy"]["support"] == 0
    assert group["macro_f1"]["classes"] == 4


def test_what_has_no_f1_has_no_support_and_no_classes():
    table = scored_table([(user, said, said) for user, _, said in SCORED]).assign(system="reference")
    group = one_group(table)
    assert group["raw"]["macro_f1"]["value"] is None
    assert group["raw"]["macro_f1"]["classes"] == 0
    joy = group["raw"]["per_emotion"]["joy"]
    assert (joy["support"], joy["predicted"], joy["f1"]["n"], joy["f1"]["reason"]) == (0, 0, 0, "no_data")
    assert np.sum(group["matrices"]["reference_raw"]["counts"]) == 0
    by_user = one_group(table, f1_truth="user")["raw"]
    assert (by_user["macro_f1"]["classes"], by_user["per_emotion"]["fear"]["support"]) == (4, 2)


def test_n_of_a_score_is_the_number_of_turns_it_is_about():
    table = scored_table(SCORED, reference_verified=["joy", "fear", None], response_verified=["joy", "joy", None])
    group = one_group(table)
    # reference joy joy neutral, response joy fear neutral; by people joy fear, joy joy
    wanted = {"raw": {"joy": (1, 2, 2), "fear": (1, 0, 1)}, "verified": {"joy": (2, 1, 2), "fear": (0, 1, 1)}}
    wanted["corrected"] = wanted["verified"]
    for kind, emotions in wanted.items():
        for emotion, numbers in emotions.items():
            scores = group[kind]["per_emotion"][emotion]
            assert tuple(scores[name]["n"] for name in ("precision", "recall", "f1")) == numbers, (kind, emotion)
            assert (scores["predicted"], scores["support"]) == numbers[:2]
        assert group[kind]["accuracy"]["n"] == (3 if kind == "raw" else 2)


# --- confusion matrices ----------------------------------------------------------------------------------------------


def test_three_kinds_of_confusion_matrix_are_titled():
    matrices = one_group(simulated(seed=1))["matrices"]
    kinds = {name: (one["kind"], one["rows"], one["columns"]) for name, one in matrices.items()}
    assert kinds["alignment_raw"] == ("user_response", "user", "response")
    assert kinds["reference_raw"] == ("reference_response", "reference", "response")
    assert kinds["validation_response"] == ("human_classifier", "human label", "classifier label")
    assert "misalignment" in matrices["alignment_verified"]["title"]
    assert "misclassification" in matrices["validation_user"]["title"]
    assert len({one["title"] for one in matrices.values()}) == len(matrices) == 7


@pytest.mark.parametrize("by", ["row", "column", "all", "none"])
def test_confusion_matrices_are_normalised_as_chosen(by):
    one = one_group(turns_table([("a", "joy", "joy"), ("b", "joy", "fear"), ("c", "fear", "fear")]), confusion=by)
    matrix, joy, fear = one["matrices"]["alignment_raw"], PLACE["joy"], PLACE["fear"]
    assert matrix["normalised"] == by
    assert matrix["counts"][joy][fear] == 1
    if by == "none":
        assert matrix["shares"] is None
        return
    share = {"row": (1 / 2, 1), "column": (1 / 2, 1 / 2), "all": (1 / 3, 1 / 3)}[by]
    assert (matrix["shares"][joy][fear], matrix["shares"][fear][fear]) == pytest.approx(share)
    assert matrix["shares"][PLACE["anger"]][PLACE["anger"]] == (0 if by == "all" else None)


def test_shares_of_a_verified_matrix_count_each_turn_by_its_weight():
    table = turns_table([(str(place), "joy", "joy") for place in range(9)])
    table["user_verified"] = ["joy"] * 4 + [None] * 5
    table["response_verified"] = ["joy", "joy", "fear", "fear"] + [None] * 5
    # the fourth was not drawn: it is counted, and has no weight
    table["inclusion_probability"] = [0.5, 0.5, 0.2] + [None] * 6
    group, joy, fear = one_group(table), PLACE["joy"], PLACE["fear"]
    matrix = group["matrices"]["alignment_verified"]
    assert matrix["counts"][joy] == group["confusion"]["alignment_verified"][joy]
    assert (matrix["counts"][joy][joy], matrix["counts"][joy][fear]) == (2, 2)
    assert (matrix["weighted"][joy][joy], matrix["weighted"][joy][fear]) == pytest.approx((4, 5))
    assert matrix["shares"][joy][fear] == pytest.approx(5 / 9)
    checked = group["matrices"]["validation_response"]
    assert (checked["weighted"][joy][joy], checked["weighted"][fear][joy]) == pytest.approx((4, 5))
    assert group["matrices"]["alignment_raw"]["weighted"] is None
    assert group["matrices"]["reference_verified"]["weighted"] is None
    assert group["matrices"]["reference_verified"]["shares"] is None


def test_every_number_has_at_most_twelve_digits():
    table = simulated(seed=6)
    table["user_verified"] = table["user_label"].where(table.index % 3 == 0)
    table["response_verified"] = table["response_label"].where(table.index % 3 != 1)
    chance = pd.Series(np.where(table.index % 6 == 0, 1 / 3, 1 / 7)).where(table.index % 3 == 0)

    def numbers(body):
        if isinstance(body, dict | list):
            for part in body.values() if isinstance(body, dict) else body:
                yield from numbers(part)
        elif isinstance(body, float):
            yield body

    found = list(numbers(one_group(table.assign(inclusion_probability=chance))))
    assert len(found) > 500
    assert [number for number in found if float(f"{number:.12g}") != number] == []


# --- what was drawn, and what it stands for -------------------------------------------------------------------------


def drawn_table(turns: int = 400, verified: int = 80, seed: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    labels = {name: rng.choice(EMOTIONS, turns) for name in ("user_label", "response_label")}
    table = pd.DataFrame({"dialogue": np.arange(turns) // 5, "turn": np.arange(turns) % 5, **labels})
    table = table.assign(dataset="d", system="s", reference_label=None)
    seen = np.isin(np.arange(turns), rng.choice(turns, verified, replace=False))
    for role in ("user", "response", "reference"):
        table[f"{role}_verified"] = np.where(seen, rng.choice(EMOTIONS, turns), None)
    return table


@pytest.mark.parametrize("target", ["corpus", "superpopulation"])
def test_labels_of_a_part_never_claim_to_be_the_whole(target):
    """No classifier label of the reference: the verified turns still stand for all turns of the group."""
    result = summarise(drawn_table(), options=MetricOptions(target=target), replicates=200)
    verified = result["groups"][0]["verified"]
    for key in ("accuracy", "macro_f1", "cohen_kappa", "exact", "flatness_n7"):
        low, high = verified[key]["interval"]
        assert high - low > 0.02, key
    unlabelled = drawn_table().assign(user_label=None, response_label=None)
    verified = summarise(unlabelled, options=MetricOptions(target=target), replicates=200)["groups"][0]["verified"]
    for key in ("exact", "flatness_n7"):
        low, high = verified[key]["interval"]
        assert high - low > 0.02, key


def test_strata_known_for_the_verified_turns_only_are_refused_without_probabilities():
    table = drawn_table()
    table["stratum"] = np.where(table["user_verified"].notna(), "x", None)
    with pytest.raises(ValueError, match="fill it for every turn, or give the verified ones their inclusion_probab"):
        summarise(table, replicates=50)
    known = table.assign(inclusion_probability=np.where(table["user_verified"].notna(), 0.2, np.nan))
    assert summarise(known, replicates=50)["groups"][0]["verified"]["exact"]["n"] == 80


def test_verified_turns_without_a_probability_were_not_drawn_in_any_system_of_the_table():
    first, second = drawn_table(), drawn_table(seed=1).assign(system="t")
    first["inclusion_probability"] = np.where(first["user_verified"].notna(), 0.2, np.nan)
    groups = summarise(pd.concat([first, second], ignore_index=True), replicates=50)["groups"]
    assert [group["verified_outside_draw"] for group in groups] == [0, 80]
    assert groups[1]["verified"]["exact"]["reason"] == "no_data"


def test_for_further_dialogues_a_fully_verified_corpus_has_the_bootstrap_of_the_people_not_of_the_classifier():
    table = drawn_table(verified=400).assign(dialogue=np.arange(400) // 20, turn=np.arange(400))
    table["response_verified"] = np.where(table["dialogue"] % 2, "joy", table["response_verified"])
    options = MetricOptions(target="superpopulation")
    group = summarise(table, options=options, replicates=400)["groups"][0]
    assert group["verified"]["flatness_n7"]["se"] > 2 * group["raw"]["flatness_n7"]["se"]
    assert group["corrected"]["flatness_n7"]["se"] == group["verified"]["flatness_n7"]["se"]
