"""The widths shown while a campaign runs are those its report will print."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from evaluation.groups import MetricOptions
from evaluation.intervals import Estimate, undefined
from evaluation.metrics import summarise
from evaluation.planning import confidence_sequence_half_width, how_many_more
from evaluation.precision import TITLES, Precision, of_agreement, precision, widest
from evaluation.simulation import SimulatedCorpus, simulate_corpus

CORPUS = simulate_corpus(300, seed=4)


def drawn_table(corpus: SimulatedCorpus, n: int, *, seed: int = 1) -> tuple[pd.DataFrame, pd.DataFrame]:
    """A simple random sample of n verified turns: the whole table, and its drawn rows."""
    size = len(corpus.dialogues)
    chosen = np.sort(np.random.default_rng(seed).choice(size, n, replace=False))
    table = corpus.table(chosen, np.full(n, n / size))
    return table, table.iloc[chosen].reset_index(drop=True)


def by_measure(found: list[Precision], where: str = "simulated, simulated") -> dict[str, Precision]:
    return {one.measure: one for one in found if one.where == where}


def half(estimate: dict[str, Any]) -> float:
    return float(estimate["interval"][1] - estimate["interval"][0]) / 2


def test_the_drawn_turns_alone_give_the_widths_that_the_report_prints_for_the_whole_corpus() -> None:
    whole, drawn = drawn_table(CORPUS, 300)
    report = summarise(whole, replicates=200, seed=3)["groups"][0]
    found = by_measure(precision(drawn, replicates=200, seed=3))
    for measure, key in (("exact", "exact"), ("coarse", "coarse"), ("flatness", "flatness_n7"), ("macro_f1",) * 2):
        assert found[measure].human == pytest.approx(half(report["verified"][key]), rel=1e-6), measure
        assert found[measure].corrected == pytest.approx(half(report["corrected"][key]), rel=1e-6), measure
        assert found[measure].n == 300
    assert found["exact"].population == len(CORPUS.dialogues)
    # what correction is for: a narrower interval
    assert found["exact"].corrected < found["exact"].human  # type: ignore[operator]


OPTIONS: list[dict[str, Any]] = [
    {"surprise": "excluded"},
    {"macro_f1": "true_only"},
    {"macro_f1": "all7_zero"},
    {"f1_truth": "user"},
    {"flatness_classes": "observed"},
    {"entropy_correction": "miller_madow"},
    {"confidence": 0.9},
]


@pytest.mark.parametrize("chosen", OPTIONS, ids=str)
def test_the_widths_are_those_of_the_report_under_its_options(chosen: dict[str, Any]) -> None:
    whole, drawn = drawn_table(CORPUS, 200)
    options = MetricOptions(**chosen)
    report = summarise(whole, options=options, replicates=100, seed=3)["groups"][0]
    found = by_measure(precision(drawn, options=options, replicates=100, seed=3))
    keys = {"exact": "exact", "coarse": "coarse", "flatness": options.headline_flatness, "macro_f1": "macro_f1"}
    for measure, key in keys.items():
        assert found[measure].human == pytest.approx(half(report["verified"][key]), rel=1e-6), measure
        assert found[measure].corrected == pytest.approx(half(report["corrected"][key]), rel=1e-6), measure


def test_for_further_dialogues_the_widths_are_near_those_of_the_report_which_knows_all_of_them() -> None:
    whole, drawn = drawn_table(CORPUS, 300)
    options = MetricOptions(target="superpopulation")
    report = summarise(whole, options=options, replicates=200, seed=3)["groups"][0]
    found = by_measure(precision(drawn, options=options, replicates=200, seed=3))
    for measure, key in (("exact", "exact"), ("coarse", "coarse"), ("flatness", "flatness_n7"), ("macro_f1",) * 2):
        assert found[measure].human == pytest.approx(half(report["verified"][key]), rel=0.12), measure
        assert found[measure].corrected == pytest.approx(half(report["corrected"][key]), rel=0.12), measure


def test_a_user_utterance_verified_in_a_later_systems_row_counts() -> None:
    _, drawn = drawn_table(CORPUS, 200)
    bare = drawn.assign(user_verified=None, response_verified=None, reference_verified=None)
    later = pd.concat([bare, drawn.assign(system="zeta")], ignore_index=True)
    one = by_measure(precision(drawn, replicates=50), "user utterances")
    two = by_measure(precision(later, replicates=50), "user utterances")
    assert two["accuracy"].n == one["accuracy"].n == 200
    assert two["accuracy"].human == pytest.approx(one["accuracy"].human)


def test_half_way_through_a_plan_the_turns_without_a_label_count_as_not_seen() -> None:
    _, drawn = drawn_table(CORPUS, 400)
    columns = ["user_verified", "response_verified", "reference_verified"]
    half_done = drawn.copy()
    half_done.loc[half_done.index[200:], columns] = None
    everything = drawn.assign(inclusion_probability=1.0)
    everything.loc[everything.index[200:], columns] = None
    found = by_measure(precision(half_done))["exact"]
    assert (found.n, found.planned) == (200, 400)
    # of a corpus that was drawn whole, half the labels are no census: the width must not be 0
    assert by_measure(precision(everything))["exact"].human > 0.03  # type: ignore[operator]


def test_how_many_more_and_the_width_at_any_look_follow_from_the_width_now() -> None:
    _, drawn = drawn_table(CORPUS, 300)
    exact = by_measure(precision(drawn))["exact"]
    assert exact.corrected is not None
    assert exact.always is not None
    assert exact.more(0.03) == how_many_more(300, exact.corrected, 0.03, len(CORPUS.dialogues))
    assert exact.more(0.5) == 0
    # theorem 2.2 of Waudby-Smith et al.: some 1.55 times as wide at the planned size
    assert 1.4 < exact.always / exact.corrected < 1.7
    assert exact.always == pytest.approx(
        confidence_sequence_half_width(300, exact.corrected / 1.968 * np.sqrt(300), 300), rel=0.01
    )


def test_nothing_verified_is_undefined_with_a_reason_and_no_count() -> None:
    _, drawn = drawn_table(CORPUS, 50)
    columns = ["user_verified", "response_verified", "reference_verified"]
    drawn[columns] = None
    found = precision(drawn)
    assert {one.measure for one in found} == set(TITLES) - {"krippendorff_alpha", "fleiss_kappa"}
    assert all(one.reason == "no_data" and one.corrected is None and one.more(0.1) is None for one in found)


def test_of_each_measure_the_place_known_worst_is_kept() -> None:
    places = [
        Precision("exact", "a", 200, 300, 9000, 0.05, 0.04, 0.06),
        Precision("exact", "b", 200, 300, 9000, 0.06, 0.05, 0.07),
        Precision("flatness", "a", 200, 300, 9000, 0.05, 0.04, 0.06),
        Precision("flatness", "c", 0, 300, 9000, reason="no_data"),
    ]
    assert [(one.measure, one.where) for one in widest(places)] == [("exact", "b"), ("flatness", "c")]


def test_the_classifier_is_measured_on_user_utterances_and_on_responses() -> None:
    _, drawn = drawn_table(CORPUS, 300)
    found = precision(drawn)
    users = by_measure(found, "user utterances")
    responses = by_measure(found, "responses")
    assert set(users) == set(responses) == {"accuracy", "classifier_macro_f1"}
    assert 0.03 < users["accuracy"].human < 0.06  # type: ignore[operator]
    assert users["classifier_macro_f1"].human > users["accuracy"].human  # type: ignore[operator]


def test_agreement_counts_items_with_two_labels_in_a_population_without_end() -> None:
    alpha = of_agreement("krippendorff_alpha", Estimate(0.7, 100, (0.6, 0.8), 0.05), planned=400)
    assert (alpha.unit, alpha.left) == ("items with two labels", 300)
    assert alpha.corrected == pytest.approx(0.1)
    assert alpha.more(0.05) == 300
    assert of_agreement("fleiss_kappa", undefined("no_pairs"), planned=400).reason == "no_pairs"
