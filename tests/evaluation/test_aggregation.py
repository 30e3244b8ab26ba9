from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evaluation.aggregation import (
    VerifiedLabel,
    adjudication_order,
    dawid_skene,
    suggested_model,
    verified_codes,
    verified_label,
    verified_labels,
)
from evaluation.coefficients import count_matrix
from evaluation.consensus import METHODS, consensus, crowd_kit_table
from evaluation.emotions import EMOTIONS
from evaluation.tables import TableError

Rows = list[tuple[object, str, str | None]]


def table(rows: Rows) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=["item", "annotator", "label"])


@pytest.mark.parametrize(
    ("labels", "adjudicated", "allow_single", "expected"),
    [
        ([], None, True, VerifiedLabel(None, None, "no_data", 0, 0)),
        ([None, ""], None, True, VerifiedLabel(None, None, "no_data", 0, 0)),
        (["joy"], None, False, VerifiedLabel(None, None, "single", 1, 1)),
        (["joy", None], None, True, VerifiedLabel("joy", "single", None, 1, 1)),
        (["joy", "joy"], None, False, VerifiedLabel("joy", "majority", None, 2, 2)),
        (["joy", "fear"], None, True, VerifiedLabel(None, None, "tie", 2, 1)),
        (["joy", "fear", "joy"], None, False, VerifiedLabel("joy", "majority", None, 3, 2)),
        (["joy", "fear", "anger"], None, False, VerifiedLabel(None, None, "tie", 3, 1)),
        (["joy", "fear"], "anger", False, VerifiedLabel("anger", "adjudicated", None, 2, 1)),
        (["joy", "joy", "joy"], "anger", False, VerifiedLabel("anger", "adjudicated", None, 3, 3)),
        ([], "joy", False, VerifiedLabel("joy", "adjudicated", None, 0, 0)),
    ],
)
def test_adjudicated_comes_before_majority_before_single_and_ties_stay_open(
    labels: list[str | None], adjudicated: str | None, allow_single: bool, expected: VerifiedLabel
) -> None:
    assert verified_label(labels, adjudicated, allow_single) == expected


@given(st.lists(st.sampled_from(EMOTIONS), max_size=6), st.randoms(use_true_random=False))
def test_the_order_of_the_labels_never_decides(labels: list[str], random: Any) -> None:
    shuffled = list(labels)
    random.shuffle(shuffled)
    assert verified_label(labels) == verified_label(shuffled)


def test_a_table_is_decided_item_by_item_by_the_same_rule() -> None:
    rows: Rows = [(1, "a", "joy"), (2, "a", "joy"), (1, "b", "fear"), (2, "b", "joy"), (3, "a", None), (4, "a", "fear")]
    made = verified_labels(table(rows), {1: "anger"}, allow_single=True)
    assert made["item"].tolist() == ["1", "2", "3", "4"]
    assert made["label"].tolist() == ["anger", "joy", None, "fear"]
    assert made["source"].tolist() == ["adjudicated", "majority", None, "single"]
    assert made["reason"].tolist() == [None, None, "no_data", None]
    assert made["n"].tolist() == [2, 2, 0, 1]


def test_dawid_and_skene_1979_gives_their_marginals_and_posteriors(
    reference: Callable[[str], list[dict[str, Any]]],
) -> None:
    (case,) = reference("dawid_skene")
    given_, expected, tolerance = case["input"], case["expected"], case["tolerance"]
    fit = dawid_skene(
        pd.DataFrame(given_["rows"]), labels=[str(k) for k in given_["labels"]], model="full", smoothing=0
    )
    assert fit.converged
    assert fit.marginals == pytest.approx(expected["class_marginals"], abs=tolerance)
    assert [int(label or 0) for label in fit.best] == expected["labels"]
    assert np.abs(fit.posteriors - np.array(expected["posteriors"])).max() < tolerance
    # the paper prints .40 .42 .11 .07
    assert fit.marginals.round(2).tolist() == [0.40, 0.42, 0.11, 0.07]


def test_the_default_smoothing_moves_1979_as_far_as_documented_and_no_label(
    reference: Callable[[str], list[dict[str, Any]]],
) -> None:
    # the case is fitted without smoothing (its input says so); 0.01 in every cell moves it by this much
    (case,) = reference("dawid_skene")
    given_, expected = case["input"], case["expected"]
    assert given_["smoothing"] == 0
    fit = dawid_skene(pd.DataFrame(given_["rows"]), labels=[str(k) for k in given_["labels"]], model="full")
    assert fit.smoothing == 0.01
    assert [int(label or 0) for label in fit.best] == expected["labels"]
    assert fit.marginals.round(2).tolist() == [0.40, 0.42, 0.11, 0.07]
    assert np.abs(fit.marginals - expected["class_marginals"]).max() == pytest.approx(1.87e-4, abs=1e-6)
    assert np.abs(fit.posteriors - np.array(expected["posteriors"])).max() == pytest.approx(6.69e-3, abs=1e-5)


def test_smoothing_keeps_posteriors_from_a_certainty_they_have_not_earned() -> None:
    # why the default smooths: as many labels are right, and the true label is held for less impossible
    right, loss = {}, {}
    for smoothing in (0.0, 0.01):
        hits, losses = [], []
        for seed in range(3):
            frame, truth = simulated(np.random.default_rng(seed), 150, 5, 3, [0.85] * 5)
            fit = dawid_skene(frame, model="full", smoothing=smoothing, max_iterations=500)
            true = np.array([EMOTIONS.index(truth[int(item)]) for item in fit.items])
            hits.append((fit.posteriors.argmax(axis=1) == true).mean())
            losses.append(-np.log(np.maximum(fit.posteriors[np.arange(len(true)), true], 1e-12)).mean())
        right[smoothing], loss[smoothing] = np.mean(hits), np.mean(losses)
    assert right[0.01] == pytest.approx(right[0.0], abs=0.01)
    assert loss[0.01] < 0.6 * loss[0.0]


def test_vote_shares_start_at_the_more_likely_of_two_optima_in_1979(
    reference: Callable[[str], list[dict[str, Any]]],
) -> None:
    (case,) = reference("dawid_skene")
    frame = pd.DataFrame(case["input"]["rows"])
    shares = dawid_skene(frame, labels=["1", "2", "3", "4"], model="full")
    majority = dawid_skene(frame, labels=["1", "2", "3", "4"], model="full", start="majority")
    assert shares.converged
    assert majority.converged
    assert shares.log_likelihood > majority.log_likelihood + 1


def simulated(
    rng: np.random.Generator, items: int, raters: int, per_item: int, accuracies: list[float]
) -> tuple[pd.DataFrame, list[str]]:
    truth = rng.integers(0, 7, items)
    rows: Rows = []
    for i in range(items):
        for a in rng.choice(raters, per_item, replace=False):
            k = truth[i] if rng.random() < accuracies[a] else (truth[i] + rng.integers(1, 7)) % 7
            rows.append((i, f"a{a:02d}", EMOTIONS[int(k)]))
    return table(rows), [EMOTIONS[int(k)] for k in truth]


def test_one_coin_finds_each_annotators_accuracy_and_beats_the_majority_among_spammers() -> None:
    accuracies = [0.9, 0.85, 0.9, 0.8, 0.85, 1 / 7, 1 / 7, 1 / 7]
    frame, truth = simulated(np.random.default_rng(0), 400, 8, 3, accuracies)
    fit = dawid_skene(frame, model="one_coin")
    assert fit.accuracy == pytest.approx(accuracies, abs=0.08)
    majority = verified_labels(frame).set_index("item")["label"]
    right_fit = np.mean([label == truth[int(item)] for item, label in zip(fit.items, fit.best, strict=True)])
    right_majority = np.mean([majority[item] == truth[int(item)] for item in fit.items])
    assert right_fit > right_majority + 0.03
    assert np.allclose(fit.confusion.sum(axis=2), 1)
    assert np.allclose(fit.posteriors.sum(axis=1), 1)


def test_the_full_model_finds_who_confuses_what() -> None:
    rng = np.random.default_rng(1)
    rows: Rows = []
    for i in range(1500):
        k = int(rng.integers(7))
        for a in range(3):
            said = 1 if a == 2 and k == 0 and rng.random() < 0.7 else k if rng.random() < 0.9 else int(rng.integers(7))
            rows.append((i, f"a{a}", EMOTIONS[said]))
    fit = dawid_skene(table(rows))
    assert fit.model == "full"
    assert fit.confusion[2, 0, 1] == pytest.approx(0.7, abs=0.08)
    assert fit.confusion[0, 0, 1] < 0.1


def test_the_full_model_is_taken_only_with_hundreds_of_labels_and_every_class() -> None:
    raters, codes = np.repeat([0, 1], 200), np.tile(np.arange(4), 100)
    assert suggested_model(raters, codes, 4) == "full"
    assert suggested_model(raters, codes, 5) == "one_coin"
    assert suggested_model(raters[:-1], codes[:-1], 4) == "one_coin"


def test_the_likelihood_never_falls_without_smoothing() -> None:
    frame, _ = simulated(np.random.default_rng(2), 80, 5, 3, [0.8] * 5)
    found = [
        dawid_skene(frame, model="full", smoothing=0, max_iterations=steps).log_likelihood for steps in range(1, 25)
    ]
    assert (np.diff(found) >= -1e-9).all()


def test_a_unanimous_item_is_certain_and_a_split_one_is_not() -> None:
    rows: Rows = [(i, a, "joy" if i % 2 else "fear") for i in range(20) for a in ("ada", "bo")]
    rows += [("split", "ada", "joy"), ("split", "bo", "fear")]
    fit = dawid_skene(table(rows), model="one_coin")
    entropy = dict(zip(fit.items, fit.entropy, strict=True))
    assert entropy["0"] < 0.05
    assert entropy["split"] == pytest.approx(1, abs=0.01)
    assert fit.best[fit.items.index("split")] is None


def test_degenerate_tables_are_fitted_or_refused() -> None:
    one = dawid_skene(table([("x", "ada", "joy")]))
    assert one.best == ["joy"]
    assert np.isfinite(one.log_likelihood)
    with pytest.raises(ValueError, match="no labels"):
        dawid_skene(table([("x", "ada", None)]))
    with pytest.raises(TableError, match="Row 1"):
        dawid_skene(table([("x", "ada", "glee")]))
    single = dawid_skene(table([("x", "ada", "joy"), ("y", "ada", "joy")]), labels=["joy"])
    assert single.best == ["joy", "joy"]


def test_the_adjudicator_sees_ties_first_then_the_most_doubtful() -> None:
    rows: Rows = []
    for i in range(30):
        rows += [(f"sure{i:02d}", a, EMOTIONS[i % 7]) for a in ("ada", "bo", "cy")]
    rows += [("two-one", "ada", "joy"), ("two-one", "bo", "joy"), ("two-one", "cy", "fear")]
    rows += [("tie", "ada", "joy"), ("tie", "bo", "fear")]
    rows += [("open", "ada", "joy"), ("open", "bo", "fear"), ("open", "cy", "anger")]
    rows += [("alone", "ada", "joy")]
    made = adjudication_order(table(rows))
    assert made["item"].tolist()[:2] == ["open", "tie"]
    assert made["item"].tolist()[2:] == ["two-one"]
    assert made["tie"].tolist() == [True, True, False]
    assert adjudication_order(table(rows), {"open": "joy"})["item"].tolist() == ["tie", "two-one"]
    assert adjudication_order(table(rows[:9])).empty


@given(
    st.lists(st.tuples(st.integers(0, 4), st.sampled_from(EMOTIONS)), min_size=1, max_size=15),
    st.lists(st.one_of(st.none(), st.sampled_from(EMOTIONS)), min_size=5, max_size=5),
    st.booleans(),
)
def test_many_items_at_once_are_decided_by_the_same_rule(
    votes: list[tuple[int, str]], adjudicated: list[str | None], allow_single: bool
) -> None:
    items = np.array([item for item, _ in votes], dtype=np.int64)
    codes = np.array([EMOTIONS.index(label) for _, label in votes], dtype=np.int64)
    decided = np.array([-1 if label is None else EMOTIONS.index(label) for label in adjudicated], dtype=np.int64)
    found = verified_codes(count_matrix(items, codes, 7, 5), decided, allow_single)
    for item in range(5):
        one = verified_label([label for place, label in votes if place == item], adjudicated[item], allow_single)
        assert (None if found[item] < 0 else EMOTIONS[found[item]]) == one.label


def test_an_adjudicated_item_without_a_first_label_is_kept() -> None:
    rows: Rows = [(1, "a", None), (2, "a", "joy"), (2, "b", "joy")]
    made = verified_labels(table(rows), {1: "fear", 3: "anger"}).set_index("item")
    assert made.loc["1"].tolist() == ["fear", "adjudicated", None, 0, 0]
    assert made.loc["3"].tolist() == ["anger", "adjudicated", None, 0, 0]
    assert made.loc["2", "source"] == "majority"


def test_adjudicated_keys_and_labels_are_read_as_the_table_is() -> None:
    rows: Rows = [(1, "a", "joy"), (1, "b", "fear")]
    assert verified_labels(table(rows), {1.0: "joy"})["source"].tolist() == ["adjudicated"]
    # a text is no number: it is another item, and is shown as such
    assert verified_labels(table(rows), {"1.0": "joy"})["item"].tolist() == ["1", "1.0"]
    with pytest.raises(TableError, match="'glee' is not in the declared set"):
        verified_labels(table(rows), {1: "glee"})
    with pytest.raises(TableError, match="empty"):
        verified_labels(table(rows), {1: ""})


def test_the_gold_label_of_the_table_is_an_adjudication() -> None:
    frame = table([(1, "a", "joy"), (1, "b", "fear"), (2, "a", "joy")]).assign(gold_label=["fear", None, None])
    made = verified_labels(frame)
    assert made["label"].tolist() == ["fear", None]
    assert verified_labels(frame, {1: "anger"})["label"].tolist() == ["anger", None]
    assert adjudication_order(frame).empty
    with pytest.raises(TableError, match="Row 2, column gold_label"):
        verified_labels(frame.assign(gold_label=["fear", "joy", None]))


def test_a_table_gets_one_label_per_item_with_its_reason_and_its_place_in_the_queue() -> None:
    rows: Rows = [(f"sure{i:02d}", a, EMOTIONS[i % 7]) for i in range(30) for a in ("ada", "bo", "cy")]
    rows += [("two-one", "ada", "joy"), ("two-one", "bo", "joy"), ("two-one", "cy", "fear")]
    rows += [("tie", "ada", "joy"), ("tie", "bo", "fear"), ("alone", "ada", "joy"), ("skipped", "bo", None)]
    made = consensus(table(rows))
    items = made.items.set_index("item")
    assert items["label"].to_dict() | {"tie": None} == items["label"].to_dict()
    assert items.loc[["tie", "alone", "skipped"], "reason"].tolist() == ["tie", "single", "no_data"]
    assert items["order"].dropna().to_dict() == {"tie": 1, "two-one": 2}
    assert items.loc["two-one", "votes"] == 2
    body = made.to_json()
    assert body["unresolved"] == {"no_data": 1, "single": 1, "tie": 1}
    by_item = {one["item"]: one for one in body["items"]}
    assert sum(by_item["tie"]["posterior"].values()) == pytest.approx(1)
    assert by_item["skipped"]["posterior"] is None
    people = made.annotators.set_index("annotator")
    # cy left two-one alone with the others' joy, and agreed in thirty items
    assert (people.loc["cy", "agreement"], people.loc["cy", "compared"]) == (pytest.approx(30 / 31), 31)
    assert people.loc["ada", "labels"] == 33
    assert consensus(table(rows), allow_single=True).items.set_index("item").loc["alone", "source"] == "single"


@pytest.mark.parametrize("method", METHODS)
def test_every_method_keeps_adjudicated_labels_and_says_what_it_did(method: Any) -> None:
    frame, _ = simulated(np.random.default_rng(5), 60, 5, 3, [0.8] * 5)
    made = consensus(frame, method, {0: "disgust"}, smoothing=0.02)
    first = made.items.set_index("item").loc["0"]
    assert (first["label"], first["source"]) == ("disgust", "adjudicated")
    assert set(made.items["source"].dropna()) == {
        "adjudicated",
        {"majority": "majority", "dawid_skene": "full"}.get(method, "one_coin"),
    }
    assert made.fit is not None
    assert made.fit.smoothing == 0.02
    assert ("confusion" in made.to_json()["annotators"][0]) == (method == "dawid_skene")


def test_labels_beside_a_shown_prelabel_do_not_count_but_their_items_stay() -> None:
    frame = table([(1, "a", "joy"), (1, "b", "joy"), (2, "a", "fear")]).assign(arm=["shown", "hidden", "shown"])
    assert consensus(frame).items["n"].tolist() == [1, 0]
    assert consensus(frame, arms="all").items["n"].tolist() == [2, 1]
    assert consensus(frame.assign(arm="shown")).fit is None
    assert crowd_kit_table(frame).to_dict("list") == {"task": ["1"], "worker": ["b"], "label": ["joy"]}
    with pytest.raises(ValueError, match="no method 'mace'"):
        consensus(frame, "mace")  # type: ignore[arg-type]
