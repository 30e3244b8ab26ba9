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
    verified_label,
    verified_labels,
)
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
